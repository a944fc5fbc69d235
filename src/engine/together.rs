//! Captures of one moment side by side, and their proofs: the sooner they are done, the sooner what was stopped is up.
//!
//! Whoever waits for a server or for a program leaves the machine to others meanwhile. What takes all of it by itself
//! goes one by one. Each task has its own log and its own place in the journal; the journal is written by this thread
//! alone, and each task is in it before it acts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use super::driver::Driver;
use super::world::World;
use crate::error::{Error, Fault, OrSay, Result};
use crate::tx::TaskId;

/// More than these only wait for each other.
const AT_ONCE: usize = 4;

impl Driver<'_> {
    /// Runs tasks that go together, and journals how each ended when it ends. The first that fails stops the others.
    pub(super) fn run_together(&mut self, mut tasks: Vec<TaskId>) -> Result<()> {
        let Driver { ledger, world, stop } = self;
        let world = &*world;
        let (tell, ends) = mpsc::channel();
        let enough = stop.inner();
        std::thread::scope(|threads| {
            let mut under_way: Vec<TaskId> = Vec::new();
            let mut failed: Option<TaskId> = None;
            let mut carry_out = || -> Result<()> {
                loop {
                    while enough.signal().is_none()
                        && let Some(index) = tasks.iter().position(|task| world.may_go_with(task, &under_way))
                    {
                        let task = tasks.remove(index);
                        ledger.started(world, &task)?;
                        under_way.push(task.clone());
                        let (state, enough, tell) = (ledger.state.clone(), enough.clone(), tell.clone());
                        threads.spawn(move || {
                            let acted = catch_unwind(AssertUnwindSafe(|| world.act(&task, &state, &enough)));
                            let acted = acted.unwrap_or_else(|_| Err(Error::new("it ended unexpectedly")));
                            // Nobody listens any more where the journal cannot be written.
                            let _ = tell.send((task, acted));
                        });
                    }
                    if under_way.is_empty() {
                        return Ok(());
                    }
                    let (task, acted) = ends.recv().or_say(|| "what was under way is lost")?;
                    under_way.retain(|other| *other != task);
                    let acted = acted.map_err(|error| match &failed {
                        Some(first) if matches!(error.fault, Fault::Signal(_)) && stop.signal().is_none() => {
                            Error::new(format!("it was stopped, since `{first}` failed"))
                        }
                        _ => error,
                    });
                    if acted.is_err() {
                        failed.get_or_insert_with(|| task.clone());
                        enough.raise(libc::SIGTERM);
                    }
                    ledger.ended(world, &task, acted)?;
                }
            };
            let carried_out = carry_out();
            if carried_out.is_err() {
                enough.raise(libc::SIGTERM);
            }
            carried_out
        })
    }
}

impl World<'_> {
    fn may_go_with(&self, task: &TaskId, others: &[TaskId]) -> bool {
        let fills =
            |task: &TaskId| self.resource(&task.subject).is_ok_and(|resource| resource.kind.fills_the_machine());
        others.len() < AT_ONCE && !(fills(task) && others.iter().any(fills))
    }
}
