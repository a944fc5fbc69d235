//! The one loop: ask the state what is next, journal the intent, act, journal the end.
//!
//! Run, rollback and recovery differ in nothing but the events that were journaled before the loop is entered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ledger::{Ledger, shut_down};
use super::world::World;
use crate::error::{Error, Fault, Result};
use crate::journal::Journal;
use crate::name::TxId;
use crate::store::side_name;
use crate::sys::signal::Stop;
use crate::sys::{clock, files, hold, process, reserve, units};
use crate::tx::{Action, Boot, Event, Goal, Heading, Next, Reason, Runner, State, TaskId};

/// Drives one transaction.
pub struct Driver<'a> {
    pub(super) ledger: Ledger<'a>,
    pub(super) world: World<'a>,
    pub(super) stop: Stop,
}

/// Where the loop stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drove {
    /// There is nothing more to do now: it waits, is stuck, has ended, or needs what is not up yet.
    Settled,
    /// On the way back, a second signal asked to leave the rest to `recover`.
    LeftToRecover,
}

impl<'a> Driver<'a> {
    /// A driver for a transaction whose lock the caller holds; `state` is folded from all its events.
    pub fn new(journal: &'a mut dyn Journal, world: World<'a>, tx: TxId, state: State, stop: Stop) -> Driver<'a> {
        Driver { ledger: Ledger { journal, tx, state }, world, stop }
    }

    /// Where the transaction stands.
    pub fn state(&self) -> &State {
        &self.ledger.state
    }

    /// Which transaction it is.
    pub fn tx(&self) -> &TxId {
        &self.ledger.tx
    }

    /// Whether a signal came.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// What it acts in.
    pub fn world(&self) -> &World<'a> {
        &self.world
    }

    /// This process, as it is journaled.
    pub fn runner() -> Runner {
        let (pid, start, boot_id) = process::myself();
        Runner { pid, start, boot_id }
    }

    /// Journals an event, durably, and goes on from it. What could not be written down durably may be in the journal all the
    /// same (`Fault::Left`): only `recover`, which reads it anew, can tell.
    pub fn append(&mut self, event: Event) -> Result<()> {
        self.ledger.append(&self.world, event)
    }

    /// Takes over from a process that is gone: what it had under way is ended and noted as interrupted. Where it had
    /// nothing under way and the machine was not started anew, nothing is journaled.
    pub fn take_over(&mut self) -> Result<()> {
        self.end_what_is_under_way()?;
        self.wait_on_this_boot()
    }

    fn end_what_is_under_way(&mut self) -> Result<()> {
        let runner = Self::runner();
        let boot = if runner.boot_id == self.ledger.state.boot_id() { Boot::Same } else { Boot::Other };
        let tasks: Vec<TaskId> = self.ledger.state.under_way().cloned().collect();
        let task = tasks.first().cloned();
        if self.ledger.state.ended().is_some()
            || (task.is_none() && self.ledger.state.is_settled() && boot == Boot::Same)
        {
            return Ok(());
        }
        for task in &tasks {
            let ended = process::end_all(&self.world.logs(), &self.world.token(task))
                .map_err(|error| error.within(format!("cannot end what `{task}` has left running")))?;
            for (pid, command) in ended {
                self.world.ground.monitor.warn(&format!("ended process {pid} of `{task}`: {command}"));
            }
        }
        self.append(Event::Interrupted { task, boot, runner })
    }

    /// Carries the transaction on until it waits, is stuck or has ended.
    pub fn drive(&mut self) -> Result<Drove> {
        self.drive_through(|_, _, _| Ok(true))
    }

    /// The same as far as can be come while the machine boots, when no server is up.
    pub fn drive_early(&mut self) -> Result<Drove> {
        self.drive_through(World::is_early)
    }

    /// Carries it on until then, or until the first task that may not be run now. Where the machine is being shut down it
    /// is left as by a crash.
    fn drive_through(&mut self, may_run: impl Fn(&World<'a>, &State, &TaskId) -> Result<bool>) -> Result<Drove> {
        if !self.forward() {
            self.stop.reset();
        }
        loop {
            match self.ledger.state.next() {
                Next::Run(task) if !may_run(&self.world, &self.ledger.state, &task)? => return Ok(Drove::Settled),
                Next::Run(task) => {
                    if self.stop.count() > 0 && units::going_down() {
                        return Err(shut_down());
                    }
                    if self.forward() && self.ledger.state.can_turn_back() {
                        if let Some(number) = self.stop.signal() {
                            self.turn_back(Reason::Signal { number })?;
                            continue;
                        }
                    } else if self.stop.count() >= 2 {
                        return Ok(Drove::LeftToRecover);
                    }
                    match self.ledger.state.beside(&task) {
                        beside if beside.is_empty() => self.run(&task)?,
                        beside => self.run_together([vec![task], beside].concat())?,
                    }
                }
                Next::TurnBack(reason) => self.turn_back(reason)?,
                Next::GetStuck(task) => self.append(Event::Stuck { task })?,
                Next::Await => self.begin_to_wait()?,
                Next::Wait => return Ok(Drove::Settled),
                Next::End(outcome) => {
                    self.append(Event::Ended { outcome })?;
                    self.sweep();
                    return Ok(Drove::Settled);
                }
            }
        }
    }

    fn forward(&self) -> bool {
        *self.ledger.state.heading() == Heading::Forward
    }

    /// Turns back; signals that came until now have had their effect.
    pub fn turn_back(&mut self, reason: Reason) -> Result<()> {
        self.append(Event::TurnedBack { reason })?;
        self.stop.reset();
        Ok(())
    }

    /// Runs one task, and journals how it ended.
    pub fn run(&mut self, task: &TaskId) -> Result<()> {
        self.ledger.started(&self.world, task)?;
        if !self.forward() {
            // Whoever filled the disk must not keep programs and logs from the way back.
            reserve::give_if_scarce(self.world.ground.dir);
        }
        // On the way back, and once a finish step has begun, a signal is only noted.
        let stop = if self.forward() && self.ledger.state.can_turn_back() { self.stop.clone() } else { Stop::never() };
        let acted = self.world.act(task, &self.ledger.state, &stop);
        self.ledger.ended(&self.world, task, acted)
    }

    fn begin_to_wait(&mut self) -> Result<()> {
        let within = self.world.bound.policy.confirm_within.unwrap_or_default();
        self.append(awaiting(clock::after(within), within))
    }

    /// What remained at a reboot is journaled anew, so that on this boot no change of the wall clock moves it either.
    fn wait_on_this_boot(&mut self) -> Result<()> {
        let Some(before @ Event::Awaiting { until, boot_id, .. }) = self.ledger.state.awaiting() else { return Ok(()) };
        match remaining(before) {
            Some(left) if *boot_id != clock::boot_id() => self.append(awaiting(until.clone(), left)),
            _ => Ok(()),
        }
    }

    /// Turns back when the time to confirm is over. Nothing happens where it does not wait for that.
    pub fn turn_back_if_unconfirmed(&mut self) -> Result<()> {
        match self.ledger.state.awaiting().map(remaining) {
            Some(None) => self.turn_back(Reason::NotConfirmed),
            _ => Ok(()),
        }
    }

    /// Aims further, if the goal is not as far yet.
    pub fn aim(&mut self, goal: Goal) -> Result<()> {
        if self.ledger.state.goal() >= goal {
            return Ok(());
        }
        self.append(Event::Aimed { goal, runner: Self::runner() })
    }

    /// Removes what was only kept until the end. What cannot be removed is named; it fails nothing any more.
    pub fn sweep(&self) {
        let warn = |path: &PathBuf, error: Error| {
            self.world.ground.monitor.warn(&format!("cannot remove `{}`: {error}", path.display()));
        };
        let mut swept = true;
        for path in &self.world.leftovers() {
            if let Err(error) = files::remove_beside(path) {
                warn(path, error);
                swept = false;
            }
        }
        for error in self.world.sweep() {
            self.world.ground.monitor.warn(&error.to_string());
            swept = false;
        }
        if let Err(error) = clear_holds(self.world.ground.dir, &self.ledger.tx) {
            self.world.ground.monitor.warn(&error.to_string());
        }
        // The lock file that remains tells `recover` that the sweep was not finished.
        if !swept {
            return;
        }
        let lock = lock_path(self.world.ground.dir, &self.ledger.tx);
        if let Err(error) = std::fs::remove_file(&lock)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn(&lock, Error::new(error.to_string()));
        }
    }

    /// Resumes what is kept down, without ending anything: for `release --resume`.
    pub fn resume_released(&mut self) -> Result<()> {
        let down: Vec<TaskId> = self.ledger.state.kept_down().into_iter().rev().cloned().collect();
        for quiesce in down {
            let task = TaskId::new(Action::Resume, quiesce.subject);
            self.run(&task)?;
            if let Some((_, failure)) = self.ledger.state.failures().last().filter(|(failed, _)| *failed == task) {
                return Err(failure.clone().within(format!("cannot resume `{}`", task.subject)));
            }
        }
        Ok(())
    }
}

