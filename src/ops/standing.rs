//! Where a transaction stands, read from its folded state and its events and nothing else.

use std::time::Duration;

use jiff::Timestamp;

use super::{Place, Standing};
use crate::error::Error;
use crate::journal::Recorded;
use crate::tx::{Action, Event, Goal, Heading, Outcome, Progress, Runner, State, TaskId};

/// Whether the process that carries a transaction out is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// It is.
    AtWork,
    /// It is gone.
    Gone,
}

impl Standing {
    /// How the transaction of `events` stands, of which `state` is the fold; for one that has not ended, at `now`.
    pub fn of(events: &[Recorded], state: &State, carrier: Carrier, now: Timestamp) -> Standing {
        let (first, last) = (&events[0], &events[events.len() - 1]);
        let until = if state.ended().is_some() { moment(&last.at) } else { now };
        let mut failures = failures(state);
        let failure = (!failures.is_empty()).then(|| failures.remove(0));
        Standing {
            tx: first.tx.clone(),
            place: place(state, carrier),
            reason: match state.heading() {
                Heading::Forward => None,
                Heading::Backward(reason) => Some(reason.clone()),
            },
            failure,
            others: failures,
            warnings: state.outputs().flat_map(|(_, output)| output.warnings.iter().cloned()).collect(),
            from: version(state, Action::Require),
            to: match state.ended() {
                Some(Outcome::Aborted | Outcome::RolledBack) => None,
                _ => version(state, Action::Verify),
            },
            took: elapsed(moment(&first.at), until),
            downtime: downtime(events, until),
        }
    }
}

/// The process that last took the transaction up.
pub fn runner(events: &[Recorded]) -> Option<&Runner> {
    events.iter().rev().find_map(|recorded| match &recorded.event {
        Event::Begun(begun) => Some(&begun.runner),
        Event::Aimed { runner, .. } | Event::Started { runner, .. } | Event::Interrupted { runner, .. } => Some(runner),
        _ => None,
    })
}

fn place(state: &State, carrier: Carrier) -> Place {
    if let Some(outcome) = state.ended() {
        let unsound = match outcome {
            Outcome::RolledBack => {
                let rechecks = state.backward().filter(|(task, _)| task.id.action == Action::Recheck);
                rechecks.filter(|(_, progress)| *progress == Progress::Failed).map(|(task, _)| task.id.clone()).collect()
            }
            _ => Vec::new(),
        };
        return Place::Ended { outcome, unsound };
    }
    if !state.is_settled() || state.in_flight().is_some() {
        return match carrier {
            Carrier::AtWork => Place::Running,
            Carrier::Gone => Place::Abandoned,
        };
    }
    if let Some(task) = state.stuck() {
        let of = |wanted: fn(Progress) -> bool| -> Vec<TaskId> {
            let restores = state.backward().filter(|(task, _)| task.id.action == Action::Restore);
            let failed_undos = state.backward().filter(|(task, progress)| {
                task.id.action == Action::Undo && *progress == Progress::Failed
            });
            let tasks = restores.chain(failed_undos);
            tasks.filter(|(_, progress)| wanted(*progress)).map(|(task, _)| task.id.clone()).collect()
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
    match state.goal() {
        Goal::Captured => Place::Captured,
        Goal::Applied | Goal::Committed => Place::Applied,
    }
}

/// The failures that still count: all of them once it has turned back; before that, those that were not mended since.
fn failures(state: &State) -> Vec<(TaskId, Error)> {
    let mended = |task: &TaskId| {
        *state.heading() == Heading::Forward
            && state.forward().any(|(candidate, progress)| candidate.id == *task && progress != Progress::Failed)
    };
    state.failures().filter(|(task, _)| !mended(task)).cloned().collect()
}

fn version(state: &State, action: Action) -> Option<String> {
    let mut found = state.outputs().filter(|(task, _)| task.action == action).filter_map(|(_, output)| output.version.clone());
    found.next()
}

/// How long anything that was quiesced was down; `None` if nothing was quiesced.
fn downtime(events: &[Recorded], until: Timestamp) -> Option<Duration> {
    let mut down: Vec<&str> = Vec::new();
    let mut since = None;
    let mut total = None;
    for Recorded { at, event, .. } in events {
        match event {
            Event::Started { task, .. } if task.action == Action::Quiesce => {
                if !down.contains(&task.subject.as_str()) {
                    down.push(&task.subject);
                }
                since.get_or_insert_with(|| moment(at));
            }
            Event::Succeeded { task, .. } if task.action == Action::Resume => {
                down.retain(|subject| *subject != task.subject);
                if let (true, Some(began)) = (down.is_empty(), since) {
                    *total.get_or_insert(Duration::ZERO) += elapsed(began, moment(at));
                    since = None;
                }
            }
            _ => {}
        }
    }
    if let Some(began) = since {
        *total.get_or_insert(Duration::ZERO) += elapsed(began, until);
    }
    total
}

/// A journaled moment. The journal checks its rows and writes their times itself.
pub(super) fn moment(at: &str) -> Timestamp {
    at.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time between two moments; zero when the clock was set back meanwhile.
pub(super) fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}
