//! Opens a live database without changing anything on its disk.
//!
//! SQLite itself is not that careful. A read-only connection to a WAL database creates `-wal` and `-shm` and leaves them
//! behind; a read-write one recovers a hot journal, checkpoints a WAL and deletes it when it closes. So, by what is
//! found:
//!
//! | found | opened how |
//! |---|---|
//! | another process holds a lock on it | read-only, as one more reader: the files it needs are there already |
//! | a `-wal` or `-journal` with content, and nobody | a copy of all its files in the temporary directory, where SQLite may recover |
//! | a WAL database without a `-wal`, and nobody | read-only and `immutable`: all of it is in the file |
//! | else (a rollback-journal database at rest) | read-only: a shared lock touches no file |
//!
//! Copies and immutable readings take no lock; [`with_database`] looks afterwards whether the files stayed as they were.
//! Locks of this process itself cannot be seen (that is how POSIX locks are): it has no connection open meanwhile.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::fingerprint::Log;
use crate::error::{Error, OrSay, Result};

/// How long a lock of somebody else is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// The suffixes of the files that belong to a database file.
pub(super) const SIDES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A database that is open and stays as it is.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) connection: Connection,
    pub(super) way: Way,
    pub(super) log: Log,
    stamps: Vec<Option<Stamp>>,
}

/// How it was opened.
#[derive(Debug)]
pub(super) enum Way {
    /// In its place, with locks.
    Shared,
    /// In its place, without.
    Immutable,
    /// A copy of it, there.
    Copied(Scratch),
}

/// What tells that a file was changed: inode, size, mtime, ctime.
type Stamp = (u64, u64, i64, i64, i64, i64);

/// How often a file that somebody changes while it is read is looked at again.
const ATTEMPTS: usize = 5;

/// Opens the database at `path`, gives it to `work`, and does so again when somebody changed it meanwhile. Copies are
/// made in `tmp`.
pub(super) fn with_database<T>(path: &Path, tmp: &Path, mut work: impl FnMut(&Looked) -> Result<T>) -> Result<T> {
    for _ in 0..ATTEMPTS {
        let looked = look(path, tmp)?;
        let done = work(&looked);
        let (locked, before) = (matches!(looked.way, Way::Shared), looked.stamps.clone());
        drop(looked);
        // What failed because the file changed under it succeeds the next time; where a lock kept others from it, the
        // one failure of this kind is a writer that died and left its journal.
        let again = match locked {
            true => done.is_err() && holder(path)?.is_none() && has_content(path),
            false => stamps(path)? != before,
        };
        if !again {
            return done;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Error::new(format!("`{}` changes all the time", path.display()))
        .hint("stop what writes to it: a [[quiesce]] of the plan does"))
}

fn look(path: &Path, tmp: &Path) -> Result<Looked> {
    let say = || format!("cannot open `{}`", path.display());
    let before = stamps(path)?;
    // All of this before the connection: closing any other handle on the file would drop its locks.
    let log = log_of(path)?;
    let way = if holder(path)?.is_some() {
        Way::Shared
    } else if has_content(path) {
        Way::Copied(copy(path, tmp)?)
    } else if log == Log::Ahead {
        settled(path);
        Way::Immutable
    } else {
        Way::Shared
    };
    let connection = match &way {
        Way::Shared => open(path, Open::ReadOnly),
        Way::Immutable => open(path, Open::Immutable),
        // Nobody shares it, and without sharing SQLite needs no `-shm`, for which there may be no room.
        Way::Copied(copy) => open(copy.path(), Open::ReadWrite)
            .and_then(|copy| copy.pragma_update(None, "locking_mode", "EXCLUSIVE").map(|()| copy)),
    }
    .or_say(say)?;
    Ok(Looked { connection, way, log, stamps: before })
}

/// Whether a log or a journal holds something.
pub(super) fn has_content(path: &Path) -> bool {
    let content = |suffix: &str| side(path, suffix).metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    content("-wal") || content("-journal")
}

/// Whether a log or a journal holds something without which the database says something else. A journal that is only
/// kept for the next transaction begins with a zero.
pub(super) fn is_needed_beside(path: &Path) -> bool {
    let mut first = [0];
    let journal = File::open(side(path, "-journal")).and_then(|mut journal| journal.read_exact(&mut first));
    side(path, "-wal").metadata().is_ok_and(|log| log.len() > 0) || (journal.is_ok() && first != [0])
}

/// The ways to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    ReadOnly,
    /// Without locks and without looking for a WAL: for a file that nobody writes.
    Immutable,
    ReadWrite,
}

