//! `apply`: run the plan's steps.

use clap::Args;

use super::exit::Asked;
use super::{Answer, Cx, exit};
use crate::error::{Error, Result};
use crate::name::TxId;
use crate::ops;

/// Run the steps of an open transaction
///
/// Afterwards the transaction is still open: `commit` keeps it, `rollback` puts everything back. When a step fails
/// everything is put back at once, unless the plan says to hold; after a hold, `apply` runs the failed step again.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[
        exit::DONE, exit::FAILED, exit::USAGE, exit::ROLLED_BACK, exit::UNSOUND, exit::STUCK, exit::LOCKED,
        exit::WAITING, exit::INTERRUPTED, exit::TERMINATED,
    ],
    &["txupgrade apply", "txupgrade apply notes-3 --skip migrate"],
))]
pub(super) struct Apply {
    /// The transaction, such as notes-3 [default: the one open transaction]
    #[arg(value_parser = tx)]
    tx: Option<TxId>,
    /// This step was done by hand
    #[arg(long, value_name = "STEP")]
    skip: Vec<String>,
}

/// A transaction on the command line.
pub(super) fn tx(text: &str) -> Result<TxId, String> {
    text.parse().map_err(|error: Error| [vec![error.statement], error.hints].concat().join("; "))
}

impl Apply {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let standing = ops::apply(&cx.acting(), self.tx.as_ref(), &self.skip)?;
        Ok(cx.stands(Asked::Apply, &standing, None))
    }
}
