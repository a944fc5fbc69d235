//! Where a transaction stands, and what it does next.
//!
//! The transitions are in `after.rs`; this file holds the state itself and [`State::next`]. A [`State`] is only
//! ever made by folding events, so it can be thrown away and made again at any time: recovery does nothing else.

use std::sync::Arc;

use super::{Action, Begun, Confirmation, Event, Extent, Goal, Itinerary, OnFailure, Outcome, Output, Purpose};
use super::{Reason, Task, TaskId, Tolerance};
use crate::error::{Error, Fault};

/// A transaction, folded from its events.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) begun: Arc<Begun>,
    pub(super) goal: Goal,
    pub(super) heading: Heading,
    pub(super) forward: Vec<Progress>,
    pub(super) backward: Vec<Progress>,
    /// Forward tasks that were started at least once.
    pub(super) attempted: Vec<bool>,
    /// The tasks under way, indexes into the list of the heading: more than one only where they go together.
    pub(super) in_flight: Vec<usize>,
    /// Why the way forward cannot go on, until it turns back or is retried.
    pub(super) halt: Option<Halt>,
    /// One for each quiesce, outermost first.
    pub(super) holds: Vec<Hold>,
    /// Whether the system may differ from what was captured, so that going back means restoring.
    pub(super) touched: bool,
    pub(super) confirm: Confirm,
    pub(super) stuck: Option<TaskId>,
    pub(super) extent: Extent,
    pub(super) ended: Option<Outcome>,
    pub(super) boot_id: Arc<str>,
    pub(super) forward_outputs: Vec<Option<Arc<Output>>>,
    pub(super) backward_outputs: Vec<Option<Arc<Output>>>,
    pub(super) failures: Vec<Arc<(TaskId, Error)>>,
}

/// Which list is walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heading {
    /// The forward list.
    Forward,
    /// The backward list, for this reason.
    Backward(Reason),
}

/// How far one task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has not been done (it may have been started and interrupted).
    Pending,
    /// It ended well.
    Done,
    /// It failed.
    Failed,
    /// The operator did it by hand.
    Skipped,
}

/// Why the way forward is halted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// This forward task failed.
    Failed(usize),
    /// The process died before every step had succeeded.
    Died,
}

/// What is known of something that a quiesce stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It was never stopped, or was resumed.
    Up,
    /// It was stopped.
    Down,
    /// Stopping or resuming it was begun and did not end well.
    Unsure,
    /// It was not up, and the machine was started anew since.
    Lapsed,
}

/// Whether the commit is confirmed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Confirm {
    /// Not asked yet.
    No,
    /// Asked; the event that says until when.
    Awaiting(Arc<Event>),
    /// Given.
    Yes,
}

/// What a transaction does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Run this task of the current list.
    Run(TaskId),
    /// Journal that it turns back.
    TurnBack(Reason),
    /// Journal that it is stuck at this task.
    GetStuck(TaskId),
    /// Journal until when it waits for its confirmation.
    Await,
    /// Nothing: it is open and waits for its operator, or it has ended.
    Wait,
    /// Journal its end.
    End(Outcome),
}

impl State {
    /// What to do now. While tasks are under way, the first of them.
    pub fn next(&self) -> Next {
        if self.ended.is_some() {
            return Next::Wait;
        }
        if let Some(task) = self.in_flight() {
            return Next::Run(task.clone());
        }
        match self.heading {
            Heading::Forward => self.next_forward(),
            Heading::Backward(_) => self.next_backward(),
        }
    }

    fn next_forward(&self) -> Next {
        if self.resting() {
            return self.lapsed_quiesce().map_or(Next::Wait, Next::Run);
        }
        match self.halt {
            Some(Halt::Died) => return Next::TurnBack(Reason::Died),
            Some(Halt::Failed(task)) => return Next::TurnBack(self.reason_of_failure(task)),
            None => {}
        }
        let Some(index) = self.first_pending() else {
            return match self.confirm {
                Confirm::No if self.itinerary().confirm == Confirmation::Asked => Next::Await,
                _ => Next::End(Outcome::Committed),
            };
        };
        let task = &self.itinerary().forward[index];
        if task.id.action == Action::Finish
            && self.itinerary().confirm == Confirmation::Asked
            && self.confirm == Confirm::No
        {
            return Next::Await;
        }
        // After a reboot the brackets around a task have to be closed again first.
        let broken = self.broken_quiesce(task.depth).map(|bracket| self.quiesce(bracket));
        Next::Run(broken.unwrap_or(&task.id).clone())
    }

