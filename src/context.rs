//! What a kind is given to work with: variables, programs, the store, the task's log, its peers.
//!
//! A [`Context`] is made by the engine for one task and lives as long as it. Kinds see nothing else of the
//! transaction, so that a recovered task cannot be told from a live one.

pub mod run;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use crate::check::Finding;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::plan::Scope;
use crate::resource::Resource;
use crate::store::{Replaced, Stamps, Store};
use crate::sys::process::{Exit, Log};
use crate::sys::signal::Stop;
use crate::tx::Unit;

/// Which way the transaction goes; commands get it as `TXUPGRADE_DIRECTION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the new world.
    Forward,
    /// Towards the old one.
    Backward,
}

/// What one task works with.
pub struct Context<'a> {
    /// The transaction, as text (`notes-3`); in commands that have none (`plan`), the plan's name.
    pub tx: String,
    /// The instance this task is about: `code`, `db@2`.
    pub subject: String,
    /// Where it is going.
    pub direction: Direction,
    /// The variables of this instance at this moment (`each`, `version` … included).
    pub scope: Scope,
    /// The version stamp: what was found at begin, if the plan says how to read it.
    pub version: Option<String>,
    /// A directory of this transaction, removed at its end.
    pub scratch: PathBuf,
    /// A directory of this process inside the state directory, for anything transient; swept when the process is gone.
    pub tmp: PathBuf,
    /// Paths inside this task's resource that belong to others (inner resources), to be left alone.
    pub left_out: Vec<PathBuf>,
    /// Paths in what a step replaces that stay as they are, because nothing captured them (absolute, as claimed).
    pub kept: Vec<PathBuf>,
    /// Whether the times of files tell what has not changed since the capture.
    pub stamps: Stamps,
    /// What becomes of what a restore replaces.
    pub replaced: Replaced,
    /// What this quiesce had found before it stopped anything.
    pub units: Vec<Unit>,
    /// The state directory.
    pub state: PathBuf,
    /// Where objects are kept.
    pub store: &'a Store,
    /// Where the output of programs goes.
    pub log: &'a Log,
    /// Whether somebody wants it to stop.
    pub stop: &'a Stop,
    /// Who is told.
    pub monitor: Arc<dyn Monitor>,
    /// The other entries of the plan.
    pub peers: &'a dyn Peers,
    /// What the task's programs printed so far (bounded); an `expect` is judged on it.
    pub said: RefCell<String>,
}

/// The other entries of the plan, by name.
pub trait Peers {
    /// Resources called `reference` (`db`, `db@line`, `db@*`), each with its instance's scope. None is an error.
    fn resources(&self, reference: &str) -> Result<Vec<(String, Scope, &dyn Resource)>>;
    /// Asks the checks called `reference` until they pass or their `within` is over; the first that does not pass is returned.
    fn ask(&self, reference: &str, cx: &Context<'_>) -> Result<Finding>;
}

/// How a command of the plan ended, and what it said.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its end.
    pub exit: Exit,
    /// Its output, stdout and stderr together, at most the first and last 32 MiB of it. For judging: secrets are in
    /// it, and what is shown or kept of it goes through [`Log::masked`].
    pub text: String,
    /// How it is shown to people, secrets left out.
    pub shown: String,
}

/// What a command's `timeout` is when the plan does not say.
pub mod default_timeout {
    use std::time::Duration;
    /// Checks.
    pub const CHECK: Duration = Duration::from_secs(30);
    /// Quiesces, resumes and undos.
    pub const QUIESCE: Duration = Duration::from_secs(300);
    /// Steps, dumps and loads.
    pub const STEP: Duration = Duration::from_secs(3600);
}

impl Context<'_> {
    /// The names in `references`, variables (`db@${each}`) filled in.
    pub fn references(&self, references: &[String]) -> Result<Vec<String>> {
        let filled =
            |text: &String| crate::plan::Template::parse(text).map_err(crate::error::Error::new)?.expand(&self.scope);
        references.iter().map(filled).collect()
    }

    /// Whether to go on: on the way forward a signal ends the work at hand (`Fault::Signal`); on the way back it is only noted.
    pub fn go_on(&self) -> Result<()> {
        match self.stop.signal() {
            Some(signal) if self.direction == Direction::Forward => {
                Err(crate::error::Error::new(format!("interrupted by signal {signal}"))
                    .fault(crate::error::Fault::Signal(signal)))
            }
            _ => Ok(()),
        }
    }

    /// The same context for another instance of an entry.
    pub fn with_scope(&self, scope: Scope) -> Context<'_> {
        Context {
            tx: self.tx.clone(),
            subject: self.subject.clone(),
            direction: self.direction,
            scope,
            version: self.version.clone(),
            scratch: self.scratch.clone(),
            tmp: self.tmp.clone(),
            left_out: self.left_out.clone(),
            kept: Vec::new(),
            stamps: self.stamps,
            replaced: self.replaced,
            units: Vec::new(),
            state: self.state.clone(),
            store: self.store,
            log: self.log,
            stop: self.stop,
            monitor: Arc::clone(&self.monitor),
            peers: self.peers,
            said: RefCell::new(String::new()),
        }
    }
}
