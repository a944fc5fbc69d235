//! `kind = "command"`: a program stops what writes, another starts it again. Either may be left out.
//!
//! The account, directory and environment of the entry hold for both programs; so does its time limit, unless `resume`
//! is a table, which then says its own.

use std::time::Duration;

use super::{Kind, Quiesce};
use crate::context::{Context, Ran, default_timeout, run};
use crate::error::Result;
use crate::plan::{Command, Fields, Scope};
use crate::tx::Output;

/// Keys: those of a command, and `resume` (a command).
pub(super) const KIND: Kind = Kind { name: "command", read };

fn read(fields: &mut Fields) -> Box<dyn Quiesce> {
    let says_everything = fields.is_table("resume");
    let stop = fields.own_command();
    let mut resume = fields.command("resume");
    if stop.is_none() && resume.is_none() && !fields.has("run") && !fields.has("shell") && !fields.has("resume") {
        fields.wrong("run", "neither `run` nor `resume` says what to do", Some("run = [\"…\"] and resume = [\"…\"]"));
    }
    let timeout = fields.time_limit("timeout");
    if let Some(resume) = resume.as_mut().filter(|_| !says_everything) {
        resume.timeout = timeout.or(resume.timeout);
    }
    Box::new(Stopped { stop, resume })
}

struct Stopped {
    stop: Option<Command>,
    resume: Option<Command>,
}

impl Quiesce for Stopped {
    fn describe(&self, scope: &Scope) -> (String, String) {
        let say = |command: &Option<Command>| match command {
            Some(command) => format!("run {}", run::shown(command, scope)),
            None => "nothing".to_owned(),
        };
        (say(&self.stop), say(&self.resume))
    }

    fn time_limits(&self) -> (Option<Duration>, Option<Duration>) {
        let limit = |command: &Command| command.timeout.unwrap_or(default_timeout::QUIESCE);
        (self.stop.as_ref().map(limit), self.resume.as_ref().map(limit))
    }

    fn quiesce(&self, cx: &Context<'_>) -> Result<Output> {
        carry_out(cx, self.stop.as_ref())
    }

    fn resume(&self, cx: &Context<'_>) -> Result<Output> {
        carry_out(cx, self.resume.as_ref())
    }
}

fn carry_out(cx: &Context<'_>, command: Option<&Command>) -> Result<Output> {
    let Some(command) = command else { return Ok(Output::default()) };
    let ran = run::command(cx, command, default_timeout::QUIESCE)?;
    Ok(Output { note: left_running(&ran), ..Output::default() })
}

/// Names what the program left running; starting servers is what a resume is for, so that is no warning.
fn left_running(ran: &Ran) -> String {
    match ran.exit.left.as_slice() {
        [] => String::new(),
        [(pid, command), rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!("left running: {pid} {}{more}", command.chars().take(60).collect::<String>())
        }
    }
}
