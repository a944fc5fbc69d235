//! The store: content-addressed objects in immutable `tar.zst` archives, their index, and manifests.
//!
//! Relies on a state directory that only its owner writes; several processes may write at once. Promises: what a call
//! returned is durable; what is read is checked against its name; an archive is never changed; nothing but the archives
//! is needed ([`Store::reindex`]).
//!
//! | file | what |
//! |---|---|
//! | `object` | names of objects, escaped bytes |
//! | `archive` | the `tar.zst` files and their frames |
//! | `index`, `known` | object → archive, frame, place |
//! | `pack`, `chunk` | objects into archives, streams into objects |
//! | `manifest`, `judge` | entries and heads, and whether they make sense |
//! | `recorded` | entries beside a live tree |
//! | `fetch` | reading and checking many objects, each frame once |
//! | `live`, `meta`, `walk` | the live tree: by directory descriptors, never through a symlink |
//! | `capture`, `read` | a tree into the store |
//! | `side` | where a restore builds, and puts what it displaces |
//! | `compare`, `content`, `part` | a tree against a manifest |
//! | `stage`, `patch`, `built`, `swap`, `converge` | a manifest back into a tree |
//! | `verify` | proof that what a rollback needs is there, making the index anew |
//! | `audit` | a check of the whole store |
//! | `prune`, `dropped` | what nothing needs any more leaves the store |
//! | `export`, `pax` | a snapshot as a plain `tar.zst` |

mod archive;
mod audit;
mod built;
mod capture;
mod chunk;
mod compare;
mod content;
mod converge;
mod dropped;
mod export;
mod fetch;
mod index;
mod judge;
mod known;
mod live;
mod manifest;
mod meta;
mod object;
mod pack;
mod part;
mod patch;
mod pax;
mod prune;
mod read;
mod recorded;
mod side;
mod stage;
mod stream;
mod swap;
#[cfg(test)]
mod tests;
mod tree;
mod verify;
mod walk;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Fault, OrSay, Result};
use converge::Compared;
use index::{Index, Place};
use manifest::{Entries, StoredHead};
use pack::{Class, Packer};

pub use audit::{Damaged, Hit, Sample, Verified};
pub use export::{Exported, Part};
pub use live::resolved;
pub use manifest::{Entry, Time, Type};
pub use object::{Bytes, ObjectId};
pub use prune::{Keep, Pruned, Pruning};
pub use side::{is_side_name, side_name, side_paths};
pub use tree::{Replaced, Stamps, Tree};
pub use verify::{ManifestInfo, Reindexed};

/// How many threads work at once.
fn cores() -> usize {
    // Asking the system reads files.
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(2, usize::from))
}

/// Decoded frames that are kept for the next object out of them.
const KEPT_FRAMES: usize = 6;

/// A frame's archive and place, and its tar stream.
type KeptFrame = ((u32, u64), Arc<Vec<u8>>);

/// A store in a state directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// Where archives are written; `None`: open for reading only.
    tmp: Option<PathBuf>,
    index: Arc<Index>,
    kept: Mutex<VecDeque<KeptFrame>>,
    compared: Mutex<Vec<Compared>>,
    /// Whether everything has been read from the archives because the index led astray.
    mended: AtomicBool,
    /// What could not be read then: the first of it.
    unreadable: Mutex<Vec<String>>,
    /// Held while what was written is read back: what one proof has read the next need not read again.
    proving: Mutex<()>,
}