    /// Whether it stands still, going forward, until somebody gives a word: at its goal, on hold, unconfirmed.
    pub(super) fn resting(&self) -> bool {
        if self.heading != Heading::Forward || self.ended.is_some() {
            return false;
        }
        match self.halt {
            Some(Halt::Died) => return false,
            Some(Halt::Failed(task)) => {
                return self.itinerary().on_failure == OnFailure::Hold
                    && task >= self.captured_end()
                    && !matches!(self.reason_of_failure(task), Reason::Signal { .. });
            }
            None => {}
        }
        match self.goal {
            Goal::Captured => self.all_done(self.captured_end()),
            Goal::Applied => self.all_done(self.applied_end()),
            Goal::Committed => {
                matches!(self.confirm, Confirm::Awaiting(_))
                    && self.first_pending().is_none_or(|index| self.action(index) == Action::Finish)
            }
        }
    }

    /// The outermost of the first `depth` quiesces of which it is not known that it holds, though it did.
    fn broken_quiesce(&self, depth: usize) -> Option<usize> {
        self.holds.iter().take(depth).position(|hold| matches!(hold, Hold::Lapsed | Hold::Unsure))
    }

    /// While it stands still: the quiesce that a reboot has undone. One that could not be closed again is left so,
    /// and those further in with it.
    fn lapsed_quiesce(&self) -> Option<TaskId> {
        let first = self.broken_quiesce(self.holds.len()).filter(|first| self.holds[*first] == Hold::Lapsed)?;
        Some(self.quiesce(first).clone())
    }

    fn next_backward(&self) -> Next {
        if self.stuck.is_some() {
            let held = |task: &TaskId| self.touched && !self.resumed_on_the_way_back(task);
            return match self.lapsed_quiesce() {
                Some(quiesce) if held(&quiesce) => Next::Run(quiesce),
                _ => Next::Wait,
            };
        }
        let mut blocked: Option<&TaskId> = None;
        for (index, task) in self.itinerary().backward.iter().enumerate() {
            if self.backward[index] == Progress::Failed && task.tolerance == Tolerance::Fatal {
                match task.id.action {
                    Action::Prove if self.extent == Extent::Partial => {}
                    Action::Undo | Action::Restore => blocked = blocked.or(Some(&task.id)),
                    _ => return Next::GetStuck(blocked.unwrap_or(&task.id).clone()),
                }
            }
            if self.backward[index] != Progress::Pending || !self.needed(task) {
                continue;
            }
            // Where nothing was touched, what is up again is the old world whatever else failed.
            if let (Action::Resume, Some(first), true) = (task.id.action, blocked, self.touched) {
                return Next::GetStuck(first.clone());
            }
            return Next::Run(task.id.clone());
        }
        match blocked {
            Some(first) => Next::GetStuck(first.clone()),
            None if self.touched => Next::End(Outcome::RolledBack),
            None => Next::End(Outcome::Aborted),
        }
    }

    /// Whether a task of the backward list has anything to take back.
    fn needed(&self, task: &Task) -> bool {
        match task.id.action {
            Action::Undo => self.itinerary().forward.iter().enumerate().any(|(index, step)| {
                matches!(step.id.action, Action::Prepare | Action::Apply)
                    && step.id.subject == task.id.subject
                    && (self.attempted[index] || self.forward[index] == Progress::Skipped)
            }),
            Action::Quiesce => {
                self.touched && self.hold(&task.id) != Hold::Down && !self.resumed_on_the_way_back(&task.id)
            }
            Action::Resume => self.hold(&task.id) != Hold::Up,
            _ => self.touched,
        }
    }

    fn reason_of_failure(&self, index: usize) -> Reason {
        let task = &self.itinerary().forward[index].id;
        let failure = self.failures.iter().rev().find(|failure| failure.0 == *task);
        match failure.map(|failure| failure.1.fault) {
            Some(Fault::Signal(number)) => Reason::Signal { number },
            _ => Reason::Failed { task: task.clone() },
        }
    }

