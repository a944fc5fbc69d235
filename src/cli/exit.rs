//! Exit statuses: from where a transaction stands, or from an error, to the number a script sees.
//!
//! Pure. The table is contract (design §6); the statuses answer one question: did the command do what was asked?

use crate::error::{Error, Fault};
use crate::ops::{Place, Standing};
use crate::tx::{Outcome, Reason};

/// Done.
pub(crate) const DONE: u8 = 0;
/// Failed or refused; nothing was changed.
pub(crate) const FAILED: u8 = 1;
/// The command line or the plan is wrong.
pub(crate) const USAGE: u8 = 2;
/// Failed, and rolled back.
pub(crate) const ROLLED_BACK: u8 = 3;
/// Rolled back, but the recheck does not pass.
pub(crate) const UNSOUND: u8 = 4;
/// Stuck.
pub(crate) const STUCK: u8 = 5;
/// An unfinished transaction overlaps.
pub(crate) const OVERLAP: u8 = 6;
/// Locked by another process.
pub(crate) const LOCKED: u8 = 7;
/// Damage found.
pub(crate) const DAMAGE: u8 = 8;
/// Differences found.
pub(crate) const DIFFERENT: u8 = 9;
/// Waiting.
pub(crate) const WAITING: u8 = 10;
/// Interrupted by INT, and turned back.
pub(crate) const INTERRUPTED: u8 = 130;
/// Interrupted by TERM, and turned back.
pub(crate) const TERMINATED: u8 = 143;

/// What the command was asked for; it decides what counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To commit: `run`, `commit`, `confirm`, `snapshot`, and `rollback` of a committed transaction.
    Commit,
    /// To capture and wait: `begin`.
    Capture,
    /// To run the steps and wait: `apply`.
    Apply,
    /// To turn an open transaction back: `rollback`.
    TurnBack,
    /// To settle whatever can be: `recover`.
    Settle,
    /// To call it settled: `release`.
    Release,
}

/// The exit status of a command that left a transaction at `standing`. `signal` is what came meanwhile, if one did.
pub(crate) fn of(asked: Asked, standing: &Standing, signal: Option<i32>) -> u8 {
    use Outcome::{Aborted, Committed, Released, RolledBack};
    let turned_back_by = match standing.reason {
        Some(Reason::Signal { number }) => Some(number),
        _ => None,
    };
    match &standing.place {
        Place::Stuck { .. } => STUCK,
        Place::Ended { outcome: RolledBack, unsound } if !unsound.is_empty() => UNSOUND,
        Place::Ended { outcome: Committed | Released, .. } => DONE,
        Place::Ended { outcome: RolledBack | Aborted, .. } if matches!(asked, Asked::TurnBack | Asked::Settle) => DONE,
        Place::Ended { outcome: RolledBack, .. } => turned_back_by.map_or(ROLLED_BACK, by_signal),
        Place::Ended { outcome: Aborted, .. } => turned_back_by.map_or(FAILED, by_signal),
        Place::Captured if asked == Asked::Capture => DONE,
        Place::Applied if asked == Asked::Apply => DONE,
        Place::Captured | Place::Applied | Place::OnHold { .. } | Place::Unconfirmed { .. } => WAITING,
        // It stopped on its way because a second signal asked for it; `recover` goes on.
        Place::Abandoned | Place::Running => signal.or(turned_back_by).map_or(WAITING, by_signal),
    }
}

/// The exit status of `recover`: the worst of all it came upon.
pub(crate) fn of_all(asked: Asked, standings: &[Standing], signal: Option<i32>) -> u8 {
    standings.iter().map(|standing| of(asked, standing, signal)).fold(DONE, worse)
}

/// The exit status of an error.
pub(crate) fn of_error(error: &Error) -> u8 {
    match error.fault {
        Fault::Failed => FAILED,
        Fault::Usage => USAGE,
        Fault::Overlap => OVERLAP,
        Fault::Locked => LOCKED,
        Fault::Damage => DAMAGE,
        Fault::Left => STUCK,
        Fault::Signal(number) => by_signal(number),
    }
}

/// The exit status of `status`: whether a transaction waits for somebody.
pub(crate) fn of_status<'a>(open: impl IntoIterator<Item = &'a Place>) -> u8 {
    if open.into_iter().any(|place| !matches!(place, Place::Running | Place::Ended { .. })) { WAITING } else { DONE }
}

