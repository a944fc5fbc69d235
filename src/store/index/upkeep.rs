//! What upkeep asks of the index: all of it in one pass, and archives that take the place of others.

use std::collections::HashMap;
use std::sync::PoisonError;

use rusqlite::{Connection, params};

use super::super::archive::{self, ArchiveName, Sealed};
use super::super::object::ObjectId;
use super::{CANNOT_READ, CANNOT_WRITE, Index, Place, connect, empty, known, place, remove, wrong};
use crate::error::{Error, Result};

/// An archive that is not there any more, or not as it was.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    pub(crate) name: ArchiveName,
    /// What the index knew to be in it.
    pub(crate) objects: Vec<ObjectId>,
}

impl Index {
    /// Every archive that it knows, by number; also those whose file is gone.
    pub(crate) fn archives(&self) -> Result<Vec<(u32, ArchiveName)>> {
        let all = known(&self.lock().db).map_err(|error| wrong(error, CANNOT_READ))?;
        let mut all: Vec<_> = all.into_iter().map(|(number, (name, _))| (number, name)).collect();
        all.sort_unstable_by_key(|&(_, name)| name);
        Ok(all)
    }

    /// The archives that it knew and that are gone, or of another size than they were.
    pub(crate) fn gone(&self) -> Result<Vec<Gone>> {
        let state = self.lock();
        let mut gone = state.gone.clone();
        for (number, (name, _)) in known(&state.db).map_err(|error| wrong(error, CANNOT_READ))? {
            if !state.present.contains_key(&number) {
                let objects = objects_of(&state.db, number).map_err(|error| wrong(error, CANNOT_READ))?;
                gone.push(Gone { name, objects });
            }
        }
        gone.sort_unstable_by_key(|gone| gone.name);
        Ok(gone)
    }

    /// How many objects it knows to be in each archive.
    pub(crate) fn counts(&self) -> Result<HashMap<u32, u64>> {
        let state = self.lock();
        let all = || -> rusqlite::Result<HashMap<u32, u64>> {
            let mut query = state.db.prepare_cached("SELECT archive, count(*) FROM object GROUP BY archive")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
            rows.collect()
        };
        all().map_err(|error| wrong(error, CANNOT_READ))
    }

    /// Why what is on disk is not used.
    pub(crate) fn astray(&self) -> Option<String> {
        self.astray.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note(&self, why: &str) {
        self.astray.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.to_owned());
    }

