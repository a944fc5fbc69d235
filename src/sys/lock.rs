//! File locks (flock) whose files say who holds them: pid, start time, boot id, command line.
//!
//! The kernel's lock is the truth; what stands in the file only gives it a name. A lock therefore ends with its
//! holder however that ended, and a pid that is somebody else's by now names nobody. Who only looks holds nothing, so
//! that nobody who wants the lock ever finds it taken by a question.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{clock, files, process};
use crate::error::{Error, Fault, OrSay, Result};

/// How long a lock that is held is asked for: a process that was killed has it until it is quite gone.
const GOING: Duration = Duration::from_millis(200);

/// What to do where another process is at work.
pub const WAIT: &str = "wait until it has ended; `txupgrade log --follow` shows what it does";

/// A lock that is held until it is dropped (or the process dies).
#[derive(Debug)]
pub struct Lock {
    file: File,
    mode: Mode,
}

/// How a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// with other sharers
    Shared,
    /// with nobody
    Alone,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process, 0 where it cannot be told.
    pub pid: u32,
    /// Its command line, or `an unknown program`.
    pub command: String,
    /// Since when, RFC 3339 UTC; empty where it cannot be told.
    pub since: String,
}

/// What stands in a lock's file while it is held alone.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    pid: u32,
    start: u64,
    boot_id: String,
    command: String,
    what: String,
    since: String,
}

impl Lock {
    /// Takes the lock at `path` (created when missing) or says at once who holds it (`Fault::Locked`, naming pid and command). `what` names it for people: "transaction `notes-3`".
    pub fn take(path: &Path, mode: Mode, what: &str) -> Result<Lock> {
        let say = || format!("cannot open the lock `{}`", path.display());
        if let Some(parent) = path.parent() {
            files::create_private_dir(parent)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .or_say(say)?;
        match try_lock(&file, mode) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(what, &holder(&mut file))),
            Err(TryLockError::Error(cause)) => {
                return Err(cause).or_say(|| format!("cannot take the lock `{}`", path.display()));
            }
        }
        if mode == Mode::Alone {
            // Only for those who look: neither a full disk nor a filesystem that cannot do it is a reason to refuse
            // the lock that the kernel gave.
            let _ = claim(&mut file, what);
            let _ = shown(&file, libc::F_OFD_SETLK, libc::F_WRLCK);
        }
        Ok(Lock { file, mode })
    }

    /// Shares the lock at `path` without writing anything, so that what only looks can keep others from having it alone;
    /// `None` when there is no such file. Says who holds it alone (`Fault::Locked`).
    pub fn share_if_there(path: &Path, what: &str) -> Result<Option<Lock>> {
        let say = || format!("cannot open the lock `{}`", path.display());
        let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause).or_say(say),
        };
        match try_lock(&file, Mode::Shared) {
            Ok(()) => Ok(Some(Lock { file, mode: Mode::Shared })),
            Err(TryLockError::WouldBlock) => Err(locked(what, &holder(&mut file))),
            Err(TryLockError::Error(cause)) => Err(cause).or_say(say),
        }
    }

    /// Whether somebody holds it alone right now; changes nothing, also when the file is not there.
    pub fn held(path: &Path) -> Result<Option<Holder>> {
        let say = || format!("cannot look at the lock `{}`", path.display());
        let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause).or_say(say),
        };
        let held = shown(&file, libc::F_OFD_GETLK, libc::F_RDLCK).or_say(say)?;
        Ok(held.then(|| holder(&mut file)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.mode == Mode::Alone {
            // The name goes before the lock does, so that nobody reads it as the next holder's.
            let _ = self.file.set_len(0);
            let _ = shown(&self.file, libc::F_OFD_SETLK, libc::F_UNLCK);
        }
        // To close it is not enough: a program that is started at this moment has a copy until it is executed.
        let _ = self.file.unlock();
    }
}

fn try_lock(file: &File, mode: Mode) -> std::result::Result<(), TryLockError> {
    let until = Instant::now() + GOING;
    loop {
        let tried = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Alone => file.try_lock(),
        };
        match tried {
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            tried => return tried,
        }
    }
}

/// Beside its flock, who holds the file alone has a write lock of the other kind (fcntl, of the open file) on it: that
/// one can be asked about (`F_OFD_GETLK`) without being taken for it. Whether it is there.
fn shown(file: &File, how: libc::c_int, kind: libc::c_int) -> std::io::Result<bool> {
    // SAFETY: all zeros is a value of this plain structure: the whole file, and the pid 0 that this kind asks for.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    // SAFETY: the descriptor is open and the structure outlives the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), how, &raw mut range) } {
        0 => Ok(range.l_type != libc::F_UNLCK as libc::c_short),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn claim(file: &mut File, what: &str) -> std::io::Result<()> {
    let (pid, start, boot_id) = process::myself();
    let command = process::command_line(pid).unwrap_or_default();
    let claim = Claim { pid, start, boot_id, command, what: what.to_owned(), since: clock::now() };
    file.set_len(0)?;
    file.rewind()?;
    let mut line = serde_json::to_vec(&claim)?;
    line.push(b'\n');
    file.write_all(&line)
}

fn locked(what: &str, holder: &Holder) -> Error {
    let since = if holder.since.is_empty() { String::new() } else { format!(" (since {})", holder.since) };
    let cause = match holder.pid {
        0 => holder.command.clone(),
        pid => format!("process {pid}: {}{since}", holder.command),
    };
    Error::new(format!("{what} is locked by another process")).because(cause).hint(WAIT).fault(Fault::Locked)
}

/// Who holds the lock of `file`: who says so in it, if that process lives, else whom the kernel names.
fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    if read.is_ok()
        && let Ok(claim) = serde_json::from_str::<Claim>(&text)
        && process::is_alive(claim.pid, claim.start, &claim.boot_id)
    {
        return Holder { pid: claim.pid, command: claim.command, since: claim.since };
    }
    let pid = locking_pid(file).unwrap_or(0);
    let command = process::command_line(pid).unwrap_or_else(|| "an unknown program".to_owned());
    Holder { pid, command, since: String::new() }
}

