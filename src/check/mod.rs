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

use std::time::Duration;

use crate::context::Context;
use crate::error::Result;
use crate::plan::{Fields, Scope};

/// A kind of check.
pub struct Kind {
    /// What `kind = "…"` says.
    pub name: &'static str,
    /// Reads the kind's keys; mistakes go to the report of `fields`.
    pub read: fn(&mut Fields) -> Box<dyn Check>,
    /// What its [`Check::read_text`] can be asked for.
    pub reads: Reads,
}

/// Whether a kind of check reads a text, in which a version can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// It does.
    Text,
    /// It only says yes or no.
    Nothing,
}

/// Every kind there is.
pub const KINDS: &[Kind] = &[command::KIND, file::KIND, http::KIND, process::KIND, space::KIND, sql::KIND, tcp::KIND];

/// A question.
pub trait Check: Send + Sync {
    /// What it asks, in one line for `plan`.
    fn describe(&self, scope: &Scope) -> String;

    /// How long one answer may take; `None` where nothing limits it.
    fn time_limit(&self) -> Option<Duration> {
        None
    }

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

/// Asks something that may take its time in a thread of its own, so that a signal is obeyed at once. A question that
/// nobody waits for any more ends by its own time limit.
fn promptly<T: Send + 'static>(cx: &Context<'_>, ask: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (answer, answered) = std::sync::mpsc::channel();
    // Nobody may be listening any more.
    let asking = std::thread::spawn(move || drop(answer.send(ask())));
    loop {
        cx.go_on()?;
        match answered.recv_timeout(std::time::Duration::from_millis(50)) {
            Ok(answer) => return Ok(answer),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                let _ = asking.join();
                return Err(crate::error::Error::new("asking ended unexpectedly"));
            }
        }
    }
}
