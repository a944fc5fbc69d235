//! What the verbs that only look have in common: one transaction as its journal tells it, and which one is meant.
//!
//! Relies on the journal alone; leaves nothing behind, and is content with a state directory that is not there.

use std::path::Path;

use jiff::Timestamp;

use super::standing::{Carrier, runner};
use super::{Site, Standing};
use crate::error::{Error, Fault, Result};
use crate::journal::{Journal, Recorded, SqliteJournal};
use crate::name::TxId;
use crate::sys::process;
use crate::tx::{Begun, Runner, State};

/// One transaction as its journal tells it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Which.
    pub tx: TxId,
    /// What happened, in order; never empty.
    pub events: Vec<Recorded>,
    /// The fold of it.
    pub state: State,
    /// Whether its process is there.
    pub carrier: Carrier,
}

impl Account {
    /// Reads the transaction's events and folds them.
    pub fn read(journal: &dyn Journal, tx: &TxId) -> Result<Account> {
        Account::read_with(journal, tx, &|runner| process::is_alive(runner.pid, runner.start, &runner.boot_id))
    }

    /// The same, asking `alive` whether a process is still there.
    pub fn read_with(journal: &dyn Journal, tx: &TxId, alive: &dyn Fn(&Runner) -> bool) -> Result<Account> {
        let events = journal.events(tx)?;
        if events.is_empty() {
            return Err(unknown(tx));
        }
        let state = State::fold(events.iter().map(|recorded| &recorded.event)).map_err(|illegal| {
            Error::new(format!("the journal of {tx} makes no sense")).because(illegal).fault(Fault::Damage)
        })?;
        let carrier = match runner(&events) {
            Some(runner) if state.ended().is_none() && alive(runner) => Carrier::AtWork,
            _ => Carrier::Gone,
        };
        Ok(Account { tx: tx.clone(), events, state, carrier })
    }

    /// Where it stands now.
    pub fn standing(&self) -> Standing {
        Standing::of(&self.events, &self.state, self.carrier, Timestamp::now())
    }

    /// What `Begun` said.
    pub fn begun(&self) -> &Begun {
        self.state.begun()
    }

    /// When it was begun, RFC 3339.
    pub fn began(&self) -> &str {
        &self.events[0].at
    }

    /// When the last thing happened, RFC 3339.
    pub fn last(&self) -> &str {
        &self.events[self.events.len() - 1].at
    }

    /// Who carries it out, if somebody does.
    pub fn carried_by(&self) -> Option<&Runner> {
        runner(&self.events).filter(|_| self.carrier == Carrier::AtWork)
    }

    /// Whether somebody is at work on it right now.
    pub fn is_running(&self) -> bool {
        self.carrier == Carrier::AtWork && (self.state.in_flight().is_some() || !self.state.is_settled())
    }
}

/// The journal of the site, to be read only; `None` if there is none yet.
pub fn journal(site: &Site) -> Result<Option<SqliteJournal>> {
    SqliteJournal::open_read_only(&site.dir)
}

/// The journal of the site and the transaction that is meant: the one that is named, else the one that is open, else
/// the last one. Several open ones and none named is a mistake that lists them.
pub fn find(site: &Site, named: Option<&TxId>) -> Result<(SqliteJournal, TxId)> {
    let Some(journal) = journal(site)? else {
        return Err(match named {
            Some(tx) => unknown(tx),
            None => nothing_yet(&site.dir),
        });
    };
    let tx = which(&journal, named)?.ok_or_else(|| nothing_yet(&site.dir))?;
    Ok((journal, tx))
}

fn which(journal: &dyn Journal, named: Option<&TxId>) -> Result<Option<TxId>> {
    if let Some(tx) = named {
        return if journal.transactions()?.contains(tx) { Ok(Some(tx.clone())) } else { Err(unknown(tx)) };
    }
    let mut open = journal.unfinished()?;
    match open.len() {
        0 => Ok(journal.transactions()?.pop()),
        1 => Ok(open.pop()),
        _ => Err(several(&open)),
    }
}

/// Several transactions are open and none was named.
pub fn several(open: &[TxId]) -> Error {
    let names: Vec<String> = open.iter().map(|tx| format!("`{tx}`")).collect();
    Error::new("several transactions are open, so say which one is meant")
        .because(format!("open are {}", names.join(", ")))
        .fault(Fault::Usage)
}

/// There is no such transaction.
pub fn unknown(tx: &TxId) -> Error {
    Error::new(format!("there is no transaction `{tx}`"))
        .hint("`txupgrade history` lists them")
        .fault(Fault::Usage)
}

fn nothing_yet(dir: &Path) -> Error {
    Error::new(format!("there is no transaction in `{}` yet", dir.display()))
}

/// The open transactions, the oldest first.
pub fn open(site: &Site) -> Result<Vec<TxId>> {
    match journal(site)? {
        Some(journal) => journal.unfinished(),
        None => Ok(Vec::new()),
    }
}

/// Every transaction, the oldest first.
pub fn all(site: &Site) -> Result<Vec<TxId>> {
    match journal(site)? {
        Some(journal) => journal.transactions(),
        None => Ok(Vec::new()),
    }
}
