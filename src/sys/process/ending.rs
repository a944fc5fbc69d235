//! Ending processes for good: TERM, 10 s, KILL, and again until none is left.
//!
//! A process is signalled through a descriptor of it that was checked against its start time, so that a pid that
//! is somebody else's by now never gets a signal. We ourselves and process 1 never get one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::records::{self, About, Record};
use super::seen::{self, Seen, State};
use super::{Exit, Log, cgroup};
use crate::error::{Error, Result};
use crate::sys::clock;

/// How long a killed process may take to go.
const GOING: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// A start time is rounded down by at most this much (nanoseconds), a clock tick of the slowest kernels.
const TICK: u64 = 10_000_000;

/// How long a process may take to end by itself after TERM.
fn grace() -> Duration {
    clock::limit("TXUPGRADE_TEST_GRACE_MS", Duration::from_millis(if cfg!(test) { 400 } else { 10_000 }))
}

/// What is known of a program that was started: enough to find what it started.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) pid: u32,
    /// When it started, nanoseconds since boot.
    pub(super) start: u64,
    /// Its own environment variable, `NAME=value`.
    pub(super) variable: OsString,
    /// The name of its cgroup.
    pub(super) group: String,
    /// Where that is, if it has one.
    pub(super) place: Option<PathBuf>,
}

impl Trace {
    /// The program and everything it started, as far as it lives.
    pub(super) fn find(&self) -> Vec<Seen> {
        seen::all()
            .filter(|one| one.start >= self.start && is_another(one))
            .filter(|one| {
                one.session == self.pid
                    || seen::has_variable(one.pid, &self.variable)
                    || seen::cgroups(one.pid).contains(&self.group)
            })
            .collect()
    }

    /// Ends all of it.
    pub(super) fn end(&self) -> Result<Vec<(u32, String)>> {
        end(&|| self.find(), self.place.as_slice())
    }
}

/// Ends what the program that ended with `exit` left running (`exit.left`), for a caller to whom its status means
/// failure. Returns what was ended; an error names what cannot be.
pub fn end_left(log: &Log, exit: &Exit) -> Result<Vec<(u32, String)>> {
    if exit.left.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = log.left.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(at) = known.iter().position(|(_, left)| *left == exit.left) else { return Ok(Vec::new()) };
    let trace = known[at].0.clone();
    let ended = trace.end()?;
    known.remove(at);
    if let Some(records) = &log.records {
        records::over(records, trace.pid, records::hash(&log.mark));
    }
    cgroup::sweep(&trace.group);
    Ok(ended)
}

/// Ends every process that was started under `token` (recorded in the `processes` file of `dir`, the logs of one transaction): TERM, 10 s, KILL. Returns those ended; an error names one that cannot be.
pub fn end_all(dir: &Path, token: &str) -> Result<Vec<(u32, String)>> {
    let mark = records::mark(dir, token);
    let hash = records::hash(&mark);
    let started = records::read(dir, hash)?;
    let mut variable = OsString::from("TXUPGRADE_TOKEN=");
    variable.push(&mark);
    let prefix = group_prefix(hash);
    let find = || seen::all().filter(|one| belongs(one, &started, &variable, &prefix)).collect();
    let ended = end(&find, &cgroup::named(&prefix))?;
    cgroup::sweep(&prefix);
    Ok(ended)
}

/// How the names of the cgroups of a token's programs begin.
pub(super) fn group_prefix(token: u64) -> String {
    format!("txupgrade-{token:016x}-")
}

fn belongs(one: &Seen, started: &[Record], variable: &OsStr, group: &str) -> bool {
    is_another(one)
        && (started.iter().any(|record| is_of_session(one, record))
            || seen::has_variable(one.pid, variable)
            || seen::cgroups(one.pid).iter().any(|name| name.starts_with(group)))
}

/// Whether it is the recorded program, or one of its session.
fn is_of_session(one: &Seen, record: &Record) -> bool {
    if one.pid == record.pid {
        return one.start <= record.at;
    }
    if one.session != record.pid || one.start + TICK < record.at {
        return false;
    }
    match seen::look(record.pid) {
        Some(leader) => leader.start <= record.at,
        // The pid may have led another session since. Whoever has a cgroup is found by that.
        None => record.about == About::Started,
    }
}

fn is_another(one: &Seen) -> bool {
    one.pid > 1 && one.pid != std::process::id()
}

/// Ends whatever `find` finds until it finds nothing and nobody is in the cgroups `groups`. Returns what it ended, with
/// command lines.
fn end(find: &dyn Fn() -> Vec<Seen>, groups: &[PathBuf]) -> Result<Vec<(u32, String)>> {
    let kill = clock::ran() + grace();
    let mut known: BTreeMap<(u32, u64), (String, Option<Duration>)> = BTreeMap::new();
    loop {
        let found = find();
        let populated = groups.iter().find(|group| cgroup::is_populated(group));
        if found.is_empty() && populated.is_none() {
            break;
        }
        let now = clock::ran();
        if now >= kill {
            groups.iter().for_each(|group| cgroup::kill(group));
        }
        if let Some(group) = populated
            && found.is_empty()
            && now > kill + GOING
        {
            return Err(Error::new(format!("cannot end what is in the cgroup `{}`", group.display()))
                .because("it was killed 10 s ago and is still there"));
        }
        for one in &found {
            let (_, killed) = match known.entry((one.pid, one.start)) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let command = seen::command_line(one.pid).unwrap_or_default();
                    // One that has gone by itself meanwhile was not ended by us.
                    if !seen::lives(one) {
                        continue;
                    }
                    // A stopped one would not hear it.
                    let _ = send(one, Signal::TERM).and_then(|()| send(one, Signal::CONT));
                    entry.insert((command, None))
                }
            };
            if now >= kill {
                killed.get_or_insert(now);
                if send(one, Signal::KILL) == Err(Errno::PERM) {
                    return Err(endless(one, "we may not send it a signal"));
                }
            }
            if killed.is_some_and(|killed| now - killed > GOING) {
                let why = match one.state {
                    State::Uninterruptible => "it was killed 10 s ago and waits for a device",
                    State::Alive | State::Dead => "it was killed 10 s ago and is still there",
                };
                return Err(endless(one, why));
            }
        }
        std::thread::sleep(LOOK);
    }
    Ok(known.into_iter().map(|((pid, _), (command, _))| (pid, command)).collect())
}

fn endless(one: &Seen, why: &str) -> Error {
    let command = seen::command_line(one.pid).unwrap_or_default();
    Error::new(format!("cannot end process {} `{command}`", one.pid)).because(why).hint(format!(
        "find out what holds it (`cat /proc/{}/wchan`), end it, and then give the same command again",
        one.pid
    ))
}

/// Sends a signal to this very process.
fn send(one: &Seen, signal: Signal) -> Result<(), Errno> {
    let pid = i32::try_from(one.pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let same = || match seen::look(one.pid) {
        Some(now) if now.start == one.start => Ok(()),
        _ => Err(Errno::SRCH),
    };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => {
            same()?;
            rustix::process::pidfd_send_signal(process, signal)
        }
        // Kernels before 5.3.
        Err(Errno::NOSYS) => {
            same()?;
            rustix::process::kill_process(pid, signal)
        }
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_by_itself_was_not_ended_by_us() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let found = std::cell::Cell::new(seen::look(child.id()));
        child.wait().unwrap();
        assert!(end(&|| found.take().into_iter().collect(), &[]).unwrap().is_empty());
    }
}
