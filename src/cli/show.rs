//! `show`: one transaction.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::apply::tx;
use super::ui::Paint;
use super::{Answer, Cx, exit, history, json, report, status, words};
use crate::error::Result;
use crate::name::TxId;
use crate::ops::{self, Happening, Shown};
use crate::tx::{Boot, Event, Extent, Goal, Outcome};

/// Show one transaction: its timeline, tasks, findings and logs
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::DAMAGE],
    &["txupgrade show", "txupgrade show notes-3"],
))]
pub(super) struct Show {
    /// The transaction, such as notes-3 [default: the open one, else the last]
    #[arg(value_parser = tx)]
    tx: Option<TxId>,
}

impl Show {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let shown = ops::show(&cx.looking(), self.tx.as_ref())?;
        let data = render(&shown, Timestamp::now(), &cx.zone, cx.ui.out);
        Ok(Answer { json: json::shown(&shown, exit::DONE), data, talk: String::new(), exit: exit::DONE })
    }
}

pub(super) fn render(shown: &Shown, now: Timestamp, zone: &TimeZone, paint: Paint) -> String {
    let mut text = match &shown.open {
        Some(open) => status::render(open, now, zone, paint),
        None => ended(shown, zone, paint),
    };
    if !shown.begun.accepted.is_empty() {
        text.push_str(&format!("  {:<13} {}\n", "accepted:", words::list(&shown.begun.accepted)));
    }
    if !shown.begun.left_out.is_empty() {
        text.push_str(&format!("  {:<13} {}\n", "left out:", words::list(&shown.begun.left_out)));
    }
    for (key, value) in &shown.begun.set {
        text.push_str(&format!("  {:<13} {}={}\n", "set:", words::clean(key), words::clean(value)));
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = shown
        .timeline
        .iter()
        .map(|moment| {
            let at = paint.dim(&words::time_of_day(&moment.at, zone));
            let (what, took, note) = line(&moment.what, zone, paint);
            vec![at, what, took, note]
        })
        .collect();
    text.push_str(&words::table(&rows));
    let further: Vec<String> = shown.timeline.iter().flat_map(|moment| further(&moment.what, paint)).collect();
    if !further.is_empty() {
        text.push('\n');
        text.extend(further);
    }
    if !shown.logs.is_empty() {
        text.push_str("\nlogs:\n");
        for log in &shown.logs {
            text.push_str(&format!("  {}\n", words::clean(&log.path.to_string_lossy())));
        }
    }
    text
}

fn ended(shown: &Shown, zone: &TimeZone, paint: Paint) -> String {
    let past = &shown.past;
    let tx = paint.bold(&past.standing.tx.to_string());
    let mut text = format!("{tx}: {}{}\n", history::outcome(past, paint), report::course(&past.standing));
    let mut line = |lead: &str, rest: String| text.push_str(&format!("  {lead:<13} {rest}\n"));
    line("plan:", words::clean(&past.plan).into_owned());
    line("begun:", words::moment(&past.began, zone));
    if let Some(reason) = &past.standing.reason {
        line("turned back:", report::reason(reason));
    }
    if let Some(bytes) = past.bytes {
        let new = past.stored.map_or_else(String::new, |stored| format!(", {} new", words::bytes(stored)));
        line("snapshot:", format!("{}{new}", words::bytes(bytes)));
    }
    text
}

/// What it was, how long it took, and what a person would like to know of it.
fn line(what: &Happening, zone: &TimeZone, paint: Paint) -> (String, String, String) {
    let task = |task: &crate::tx::TaskId| words::clean(&task.to_string()).into_owned();
    match what {
        Happening::Did { task: did, took, output } => {
            (task(did), words::span(*took), words::clean(&output.note).into_owned())
        }
        Happening::Failed { task: failed, took, failure } => {
            (paint.bad(&task(failed)), words::span(*took), format!("failed: {}", words::clean(&failure.statement)))
        }
        Happening::Unended { task: unended } => (paint.warn(&task(unended)), String::new(), "not ended".to_owned()),
        Happening::Event(event) => (paint.bold(&event_line(event, zone)), String::new(), String::new()),
    }
}

fn event_line(event: &Event, zone: &TimeZone) -> String {
    match event {
        Event::Begun(begun) => format!("begun, to be {}", goal(begun.goal)),
        Event::Aimed { goal: aim, .. } => format!("now to be {}", goal(*aim)),
        Event::Started { task, .. } => format!("started {task}"),
        Event::Succeeded { task, .. } => format!("succeeded {task}"),
        Event::Failed { task, .. } => format!("failed {task}"),
        Event::Interrupted { boot: Boot::Same, runner, .. } => {
            format!("interrupted; taken over by process {}", runner.pid)
        }
        Event::Interrupted { boot: Boot::Other, runner, .. } => {
            format!("interrupted by a reboot; taken over by process {}", runner.pid)
        }
        Event::Skipped { task } => format!("{} was done by hand", words::task(task)),
        Event::Awaiting { until, .. } => format!("waits for its confirmation until {}", words::moment(until, zone)),
        Event::Confirmed => "confirmed".to_owned(),
        Event::TurnedBack { reason } => format!("turned back: {}", report::reason(reason)),
        Event::Stuck { task } => format!("stuck: {} failed", words::task(task)),
        Event::Retried { extent: Extent::Whole } => "tried again".to_owned(),
        Event::Retried { extent: Extent::Partial } => "tried again, leaving out what is damaged".to_owned(),
        Event::Ended { outcome } => match outcome {
            Outcome::Committed => "committed".to_owned(),
            Outcome::Aborted => "aborted".to_owned(),
            Outcome::RolledBack => "rolled back".to_owned(),
            Outcome::Released => "released".to_owned(),
        },
    }
}

fn goal(goal: Goal) -> &'static str {
    match goal {
        Goal::Captured => "captured",
        Goal::Applied => "applied",
        Goal::Committed => "committed",
    }
}

/// Causes and warnings, which need lines of their own.
fn further(what: &Happening, paint: Paint) -> Option<String> {
    match what {
        Happening::Failed { task, failure, .. } => {
            let statement = format!("{} failed: {}", words::task(task), failure.statement);
            Some(report::error(&crate::error::Error { statement, ..failure.clone() }, paint))
        }
        Happening::Did { output, .. } if !output.warnings.is_empty() => Some(
            output
                .warnings
                .iter()
                .map(|warning| format!("{} {}\n", paint.warn("warning:"), words::clean(warning)))
                .collect(),
        ),
        _ => None,
    }
}
