//! `kind = "command"`: a program of the plan is asked; it must end as it should and say what it must.
//!
//! Relies on `context::run` for deadline, account and log. Promises: a program that cannot be started or runs out of
//! time is a no, only a signal to us is an error.

use std::time::Duration;

use super::{Check, Finding, Kind, Reads};
use crate::context::{Context, default_timeout, run};
use crate::error::{Fault, Result};
use crate::plan::{Command, Fields, Reading, Scope};
use crate::sys::process::How;

/// Keys: those of a command, and those of a reading.
pub(super) const KIND: Kind = Kind { name: "command", read, reads: Reads::Text };

fn read(fields: &mut Fields) -> Box<dyn Check> {
    Box::new(Asked { command: fields.need_own_command(), reading: Reading::read(fields) })
}

struct Asked {
    command: Command,
    reading: Reading,
}

impl Check for Asked {
    fn describe(&self, scope: &Scope) -> String {
        format!("run {}", run::shown(&self.command, scope))
    }

    fn time_limit(&self) -> Option<Duration> {
        Some(self.command.timeout.unwrap_or(default_timeout::CHECK))
    }

    fn ask(&self, cx: &Context<'_>) -> Result<Finding> {
        let ran = match run::whatever(cx, &self.command, default_timeout::CHECK) {
            Ok(ran) => ran,
            Err(error) if matches!(error.fault, Fault::Signal(_)) => return Err(error),
            Err(error) => return Ok(Finding::no(error.to_string())),
        };
        let ended = match ran.exit.how {
            How::Status(status) if self.command.exit.contains(&status) => format!("exit status {status}"),
            How::Status(status) => return Ok(Finding::no(with_last_line(&format!("exit status {status}"), &ran.text))),
            How::Signal(signal) => {
                return Ok(Finding::no(with_last_line(&format!("ended by signal {signal}"), &ran.text)));
            }
            How::TimedOut => return Ok(Finding::no(with_last_line("took too long", &ran.text))),
            How::Stopped(signal) => {
                return Err(
                    crate::error::Error::new(format!("`{}` was interrupted", ran.shown)).fault(Fault::Signal(signal))
                );
            }
        };
        Ok(match self.reading.judge(&ran.text, &cx.scope)? {
            Some(why) => Finding::no(why),
            None => Finding::yes(ended),
        })
    }

    fn read_text(&self, cx: &Context<'_>) -> Result<String> {
        Ok(run::command(cx, &self.command, default_timeout::CHECK)?.text)
    }
}

fn with_last_line(ended: &str, text: &str) -> String {
    match text.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{ended}: {}", line.chars().take(200).collect::<String>()),
        None => ended.to_owned(),
    }
}