/// Removes what held units back for a transaction that has ended.
pub fn clear_holds(dir: &std::path::Path, tx: &TxId) -> Result<()> {
    let cleared = hold::Hold::new(dir, &tx.to_string()).clear();
    let known = cleared.map_err(|error| error.within(format!("cannot remove what held units back for `{tx}`")))?;
    match known {
        hold::Known::NotYet if units::is_here() => units::reload(),
        _ => Ok(()),
    }
}

/// The file that is locked while a process is at work on a transaction.
pub fn lock_path(dir: &std::path::Path, tx: &TxId) -> PathBuf {
    dir.join("locks").join(format!("{tx}.lock"))
}

fn awaiting(until: String, left: Duration) -> Event {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    Event::Awaiting { until, seconds, since_boot: clock::since_boot(), boot_id: clock::boot_id() }
}

/// How long an `Awaiting` transaction still waits; `None` when the time is over. On the boot on which that was
/// journaled, only the monotonic clock counts. After a reboot the wall clock is all there is; where it went back, the
/// time that there was is not exceeded.
pub fn remaining(awaiting: &Event) -> Option<Duration> {
    let Event::Awaiting { until, seconds, since_boot, boot_id } = awaiting else { return None };
    if *boot_id == clock::boot_id() {
        let waited = Duration::from_nanos(clock::since_boot().saturating_sub(*since_boot));
        return Duration::from_secs(*seconds).checked_sub(waited).filter(|left| !left.is_zero());
    }
    clock::until(until).map(|left| left.min(Duration::from_secs(*seconds)))
}

