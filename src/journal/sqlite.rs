//! The journal on disk: `journal.db` and `journal.head` in the state directory.
//!
//! Every append is one SQLite transaction that takes the write lock first, so that what it is checked against cannot
//! change under it. The head is written afterwards, again under the write lock, from what is then the last row: of
//! two processes neither can write it backwards. A head that could not be written is brought up to date before the
//! next append, which fails if that cannot be done; so it is never more than one event behind.

use std::cell::OnceCell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use super::chain::{self, Hash, Reliable, Row, damaged};
use super::head::{self, Head};
use super::read_only::{self, ReadOnly};
use super::{Journal, Recorded, Verified, claims, decode, encode, format, next_number};
use crate::error::{Error, Fault, OrSay, Result};
use crate::name::{Name, TxId};
use crate::sys::{clock, reserve};
use crate::tx::{Begun, Event};

/// The name of the database in the state directory.
pub(super) const FILE: &str = "journal.db";
/// After so many pages the log is written from its beginning again: it has to be small on a small disk.
const LOG_PAGES: i64 = 64;
const SCHEMA: &str = include_str!("../../schemas/journal.sql");
const VERSION: i64 = 1;
const PATIENCE: Duration = Duration::from_secs(30);

/// The journal of a state directory.
#[derive(Debug)]
pub struct SqliteJournal {
    dir: PathBuf,
    access: Access,
    /// What of it can be relied on, once somebody who acts has asked.
    reliable: OnceCell<Reliable>,
}

#[derive(Debug)]
enum Access {
    Writing(Connection),
    Reading(ReadOnly),
}

