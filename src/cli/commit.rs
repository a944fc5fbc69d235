//! `commit`: resume, verify, keep.

use clap::Args;

use super::apply::tx;
use super::exit::Asked;
use super::run::Waiting;
use super::{Answer, Cx, exit};
use crate::error::Result;
use crate::name::TxId;
use crate::ops::{self, StepsDone};

/// Resume and verify; then the transaction is committed, or it turns back
///
/// Starts again what was stopped and asks the checks. Steps of the plan that have not run are named and nothing is
/// done; `--steps-done` records them as done by hand.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[
        exit::DONE, exit::FAILED, exit::USAGE, exit::ROLLED_BACK, exit::UNSOUND, exit::STUCK, exit::LOCKED,
        exit::WAITING, exit::INTERRUPTED, exit::TERMINATED,
    ],
    &["txupgrade commit", "txupgrade commit shop-1 --steps-done"],
))]
pub(super) struct Commit {
    /// The transaction, such as notes-3 [default: the one open transaction]
    #[arg(value_parser = tx)]
    tx: Option<TxId>,
    /// The steps that have not run were done by hand
    #[arg(long)]
    steps_done: bool,
    #[command(flatten)]
    wait: Waiting,
}

impl Commit {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let steps = if self.steps_done { StepsDone::ByHand } else { StepsDone::AsJournaled };
        let standing = ops::commit(&cx.acting(), self.tx.as_ref(), steps, self.wait.wait())?;
        Ok(cx.stands(Asked::Commit, &standing, None))
    }
}
