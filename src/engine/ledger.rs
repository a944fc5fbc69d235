//! A transaction's events, and the state that they make.

use super::driver::Driver;
use super::world::World;
use crate::error::{Error, Fault, Result};
use crate::journal::Journal;
use crate::name::TxId;
use crate::sys::units;
use crate::tx::{Event, Outcome, Output, Purpose, Reason, State, TaskId};

/// Where a driver writes down what happens, and reads where it stands.
pub(super) struct Ledger<'a> {
    pub(super) journal: &'a mut dyn Journal,
    pub(super) tx: TxId,
    pub(super) state: State,
}

impl Ledger<'_> {
    /// Journals an event, durably, and goes on from it.
    pub(super) fn append(&mut self, world: &World<'_>, event: Event) -> Result<()> {
        let next = self
            .state
            .clone()
            .after(&event)
            .map_err(|illegal| Error::new(format!("`{}` is not in a state for this", self.tx)).because(illegal))?;
        if settles_live(&event) && self.state.itinerary().purpose != Purpose::Snapshot {
            world.sync()?;
        }
        self.journal.append(&self.tx, &event).map_err(|error| error.fault(Fault::Left))?;
        self.state = next;
        if let Some(line) = headline(&event) {
            world.ground.monitor.said(&self.tx, &line);
        }
        Ok(())
    }

    /// A task is about to act.
    pub(super) fn started(&mut self, world: &World<'_>, task: &TaskId) -> Result<()> {
        self.append(world, Event::Started { task: task.clone(), runner: Driver::runner() })?;
        world.ground.monitor.started(&self.tx, &task.to_string());
        Ok(())
    }

    /// How a task ended.
    pub(super) fn ended(&mut self, world: &World<'_>, task: &TaskId, acted: Result<Output>) -> Result<()> {
        let monitor = &world.ground.monitor;
        match acted {
            Ok(output) => {
                let note = output.note.clone();
                let warnings = output.warnings.clone();
                self.append(world, Event::Succeeded { task: task.clone(), output })?;
                monitor.succeeded(&self.tx, &task.to_string(), &note);
                warnings.iter().for_each(|warning| monitor.warn(warning));
            }
            // That says nothing about the task; it is still under way, for `recover`.
            Err(failure) if units::going_down() => return Err(shut_down().because(failure)),
            Err(failure) => {
                self.append(world, Event::Failed { task: task.clone(), failure: failure.clone() })?;
                monitor.failed(&self.tx, &task.to_string(), &failure);
            }
        }
        Ok(())
    }
}

/// Nothing can be relied on while everything is being stopped, and nothing is started any more.
pub(super) fn shut_down() -> Error {
    Error::new("the machine is being shut down").fault(Fault::Left)
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