    /// Whether each of the first `end` forward tasks is done, skipped, or failed without consequence.
    pub(super) fn all_done(&self, end: usize) -> bool {
        self.forward[..end].iter().zip(&self.itinerary().forward).all(|(progress, task)| match progress {
            Progress::Done | Progress::Skipped => true,
            Progress::Failed => task.tolerance == Tolerance::Noted,
            Progress::Pending => false,
        })
    }

    fn first_pending(&self) -> Option<usize> {
        self.forward.iter().position(|progress| *progress == Progress::Pending)
    }

    pub(super) fn action(&self, index: usize) -> Action {
        self.itinerary().forward[index].id.action
    }

    /// Where the tasks of `begin` end in the forward list.
    pub(super) fn captured_end(&self) -> usize {
        let of_begin = |task: &Task| task.id.action <= Action::Prove;
        self.itinerary().forward.iter().rposition(of_begin).map_or(0, |last| last + 1)
    }

    /// Where the last step ends in the forward list.
    pub(super) fn applied_end(&self) -> usize {
        let last = self.itinerary().forward.iter().rposition(|task| task.id.action.is_step());
        last.map_or(0, |last| last + 1).max(self.captured_end())
    }

    /// The `bracket`-th quiesce, outermost first; the task has the same name in both lists.
    pub(super) fn quiesce(&self, bracket: usize) -> &TaskId {
        self.quiesces().nth(bracket).expect("there is a hold for each quiesce of the forward list")
    }

    fn quiesces(&self) -> impl Iterator<Item = &TaskId> {
        let tasks = self.itinerary().forward.iter().map(|task| &task.id);
        tasks.filter(|task| task.action == Action::Quiesce)
    }

    /// The bracket that a quiesce or a resume belongs to.
    pub(super) fn bracket(&self, task: &TaskId) -> Option<usize> {
        self.quiesces().position(|quiesce| quiesce.subject == task.subject)
    }

    fn hold(&self, task: &TaskId) -> Hold {
        self.bracket(task).map_or(Hold::Up, |bracket| self.holds[bracket])
    }

    pub(super) fn resumed_on_the_way_back(&self, task: &TaskId) -> bool {
        let resume = TaskId::new(Action::Resume, task.subject.clone());
        let index = self.itinerary().backward.iter().position(|task| task.id == resume);
        index.is_some_and(|index| self.backward[index] == Progress::Done)
    }
}

/// What can be asked of a state.
impl State {
    /// What `Begun` said.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// The tasks.
    pub fn itinerary(&self) -> &Itinerary {
        &self.begun.itinerary
    }

    /// How far it is to go.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// Which way it goes.
    pub fn heading(&self) -> &Heading {
        &self.heading
    }

    /// The tasks of the way it goes.
    pub fn tasks(&self) -> &[Task] {
        match self.heading {
            Heading::Forward => &self.itinerary().forward,
            Heading::Backward(_) => &self.itinerary().backward,
        }
    }

    /// The task under way; of several the one that was started first.
    pub fn in_flight(&self) -> Option<&TaskId> {
        self.under_way().next()
    }

    /// The tasks under way, in the order in which they were started.
    pub fn under_way(&self) -> impl Iterator<Item = &TaskId> {
        self.in_flight.iter().map(|index| &self.tasks()[*index].id)
    }

