//! Running the plan's commands: from words of the plan to a program, and from its end to an error a person can act on.
//!
//! Everything a command sees is made from the context, so a command of a recovered task runs as it would have run
//! live. Promise: no secret stands in an argument, in the log or in an error.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use super::{Context, Direction, Ran};
use crate::error::{Error, Fault, Result};
use crate::monitor::Monitor;
use crate::plan::{self, Command, Scope, Secrecy, env_file};
use crate::sys::process::{self, Account, Exit, How, Log, Program};
use crate::sys::signal::{self, Stop};

/// How much of what a task's programs printed is kept for its `expect`.
const SAID: usize = 64 << 20;
/// A shorter value of an `env_file` (`1`, `true`, `prod`) is no secret: masking it would make every text unreadable.
const SHORT: usize = 6;

/// Runs `command`, its output to the task's log; an exit status that is not among `exit`, a timeout or a
/// signal is an error that quotes the program's last line. What a failed command left running is ended.
pub fn command(cx: &Context<'_>, command: &Command, default: Duration) -> Result<Ran> {
    let around = Around::of(cx);
    let ran = around.carry_out(command, default, Stdio::null(), None)?;
    keep(cx, &ran);
    around.succeeded(command, default, ran)
}

/// Runs it and returns how it ended whatever that was; only a command that cannot be started, times out or is
/// stopped is an error. What it left running is left alone.
pub fn whatever(cx: &Context<'_>, command: &Command, default: Duration) -> Result<Ran> {
    let around = Around::of(cx);
    let ran = around.carry_out(command, default, Stdio::null(), None)?;
    keep(cx, &ran);
    match ran.exit.how {
        How::Status(_) | How::Signal(_) => Ok(ran),
        How::TimedOut | How::Stopped(_) => Err(around.failure(command, default, &ran)),
    }
}

/// Runs it with its stdin read from `input` or its stdout written to `output` (files or pipes); stderr goes to the
/// log. It fails as with [`command`]; whoever holds the other end of a pipe has to serve it from another thread.
pub fn piped(cx: &Context<'_>, command: &Command, default: Duration, input: Stdio, output: Stdio) -> Result<Ran> {
    let around = Around::of(cx);
    let ran = around.carry_out(command, default, input, Some(output))?;
    keep(cx, &ran);
    around.succeeded(command, default, ran)
}

/// Runs it as [`piped`] does, in a thread of its own, while `work` goes on here and may run others. Both ends are
/// returned; that `work` ends has to be what ends the program.
pub fn beside<T>(
    cx: &Context<'_>,
    command: &Command,
    default: Duration,
    (input, output): (Stdio, Stdio),
    work: impl FnOnce() -> T,
) -> (Result<Ran>, T) {
    let around = Around::of(cx);
    std::thread::scope(|threads| {
        let running = threads.spawn(|| around.carry_out(command, default, input, Some(output)));
        let done = work();
        let ran = running.join().unwrap_or_else(|_| Err(Error::new("running a program ended unexpectedly")));
        let ran = ran.and_then(|ran| {
            keep(cx, &ran);
            around.succeeded(command, default, ran)
        });
        (ran, done)
    })
}

/// How a command is shown to people: as a shell line, secrets left out. Variables that are not known yet stay as
/// they are written; of several lines of shell the first is shown.
pub fn shown(command: &Command, scope: &Scope) -> String {
    match &command.program {
        plan::Program::Run(words) => {
            let words = words.iter().map(|word| word.expand(scope).unwrap_or_else(|_| word.to_string()));
            words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
        }
        plan::Program::Shell(text) => {
            let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let first = lines.next().unwrap_or_default();
            if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
        }
    }
}

/// Adds to what the task's programs said so far, the oldest going first when it is too much.
fn keep(cx: &Context<'_>, ran: &Ran) {
    let mut said = cx.said.borrow_mut();
    said.push_str(&ran.text);
    if said.len() > SAID {
        let mut cut = said.len() - SAID;
        while !said.is_char_boundary(cut) {
            cut += 1;
        }
        said.drain(..cut);
    }
}