    /// Gives `each` every object and where it is. `each` must not ask the index anything.
    pub(crate) fn each_object(&self, each: &mut dyn FnMut(ObjectId, Place)) -> Result<()> {
        let state = self.lock();
        let mut all = || -> rusqlite::Result<()> {
            let mut query = state.db.prepare_cached("SELECT archive, frame, packed, start, length, id FROM object")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                each(ObjectId::from_bytes(row.get(5)?), place(row)?);
            }
            Ok(())
        };
        all().map_err(|error| wrong(error, CANNOT_READ))
    }

    /// Archives that are there and were never read back as a whole: those that were taken in since the index was opened, and the
    /// others.
    pub(crate) fn unproved(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let state = self.lock();
        let all = || -> rusqlite::Result<Vec<u32>> {
            let mut query = state.db.prepare("SELECT number FROM archive WHERE NOT proved")?;
            let rows = query.query_map([], |row| row.get(0))?;
            rows.collect()
        };
        let there = all()
            .map_err(|error| wrong(error, CANNOT_READ))?
            .into_iter()
            .filter(|number| state.present.contains_key(number));
        Ok(there.partition(|number| state.fresh.contains(number)))
    }

    /// Notes that archives were read back as a whole.
    pub(crate) fn proved(&self, archives: &[u32]) -> Result<()> {
        let state = self.lock();
        let note = || -> rusqlite::Result<()> {
            let mut set = state.db.prepare("UPDATE archive SET proved = 1 WHERE number = ?1")?;
            archives.iter().try_for_each(|number| set.execute([number]).map(drop))
        };
        note().map_err(|error| wrong(error, CANNOT_WRITE))
    }

    /// The objects that it knows to be in an archive.
    pub(crate) fn objects_of(&self, archive: u32) -> Result<Vec<ObjectId>> {
        objects_of(&self.lock().db, archive).map_err(|error| wrong(error, CANNOT_READ))
    }

    /// Takes `sealed` in, if there is one, and forgets the archives `old`, all in one.
    pub(crate) fn replace(&self, old: &[u32], sealed: Option<&Sealed>) -> Result<()> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut change = || -> rusqlite::Result<Option<u32>> {
            let tx = state.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            tx.execute_batch("CREATE TEMP TABLE IF NOT EXISTS gone (number INTEGER PRIMARY KEY); DELETE FROM gone;")?;
            for number in old {
                tx.execute("INSERT OR IGNORE INTO gone VALUES (?1)", params![number])?;
            }
            tx.execute_batch(
                "DELETE FROM object WHERE archive IN (SELECT number FROM gone);
                 DELETE FROM archive WHERE number IN (SELECT number FROM gone);
                 DELETE FROM gone;",
            )?;
            let number = sealed.map(|sealed| super::insert_rows(&tx, sealed)).transpose()?;
            tx.commit()?;
            Ok(number)
        };
        let number = change().map_err(|error| wrong(error, CANNOT_WRITE))?;
        old.iter().for_each(|number| {
            state.present.remove(number);
        });
        if let (Some(number), Some(sealed)) = (number, sealed) {
            state.present.insert(number, sealed.name);
            state.fresh.insert(number);
        }
        Ok(())
    }

    /// Throws away what is on disk and reads every archive again; `tell` gets bytes of archives done and in all, and may
    /// say that it is enough: what is still missing then is read by whoever opens the store next. Returns what cannot be
    /// read. The caller is alone in the store.
    pub(crate) fn rebuild(&self, tell: &dyn Fn(u64, u64) -> Result<()>) -> Result<Vec<Error>> {
        let store = self.archives.parent().expect("the archives are in the store");
        // The file is let go of before it is removed, and is not trusted to empty itself.
        self.start_from(empty(Connection::open_in_memory())?);
        remove(store);
        self.start_from(connect(store)?);
        let strangers = self.strangers()?;
        let total = strangers.iter().map(|(_, bytes)| bytes).sum();
        let (mut damage, mut done) = (Vec::new(), 0);
        for (name, bytes) in strangers {
            tell(done, total)?;
            self.take_in(name, bytes, &mut damage)?;
            done += bytes;
        }
        tell(done, total)?;
        Ok(damage)
    }

    /// What is on disk leads astray: everything is read from the archives again, for this process only, since others may
    /// be at work. What it adds from here on is found by whoever opens the store next. Returns what cannot be read.
    pub(crate) fn read_anew(&self, why: &Error) -> Result<Vec<Error>> {
        tracing::warn!("the index is not used: {why}");
        // An empty name: in a file of its own that is gone with the connection, so memory stays flat.
        self.start_from(empty(Connection::open(""))?);
        self.absorb()
    }

    /// Drops the rows of objects that no archive holds whole, so that they are written again: also on disk, where that
    /// is not what is at hand. It only saves the next capture from building on them.
    pub(crate) fn forget_damaged<'o>(&self, objects: impl Iterator<Item = &'o ObjectId>) {
        let store = self.archives.parent().expect("the archives are in the store");
        let forget = || -> rusqlite::Result<()> {
            let mut db = Connection::open(store.join("index.db"))?;
            db.busy_timeout(std::time::Duration::from_secs(60))?;
            let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for id in objects {
                tx.prepare_cached("DELETE FROM object WHERE id = ?1")?.execute([id.as_bytes()])?;
            }
            tx.commit()
        };
        if let Err(error) = forget() {
            tracing::warn!("the index keeps objects that are damaged: {error}");
        }
    }

    fn start_from(&self, db: Connection) {
        let mut state = self.lock();
        state.present.clear();
        state.db = db;
        drop(state);
        self.forget();
    }

    /// Reads an archive and takes in what of it is whole.
    pub(super) fn take_in(&self, name: ArchiveName, bytes: u64, damage: &mut Vec<Error>) -> Result<()> {
        let mut rows = Vec::new();
        let read = archive::frames(&archive::path_of(&self.archives, name), &mut |frame, packed, tar| {
            let slots = tar.and_then(|tar| {
                let slots = archive::Frame::read(&tar).map_err(|error| error.to_string())?;
                Ok((slots, tar))
            });
            let mut bad = |why: String| {
                damage.push(Error::new(format!(
                    "the frame at byte {frame} of the archive `{name}` cannot be read: {why}"
                )));
            };
            match slots {
                Ok((slots, tar)) => {
                    for slot in slots {
                        let start = slot.start as usize;
                        if ObjectId::of(&tar[start..start + slot.length as usize]) == slot.id {
                            rows.push(archive::Row { slot, frame, packed });
                        } else {
                            bad(format!("the object `{}` is damaged", slot.id));
                        }
                    }
                }
                Err(why) => bad(why),
            }
            Ok(())
        });
        match read {
            Ok(hash) if hash == name => {}
            Ok(hash) => damage.push(Error::new(format!("the BLAKE3 of the archive `{name}` is `{hash}`"))),
            Err(error) => damage.push(error),
        }
        self.insert(&Sealed { name, bytes, rows })
    }
}

pub(super) fn objects_of(db: &Connection, archive: u32) -> rusqlite::Result<Vec<ObjectId>> {
    let mut query = db.prepare_cached("SELECT id FROM object WHERE archive = ?1")?;
    let rows = query.query_map([archive], |row| Ok(ObjectId::from_bytes(row.get(0)?)))?;
    rows.collect()
}
