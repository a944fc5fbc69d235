//! Programs: started in a session of their own, without a terminal, with a deadline, and never lost from sight.
//!
//! A program is over when its own process ends. What it leaves running is named after success and killed after
//! failure, timeout or interruption. So that a killed txupgrade leaves nothing behind either, each program's pid is
//! written to the transaction's `processes` file by the child itself before it execs, its environment carries a
//! token, and where a cgroup can be made it has one of its own: `end_all` finds its processes by any of the three.

mod account;
mod cgroup;
mod ending;
mod log;
mod records;
mod secrets;
mod seen;
mod start;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

pub use account::uid_of;
pub(crate) use account::{Account, group_id};
pub use ending::{end_all, end_left};
pub use log::{Log, shown};
pub use seen::command_line;

use crate::error::{Error, OrSay, Result};
use crate::sys::clock;
use crate::sys::signal::Stop;

/// How often the stop flag is asked and the log looked at while a program runs.
const LOOK: Duration = Duration::from_millis(50);
/// How long what a program left running may take to end by itself before it counts as left.
const SETTLE: Duration = Duration::from_millis(90);

/// A program to run.
#[derive(Debug)]
pub struct Program {
    /// The program, looked up in PATH unless there is a `/` in it, and its arguments.
    pub argv: Vec<OsString>,
    /// Added to (and overriding) this process's own environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Where it works; `None`: where we do.
    pub dir: Option<PathBuf>,
    /// Whose account: sets uid, gid, groups, HOME, USER, LOGNAME.
    pub user: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// What it reads; [`Stdio::null`] unless there is a reason.
    pub stdin: Stdio,
    /// Where stdout goes; `None`: to the log, together with stderr.
    pub stdout: Option<Stdio>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Which way.
    pub how: How,
    /// How long it took.
    pub took: Duration,
    /// Processes that it left running: pid and command line.
    pub left: Vec<(u32, String)>,
}

/// The ways a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By itself, with this exit status.
    Status(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// It did not end in time and was ended, with all that it started.
    TimedOut,
    /// A signal to us (its number) ended it, with all that it started.
    Stopped(i32),
}

/// Runs `program` to its end; `each_line` gets the output as it comes, masked. Returns how it ended and its output
/// (at most its first and last 32 MiB), which is not masked: it is for judging, and what is shown or kept of it goes
/// through [`Log::masked`].
///
/// An error when it cannot be started, when its output cannot be read, or when it cannot be ended.
pub fn run(program: Program, log: &Log, stop: &Stop, each_line: &mut dyn FnMut(&str)) -> Result<(Exit, String)> {
    let begin = Instant::now();
    if let Some(signal) = stop.signal() {
        let exit = Exit { how: How::Stopped(signal), took: Duration::ZERO, left: Vec::new() };
        return Ok((exit, String::new()));
    }
    let account = account(&program)?;
    let deadline = clock::ran().saturating_add(program.timeout);
    let from = log.len();
    log.show_no_more();
    let lent = Lent::to(account.as_ref(), log);
    let start::Started { mut child, trace, group } = start::start(program, log, account.as_ref())?;
    let mut tail = log.tail(from);
    let wait = Wait::on(trace.pid);
    let early = loop {
        tail.advance(each_line);
        if wait.is_over()? {
            break None;
        }
        if let Some(signal) = stop.signal() {
            break Some(How::Stopped(signal));
        }
        let left = deadline.saturating_sub(clock::ran());
        if left.is_zero() {
            break Some(How::TimedOut);
        }
        wait.a_while(left.min(LOOK));
    };
    let took = begin.elapsed();
    let left = match early {
        Some(_) => {
            trace.end()?;
            Vec::new()
        }
        None => left_running(&trace),
    };
    if !wait.is_over()? {
        // Nothing is seen of it (no `/proc`), but it is our child: its pid is its own.
        let _ = rustix::process::kill_process_group(wait.pid, Signal::KILL);
    }
    let status = child.wait().or_say(|| format!("cannot wait for process {}", trace.pid))?;
    drop(lent);
    let how = early.unwrap_or(match status.code() {
        Some(code) => How::Status(code),
        None => How::Signal(status.signal().unwrap_or(0)),
    });
    if left.is_empty() {
        if let Some(records) = &log.records {
            records::over(records, trace.pid, records::hash(&log.mark));
        }
    } else {
        log.left.lock().unwrap_or_else(PoisonError::into_inner).push((trace.clone(), left.clone()));
    }
    drop(group);
    tail.finish(each_line);
    // A program that truncated its output took the log's beginning along.
    let to = log.len();
    let from = if to < from { 0 } else { from };
    let text = log.text(from, to)?;
    log.mask_rest()?;
    Ok((Exit { how, took, left }, text))
}