/// The pid that `/proc/locks` gives for a flock on this file.
fn locking_pid(file: &File) -> Option<u32> {
    let meta = file.metadata().ok()?;
    let dev = meta.dev();
    let id = format!("{:02x}:{:02x}:{}", libc::major(dev), libc::minor(dev), meta.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // A waiter's line has an arrow after the number; it holds nothing.
        let held = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&id.as_str());
        fields.get(4).filter(|_| held)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A `flock` that holds the lock at `path` until it is ended.
    fn other(path: &Path, mode: &str) -> Child {
        let mut child = Command::new("flock")
            .args([mode, &path.display().to_string(), "sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("`flock` is there (Debian: apt-get install util-linux)");
        let mut first = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        child
    }

    fn end(mut child: Child) {
        let inside = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        for pid in inside.split_whitespace() {
            // SAFETY: the pid is a living child of a child that has not been waited for.
            unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
        }
        let _ = child.kill();
        child.wait().unwrap();
    }

    #[test]
    fn a_lock_held_alone_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/notes-3");
        let lock = Lock::take(&path, Mode::Alone, "transaction `notes-3`").unwrap();
        let holder = Lock::held(&path).unwrap().unwrap();
        assert_eq!(holder.pid, std::process::id());
        let error = Lock::take(&path, Mode::Shared, "transaction `notes-3`").unwrap_err();
        assert_eq!(error.statement, "transaction `notes-3` is locked by another process");
        assert_eq!(
            error.causes,
            [format!("process {}: {} (since {})", std::process::id(), holder.command, holder.since)]
        );
        assert_eq!(error.hints, ["wait until it has ended; `txupgrade log --follow` shows what it does"]);
        assert_eq!(error.fault, Fault::Locked);
        drop(lock);
        assert_eq!(Lock::held(&path).unwrap(), None);
        Lock::take(&path, Mode::Alone, "transaction `notes-3`").unwrap();
    }

    #[test]
    fn another_program_that_holds_it_is_named_by_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        for mode in ["-x", "-s"] {
            let child = other(&path, mode);
            let error = Lock::take(&path, Mode::Alone, "the store").unwrap_err();
            assert_eq!(error.statement, "the store is locked by another process");
            assert!(error.causes[0].contains("flock"), "{error}");
            end(child);
            Lock::take(&path, Mode::Alone, "the store").unwrap();
        }
    }

    #[test]
    fn the_lock_of_a_dead_owner_heals() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let stale = r#"{"pid":1,"start":7,"boot_id":"of old","command":"txupgrade run","what":"x","since":""}"#;
        std::fs::write(&path, stale).unwrap();
        assert_eq!(Lock::held(&path).unwrap(), None);
        Lock::take(&path, Mode::Alone, "it").unwrap();
    }

    #[test]
    fn a_pid_that_is_somebody_elses_by_now_is_not_taken_for_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let child = other(&path, "-x");
        let (pid, start, boot_id) = process::myself();
        let named = |start: u64, boot_id: &str| {
            let claim = Claim {
                pid,
                start,
                boot_id: boot_id.to_owned(),
                command: "txupgrade run".to_owned(),
                what: "it".to_owned(),
                since: "then".to_owned(),
            };
            std::fs::write(&path, serde_json::to_vec(&claim).unwrap()).unwrap();
            Lock::take(&path, Mode::Alone, "it").unwrap_err().causes[0].clone()
        };
        assert_eq!(named(start, &boot_id), format!("process {pid}: txupgrade run (since then)"));
        for (start, boot_id) in [(start + 10_000_000, boot_id.as_str()), (start, "another boot")] {
            let named = named(start, boot_id);
            assert!(named.contains("flock") && !named.contains("txupgrade"), "{named}");
        }
        end(child);
        assert_eq!(Lock::held(&path).unwrap(), None);
        Lock::take(&path, Mode::Alone, "it").unwrap();
    }

    #[test]
    fn who_looks_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(Lock::take(&path, Mode::Alone, "it").unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        Lock::held(&path).unwrap();
                    }
                });
            }
            for _ in 0..2000 {
                Lock::take(&path, Mode::Alone, "it").unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn sharers_share() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let one = Lock::take(&path, Mode::Shared, "the store").unwrap();
        let two = Lock::take(&path, Mode::Shared, "the store").unwrap();
        assert_eq!(Lock::held(&path).unwrap(), None);
        let error = Lock::take(&path, Mode::Alone, "the store").unwrap_err();
        assert!(error.causes[0].starts_with(&format!("process {}: ", std::process::id())), "{error}");
        drop((one, two));
        Lock::take(&path, Mode::Alone, "the store").unwrap();
    }

    #[test]
    fn a_copy_of_what_is_open_does_not_hold_what_was_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        for mode in [Mode::Alone, Mode::Shared] {
            let lock = Lock::take(&path, mode, "it").unwrap();
            let _copy = lock.file.try_clone().unwrap();
            drop(lock);
            assert_eq!(Lock::held(&path).unwrap(), None);
            Lock::take(&path, Mode::Alone, "it").unwrap();
        }
    }

    #[test]
    fn looking_creates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Lock::held(&dir.path().join("locks/none")).unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
