//! `diff`: how the live resources differ from a snapshot.

use clap::Args;
use serde_json::json;

use super::apply::tx;
use super::differences::{self, Sense};
use super::ui::Paint;
use super::{Answer, Cx, exit, json};
use crate::error::Result;
use crate::name::TxId;
use crate::ops::{self, Patch, ResourceDiff};

/// Show how the live resources differ from the snapshot of a transaction
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::DAMAGE, exit::DIFFERENT],
    &["txupgrade diff", "txupgrade diff notes-3 --patch"],
))]
pub(super) struct Diff {
    /// The transaction, such as notes-3 [default: the open one, else the last]
    #[arg(value_parser = tx)]
    tx: Option<TxId>,
    /// Show what changed inside text files
    #[arg(long, short)]
    patch: bool,
}

impl Diff {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let patch = if self.patch { Patch::Shown } else { Patch::NotShown };
        let diffs = ops::diff(&cx.looking(), self.tx.as_ref(), patch)?;
        Ok(answer(&diffs, cx.ui.out))
    }
}

pub(super) fn answer(diffs: &[ResourceDiff], paint: Paint) -> Answer {
    let differs = diffs.iter().any(|diff| !diff.changes.is_empty());
    let exit = if differs { exit::DIFFERENT } else { exit::DONE };
    let mut data = String::new();
    for diff in diffs.iter().filter(|diff| !diff.changes.is_empty()) {
        data.push_str(&differences::render(&diff.resource, &diff.changes, Sense::Since, paint));
        for (path, patch) in &diff.patches {
            data.push_str(&differences::patch(path, patch, paint));
        }
    }
    let resources: Vec<_> = diffs
        .iter()
        .map(|diff| {
            let patches: Vec<_> =
                diff.patches.iter().map(|(path, patch)| json!({ "path": path, "patch": patch })).collect();
            json!({ "resource": diff.resource, "changes": json::items(&diff.changes), "patches": patches })
        })
        .collect();
    let talk = if differs { String::new() } else { "nothing differs from the snapshot\n".to_owned() };
    Answer { json: json::object("diff", exit, json!({ "resources": resources })), data, talk, exit }
}
