//! Where a transaction stands, told from its events and nothing else.

use std::time::Duration;

use super::office::Told;
use super::{Down, Place, Standing};
use crate::engine::{of_quiesce, remaining, until};
use crate::error::Error;
use crate::journal::Recorded;
use crate::tx::{Action, Event, Goal, Heading, Progress, Reason, State, Task, TaskId};

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
            undoes: state.begun().undoes.clone(),
            reason,
            failure,
            others: failures,
            warnings: state.outputs().flat_map(|(_, output)| output.warnings.clone()).collect(),
            from: version(Action::Require),
            to: version(Action::Verify).or_else(|| version(Action::Recheck)),
            took: took(told),
            downtime: downtime(told),
            down: down(state),
        }
    }
}

/// What is kept down, and the units of it that were up.
pub(super) fn down(state: &State) -> Vec<Down> {
    let units = |quiesce: &TaskId| {
        let found = state.output(&TaskId::new(Action::Require, of_quiesce(&quiesce.subject)));
        let up = found.into_iter().flat_map(|output| &output.units).filter(|unit| unit.active);
        up.map(|unit| unit.name.clone()).collect()
    };
    let down = state.kept_down().into_iter();
    down.map(|quiesce| Down { quiesce: quiesce.subject.clone(), units: units(quiesce) }).collect()
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
        let unsound = failed(Action::Recheck).chain(irreversible(state)).chain(not_done_again(state)).collect();
        return Place::Ended { outcome, unsound };
    }
    if let Some(task) = state.stuck() {
        // An undo that was not needed stays pending; one that was needed has succeeded or failed by now.
        let of = |wanted: fn(&Task, Progress) -> bool| {
            let tasks = state.backward().filter(move |(task, progress)| wanted(task, *progress));
            tasks.map(|(task, _)| task.id.clone()).collect()
        };
        return Place::Stuck {
            task: task.clone(),
            restored: of(|task, progress| {
                matches!(task.id.action, Action::Undo | Action::Restore) && progress == Progress::Done
            }),
            not_restored: of(|task, progress| match task.id.action {
                Action::Restore => progress != Progress::Done,
                Action::Undo | Action::Resume => progress == Progress::Failed,
                _ => false,
            }),
        };
    }
    if let Some(task) = state.on_hold() {
        return Place::OnHold { task: task.clone() };
    }
    if let Some(awaiting) = state.awaiting() {
        return Place::Unconfirmed { until: until(awaiting), left: remaining(awaiting) };
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

/// Steps of a transaction that went back which nothing could take back: they have no undo, and nothing was captured.
fn irreversible(state: &State) -> impl Iterator<Item = TaskId> {
    let itinerary = state.itinerary();
    let has = |action: Action, subject: Option<&str>| {
        let mut tasks = itinerary.backward.iter().map(|task| &task.id);
        tasks.any(|task| task.action == action && subject.is_none_or(|subject| task.subject == subject))
    };
    let stays = move |task: &TaskId| {
        task.action == Action::Apply && !has(Action::Restore, None) && !has(Action::Undo, Some(&task.subject))
    };
    let went_back = *state.heading() != Heading::Forward;
    let attempted = state.forward().filter(move |(task, _)| went_back && state.was_attempted(&task.id));
    attempted.map(|(task, _)| task.id.clone()).filter(stays).collect::<Vec<_>>().into_iter()
}

/// Undos that an undoing had begun when it turned back: the present was put back, but nothing does these steps again.
fn not_done_again(state: &State) -> impl Iterator<Item = TaskId> {
    let went_back = *state.heading() != Heading::Forward;
    let undone = |task: &Task| went_back && task.id.action == Action::Undo && state.was_attempted(&task.id);
    let forward = state.forward().filter(move |(task, _)| undone(task));
    forward.map(|(task, _)| task.id.clone()).collect::<Vec<_>>().into_iter()
}

fn took(told: &Told) -> Duration {
    let ends = told.recorded.first().zip(told.recorded.last());
    ends.and_then(|(first, last)| seconds_between(&first.at, &last.at)).unwrap_or_default()
}

/// How long anything that was quiesced was not resumed again, as far as it has come; `None` where nothing was.
fn downtime(told: &Told) -> Option<Duration> {
    let mut down: Vec<&str> = Vec::new();
    let mut since = None;
    let mut total = None;
    for Recorded { at, event, .. } in &told.recorded {
        match event {
            Event::Started { task, .. } if task.action == Action::Quiesce => {
                if !down.contains(&task.subject.as_str()) {
                    down.push(&task.subject);
                }
                since.get_or_insert(at);
            }
            Event::Succeeded { task, .. } if task.action == Action::Resume => {
                down.retain(|subject| *subject != task.subject);
                if let (true, Some(began)) = (down.is_empty(), since) {
                    *total.get_or_insert(Duration::ZERO) += seconds_between(began, at).unwrap_or_default();
                    since = None;
                }
            }
            _ => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::office::tell;
    use crate::ops::tests::{Notebook, id};
    use crate::tx::{Extent, Outcome, Output};

    #[test]
    fn what_was_up_between_two_quiesces_was_not_down() {
        let mut notebook = Notebook::new();
        let tx = notebook.begin("notes");
        notebook.captures(&tx);
        for task in ["apply unpack", "apply migrate", "resume stop", "verify the version"] {
            notebook.does(&tx, task, Output::default());
        }
        let once = Standing::of(&tell(&notebook.journal, &tx).unwrap()).downtime.unwrap();
        assert_eq!(once, Duration::from_millis(10_500));
        notebook.wait(600_000);
        notebook.fails(&tx, "verify page", Error::new("status 500"));
        notebook.add(&tx, Event::TurnedBack { reason: Reason::Failed { task: id("verify page") } });
        for task in ["prove everything", "quiesce stop", "restore db", "restore code", "resume stop", "recheck page"] {
            notebook.does(&tx, task, Output::default());
        }
        notebook.add(&tx, Event::Ended { outcome: Outcome::RolledBack });
        let standing = Standing::of(&tell(&notebook.journal, &tx).unwrap());
        assert_eq!(standing.downtime.unwrap(), once + Duration::from_millis(6_000));
        assert_eq!(standing.failure.unwrap().0, id("verify page"));
    }

    #[test]
    fn stuck_lists_what_is_restored_and_what_is_not() {
        let mut notebook = Notebook::new();
        let tx = notebook.gets_stuck("notes");
        let place = Standing::of(&tell(&notebook.journal, &tx).unwrap()).place;
        let (restored, not_restored) = (vec![id("restore code")], vec![id("restore db")]);
        assert_eq!(place, Place::Stuck { task: id("restore db"), restored, not_restored });
    }

    #[test]
    fn a_recheck_that_failed_while_something_was_stuck_is_asked_again() {
        let mut notebook = Notebook::new();
        let tx = notebook.begin_as("notes", |begun| {
            let recheck = Task::new(Action::Recheck, "db", 1).noted();
            begun.itinerary.backward.insert(4, recheck);
        });
        notebook.captures(&tx);
        notebook.does(&tx, "apply unpack", Output::default());
        notebook.fails(&tx, "apply migrate", Error::new("no"));
        notebook.turns_back(&tx);
        notebook.fails(&tx, "restore db", Error::new("no room"));
        notebook.does(&tx, "restore code", Output::default());
        notebook.fails(&tx, "recheck db", Error::new("it differs"));
        notebook.add(&tx, Event::Stuck { task: id("restore db") });
        notebook.add(&tx, Event::Retried { extent: Extent::Whole });
        for task in ["prove everything", "restore db", "recheck db", "resume stop", "recheck page"] {
            notebook.does(&tx, task, Output::default());
        }
        notebook.add(&tx, Event::Ended { outcome: Outcome::RolledBack });
        let place = Standing::of(&tell(&notebook.journal, &tx).unwrap()).place;
        assert_eq!(place, Place::Ended { outcome: Outcome::RolledBack, unsound: Vec::new() });
    }
}
