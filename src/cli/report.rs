//! What a person reads of errors and of where a transaction stands.
//!
//! Errors in the manner of the house: `error:`, one `cause:` per line, `hint:` lines that can be pasted. The first
//! failure always comes first; later ones are added as `also:` and never hide it.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::lines::Lines;
use super::ui::Paint;
use super::words;
use crate::error::{Error, Fault};
use crate::ops::{Down, Place, Standing};
use crate::tx::{Action, Outcome, Reason, TaskId};

/// An error as lines.
pub(crate) fn error(error: &Error, paint: Paint) -> String {
    let mut text = Lines::new(paint);
    text.error(&error.statement);
    text.causes(error);
    for hint in &error.hints {
        text.hint(hint);
    }
    text.text
}

/// What a sentence needs to know beside the standing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct More<'a> {
    /// The file that the transaction was run from, for a hint.
    pub(crate) plan: Option<&'a Path>,
    /// Whether steps have still to run.
    pub(crate) steps: Steps,
    /// Whether the command did what was asked.
    pub(crate) asked: Answered,
}

/// Whether a command did what was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It did: going back was the wish, or what a dead process had left was settled.
    Done,
    /// It did not.
    #[default]
    NotDone,
}

/// Whether steps have still to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Some have.
    #[default]
    Missing,
    /// None has.
    Done,
}

/// Where a transaction stands after a command, in sentences.
pub(crate) fn standing(standing: &Standing, more: More<'_>, zone: &TimeZone, paint: Paint) -> String {
    let mut text = Lines::new(paint);
    let tx = &standing.tx;
    match &standing.place {
        Place::Ended { outcome: Outcome::Committed, .. } => {
            let done = match standing.undoes.as_slice() {
                [] => format!("{tx} is committed"),
                undone => format!("{} is undone by {tx}", words::list(undone)),
            };
            text.good(&format!("{done}{}", course(standing)));
            text.noted(standing);
        }
        Place::Ended { outcome: Outcome::Released, .. } => {
            text.good(&format!("{tx} is released: it counts as settled by hand"));
            text.noted(standing);
        }
        Place::Ended { outcome: Outcome::Aborted, .. } => text.went_back(standing, "nothing was changed", more),
        Place::Ended { outcome: Outcome::RolledBack, unsound } if unsound.is_empty() => {
            text.went_back(standing, "everything was rolled back and rechecked", more);
        }
        Place::Ended { outcome: Outcome::RolledBack, unsound }
            if unsound.iter().all(|task| task.action == Action::Apply) =>
        {
            let steps: Vec<String> = unsound.iter().map(|task| format!("`{}`", words::clean(&task.subject))).collect();
            let how = format!("what {} did stays: no resource holds it, and it has no undo", words::list(&steps));
            text.went_back(standing, &how, more);
        }
        Place::Ended { outcome: Outcome::RolledBack, unsound }
            if unsound.iter().all(|task| task.action == Action::Undo) =>
        {
            let steps: Vec<String> = unsound.iter().map(|task| format!("`{}`", words::clean(&task.subject))).collect();
            let how = format!("what the undo of {} did stays: no step is run again by itself", words::list(&steps));
            text.went_back(standing, &how, more);
        }
        Place::Ended { outcome: Outcome::RolledBack, .. } => {
            text.went_back(standing, "everything was restored, but the recheck does not pass", more);
        }
        Place::Captured => {
            text.plain(&format!("{tx} is open: everything is captured and proved, {}", time(standing)));
            text.noted(standing);
        }
        Place::Applied => {
            text.plain(&format!("{tx} is open: every step has run, {}", time(standing)));
            text.noted(standing);
        }
        Place::OnHold { task } => {
            let failed = standing.failure.as_ref().map_or(task, |(task, _)| task);
            text.error(&format!("{} failed; {tx} is on hold", words::task(failed)));
            text.failure(standing);
        }
        Place::Unconfirmed { left: None, .. } => {
            text.plain(&format!("{tx} was not confirmed in time, and nothing has taken it back yet"));
            text.noted(standing);
        }
        Place::Unconfirmed { until, .. } => {
            let until = words::moment(until, zone);
            text.plain(&format!("{tx} waits for its confirmation until {until}{}", course(standing)));
            text.noted(standing);
        }
        Place::Stuck { task, restored, not_restored } => text.stuck(standing, task, restored, not_restored),
        Place::Abandoned => text.plain(&format!("{tx} was interrupted, and nobody carries it on")),
        Place::Running => text.plain(&format!("{tx} is under way in another process")),
    }
    let open = !matches!(standing.place, Place::Ended { .. } | Place::Running);
    if open && !standing.down.is_empty() {
        text.plain(&format!("  kept down: {}", down(&standing.down)));
    }
    for (lead, line) in advice(standing, more.steps) {
        match lead {
            Lead::Next => text.next(&line),
            Lead::Hint => text.hint(&line),
        }
    }
    text.text
}

/// Where displaced copies are after a release.
pub(crate) fn displaced(copies: &[PathBuf], paint: Paint) -> String {
    let mut text = Lines::new(paint);
    if !copies.is_empty() {
        text.plain("these displaced copies are kept; remove them when you are sure:");
        for copy in copies {
            text.plain(&format!("  {}", words::clean(&copy.to_string_lossy())));
        }
    }
    text.text
}

