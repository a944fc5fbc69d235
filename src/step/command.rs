//! `kind = "command"`: a program of the plan changes the system; another may take it back.
//!
//! Promises: a program is tried again only while this process lives and only where the plan calls it repeatable.

use std::time::Duration;

use super::{Kind, Step};
use crate::context::{Context, Ran, default_timeout, run};
use crate::error::{Fault, Result};
use crate::plan::{Command, Fields, List, Scope};
use crate::tx::Output;

/// Keys: those of a command, `undo` (a command), `attempts`, `repeatable`, `changes` (resources).
pub(super) const KIND: Kind = Kind { name: "command", read };

/// The pause before another attempt.
const PAUSE: Duration = Duration::from_secs(1);

fn read(fields: &mut Fields) -> Box<dyn Step> {
    let command = fields.need_own_command();
    let undo = fields.command("undo");
    let attempts = fields.integer("attempts", 1..=100).unwrap_or(1);
    let repeatable = fields.flag("repeatable", false);
    let changes = fields.references(List::Resource, "changes");
    if attempts > 1 && !repeatable {
        fields.wrong(
            "attempts",
            "a step is tried again only when it is repeatable",
            Some("repeatable = true, if running it twice does no harm"),
        );
    }
    Box::new(Run { command, undo, attempts, changes })
}

struct Run {
    command: Command,
    undo: Option<Command>,
    attempts: i64,
    changes: Vec<String>,
}

impl Step for Run {
    fn describe(&self, scope: &Scope) -> String {
        let mut line = format!("run {}", run::shown(&self.command, scope));
        if self.attempts > 1 {
            line.push_str(&format!(", up to {} times", self.attempts));
        }
        if !self.changes.is_empty() {
            line.push_str(&format!(", changes {}", self.changes.join(", ")));
        }
        line
    }

    fn time_limit(&self) -> Option<Duration> {
        Some(self.command.timeout.unwrap_or(default_timeout::STEP))
    }

    fn run(&self, cx: &Context<'_>) -> Result<Output> {
        let mut attempt = 1;
        loop {
            let failure = match run::command(cx, &self.command, default_timeout::STEP) {
                Ok(ran) => return Ok(output(&ran, attempt)),
                Err(failure) => failure,
            };
            if attempt >= self.attempts || matches!(failure.fault, Fault::Signal(_)) {
                return Err(failure);
            }
            attempt += 1;
            cx.log.line(&format!("{failure}; attempt {attempt} of {}", self.attempts));
            // What an attempt that failed said is no ground to judge the one that follows.
            cx.said.borrow_mut().clear();
            pause(cx)?;
        }
    }

    fn has_undo(&self) -> bool {
        self.undo.is_some()
    }

    fn undo(&self, cx: &Context<'_>) -> Result<Output> {
        match &self.undo {
            Some(undo) => Ok(output(&run::command(cx, undo, default_timeout::QUIESCE)?, 1)),
            None => Ok(Output::default()),
        }
    }
}

fn pause(cx: &Context<'_>) -> Result<()> {
    for _ in 0..10 {
        cx.go_on()?;
        std::thread::sleep(PAUSE / 10);
    }
    Ok(())
}

fn output(ran: &Ran, attempt: i64) -> Output {
    let mut notes = Vec::new();
    if attempt > 1 {
        notes.push(format!("on attempt {attempt}"));
    }
    if let [(pid, command), rest @ ..] = ran.exit.left.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        notes.push(format!("left running: {pid} {}{more}", command.chars().take(60).collect::<String>()));
    }
    Output { note: notes.join("; "), ..Output::default() }
}