/// The runner that this process is: pid, start (ns since boot), boot id.
pub fn myself() -> (u32, u64, String) {
    let pid = std::process::id();
    (pid, seen::look(pid).map_or(0, |us| us.start), clock::boot_id())
}

/// Whether the process is still the one that started then, on this boot.
pub fn is_alive(pid: u32, start: u64, boot_id: &str) -> bool {
    boot_id == clock::boot_id()
        && seen::look(pid).is_some_and(|now| now.start == start && now.state != seen::State::Dead)
}

/// Whether the process that had this pid at `since` (nanoseconds since boot) is gone. Of another boot it is.
pub fn is_gone(pid: u32, since: u64) -> bool {
    since > clock::since_boot() || seen::look(pid).is_none_or(|now| now.start > since || now.state == seen::State::Dead)
}

/// The account to switch to, if it is not our own.
fn account(program: &Program) -> Result<Option<Account>> {
    let Some(user) = &program.user else { return Ok(None) };
    let account = Account::find(user)?;
    let us = rustix::process::geteuid().as_raw();
    if us == 0 || us == account.uid {
        // Setting what is set already is refused to all but root, and needless.
        return Ok(Some(account).filter(|_| us == 0));
    }
    let name = program.argv.first().map_or(String::new(), |name| name.display().to_string());
    Err(Error::new(format!("cannot start `{name}` as user `{user}`")).because("only root can run programs as others"))
}

/// What of a program still runs shortly after its end.
fn left_running(trace: &ending::Trace) -> Vec<(u32, String)> {
    let until = Instant::now() + SETTLE;
    loop {
        let left = trace.find();
        if left.is_empty() || Instant::now() >= until {
            let named = left.iter().filter_map(|one| Some((one.pid, command_line(one.pid)?)));
            return named.collect();
        }
        std::thread::sleep(SETTLE / 3);
    }
}

/// A log that belongs to the program's user while it runs: `/dev/stderr` opens the file anew, as that user. Nobody
/// but the program reaches it, since the directories above are ours.
struct Lent<'a>(Option<&'a Log>);

impl<'a> Lent<'a> {
    fn to(account: Option<&Account>, log: &'a Log) -> Lent<'a> {
        let lend = |account: &Account| {
            (account.uid != 0 && std::os::unix::fs::fchown(&log.file, Some(account.uid), None).is_ok()).then_some(log)
        };
        Lent(account.and_then(lend))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(log) = self.0 {
            let _ = std::os::unix::fs::fchown(&log.file, Some(rustix::process::geteuid().as_raw()), None);
        }
    }
}

/// Waits for a child without taking its status, so that its pid stays its own.
struct Wait {
    pid: Pid,
    process: Option<std::os::fd::OwnedFd>,
}

impl Wait {
    fn on(pid: u32) -> Wait {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("the kernel gave this pid");
        // Kernels before 5.3 have none; then we look more often.
        Wait { pid, process: rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok() }
    }

    fn is_over(&self) -> Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        loop {
            match rustix::process::waitid(WaitId::Pid(self.pid), options) {
                Err(rustix::io::Errno::INTR) => {}
                ended => return Ok(ended.or_say(|| format!("cannot wait for process {}", self.pid))?.is_some()),
            }
        }
    }

    fn a_while(&self, at_most: Duration) {
        let Some(process) = &self.process else { return std::thread::sleep(at_most.min(LOOK / 5)) };
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: at_most.subsec_nanos().into() };
        // A signal ends it early, which is what we want.
        let _ = rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout));
    }
}
