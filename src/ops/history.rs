//! `history`: every transaction there was, the newest first.

use super::look::Account;
use super::office::Reading;
use super::{Site, Standing};
use crate::error::{Error, Fault, Result};
use crate::journal::{Journal, Verified};
use crate::name::TxId;
use crate::tx::{Action, Outcome, Purpose};

/// Whether the hash chain is to be recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Only the rows that are read are checked.
    No,
    /// From the first event to the last.
    Chain,
}

/// What the journal holds.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The newest first.
    pub transactions: Vec<Past>,
    /// Transactions whose events cannot be read, and why.
    pub unreadable: Vec<(TxId, Error)>,
    /// The chain, if it was verified (and there is one).
    pub verified: Option<Verified>,
}

/// One transaction in a line.
#[derive(Debug, Clone)]
pub struct Past {
    /// How it stands.
    pub standing: Standing,
    /// What it is for.
    pub purpose: Purpose,
    /// The plan's file.
    pub plan: String,
    /// When it was begun, RFC 3339.
    pub began: String,
    /// Bytes of what it captured, if it captured.
    pub bytes: Option<u64>,
    /// Bytes that the store grew by.
    pub stored: Option<u64>,
    /// The transactions that it undoes.
    pub undoes: Vec<String>,
    /// The committed transaction that undid it.
    pub undone_by: Option<TxId>,
}

/// Every transaction, the newest first.
pub fn history(site: &Site, verify: Verify) -> Result<History> {
    let Some(Reading { dir, journal }) = Reading::open(site)? else { return Ok(History::default()) };
    let verified = match verify {
        Verify::No => None,
        Verify::Chain => Some(journal.verify()?),
    };
    let mut history = History { verified, ..History::default() };
    for tx in journal.transactions()? {
        match Account::read(&journal, &dir, &tx) {
            Ok(account) => history.transactions.push(Past::of(&account)),
            Err(error) if error.fault == Fault::Damage => history.unreadable.push((tx, error)),
            Err(error) => return Err(error),
        }
    }
    let undone: Vec<(String, TxId)> = history
        .transactions
        .iter()
        .filter(|past| matches!(past.standing.place, super::Place::Ended { outcome: Outcome::Committed, .. }))
        .flat_map(|past| past.undoes.iter().map(|undone| (undone.clone(), past.standing.tx.clone())))
        .collect();
    for past in &mut history.transactions {
        let tx = past.standing.tx.to_string();
        past.undone_by = undone.iter().rev().find(|(undone, _)| *undone == tx).map(|(_, by)| by.clone());
    }
    history.transactions.reverse();
    Ok(history)
}

impl Past {
    /// What there is to say of a transaction in a line.
    pub fn of(account: &Account) -> Past {
        let sum = |numbers: Vec<u64>| (!numbers.is_empty()).then(|| numbers.into_iter().sum());
        let captured = account.state().captured();
        let kept =
            account.state().outputs().filter(|(task, _)| matches!(task.action, Action::Precapture | Action::Capture));
        Past {
            standing: account.standing(),
            purpose: account.state().itinerary().purpose,
            plan: account.begun().path.clone(),
            began: account.began().to_owned(),
            bytes: sum(captured.filter_map(|(_, output)| output.bytes).collect()),
            stored: sum(kept.filter_map(|(_, output)| output.stored).collect()),
            undoes: account.begun().undoes.clone(),
            undone_by: None,
        }
    }
}
