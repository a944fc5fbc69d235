//! `keep-watch`: what turns a transaction back that nobody confirms. Started by txupgrade itself, not by people.

use clap::Args;
use serde_json::json;

use super::apply::tx;
use super::{Answer, Cx, exit, json};
use crate::error::Result;
use crate::name::TxId;
use crate::ops;

/// Turn a transaction back when its time to be confirmed is over
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct KeepWatch {
    #[arg(value_parser = tx)]
    tx: TxId,
}

impl KeepWatch {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        ops::keep_until_due(&cx.acting(), &self.tx)?;
        Ok(Answer {
            json: json::object("kept", exit::DONE, json!({})),
            data: String::new(),
            talk: String::new(),
            exit: exit::DONE,
        })
    }
}
