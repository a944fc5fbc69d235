//! `begin`: capture and prove, and leave the transaction open.

use std::path::PathBuf;

use clap::Args;

use super::exit::Asked;
use super::run::{Accepted, Set};
use super::{Answer, Cx, exit};
use crate::error::{Error, Fault, Result};
use crate::name::Name;
use crate::ops::{self, BeginRequest, Wait};
use crate::tx::Goal;

/// Require, quiesce, capture, prove; leave the transaction open
///
/// Afterwards everything is captured and proved, and what writes is stopped. Do the upgrade by hand, or let `apply`
/// run the plan's steps; then `commit` keeps it and `rollback` puts everything back.
///
/// With `--name` no plan file is needed: each KIND=VALUE is something to capture (`path=`, `sqlite=`), to stop
/// (`service=`) or to check (`http=`). The plan that this makes is kept, or written to `--save FILE`.
#[derive(Debug, Args)]
#[command(
    override_usage = "txupgrade begin [OPTIONS] PLAN\n       txupgrade begin [OPTIONS] --name NAME KIND=VALUE...",
    after_long_help = exit::help(
        &[
            exit::DONE, exit::FAILED, exit::USAGE, exit::ROLLED_BACK, exit::UNSOUND, exit::STUCK, exit::OVERLAP,
            exit::LOCKED, exit::INTERRUPTED, exit::TERMINATED,
        ],
        &["txupgrade begin notes.toml", "txupgrade begin --name shop path=/etc/shop sqlite=/var/lib/shop.db"],
    ),
)]
pub(super) struct Begin {
    /// The plan's file, or what to make a plan of
    #[arg(required = true, value_name = "PLAN|KIND=VALUE")]
    what: Vec<String>,
    /// Make a plan of this name from KIND=VALUE…
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<Name>,
    /// Write the plan that was made to this file, which must not be there yet
    #[arg(long, value_name = "FILE", requires = "name")]
    save: Option<PathBuf>,
    #[command(flatten)]
    set: Set,
    #[command(flatten)]
    accept: Accepted,
}

fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error: Error| [vec![error.statement], error.hints].concat().join("; "))
}

impl Begin {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let plan = match &self.name {
            Some(name) => ops::write_ad_hoc(&cx.looking(), name, &self.what, self.save.as_deref())?,
            None => self.plan_file()?,
        };
        let request = BeginRequest {
            plan: plan.clone(),
            set: self.set.values(),
            accept: self.accept.by(&cx.ui),
            goal: Goal::Captured,
            wait: Wait::No,
        };
        let standing = ops::run(&cx.acting(), request)?;
        Ok(cx.stands(Asked::Capture, &standing, None))
    }

    fn plan_file(&self) -> Result<PathBuf> {
        match self.what.as_slice() {
            [plan] if !plan.contains('=') || PathBuf::from(plan).exists() => Ok(PathBuf::from(plan)),
            what if what.iter().any(|word| word.contains('=')) => {
                Err(Error::new("a plan made of KIND=VALUE needs a name")
                    .hint(format!("`txupgrade begin --name NAME {}`", what.join(" ")))
                    .fault(Fault::Usage))
            }
            what => Err(Error::new(format!("one plan is begun at a time, and these are {}", what.len()))
                .hint("`txupgrade run` carries out several, one after the other")
                .fault(Fault::Usage)),
        }
    }
}
