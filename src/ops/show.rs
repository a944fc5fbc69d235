//! `show`: one transaction from its begin to its end, with what each task found, took and said.

use std::path::PathBuf;
use std::time::Duration;

use super::history::Past;
use super::log::{LogFile, files};
use super::look::{Account, Found};
use super::standing::seconds_between;
use super::{Site, status::Open};
use crate::error::{Error, Result};
use crate::name::TxId;
use crate::tx::{Begun, Event, Output, TaskId};

/// One transaction.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The line that `history` has for it.
    pub past: Past,
    /// What `status` says of it, while it is open.
    pub open: Option<Open>,
    /// What it was begun with.
    pub begun: Begun,
    /// What happened, in order.
    pub timeline: Vec<Moment>,
    /// The kept output of its programs.
    pub logs: Vec<LogFile>,
    /// Where that is.
    pub log_dir: PathBuf,
}

/// One line of a timeline.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When it began, RFC 3339.
    pub at: String,
    /// What it was.
    pub what: Happening,
}

/// What a line of a timeline is about.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A task ended well.
    Did {
        /// Which.
        task: TaskId,
        /// After how long.
        took: Duration,
        /// What it returned.
        output: Output,
    },
    /// A task failed.
    Failed {
        /// Which.
        task: TaskId,
        /// After how long.
        took: Duration,
        /// Why.
        failure: Error,
    },
    /// A task has not ended: it is under way, or was when its process went.
    Unended {
        /// Which.
        task: TaskId,
    },
    /// Something happened to the transaction as a whole.
    Event(Box<Event>),
}

/// One transaction: the one named, else the open one, else the last.
pub fn show(site: &Site, named: Option<&TxId>) -> Result<Shown> {
    let account = Found::find(site, named)?.account()?;
    let log_dir = site.dir.join("logs").join(account.tx().to_string());
    let logs = files(&log_dir, account.events());
    Ok(Shown::of(&account, log_dir, logs))
}

impl Shown {
    /// Everything there is to say of a transaction.
    pub fn of(account: &Account, log_dir: PathBuf, logs: Vec<LogFile>) -> Shown {
        Shown {
            past: Past::of(account),
            open: account.state().ended().is_none().then(|| Open::of(account)),
            begun: account.begun().clone(),
            timeline: timeline(account),
            logs,
            log_dir,
        }
    }
}

fn timeline(account: &Account) -> Vec<Moment> {
    let mut timeline = Vec::new();
    // More than one where they go together.
    let mut began: Vec<(String, TaskId)> = Vec::new();
    for recorded in account.events() {
        let at = recorded.at.clone();
        let mut ended = |task: &TaskId| match began.iter().position(|(_, begun)| begun == task) {
            Some(index) => {
                let (start, _) = began.remove(index);
                let took = seconds_between(&start, &at).unwrap_or_default();
                (start, took)
            }
            None => (at.clone(), Duration::ZERO),
        };
        let (at, what) = match &recorded.event {
            Event::Started { task, .. } => {
                began.push((at, task.clone()));
                continue;
            }
            Event::Succeeded { task, output } => {
                let (start, took) = ended(task);
                (start, Happening::Did { task: task.clone(), took, output: output.clone() })
            }
            Event::Failed { task, failure } => {
                let (start, took) = ended(task);
                (start, Happening::Failed { task: task.clone(), took, failure: failure.clone() })
            }
            event => {
                unended(&mut timeline, &mut began);
                (at, Happening::Event(Box::new(event.clone())))
            }
        };
        timeline.push(Moment { at, what });
    }
    unended(&mut timeline, &mut began);
    timeline
}

fn unended(timeline: &mut Vec<Moment>, began: &mut Vec<(String, TaskId)>) {
    timeline.extend(began.drain(..).map(|(at, task)| Moment { at, what: Happening::Unended { task } }));
}
