//! Takes one complete database file out of a live one, and checks such a file.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::fingerprint::{self, Log};
use super::look::{BUSY, Looked, Missing, Open, Way, copy_file, log_of, open};
use super::words::{by_whom, damaged, in_words};
use crate::context::Context;
use crate::error::{Error, OrSay, Result};
use crate::resource::fingerprint::Fingerprint;

/// Whether a copy is the live file byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exactly {
    Yes,
    No,
}

/// Writes one complete database file to `copy`.
pub(super) fn take(looked: &Looked, path: &Path, copy: &Path, cx: &Context<'_>) -> Result<Exactly> {
    let say = |error: rusqlite::Error| in_words(error, path);
    let touch = "SELECT count(*) FROM sqlite_schema";
    match (&looked.way, looked.log) {
        (Way::Shared, Log::Ahead) => {
            back_up(&looked.connection, copy, path, cx)?;
            Ok(Exactly::No)
        }
        (Way::Shared, Log::Rollback) => {
            // The shared lock keeps writers from the file until its end; the copy, unlike a backup, is exact.
            looked.connection.execute_batch("BEGIN").map_err(say)?;
            looked.connection.query_row(touch, [], |_| Ok(())).map_err(say)?;
            copy_file(path, copy, Missing::Fails)?;
            Ok(Exactly::Yes)
        }
        (Way::Immutable, _) => {
            copy_file(path, copy, Missing::Fails)?;
            Ok(Exactly::Yes)
        }
        (Way::Copied(whole), _) => {
            looked.connection.query_row(touch, [], |_| Ok(())).map_err(say)?;
            if looked.log == Log::Ahead {
                let done = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
                let busy = looked.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], done).map_err(say)?;
                if busy != 0 {
                    return Err(Error::new(format!("cannot read the log of `{}`", path.display())));
                }
            }
            copy_file(whole.path(), copy, Missing::Fails)?;
            Ok(Exactly::No)
        }
    }
}

/// The online backup: of one moment, while others go on writing.
pub(super) fn back_up(from: &Connection, copy: &Path, path: &Path, cx: &Context<'_>) -> Result<()> {
    const PAGES: i32 = 1024;
    let say = |error: rusqlite::Error| in_words(error, path).within(format!("cannot copy `{}`", path.display()));
    let mut to = Connection::open(copy).map_err(say)?;
    from.execute_batch("BEGIN").map_err(say)?;
    from.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(say)?;
    {
        let backup = Backup::new(from, &mut to).map_err(say)?;
        let began = Instant::now();
        loop {
            cx.go_on()?;
            match backup.step(PAGES).map_err(say)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ if began.elapsed() > BUSY => {
                    return Err(Error::new(format!("`{}` is locked{}", path.display(), by_whom(path))));
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
    from.execute_batch("COMMIT").map_err(say)?;
    // The copy must be one file.
    to.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(say)?;
    to.close().map_err(|(_, error)| say(error))
}

/// What `integrity_check` says.
pub(super) enum Integrity {
    Good,
    Bad(String),
    /// It cannot be asked here: the schema needs what only the application brings.
    Unknown(String),
}

/// Checks a database file that is ours, and fingerprints it. `path` is the database it stands for.
pub(super) fn examined(copy: &Path, path: &Path, cx: &Context<'_>) -> Result<(Fingerprint, Vec<String>)> {
    let say = |error: rusqlite::Error| in_words(error, path);
    let log = log_of(copy)?;
    let connection = open(copy, Open::Immutable).map_err(say)?;
    let warnings = match check(&connection, "integrity_check", path)? {
        Integrity::Good => Vec::new(),
        Integrity::Bad(why) => return Err(damaged(path, &why)),
        Integrity::Unknown(why) => vec![format!("`{}` cannot be checked: {why}", path.display())],
    };
    Ok((fingerprint::of(&connection, log, &mut || cx.go_on()).map_err(say)??, warnings))
}

pub(super) fn check(connection: &Connection, how: &str, path: &Path) -> Result<Integrity> {
    let lines = connection.prepare(&format!("PRAGMA {how}(5)")).and_then(|mut asked| {
        asked.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<String>>>()
    });
    match lines {
        Ok(lines) if lines == ["ok"] => Ok(Integrity::Good),
        Ok(lines) => {
            // It puts all it knows of one file into one answer, under a headline.
            let said = lines.iter().flat_map(|line| line.lines()).find(|line| !line.starts_with("***"));
            Ok(Integrity::Bad(said.unwrap_or("it fails its integrity check").to_owned()))
        }
        Err(error) if fingerprint::is_foreign(&error) => Ok(Integrity::Unknown(error.to_string())),
        Err(error) => Err(in_words(error, path)),
    }
}

pub(super) fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = crate::sys::files::open_nofollow(path)?;
    hasher.update_reader(file).or_say(|| format!("cannot read `{}`", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}
