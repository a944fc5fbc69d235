//! The index: which archive, frame and place an object is at.
//!
//! It holds nothing that the archives don't say: it can be deleted. SQLite with a rollback journal, so that a reader
//! creates no file; a row whose archive is gone, or of another size than it was, does not count. One that is damaged is
//! made anew where that shows when it is opened; where it shows later, it is made anew for the process that came upon
//! it ([`Index::read_anew`]).

mod upkeep;

pub(crate) use upkeep::Gone;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::archive::{self, ArchiveName, Member, Sealed};
use super::known::Known;
use super::object::ObjectId;
use crate::error::{Error, Fault, OrSay, Result};

/// The format of index.db; another one is thrown away and made anew.
const FORMAT: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE archive (
        number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, bytes INTEGER NOT NULL,
        proved INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE object (
        id BLOB PRIMARY KEY, archive INTEGER NOT NULL,
        frame INTEGER NOT NULL, packed INTEGER NOT NULL,
        start INTEGER NOT NULL, length INTEGER NOT NULL, manifest INTEGER NOT NULL
    ) WITHOUT ROWID;
    PRAGMA user_version = 2;
";

/// Where an object is. Sorts in reading order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) archive: u32,
    pub(crate) frame: u64,
    pub(crate) packed: u32,
    pub(crate) start: u32,
    pub(crate) length: u32,
}

/// The index of one store.
#[derive(Debug)]
pub(crate) struct Index {
    archives: PathBuf,
    state: Mutex<State>,
    /// Why what is on disk is not used, or not any more.
    astray: Mutex<Option<String>>,
    /// All of it, once that was worth reading.
    known: RwLock<Option<Known>>,
}

#[derive(Debug)]
struct State {
    db: Connection,
    /// The archives that are there, by their number in the index.
    present: HashMap<u32, ArchiveName>,
    /// Those of them that were taken in since it was opened.
    fresh: HashSet<u32>,
    /// What was in archives that are gone, or not what they were.
    gone: Vec<Gone>,
}

const CANNOT_READ: &str = "cannot read the index";
const CANNOT_WRITE: &str = "cannot write the index";

impl Index {
    /// Opens `store/index.db`, makes it anew when it is missing, damaged or of another format, and forgets archives that
    /// are gone.
    pub(crate) fn open(store: &Path) -> Result<Index> {
        let open = || -> Result<Index> {
            let index = Index::with(store, connect(store)?)?;
            index.forget_missing()?;
            index.absorb()?;
            Ok(index)
        };
        match open() {
            Err(error) if error.fault == Fault::Damage => {
                tracing::warn!("the index is made anew: {error}");
                // Nothing in it is missed: the archives are read again.
                remove(store);
                open()
            }
            opened => opened,
        }
    }

    /// Opens it for reading; what it does not know is read from the archives into memory. Nothing is created.
    pub(crate) fn open_read_only(store: &Path) -> Result<Index> {
        let path = store.join("index.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> Result<Index> {
            let cannot = |error| wrong(error, CANNOT_READ);
            let db = Connection::open_with_flags(&path, flags).map_err(cannot)?;
            db.busy_timeout(Duration::from_secs(60)).map_err(cannot)?;
            match format(&db).map_err(cannot)? {
                FORMAT => Index::with(store, db),
                other => Err(Error::new(CANNOT_READ).because(format!("it has format {other}"))),
            }
        };
        let mut index = match open() {
            Ok(index) => index,
            Err(error) => {
                let index = Index::with(store, empty(Connection::open_in_memory())?)?;
                // One that was never made, or is of another version, is not damaged.
                if error.fault == Fault::Damage && path.metadata().is_ok_and(|file| file.len() > 0) {
                    index.note(error.causes.first().unwrap_or(&error.statement));
                }
                index
            }
        };
        if !index.strangers()?.is_empty() {
            let copied = index.copy_to_memory().and_then(|()| index.forget_missing()).and_then(|()| index.absorb());
            match copied {
                Err(error) if error.fault == Fault::Damage => {
                    index.note(&error.to_string());
                    index.read_anew(&error)?;
                }
                copied => drop(copied?),
            }
        }
        Ok(index)
    }

    fn with(store: &Path, db: Connection) -> Result<Index> {
        let state = Mutex::new(State { db, present: HashMap::new(), fresh: HashSet::new(), gone: Vec::new() });
        let archives = store.join("archives");
        let index = Index { archives, state, astray: Mutex::default(), known: RwLock::default() };
        index.look_around()?;
        Ok(index)
    }

