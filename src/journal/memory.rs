//! The journal's twin in memory: the same rows, the same chain, the same refusals, no disk.

use std::collections::BTreeSet;

use super::chain::{self, Row};
use super::head::Head;
use super::{Journal, Recorded, Verified, claims, decode, encode, next_number};
use crate::error::Result;
use crate::name::{Name, TxId};
use crate::sys::clock;
use crate::tx::{Begun, Event};

/// A journal that is gone when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    pub(super) rows: Vec<Row>,
    head: Option<Head>,
}

impl MemoryJournal {
    /// An empty one.
    pub fn new() -> MemoryJournal {
        MemoryJournal::default()
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, tx: &TxId, event: &Event) -> Result<()> {
        let last = self.rows.last();
        if let Some(last) = last {
            last.check()?;
        }
        chain::check_end(last, self.head, |_| last.map(|last| last.hash))?;
        let row = Row::after(last, tx.to_string(), clock::now(), encode(event));
        self.head = Some(Head::from(&row));
        self.rows.push(row);
        Ok(())
    }

    fn events(&self, tx: &TxId) -> Result<Vec<Recorded>> {
        let tx = tx.to_string();
        self.rows.iter().filter(|row| row.tx == tx).map(decode).collect()
    }

    fn transactions(&self) -> Result<Vec<TxId>> {
        let mut seen = BTreeSet::new();
        self.rows.iter().filter(|row| seen.insert(&row.tx)).map(|row| row.tx.parse()).collect()
    }

    fn unfinished(&self) -> Result<Vec<TxId>> {
        let mut open = self.transactions()?;
        for row in &self.rows {
            if let Recorded { tx, event: Event::Ended { .. }, .. } = decode(row)? {
                open.retain(|other| *other != tx);
            }
        }
        Ok(open)
    }

    fn begin(&mut self, plan: &Name, begun: &Begun) -> Result<TxId> {
        let mut open = Vec::new();
        for tx in self.unfinished()? {
            if let Some(Recorded { event: Event::Begun(begun), .. }) = self.events(&tx)?.into_iter().next() {
                open.push((tx, *begun));
            }
        }
        claims::refuse_overlap(plan, begun, &open)?;
        let number = next_number(plan, self.transactions()?.iter());
        let tx = TxId { plan: plan.clone(), number };
        self.append(&tx, &Event::Begun(Box::new(begun.clone())))?;
        Ok(tx)
    }

    fn verify(&self) -> Result<Verified> {
        chain::verify(&self.rows, self.head)
    }
}
