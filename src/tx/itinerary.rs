//! The plan flattened, once: the tasks of a transaction, forward and backward.
//!
//! Data only. `engine::flatten` makes it from a plan; it is journaled with `Begun`, so that a later version of
//! this program carries an open transaction on exactly as it was begun.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Action, TaskId};

/// The tasks of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Itinerary {
    /// What the transaction is for.
    pub purpose: Purpose,
    /// What a failure after capture leads to.
    pub on_failure: OnFailure,
    /// Whether the commit waits for `txupgrade confirm`; how long is the plan's business.
    pub confirm: Confirmation,
    /// How many quiesces there are; a task's `depth` counts how many of them hold while it runs.
    pub forward: Vec<Task>,
    /// Walked after the transaction has turned back; tasks that are not needed are passed over.
    pub backward: Vec<Task>,
}

impl Itinerary {
    /// The forward tasks around this one that may be under way together: captures of one moment, which stand next to
    /// each other inside the same quiesces, and likewise their proofs. Of any other task, that task alone.
    pub fn together(&self, index: usize) -> Range<usize> {
        let task = &self.forward[index];
        let same = |other: &Task| other.id.action == task.id.action && other.depth == task.depth;
        if !matches!(task.id.action, Action::Capture | Action::Prove) {
            return index..index + 1;
        }
        let before = self.forward[..index].iter().rev().take_while(|other| same(other)).count();
        let behind = self.forward[index..].iter().take_while(|other| same(other)).count();
        index - before..index + behind
    }
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Carries out a plan.
    Upgrade,
    /// Only captures a plan's resources.
    Snapshot,
    /// Undoes a committed transaction.
    Rollback,
}

/// `[policy] on_failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Turn back.
    Rollback,
    /// Stop and let the operator decide.
    Hold,
}

/// Whether a commit has to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirmation {
    /// It is final at once.
    NotAsked,
    /// It waits for `txupgrade confirm`.
    Asked,
}

/// One task of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name, unique in its list.
    pub id: TaskId,
    /// How many of the quiesces, counted from the outermost, hold while it runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: usize,
    /// What its failure means.
    #[serde(default, skip_serializing_if = "Tolerance::is_fatal")]
    pub tolerance: Tolerance,
}

/// What the failure of a task means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tolerance {
    /// It stops the way it is on.
    #[default]
    Fatal,
    /// It is journaled and shown, and stops nothing.
    Noted,
}

impl Tolerance {
    fn is_fatal(&self) -> bool {
        *self == Tolerance::Fatal
    }
}

fn is_zero(depth: &usize) -> bool {
    *depth == 0
}

impl Task {
    /// A task whose failure stops the way it is on.
    pub fn new(action: Action, subject: impl Into<String>, depth: usize) -> Task {
        Task { id: TaskId::new(action, subject), depth, tolerance: Tolerance::Fatal }
    }

    /// The same task, its failure only noted.
    pub fn noted(mut self) -> Task {
        self.tolerance = Tolerance::Noted;
        self
    }
}
