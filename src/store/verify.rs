//! Proof that what a rollback needs is there, a new index, and what the store holds.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::archive;
use super::fetch::{OnBad, Want, fetch};
use super::manifest::{Entry, StoredHead, chunks_of, read_entry};
use super::object::ObjectId;
use super::recorded::{Content, content_of};
use super::{Head, Store, cores};
use crate::error::{Error, Fault, Result};

/// What making the index anew found.
#[derive(Debug, Clone, Default)]
pub struct Reindexed {
    /// Archives read.
    pub archives: u64,
    /// Objects found.
    pub objects: u64,
    /// Bytes of archives.
    pub bytes: u64,
    /// What cannot be read, a line each.
    pub damage: Vec<String>,
}

/// A manifest that is in the store.
#[derive(Debug, Clone)]
pub struct ManifestInfo {
    /// Its name.
    pub id: ObjectId,
    /// What it says of itself.
    pub head: Head,
    /// How many entries it has.
    pub entries: u64,
    /// Bytes of content it describes.
    pub bytes: u64,
}

/// What reading everything gave.
struct Proof {
    bytes: u64,
    heads: Vec<StoredHead>,
    bad: HashMap<ObjectId, Error>,
}

/// Why an entry cannot be restored, if it is hit.
pub(super) fn hit_by(store: &Store, entry: &Entry, bad: &HashMap<ObjectId, Error>) -> Result<Option<String>> {
    let mut why = entry.list.iter().find_map(|id| bad.get(id)).map(ToString::to_string);
    let read = chunks_of(store, entry, &mut |id, _| {
        if why.is_none() {
            why = bad.get(&id).map(ToString::to_string);
        }
        Ok(())
    });
    match read {
        Err(error) if error.fault == Fault::Damage => Ok(why.or_else(|| Some(error.to_string()))),
        read => read.map(|()| why),
    }
}

/// The files that are hit, and why.
#[derive(Debug, Default)]
pub(super) struct Hits {
    files: Vec<String>,
    whys: Vec<String>,
}

impl Hits {
    pub(super) fn add(&mut self, file: String, why: String) {
        self.files.push(file);
        if !self.whys.contains(&why) && self.whys.len() < 3 {
            self.whys.push(why);
        }
    }

    pub(super) fn tell(mut self, store: &Store, error: Error) -> Error {
        // What is journaled has to be read again each time; `store verify` has no such bound.
        const NAMED: usize = 10_000;
        // Once everything was read from the archives, that says more than `not in the store`.
        let unreadable = store.unreadable();
        if !unreadable.is_empty() {
            self.whys = unreadable;
        }
        let more = self.files.len().saturating_sub(NAMED);
        let causes = self.whys.into_iter().chain(self.files.into_iter().take(NAMED));
        let mut error = causes.fold(error, Error::because);
        if more > 0 {
            error = error.because(format!("and {more} more files"));
        }
        error.hint("`txupgrade store verify` lists all damage").fault(Fault::Damage)
    }
}

impl Store {
    /// Checks every object that a restore of `manifests` needs: of archives that were read back before, that they are
    /// byte for byte what they were then; of others, every object. An error (`Fault::Damage`) says what is damaged and which
    /// files it hits. `progress` gets bytes done and in all. Returns bytes read.
    pub fn prove(&self, manifests: &[ObjectId], progress: &dyn Fn(u64, u64)) -> Result<u64> {
        let mended = self.mended.load(Ordering::Relaxed);
        let proof = self.read_all(manifests, progress);
        let first = match &proof {
            Ok(proof) => proof.bad.values().next().cloned().map(|error| error.fault(Fault::Damage)),
            Err(error) => Some(error.clone()).filter(|error| error.fault == Fault::Damage),
        };
        let Some(first) = first else { return self.judge(proof?) };
        // It may have been made anew on the way, when some places were known already.
        if !self.mend(&first)? && mended == self.mended.load(Ordering::Relaxed) {
            return self.judge(proof?);
        }
        let again = self.read_all(manifests, progress)?;
        if again.bad.is_empty() {
            self.index.note(&first.to_string());
        }
        self.judge(again)
    }

