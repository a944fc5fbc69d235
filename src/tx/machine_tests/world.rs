//! The fake world: what tasks do to it, what must hold while they do, and what it must be at the end.

use super::shapes::{Deed, Shape};
use crate::tx::{Action, Extent, Heading, Outcome, Purpose, Reason, State, Task};

/// How much of something there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Much {
    None,
    Half,
    Full,
}

/// At most this many quiesces, and this many steps.
pub(super) const MOST: usize = 8;

/// Everything that a transaction can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct World {
    /// How much of each quiesced service is up.
    up: [Much; MOST],
    /// How much of each step's change is in its resource.
    changed: [Much; MOST],
    /// How much of each step's change is outside of all resources, where only its undo reaches it.
    outside: [Much; MOST],
    /// Resources (bits) that were written to by hand, by a service or by half a restore.
    dirty: u32,
    /// Resources (bits) that have been captured.
    captured: u32,
    /// Quiesces (bits) whose resume has to run because something was changed behind them.
    stale: u32,
    /// Steps (bits) whose undo has run.
    undone: u32,
    /// What a restore needs was read since the way back was begun or retried.
    proven: bool,
}

impl World {
    /// Adds all of it to what tells situations apart.
    pub(super) fn situation(&self, key: &mut Vec<u8>) {
        let World { up, changed, outside, dirty, captured, stale, undone, proven } = self;
        key.extend(up.iter().chain(changed).chain(outside).map(|much| *much as u8));
        key.extend([*dirty, *captured, *stale, *undone].map(|bits| bits as u8));
        key.push(u8::from(*proven));
    }

    pub(super) fn new() -> World {
        World {
            up: [Much::Full; MOST],
            changed: [Much::None; MOST],
            outside: [Much::None; MOST],
            dirty: 0,
            captured: 0,
            stale: 0,
            undone: 0,
            proven: false,
        }
    }

    /// The world after a task did `much` of what it does.
    pub(super) fn after(mut self, shape: &Shape, task: &Task, deed: Deed, much: Much) -> World {
        if much == Much::None {
            return self;
        }
        let full = much == Much::Full;
        match deed {
            Deed::Nothing => {}
            Deed::Step(step) => self = self.with_step(shape, step, much),
            Deed::Quiesce(bracket) => {
                if shape.stops[bracket] {
                    self.up[bracket] = if full { Much::None } else { Much::Half };
                }
            }
            Deed::Resume(bracket) => {
                self.up[bracket] = if shape.stops[bracket] { much } else { Much::Full };
                if full {
                    self.stale &= !(1 << bracket);
                }
            }
            Deed::Capture(resource) => self.captured |= u32::from(full) << resource,
            Deed::ProveSnapshot => self.proven |= full,
            Deed::Undo(step) => {
                if shape.steps[step].outside {
                    self.outside[step] = if full { Much::None } else { Much::Half };
                }
                // An undo may write to what a restore puts back afterwards.
                if let Some(resource) = shape.steps[step].changes {
                    self.dirty |= 1 << resource;
                }
            }
            Deed::Restore(resource) => {
                if full {
                    for (step, spec) in shape.steps.iter().enumerate() {
                        if spec.changes == Some(resource) {
                            self.changed[step] = Much::None;
                        }
                    }
                }
                self.dirty = (self.dirty & !(1 << resource)) | (u32::from(!full) << resource);
            }
        }
        if matches!(deed, Deed::Step(_) | Deed::Undo(_) | Deed::Restore(_)) {
            self.stale |= (1 << task.depth) - 1;
        }
        self.written_by_services(shape)
    }

    fn with_step(mut self, shape: &Shape, step: usize, much: Much) -> World {
        if shape.steps[step].changes.is_some() {
            self.changed[step] = much;
        }
        if shape.steps[step].outside {
            self.outside[step] = much;
        }
        self
    }

    /// The operator has done this step by hand.
    pub(super) fn by_hand(self, shape: &Shape, step: usize) -> World {
        self.with_step(shape, step, Much::Full)
    }

    /// Nobody knows what the operator did while it was open.
    pub(super) fn open(mut self, shape: &Shape) -> World {
        self.dirty = (1 << shape.resources.len()) - 1;
        self
    }

    /// The machine was started anew: what was stopped is up again.
    pub(super) fn rebooted(mut self, shape: &Shape) -> World {
        self.up = [Much::Full; MOST];
        self.written_by_services(shape)
    }

    /// A task was tried, whatever it did.
    pub(super) fn tried(mut self, deed: Deed) -> World {
        if let Deed::Undo(step) = deed {
            self.undone |= 1 << step;
        }
        self
    }

