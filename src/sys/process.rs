//! Programs: started in a session of their own, without a terminal, with a deadline, and never lost from sight.
//!
//! A program is over when its own process ends. What it leaves running is named after success and killed after
//! failure, timeout or interruption. So that a killed txupgrade leaves nothing behind either, each program's pid is
//! written to the transaction's `processes` file by the child itself before it execs, its environment carries a
//! token, and where a cgroup can be made it has one of its own: `end_all` finds its processes by any of the three.
use crate::error::Result;
use crate::sys::signal::Stop;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// A program to run.
#[derive(Debug)]
pub struct Program {
    pub argv: Vec<OsString>,
    /// Added to (and overriding) this process's own environment.
    pub env: BTreeMap<OsString, OsString>,
    pub dir: Option<PathBuf>,
    /// Whose account: sets uid, gid, groups, HOME, USER, LOGNAME.
    pub user: Option<String>,
    pub timeout: Duration,
    pub stdin: Stdio,
    /// Where stdout goes; `None`: to the log, together with stderr.
    pub stdout: Option<Stdio>,
}
/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub how: How,
    pub took: Duration,
    /// Processes that it left running: pid and command line.
    pub left: Vec<(u32, String)>,
}
/// The ways a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Status(i32),
    Signal(i32),
    TimedOut,
    /** a signal to us; its number */
    Stopped(i32),
}
/// The log of one task, `logs/<tx>/<task>.log`, appended to; and the `processes` file beside it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    secrets: Vec<String>,
    token: String,
}
impl Log {
    /// Opens (creates) the log of a task. `token` is unique for transaction and task. Secrets (longest first) are masked in the file after each program and wherever lines are shown.
    pub fn open(path: &Path, token: &str, secrets: Vec<String>) -> Result<Log> {
        Ok(Log { path: path.into(), secrets, token: token.into() })
    }
    /// A log that keeps nothing (commands that leave nothing behind): an unlinked temporary file.
    pub fn transient() -> Result<Log> {
        todo!()
    }
    pub fn path(&self) -> &Path {
        let _ = (&self.secrets, &self.token);
        &self.path
    }
    /// Appends a line of our own (`$ notes-ctl stop`, `= exit status 0 after 0.3 s`).
    pub fn line(&self, line: &str) {
        let _ = line;
        todo!()
    }
    /// `text` with every secret masked.
    pub fn masked(&self, text: &str) -> String {
        let _ = text;
        todo!()
    }
}
/// Runs `program` to its end; `each_line` gets the output as it comes, masked. Returns how it ended and its output.
pub fn run(program: Program, log: &Log, stop: &Stop, each_line: &mut dyn FnMut(&str)) -> Result<(Exit, String)> {
    let _ = (program, log, stop, each_line);
    todo!()
}
/// Ends every process that was started under `token` (recorded in the `processes` file of `dir`, the logs of one transaction): TERM, 10 s, KILL. Returns those ended; an error names one that cannot be.
pub fn end_all(dir: &Path, token: &str) -> Result<Vec<(u32, String)>> {
    let _ = (dir, token);
    todo!()
}
/// The runner that this process is: pid, start (ns since boot), boot id.
pub fn myself() -> (u32, u64, String) {
    todo!()
}
/// Whether the process is still the one that started then, on this boot.
pub fn is_alive(pid: u32, start: u64, boot_id: &str) -> bool {
    let _ = (pid, start, boot_id);
    todo!()
}
