//! What upkeep asks of the index: all of it in one pass, and archives that take the place of others.

use rusqlite::params;

use super::super::archive::{self, ArchiveName, Sealed};
use super::super::object::ObjectId;
use super::{Index, Place, known, place};
use crate::error::{Error, OrSay, Result};

const CANNOT_READ: &str = "cannot read the index";

impl Index {
    /// Every archive that it knows, by number; also those whose file is gone.
    pub(crate) fn archives(&self) -> Result<Vec<(u32, ArchiveName)>> {
        let mut all: Vec<_> = known(&self.lock().db).or_say(|| CANNOT_READ)?.into_iter().collect();
        all.sort_unstable_by_key(|&(_, name)| name);
        Ok(all)
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
        all().or_say(|| CANNOT_READ)
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
        let there = all().or_say(|| CANNOT_READ)?.into_iter().filter(|number| state.present.contains_key(number));
        Ok(there.partition(|number| state.fresh.contains(number)))
    }

    /// Notes that archives were read back as a whole.
    pub(crate) fn proved(&self, archives: &[u32]) -> Result<()> {
        let state = self.lock();
        let note = || -> rusqlite::Result<()> {
            let mut set = state.db.prepare("UPDATE archive SET proved = 1 WHERE number = ?1")?;
            archives.iter().try_for_each(|number| set.execute([number]).map(drop))
        };
        note().or_say(|| "cannot write the index")
    }

    /// The objects that it knows to be in an archive.
    pub(crate) fn objects_of(&self, archive: u32) -> Result<Vec<ObjectId>> {
        let state = self.lock();
        let all = || -> rusqlite::Result<Vec<ObjectId>> {
            let mut query = state.db.prepare_cached("SELECT id FROM object WHERE archive = ?1")?;
            let rows = query.query_map([archive], |row| Ok(ObjectId::from_bytes(row.get(0)?)))?;
            rows.collect()
        };
        all().or_say(|| CANNOT_READ)
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
        let number = change().or_say(|| "cannot write the index")?;
        old.iter().for_each(|number| {
            state.present.remove(number);
        });
        if let (Some(number), Some(sealed)) = (number, sealed) {
            state.present.insert(number, sealed.name);
            state.fresh.insert(number);
        }
        Ok(())
    }

    /// Forgets everything and reads every archive again; `tell` gets bytes of archives done and in all, and may say that
    /// it is enough: what is still missing then is read by whoever opens the store next. Returns what cannot be read.
    pub(crate) fn rebuild(&self, tell: &dyn Fn(u64, u64) -> Result<()>) -> Result<Vec<Error>> {
        self.clear()?;
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

    /// Reads an archive and takes it in.
    pub(super) fn take_in(&self, name: ArchiveName, bytes: u64, damage: &mut Vec<Error>) -> Result<()> {
        let mut rows = Vec::new();
        let read = archive::frames(&archive::path_of(&self.archives, name), &mut |frame, packed, tar| {
            let slots = tar.and_then(|tar| archive::Frame::read(&tar).map_err(|error| error.to_string()));
            match slots {
                Ok(slots) => rows.extend(slots.into_iter().map(|slot| archive::Row { slot, frame, packed })),
                Err(why) => damage.push(Error::new(format!("archive `{name}`, frame at byte {frame}: {why}"))),
            }
            Ok(())
        });
        if let Err(error) = read {
            damage.push(error);
        }
        self.insert(&Sealed { name, bytes, rows })
    }
}