    fn judge(&self, proof: Proof) -> Result<u64> {
        if proof.bad.is_empty() {
            return Ok(proof.bytes);
        }
        if self.tmp.is_some() {
            self.index.forget_damaged(proof.bad.keys());
        }
        Err(self.explain(&proof)?)
    }

    fn read_all(&self, manifests: &[ObjectId], progress: &dyn Fn(u64, u64)) -> Result<Proof> {
        self.index.hurry()?;
        let mut needed: HashSet<ObjectId> = HashSet::new();
        let mut wants = Vec::new();
        let mut bad: HashMap<ObjectId, Error> = HashMap::new();
        let mut heads = Vec::new();
        for &manifest in manifests {
            let head = self.stored_head(manifest)?;
            let damaged = || format!("the manifest of `{}` of `{}` is damaged", head.head.resource, head.head.tx);
            self.each_object(&head, &mut |id, found| {
                if !needed.insert(id) {
                    return Ok(());
                }
                let missing = || Error::new(format!("the object `{id}` is not in the store"));
                let length = match found {
                    Ok(length) => length,
                    Err(why) => {
                        bad.insert(id, why);
                        return Ok(());
                    }
                };
                match self.index.find(id)?.ok_or_else(missing) {
                    Ok(place) if place.length == length => wants.push(Want { place, id, what_for: () }),
                    Ok(_) => drop(bad.insert(id, Error::new(format!("the object `{id}` has another length")))),
                    Err(why) => drop(bad.insert(id, why)),
                }
                Ok(())
            })
            .map_err(|e| e.within(damaged()).fault(Fault::Damage))?;
            heads.push(head);
        }
        let (fresh, others) = self.index.unproved()?;
        let unproved: HashSet<u32> = fresh.into_iter().chain(others).collect();
        let proved: HashSet<u32> = wants.iter().map(|want| want.place.archive).collect();
        let (whole, read) = self.intact(proved.difference(&unproved).copied().collect())?;
        wants.retain(|want| !whole.contains(&want.place.archive));
        let fetched = fetch(self, wants, OnBad::GoOn, progress, &|_, _| Ok(()))?;
        bad.extend(fetched.bad);
        Ok(Proof { bytes: read + fetched.bytes, heads, bad })
    }

