//! Opening the state directory: to act in it, or only to look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Site;
use crate::engine::{self, Ground, Logs, lock_path};
use crate::error::{Error, Fault, OrSay, Result};
use crate::journal::{Journal, Recorded, SqliteJournal, format};
use crate::name::TxId;
use crate::store::Store;
use crate::sys::lock::{Lock, Mode};
use crate::sys::scratch::Scratch;
use crate::sys::{clock, files, process, reserve};
use crate::tx::{Event, State};

/// The state directory, opened to act in it. Holds the store's lock for as long as it lives: shared, or alone.
pub(super) struct Office {
    pub(super) dir: PathBuf,
    pub(super) tmp: PathBuf,
    pub(super) journal: SqliteJournal,
    pub(super) store: Store,
    sharing: Option<Lock>,
}

impl Office {
    /// Opens it, making it where it does not exist, and removes what dead processes left in `tmp/`.
    pub(super) fn open(site: &Site) -> Result<Office> {
        let office = Office::open_as(site, Mode::Shared)?;
        office.journal.check_end()?;
        Ok(office)
    }

    /// The same, and nobody else works in the store.
    pub(super) fn open_alone(site: &Site) -> Result<Office> {
        Office::open_as(site, Mode::Alone)
    }

    fn open_as(site: &Site, mode: Mode) -> Result<Office> {
        reserve::give_if_scarce(&site.dir);
        let open = || -> Result<Office> {
            files::create_private_dir(&site.dir)?;
            let dir = std::fs::canonicalize(&site.dir).or_say(|| "cannot find it")?;
            refuse_lost_journal(&dir)?;
            format::establish(&dir)?;
            for part in ["locks", "tmp", "logs"] {
                files::create_private_dir(&dir.join(part))?;
            }
            let store = || Lock::take(&store_lock(&dir), mode, "the store");
            let sharing = Some(match mode {
                Mode::Shared => patiently(site, store)?,
                Mode::Alone => store()?,
            });
            let (pid, start, _) = process::myself();
            let tmp = dir.join("tmp").join(format!("{pid}-{start}"));
            sweep(&dir);
            files::create_private_dir(&tmp)?;
            let inside = || Ok((SqliteJournal::open(&dir)?, Store::open(&dir, &tmp)?));
            match inside() {
                Ok((journal, store)) => Ok(Office { dir, tmp, journal, store, sharing }),
                Err(error) => {
                    let _ = files::remove_tree(&tmp);
                    Err(error)
                }
            }
        };
        let opened = loop {
            match open() {
                Err(error) if error.is_no_room() && reserve::give(&site.dir) => {}
                opened => break opened,
            }
        };
        opened.map_err(|error| match error.fault {
            Fault::Failed if error.is_no_room() => error
                .within(format!("there is no room in the state directory `{}`", site.dir.display()))
                .hint(make_room_first(&site.dir, "try again")),
            Fault::Failed => error.within(format!("cannot work in the state directory `{}`", site.dir.display())),
            _ => error,
        })
    }

    /// Does something while nobody else works in the store, then shares it again. `Fault::Locked` when somebody does.
    pub(super) fn alone<T>(&mut self, site: &Site, act: impl FnOnce(&Store, &SqliteJournal) -> Result<T>) -> Result<T> {
        let path = store_lock(&self.dir);
        self.sharing = None;
        let done = Lock::take(&path, Mode::Alone, "the store").and_then(|_alone| {
            // Somebody may have been alone in it in between.
            self.store = Store::open(&self.dir, &self.tmp)?;
            act(&self.store, &self.journal)
        });
        self.sharing = Some(patiently(site, || Lock::take(&path, Mode::Shared, "the store"))?);
        self.store = Store::open(&self.dir, &self.tmp)?;
        done
    }

