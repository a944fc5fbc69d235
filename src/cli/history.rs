//! `history`: all transactions.

use clap::Args;
use jiff::tz::TimeZone;

use super::ui::Paint;
use super::{Answer, Cx, exit, json, report, words};
use crate::error::Result;
use crate::ops::{self, Past, Place, Verify};
use crate::tx::{Outcome, Purpose};

/// List all transactions, the newest first
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::DAMAGE],
    &["txupgrade history", "txupgrade history --verify"],
))]
pub(super) struct History {
    /// Recompute the hash chain from the first event to the last
    #[arg(long)]
    verify: bool,
}

impl History {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let verify = if self.verify { Verify::Chain } else { Verify::No };
        let history = ops::history(&cx.looking(), verify)?;
        Ok(answer(&history, verify, &cx.zone, cx.ui.out, cx.ui.err))
    }
}

pub(super) fn answer(history: &ops::History, verify: Verify, zone: &TimeZone, out: Paint, err: Paint) -> Answer {
    let exit = if history.unreadable.is_empty() { exit::DONE } else { exit::DAMAGE };
    let mut talk = String::new();
    for (_, error) in &history.unreadable {
        talk.push_str(&report::error(error, err));
    }
    if history.transactions.is_empty() && history.unreadable.is_empty() {
        talk.push_str("no transaction yet\n");
    }
    match (&history.verified, verify) {
        (Some(verified), _) => talk.push_str(&format!(
            "the chain is whole: {} of {}, ending in {}\n",
            words::count(usize::try_from(verified.events).unwrap_or(usize::MAX), "event", "events"),
            words::count(usize::try_from(verified.transactions).unwrap_or(usize::MAX), "transaction", "transactions"),
            verified.last
        )),
        (None, Verify::Chain) => talk.push_str("there is no journal to verify yet\n"),
        (None, Verify::No) => {}
    }
    Answer { json: json::history(history, exit), data: render(history, zone, out), talk, exit }
}

fn render(history: &ops::History, zone: &TimeZone, paint: Paint) -> String {
    if history.transactions.is_empty() {
        return String::new();
    }
    let head = ["TX", "BEGUN", "VERSION", "OUTCOME", "TOOK", "DOWN", "SNAPSHOT", "PLAN"];
    let mut rows = vec![head.iter().map(|word| paint.dim(word)).collect::<Vec<String>>()];
    rows.extend(history.transactions.iter().map(|past| row(past, zone, paint)));
    words::table(&rows)
}

fn row(past: &Past, zone: &TimeZone, paint: Paint) -> Vec<String> {
    let standing = &past.standing;
    let dash = || "-".to_owned();
    let size = match (past.bytes, past.stored) {
        (Some(bytes), Some(stored)) => format!("{}, {} new", words::bytes(bytes), words::bytes(stored)),
        (Some(bytes), None) => words::bytes(bytes),
        (None, _) => dash(),
    };
    vec![
        paint.bold(&standing.tx.to_string()),
        words::moment(&past.began, zone),
        report::versions(standing.from.as_deref(), standing.to.as_deref()).unwrap_or_else(dash),
        outcome(past, paint),
        words::span(standing.took),
        standing.downtime.map_or_else(dash, words::span),
        size,
        words::clean(&past.plan).into_owned(),
    ]
}

/// How it stands, in a word or three.
pub(super) fn outcome(past: &Past, paint: Paint) -> String {
    match (&past.standing.place, &past.undone_by) {
        (Place::Ended { outcome: Outcome::Committed, .. }, Some(by)) => {
            paint.dim(&format!("committed, undone by {by}"))
        }
        (Place::Ended { outcome: Outcome::Committed, .. }, None) => match past.purpose {
            Purpose::Upgrade => paint.good("committed"),
            Purpose::Snapshot => paint.good("snapshot"),
            Purpose::Rollback => paint.good(&format!("undid {}", words::list(&past.undoes))),
        },
        (Place::Ended { outcome: Outcome::RolledBack, unsound }, _) if !unsound.is_empty() => {
            paint.bad("rolled back, unsound")
        }
        (Place::Ended { outcome: Outcome::RolledBack, .. }, _) => paint.warn("rolled back"),
        (Place::Ended { outcome: Outcome::Aborted, .. }, _) => paint.warn("aborted"),
        (Place::Ended { outcome: Outcome::Released, .. }, _) => paint.warn("released"),
        (Place::Captured | Place::Applied, _) => paint.warn("open"),
        (Place::OnHold { .. }, _) => paint.bad("on hold"),
        (Place::Unconfirmed { left: None, .. }, _) => paint.bad("not confirmed"),
        (Place::Unconfirmed { .. }, _) => paint.warn("unconfirmed"),
        (Place::Stuck { .. }, _) => paint.bad("stuck"),
        (Place::Abandoned, _) => paint.bad("interrupted"),
        (Place::Running, _) => paint.good("under way"),
    }
}