/// When that is over, as the wall clock goes now: it may have been set since.
pub fn until(awaiting: &Event) -> String {
    const JITTER: Duration = Duration::from_secs(2);
    let Event::Awaiting { until, .. } = awaiting else { return String::new() };
    match (remaining(awaiting), clock::until(until)) {
        (Some(left), by_clock) if by_clock.unwrap_or_default().abs_diff(left) > JITTER => clock::after(left),
        _ => until.clone(),
    }
}

impl World<'_> {
    /// Whether a task can be carried out while the machine boots: going back, all that comes before the first thing that
    /// needs a server; going forward only what stops what a boot may have started.
    fn is_early(&self, state: &State, task: &TaskId) -> Result<bool> {
        let back = *state.heading() != Heading::Forward;
        let files = |roots: &[PathBuf]| Ok(!roots.iter().any(|root| units::awaited_mount(root).is_some()));
        match task.action {
            Action::Quiesce => Ok(true),
            Action::Prove | Action::Diagnose => Ok(back),
            Action::Restore => match self.bound.resources.iter().position(|resource| resource.name == task.subject) {
                Some(index) if self.bound.resources[index].kind.is_files() => files(&self.paths[index]),
                _ => Ok(false),
            },
            Action::Undo => {
                let step = self.bound.steps.iter().find(|step| step.name == task.subject);
                match step.filter(|step| step.kind.undo_is_files()) {
                    Some(step) => {
                        let (log, stop) = (process::Log::transient()?, Stop::never());
                        let cx = self.context(&self.before(None), &step.name, step.line.as_deref(), &log, &stop);
                        files(&step.kind.replaces(&cx)?)
                    }
                    None => Ok(false),
                }
            }
            _ => Ok(false),
        }
    }

    /// What was only kept until the transaction's end.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let Ok(log) = process::Log::transient() else { return Vec::new() };
        let stop = Stop::never();
        let mut paths = vec![self.scratch()];
        for step in &self.bound.steps {
            let cx = self.context(&self.before(None), &step.name, step.line.as_deref(), &log, &stop);
            paths.extend(step.kind.leftovers(&cx).unwrap_or_default());
        }
        for resource in &self.bound.resources {
            let cx = self.context(&self.before(None), &resource.name, resource.line.as_deref(), &log, &stop);
            paths.extend(resource.kind.leftovers(&cx).unwrap_or_default());
        }
        if self.lost.is_some() {
            paths.extend(self.side_copies());
        }
        let scratch = self.scratch();
        paths.retain(|path| *path == scratch || self.is_at_home(path));
        paths.retain(|path| path.symlink_metadata().is_ok());
        paths.dedup();
        paths
    }

    /// Lets each resource drop what it has left that is no path. Returns what could not be dropped.
    fn sweep(&self) -> Vec<Error> {
        let Ok(log) = process::Log::transient() else { return Vec::new() };
        let stop = Stop::never();
        let sweep = self.bound.resources.iter().map(|resource| {
            let cx = self.context(&self.before(None), &resource.name, resource.line.as_deref(), &log, &stop);
            resource.kind.sweep(&cx)
        });
        sweep.filter_map(Result::err).collect()
    }

    /// Whether something stands beside, or at the top of, what the transaction claimed; its directory's symlinks resolved.
    fn is_at_home(&self, path: &Path) -> bool {
        let dir = path.parent().and_then(|dir| dir.canonicalize().ok());
        let holds = |home: &PathBuf| dir.as_deref() == Some(home) || dir.as_deref() == home.parent();
        self.homes.is_empty() || self.homes.iter().any(holds)
    }

    /// What stands beside its things under a name of this transaction, where no plan can say what it has left.
    fn side_copies(&self) -> Vec<PathBuf> {
        let dirs = self.homes.iter().flat_map(|home| [Some(home.as_path()), home.parent()]).flatten();
        let entries = dirs.filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
        let prefix = side_name(&self.tx, "");
        let ours = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()));
        let mut found: Vec<PathBuf> = ours.map(|entry| entry.path()).collect();
        found.sort();
        found
    }
}

/// The failure of a verb that a signal ended on the way back.
pub fn left_to_recover(tx: &TxId, stop: &Stop) -> Error {
    let by = stop.signal().map_or_else(|| "a signal".to_owned(), crate::sys::signal::name);
    Error::new(format!("`{tx}` was left half-way back"))
        .because(format!("it was told to stop by {by}"))
        .hint("`txupgrade recover` goes on with it")
        .fault(Fault::Left)
}
