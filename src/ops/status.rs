//! `status`: the open transactions, where they are and what comes next.

use super::look::Account;
use super::office::Reading;
use super::standing::down;
use super::{Down, Site, Standing};
use crate::error::Result;
use crate::journal::Journal;
use crate::tx::{Goal, Purpose, TaskId};

/// An open transaction.
#[derive(Debug, Clone)]
pub struct Open {
    /// Where it stands.
    pub standing: Standing,
    /// What it is for.
    pub purpose: Purpose,
    /// The plan's file.
    pub plan: String,
    /// How far it is to go.
    pub goal: Goal,
    /// When it was begun, RFC 3339.
    pub began: String,
    /// When the last thing happened to it, RFC 3339: since then it is where it is.
    pub since: String,
    /// The task under way, or that was when its process went.
    pub task: Option<TaskId>,
    /// Tasks of the way it goes that are done, and all of them.
    pub done: (usize, usize),
    /// The process at work on it.
    pub pid: Option<u32>,
    /// Quiesces that are not known to be up again.
    pub down: Vec<Down>,
    /// Steps that have not run.
    pub missing: Vec<TaskId>,
}

/// Every open transaction, the oldest first.
pub fn status(site: &Site) -> Result<Vec<Open>> {
    let Some(Reading { dir, journal }) = Reading::open(site)? else { return Ok(Vec::new()) };
    journal.check_end()?;
    let open = journal.unfinished()?;
    open.iter().map(|tx| Ok(Open::of(&Account::read(&journal, &dir, tx)?))).collect()
}

impl Open {
    /// What there is to say of an open transaction.
    pub fn of(account: &Account) -> Open {
        let state = account.state();
        let done = state.tasks().len() - pending(account);
        Open {
            standing: account.standing(),
            purpose: state.itinerary().purpose,
            plan: account.begun().path.clone(),
            goal: state.goal(),
            began: account.began().to_owned(),
            since: account.last().to_owned(),
            task: state.in_flight().cloned(),
            done: (done, state.tasks().len()),
            pid: account.worker().map(|worker| worker.pid).filter(|pid| *pid != 0),
            down: down(state),
            missing: state.steps_missing(),
        }
    }
}

fn pending(account: &Account) -> usize {
    use crate::tx::{Heading, Progress};
    let open = |progress: Progress| progress == Progress::Pending;
    match account.state().heading() {
        Heading::Forward => account.state().forward().filter(|(_, progress)| open(*progress)).count(),
        Heading::Backward(_) => account.state().backward().filter(|(_, progress)| open(*progress)).count(),
    }
}