impl Store {
    /// Opens (creates) the store in `<state>/store`; archives are written in `tmp` (this process's own directory).
    pub fn open(state: &Path, tmp: &Path) -> Result<Store> {
        let dir = state.join("store");
        let archives = dir.join("archives");
        for wanted in [archives.as_path(), tmp] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(wanted)
                .or_say(|| format!("cannot create `{}`", wanted.display()))?;
        }
        let index = Arc::new(Index::open(&dir)?);
        Ok(Store {
            dir,
            tmp: Some(tmp.to_owned()),
            index,
            kept: Mutex::default(),
            compared: Mutex::default(),
            mended: AtomicBool::new(false),
            unreadable: Mutex::default(),
            proving: Mutex::default(),
        })
    }

    /// Opens an existing store for reading only; nothing is created (works on a read-only state directory). `None` when
    /// there is none yet.
    pub fn open_read_only(state: &Path) -> Result<Option<Store>> {
        let dir = state.join("store");
        if !dir.join("archives").is_dir() {
            return Ok(None);
        }
        let index = Arc::new(Index::open_read_only(&dir)?);
        Ok(Some(Store {
            dir,
            tmp: None,
            index,
            kept: Mutex::default(),
            compared: Mutex::default(),
            mended: AtomicBool::new(false),
            unreadable: Mutex::default(),
            proving: Mutex::default(),
        }))
    }

    fn archives(&self) -> PathBuf {
        self.dir.join("archives")
    }

    /// Keeps `bytes` as one object; durable when it returns.
    pub fn put(&self, bytes: &[u8]) -> Result<ObjectId> {
        let id = ObjectId::of(bytes);
        let packer = Packer::start(self)?;
        packer.add(id, Class::Meta, bytes)?;
        packer.finish(None)?;
        Ok(id)
    }

    /// An object's bytes, checked against its name.
    pub fn get(&self, id: ObjectId) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.append(id, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends an object's bytes to `to`.
    fn append(&self, id: ObjectId, to: &mut Vec<u8>) -> Result<()> {
        match self.append_found(id, to) {
            Err(error) if self.mend(&error)? => match self.append_found(id, to) {
                // It was whole all the time: the index led astray.
                Ok(()) => {
                    self.index.note(&error.to_string());
                    Ok(())
                }
                // What was found first says more.
                Err(_) => Err(error),
            },
            done => done,
        }
    }

    /// Where something cannot be read, the index may be to blame: then all of it is read from the archives, once. Whether
    /// it was just now, so that another try may find more.
    fn mend(&self, error: &Error) -> Result<bool> {
        if error.fault != Fault::Damage || self.mended.swap(true, Ordering::Relaxed) {
            return Ok(false);
        }
        let there = archive::list(&self.archives())?;
        let is_gone = |name: &archive::ArchiveName| there.binary_search_by_key(name, |(name, _)| *name).is_err();
        let gone: Vec<String> = self
            .index
            .gone()
            .unwrap_or_default()
            .iter()
            .map(|gone| gone.name)
            .filter(is_gone)
            .map(|name| format!("the archive `{name}` is missing"))
            .collect();
        let damage = self.index.read_anew(error)?;
        self.forget_frames();
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        *unreadable = gone.into_iter().chain(damage.iter().map(ToString::to_string)).take(3).collect();
        Ok(true)
    }

    fn unreadable(&self) -> Vec<String> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the index on disk is not used, if it is not: what a person should be told.
    pub fn index_astray(&self) -> Option<String> {
        let why = self.index.astray()?;
        Some(format!(
            "the index of the store is damaged and is not used, `txupgrade store reindex` makes it anew: {why}"
        ))
    }

    fn append_found(&self, id: ObjectId, to: &mut Vec<u8>) -> Result<()> {
        let place = self.place(id)?;
        let frame = self.frame(place).map_err(|e| e.within(format!("the object `{id}` cannot be read")))?;
        to.extend_from_slice(checked(&frame, place, id)?);
        Ok(())
    }

    fn place(&self, id: ObjectId) -> Result<Place> {
        self.index.find(id)?.ok_or_else(|| {
            Error::new(format!("the object `{id}` is not in the store"))
                .hint("`txupgrade store reindex` looks for it in every archive")
                .fault(Fault::Damage)
        })
    }

    /// The decoded frame of a place.
    fn frame(&self, place: Place) -> Result<Arc<Vec<u8>>> {
        let key = (place.archive, place.frame);
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = lock().iter().find(|(kept, _)| *kept == key) {
            return Ok(Arc::clone(frame));
        }
        let frame = Arc::new(self.read_frame(place)?);
        let mut kept = lock();
        if kept.len() >= KEPT_FRAMES {
            kept.pop_front();
        }
        kept.push_back((key, Arc::clone(&frame)));
        Ok(frame)
    }

    fn read_frame(&self, place: Place) -> Result<Vec<u8>> {
        let mut opener = archive::Opener::default();
        self.open_frame(place, &mut opener)?;
        Ok(opener.into_tar())
    }

    /// Reads a place's frame into `opener`.
    fn open_frame<'o>(&self, place: Place, opener: &'o mut archive::Opener) -> Result<&'o [u8]> {
        let path =
            self.index.path(place.archive).ok_or_else(|| Error::new("an archive is missing").fault(Fault::Damage))?;
        let file = File::open(&path)
            .or_say(|| format!("cannot open the archive `{}`", path.display()))
            .map_err(|e| e.fault(Fault::Damage))?;
        opener
            .read(&file, place.frame, place.packed.into())
            .map_err(|e| e.within(format!("the archive `{}` is damaged", path.display())))
    }

    /// What a manifest says of itself.
    pub fn head(&self, manifest: ObjectId) -> Result<Head> {
        Ok(self.stored_head(manifest)?.head)
    }

    /// Bytes of content that a manifest describes, and its entries.
    pub fn size_of(&self, manifest: ObjectId) -> Result<(u64, u64)> {
        let head = self.stored_head(manifest)?;
        Ok((head.bytes, head.entries))
    }

    /// Whether it has the object.
    pub fn has(&self, id: ObjectId) -> Result<bool> {
        Ok(self.index.find(id)?.is_some())
    }

    /// The manifests that were pruned.
    pub fn dropped(&self) -> Result<std::collections::HashSet<ObjectId>> {
        dropped::read(&self.dir)
    }

    fn stored_head(&self, manifest: ObjectId) -> Result<StoredHead> {
        // What cannot be read is in nobody's way.
        if dropped::read(&self.dir).is_ok_and(|dropped| dropped.contains(&manifest)) {
            return Err(Error::new(format!("the manifest `{manifest}` was pruned"))
                .hint("`txupgrade store list` shows what is still there"));
        }
        let bytes = self.get(manifest).map_err(|e| e.within(format!("cannot read the manifest `{manifest}`")))?;
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let unreadable = || format!("`{manifest}` is not a manifest");
        let Format { format } = serde_json::from_slice(&bytes).or_say(unreadable)?;
        if format > manifest::FORMAT {
            return Err(Error::new(format!("the manifest `{manifest}` has format {format}"))
                .because(format!("this txupgrade knows formats up to {}", manifest::FORMAT))
                .hint("use the txupgrade that wrote it, or a newer one"));
        }
        serde_json::from_slice(&bytes).or_say(unreadable)
    }

    fn entries(&self, head: &StoredHead) -> Entries<'_> {
        Entries::new(self, head)
    }

    /// Bytes of all archives.
    pub fn size(&self) -> Result<u64> {
        Ok(archive::list(&self.archives())?.iter().map(|(_, bytes)| bytes).sum())
    }
}

/// An object out of its decoded frame, checked against its name.
fn checked(frame: &[u8], place: Place, id: ObjectId) -> Result<&[u8]> {
    let start = place.start as usize;
    frame
        .get(start..start + place.length as usize)
        .filter(|bytes| ObjectId::of(bytes) == id)
        .ok_or_else(|| Error::new(format!("the object `{id}` is damaged")).fault(Fault::Damage))
}

/// What a manifest says of itself, so that the store explains itself without the journal.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// The transaction.
    pub tx: String,
    /// The resource's instance.
    pub resource: String,
    /// Its kind.
    pub kind: String,
    /// Where it lives, for people.
    pub place: String,
    /// The version stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When, RFC 3339.
    pub at: String,
    /// What the kind wants to remember: exclusions, a fingerprint, `{"absent":true}`.
    #[serde(default)]
    pub facts: serde_json::Value,
}
