//! One file per verb; returns data, prints nothing.

mod ad_hoc;
mod begin;
mod carry_on;
pub mod demo;
mod diff;
mod history;
mod install;
mod keep;
mod keeper;
mod log;
pub mod look;
mod office;
mod plan;
mod recover;
mod reopen;
mod rollback;
mod schema;
mod show;
mod standing;
mod status;
pub mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::monitor::Monitor;
use crate::name::TxId;
use crate::sys::signal::Stop;
use crate::tx::{Outcome, Reason, TaskId};

/// Where a command works, and who listens.
#[derive(Clone)]
pub struct Site {
    /// The state directory.
    pub dir: PathBuf,
    /// Who is told what happens.
    pub monitor: Arc<dyn Monitor>,
    /// Whether a signal came.
    pub stop: Stop,
}

/// Where a transaction stands after a verb has acted on it. Read from its folded state and nothing else.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Which.
    pub tx: TxId,
    /// How it stands.
    pub place: Place,
    /// The committed transactions that it undoes.
    pub undoes: Vec<String>,
    /// Why it turned back, if it did.
    pub reason: Option<Reason>,
    /// The first failure, never hidden by a later one.
    pub failure: Option<(TaskId, Error)>,
    /// Failures after the first, those only noted included.
    pub others: Vec<(TaskId, Error)>,
    /// Warnings that tasks returned.
    pub warnings: Vec<String>,
    /// From which version.
    pub from: Option<String>,
    /// To which.
    pub to: Option<String>,
    /// From begin until now.
    pub took: Duration,
    /// How long what was quiesced was down, where anything was.
    pub downtime: Option<Duration>,
    /// The quiesces that are not known to be up, outermost first.
    pub down: Vec<Down>,
}

/// A quiesce that is not known to be up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Its name.
    pub quiesce: String,
    /// The units that were up before it; none where it does not deal in units.
    pub units: Vec<String>,
}

/// The places where a transaction can stand still.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// It has ended. For `RolledBack`, `unsound` lists the rechecks that do not pass, and what nothing takes back.
    Ended {
        /// How.
        outcome: Outcome,
        /// Rechecks that do not pass; steps, and undos of an undoing, that nothing takes back.
        unsound: Vec<TaskId>,
    },
    /// Captured, open: its operator works.
    Captured,
    /// Every step has run, open.
    Applied,
    /// A task failed and the plan says to hold.
    OnHold {
        /// Which.
        task: TaskId,
    },
    /// Verified; waits for `confirm`.
    Unconfirmed {
        /// Until when, by the wall clock as it is now; RFC 3339.
        until: String,
        /// How long that is; `None` when it is over and nobody has taken it back yet.
        left: Option<Duration>,
    },
    /// Something on the way back could not be done.
    Stuck {
        /// The first that failed.
        task: TaskId,
        /// What is restored.
        restored: Vec<TaskId>,
        /// What is not.
        not_restored: Vec<TaskId>,
    },
    /// Its process is gone and nobody has taken over; `recover` will.
    Abandoned,
    /// Another process is at work on it.
    Running,
}

/// Whether a verb waits for a confirmation that it is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It ends at once.
    No,
    /// It waits until the transaction is settled.
    UntilSettled,
}

/// Whether steps that have not run were done by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepsDone {
    /// What the journal says.
    AsJournaled,
    /// The operator did them.
    ByHand,
}

/// How far a rollback of a committed transaction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Only the named transaction.
    OnlyThis,
    /// Later ones on the same resources first.
    Later,
}

/// Whether `recover` is run while the machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtBoot {
    /// Everything is up that will be: all is settled.
    No,
    /// Nothing is up yet: files are put back, and the rest is left for later.
    Yes,
}

/// What `release` does with what is kept down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    /// Resumes it.
    Resume,
    /// Leaves it down.
    LeaveDown,
}

/// Whether `diff` shows the text of what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// Names only.
    NotShown,
    /// Unified diffs.
    Shown,
}

pub use crate::engine::Proof;
pub use ad_hoc::write_ad_hoc;
pub use begin::{Accept, AskNotice, BeginRequest, run, snapshot};
pub use carry_on::{apply, commit, confirm};
pub use diff::{ResourceDiff, diff};
pub use history::{History, Past, Verify, history};
pub use install::install;
pub use keeper::keep_until_due;
pub use log::{Listener, LogFile, Logs, follow, log};
pub use plan::{Forecast, ForecastTask, plan};
pub use recover::{recover, release};
pub use rollback::{
    RollbackOptions, RollbackPreview, Undoing, prove_rollback, rollback, rollback_of, rollback_preview,
};
pub use schema::{SCHEMAS, schema};
pub use show::{Happening, Moment, Shown, show};
pub use status::{Open, status};
