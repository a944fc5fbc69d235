//! The append-only, hash-chained record of events; the only truth. SQLite on disk, and a twin in memory for tests.
//!
//! Relies on SQLite (WAL, `synchronous=FULL`) and on `sys` for the clock and durable files. Promises: an event that
//! was appended is still there after a power cut; two transactions that overlap are never both open; a row that was
//! changed, removed, moved or cut off at the end is noticed, and nothing is appended to a journal whose end is not
//! as it was left. An append that fails for the disk may be in the journal all the same: only who reads it anew can tell.

mod chain;
mod claims;
pub mod format;
mod head;
mod memory;
mod read_only;
mod sqlite;
#[cfg(test)]
mod tests;

pub use chain::Hash;
pub use claims::claims_overlap;
pub use memory::MemoryJournal;
pub use sqlite::SqliteJournal;

use crate::error::{Error, Result};
use crate::name::{Name, TxId};
use crate::tx::{Begun, Event};

/// Where events are kept.
pub trait Journal: Send {
    /// Adds `event` at the end; durable when it returns. What could not be synced may be in the journal after an error.
    fn append(&mut self, tx: &TxId, event: &Event) -> Result<()>;
    /// The events of `tx` in order, each checked against its hash; none if there is no such transaction.
    fn events(&self, tx: &TxId) -> Result<Vec<Recorded>>;
    /// Every transaction, the oldest first.
    fn transactions(&self) -> Result<Vec<TxId>>;
    /// The transactions without an `Ended`, the oldest first.
    fn unfinished(&self) -> Result<Vec<TxId>>;
    /// Begins the next transaction of `plan`: numbers it and journals `begun`, or refuses
    /// ([`Fault::Overlap`](crate::error::Fault)) because an unfinished one claims the same. Of two that overlap and
    /// begin at the same time exactly one is begun.
    fn begin(&mut self, plan: &Name, begun: &Begun) -> Result<TxId>;
    /// Recomputes the whole chain; an error ([`Fault::Damage`](crate::error::Fault)) names the first bad event.
    fn verify(&self) -> Result<Verified>;
}

/// An event as it stands in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Its place in the journal, from 1.
    pub seq: u64,
    /// Whose it is.
    pub tx: TxId,
    /// When it was appended: RFC 3339, UTC, nanoseconds.
    pub at: String,
    /// What happened.
    pub event: Event,
    /// The end of the chain with it.
    pub hash: Hash,
}

/// A chain that was found whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many events it has.
    pub events: u64,
    /// Of how many transactions.
    pub transactions: u64,
    /// The hash of its last event; zeros if there is none.
    pub last: Hash,
}

fn encode(event: &Event) -> String {
    serde_json::to_string(event).expect("events have string keys and no other reason not to be JSON")
}

/// The event that `row` holds, its hash checked first.
fn decode(row: &chain::Row) -> Result<Recorded> {
    row.check()?;
    let tx: TxId = row.tx.parse().map_err(|error: Error| unreadable(row).because(error))?;
    let event = serde_json::from_str(&row.event).map_err(|error| {
        let kind = serde_json::from_str::<serde_json::Value>(&row.event).ok();
        let kind = kind.as_ref().and_then(|value| value["event"].as_str());
        match kind {
            Some(kind) if error.to_string().starts_with(&format!("unknown variant `{kind}`")) => unreadable(row)
                .because(format!("this txupgrade is too old: it does not know the event `{kind}`"))
                .hint("use the txupgrade that began this transaction, or a newer one"),
            _ => unreadable(row).because(error).hint(
                "its hash is right, so this txupgrade is probably too old: use the one that began this transaction",
            ),
        }
    })?;
    Ok(Recorded { seq: row.seq, tx, at: row.at.clone(), event, hash: row.hash })
}

fn unreadable(row: &chain::Row) -> Error {
    Error::new(format!("cannot read event {} of `{}`", row.seq, row.tx))
}

/// The number that the next transaction of `plan` gets.
fn next_number<'a>(plan: &Name, transactions: impl Iterator<Item = &'a TxId>) -> u32 {
    transactions.filter(|tx| tx.plan == *plan).map(|tx| tx.number).max().unwrap_or(0) + 1
}
