//! The one loop: ask the state what is next, journal the intent, act, journal the end.
//!
//! Run, rollback and recovery differ in nothing but the events that were journaled before the loop is entered.

use std::path::PathBuf;
use std::time::Duration;

use super::world::World;
use crate::error::{Error, Fault, Result};
use crate::journal::Journal;
use crate::name::TxId;
use crate::sys::signal::Stop;
use crate::sys::{clock, files, process, reserve};
use crate::tx::{Action, Boot, Event, Goal, Heading, Next, Outcome, Purpose, Reason, Runner, State, TaskId};

/// Drives one transaction.
pub struct Driver<'a> {
    journal: &'a mut dyn Journal,
    world: World<'a>,
    tx: TxId,
    state: State,
    stop: Stop,
}

/// Where the loop stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drove {
    /// There is nothing more to do now: it waits, is stuck, or has ended.
    Settled,
    /// On the way back, a second signal asked to leave the rest to `recover`.
    LeftToRecover,
}

impl<'a> Driver<'a> {
    /// A driver for a transaction whose lock the caller holds; `state` is folded from all its events.
    pub fn new(journal: &'a mut dyn Journal, world: World<'a>, tx: TxId, state: State, stop: Stop) -> Driver<'a> {
        Driver { journal, world, tx, state, stop }
    }

    /// Where the transaction stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Which transaction it is.
    pub fn tx(&self) -> &TxId {
        &self.tx
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

    /// Journals an event, durably, and goes on from it.
    pub fn append(&mut self, event: Event) -> Result<()> {
        let next = self
            .state
            .clone()
            .after(&event)
            .map_err(|illegal| Error::new(format!("`{}` is not in a state for this", self.tx)).because(illegal))?;
        if settles_live(&event) && self.state.itinerary().purpose != Purpose::Snapshot {
            self.world.sync()?;
        }
        self.journal.append(&self.tx, &event)?;
        self.state = next;
        if let Some(line) = headline(&event) {
            self.world.ground.monitor.said(&self.tx, &line);
        }
        Ok(())
    }

    /// Takes over from a process that is gone: what it had under way is ended and noted as interrupted. Where it had
    /// nothing under way and the machine was not started anew, nothing is journaled.
    pub fn take_over(&mut self) -> Result<()> {
        let runner = Self::runner();
        let boot = if runner.boot_id == self.state.boot_id() { Boot::Same } else { Boot::Other };
        let task = self.state.in_flight().cloned();
        if self.state.ended().is_some() || (task.is_none() && self.state.is_settled() && boot == Boot::Same) {
            return Ok(());
        }
        if let Some(task) = &task {
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
        if !self.forward() {
            self.stop.reset();
        }
        loop {
            match self.state.next() {
                Next::Run(task) => {
                    if self.forward() && self.state.can_turn_back() {
                        if let Some(number) = self.stop.signal() {
                            self.turn_back(Reason::Signal { number })?;
                            continue;
                        }
                    } else if self.stop.count() >= 2 {
                        return Ok(Drove::LeftToRecover);
                    }
                    self.run(&task)?;
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
        *self.state.heading() == Heading::Forward
    }

    /// Turns back; signals that came until now have had their effect.
    pub fn turn_back(&mut self, reason: Reason) -> Result<()> {
        self.append(Event::TurnedBack { reason })?;
        self.stop.reset();
        Ok(())
    }

    /// Runs one task, and journals how it ended.
    pub fn run(&mut self, task: &TaskId) -> Result<()> {
        let monitor = std::sync::Arc::clone(&self.world.ground.monitor);
        self.append(Event::Started { task: task.clone(), runner: Self::runner() })?;
        monitor.started(&self.tx, &task.to_string());
        if !self.forward() {
            // Whoever filled the disk must not keep programs and logs from the way back.
            reserve::give_if_scarce(self.world.ground.dir);
        }
        // On the way back, and once a finish step has begun, a signal is only noted.
        let stop = if self.forward() && self.state.can_turn_back() { self.stop.clone() } else { Stop::never() };
        match self.world.act(task, &self.state, &stop) {
            Ok(output) => {
                let note = output.note.clone();
                let warnings = output.warnings.clone();
                self.append(Event::Succeeded { task: task.clone(), output })?;
                monitor.succeeded(&self.tx, &task.to_string(), &note);
                warnings.iter().for_each(|warning| monitor.warn(warning));
            }
            Err(failure) => {
                self.append(Event::Failed { task: task.clone(), failure: failure.clone() })?;
                monitor.failed(&self.tx, &task.to_string(), &failure);
            }
        }
        Ok(())
    }

    fn begin_to_wait(&mut self) -> Result<()> {
        let within = self.world.bound.policy.confirm_within.unwrap_or_default();
        self.append(Event::Awaiting {
            until: clock::after(within),
            seconds: within.as_secs(),
            since_boot: clock::since_boot(),
            boot_id: clock::boot_id(),
        })
    }

    /// Turns back when the time to confirm is over. Nothing happens where it does not wait for that.
    pub fn turn_back_if_unconfirmed(&mut self) -> Result<()> {
        match self.state.awaiting().map(remaining) {
            Some(None) => self.turn_back(Reason::NotConfirmed),
            _ => Ok(()),
        }
    }

    /// Aims further, if the goal is not as far yet.
    pub fn aim(&mut self, goal: Goal) -> Result<()> {
        if self.state.goal() >= goal {
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
        // The lock file that remains tells `recover` that the sweep was not finished.
        if !swept {
            return;
        }
        let lock = lock_path(self.world.ground.dir, &self.tx);
        if let Err(error) = std::fs::remove_file(&lock)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn(&lock, Error::new(error.to_string()));
        }
    }

    /// Resumes what is kept down, without ending anything: for `release --resume`.
    pub fn resume_released(&mut self) -> Result<()> {
        let down: Vec<TaskId> = self.state.kept_down().into_iter().rev().cloned().collect();
        for quiesce in down {
            let task = TaskId::new(Action::Resume, quiesce.subject);
            self.run(&task)?;
            if let Some((_, failure)) = self.state.failures().last().filter(|(failed, _)| *failed == task) {
                return Err(failure.clone().within(format!("cannot resume `{}`", task.subject)));
            }
        }
        Ok(())
    }
}

/// The file that is locked while a process is at work on a transaction.
pub fn lock_path(dir: &std::path::Path, tx: &TxId) -> PathBuf {
    dir.join("locks").join(format!("{tx}.lock"))
}

/// How long an `Awaiting` transaction still waits; `None` when the time is over. On the boot on which it began to
/// wait, only the monotonic clock counts; after a reboot the wall clock is all there is.
pub fn remaining(awaiting: &Event) -> Option<Duration> {
    let Event::Awaiting { until, seconds, since_boot, boot_id } = awaiting else { return None };
    if *boot_id == clock::boot_id() {
        let waited = Duration::from_nanos(clock::since_boot().saturating_sub(*since_boot));
        return Duration::from_secs(*seconds).checked_sub(waited).filter(|left| !left.is_zero());
    }
    clock::until(until)
}

/// Whether what was done by hand, or by programs that were started again, counts as done from this event on.
fn settles_live(event: &Event) -> bool {
    matches!(event, Event::Skipped { .. } | Event::Ended { outcome: Outcome::Committed | Outcome::Released })
}

fn headline(event: &Event) -> Option<String> {
    match event {
        Event::TurnedBack { reason } => Some(match reason {
            Reason::Failed { task } => format!("`{task}` failed; turning back"),
            Reason::Died => "its process is gone; turning back".to_owned(),
            Reason::Asked => "turning back, as asked".to_owned(),
            Reason::Signal { number } => format!("turning back on signal {number}"),
            Reason::NotConfirmed => "was not confirmed in time; turning back".to_owned(),
        }),
        Event::Interrupted { task: Some(task), .. } => Some(format!("`{task}` was interrupted")),
        Event::Stuck { task } => Some(format!("stuck at `{task}`")),
        _ => None,
    }
}

impl World<'_> {
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
        paths.retain(|path| path.symlink_metadata().is_ok());
        paths.dedup();
        paths
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