    fn copy_to_memory(&mut self) -> Result<()> {
        let cannot = || "cannot copy the index into memory";
        let state = self.state.get_mut().expect("nobody else has it");
        let wrong = |error| wrong(error, cannot());
        let mut memory = Connection::open_in_memory().map_err(wrong)?;
        let backup = rusqlite::backup::Backup::new(&state.db, &mut memory).map_err(wrong)?;
        backup.run_to_completion(1000, Duration::ZERO, None).map_err(wrong)?;
        drop(backup);
        state.db = memory;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes which of the archives it knows are there as they were.
    pub(crate) fn look_around(&self) -> Result<()> {
        let mut state = self.lock();
        let all = known(&state.db).map_err(|error| wrong(error, CANNOT_READ))?;
        let there = all.into_iter().filter(|(_, (name, bytes))| self.is_there(*name, *bytes));
        state.present = there.map(|(number, (name, _))| (number, name)).collect();
        drop(state);
        self.forget();
        Ok(())
    }

    fn is_there(&self, name: ArchiveName, bytes: u64) -> bool {
        archive::path_of(&self.archives, name).metadata().is_ok_and(|file| file.len() == bytes)
    }

    /// Drops the rows of archives that are gone, so that their objects are written again.
    fn forget_missing(&self) -> Result<()> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut forget = || -> rusqlite::Result<()> {
            let all = known(&state.db)?;
            let gone = all.into_iter().filter(|(number, _)| !state.present.contains_key(number));
            let gone: Vec<(u32, ArchiveName)> = gone.map(|(number, (name, _))| (number, name)).collect();
            if gone.is_empty() {
                return Ok(());
            }
            let tx = state.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for (number, name) in gone {
                state.gone.push(Gone { name, objects: upkeep::objects_of(&tx, number)? });
                tx.execute("DELETE FROM object WHERE archive = ?1", [number])?;
                tx.execute("DELETE FROM archive WHERE number = ?1", [number])?;
            }
            tx.commit()
        };
        forget().map_err(|error| wrong(error, CANNOT_WRITE))
    }

    /// Archives that are there and not in the index.
    fn strangers(&self) -> Result<Vec<(ArchiveName, u64)>> {
        let there = archive::list(&self.archives)?;
        let state = self.lock();
        let known: std::collections::HashSet<ArchiveName> = state.present.values().copied().collect();
        Ok(there.into_iter().filter(|(name, _)| !known.contains(name)).collect())
    }

    /// Reads the archives that it does not know; returns those that cannot be read, with what is wrong with them.
    pub(crate) fn absorb(&self) -> Result<Vec<Error>> {
        let mut damage = Vec::new();
        for (name, bytes) in self.strangers()? {
            self.take_in(name, bytes, &mut damage)?;
        }
        Ok(damage)
    }