pub(super) fn open(path: &Path, how: Open) -> rusqlite::Result<Connection> {
    let flags = match how {
        Open::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Open::ReadOnly | Open::Immutable => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    if how == Open::Immutable {
        uri.push_str("?immutable=1");
    }
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// The file of a database with this suffix.
pub(super) fn side(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The process that holds one of SQLite's locks on the database: a transaction, or in WAL mode any open connection.
pub(super) fn holder(path: &Path) -> Result<Option<u32>> {
    let say = || format!("cannot read `{}`", path.display());
    let file = crate::sys::files::open_nofollow(path)?;
    // The pending byte, the reserved byte and the range of shared ones, as SQLite's file format fixes them.
    let asked = Flock {
        start: 0x4000_0000,
        length: 512,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let lock = fcntl_getlk(&file, &asked).or_say(say)?;
    Ok(lock.and_then(|lock| lock.pid).and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()))
}

/// Which log the header asks for; what is no database asks for none.
pub(super) fn log_of(path: &Path) -> Result<Log> {
    let say = || format!("cannot read `{}`", path.display());
    let mut header = [0; 20];
    let mut file = crate::sys::files::open_nofollow(path)?;
    match file.read_exact(&mut header) {
        Ok(()) if header.starts_with(b"SQLite format 3\0") && header[18] == 2 => Ok(Log::Ahead),
        Ok(()) => Ok(Log::Rollback),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Log::Rollback),
        Err(error) => Err(Error::new(say()).because(error)),
    }
}

/// The clock of a filesystem ticks in milliseconds: a file changed just now could change again without showing it.
fn settled(path: &Path) {
    let recent = |meta: fs::Metadata| meta.modified().ok()?.elapsed().ok();
    if path.metadata().ok().and_then(recent).is_some_and(|age| age < Duration::from_millis(20)) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stamps(path: &Path) -> Result<Vec<Option<Stamp>>> {
    let mut stamps = Vec::new();
    // Not `-shm`: who reads changes it too.
    for path in [path.to_owned(), side(path, "-wal"), side(path, "-journal")] {
        stamps.push(match path.symlink_metadata() {
            Ok(m) => Some((m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Error::new(format!("cannot look at `{}`", path.display())).because(error)),
        });
    }
    Ok(stamps)
}

/// Copies the database with its journal or log; the copy is one that SQLite may recover.
fn copy(path: &Path, tmp: &Path) -> Result<Scratch> {
    settled(path);
    let to = Scratch::new(tmp);
    for suffix in ["", "-wal", "-journal"] {
        let missing = if suffix.is_empty() { Missing::Fails } else { Missing::IsFine };
        copy_file(&side(path, suffix), &side(to.path(), suffix), missing)?;
    }
    Ok(to)
}

/// What it means when the file is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Fails,
    IsFine,
}

/// Copies a file's content; where the filesystem can, without moving a byte.
pub(super) fn copy_file(from: &Path, to: &Path, missing: Missing) -> Result<()> {
    let say = || format!("cannot copy `{}` to `{}`", from.display(), to.display());
    if missing == Missing::IsFine && !from.try_exists().or_say(say)? {
        return Ok(());
    }
    let mut source = crate::sys::files::open_nofollow(from)?;
    let mut target = File::create(to).or_say(say)?;
    std::io::copy(&mut source, &mut target).or_say(say)?;
    Ok(())
}

/// A database of our own in the temporary directory, removed with all its files when it is dropped (and swept with
/// the directory when the process dies before).
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A name that nothing else uses; there is no file yet.
    pub(super) fn new(tmp: &Path) -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Scratch(tmp.join(format!("sqlite-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            // What cannot be removed here is swept later.
            let _ = fs::remove_file(side(&self.0, suffix));
        }
    }
}
