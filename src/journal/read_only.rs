//! Reading a journal without leaving a trace, whatever state its files are in.
//!
//! SQLite creates a write-ahead log and its index even to read, and leaves them. So each question opens the database
//! in the way that needs nothing: with the log and the index that are there (read-only), as an immutable file where
//! there is no log, and from a private copy where the log is there and its index cannot be used.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use rusqlite::{Connection, OpenFlags};

use super::sqlite::{FILE, wrong};
use crate::error::{OrSay, Result};
use crate::sys::scratch::Scratch;

/// Held while one is opened to be written, and for as long as one is read.
///
/// Within one process SQLite shares the log's index between all connections to a file: a writer that is opened while
/// it is mapped read-only could not write.
pub(super) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A journal that is only read.
#[derive(Debug)]
pub(super) struct ReadOnly {
    database: PathBuf,
}

impl ReadOnly {
    /// The journal in `dir`; `None` if there is none.
    pub(super) fn new(dir: &Path) -> Result<Option<ReadOnly>> {
        let database = dir.join(FILE);
        match fs::metadata(&database) {
            Ok(found) if found.len() > 0 || size(&beside(&database, "-wal")) > 0 => Ok(Some(ReadOnly { database })),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error).or_say(|| format!("cannot read the journal `{}`", database.display())),
        }
    }

    /// Asks a question of one moment of the journal.
    pub(super) fn with<T>(&self, ask: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        let _held = one_at_a_time();
        let log = beside(&self.database, "-wal");
        if size(&log) == 0 {
            let answer = self.open(&self.database, "mode=ro&immutable=1").and_then(|db| ask(&db));
            // With a log by now, somebody may have moved it into the database while we read.
            if size(&log) == 0 {
                return answer;
            }
        }
        match self.open(&self.database, "mode=ro&readonly_shm=1") {
            Ok(db) => ask(&db),
            Err(_) => self.with_copy(&log, ask),
        }
    }

    fn open(&self, path: &Path, how: &str) -> Result<Connection> {
        let said = || format!("cannot read the journal `{}`", self.database.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(uri(path, how), flags).map_err(|error| wrong(error, said()))?;
        db.busy_timeout(std::time::Duration::from_secs(30)).or_say(said)?;
        // One snapshot for all that is asked; this is also where files that cannot be used are noticed.
        db.execute_batch("BEGIN").or_say(said)?;
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(|error| wrong(error, said()))?;
        Ok(db)
    }

    fn with_copy<T>(&self, log: &Path, ask: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let said = || format!("cannot read the journal `{}`", self.database.display());
        let dir = Scratch::new()?;
        let copy = dir.path().join(FILE);
        let copied = fs::copy(&self.database, &copy).and_then(|_| fs::copy(log, beside(&copy, "-wal"))).or_say(said);
        // Not read-only: the copy's index has to be made.
        copied.and_then(|_| {
            let db = Connection::open(&copy).map_err(|error| wrong(error, said()))?;
            ask(&db)
        })
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(suffix);
    PathBuf::from(name)
}

fn uri(path: &Path, how: &str) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(*byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{uri}?{how}")
}
