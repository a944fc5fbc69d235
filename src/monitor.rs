//! Who is told what happens while it happens: a terminal, JSON lines, a test, nobody.

use crate::error::Error;
use crate::name::TxId;

/// Listens to a transaction. Nothing it does can fail the transaction: a closed terminal is no reason to stop.
pub trait Monitor: Send + Sync {
    /// A task begins. `task` reads like `capture code`.
    fn started(&self, tx: &TxId, task: &str);
    /// A task ended well; `note` is what a person would like to know of it, or empty.
    fn succeeded(&self, tx: &TxId, task: &str, note: &str);
    /// A task failed.
    fn failed(&self, tx: &TxId, task: &str, failure: &Error);
    /// Something happened to the transaction as a whole, in one line: it turned back, waits, ended.
    fn said(&self, tx: &TxId, line: &str);
    /// Something a person should know and that stops nothing.
    fn warn(&self, line: &str);
    /// How far the work at hand has come. `total` is 0 where it is not known; units are bytes.
    fn progress(&self, what: &str, done: u64, total: u64);
    /// A line of a program's output, secrets already masked (shown with `-v`).
    fn output(&self, line: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Monitor for Silent {
    fn started(&self, _: &TxId, _: &str) {}
    fn succeeded(&self, _: &TxId, _: &str, _: &str) {}
    fn failed(&self, _: &TxId, _: &str, _: &Error) {}
    fn said(&self, _: &TxId, _: &str) {}
    fn warn(&self, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: u64) {}
    fn output(&self, _: &str) {}
}