    /// Reads back what was written for `manifests`: whole archives that were never read back and hold something they
    /// need. What is in others was read back before. An error (`Fault::Damage`) says what is damaged and which files it hits.
    /// Returns bytes read.
    pub fn prove_written(&self, manifests: &[ObjectId], progress: &dyn Fn(u64, u64)) -> Result<u64> {
        let _one_by_one = self.proving.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut archives, others) = self.index.unproved()?;
        let mut heads = Vec::new();
        for &manifest in manifests {
            heads.push(self.stored_head(manifest)?);
        }
        if !others.is_empty() {
            self.index.hurry()?;
            let mut needed = HashSet::new();
            for head in &heads {
                self.each_object(head, &mut |id, _| {
                    needed.extend(self.index.find(id)?.map(|place| place.archive));
                    Ok(())
                })?;
            }
            archives.extend(others.into_iter().filter(|archive| needed.contains(archive)));
        }
        let read: HashSet<u32> = archives.iter().copied().collect();
        let mut wants = Vec::new();
        if !read.is_empty() {
            self.index.each_object(&mut |id, place| {
                if read.contains(&place.archive) {
                    wants.push(Want { place, id, what_for: () });
                }
            })?;
        }
        let fetched = fetch(self, wants, OnBad::GoOn, progress, &|_, _| Ok(()))?;
        if fetched.bad.is_empty() {
            // What is not noted is only read once more.
            if let Err(error) = self.index.proved(&archives) {
                tracing::debug!("{error}");
            }
            return Ok(fetched.bytes);
        }
        let bad: HashMap<ObjectId, Error> = fetched.bad.into_iter().collect();
        let mut hit = false;
        for head in &heads {
            hit |= head.chunks.iter().any(|id| bad.contains_key(id));
            self.each_object(head, &mut |id, _| {
                hit |= bad.contains_key(&id);
                Ok(())
            })?;
        }
        let bytes = fetched.bytes;
        if hit { self.judge(Proof { bytes, heads, bad }) } else { Ok(bytes) }
    }

    /// Which of these archives have the BLAKE3 that they are named by, and the bytes they have together.
    fn intact(&self, archives: Vec<u32>) -> Result<(HashSet<u32>, u64)> {
        let (next, intact) = (AtomicUsize::new(0), Mutex::new((HashSet::new(), 0)));
        std::thread::scope(|scope| {
            for _ in 0..cores().min(archives.len()) {
                scope.spawn(|| {
                    while let Some(&number) = archives.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let Some((name, path)) = self.index.archive(number) else { continue };
                        // What cannot be read is found out object by object.
                        let Ok((found, bytes)) = archive::hash(&path) else { continue };
                        if found == name {
                            let mut intact = intact.lock().unwrap_or_else(PoisonError::into_inner);
                            intact.0.insert(number);
                            intact.1 += bytes;
                        }
                    }
                });
            }
        });
        Ok(intact.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every object that a manifest needs beside its own chunks, which are read on the way, with its length. Where the list
    /// of a file's objects is damaged, that file is hit: the list's first object then comes with what is wrong.
    fn each_object(&self, head: &StoredHead, each: &mut dyn FnMut(ObjectId, Result<u32>) -> Result<()>) -> Result<()> {
        let mut entries = self.entries(head);
        while let Some(line) = entries.next_line()? {
            match content_of(line) {
                Content::Nothing => {}
                Content::Object(id, length) => each(id, Ok(length))?,
                Content::More => {
                    let entry = read_entry(line)?;
                    match (chunks_of(self, &entry, &mut |id, length| each(id, Ok(length))), entry.list.first()) {
                        (Err(error), Some(&list)) if error.fault == Fault::Damage => each(list, Err(error))?,
                        (done, _) => done?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Which files of these manifests are hit by damage.
    fn explain(&self, Proof { heads, bad, .. }: &Proof) -> Result<Error> {
        let mut hit = Hits::default();
        for head in heads {
            let mut entries = self.entries(head);
            while let Some(entry) = entries.next()? {
                if let Some(why) = hit_by(self, &entry, bad)? {
                    let name = if entry.path.0.is_empty() { String::new() } else { format!("/{}", entry.path) };
                    hit.add(format!("`{}{name}` of `{}` cannot be restored", head.head.place, head.head.resource), why);
                }
            }
        }
        Ok(hit.tell(self, Error::new(format!("the snapshot is damaged: {} of its objects cannot be read", bad.len()))))
    }

    /// Makes the index anew from the archives alone. `tell` gets bytes of archives done and in all, and may say that it is
    /// enough. Returns what was found and what cannot be read.
    pub fn reindex(&self, tell: &dyn Fn(u64, u64) -> Result<()>) -> Result<Reindexed> {
        let rebuilt = self.index.rebuild(tell);
        self.forget_frames();
        let damage = rebuilt?;
        let archives = archive::list(&self.archives())?;
        Ok(Reindexed {
            archives: archives.len() as u64,
            objects: self.index.count()?,
            bytes: archives.iter().map(|(_, bytes)| bytes).sum(),
            damage: damage.iter().map(ToString::to_string).collect(),
        })
    }

    /// How many archives it has.
    pub fn archive_count(&self) -> Result<u64> {
        Ok(archive::list(&self.archives())?.len() as u64)
    }

    /// How many objects it has.
    pub fn object_count(&self) -> Result<u64> {
        self.index.count()
    }

    /// Every manifest that is in the store and was not pruned.
    pub(super) fn manifests(&self) -> Result<Vec<ObjectId>> {
        let dropped = super::dropped::read(&self.dir)?;
        let mut all = self.index.manifests()?;
        all.retain(|id| !dropped.contains(id));
        Ok(all)
    }

    /// Every manifest in the store, oldest first; one that cannot be read is left out ([`Store::verify`] names it).
    pub fn list_manifests(&self) -> Result<Vec<ManifestInfo>> {
        let mut found = Vec::new();
        for id in self.manifests()? {
            if let Ok(StoredHead { head, entries, bytes, .. }) = self.stored_head(id) {
                found.push(ManifestInfo { id, head, entries, bytes });
            }
        }
        found.sort_by(|a, b| (&a.head.at, &a.head.resource).cmp(&(&b.head.at, &b.head.resource)));
        Ok(found)
    }
}
