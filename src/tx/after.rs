//! What an event does to a state, and whether it is legal at all.

use std::fmt;
use std::sync::Arc;

use super::state::{Confirm, Halt, Hold};
use super::{Action, Begun, Boot, Event, Extent, Goal, Heading, Next, Outcome, Output, Progress, State};
use super::{Task, TaskId, Tolerance};
use crate::error::Error;

/// An event that cannot follow what was journaled before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IllegalEvent {
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for IllegalEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for IllegalEvent {}

fn illegal(why: impl Into<String>) -> IllegalEvent {
    IllegalEvent { why: why.into() }
}

impl State {
    /// The state after all of `events`, the first of which is `Begun`.
    pub fn fold<'e>(events: impl IntoIterator<Item = &'e Event>) -> Result<State, IllegalEvent> {
        let mut events = events.into_iter();
        let Some(Event::Begun(begun)) = events.next() else {
            return Err(illegal("a transaction does not begin with `begun`"));
        };
        events.try_fold(State::begin(begun), |state, event| state.after(event))
    }

    /// The state after `Begun`.
    pub fn begin(begun: &Begun) -> State {
        let forward = begun.itinerary.forward.len();
        let backward = begun.itinerary.backward.len();
        let quiesces = begun.itinerary.forward.iter().filter(|task| task.id.action == Action::Quiesce).count();
        State {
            goal: begun.goal,
            heading: Heading::Forward,
            forward: vec![Progress::Pending; forward],
            backward: vec![Progress::Pending; backward],
            attempted: vec![false; forward],
            in_flight: Vec::new(),
            halt: None,
            holds: vec![Hold::Up; quiesces],
            touched: false,
            confirm: Confirm::No,
            stuck: None,
            extent: Extent::Whole,
            ended: None,
            boot_id: begun.runner.boot_id.as_str().into(),
            forward_outputs: vec![None; forward],
            backward_outputs: vec![None; backward],
            failures: Vec::new(),
            begun: Arc::new(begun.clone()),
        }
    }

    /// The state after `event`, if it may happen now.
    pub fn after(mut self, event: &Event) -> Result<State, IllegalEvent> {
        if let Some(outcome) = self.ended {
            return Err(illegal(format!("the transaction has ended ({outcome:?})")));
        }
        match event {
            Event::Begun(_) => return Err(illegal("a transaction begins once")),
            Event::Aimed { goal, runner } => {
                self.aim(*goal)?;
                self.boot_id = runner.boot_id.as_str().into();
            }
            Event::Started { task, runner } => {
                self.start(task)?;
                self.boot_id = runner.boot_id.as_str().into();
            }
            Event::Succeeded { task, output } => self.succeed(task, output)?,
            Event::Failed { task, failure } => self.fail(task, failure)?,
            Event::Interrupted { task, boot, runner } => {
                self.interrupt(task.as_ref(), *boot)?;
                self.boot_id = runner.boot_id.as_str().into();
            }
            Event::Skipped { task } => self.skip(task)?,
            Event::Awaiting { .. } => match self.next() {
                // Once more after a reboot: the time that remained.
                _ if self.awaiting().is_some() => self.confirm = Confirm::Awaiting(Arc::new(event.clone())),
                Next::Await => self.confirm = Confirm::Awaiting(Arc::new(event.clone())),
                _ => return Err(illegal("it does not wait for a confirmation now")),
            },
            Event::Confirmed => match self.awaiting() {
                Some(_) => self.confirm = Confirm::Yes,
                None => return Err(illegal("it does not wait for a confirmation")),
            },
            Event::TurnedBack { reason } => {
                if !self.in_flight.is_empty() || !self.can_turn_back() {
                    return Err(illegal("it cannot turn back now"));
                }
                self.heading = Heading::Backward(reason.clone());
            }
            Event::Stuck { task } => match self.next() {
                Next::GetStuck(first) if first == *task => self.stuck = Some(first),
                _ => return Err(illegal(format!("it is not stuck at `{task}`"))),
            },
            Event::Retried { extent } => self.retry(*extent)?,
            Event::Ended { outcome } => {
                let released = *outcome == Outcome::Released && self.stuck.is_some() && self.in_flight.is_empty();
                if !released && self.next() != Next::End(*outcome) {
                    return Err(illegal(format!("it cannot end {outcome:?} now")));
                }
                self.ended = Some(*outcome);
            }
        }
        // Once it has stood open after capture, anything may have been changed by hand.
        self.touched |= self.in_flight.is_empty() && self.resting();
        Ok(self)
    }

    fn aim(&mut self, goal: Goal) -> Result<(), IllegalEvent> {
        if self.heading != Heading::Forward || !self.in_flight.is_empty() || self.halt.is_some() || goal <= self.goal {
            return Err(illegal(format!("it cannot be aimed at {goal:?} now")));
        }
        self.goal = goal;
        Ok(())
    }

    fn start(&mut self, task: &TaskId) -> Result<(), IllegalEvent> {
        let released = self.stuck.is_some() && task.action == Action::Resume;
        match self.in_flight() {
            Some(other) if !self.beside(other).contains(task) => {
                return Err(illegal(format!("`{task}` cannot start while `{other}` is under way")));
            }
            None if !released && self.next() != Next::Run(task.clone()) => {
                return Err(illegal(format!("it is not the turn of `{task}`")));
            }
            _ => {}
        }
        let index = self.tasks().iter().position(|candidate| candidate.id == *task);
        let index = index.ok_or_else(|| illegal(format!("there is no task `{task}` on this way")))?;
        self.in_flight.push(index);
        if let Some(bracket) = self.bracket(task).filter(|_| released) {
            self.redo_behind(bracket);
        }
        if self.heading == Heading::Forward {
            self.attempted[index] = true;
            self.touched |= task.action.is_step();
        }
        self.set_hold(task, Hold::Unsure);
        Ok(())
    }

    fn succeed(&mut self, task: &TaskId, output: &Output) -> Result<(), IllegalEvent> {
        let index = self.land(task)?;
        let output = Some(Arc::new(output.clone()));
        match self.heading {
            Heading::Forward => {
                self.forward[index] = Progress::Done;
                self.forward_outputs[index] = output;
            }
            Heading::Backward(_) => {
                // Resumed while stuck, out of turn: if it is retried, it is quiesced and resumed once more.
                if self.stuck.is_none() || task.action != Action::Resume {
                    self.backward[index] = Progress::Done;
                }
                self.backward_outputs[index] = output;
            }
        }
        match task.action {
            Action::Quiesce => self.set_hold(task, Hold::Down),
            Action::Resume => self.set_hold(task, Hold::Up),
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, task: &TaskId, failure: &Error) -> Result<(), IllegalEvent> {
        let index = self.land(task)?;
        self.failures.push(Arc::new((task.clone(), failure.clone())));
        let tolerance = self.tasks()[index].tolerance;
        match self.heading {
            Heading::Forward => {
                // Quiescing again after a reboot, while it only waits, is no reason to take back the operator's work.
                if self.forward[index] == Progress::Done && self.resting() {
                    return Ok(());
                }
                self.forward[index] = Progress::Failed;
                if tolerance == Tolerance::Fatal {
                    // What was under way beside it ends because of it.
                    self.halt.get_or_insert(Halt::Failed(index));
                }
            }
            Heading::Backward(_) => {
                self.backward[index] = Progress::Failed;
                if task.action == Action::Quiesce && tolerance == Tolerance::Noted {
                    self.set_hold(task, Hold::Down);
                }
            }
        }
        Ok(())
    }

    fn interrupt(&mut self, task: Option<&TaskId>, boot: Boot) -> Result<(), IllegalEvent> {
        if task != self.in_flight() {
            return Err(illegal("what was interrupted is not what was under way"));
        }
        let landed = std::mem::take(&mut self.in_flight);
        if let (Heading::Forward, Some(&index)) = (&self.heading, landed.first())
            && self.action(index) == Action::Finish
        {
            let failure = Error::new("was interrupted; it is not run again");
            self.failures.push(Arc::new((self.itinerary().forward[index].id.clone(), failure)));
            self.forward[index] = Progress::Failed;
        }
        // What takes a transaction back can be done again, and nothing does again what an undo took away: so once that
        // is begun, the way out of a death leads on.
        if self.can_turn_back()
            && self.halt.is_none()
            && !self.resting()
            && !self.all_done(self.applied_end())
            && !self.is_undoing()
        {
            self.halt = Some(Halt::Died);
        }
        if boot == Boot::Other {
            self.lapse();
        } else if let Some(task) = task
            && task.action == Action::Quiesce
            && self.is_settled()
        {
            // It was being closed again while the transaction stands still; it still has to be.
            self.set_hold(task, Hold::Lapsed);
        }
        Ok(())
    }

    /// The machine was started anew: what was stopped may be up again.
    fn lapse(&mut self) {
        let Some(outermost) = self.holds.iter().position(|hold| *hold != Hold::Up) else { return };
        for hold in self.holds.iter_mut().filter(|hold| **hold != Hold::Up) {
            *hold = Hold::Lapsed;
        }
        self.redo_behind(outermost);
        if self.is_undoing() {
            self.put_back_again_behind(outermost);
        }
    }

    /// Undoing, too, what came up too early may have written to what was put back behind it.
    fn put_back_again_behind(&mut self, bracket: usize) {
        self.holds[bracket..].fill(Hold::Lapsed);
        for index in 0..self.forward.len() {
            let task = &self.begun.itinerary.forward[index];
            let behind = match task.id.action {
                Action::Resume => self.bracket(&task.id).is_some_and(|inner| inner >= bracket),
                Action::Reinstate | Action::Recheck => task.depth > bracket,
                _ => false,
            };
            if behind && self.forward[index] == Progress::Done {
                self.forward[index] = Progress::Pending;
            }
        }
    }

    /// Going back, what came up too early may have written to what was restored behind it: all that is done again,
    /// and restoring converges.
    fn redo_behind(&mut self, bracket: usize) {
        for index in 0..self.backward.len() {
            let task = &self.begun.itinerary.backward[index];
            let behind = match task.id.action {
                Action::Quiesce | Action::Resume => self.bracket(&task.id).is_some_and(|inner| inner >= bracket),
                Action::Restore | Action::Recheck => task.depth > bracket,
                _ => false,
            };
            if behind && (self.backward[index] == Progress::Done || task.tolerance == Tolerance::Noted) {
                self.backward[index] = Progress::Pending;
            }
        }
    }

    fn skip(&mut self, task: &TaskId) -> Result<(), IllegalEvent> {
        let index = self.itinerary().forward.iter().position(|candidate| candidate.id == *task);
        let open = |index: &usize| matches!(self.forward[*index], Progress::Pending | Progress::Failed);
        let captured = self.can_turn_back() && self.in_flight.is_empty() && self.all_done(self.captured_end());
        let index = index.filter(open).filter(|_| task.action.is_step() && captured);
        let index = index.ok_or_else(|| illegal(format!("`{task}` cannot be skipped now")))?;
        self.forward[index] = Progress::Skipped;
        if self.halt == Some(Halt::Failed(index)) {
            self.halt = None;
        }
        Ok(())
    }

    fn retry(&mut self, extent: Extent) -> Result<(), IllegalEvent> {
        if !self.in_flight.is_empty() {
            return Err(illegal("nothing can be retried while a task is under way"));
        }
        if self.stuck.take().is_some() {
            self.extent = extent;
            self.retry_backward();
            return Ok(());
        }
        match self.halt {
            Some(Halt::Failed(index)) if self.resting() => {
                self.forward[index] = Progress::Pending;
                self.halt = None;
                Ok(())
            }
            _ => Err(illegal("there is nothing to retry")),
        }
    }

    /// What failed is done again. An undo may write to what was restored since, so then that is restored again too.
    fn retry_backward(&mut self) {
        // What failed to come up may have written before it failed: behind it all is put back once more.
        let failed_resume = |(task, progress): (&Task, &Progress)| {
            (*progress == Progress::Failed && task.id.action == Action::Resume).then(|| task.id.clone())
        };
        let resumes = self.begun.itinerary.backward.iter().zip(&self.backward).find_map(failed_resume);
        if let Some(bracket) = resumes.and_then(|resume| self.bracket(&resume)) {
            self.redo_behind(bracket);
        }
        let tasks = &self.begun.itinerary.backward;
        let failed =
            |(task, progress): (&Task, &Progress)| *progress == Progress::Failed && task.tolerance == Tolerance::Fatal;
        let undo = |(task, progress)| failed((task, progress)) && task.id.action == Action::Undo;
        let undoes = tasks.iter().zip(&self.backward).any(undo);
        // Nothing behind what could not be put back was resumed, so there all can be asked again.
        let mut behind = false;
        for (task, progress) in tasks.iter().zip(&mut self.backward) {
            behind |= failed((task, progress)) && matches!(task.id.action, Action::Undo | Action::Restore);
            let again = match task.id.action {
                Action::Prove => true,
                Action::Restore if undoes => true,
                Action::Recheck if behind => true,
                _ => failed((task, progress)),
            };
            if again {
                *progress = Progress::Pending;
            }
        }
    }

    /// Takes the task off flight; its index in the current list.
    fn land(&mut self, task: &TaskId) -> Result<usize, IllegalEvent> {
        let place = self.in_flight.iter().position(|index| self.tasks()[*index].id == *task);
        place.map(|place| self.in_flight.remove(place)).ok_or_else(|| illegal(format!("`{task}` was not under way")))
    }

    fn set_hold(&mut self, task: &TaskId, hold: Hold) {
        if matches!(task.action, Action::Quiesce | Action::Resume)
            && let Some(bracket) = self.bracket(task)
        {
            self.holds[bracket] = hold;
        }
    }
}
