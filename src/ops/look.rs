//! What the verbs that only look have in common: one transaction as its journal tells it, and which one is meant.
//!
//! Leaves nothing behind, and is content with a state directory that is not there or cannot be written.

use std::path::Path;

use super::office::{Reading, Told, tell};
use super::{Place, Site, Standing};
use crate::engine::lock_path;
use crate::error::{Error, Fault, Result};
use crate::journal::{Journal, Recorded};
use crate::name::TxId;
use crate::sys::lock::{Holder, Lock};
use crate::tx::{Begun, State, TaskId};

/// One transaction as its journal tells it.
pub struct Account {
    told: Told,
    /// Who is at work on it.
    holder: Option<Holder>,
}

impl Account {
    /// Reads the transaction's events and folds them; `dir` is the state directory, where it is locked while
    /// somebody is at work on it.
    pub fn read(journal: &dyn Journal, dir: &Path, tx: &TxId) -> Result<Account> {
        // Looked at first: who lets go of it meanwhile has journaled its end before.
        let holder = Lock::held(&lock_path(dir, tx))?;
        Account::read_as(journal, tx, holder)
    }

    /// The same, with `holder` at work on it.
    pub fn read_as(journal: &dyn Journal, tx: &TxId, holder: Option<Holder>) -> Result<Account> {
        Ok(Account { told: tell(journal, tx)?, holder })
    }

    /// Which.
    pub fn tx(&self) -> &TxId {
        &self.told.tx
    }

    /// What happened, in order; never empty.
    pub fn events(&self) -> &[Recorded] {
        &self.told.recorded
    }

    /// The fold of it.
    pub fn state(&self) -> &State {
        &self.told.state
    }

    /// Where it stands now.
    pub fn standing(&self) -> Standing {
        let mut standing = Standing::of(&self.told);
        if self.is_running() {
            standing.place = Place::Running;
        }
        standing
    }

    /// What `Begun` said.
    pub fn begun(&self) -> &Begun {
        self.state().begun()
    }

    /// When it was begun, RFC 3339.
    pub fn began(&self) -> &str {
        &self.events()[0].at
    }

    /// When the last thing happened, RFC 3339.
    pub fn last(&self) -> &str {
        &self.events()[self.events().len() - 1].at
    }

    /// Who is at work on it right now.
    pub fn worker(&self) -> Option<&Holder> {
        self.holder.as_ref().filter(|_| self.is_running())
    }

    /// Whether somebody is at work on it right now.
    pub fn is_running(&self) -> bool {
        let at_rest = self.state().is_settled() && self.state().in_flight().is_none();
        self.holder.is_some() && !at_rest
    }
}

/// A state directory in which there is a transaction to look at.
pub(super) struct Found {
    pub(super) reading: Reading,
    pub(super) tx: TxId,
}

impl Found {
    /// The transaction that is meant: the one that is named, else the one that is open, else the last one. Several
    /// open ones and none named is a mistake that lists them.
    pub(super) fn find(site: &Site, named: Option<&TxId>) -> Result<Found> {
        let Some(reading) = Reading::open(site)? else {
            return Err(match named {
                Some(tx) => unknown(tx),
                None => nothing_yet(&site.dir),
            });
        };
        let tx = which(&reading.journal, named)?.ok_or_else(|| nothing_yet(&site.dir))?;
        Ok(Found { reading, tx })
    }

    pub(super) fn account(&self) -> Result<Account> {
        Account::read(&self.reading.journal, &self.reading.dir, &self.tx)
    }
}

pub(super) fn which(journal: &dyn Journal, named: Option<&TxId>) -> Result<Option<TxId>> {
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

fn several(open: &[TxId]) -> Error {
    let names: Vec<String> = open.iter().map(|tx| format!("`{tx}`")).collect();
    Error::new(format!("several transactions are open: {}", names.join(", ")))
        .hint("name the one that you mean")
        .fault(Fault::Usage)
}

fn unknown(tx: &TxId) -> Error {
    Error::new(format!("there is no transaction `{tx}`"))
        .hint("`txupgrade history` lists all of them")
        .fault(Fault::Usage)
}

fn nothing_yet(dir: &Path) -> Error {
    Error::new(format!("there is no transaction in `{}` yet", dir.display()))
}

/// The steps of a transaction that have neither succeeded nor been done by hand.
pub fn steps_missing(site: &Site, tx: &TxId) -> Result<Vec<TaskId>> {
    match Reading::open(site)? {
        Some(reading) => Ok(tell(&reading.journal, tx)?.state.steps_missing()),
        None => Ok(Vec::new()),
    }
}

/// Every transaction, the oldest first.
pub fn all(site: &Site) -> Result<Vec<TxId>> {
    Reading::open(site)?.map_or_else(|| Ok(Vec::new()), |reading| reading.journal.transactions())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::Notebook;

    fn named(journal: &dyn Journal, tx: Option<&str>) -> Result<Option<String>> {
        let tx = tx.map(|tx| tx.parse().unwrap());
        Ok(which(journal, tx.as_ref())?.map(|tx| tx.to_string()))
    }

    #[test]
    fn without_a_name_it_is_the_open_one_else_the_last() {
        let mut notebook = Notebook::new();
        assert_eq!(named(&notebook.journal, None).unwrap(), None);
        notebook.commits("notes");
        assert_eq!(named(&notebook.journal, None).unwrap().as_deref(), Some("notes-1"));
        notebook.rolls_back("shop");
        assert_eq!(named(&notebook.journal, None).unwrap().as_deref(), Some("shop-1"));
        notebook.begin("notes");
        assert_eq!(named(&notebook.journal, None).unwrap().as_deref(), Some("notes-2"));
        assert_eq!(named(&notebook.journal, Some("notes-1")).unwrap().as_deref(), Some("notes-1"));
    }

    #[test]
    fn several_open_ones_have_to_be_named() {
        let mut notebook = Notebook::new();
        notebook.begin("notes");
        notebook.begin("shop");
        let error = named(&notebook.journal, None).unwrap_err();
        assert_eq!(error.statement, "several transactions are open: `notes-1`, `shop-1`");
        assert_eq!(error.fault, Fault::Usage);
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let error = named(&Notebook::new().journal, Some("notes-9")).unwrap_err();
        assert_eq!(error.statement, "there is no transaction `notes-9`");
        assert_eq!(error.fault, Fault::Usage);
    }
}
