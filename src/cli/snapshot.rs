//! `snapshot`: capture only.

use std::path::PathBuf;

use clap::Args;

use super::exit::Asked;
use super::run::Set;
use super::{Answer, Cx, exit};
use crate::error::Result;
use crate::ops::{self, Proof};

/// Capture a plan's resources only, as a transaction of its own
///
/// Stops what writes, captures every resource, starts everything again. The transaction ends committed, and
/// `rollback` returns to it.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[
        exit::DONE, exit::FAILED, exit::USAGE, exit::UNSOUND, exit::STUCK, exit::OVERLAP, exit::LOCKED,
        exit::INTERRUPTED, exit::TERMINATED,
    ],
    &["txupgrade snapshot notes.toml", "txupgrade rollback notes-4"],
))]
pub(super) struct Snapshot {
    /// The plan's file
    plan: PathBuf,
    #[command(flatten)]
    set: Set,
    /// Read everything back, and load databases somewhere and compare
    #[arg(long)]
    prove: bool,
}

impl Snapshot {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let prove = if self.prove { Proof::Asked } else { Proof::NotAsked };
        let standing = ops::snapshot(&cx.acting(), &self.plan, &self.set.values(), prove)?;
        Ok(cx.stands(Asked::Commit, &standing, None))
    }
}
