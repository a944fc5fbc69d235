//! File locks (flock) whose files say who holds them: pid, start time, boot id, command line.
use crate::error::Result;
use std::path::Path;
/// A lock that is held until it is dropped (or the process dies).
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}
/// How a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /** with other sharers */
    Shared,
    /** with nobody */
    Alone,
}
impl Lock {
    /// Takes the lock at `path` (created when missing) or says at once who holds it (`Fault::Locked`, naming pid and command). `what` names it for people: "transaction `notes-3`".
    pub fn take(path: &Path, mode: Mode, what: &str) -> Result<Lock> {
        let _ = (path, mode, what);
        todo!()
    }
    /// Whether somebody holds it alone right now; changes nothing, also when the file is not there.
    pub fn held(path: &Path) -> Result<Option<Holder>> {
        let _ = path;
        todo!()
    }
}
/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
}