/// The part of a context that commands have to do with.
struct Around<'a> {
    tx: &'a str,
    subject: &'a str,
    direction: Direction,
    scope: &'a Scope,
    log: &'a Log,
    stop: &'a Stop,
    monitor: &'a dyn Monitor,
}

impl<'a> Around<'a> {
    fn of(cx: &'a Context<'_>) -> Around<'a> {
        Around {
            tx: &cx.tx,
            subject: &cx.subject,
            direction: cx.direction,
            scope: &cx.scope,
            log: cx.log,
            stop: cx.stop,
            monitor: &*cx.monitor,
        }
    }

    /// Runs it to its end, whatever that is, and says so in the log.
    fn carry_out(&self, command: &Command, default: Duration, stdin: Stdio, stdout: Option<Stdio>) -> Result<Ran> {
        let shown = shown(command, self.scope);
        let started = self.program(command, default, stdin, stdout).and_then(|program| {
            self.log.line(&format!("$ {shown}"));
            process::run(program, self.log, self.stop, &mut |line| self.monitor.output(line))
        });
        let (exit, text) = match started {
            Ok(ended) => ended,
            Err(error) => {
                let error = self.log.masked_error(error);
                self.log.line(&format!("= {error}"));
                return Err(error);
            }
        };
        self.log.line(&format!("= {}", summary(&exit)));
        for (pid, command) in &exit.left {
            self.log.line(&format!("= left running: {pid} {command}"));
        }
        Ok(Ran { exit, text, shown })
    }

    /// The program that a command of the plan stands for, at this moment.
    fn program(&self, command: &Command, default: Duration, stdin: Stdio, stdout: Option<Stdio>) -> Result<Program> {
        let argv = match &command.program {
            plan::Program::Run(words) => {
                words.iter().map(|word| word.expand(self.scope).map(OsString::from)).collect::<Result<Vec<_>>>()?
            }
            plan::Program::Shell(text) => ["/bin/sh", "-c", text].map(OsString::from).to_vec(),
        };
        let user = command.user.as_ref().map(|user| user.expand(self.scope)).transpose()?;
        let dir = match &command.dir {
            Some(dir) => dir.path(self.scope)?,
            None => self.default_dir(user.as_deref())?,
        };
        Ok(Program {
            argv,
            env: self.environment(command)?,
            dir: Some(dir),
            user,
            timeout: command.timeout.unwrap_or(default),
            stdin,
            stdout,
        })
    }

    /// The plan's directory; the root where that is gone by now or closed to the user.
    fn default_dir(&self, user: Option<&str>) -> Result<PathBuf> {
        let dir = &self.scope.dir;
        let open = match user {
            _ if !dir.is_absolute() || !dir.is_dir() => false,
            Some(user) => Account::find(user)?.may_enter(dir),
            None => true,
        };
        Ok(if open { dir.clone() } else { PathBuf::from("/") })
    }

    /// What is added to the environment: for a line of shell the variables, then `env_file`, then `env`, then our own.
    fn environment(&self, command: &Command) -> Result<BTreeMap<OsString, OsString>> {
        let mut env: BTreeMap<String, String> = BTreeMap::new();
        let mut secrets = Vec::new();
        if let plan::Program::Shell(_) = command.program {
            for (name, value) in self.scope.secrets.iter().chain(&self.scope.values) {
                env.insert(name.replace('-', "_"), value.clone());
            }
            secrets.extend(self.scope.secrets.values().cloned());
        }
        if let Some(path) = &command.env_file {
            for (name, value) in env_file::read(&path.path(self.scope)?)? {
                if value.len() >= SHORT {
                    secrets.push(value.clone());
                }
                env.insert(name, value);
            }
        }
        for (name, value) in &command.env {
            let (value, secrecy) = value.read(self.scope)?;
            if secrecy == Secrecy::Secret {
                secrets.push(value.clone());
            }
            env.insert(name.clone(), value);
        }
        self.log.also_secret(secrets);
        let direction = match self.direction {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        };
        for (name, value) in
            [("TXUPGRADE_TX", self.tx), ("TXUPGRADE_DIRECTION", direction), ("TXUPGRADE_TASK", self.subject)]
        {
            env.insert(name.into(), value.into());
        }
        Ok(env.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The run itself, if it ended as the plan wants it to.
    fn succeeded(&self, command: &Command, default: Duration, ran: Ran) -> Result<Ran> {
        match ran.exit.how {
            How::Status(status) if command.exit.contains(&status) => Ok(ran),
            _ => Err(self.failure(command, default, &ran)),
        }
    }

    /// Why that end is a failure. What was left running is ended.
    fn failure(&self, command: &Command, default: Duration, ran: &Ran) -> Error {
        let shown = &ran.shown;
        let mut error = match ran.exit.how {
            How::Status(status) => Error::new(format!("`{shown}` ended with exit status {status}")),
            How::Signal(number) => Error::new(format!("`{shown}` was ended by {}", signal::name(number))),
            How::TimedOut => {
                let timeout = in_words(command.timeout.unwrap_or(default));
                Error::new(format!("`{shown}` was stopped after {timeout}: it did not end in time"))
            }
            How::Stopped(number) => {
                let name = signal::name(number);
                Error::new(format!("`{shown}` was stopped, since {name} was sent")).fault(Fault::Signal(number))
            }
        };
        if let Some(line) = last_line(&ran.text) {
            error = error.because(self.log.masked(&format!("its last line was: {line}")));
        }
        match process::end_left(self.log, &ran.exit) {
            Ok(ended) => {
                for (pid, command) in ended {
                    let line = self.log.masked(&format!("process {pid} `{command}`, which it left running, was ended"));
                    self.log.line(&format!("= {line}"));
                    error = error.because(line);
                }
            }
            Err(left) => {
                let left = self.log.masked_error(left);
                error = error.because(left.statement);
                error.causes.extend(left.causes);
                error.hints.extend(left.hints);
            }
        }
        error
    }
}

/// How it ended, for the log.
fn summary(exit: &Exit) -> String {
    let took = exit.took.as_secs_f64();
    let took = if took < 60.0 { format!("{took:.1} s") } else { in_words(Duration::from_secs(exit.took.as_secs())) };
    match exit.how {
        How::Status(status) => format!("exit status {status} after {took}"),
        How::Signal(number) => format!("ended by {} after {took}", signal::name(number)),
        How::TimedOut => format!("did not end in time: stopped after {took}"),
        How::Stopped(number) => format!("stopped after {took}, since {} was sent", signal::name(number)),
    }
}

/// The last line that says anything, without colours, at most 300 characters of it.
fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().map(plain).find(|line| !line.is_empty())?;
    match line.char_indices().nth(300) {
        Some((end, _)) => Some(format!("{} …", &line[..end])),
        None => Some(line),
    }
}

/// A line as it would look on a terminal, without what only steers that.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => {
                // `ESC [ 31 m`: everything up to its last letter.
                if chars.next() == Some('[') {
                    chars.find(|char| char.is_ascii_alphabetic());
                }
            }
            '\t' => out.push(' '),
            char if char.is_control() => {}
            char => out.push(char),
        }
    }
    out.trim().to_owned()
}

/// A word as a shell would have to be given it.
pub(crate) fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_alphanumeric() || "-_./:=,@%+${}".contains(c);
    let plain = !word.is_empty() && word.chars().all(harmless) && !word.contains('$');
    // A variable that is not known yet is shown as it is written in the plan.
    if plain || (word.contains("${") && word.chars().all(harmless)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// `10m`, `1h 30m`, `2s`, `300ms`: as a plan writes it.
pub(crate) fn in_words(time: Duration) -> String {
    let (seconds, milliseconds) = (time.as_secs(), time.subsec_millis());
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (milliseconds.into(), "ms")];
    let parts: Vec<String> = parts.iter().filter(|part| part.0 > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
