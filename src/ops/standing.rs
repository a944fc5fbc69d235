//! Where a transaction stands, told from its events and nothing else.

use std::time::Duration;

use super::office::Told;
use super::{Place, Standing};
use crate::error::Error;
use crate::tx::{Action, Event, Goal, Heading, Progress, Reason, State, TaskId};

impl Standing {
    /// The standing of a transaction at which nobody is at work.
    pub(super) fn of(told: &Told) -> Standing {
        let state = &told.state;
        let mut failures: Vec<(TaskId, Error)> = state.failures().cloned().collect();
        let reason = match state.heading() {
            Heading::Backward(reason) => Some(reason.clone()),
            Heading::Forward => None,
        };
        let first = first_failure(state, reason.as_ref(), &failures);
        let failure = first.map(|index| failures.remove(index));
        // What fails in the same way at each retry is told once.
        let mut told_already: Vec<(TaskId, String)> = Vec::new();
        failures.retain(|(task, error)| {
            let key = (task.clone(), error.to_string());
            let again = told_already.contains(&key)
                || failure.as_ref().is_some_and(|(first, why)| (first, why.to_string()) == (&key.0, key.1.clone()));
            if !again {
                told_already.push(key);
            }
            !again
        });
        let version = |action| {
            let task = TaskId::new(action, "the version");
            state.output(&task).and_then(|output| output.version.clone())
        };
        Standing {
            tx: told.tx.clone(),
            place: place(state),
            reason,
            failure,
            others: failures,
            warnings: state.outputs().flat_map(|(_, output)| output.warnings.clone()).collect(),
            from: version(Action::Require),
            to: version(Action::Verify).or_else(|| version(Action::Recheck)),
            took: took(told),
            downtime: downtime(told),
        }
    }
}

/// The failure that turned it back or holds it; else the first there was.
fn first_failure(state: &State, reason: Option<&Reason>, failures: &[(TaskId, Error)]) -> Option<usize> {
    let decisive = match reason {
        Some(Reason::Failed { task }) => Some(task),
        _ => state.on_hold(),
    };
    match decisive {
        Some(task) => failures.iter().rposition(|(failed, _)| failed == task),
        None if failures.is_empty() => None,
        None => Some(0),
    }
}

fn place(state: &State) -> Place {
    if let Some(outcome) = state.ended() {
        let failed = |action: Action| {
            let tasks = state
                .backward()
                .filter(move |(task, progress)| task.id.action == action && *progress == Progress::Failed);
            tasks.map(|(task, _)| task.id.clone())
        };
        return Place::Ended { outcome, unsound: failed(Action::Recheck).collect() };
    }
    if let Some(task) = state.stuck() {
        let of = |wanted: fn(Progress) -> bool| {
            let restores = state.backward().filter(move |(task, progress)| {
                matches!(task.id.action, Action::Undo | Action::Restore | Action::Resume) && wanted(*progress)
            });
            restores.map(|(task, _)| task.id.clone()).collect()
        };
        return Place::Stuck {
            task: task.clone(),
            restored: of(|progress| progress == Progress::Done),
            not_restored: of(|progress| progress != Progress::Done),
        };
    }
    if let Some(task) = state.on_hold() {
        return Place::OnHold { task: task.clone() };
    }
    if let Some(Event::Awaiting { until, .. }) = state.awaiting() {
        return Place::Unconfirmed { until: until.clone() };
    }
    if !state.is_settled() {
        return Place::Abandoned;
    }
    match state.goal() {
        Goal::Captured => Place::Captured,
        Goal::Applied | Goal::Committed => Place::Applied,
    }
}

/// The time between two journaled instants.
pub(super) fn seconds_between(earlier: &str, later: &str) -> Option<Duration> {
    let earlier: jiff::Timestamp = earlier.parse().ok()?;
    let later: jiff::Timestamp = later.parse().ok()?;
    later.duration_since(earlier).try_into().ok()
}

fn took(told: &Told) -> Duration {
    let ends = told.recorded.first().zip(told.recorded.last());
    ends.and_then(|(first, last)| seconds_between(&first.at, &last.at)).unwrap_or_default()
}

/// From the first quiesce that began until the last resume that succeeded, as far as it has come.
fn downtime(told: &Told) -> Option<Duration> {
    let of = |action: Action, event: &Event| match event {
        Event::Started { task, .. } => action == Action::Quiesce && task.action == action,
        Event::Succeeded { task, .. } => action == Action::Resume && task.action == action,
        _ => false,
    };
    let first = told.recorded.iter().find(|recorded| of(Action::Quiesce, &recorded.event))?;
    let last = told.recorded.iter().rev().find(|recorded| of(Action::Resume, &recorded.event))?;
    seconds_between(&first.at, &last.at)
}
