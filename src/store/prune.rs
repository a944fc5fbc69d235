//! Prune: what nothing needs any more leaves the store.
//!
//! Relies on being alone in the store. Promises: an object that something kept needs is in an archive under its name at
//! every instant; a store that is damaged where something kept is concerned is left as it is; wherever it dies, what
//! is left is a whole store, and the next prune finishes the work.
//!
//! The order is: mark what is needed; note durably which manifests are dropped; remove the archives that hold nothing
//! needed; write what is needed of those that are mostly dead into new archives, durably, and remove the old ones.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::archive::{self, ARCHIVE_BYTES, ArchiveName, ArchiveWriter, FRAME_BYTES, Frame, Member, Sealed, Squeezer};
use super::index::Place;
use super::manifest::chunks_of;
use super::object::ObjectId;
use super::pack::Class;
use super::{ManifestInfo, Store, dropped};
use crate::error::{Error, Fault, OrSay, Result};

/// What has to stay.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Manifests, with everything that they need.
    pub manifests: Vec<ObjectId>,
    /// Single objects: the texts of plans.
    pub objects: Vec<ObjectId>,
    /// Manifests that are not to stay, whether the store still knows them or not.
    pub not: Vec<ObjectId>,
}

/// Whether a prune is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruning {
    /// It only says what it would do.
    DryRun,
    /// It is.
    Done,
}

/// What a prune did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// The manifests that were dropped.
    pub manifests: Vec<ManifestInfo>,
    /// How many manifests are kept.
    pub kept: u64,
    /// Archives that were removed because nothing in them is needed.
    pub removed: u64,
    /// Archives of which only what is needed was kept.
    pub rewritten: u64,
    /// Bytes of all archives before.
    pub before: u64,
    /// Bytes of all archives after; of a dry run about.
    pub after: u64,
    /// Archives that should be rewritten and are damaged; they were left as they are.
    pub damaged: Vec<String>,
}

/// What is needed, and in which kind of frame it belongs.
type Needed = HashMap<ObjectId, Class>;

/// How much of an archive is needed.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    live: u64,
    dead: u64,
}

impl Store {
    /// Drops what `keep` does not need. The caller holds the store alone. `tell` gets bytes of archives done and in all, and
    /// may say that it is enough: what was done by then stays done.
    pub fn prune(&self, keep: &Keep, pruning: Pruning, tell: &dyn Fn(u64, u64) -> Result<()>) -> Result<Pruned> {
        let needed = self.needed(keep)?;
        let mut pruned = Pruned { before: self.size()?, ..Pruned::default() };
        for info in self.list_manifests()? {
            if needed.contains_key(&info.id) {
                pruned.kept += 1;
            } else {
                pruned.manifests.push(info);
            }
        }
        let (dead, poor) = self.sort_out(&needed)?;
        pruned.removed = dead.len() as u64;
        pruned.rewritten = poor.len() as u64;
        if pruning == Pruning::DryRun {
            let freed = |found: &[Found]| found.iter().map(Found::freed).sum::<u64>();
            pruned.after = pruned.before.saturating_sub(freed(&dead) + freed(&poor));
            return Ok(pruned);
        }
        // Those that cannot be read are dropped as well.
        let already = dropped::read(&self.dir)?;
        let mut gone = self.index.manifests()?;
        gone.extend(&keep.not);
        gone.retain(|id| !needed.contains_key(id) && !already.contains(id));
        if !gone.is_empty() {
            dropped::add(&self.dir, self.tmp()?, &gone)?;
        }
        let total = dead.iter().chain(&poor).map(|found| found.bytes).sum();
        let mut done = 0;
        tell(done, total)?;
        // The index first: an archive that a death leaves behind then is a stranger, not a missing one.
        let numbers: Vec<u32> = dead.iter().map(|found| found.number).collect();
        self.replace(&numbers, None)?;
        for found in &dead {
            self.remove_archive(found.name)?;
            done += found.bytes;
            tell(done, total)?;
        }
        let mut rewriting = Rewriting::new(self, &needed)?;
        for found in &poor {
            if let Err(error) = rewriting.take(found) {
                if error.fault != Fault::Damage {
                    return Err(error);
                }
                pruned.rewritten -= 1;
                pruned.damaged.push(error.to_string());
            }
            done += found.bytes;
            tell(done, total)?;
        }
        rewriting.seal()?;
        pruned.after = self.size()?;
        Ok(pruned)
    }

