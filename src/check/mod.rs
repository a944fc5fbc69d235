//! Questions with a yes/no answer that change nothing. One file per kind, one line in [`KINDS`].

mod command;
mod file;
mod http;
mod process;
mod space;
mod sql;
mod tcp;
#[cfg(test)]
mod tests;

use crate::context::Context;
use crate::error::Result;
use crate::plan::{Fields, Scope};

/// A kind of check.
pub struct Kind {
    /// What `kind = "…"` says.
    pub name: &'static str,
    /// Reads the kind's keys; mistakes go to the report of `fields`.
    pub read: fn(&mut Fields) -> Box<dyn Check>,
}

/// Every kind there is.
pub const KINDS: &[Kind] = &[command::KIND, file::KIND, http::KIND, process::KIND, space::KIND, sql::KIND, tcp::KIND];

/// A question.
pub trait Check: Send + Sync {
    /// What it asks, in one line for `plan`.
    fn describe(&self, scope: &Scope) -> String;

    /// Asks once; waiting and retrying is the engine's. A question that cannot be asked right now (connection
    /// refused, file missing) has the answer no; an error is for what will not get better by waiting.
    fn ask(&self, cx: &Context<'_>) -> Result<Finding>;

    /// The text it reads (`command`, `file`, `http`, `sql`): what `[version]` finds a version in.
    fn read_text(&self, _cx: &Context<'_>) -> Result<String> {
        Err(crate::error::Error::new("this kind of check reads no text"))
    }
}

/// The answer to a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Yes or no.
    pub answer: Answer,
    /// What was found, in a few words: `status 200`, `connection refused`, `does not match `done``.
    pub found: String,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is as it must be.
    Yes,
    /// It is not.
    No,
}

impl Finding {
    /// A yes.
    pub fn yes(found: impl Into<String>) -> Finding {
        Finding { answer: Answer::Yes, found: found.into() }
    }

    /// A no.
    pub fn no(found: impl Into<String>) -> Finding {
        Finding { answer: Answer::No, found: found.into() }
    }

    /// Whether it is a yes.
    pub fn passed(&self) -> bool {
        self.answer == Answer::Yes
    }
}
