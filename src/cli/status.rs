//! `status`: the open transactions.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::report::{Lead, Steps};
use super::ui::Paint;
use super::{Answer, Cx, exit, json, report, words};
use crate::error::Result;
use crate::ops::{self, Open, Place};
use crate::tx::Purpose;

/// Show the open transactions: where they are, and what comes next
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::DAMAGE, exit::WAITING],
    &["txupgrade status"],
))]
pub(super) struct Status {}

impl Status {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let open = ops::status(&cx.looking())?;
        Ok(answer(&open, Timestamp::now(), &cx.zone, cx.ui.out))
    }
}

pub(super) fn answer(open: &[Open], now: Timestamp, zone: &TimeZone, paint: Paint) -> Answer {
    let exit = exit::of_status(open.iter().map(|open| &open.standing.place));
    let json = json::status(open, exit);
    if open.is_empty() {
        return Answer { json, data: String::new(), talk: "no transaction is open\n".to_owned(), exit };
    }
    let each: Vec<String> = open.iter().map(|open| render(open, now, zone, paint)).collect();
    Answer { json, data: each.join("\n"), talk: String::new(), exit }
}

/// One open transaction.
pub(super) fn render(open: &Open, now: Timestamp, zone: &TimeZone, paint: Paint) -> String {
    let standing = &open.standing;
    let ago = words::span(words::between(&open.since, now));
    let began = words::moment(&open.began, zone);
    let place = match &standing.place {
        Place::Running => paint.good(&format!("under way{}", pid(open))),
        Place::Captured => paint.warn("open: everything is captured and proved"),
        Place::Applied => paint.warn("open: every step has run"),
        Place::OnHold { task } => paint.bad(&format!("on hold: {} failed", words::task(task))),
        Place::Unconfirmed { left: None, .. } => {
            paint.bad("was not confirmed in time, and nothing has taken it back yet")
        }
        Place::Unconfirmed { until, .. } => {
            paint.warn(&format!("waits for its confirmation until {}", words::moment(until, zone)))
        }
        Place::Stuck { task, .. } => paint.bad(&format!("stuck: {} failed", words::task(task))),
        Place::Abandoned => paint.bad("interrupted: its process is gone"),
        Place::Ended { .. } => "ended".to_owned(),
    };
    let mut text = format!("{}: {place}\n", paint.bold(&standing.tx.to_string()));
    let mut line = |lead: &str, rest: String| text.push_str(&format!("  {lead:<13} {rest}\n"));
    let purpose = match open.purpose {
        Purpose::Upgrade => "upgrade",
        Purpose::Snapshot => "snapshot",
        Purpose::Rollback => "rollback",
    };
    line("purpose:", format!("{purpose} by {}", words::clean(&open.plan)));
    if let Some(versions) = report::versions(standing.from.as_deref(), standing.to.as_deref()) {
        line("version:", versions);
    }
    line("begun:", began);
    match (&open.task, &standing.place) {
        (Some(task), Place::Running) => {
            line("now:", format!("{} for {ago} ({} of {} tasks done)", words::task(task), open.done.0, open.done.1));
        }
        (Some(task), _) => line("died in:", format!("{}, {ago} ago", words::task(task))),
        (None, _) => line("since:", ago),
    }
    if let Some(reason) = &standing.reason {
        line("turned back:", report::reason(reason));
    }
    if let Some((task, failure)) = &standing.failure {
        line("failed:", format!("{}: {}", words::task(task), words::clean(&failure.to_string())));
    }
    if let Place::Stuck { restored, not_restored, .. } = &standing.place {
        line("restored:", report::subjects(restored));
        line("not restored:", report::subjects(not_restored));
    }
    if !open.down.is_empty() {
        line("kept down:", report::down(&open.down));
    }
    let waits = matches!(standing.place, Place::Captured | Place::OnHold { .. });
    if waits && !open.missing.is_empty() {
        let missing: Vec<String> =
            open.missing.iter().map(|task| format!("`{}`", words::clean(&task.subject))).collect();
        line("steps to run:", words::list(&missing));
    }
    let steps = if open.missing.is_empty() { Steps::Done } else { Steps::Missing };
    for (lead, advice) in report::advice(standing, steps) {
        let lead = match lead {
            Lead::Next => "next:",
            Lead::Hint => "hint:",
        };
        text.push_str(&format!("  {} {advice}\n", paint.hint(lead)));
    }
    text
}

fn pid(open: &Open) -> String {
    open.pid.map_or_else(String::new, |pid| format!(" in process {pid}"))
}