    /// The ground for a world in it.
    pub(super) fn ground<'a>(dir: &'a Path, tmp: &'a Path, store: &'a Store, site: &Site) -> Ground<'a> {
        Ground { dir, tmp, store, monitor: Arc::clone(&site.monitor), logs: Logs::Kept }
    }
}

/// What to do where not even the reserve was enough.
pub(super) fn make_room_first(dir: &Path, then: &str) -> String {
    format!("make some megabytes of room on the filesystem of `{}`, then {then}", dir.display())
}

/// The lock that writers of the store share, and that who removes something from it holds alone.
pub(super) fn store_lock(dir: &Path) -> PathBuf {
    dir.join("locks/store.lock")
}

/// The ground for a world that is only looked at: nothing that its programs print is kept.
pub(super) fn ground_to_look<'a>(dir: &'a Path, tmp: &'a Path, store: &'a Store, site: &Site) -> Ground<'a> {
    Ground { dir, tmp, store, monitor: Arc::clone(&site.monitor), logs: Logs::NotKept }
}

/// Takes the lock of a transaction, so that nobody else is at work on it.
pub(super) fn lock_tx(dir: &Path, tx: &TxId) -> Result<Lock> {
    let _beginning = lock_begin(dir)?;
    lock_begun(dir, tx)
}

/// The same for who keeps others from beginning and recovering: a transaction that was just journaled is not yet
/// locked, and is nobody else's.
pub(super) fn lock_begun(dir: &Path, tx: &TxId) -> Result<Lock> {
    Lock::take(&lock_path(dir, tx), Mode::Alone, &format!("transaction `{tx}`"))
}

/// Keeps others from taking a transaction that was just journaled and is not yet locked.
pub(super) fn lock_begin(dir: &Path) -> Result<Lock> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Lock::take(&dir.join("locks/begin.lock"), Mode::Alone, "the beginning of transactions") {
            Err(error) if error.fault == Fault::Locked && Instant::now() < deadline => std::thread::sleep(PAUSE),
            taken => return taken,
        }
    }
}

/// How often a lock that others hold is asked for again.
const PAUSE: Duration = Duration::from_millis(20);

/// Shares what somebody may have alone for a while: who drops what is not kept any more. After a moment that is told.
pub(super) fn patiently<T>(site: &Site, take: impl Fn() -> Result<T>) -> Result<T> {
    const MOMENT: Duration = Duration::from_secs(1);
    let patience = clock::limit("TXUPGRADE_TEST_PATIENCE_MS", Duration::from_secs(60));
    let began = Instant::now();
    let mut told = false;
    loop {
        match take() {
            Err(error)
                if error.fault == Fault::Locked && began.elapsed() < patience && site.stop.signal().is_none() =>
            {
                if !told && began.elapsed() >= MOMENT {
                    told = true;
                    site.monitor.warn(&format!("waits, for {error}"));
                }
                std::thread::sleep(PAUSE);
            }
            taken => return taken,
        }
    }
}

impl Drop for Office {
    /// Tidies up early; a process that dies is tidied up after by the next.
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.tmp);
    }
}

/// Removes what processes that are gone had only for themselves.
pub(super) fn sweep(dir: &Path) {
    files::sweep_beside(dir);
    files::sweep_beside(&dir.join("plans"));
    Scratch::sweep();
    for entry in std::fs::read_dir(dir.join("tmp")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((pid, start)) = name.to_str().and_then(|name| name.split_once('-')) else { continue };
        let (Ok(pid), Ok(start)) = (pid.parse(), start.parse()) else { continue };
        let (_, _, boot_id) = process::myself();
        if !process::is_alive(pid, start, &boot_id) {
            let _ = files::remove_tree(&entry.path());
        }
    }
}

/// The state directory, opened only to look. Nothing is created in it, and it may be read-only.
pub(super) struct Reading {
    pub(super) dir: PathBuf,
    pub(super) journal: SqliteJournal,
}

