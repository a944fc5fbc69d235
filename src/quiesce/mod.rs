//! What is stopped before capture and resumed on every path. One file per kind, one line in [`KINDS`].

mod command;
mod service;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::context::Context;
use crate::error::Result;
use crate::plan::{Fields, Scope};
use crate::tx::Output;

/// A kind of quiesce.
pub struct Kind {
    /// What `kind = "…"` says.
    pub name: &'static str,
    /// Reads the kind's keys; mistakes go to the report of `fields`.
    pub read: fn(&mut Fields) -> Box<dyn Quiesce>,
}

/// Every kind there is.
pub const KINDS: &[Kind] = &[command::KIND, service::KIND];

/// Something that can be stopped and started again.
pub trait Quiesce: Send + Sync {
    /// What it will do, in one line each for `plan`: stopping and resuming.
    fn describe(&self, scope: &Scope) -> (String, String);

    /// How long stopping and resuming may take before they are ended and count as failed.
    fn time_limits(&self) -> (Option<Duration>, Option<Duration>) {
        (None, None)
    }

    /// Whether it has to know how things were before it stops them.
    fn remembers(&self) -> bool {
        false
    }

    /// How things are; asked before anything is touched, and journaled. Its units are in the context of every quiesce
    /// and resume of the transaction.
    fn remember(&self, _cx: &Context<'_>) -> Result<Output> {
        Ok(Output::default())
    }

    /// Stops what writes. Repeatable.
    fn quiesce(&self, cx: &Context<'_>) -> Result<Output>;

    /// Starts it again. Repeatable.
    fn resume(&self, cx: &Context<'_>) -> Result<Output>;

    /// What no two open transactions may have in common (`unit notes.service`).
    fn claims(&self, _cx: &Context<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