    /// What is in memory may be wrong now.
    fn forget(&self) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Many objects will be looked for: reads all it knows into memory.
    pub(crate) fn hurry(&self) -> Result<()> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let state = self.lock();
            let read = Known::read(&state.db, |archive| state.present.contains_key(&archive));
            *known = Some(read.map_err(|error| wrong(error, CANNOT_READ))?);
        }
        Ok(())
    }

    /// Whether there is an object, as far as it is known without a look at the database; see [`Index::hurry`].
    pub(crate) fn has(&self, id: ObjectId) -> Result<bool> {
        match self.remembered(|known| known.find(id).is_some()) {
            Some(has) => Ok(has),
            None => Ok(self.look_up(id)?.is_some()),
        }
    }

    /// Asks what is in memory, if it is.
    fn remembered<T>(&self, ask: impl FnOnce(&Known) -> T) -> Option<T> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(ask)
    }

    /// Takes a complete archive in.
    pub(crate) fn insert(&self, sealed: &Sealed) -> Result<()> {
        let mut state = self.lock();
        let number = insert(&mut state.db, sealed).map_err(|error| wrong(error, CANNOT_WRITE))?;
        state.present.insert(number, sealed.name);
        state.fresh.insert(number);
        drop(state);
        if let Some(known) = &mut *self.known.write().unwrap_or_else(PoisonError::into_inner) {
            for row in &sealed.rows {
                known.add(row.slot.id, place_of(row, number));
            }
        }
        Ok(())
    }

    /// Where an object is, if it is in an archive that is there.
    pub(crate) fn find(&self, id: ObjectId) -> Result<Option<Place>> {
        let remembered = self.remembered(|known| known.find(id)).flatten();
        if remembered.is_some() { Ok(remembered) } else { self.look_up(id) }
    }

    fn look_up(&self, id: ObjectId) -> Result<Option<Place>> {
        let state = self.lock();
        match find(&state.db, id).map_err(|error| wrong(error, CANNOT_READ))? {
            Some(place) if state.present.contains_key(&place.archive) => Ok(Some(place)),
            // Another process may have written the archive since we looked.
            Some(place) => {
                let all = known(&state.db).map_err(|error| wrong(error, CANNOT_READ))?;
                drop(state);
                match all.get(&place.archive).copied() {
                    Some((name, bytes)) if self.is_there(name, bytes) => {
                        self.lock().present.insert(place.archive, name);
                        Ok(Some(place))
                    }
                    _ => Ok(None),
                }
            }
            None => Ok(None),
        }
    }

    /// The file of an archive, by its number.
    pub(crate) fn path(&self, archive: u32) -> Option<PathBuf> {
        self.lock().present.get(&archive).map(|&name| archive::path_of(&self.archives, name))
    }

    /// The name and file of an archive that is there.
    pub(crate) fn archive(&self, archive: u32) -> Option<(ArchiveName, PathBuf)> {
        let name = *self.lock().present.get(&archive)?;
        Some((name, archive::path_of(&self.archives, name)))
    }

    /// How many objects it knows.
    pub(crate) fn count(&self) -> Result<u64> {
        let count = self.lock().db.query_row("SELECT count(*) FROM object", [], |row| row.get::<_, i64>(0));
        count.map(i64::cast_unsigned).map_err(|error| wrong(error, CANNOT_READ))
    }

    /// Every manifest.
    pub(crate) fn manifests(&self) -> Result<Vec<ObjectId>> {
        let all = |db: &Connection| {
            let mut query = db.prepare("SELECT id FROM object WHERE manifest")?;
            let rows = query.query_map([], |row| Ok(ObjectId::from_bytes(row.get(0)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        all(&self.lock().db).map_err(|error| wrong(error, CANNOT_READ))
    }
}

/// What SQLite says. Unless it is about the machine, the file is to blame, whatever the code: a bit that flipped in a
/// name leads to `no such table`.
fn wrong(error: rusqlite::Error, cannot: &str) -> Error {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    let code = error.sqlite_error_code();
    let said = Error::new(cannot).because(error);
    match code {
        Some(
            CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | OutOfMemory | PermissionDenied | ReadOnly
            | SystemIoFailure,
        ) => said,
        _ => said.hint("`txupgrade store reindex` makes the index anew from the archives").fault(Fault::Damage),
    }
}

fn format(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Opens the file of the index for writing; makes it where it is not there.
fn connect(store: &Path) -> Result<Connection> {
    let path = store.join("index.db");
    let open = Connection::open(&path).and_then(|mut db| prepare(&mut db).map(|()| db));
    open.map_err(|error| wrong(error, &format!("cannot open the index `{}`", path.display())))
}

/// Removes the file of the index. What cannot be removed is opened again, and complained of then.
fn remove(store: &Path) {
    for name in ["index.db", "index.db-journal"] {
        let _ = std::fs::remove_file(store.join(name));
    }
}

/// An index of nothing.
fn empty(db: rusqlite::Result<Connection>) -> Result<Connection> {
    let made = db.and_then(|db| db.execute_batch(SCHEMA).map(|()| db));
    made.or_say(|| "cannot make an index in memory")
}

fn prepare(db: &mut Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_secs(60))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -32_000)?;
    let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if format(&tx)? != FORMAT {
        tx.execute_batch("DROP TABLE IF EXISTS object; DROP TABLE IF EXISTS archive;")?;
        tx.execute_batch(SCHEMA)?;
    }
    tx.commit()
}

/// The archives that it knows, by number, each with its bytes.
fn known(db: &Connection) -> rusqlite::Result<HashMap<u32, (ArchiveName, u64)>> {
    let mut query = db.prepare_cached("SELECT number, name, bytes FROM archive")?;
    let rows = query.query_map([], |row| {
        let bytes = row.get::<_, i64>(2)?.cast_unsigned();
        Ok((row.get(0)?, (ObjectId::from_bytes(row.get(1)?), bytes)))
    })?;
    rows.collect()
}

fn insert(db: &mut Connection, sealed: &Sealed) -> rusqlite::Result<u32> {
    let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let number = insert_rows(&tx, sealed)?;
    tx.commit()?;
    Ok(number)
}

fn insert_rows(tx: &Connection, sealed: &Sealed) -> rusqlite::Result<u32> {
    tx.execute(
        "INSERT OR IGNORE INTO archive (name, bytes) VALUES (?1, ?2)",
        params![sealed.name.as_bytes(), sealed.bytes as i64],
    )?;
    let number: u32 =
        tx.query_row("SELECT number FROM archive WHERE name = ?1", [sealed.name.as_bytes()], |row| row.get(0))?;
    {
        // In the order of the tree's pages: each page is touched once.
        let mut rows: Vec<_> = sealed.rows.iter().collect();
        rows.sort_unstable_by_key(|row| row.slot.id);
        let mut add = tx.prepare_cached("INSERT OR IGNORE INTO object VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for row in rows {
            add.execute(params![
                row.slot.id.as_bytes(),
                number,
                row.frame as i64,
                row.packed as i64,
                row.slot.start as i64,
                row.slot.length as i64,
                row.slot.member == Member::Manifest
            ])?;
        }
    }
    Ok(number)
}

pub(crate) fn place_of(row: &archive::Row, archive: u32) -> Place {
    Place {
        archive,
        frame: row.frame,
        packed: row.packed as u32,
        start: row.slot.start as u32,
        length: row.slot.length as u32,
    }
}

pub(crate) fn place(row: &rusqlite::Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place {
        archive: row.get(0)?,
        frame: row.get::<_, i64>(1)?.cast_unsigned(),
        packed: row.get(2)?,
        start: row.get(3)?,
        length: row.get(4)?,
    })
}

fn find(db: &Connection, id: ObjectId) -> rusqlite::Result<Option<Place>> {
    let mut query = db.prepare_cached("SELECT archive, frame, packed, start, length FROM object WHERE id = ?1")?;
    query.query_row([id.as_bytes()], place).optional()
}