impl Reading {
    /// Opens it; `None` when there is no journal yet.
    pub(super) fn open(site: &Site) -> Result<Option<Reading>> {
        // That it cannot be looked at is not that nothing is there.
        let there = site.dir.try_exists();
        if !there.or_say(|| format!("cannot look for the state directory `{}`", site.dir.display()))? {
            return Ok(None);
        }
        format::check(&site.dir)?;
        refuse_lost_journal(&site.dir)?;
        let journal = SqliteJournal::open_read_only(&site.dir)?;
        Ok(journal.map(|journal| Reading { dir: site.dir.clone(), journal }))
    }
}

/// A state directory that had a journal and has none is not a new one: nobody may say that all is well.
pub(super) fn refuse_lost_journal(dir: &Path) -> Result<()> {
    let there = |name: &str| dir.join(name).metadata().ok();
    let says = |name: &str| there(name).is_some_and(|file| !file.is_file() || file.len() > 0);
    // In this order: where another process makes all of them now, its head comes last.
    if there("journal.head").is_none() || says("journal.db") || says("journal.db-wal") {
        return Ok(());
    }
    let how = if there("journal.db").is_some() { "is empty" } else { "is not" };
    Err(Error::new(format!("the journal of `{}` is gone", dir.display()))
        .because(format!("`journal.head` is there and `journal.db` {how}"))
        .hint("put `journal.db` back from a backup; the snapshots are still in `store/archives`")
        .fault(Fault::Damage))
}

/// A transaction with all its events.
pub(super) struct Told {
    pub(super) tx: TxId,
    pub(super) recorded: Vec<Recorded>,
    pub(super) state: State,
}

/// Reads a transaction back from the journal.
pub(super) fn tell(journal: &dyn Journal, tx: &TxId) -> Result<Told> {
    let recorded = journal.events(tx)?;
    if recorded.is_empty() {
        return Err(Error::new(format!("there is no transaction `{tx}`"))
            .hint("`txupgrade history` lists all of them")
            .fault(Fault::Failed));
    }
    let events: Vec<&Event> = recorded.iter().map(|recorded| &recorded.event).collect();
    let state = State::fold(events)
        .map_err(|illegal| {
            Error::new(format!("the journal of `{tx}` does not make sense")).because(illegal).fault(Fault::Damage)
        })
        .map_err(|error| error.hint("txupgrade history --verify"))?;
    Ok(Told { tx: tx.clone(), recorded, state })
}

/// The transaction a verb is about: the one that was named, or the one that is open.
pub(super) fn the_open_one(journal: &dyn Journal, tx: Option<&TxId>) -> Result<TxId> {
    if let Some(tx) = tx {
        return Ok(tx.clone());
    }
    let open = journal.unfinished()?;
    match open.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::new("no transaction is open").hint("`txupgrade history` lists those that have ended")),
        several => {
            let names: Vec<String> = several.iter().map(|tx| format!("`{tx}`")).collect();
            Err(Error::new(format!("several transactions are open: {}", names.join(", ")))
                .hint("name the one that you mean")
                .fault(Fault::Usage))
        }
    }
}

/// Reads a plan file. Run by root, a plan that others may write is refused: whoever can write it is root.
pub(super) fn read_plan_file(path: &Path) -> Result<(String, PathBuf)> {
    let shown = path.display();
    let absolute = std::fs::canonicalize(path)
        .map_err(|cause| Error::new(format!("cannot read the plan `{shown}`")).because(cause).fault(Fault::Usage))?;
    engine::refuse_if_others_write(&absolute)
        .map_err(|error| error.within(format!("the plan `{shown}` is not safe to run")).fault(Fault::Usage))?;
    let bytes = std::fs::read(&absolute)
        .map_err(|cause| Error::new(format!("cannot read the plan `{shown}`")).because(cause).fault(Fault::Usage))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::new(format!("the plan `{shown}` is not UTF-8 text")).fault(Fault::Usage))?;
    Ok((text, absolute))
}
