//! `release`: a stuck transaction is settled by hand.

use clap::{ArgGroup, Args};
use serde_json::json;

use super::apply::tx;
use super::exit::Asked;
use super::{Answer, Cx, exit, json, report};
use crate::error::Result;
use crate::name::TxId;
use crate::ops::{self, Services};

/// Declare a stuck transaction settled by hand
///
/// For when something could not be restored and you have mended it yourself. Nothing is restored or deleted; the
/// displaced copies stay and are listed. Say whether what is still stopped is to be started.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("services").required(true).args(["resume", "leave_down"]),
    after_long_help = exit::help(
        &[exit::DONE, exit::FAILED, exit::USAGE, exit::LOCKED],
        &["txupgrade release notes-3 --resume"],
    ),
)]
pub(super) struct Release {
    /// The transaction, such as notes-3
    #[arg(value_parser = tx)]
    tx: TxId,
    /// Start again what was stopped
    #[arg(long)]
    resume: bool,
    /// Leave down what is down
    #[arg(long)]
    leave_down: bool,
}

impl Release {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let services = if self.leave_down { Services::LeaveDown } else { Services::Resume };
        let (standing, copies) = ops::release(&cx.acting(), &self.tx, services)?;
        let mut answer = cx.stands(Asked::Release, &standing, None);
        answer.talk.push_str(&report::displaced(&copies, cx.ui.err));
        let copies: Vec<_> = copies.iter().map(|copy| copy.to_string_lossy()).collect();
        let mut fields = json::stands(&standing);
        fields["displaced"] = json!(copies);
        answer.json = json::object("released", answer.exit, fields);
        Ok(answer)
    }
}