    fn tmp(&self) -> Result<&std::path::Path> {
        self.tmp.as_deref().ok_or_else(|| Error::new("the store is open for reading only"))
    }

    /// Everything that `keep` needs. Anything of it that cannot be read or is not there is an error: then nobody knows
    /// what else is needed.
    fn needed(&self, keep: &Keep) -> Result<Needed> {
        let mut needed = Needed::new();
        let cannot = |error: Error| {
            error
                .within("nothing was pruned: what has to be kept is damaged")
                .hint("`txupgrade store verify` lists all damage")
                .fault(Fault::Damage)
        };
        for &id in &keep.objects {
            needed.insert(id, Class::Meta);
        }
        for &manifest in &keep.manifests {
            self.mark(manifest, &mut needed).map_err(cannot)?;
        }
        Ok(needed)
    }

    fn mark(&self, manifest: ObjectId, needed: &mut Needed) -> Result<()> {
        if needed.contains_key(&manifest) {
            return Ok(());
        }
        let head = self.stored_head(manifest)?;
        let there = |id: ObjectId| self.place(id).map(|_| ());
        needed.insert(manifest, Class::Meta);
        for &chunk in &head.chunks {
            there(chunk)?;
            needed.insert(chunk, Class::Meta);
        }
        let mut entries = self.entries(&head);
        while let Some(entry) = entries.next()? {
            for &list in &entry.list {
                needed.insert(list, Class::Meta);
            }
            chunks_of(self, &entry, &mut |id, _| {
                if let Entry::Vacant(vacant) = needed.entry(id) {
                    there(id)?;
                    vacant.insert(Class::Content);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The archives with nothing needed in them, and those that are mostly dead.
    fn sort_out(&self, needed: &Needed) -> Result<(Vec<Found>, Vec<Found>)> {
        // A member costs a header, too.
        const HEADER: u64 = 512;
        let mut tallies: HashMap<u32, Tally> = HashMap::new();
        self.index.each_object(&mut |id, place| {
            let tally = tallies.entry(place.archive).or_default();
            let bytes = u64::from(place.length) + HEADER;
            if needed.contains_key(&id) { tally.live += bytes } else { tally.dead += bytes }
        })?;
        let sizes: HashMap<ArchiveName, u64> = archive::list(&self.archives())?.into_iter().collect();
        let (mut dead, mut poor) = (Vec::new(), Vec::new());
        for (number, name) in self.index.archives()? {
            let Some(&bytes) = sizes.get(&name) else { continue };
            let tally = tallies.get(&number).copied().unwrap_or_default();
            let found = Found { number, name, bytes, tally };
            if tally.live == 0 {
                dead.push(found);
            } else if tally.dead > tally.live {
                poor.push(found);
            }
        }
        Ok((dead, poor))
    }

    fn remove_archive(&self, name: ArchiveName) -> Result<()> {
        let path = archive::path_of(&self.archives(), name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).or_say(|| format!("cannot remove the archive `{}`", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn replace(&self, old: &[u32], sealed: Option<&Sealed>) -> Result<()> {
        self.index.replace(old, sealed)?;
        self.forget_frames();
        Ok(())
    }

    /// Frames are known by the numbers of their archives, which may now be those of others.
    pub(super) fn forget_frames(&self) {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

/// An archive that is to go.
#[derive(Debug, Clone, Copy)]
struct Found {
    number: u32,
    name: ArchiveName,
    bytes: u64,
    tally: Tally,
}

impl Found {
    /// About how many bytes its going frees.
    fn freed(&self) -> u64 {
        let all = self.tally.live + self.tally.dead;
        if self.tally.live == 0 || all == 0 {
            return self.bytes;
        }
        u64::try_from(u128::from(self.bytes) * u128::from(self.tally.dead) / u128::from(all)).unwrap_or(self.bytes)
    }
}

/// Writes what is needed of archives into new ones.
struct Rewriting<'a> {
    store: &'a Store,
    needed: &'a Needed,
    squeezer: Squeezer,
    output: Option<ArchiveWriter>,
    /// Frames that gather what is needed of frames that are not needed whole.
    content: Frame,
    meta: Frame,
    /// What the output has already.
    written: HashSet<ObjectId>,
    /// Archives of which everything needed is in the output.
    sources: Vec<Found>,
}

impl<'a> Rewriting<'a> {
    fn new(store: &'a Store, needed: &'a Needed) -> Result<Rewriting<'a>> {
        Ok(Rewriting {
            store,
            needed,
            squeezer: Squeezer::new()?,
            output: None,
            content: Frame::default(),
            meta: Frame::default(),
            written: HashSet::new(),
            sources: Vec::new(),
        })
    }

    /// Copies what is needed of an archive. It is removed once the output is sealed, which is seen to when that is
    /// large enough. An error of `Fault::Damage` leaves the archive as it is.
    fn take(&mut self, source: &Found) -> Result<()> {
        let path = archive::path_of(&self.store.archives(), source.name);
        let file = File::open(&path).or_say(|| format!("cannot open the archive `{}`", path.display()))?;
        let damaged = |at: u64, why: &str| {
            Error::new(format!("the archive `{}` is damaged and was left as it is", source.name))
                .because(format!("frame at byte {at}: {why}"))
                .fault(Fault::Damage)
        };
        archive::frames(&path, &mut |at, packed, tar| {
            let tar = match tar {
                Ok(tar) => tar,
                Err(why) => return Err(damaged(at, &why)),
            };
            let slots = Frame::read(&tar)?;
            let mut wanted = Vec::new();
            for slot in &slots {
                if self.needed.contains_key(&slot.id) && self.is_here(slot.id, source.number, at)? {
                    let start = slot.start as usize;
                    let bytes = &tar[start..start + slot.length as usize];
                    if ObjectId::of(bytes) != slot.id {
                        return Err(damaged(at, &format!("the object `{}` is damaged", slot.id)));
                    }
                    wanted.push((*slot, bytes));
                }
            }
            wanted.retain(|(slot, _)| self.written.insert(slot.id));
            if !slots.is_empty() && wanted.len() == slots.len() {
                let mut bytes = vec![0; packed as usize];
                file.read_exact_at(&mut bytes, at).or_say(|| format!("cannot read `{}`", path.display()))?;
                return self.output()?.write(&slots, &bytes);
            }
            for (slot, bytes) in wanted {
                self.gather(slot.id, slot.member, bytes)?;
            }
            Ok(())
        })?;
        self.sources.push(*source);
        if self.output.as_ref().is_some_and(|output| output.bytes() >= ARCHIVE_BYTES) {
            self.seal()?;
        }
        Ok(())
    }

    /// Whether it is this copy of an object that the index points to.
    fn is_here(&self, id: ObjectId, archive: u32, frame: u64) -> Result<bool> {
        Ok(self.store.index.find(id)?.is_some_and(|place: Place| place.archive == archive && place.frame == frame))
    }

    fn output(&mut self) -> Result<&mut ArchiveWriter> {
        match &mut self.output {
            Some(output) => Ok(output),
            none => Ok(none.insert(ArchiveWriter::create(self.store.tmp()?)?)),
        }
    }

    fn gather(&mut self, id: ObjectId, member: Member, bytes: &[u8]) -> Result<()> {
        let class = self.needed.get(&id).copied().unwrap_or(Class::Content);
        let frame = match class {
            Class::Content => &mut self.content,
            Class::Meta => &mut self.meta,
        };
        frame.add(id, member, bytes)?;
        if frame.tar.len() < FRAME_BYTES {
            return Ok(());
        }
        let frame = std::mem::take(frame);
        self.write(&frame)
    }

    fn write(&mut self, frame: &Frame) -> Result<()> {
        if frame.slots.is_empty() {
            return Ok(());
        }
        let packed = self.squeezer.squeeze(&frame.tar)?.to_vec();
        self.output()?.write(&frame.slots, &packed)
    }

    /// Makes the output durable and lets it take the place of its sources.
    fn seal(&mut self) -> Result<()> {
        for frame in [std::mem::take(&mut self.content), std::mem::take(&mut self.meta)] {
            self.write(&frame)?;
        }
        self.written.clear();
        let Some(output) = self.output.take() else { return Ok(()) };
        let sealed = output.seal(&self.store.archives(), &mut self.squeezer)?;
        let sources = std::mem::take(&mut self.sources);
        let numbers: Vec<u32> = sources.iter().map(|source| source.number).collect();
        self.store.replace(&numbers, Some(&sealed))?;
        for source in sources.iter().filter(|source| source.name != sealed.name) {
            self.store.remove_archive(source.name)?;
        }
        Ok(())
    }
}
