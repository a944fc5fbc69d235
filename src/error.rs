//! What went wrong, in the form an operator reads it.
//!
//! An [`Error`] states a fact, lists its causes one per line, and says what to do next. It is data: a failure
//! that is journaled and a failure that is printed are the same thing. Promise: nothing that is put into an
//! error is ever dropped by a later one; [`Error::because`] only adds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A failure with its causes and its hints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What could not be done, or the fact; lower case, values in backticks, no full stop.
    pub statement: String,
    /// Why, the nearest cause first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do next, each pasteable where it can be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Which kind of failure this is; it decides the exit status.
    #[serde(default, skip_serializing_if = "Fault::is_failed")]
    pub fault: Fault,
}

/// The kinds of failure that have an exit status of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Failed or refused; nothing was changed. Exit status 1.
    #[default]
    Failed,
    /// The command line or the plan is wrong, or it is not clear which transaction is meant. Exit status 2.
    Usage,
    /// An unfinished transaction overlaps. Exit status 6.
    Overlap,
    /// Another process holds a lock. Exit status 7.
    Locked,
    /// Stored data is damaged. Exit status 8.
    Damage,
    /// A transaction was left half-way and cannot go on; a person is needed. Exit status 5.
    Left,
    /// A signal asked to stop; the number is journaled with the transaction. Exit status 130 or 143.
    Signal(i32),
}

impl Fault {
    fn is_failed(&self) -> bool {
        *self == Fault::Failed
    }
}

/// The result of everything that can fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that states `statement`.
    pub fn new(statement: impl Into<String>) -> Error {
        Error { statement: statement.into(), causes: Vec::new(), hints: Vec::new(), fault: Fault::Failed }
    }

    /// Adds one cause, the nearest first.
    pub fn because(mut self, cause: impl fmt::Display) -> Error {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds one hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hints.push(hint.into());
        self
    }

    /// The first `most` causes, and how many more there are: where every file of a tree is one, a person is not shown
    /// all of them.
    pub fn first_causes(&self, most: usize) -> (&[String], usize) {
        // A line that says that there is one more says less than that one.
        let shown = if self.causes.len() <= most + 1 { self.causes.len() } else { most };
        (&self.causes[..shown], self.causes.len() - shown)
    }

    /// Says which kind of failure it is.
    pub fn fault(mut self, fault: Fault) -> Error {
        self.fault = fault;
        self
    }

    /// Whether a filesystem that has no room left, or a quota that is used up, is the cause.
    pub fn is_no_room(&self) -> bool {
        // In the system's own words, which end with its number for it; and in SQLite's.
        let said = |cause: &String| {
            let numbers = [libc::ENOSPC, libc::EDQUOT].map(|number| format!("(os error {number})"));
            numbers.iter().any(|number| cause.ends_with(number)) || cause.ends_with("database or disk is full")
        };
        self.causes.iter().any(said)
    }

    /// A new statement on top; the old one becomes its first cause. Hints and fault are kept.
    pub fn within(self, statement: impl Into<String>) -> Error {
        let mut causes = vec![self.statement];
        causes.extend(self.causes);
        Error { statement: statement.into(), causes, hints: self.hints, fault: self.fault }
    }
}

impl fmt::Display for Error {
    /// The statement and its first causes on one line, for logs; the terminal shows a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        f.write_str(&self.statement)?;
        let (shown, more) = self.first_causes(SHOWN);
        for cause in shown {
            write!(f, ": {cause}")?;
        }
        if more > 0 { write!(f, ": and {more} more") } else { Ok(()) }
    }
}

impl std::error::Error for Error {}

/// Turns any other failure into an [`Error`] by saying what could not be done.
pub trait OrSay<T> {
    /// `say` states what could not be done; the failure at hand becomes its cause.
    fn or_say<S: Into<String>>(self, say: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: fmt::Display> OrSay<T> for std::result::Result<T, E> {
    fn or_say<S: Into<String>>(self, say: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::new(say()).because(cause))
    }
}

impl<T> OrSay<T> for Option<T> {
    fn or_say<S: Into<String>>(self, say: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::new(say()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_by_what_the_system_and_sqlite_say() {
        let because = |cause: &dyn fmt::Display| Error::new("cannot write").because(cause).within("cannot restore");
        assert!(because(&std::io::Error::from_raw_os_error(libc::ENOSPC)).is_no_room());
        assert!(because(&rustix::io::Errno::DQUOT).is_no_room());
        assert!(because(&"database or disk is full").is_no_room());
        assert!(!because(&std::io::Error::from_raw_os_error(libc::EIO)).is_no_room());
        assert!(!Error::new("(os error 28)").is_no_room());
    }
}