/// The one of two statuses that must not be hidden by the other: 5, 4, a signal, 3, every other failure, 10, 0.
pub(crate) fn worse(a: u8, b: u8) -> u8 {
    let rank = |status: u8| match status {
        STUCK => 7,
        UNSOUND => 6,
        INTERRUPTED | TERMINATED => 5,
        ROLLED_BACK => 4,
        WAITING => 1,
        DONE => 0,
        _ => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

fn by_signal(number: i32) -> u8 {
    u8::try_from(number).ok().and_then(|number| number.checked_add(128)).unwrap_or(FAILED)
}

/// What a status means, for `--help`.
pub(crate) fn meaning(status: u8) -> &'static str {
    match status {
        DONE => "done",
        FAILED => "failed or refused; nothing was changed, or the transaction is not in a state for this command",
        USAGE => "the command line or the plan is wrong, or several transactions are open and no TX was given",
        ROLLED_BACK => "failed, and rolled back: the known-good state is restored and rechecked",
        UNSOUND => "rolled back, but the recheck does not pass",
        STUCK => "stuck: something could not be restored; a person is needed",
        OVERLAP => "an unfinished transaction overlaps",
        LOCKED => "locked by another process",
        DAMAGE => "damage found",
        DIFFERENT => "differences found",
        WAITING => "waiting: left on hold, open or not yet confirmed",
        INTERRUPTED => "interrupted by SIGINT, and turned back",
        TERMINATED => "interrupted by SIGTERM, and turned back",
        _ => "",
    }
}

/// The end of a command's long help: the statuses that can occur, and an example.
pub(crate) fn help(statuses: &[u8], examples: &[&str]) -> String {
    let mut text = String::from("Exit status:\n");
    for status in statuses {
        text.push_str(&format!("  {status:>3}  {}\n", meaning(*status)));
    }
    text.push_str(if examples.len() == 1 { "\nExample:\n" } else { "\nExamples:\n" });
    for example in examples {
        text.push_str(&format!("  {example}\n"));
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tx::{Action, TaskId};

    fn at(place: Place, reason: Option<Reason>) -> Standing {
        Standing {
            undoes: Vec::new(),
            tx: "notes-3".parse().unwrap(),
            place,
            reason,
            failure: None,
            others: Vec::new(),
            warnings: Vec::new(),
            from: None,
            to: None,
            took: Duration::ZERO,
            downtime: None,
            down: Vec::new(),
        }
    }

    fn ended(outcome: Outcome) -> Place {
        Place::Ended { outcome, unsound: Vec::new() }
    }

    fn task() -> TaskId {
        TaskId::new(Action::Apply, "migrate")
    }

    fn unsound() -> Place {
        Place::Ended { outcome: Outcome::RolledBack, unsound: vec![TaskId::new(Action::Recheck, "page")] }
    }

    fn stuck() -> Place {
        Place::Stuck { task: task(), restored: Vec::new(), not_restored: Vec::new() }
    }

    #[test]
    fn every_place_has_the_status_of_the_contract() {
        use Asked::{Apply, Capture, Commit, Release, Settle, TurnBack};
        let failed = Some(Reason::Failed { task: task() });
        let int = Some(Reason::Signal { number: 2 });
        let term = Some(Reason::Signal { number: 15 });
        let table = [
            // asked, place, why it turned back, a signal meanwhile, status
            (Commit, ended(Outcome::Committed), None, None, 0),
            (Commit, ended(Outcome::Committed), None, Some(2), 0),
            (Commit, ended(Outcome::Aborted), failed.clone(), None, 1),
            (Commit, ended(Outcome::RolledBack), failed.clone(), None, 3),
            (Commit, unsound(), failed.clone(), None, 4),
            (Commit, stuck(), failed.clone(), None, 5),
            (Commit, ended(Outcome::Aborted), int.clone(), Some(2), 130),
            (Commit, ended(Outcome::RolledBack), int.clone(), Some(2), 130),
            (Commit, ended(Outcome::RolledBack), term.clone(), Some(15), 143),
            (Commit, unsound(), int.clone(), Some(2), 4),
            (Commit, stuck(), term.clone(), Some(15), 5),
            // A signal on the way back is only noted.
            (Commit, ended(Outcome::RolledBack), failed.clone(), Some(2), 3),
            (Commit, Place::Captured, None, None, 10),
            (Commit, Place::OnHold { task: task() }, None, None, 10),
            (Commit, Place::Unconfirmed { until: String::new(), left: None }, None, None, 10),
            (Commit, ended(Outcome::RolledBack), Some(Reason::NotConfirmed), None, 3),
            (Capture, Place::Captured, None, None, 0),
            (Capture, ended(Outcome::Aborted), failed.clone(), None, 1),
            (Apply, Place::Applied, None, None, 0),
            (Apply, Place::OnHold { task: task() }, None, None, 10),
            (Apply, ended(Outcome::RolledBack), failed.clone(), None, 3),
            (TurnBack, ended(Outcome::RolledBack), Some(Reason::Asked), None, 0),
            (TurnBack, ended(Outcome::Aborted), Some(Reason::Asked), None, 0),
            (TurnBack, ended(Outcome::RolledBack), failed.clone(), None, 0),
            (TurnBack, unsound(), Some(Reason::Asked), None, 4),
            (TurnBack, stuck(), Some(Reason::Asked), None, 5),
            (TurnBack, Place::Abandoned, Some(Reason::Asked), Some(2), 130),
            (Settle, ended(Outcome::RolledBack), Some(Reason::Died), None, 0),
            (Settle, ended(Outcome::Committed), None, None, 0),
            (Settle, unsound(), Some(Reason::Died), None, 4),
            (Settle, stuck(), Some(Reason::Died), None, 5),
            (Settle, Place::Captured, None, None, 10),
            (Settle, Place::OnHold { task: task() }, None, None, 10),
            (Release, ended(Outcome::Released), failed, None, 0),
        ];
        for (asked, place, reason, signal, status) in table {
            let standing = at(place, reason);
            assert_eq!(of(asked, &standing, signal), status, "{asked:?} {standing:?} {signal:?}");
        }
    }

    #[test]
    fn recover_ends_with_the_worst_of_what_it_came_upon() {
        let done = at(ended(Outcome::RolledBack), Some(Reason::Died));
        let waits = at(Place::Captured, None);
        let bad = at(unsound(), None);
        let stuck = at(stuck(), None);
        assert_eq!(of_all(Asked::Settle, &[], None), 0);
        assert_eq!(of_all(Asked::Settle, std::slice::from_ref(&done), None), 0);
        assert_eq!(of_all(Asked::Settle, &[done.clone(), waits.clone()], None), 10);
        assert_eq!(of_all(Asked::Settle, &[waits.clone(), bad.clone(), done], None), 4);
        assert_eq!(of_all(Asked::Settle, &[bad, stuck, waits], None), 5);
    }

    #[test]
    fn five_and_four_outrank_signals_which_outrank_three() {
        let order = [5, 4, 130, 3, 1, 10, 0];
        for (i, a) in order.iter().enumerate() {
            for b in &order[i..] {
                assert_eq!(worse(*a, *b), *a);
                assert_eq!(worse(*b, *a), *a);
            }
        }
    }

    #[test]
    fn every_fault_has_its_status() {
        let status = |fault| of_error(&Error::new("x").fault(fault));
        assert_eq!(status(Fault::Failed), 1);
        assert_eq!(status(Fault::Usage), 2);
        assert_eq!(status(Fault::Overlap), 6);
        assert_eq!(status(Fault::Locked), 7);
        assert_eq!(status(Fault::Damage), 8);
        assert_eq!(status(Fault::Left), 5);
        assert_eq!(status(Fault::Signal(2)), 130);
        assert_eq!(status(Fault::Signal(15)), 143);
        assert_eq!(status(Fault::Signal(900)), 1);
    }

    #[test]
    fn status_says_ten_while_something_waits_for_somebody() {
        assert_eq!(of_status([]), 0);
        assert_eq!(of_status([&Place::Running]), 0);
        assert_eq!(of_status([&Place::Running, &Place::Captured]), 10);
        assert_eq!(of_status([&Place::Abandoned]), 10);
        assert_eq!(of_status([&stuck()]), 10);
    }
}