/// What leads a line of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    /// It waits, and this is how it goes on.
    Next,
    /// Something went wrong, and this mends it.
    Hint,
}

/// The commands that are there to be typed next; `status` shows the same.
pub(crate) fn advice(standing: &Standing, steps: Steps) -> Vec<(Lead, String)> {
    let tx = &standing.tx;
    let next = |line: String| (Lead::Next, line);
    let hint = |line: String| (Lead::Hint, line);
    let back = next(format!("`txupgrade rollback {tx}` puts everything back"));
    match &standing.place {
        Place::Ended { unsound, .. } if unsound.iter().any(|task| task.action == Action::Undo) => {
            let undone = standing.undoes.iter();
            undone.map(|undone| hint(format!("after a fix, `txupgrade rollback {undone}` undoes all of it"))).collect()
        }
        Place::Ended { .. } => Vec::new(),
        Place::Captured if steps == Steps::Done => {
            vec![next(format!("`txupgrade commit {tx}` after the upgrade by hand")), back]
        }
        Place::Captured => vec![
            next(format!("`txupgrade apply {tx}` runs the plan's steps")),
            next(format!("`txupgrade commit {tx} --steps-done` after the upgrade by hand")),
            back,
        ],
        Place::Applied => vec![next(format!("`txupgrade commit {tx}` resumes, asks the checks and keeps it")), back],
        Place::OnHold { task } => {
            let again = match task.action {
                Action::Apply => format!(
                    "`txupgrade apply {tx}` runs it again (`--skip {}`: it is done by hand)",
                    words::clean(&task.subject)
                ),
                _ => format!("`txupgrade commit {tx}` tries again"),
            };
            vec![next(again), back]
        }
        Place::Unconfirmed { left: None, .. } => vec![next("`txupgrade recover` takes it back now".to_owned())],
        Place::Unconfirmed { .. } => vec![next(format!("`txupgrade confirm {tx}` keeps it")), back],
        Place::Stuck { task, .. } => {
            let damaged = standing.failure.iter().chain(&standing.others);
            let damaged = damaged.filter(|(failed, why)| failed == task && why.fault == Fault::Damage);
            let unproved = damaged.filter(|(failed, _)| failed.action == Action::Prove).count() > 0;
            let partial =
                format!("`txupgrade rollback {tx} --partial` restores what is whole, and leaves the rest as it is");
            let mut all = vec![hint(format!("remove the cause, then `txupgrade rollback {tx}` tries again"))];
            all.extend(unproved.then(|| hint(partial)));
            all.push(hint(format!(
                "once it is restored by hand, `txupgrade release {tx} --resume` (or `--leave-down`) closes it"
            )));
            all
        }
        Place::Abandoned => vec![next("`txupgrade recover` settles it".to_owned())],
        Place::Running => vec![next(format!("`txupgrade log {tx} --follow` shows what it does"))],
    }
}

/// The end of a sentence: `: 1.4.2 -> 2.0.0 in 12 s, down for 4 s`, or `, in 12 s`.
pub(crate) fn course(standing: &Standing) -> String {
    match versions(standing.from.as_deref(), standing.to.as_deref()) {
        Some(versions) if versions.contains(" -> ") => format!(": {versions} {}", time(standing)),
        Some(version) => format!(": at {version}, {}", time(standing)),
        None => format!(", {}", time(standing)),
    }
}

/// `in 12 s, down for 4 s`.
fn time(standing: &Standing) -> String {
    let took = format!("in {}", words::span(standing.took));
    standing.downtime.map_or(took.clone(), |down| format!("{took}, down for {}", words::span(down)))
}

/// `1.4.2 -> 2.0.0`, or the one that is known.
pub(crate) fn versions(from: Option<&str>, to: Option<&str>) -> Option<String> {
    match (from.map(words::clean), to.map(words::clean)) {
        (Some(from), Some(to)) if from != to => Some(format!("{from} -> {to}")),
        (Some(only), _) | (None, Some(only)) => Some(only.into_owned()),
        (None, None) => None,
    }
}

/// Why a transaction turned back, as a clause.
pub(crate) fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Failed { task } => format!("{} failed", words::task(task)),
        Reason::Died => "its process or the machine died".to_owned(),
        Reason::Asked => "it was asked to".to_owned(),
        Reason::Signal { number } => format!("{} came", signal(*number)),
        Reason::NotConfirmed => "it was not confirmed in time".to_owned(),
    }
}

/// The name of a signal.
pub(crate) fn signal(number: i32) -> String {
    match number {
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

/// The subjects of tasks; where an action is not a restore it is named, too.
pub(crate) fn subjects(tasks: &[TaskId]) -> String {
    let names: Vec<String> = tasks
        .iter()
        .map(|task| match task.action {
            Action::Restore | Action::Reinstate => format!("`{}`", words::clean(&task.subject)),
            _ => words::task(task),
        })
        .collect();
    if names.is_empty() { "nothing".to_owned() } else { words::list(&names) }
}

/// What is kept down: `stop` (shop.service, web.service).
pub(crate) fn down(down: &[Down]) -> String {
    let one = |down: &Down| match down.units.as_slice() {
        [] => format!("`{}`", words::clean(&down.quiesce)),
        units => format!("`{}` ({})", words::clean(&down.quiesce), words::clean(&units.join(", "))),
    };
    words::list(&down.iter().map(one).collect::<Vec<_>>())
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