impl SqliteJournal {
    /// Opens the journal of the state directory `dir`; makes both where they do not exist yet.
    pub fn open(dir: &Path) -> Result<SqliteJournal> {
        format::establish(dir)?;
        let _held = read_only::one_at_a_time();
        let path = dir.join(FILE);
        let said = || format!("cannot open the journal `{}`", path.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(&path, flags).or_say(said)?;
        db.busy_timeout(PATIENCE).or_say(said)?;
        // The log and its index stay where they are, so that those who only read need not create them.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).or_say(said)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).or_say(said)?;
        patiently(|| db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())))
            .map_err(|error| wrong(error, said()))?;
        db.pragma_update(None, "synchronous", "FULL").or_say(said)?;
        db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).or_say(said)?;
        let create = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| wrong(e, said()))?;
        if !check_version(&create, dir)? {
            create.execute_batch(SCHEMA).or_say(said)?;
        }
        create.commit().map_err(|error| wrong(error, said()))?;
        Ok(SqliteJournal { dir: dir.to_owned(), access: Access::Writing(db), reliable: OnceCell::new() })
    }

    /// Opens the journal of `dir` only to read it. Creates nothing and changes nothing, works where nothing can be
    /// written, and sees what others append meanwhile. `None` where there is no journal.
    pub fn open_read_only(dir: &Path) -> Result<Option<SqliteJournal>> {
        format::check(dir)?;
        let Some(reading) = ReadOnly::new(dir)? else { return Ok(None) };
        if !reading.with(|db| check_version(db, dir))? {
            return Ok(None);
        }
        Ok(Some(SqliteJournal { dir: dir.to_owned(), access: Access::Reading(reading), reliable: OnceCell::new() }))
    }

    /// Refuses a journal whose end is gone: what it does not tell would be taken for what never was.
    pub fn check_end(&self) -> Result<()> {
        // Read before the rows: what was the end then is in the journal for ever.
        let Some(head) = head::read(&self.dir)? else { return Ok(()) };
        self.with(|db| {
            let until = head.seq.cast_signed();
            let last = rows(db, "WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1", &[&until])?.pop();
            chain::check_end(last.as_ref(), Some(head), |seq| hash_of(db, seq))
        })
    }

    fn with<T>(&self, ask: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        match &self.access {
            Access::Writing(db) => {
                // One transaction, so that all the questions are asked of the same moment.
                let snapshot = db.unchecked_transaction().or_say(|| self.cannot("read"))?;
                ask(&snapshot)
            }
            Access::Reading(reading) => reading.with(ask),
        }
    }

    /// Appends, in one transaction, the event that `make` makes of what the journal then says. On a full disk the
    /// reserve is given for it.
    pub(super) fn add<T>(&mut self, make: impl Fn(&Connection) -> Result<(T, TxId, String)>) -> Result<T> {
        let mut restarted = false;
        loop {
            match self.try_to_add(&make) {
                Err(error) if error.is_no_room() => {
                    restarted = !restarted && self.restart_log();
                    if !restarted {
                        if !reserve::give(&self.dir) {
                            return Err(error);
                        }
                        restarted = self.restart_log();
                    }
                }
                done => return done,
            }
        }
    }

    /// Lets the log be written from its beginning again, where it takes no more room: all of it has to get into the
    /// database, which grows by much less.
    fn restart_log(&self) -> bool {
        let Access::Writing(db) = &self.access else { return false };
        let done = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
            let (busy, all, done): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(busy == 0 && all > 0 && all == done)
        });
        done.unwrap_or(false)
    }

    fn try_to_add<T>(&mut self, make: impl Fn(&Connection) -> Result<(T, TxId, String)>) -> Result<T> {
        let said = self.cannot("write to");
        let Access::Writing(db) = &mut self.access else {
            return Err(Error::new(said).because("it was opened only to be read"));
        };
        let write = immediate(db, &said)?;
        let last = last_row(&write)?;
        bring_up_to_date(&self.dir, &write, last.as_ref())?;
        let (made, tx, event) = make(&write)?;
        let row = Row::after(last.as_ref(), tx.to_string(), clock::now(), event);
        insert(&write, &row).map_err(|error| wrong(error, said.clone()))?;
        write.commit().map_err(|error| wrong(error, said.clone()))?;
        // The event is in the journal, whatever happens to the head: see the top of this file.
        if let Err(error) = write_head(&self.dir, db, &said) {
            tracing::warn!("{error}");
        }
        Ok(made)
    }

    /// Read from the table and not by its index, which may be what is damaged.
    fn reliable(&self) -> Result<&Reliable> {
        if self.reliable.get().is_none() {
            let (rows, head) = self.all()?;
            let _ = self.reliable.set(Reliable::of(rows, head));
        }
        Ok(self.reliable.get().expect("it was set just now"))
    }

    /// All rows, and the head.
    fn all(&self) -> Result<(Vec<Row>, Option<Head>)> {
        // Read around the rows: where it is the same before and after, it is the head of exactly these rows.
        let mut head = head::read(&self.dir)?;
        for _ in 0..PATIENCE.as_millis() {
            let rows = self.with(|db| rows(db, "NOT INDEXED ORDER BY seq", &[]))?;
            let after = head::read(&self.dir)?;
            if after == head {
                return Ok((rows, head));
            }
            head = after;
            thread::sleep(Duration::from_millis(1));
        }
        Err(Error::new(self.cannot("verify")).because("others append to it all the time").fault(Fault::Locked))
    }

    fn cannot(&self, verb: &str) -> String {
        format!("cannot {verb} the journal `{}`", self.dir.join(FILE).display())
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        // Only so that `journal.db` alone, copied by somebody, is complete; nothing depends on it.
        if let Access::Writing(db) = &self.access {
            let _ = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, tx: &TxId, event: &Event) -> Result<()> {
        self.add(|_| Ok(((), tx.clone(), encode(event))))
    }

    fn events(&self, tx: &TxId) -> Result<Vec<Recorded>> {
        let name = tx.to_string();
        // Asked first: what others append in between makes the answer longer, never too short.
        let reliable = matches!(self.access, Access::Writing(_)).then(|| self.reliable()).transpose()?;
        let found = self.with(|db| rows(db, "WHERE tx = ?1 ORDER BY seq", &[&name]))?;
        if let Some(reliable) = reliable {
            reliable.vouch(&name, &found)?;
        }
        found.iter().map(decode).collect()
    }

    fn transactions(&self) -> Result<Vec<TxId>> {
        self.with(transactions)
    }

    fn unfinished(&self) -> Result<Vec<TxId>> {
        self.with(unfinished)
    }

    fn begin(&mut self, plan: &Name, begun: &Begun) -> Result<TxId> {
        self.add(|db| {
            let mut open = Vec::new();
            for tx in unfinished(db)? {
                let first = rows(db, "WHERE tx = ?1 ORDER BY seq LIMIT 1", &[&tx.to_string()])?;
                if let Some(Event::Begun(begun)) = first.first().map(decode).transpose()?.map(|first| first.event) {
                    open.push((tx, *begun));
                }
            }
            claims::refuse_overlap(plan, begun, &open)?;
            let number = next_number(plan, transactions(db)?.iter());
            let tx = TxId { plan: plan.clone(), number };
            Ok((tx.clone(), tx, encode(&Event::Begun(Box::new(begun.clone())))))
        })
    }

    fn verify(&self) -> Result<Verified> {
        let (rows, head) = self.all()?;
        let verified = chain::verify(&rows, head)?;
        // The rows are right; the index, by which those of one transaction are found, may not be.
        let said = "cannot read the journal";
        let check = |db: &Connection| db.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        match self.with(|db| check(db).map_err(|error| wrong(error, said.to_owned())))?.as_str() {
            "ok" => Ok(verified),
            bad => Err(damaged(bad)),
        }
    }
}

