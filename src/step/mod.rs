//! What changes the system. One file per kind, one line in [`KINDS`].

use std::path::PathBuf;
use std::time::Duration;

mod check;
mod command;
mod replace;
mod sql;
#[cfg(test)]
mod tests;
mod wait;

use crate::context::Context;
use crate::error::Result;
use crate::plan::{Fields, Scope};
use crate::tx::Output;

/// A kind of step.
pub struct Kind {
    /// What `kind = "…"` says.
    pub name: &'static str,
    /// Reads the kind's keys; mistakes go to the report of `fields`.
    pub read: fn(&mut Fields) -> Box<dyn Step>,
}

/// Every kind there is.
pub const KINDS: &[Kind] = &[check::KIND, command::KIND, replace::KIND, sql::KIND, wait::KIND];

/// Something that changes the system.
pub trait Step: Send + Sync {
    /// What it will do, in one line for `plan` (`run notes migrate`, `replace /opt/notes with notes-2.0.tar.zst`).
    fn describe(&self, scope: &Scope) -> String;

    /// How long it may take before it is ended and counts as failed; `None` where nothing limits it.
    fn time_limit(&self) -> Option<Duration> {
        None
    }

    /// Whether it can be done at all; asked after the prepare steps and before anything is quiesced.
    fn require(&self, _cx: &Context<'_>) -> Result<Output> {
        Ok(Output::default())
    }

    /// Does it.
    fn run(&self, cx: &Context<'_>) -> Result<Output>;

    /// Whether it brings an undo of its own; shown by `plan`.
    fn has_undo(&self) -> bool {
        false
    }

    /// Whether its undo touches files and nothing else: then it is taken back while the machine boots, before any server
    /// is up.
    fn undo_is_files(&self) -> bool {
        false
    }

    /// Whether that undo still has something to do once the transaction has ended and its side copies are gone.
    fn undo_lasts(&self) -> bool {
        self.has_undo()
    }

    /// Takes it back, also when it was interrupted half-way or failed. Without an undo of its own: nothing.
    fn undo(&self, _cx: &Context<'_>) -> Result<Output> {
        Ok(Output::default())
    }

    /// Paths that it replaces whole: claimed, and what is in them must be captured or carried.
    fn replaces(&self, _cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// Side copies that it may have left, to be removed once the transaction's end is durable.
    fn leftovers(&self, _cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// What it needs free, and where.
    fn room(&self, _cx: &Context<'_>) -> Result<Vec<Room>> {
        Ok(Vec::new())
    }

    /// Side copies that nothing needs any more once it has been undone: they go early where there is no room.
    fn spent(&self, _cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// Room on a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// A place on it.
    pub path: PathBuf,
    /// How many bytes.
    pub bytes: u64,
    /// For how many files.
    pub files: u64,
}
