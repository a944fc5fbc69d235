//! `kind = "process"`: whether a process runs, named by its pid file, or by its account and command line.
//!
//! Reads `/proc` only. A zombie does not run, and this process is never the one that is meant.

use super::{Check, Finding, Kind, Reads};
use crate::context::Context;
use crate::error::Result;
use crate::plan::{Fields, Pattern, Scope, Template};
use crate::sys::process::Account;

/// Keys: `pid_file`, or `command` (a regular expression on the command line) with `user`; `running` (true by default).
pub(super) const KIND: Kind = Kind { name: "process", read, reads: Reads::Nothing };

fn read(fields: &mut Fields) -> Box<dyn Check> {
    // Common to all checks; this one never waits.
    let _ = fields.time_limit("timeout");
    let check = Asked {
        pid_file: fields.template("pid_file"),
        user: fields.template("user"),
        command: fields.pattern("command"),
        running: fields.flag("running", true),
    };
    let named = fields.has("command");
    if check.pid_file.is_some() && (named || check.user.is_some()) {
        fields.wrong("pid_file", "`pid_file` and `user` with `command` exclude each other", None);
    } else if check.pid_file.is_none() && !named {
        fields.wrong("pid_file", "which process is meant is missing", Some("pid_file = \"…\", or user and command"));
    }
    Box::new(check)
}

struct Asked {
    pid_file: Option<Template>,
    user: Option<Template>,
    command: Option<Pattern>,
    running: bool,
}

impl Check for Asked {
    fn describe(&self, scope: &Scope) -> String {
        let what = match &self.pid_file {
            Some(file) => format!("the process of {}", file.path(scope).unwrap_or_default().display()),
            None => {
                let pattern = self.command.as_ref().and_then(|pattern| pattern.compile(scope).ok());
                format!("a process like `{}`", pattern.as_ref().map_or("", |pattern| pattern.as_str()))
            }
        };
        match self.running {
            true => format!("{what} runs"),
            false => format!("{what} does not run"),
        }
    }

    fn ask(&self, cx: &Context<'_>) -> Result<Finding> {
        let found = match &self.pid_file {
            Some(file) => {
                let file = file.path(&cx.scope)?;
                match std::fs::read_to_string(&file) {
                    Ok(text) => match text.split_whitespace().next().and_then(|word| word.parse::<u32>().ok()) {
                        Some(pid) => alive(pid).map(|_| pid),
                        None if text.trim().is_empty() => None,
                        None => return Ok(Finding::no(format!("`{}` holds no pid", file.display()))),
                    },
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                    Err(error) => return Ok(Finding::no(format!("cannot read `{}`: {error}", file.display()))),
                }
            }
            None => self.search(cx)?,
        };
        Ok(match (found, self.running) {
            (Some(pid), true) => Finding::yes(format!("process {pid} runs")),
            (Some(pid), false) => Finding::no(format!("process {pid} still runs")),
            (None, true) => Finding::no("it does not run"),
            (None, false) => Finding::yes("it does not run"),
        })
    }
}

impl Asked {
    fn search(&self, cx: &Context<'_>) -> Result<Option<u32>> {
        let user = match &self.user {
            Some(user) => Some(Account::find(&user.expand(&cx.scope)?)?.uid),
            None => None,
        };
        let pattern = match &self.command {
            Some(pattern) => Some(pattern.compile(&cx.scope)?),
            None => None,
        };
        let Ok(entries) = std::fs::read_dir("/proc") else { return Ok(None) };
        let mut pids: Vec<u32> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        Ok(pids.into_iter().filter(|pid| *pid != std::process::id()).find(|pid| {
            alive(*pid).is_some_and(|(uid, line)| {
                user.is_none_or(|user| user == uid) && pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line))
            })
        }))
    }
}

/// The account and the command line of a process that runs and is no zombie.
fn alive(pid: u32) -> Option<(u32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uid = uids.split_whitespace().nth(1)?.parse().ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|w| !w.is_empty())
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect();
    Some((uid, words.join(" ")))
}