/// Whether `db` has the tables of this version; false for an empty one. A newer one is refused.
fn check_version(db: &Connection, dir: &Path) -> Result<bool> {
    let path = dir.join(FILE);
    let read = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
    let unreadable = |error| wrong(error, format!("cannot read the journal `{}`", path.display()));
    let version = read("PRAGMA user_version").map_err(unreadable)?;
    let tables = read("SELECT count(*) FROM sqlite_schema").map_err(unreadable)?;
    match version {
        VERSION => Ok(true),
        0 if tables == 0 => Ok(false),
        newer if newer > VERSION => Err(format::too_old(&format!("journal `{}`", path.display()), newer, VERSION)),
        _ => Err(Error::new(format!("`{}` is not a journal of txupgrade", path.display())).fault(Fault::Damage)),
    }
}

/// Refuses to go on after an end that is not as it was left, and brings a head that is one behind up to date.
fn bring_up_to_date(dir: &Path, db: &Connection, last: Option<&Row>) -> Result<()> {
    if let Some(last) = last {
        last.check()?;
    }
    let head = head::read(dir)?;
    chain::check_end(last, head, |seq| hash_of(db, seq))?;
    match last.map(Head::from) {
        Some(end) if head != Some(end) => head::write(dir, end),
        _ => Ok(()),
    }
}

fn hash_of(db: &Connection, seq: u64) -> Option<Hash> {
    let hash = db.query_row("SELECT hash FROM event WHERE seq = ?1", [seq.cast_signed()], |row| row.get(0));
    hash.optional().ok().flatten().and_then(|bytes: Vec<u8>| Hash::from_slice(&bytes))
}

fn write_head(dir: &Path, db: &mut Connection, said: &str) -> Result<()> {
    let held = immediate(db, said)?;
    match last_row(&held)? {
        Some(last) => head::write(dir, Head::from(&last)),
        None => Ok(()),
    }
}

fn immediate<'a>(db: &'a mut Connection, said: &str) -> Result<Transaction<'a>> {
    db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|error| wrong(error, said.to_owned()))
}

fn insert(db: &Connection, row: &Row) -> rusqlite::Result<()> {
    let mut insert =
        db.prepare_cached("INSERT INTO event (seq, tx, at, event, previous, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    insert.execute((
        row.seq.cast_signed(),
        &row.tx,
        &row.at,
        &row.event,
        row.previous.as_bytes(),
        row.hash.as_bytes(),
    ))?;
    Ok(())
}

fn last_row(db: &Connection) -> Result<Option<Row>> {
    Ok(rows(db, "ORDER BY seq DESC LIMIT 1", &[])?.pop())
}

fn rows(db: &Connection, which: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<Vec<Row>> {
    let said = || "cannot read the journal".to_owned();
    let sql = format!("SELECT seq, tx, at, event, previous, hash FROM event {which}");
    let mut select = db.prepare_cached(&sql).map_err(|error| wrong(error, said()))?;
    let stored = select.query_map(parameters, |row| {
        let hashes: (Vec<u8>, Vec<u8>) = (row.get(4)?, row.get(5)?);
        let seq = row.get::<_, i64>(0)?;
        Ok((seq, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, hashes))
    });
    let mut rows = Vec::new();
    for stored in stored.map_err(|error| wrong(error, said()))? {
        let (seq, tx, at, event, (previous, hash)) = stored.map_err(|error| wrong(error, said()))?;
        let of = || damaged(format!("event {seq} of `{tx}` was changed: its hash is not right"));
        let previous = Hash::from_slice(&previous).ok_or_else(of)?;
        let hash = Hash::from_slice(&hash).ok_or_else(of)?;
        rows.push(Row { seq: u64::try_from(seq).map_err(|_| of())?, tx, at, event, previous, hash });
    }
    Ok(rows)
}

fn transactions(db: &Connection) -> Result<Vec<TxId>> {
    named(db, "SELECT tx FROM event GROUP BY tx ORDER BY min(seq)")
}

fn unfinished(db: &Connection) -> Result<Vec<TxId>> {
    named(
        db,
        "SELECT tx FROM event GROUP BY tx \
         HAVING NOT max(json_valid(event) AND json_extract(event, '$.event') = 'ended') ORDER BY min(seq)",
    )
}

fn named(db: &Connection, sql: &str) -> Result<Vec<TxId>> {
    let said = || "cannot read the journal".to_owned();
    let mut select = db.prepare_cached(sql).map_err(|error| wrong(error, said()))?;
    let names = select.query_map([], |row| row.get::<_, String>(0)).map_err(|error| wrong(error, said()))?;
    names.map(|name| name.map_err(|error| wrong(error, said()))?.parse().map_err(|e: Error| damaged(e))).collect()
}

/// What SQLite complains of, as damage where it is.
pub(super) fn wrong(error: rusqlite::Error, said: String) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(error),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::new(said)
            .because(format!("another process has held it for {} s", PATIENCE.as_secs()))
            .fault(Fault::Locked),
        _ if matches!(
            error,
            rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)
        ) =>
        {
            damaged(error)
        }
        _ => Error::new(said).because(error),
    }
}

/// Asks again while the database is busy: SQLite does not wait when it changes the journal mode.
fn patiently<T>(mut ask: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let started = Instant::now();
    loop {
        match ask() {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && started.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}
