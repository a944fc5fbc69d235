//! The verbs of a transaction, and a task's name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a task does. The order is that of a transaction's life, forward first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Asks a requirement; changes nothing.
    Require,
    /// Runs a step with `at = "prepare"`: services are still up.
    Prepare,
    /// Captures ahead of the quiesce, so that the capture proper is short.
    Precapture,
    /// Stops what writes to the resources.
    Quiesce,
    /// Captures a resource into the store.
    Capture,
    /// Reads back what was captured, and loads databases somewhere. Going back: reads all a restore needs.
    Prove,
    /// Runs a step.
    Apply,
    /// Starts again what a quiesce stopped.
    Resume,
    /// Asks a check before the commit.
    Verify,
    /// Runs a step with `at = "finish"`; its failure is a warning.
    Finish,
    /// Undoing a committed transaction: puts a resource back as its snapshot has it.
    Reinstate,
    /// Going back: keeps the output of the plan's diagnostics before anything is undone.
    Diagnose,
    /// Runs a step's own undo.
    Undo,
    /// Going back: makes a resource equal to what this transaction captured.
    Restore,
    /// Going back: asks again what was true before.
    Recheck,
}

impl Action {
    /// Every action, in order.
    pub const ALL: [Action; 15] = [
        Action::Require,
        Action::Prepare,
        Action::Precapture,
        Action::Quiesce,
        Action::Capture,
        Action::Prove,
        Action::Apply,
        Action::Resume,
        Action::Verify,
        Action::Finish,
        Action::Reinstate,
        Action::Diagnose,
        Action::Undo,
        Action::Restore,
        Action::Recheck,
    ];

    /// Whether it changes the system on the way forward, so that a death during it means: turn back.
    pub fn is_step(self) -> bool {
        matches!(self, Action::Apply | Action::Undo | Action::Reinstate)
    }

    /// Whether what it does to the live system is not done again once it has succeeded.
    pub fn changes_live(self) -> bool {
        use Action::{Apply, Finish, Prepare, Reinstate, Restore, Undo};
        matches!(self, Prepare | Apply | Finish | Undo | Restore | Reinstate)
    }

    /// The verb, lower case.
    pub fn name(self) -> &'static str {
        match self {
            Action::Require => "require",
            Action::Prepare => "prepare",
            Action::Precapture => "precapture",
            Action::Quiesce => "quiesce",
            Action::Capture => "capture",
            Action::Prove => "prove",
            Action::Apply => "apply",
            Action::Resume => "resume",
            Action::Verify => "verify",
            Action::Finish => "finish",
            Action::Reinstate => "reinstate",
            Action::Diagnose => "diagnose",
            Action::Undo => "undo",
            Action::Restore => "restore",
            Action::Recheck => "recheck",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A task of an itinerary: `capture code`, `resume stop`, `require the version`.
///
/// The subject is an entry's name (`name@line` where `each` repeats it), or words with a space in them for what
/// no entry stands for: `the version`, `resource code`. An entry's name has no space, so they cannot collide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId {
    /// What is done.
    pub action: Action,
    /// To what.
    pub subject: String,
}

impl TaskId {
    /// The task that does `action` to `subject`.
    pub fn new(action: Action, subject: impl Into<String>) -> TaskId {
        TaskId { action, subject: subject.into() }
    }

    /// The task as one word for a file name: letters, digits, `-`, `.`, `_` and `@`; other bytes as `%XX`.
    pub fn file_stem(&self) -> String {
        let mut stem = String::from(self.action.name());
        stem.push('-');
        for byte in self.subject.bytes() {
            match byte {
                b' ' => stem.push('-'),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'@' => stem.push(char::from(byte)),
                _ => stem.push_str(&format!("%{byte:02X}")),
            }
        }
        stem.truncate(200);
        stem
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.subject)
    }
}

impl FromStr for TaskId {
    type Err = String;

    fn from_str(text: &str) -> Result<TaskId, String> {
        let wrong = || format!("`{text}` is not a task");
        let (verb, subject) = text.split_once(' ').ok_or_else(wrong)?;
        let action = Action::ALL.into_iter().find(|action| action.name() == verb).ok_or_else(wrong)?;
        Ok(TaskId::new(action, subject))
    }
}

impl TryFrom<String> for TaskId {
    type Error = String;

    fn try_from(text: String) -> Result<TaskId, String> {
        text.parse()
    }
}

impl From<TaskId> for String {
    fn from(task: TaskId) -> String {
        task.to_string()
    }
}
