//! Processes as `/proc` shows them.
//!
//! A process is a pid and its start time: a pid alone may be somebody else's by now. Start times are those of the
//! kernel, in nanoseconds since boot, rounded down to a clock tick.

use std::os::unix::ffi::OsStrExt;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pid: u32,
    /// When it started, nanoseconds since boot.
    pub(super) start: u64,
    pub(super) session: u32,
    pub(super) state: State,
}

/// What can be said of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Runs, sleeps or is held.
    Alive,
    /// Waits for a device and cannot be ended at this moment.
    Uninterruptible,
    /// Over, but nobody has asked how it ended.
    Dead,
}

/// The process that has this pid now.
pub(super) fn look(pid: u32) -> Option<Seen> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &stat)
}

/// Whether this very process is not over yet.
pub(super) fn lives(one: &Seen) -> bool {
    look(one.pid).is_some_and(|now| now.start == one.start && now.state != State::Dead)
}

/// Every living process that can be seen.
pub(super) fn all() -> impl Iterator<Item = Seen> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(look)
        .filter(|seen| seen.state != State::Dead)
}

/// A command line for people: its words, else its name in brackets; `None` when there is no such process.
pub fn command_line(pid: u32) -> Option<String> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let line = text.join(" ").trim_end().to_owned();
    if !line.is_empty() {
        return Some(line);
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("[{}]", name.trim_end()))
}

/// Whether `NAME=value` stands in the environment it was started with, as far as we may read that.
pub(super) fn has_variable(pid: u32, assignment: &std::ffi::OsStr) -> bool {
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|one| one == assignment.as_bytes()))
}

/// The names of all cgroup directories it is in, in every hierarchy.
pub(super) fn cgroups(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.flat_map(|path| path.split('/')).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn parse(pid: u32, stat: &[u8]) -> Option<Seen> {
    // The name stands in parentheses and may hold anything, parentheses too.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields: Vec<&str> = std::str::from_utf8(stat.get(after..)?).ok()?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let threads = number(17)?;
    let state = match *fields.first()? {
        // A leading thread that ended while others go on looks like a dead process.
        "Z" | "X" | "x" if threads <= 1 => State::Dead,
        "D" => State::Uninterruptible,
        _ => State::Alive,
    };
    let start = number(19)?.checked_mul(1_000_000_000)? / ticks_per_second();
    Some(Seen { pid, start, session: u32::try_from(number(3)?).ok()?, state })
}

fn ticks_per_second() -> u64 {
    // SAFETY: asks for a constant of the system.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_no_trouble() {
        let stat = b"12 (a) b (c) S 1 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 200 0 0\n";
        let seen = parse(12, stat).unwrap();
        assert_eq!((seen.session, seen.start, seen.state), (12, 2_000_000_000, State::Alive));
    }

    #[test]
    fn we_see_ourselves() {
        let us = look(std::process::id()).unwrap();
        assert!(us.start <= crate::sys::clock::since_boot());
        assert!(all().any(|seen| seen == us || seen.pid == us.pid));
        assert!(command_line(us.pid).is_some());
        assert_eq!(look(u32::MAX), None);
    }
}