    /// Retried: what was proven may not be any more.
    pub(super) fn retried(mut self) -> World {
        self.proven = false;
        self
    }

    /// A service that runs while anything behind it is not as it knows it writes to all of it.
    fn written_by_services(mut self, shape: &Shape) -> World {
        for (bracket, stops) in shape.stops.iter().enumerate() {
            let behind = |resource: &usize| shape.resources[*resource] > bracket;
            let resources = || (0..shape.resources.len()).filter(behind);
            if *stops && self.up[bracket] != Much::None && resources().any(|resource| !self.is_old(shape, resource)) {
                self.dirty |= resources().fold(0, |bits, resource| bits | (1 << resource));
            }
        }
        self
    }

    fn is_old(&self, shape: &Shape, resource: usize) -> bool {
        let unchanged = |(step, spec): (usize, &super::shapes::Step)| {
            spec.changes != Some(resource) || self.changed[step] == Much::None
        };
        self.dirty & (1 << resource) == 0 && shape.steps.iter().enumerate().all(unchanged)
    }

    /// What must hold when a task acts.
    pub(super) fn judge(&self, shape: &Shape, state: &State, task: &Task, deed: Deed) -> Result<(), String> {
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("`{}` acts {what}", task.id)) };
        let stopped = |bracket: usize| !shape.stops[bracket] || self.up[bracket] == Much::None;
        let running = |bracket: usize| self.up[bracket] == Much::Full;
        let brackets = shape.stops.len();
        let forward = *state.heading() == Heading::Forward;
        let of_resources = matches!(
            task.id.action,
            Action::Require
                | Action::Prepare
                | Action::Precapture
                | Action::Capture
                | Action::Apply
                | Action::Reinstate
                | Action::Verify
                | Action::Restore
                | Action::Recheck
        );
        if of_resources || matches!(task.id.action, Action::Undo) {
            must((0..task.depth).all(stopped), "while a quiesce around it does not hold")?;
        }
        if of_resources || (forward && task.id.action == Action::Undo) {
            must((task.depth..brackets).all(running), "while a quiesce further in still holds")?;
        }
        match deed {
            Deed::Capture(resource) => {
                must(forward, "on the way back")?;
                must(self.is_old(shape, resource), "on what is no longer the old world")?;
            }
            Deed::Step(_) if task.id.action.is_step() => {
                let all = (1 << shape.resources.len()) - 1;
                must(self.captured == all, "before all is captured")?;
            }
            Deed::Quiesce(bracket) => must((0..bracket).all(stopped), "before those outside of it")?,
            Deed::Resume(bracket) => must((bracket + 1..brackets).all(running), "before those further in")?,
            Deed::Undo(step) => {
                let later = shape.steps.iter().enumerate().skip(step + 1).filter(|(later, spec)| {
                    spec.outside && spec.undo && self.outside[*later] != Much::None && self.undone & (1 << later) == 0
                });
                must(later.count() == 0, "before the undo of a later step")?;
                must(self.proven || !state.is_touched() || state.extent() == Extent::Partial, "before the proof")?;
            }
            Deed::Restore(resource) => {
                must(self.captured & (1 << resource) != 0, "without a capture")?;
                must(self.proven || state.extent() == Extent::Partial, "before the proof")?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the world is what the outcome says.
    pub(super) fn judge_end(&self, shape: &Shape, state: &State, outcome: Outcome) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("it ended {outcome:?} {what}"));
        if outcome == Outcome::Released {
            return Ok(());
        }
        if (0..shape.stops.len()).any(|bracket| self.up[bracket] != Much::Full) {
            return wrong("with something not resumed");
        }
        if self.stale != 0 {
            return wrong("without a resume after the last change");
        }
        if outcome == Outcome::Committed {
            let full = |(step, spec): (usize, &super::shapes::Step)| {
                (spec.changes.is_none() || self.changed[step] == Much::Full)
                    && (!spec.outside || self.outside[step] == Much::Full)
            };
            return if shape.steps.iter().enumerate().all(full) { Ok(()) } else { wrong("in no new world") };
        }
        if (0..shape.resources.len()).any(|resource| !self.is_old(shape, resource)) {
            return wrong("with a resource that is not as it was");
        }
        // Nothing does again what an undo took away. Only a failure or a person may lead there, and no death.
        let undoing = state.itinerary().purpose == Purpose::Rollback;
        let told = undoing && !matches!(state.heading(), Heading::Backward(Reason::Died));
        if self.outside.iter().any(|much| *much != Much::None) && !told {
            return wrong("with a step not undone");
        }
        Ok(())
    }

    /// Whether everything that a quiesce stopped is up.
    pub(super) fn all_up(&self) -> bool {
        self.up.iter().all(|much| *much == Much::Full)
    }
}
