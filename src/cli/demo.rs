//! `demo`: a real upgrade of a small application in a scratch directory.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Answer, Cx, exit, json};
use crate::error::Result;
use crate::ops::{self, Keep};

/// Upgrade a small real application in a scratch directory
///
/// A web application with a configuration file and a database is upgraded and committed; then a release whose
/// migration breaks half-way is tried, and rolled back. It needs Python 3 and nothing else.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(&[exit::DONE, exit::FAILED, exit::USAGE], &["txupgrade demo --keep"]))]
pub(super) struct Demo {
    /// Where to; an empty directory or one that is not there yet [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the directory and the running application there, to try commands on
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let keep = if self.keep { Keep::Yes } else { Keep::No };
        ops::demo(&cx.acting(), self.dir.as_deref(), keep)?;
        Ok(Answer { json: json::object("demo", exit::DONE, json!({})), data: String::new(), talk: String::new(), exit: exit::DONE })
    }
}
