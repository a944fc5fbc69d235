//! `confirm`: keep what would be taken back.

use clap::Args;

use super::apply::tx;
use super::exit::Asked;
use super::{Answer, Cx, exit};
use crate::error::Result;
use crate::name::TxId;
use crate::ops;

/// Keep what `confirm_within` would take back
///
/// A plan with `confirm_within` commits only when it is told in time that the new version is good; without that it
/// turns back. A confirmation that comes too late is refused.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::ROLLED_BACK, exit::UNSOUND, exit::STUCK, exit::LOCKED],
    &["txupgrade confirm", "txupgrade confirm notes-3"],
))]
pub(super) struct Confirm {
    /// The transaction, such as notes-3 [default: the one open transaction]
    #[arg(value_parser = tx)]
    tx: Option<TxId>,
}

impl Confirm {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let standing = ops::confirm(&cx.acting(), self.tx.as_ref())?;
        Ok(cx.stands(Asked::Commit, &standing, None))
    }
}
