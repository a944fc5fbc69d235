//! The hash chain: what a row's hash is, and what is wrong with rows that do not form a chain.
//!
//! Pure. Both journals make their rows here and have them checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Verified;
use super::head::{self, Head};
use crate::error::{Error, Fault, Result};

/// A BLAKE3 hash; shown in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What stands before the first event.
    pub const ZERO: Hash = Hash([0; 32]);

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of these bytes' worth, if there are 32.
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Hash> {
        bytes.try_into().ok().map(Hash)
    }

    pub(super) fn from_hex(text: &str) -> Option<Hash> {
        blake3::Hash::from_hex(text).ok().map(|hash| Hash(*hash.as_bytes()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One row of the table, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) tx: String,
    pub(super) at: String,
    pub(super) event: String,
    pub(super) previous: Hash,
    pub(super) hash: Hash,
}

impl Row {
    /// The row that comes after `last`.
    pub(super) fn after(last: Option<&Row>, tx: String, at: String, event: String) -> Row {
        let (seq, previous) = last.map_or((1, Hash::ZERO), |last| (last.seq + 1, last.hash));
        let hash = digest(&previous, seq, &tx, &at, &event);
        Row { seq, tx, at, event, previous, hash }
    }

    /// Whether it is right as a row of `tx`, which is not what it says: then that name is what was changed.
    fn was_of(&self, tx: &str) -> bool {
        self.tx != tx && digest(&self.previous, self.seq, tx, &self.at, &self.event) == self.hash
    }

    fn hash_at(&self, seq: u64) -> Hash {
        digest(&self.previous, seq, &self.tx, &self.at, &self.event)
    }

    /// Whether what the row says is what was hashed.
    pub(super) fn check(&self) -> Result<()> {
        if self.hash_at(self.seq) == self.hash {
            return Ok(());
        }
        Err(damaged(format!("event {} of `{}` was changed: its hash is not right", self.seq, self.tx)))
    }
}

fn digest(previous: &Hash, seq: u64, tx: &str, at: &str, event: &str) -> Hash {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(&previous.0);
    field(&seq.to_le_bytes());
    field(tx.as_bytes());
    field(at.as_bytes());
    field(event.as_bytes());
    Hash(*hasher.finalize().as_bytes())
}

/// Says what is wrong with the journal.
pub(super) fn damaged(cause: impl fmt::Display) -> Error {
    Error::new("the journal is damaged")
        .because(cause)
        .hint("put the `journal.*` files back from a backup; `txupgrade store list` and `store export` read the snapshots without")
        .fault(Fault::Damage)
}

/// What of a journal can be relied on, so that nobody acts on a part of what happened.
#[derive(Debug, Default)]
pub(super) struct Reliable {
    /// Transactions that began before this event may lack some, and why.
    from: u64,
    why: Option<Error>,
    /// Rows that were changed.
    changed: Vec<Row>,
    /// How many events each transaction has.
    counts: BTreeMap<String, usize>,
}

impl Reliable {
    pub(super) fn of(rows: Vec<Row>, head: Option<Head>) -> Reliable {
        let mut reliable = Reliable::default();
        let hash_of = |seq: u64| rows.iter().rev().find(|row| row.seq == seq).map(|row| row.hash);
        let end = check_end(rows.last(), head, hash_of);
        let mut last: Option<(u64, Hash)> = None;
        for row in rows {
            *reliable.counts.entry(row.tx.clone()).or_default() += 1;
            let continues = last.map_or((1, Hash::ZERO), |(seq, hash)| (seq + 1, hash)) == (row.seq, row.previous);
            last = Some((row.seq, row.hash));
            if !continues {
                reliable.from = row.seq;
                reliable.why =
                    Some(damaged(format!("event {} of `{}` does not continue what stands before it", row.seq, row.tx)));
            }
            if row.check().is_err() {
                reliable.changed.push(row);
            }
        }
        if let Err(why) = end {
            (reliable.from, reliable.why) = (u64::MAX, Some(why));
        }
        reliable
    }

    /// Whether these are all events of `tx`.
    pub(super) fn vouch(&self, tx: &str, rows: &[Row]) -> Result<()> {
        // Of one that has no event it is not known when it began.
        let first = rows.first().map_or(0, |first| first.seq);
        if let Some(why) = self.why.as_ref().filter(|_| first < self.from) {
            return Err(why.clone());
        }
        if let Some(row) = self.changed.iter().find(|row| row.was_of(tx)) {
            return Err(damaged(format!("event {} of `{tx}` was changed: its hash is not right", row.seq)));
        }
        // Others may have added some since.
        let all = self.counts.get(tx).copied().unwrap_or_default();
        if rows.len() < all {
            return Err(damaged(format!("{} of the {all} events of `{tx}` are not found", all - rows.len())));
        }
        Ok(())
    }
}

/// Whether `rows`, in order of their numbers, are a whole chain that ends where `head` says.
pub(super) fn verify(rows: &[Row], head: Option<Head>) -> Result<Verified> {
    let mut last: Option<&Row> = None;
    for row in rows {
        let (expected, previous) = last.map_or((1, Hash::ZERO), |last| (last.seq + 1, last.hash));
        if row.seq != expected {
            let gone = match row.seq - 1 {
                end if end == expected => format!("event {expected} was removed"),
                end => format!("events {expected} to {end} were removed"),
            };
            return Err(damaged(format!("{gone}: the next one is event {} of `{}`", row.seq, row.tx)));
        }
        if row.hash_at(row.seq) != row.hash {
            let moved = rows.iter().map(|other| other.seq).find(|seq| row.hash_at(*seq) == row.hash);
            return Err(match moved {
                Some(from) => {
                    damaged(format!("events were reordered: event {} of `{}` was event {from}", row.seq, row.tx))
                }
                None => damaged(format!("event {} of `{}` was changed: its hash is not right", row.seq, row.tx)),
            });
        }
        if row.previous != previous {
            return Err(damaged(format!(
                "event {} of `{}` does not continue what stands before it: one of the two was replaced",
                row.seq, row.tx
            )));
        }
        last = Some(row);
    }
    check_end(last, head, |seq| {
        usize::try_from(seq).ok().and_then(|seq| rows.get(seq.checked_sub(1)?)).map(|row| row.hash)
    })?;
    let transactions: BTreeSet<&str> = rows.iter().map(|row| row.tx.as_str()).collect();
    Ok(Verified {
        events: rows.len() as u64,
        transactions: transactions.len() as u64,
        last: last.map_or(Hash::ZERO, |last| last.hash),
    })
}

/// Whether the journal ends where `head` says; `hash_of` reads the hash of an event. The head may be one event
/// behind: the machine may have died between the two writes.
pub(super) fn check_end(
    last: Option<&Row>,
    head: Option<Head>,
    hash_of: impl FnOnce(u64) -> Option<Hash>,
) -> Result<()> {
    let end = last.map_or(0, |last| last.seq);
    let of = last.map_or(String::new(), |last| format!(" of `{}`", last.tx));
    let Some(head) = head else {
        return match end {
            0 | 1 => Ok(()),
            _ => Err(damaged("the file `journal.head` is missing").hint(head::MEND)),
        };
    };
    if head.seq > end {
        return Err(damaged(match end {
            0 => format!("all its {} events were removed", head.seq),
            _ => format!("it was cut off: it ends with event {end}{of}, and there were {}", head.seq),
        }));
    }
    if head.seq + 1 < end {
        return Err(damaged(format!("the file `journal.head` is of event {}, and the last is {end}{of}", head.seq)));
    }
    if head.seq > 0 && hash_of(head.seq) != Some(head.hash) {
        return Err(damaged(format!("event {} is not the one whose hash is in `journal.head`", head.seq)));
    }
    Ok(())
}