    /// The tasks that may be started while `task` is under way, or is about to be: those that go together with it and
    /// were not started yet. None once something has failed.
    pub fn beside(&self, task: &TaskId) -> Vec<TaskId> {
        let forward = &self.itinerary().forward;
        let index = forward.iter().position(|candidate| candidate.id == *task);
        let Some(index) = index.filter(|_| self.heading == Heading::Forward && self.halt.is_none()) else {
            return Vec::new();
        };
        let free = |other: &usize| {
            *other != index && self.forward[*other] == Progress::Pending && !self.in_flight.contains(other)
        };
        self.itinerary().together(index).filter(free).map(|other| forward[other].id.clone()).collect()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Outcome> {
        self.ended
    }

    /// The task it is stuck at.
    pub fn stuck(&self) -> Option<&TaskId> {
        self.stuck.as_ref()
    }

    /// The forward task whose failure left it on hold.
    pub fn on_hold(&self) -> Option<&TaskId> {
        match self.halt {
            Some(Halt::Failed(index)) if self.resting() => Some(&self.itinerary().forward[index].id),
            _ => None,
        }
    }

    /// The `Awaiting` event, while the commit waits for its confirmation.
    pub fn awaiting(&self) -> Option<&Event> {
        match &self.confirm {
            Confirm::Awaiting(event) if self.resting() => Some(event),
            _ => None,
        }
    }

    /// Whether it stands still until somebody gives a word (waiting, on hold, unconfirmed, stuck) or has ended.
    pub fn is_settled(&self) -> bool {
        self.ended.is_some() || self.stuck.is_some() || self.resting()
    }

    /// Whether going back means restoring, not only resuming.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Whether a retry of the way back is to leave out what is damaged.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The boot on which it was last carried on.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Whether it can still turn back: going forward, and no finish step was begun.
    pub fn can_turn_back(&self) -> bool {
        let finishing = |index: usize| self.attempted[index] && self.action(index) == Action::Finish;
        self.heading == Heading::Forward && self.ended.is_none() && !(0..self.forward.len()).any(finishing)
    }

    /// Whether it undoes another transaction and has begun to take something back.
    pub(super) fn is_undoing(&self) -> bool {
        let begun = |index: usize| self.attempted[index] && self.action(index).is_step();
        self.heading == Heading::Forward
            && self.itinerary().purpose == Purpose::Rollback
            && (0..self.forward.len()).any(begun)
    }

    /// Steps that have neither succeeded nor been done by hand.
    pub fn steps_missing(&self) -> Vec<TaskId> {
        let missing = |(index, progress): (usize, &Progress)| {
            let task = &self.itinerary().forward[index];
            let open = matches!(progress, Progress::Pending | Progress::Failed);
            (open && task.id.action.is_step()).then(|| task.id.clone())
        };
        self.forward.iter().enumerate().filter_map(missing).collect()
    }

    /// Whether a forward task was started at least once.
    pub fn was_attempted(&self, task: &TaskId) -> bool {
        let index = self.itinerary().forward.iter().position(|candidate| candidate.id == *task);
        index.is_some_and(|index| self.attempted[index])
    }

    /// What a forward task returned.
    pub fn output(&self, task: &TaskId) -> Option<&Output> {
        let index = self.itinerary().forward.iter().position(|candidate| candidate.id == *task)?;
        self.forward_outputs[index].as_deref()
    }

    /// Everything tasks have returned, forward first.
    pub fn outputs(&self) -> impl Iterator<Item = (&TaskId, &Output)> {
        let forward = self.itinerary().forward.iter().zip(&self.forward_outputs);
        let backward = self.itinerary().backward.iter().zip(&self.backward_outputs);
        forward.chain(backward).filter_map(|(task, output)| output.as_deref().map(|output| (&task.id, output)))
    }

    /// What captures have returned, of which resource.
    pub fn captured(&self) -> impl Iterator<Item = (&str, &Output)> {
        let captures = self.outputs().filter(|(task, _)| task.action == Action::Capture);
        captures.map(|(task, output)| (task.subject.as_str(), output))
    }

    /// Every failure there was, the first first.
    pub fn failures(&self) -> impl Iterator<Item = &(TaskId, Error)> {
        self.failures.iter().map(|failure| &**failure)
    }

    /// The progress of each forward task.
    pub fn forward(&self) -> impl Iterator<Item = (&Task, Progress)> {
        self.itinerary().forward.iter().zip(self.forward.iter().copied())
    }

    /// The progress of each backward task.
    pub fn backward(&self) -> impl Iterator<Item = (&Task, Progress)> {
        self.itinerary().backward.iter().zip(self.backward.iter().copied())
    }

    /// The quiesces that are not known to be up, outermost first.
    pub fn kept_down(&self) -> Vec<&TaskId> {
        let down = |(_, hold): &(&TaskId, &Hold)| **hold != Hold::Up;
        self.quiesces().zip(&self.holds).filter(down).map(|(task, _)| task).collect()
    }
}
