//! A check of the whole store, or of a sample: every archive against its name, every frame, every object, the index against
//! the archives; and then which snapshots and files are hit by what is damaged or missing.
//!
//! Changes nothing, and works on a store that is open for reading only. By all cores; of what the archives hold, only what is
//! damaged is kept in memory. Hit is what no archive holds whole any more: a second copy counts, and so does what only the
//! index leads astray from.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::archive::{self, ArchiveName, Frame, Member, Row};
use super::index::{Gone, place_of};
use super::manifest::chunks_of;
use super::object::ObjectId;
use super::{Store, cores};
use crate::error::{Error, Fault, Result};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Every archive.
    All,
    /// Archives that hold about this many percent of all bytes, others each time.
    Percent(u8),
}

/// What a check of the store found.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// Archives read.
    pub archives: u64,
    /// Of how many.
    pub of: u64,
    /// Objects checked.
    pub objects: u64,
    /// Bytes of archives read.
    pub bytes: u64,
    /// Manifests whose objects were looked for.
    pub manifests: u64,
    /// What is damaged or missing.
    pub damage: Vec<Damaged>,
    /// What is wrong with the index: making it anew mends that.
    pub index: Vec<String>,
    /// What cannot be put back because of it.
    pub hit: Vec<Hit>,
}

/// An archive that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its name.
    pub archive: ObjectId,
    /// What is wrong with it.
    pub what: Vec<String>,
    /// The objects that cannot be read for it.
    pub objects: Vec<ObjectId>,
}

/// A captured resource that cannot be put back whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The transaction; empty where even that cannot be read.
    pub tx: String,
    /// The resource; empty where even that cannot be read.
    pub resource: String,
    /// Where it lives.
    pub place: String,
    /// Its manifest.
    pub manifest: ObjectId,
    /// Why none of it can be put back.
    pub lost: Option<String>,
    /// How many files of it cannot be put back.
    pub files: u64,
    /// Which.
    pub names: Vec<String>,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.hit.is_empty() && self.index.is_empty()
    }
}

/// What reading one archive gave.
#[derive(Default)]
struct Looked {
    objects: u64,
    what: Vec<String>,
    bad: Vec<ObjectId>,
    /// Objects that are where the index says, and those of which it says nothing or something wrong.
    found: u64,
    strange: u64,
}

/// What the index says, to be held against the archives.
struct Told {
    numbers: HashMap<ArchiveName, u32>,
    counts: HashMap<u32, u64>,
    heads: HashSet<ObjectId>,
    /// Archives that are not what they were, or not there.
    gone: Vec<Gone>,
}

impl Store {
    /// Re-reads archives and objects, and checks that every manifest's objects are there, and the `wanted` ones. `tell` gets
    /// bytes of archives done and in all, and may say that it is enough.
    pub fn verify(
        &self,
        sample: Sample,
        wanted: &[ObjectId],
        tell: &dyn Fn(u64, u64) -> Result<()>,
    ) -> Result<Verified> {
        // Damage is to be found here, and not to be got around.
        let mended = self.mended.swap(true, Ordering::Relaxed);
        let verified = self.verify_as_it_is(sample, wanted, tell);
        self.mended.store(mended, Ordering::Relaxed);
        verified
    }

    fn verify_as_it_is(
        &self,
        sample: Sample,
        wanted: &[ObjectId],
        tell: &dyn Fn(u64, u64) -> Result<()>,
    ) -> Result<Verified> {
        let mut verified = Verified { index: self.index.astray().into_iter().collect(), ..Verified::default() };
        let told = match self.told() {
            Err(error) if error.fault == Fault::Damage => {
                verified.index.push(error.to_string());
                self.index.read_anew(&error)?;
                self.told()?
            }
            told => told?,
        };
        let all = archive::list(&self.archives())?;
        verified.of = all.len() as u64;
        let is_there = |name: &ArchiveName| all.binary_search_by_key(name, |(name, _)| *name).is_ok();
        for Gone { name, objects } in told.gone.iter().filter(|gone| !is_there(&gone.name)) {
            let what = vec!["it is missing".to_owned()];
            verified.damage.push(Damaged { archive: *name, what, objects: objects.clone() });
        }
        let missing = verified.damage.len();
        self.look(choose(all.clone(), sample), &told, &mut verified, tell)?;
        if !verified.index.is_empty() || verified.damage.len() > missing {
            // What the archives hold decides from here on.
            self.index.read_anew(&Error::new("the store is damaged"))?;
            self.index.hurry()?;
        }
        let mut manifests: HashSet<ObjectId> = self.manifests()?.into_iter().collect();
        let dropped = super::dropped::read(&self.dir)?;
        manifests.extend(told.heads.iter().filter(|id| !dropped.contains(id)));
        let mut lost = HashSet::new();
        for &id in wanted {
            self.miss(id, &mut lost)?;
        }
        for id in manifests {
            verified.manifests += 1;
            verified.hit.extend(self.hit(id, &mut lost)?);
            tell(verified.bytes, verified.bytes)?;
        }
        for damaged in &mut verified.damage {
            damaged.objects.retain(|id| matches!(self.index.find(*id), Ok(None)));
        }
        // An archive that is gone and of which nothing is missed was pruned, and the index is older than that.
        let is_missed =
            |damaged: &Damaged| is_there(&damaged.archive) || damaged.objects.iter().any(|id| lost.contains(id));
        verified.damage.retain(is_missed);
        verified.damage.sort_by_key(|damaged| damaged.archive);
        verified.hit.sort_by(|a, b| (&a.tx, &a.resource).cmp(&(&b.tx, &b.resource)));
        Ok(verified)
    }

    fn told(&self) -> Result<Told> {
        self.index.look_around()?;
        self.index.hurry()?;
        Ok(Told {
            numbers: self.index.archives()?.into_iter().map(|(number, name)| (name, number)).collect(),
            counts: self.index.counts()?,
            heads: self.index.manifests()?.into_iter().collect(),
            gone: self.index.gone()?,
        })
    }

    /// Reads the archives by all cores.
    fn look(
        &self,
        chosen: Vec<(ArchiveName, u64)>,
        told: &Told,
        verified: &mut Verified,
        tell: &dyn Fn(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let total = chosen.iter().map(|(_, bytes)| bytes).sum();
        tell(0, total)?;
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (done, looked) = crossbeam_channel::unbounded::<(usize, Result<Looked>)>();
        let mut failure = None;
        std::thread::scope(|scope| {
            for _ in 0..cores().min(chosen.len()) {
                let (done, chosen, next, stop) = (done.clone(), &chosen, &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(&(name, _)) = chosen.get(at) else { break };
                        if done.send((at, self.look_at(name, told))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(done);
            for (at, looked) in looked {
                let (name, bytes) = chosen[at];
                let told = looked.and_then(|looked| {
                    verified.archives += 1;
                    verified.bytes += bytes;
                    verified.objects += looked.objects;
                    if !looked.what.is_empty() {
                        verified.damage.push(Damaged { archive: name, what: looked.what, objects: looked.bad });
                    } else if let Some(wrong) = told.wrong(name, &looked) {
                        verified.index.push(wrong);
                    }
                    tell(verified.bytes, total)
                });
                if let Err(error) = told {
                    stop.store(true, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
            }
        });
        verified.index.sort();
        failure.map_or(Ok(()), Err)
    }

    fn look_at(&self, name: ArchiveName, told: &Told) -> Result<Looked> {
        let mut looked = Looked::default();
        let mut good: HashSet<ObjectId> = HashSet::new();
        let number = told.numbers.get(&name).copied();
        let read = archive::frames(&archive::path_of(&self.archives(), name), &mut |at, packed, tar| {
            let slots = tar.and_then(|tar| {
                let slots = Frame::read(&tar).map_err(|e| e.to_string())?;
                Ok((slots, tar))
            });
            let (slots, tar) = match slots {
                Ok(slots) => slots,
                Err(why) => {
                    looked.what.push(format!("the frame at byte {at} cannot be read: {why}"));
                    return Ok(());
                }
            };
            for slot in slots {
                let start = slot.start as usize;
                if ObjectId::of(&tar[start..start + slot.length as usize]) != slot.id {
                    looked.what.push(format!("the object `{}` is damaged", slot.id));
                    continue;
                }
                good.insert(slot.id);
                looked.objects += 1;
                let here = |archive| place_of(&Row { slot, frame: at, packed }, archive);
                match self.index.find(slot.id).unwrap_or(None) {
                    Some(place) if Some(place) == number.map(here) => looked.found += 1,
                    // There may be two of it; what the index says of the other is seen there.
                    Some(_) => {}
                    None => looked.strange += 1,
                }
                if told.heads.contains(&slot.id) != (slot.member == Member::Manifest) {
                    looked.strange += 1;
                }
            }
            Ok(())
        });
        match read {
            Ok(hash) if hash == name => {}
            Ok(hash) => looked.what.insert(0, format!("its BLAKE3 is `{hash}`")),
            Err(error) => looked.what.push(error.causes.first().cloned().unwrap_or(error.statement)),
        }
        if !looked.what.is_empty() {
            looked.bad = match (told.gone.iter().find(|gone| gone.name == name), number) {
                (Some(gone), _) => gone.objects.clone(),
                (None, Some(number)) => self.index.objects_of(number).unwrap_or_default(),
                (None, None) => Vec::new(),
            };
            looked.bad.retain(|id| !good.contains(id));
        }
        Ok(looked)
    }

    /// Notes an object that no archive holds.
    fn miss(&self, id: ObjectId, lost: &mut HashSet<ObjectId>) -> Result<bool> {
        let missing = self.index.find(id)?.is_none();
        if missing {
            lost.insert(id);
        }
        Ok(missing)
    }

    /// What of a manifest cannot be put back.
    fn hit(&self, manifest: ObjectId, lost: &mut HashSet<ObjectId>) -> Result<Option<Hit>> {
        let mut hit = Hit {
            tx: String::new(),
            resource: String::new(),
            place: String::new(),
            manifest,
            lost: None,
            files: 0,
            names: Vec::new(),
        };
        self.miss(manifest, lost)?;
        let head = match self.stored_head(manifest) {
            Ok(head) => head,
            Err(error) => return Ok(Some(Hit { lost: Some(error.to_string()), ..hit })),
        };
        for &chunk in &head.chunks {
            self.miss(chunk, lost)?;
        }
        (hit.tx, hit.resource, hit.place) = (head.head.tx.clone(), head.head.resource.clone(), head.head.place.clone());
        let mut entries = self.entries(&head);
        loop {
            let entry = match entries.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => return Ok(Some(Hit { lost: Some(error.to_string()), ..hit })),
            };
            let mut missing = false;
            for &list in &entry.list {
                missing |= self.miss(list, lost)?;
            }
            let read = chunks_of(self, &entry, &mut |id, _| {
                missing |= self.miss(id, lost)?;
                Ok(())
            });
            if missing || read.is_err() {
                hit.files += 1;
                let whole = entry.path.0.is_empty();
                hit.names.push(if whole { hit.place.clone() } else { entry.path.to_string() });
            }
        }
        Ok((hit.files > 0).then_some(hit))
    }
}

impl Told {
    /// What is wrong with what the index says of an archive that is whole.
    fn wrong(&self, name: ArchiveName, looked: &Looked) -> Option<String> {
        let number = self.numbers.get(&name)?;
        let led_astray = self.counts.get(number).copied().unwrap_or(0).saturating_sub(looked.found);
        let all = led_astray.max(looked.strange);
        (all > 0).then(|| format!("what the index says of {all} objects of the archive `{name}` is wrong"))
    }
}

/// The archives to read.
fn choose(mut all: Vec<(ArchiveName, u64)>, sample: Sample) -> Vec<(ArchiveName, u64)> {
    let Sample::Percent(percent) = sample else { return all };
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let key = |name: &ArchiveName| *blake3::hash(&[&seed.to_le_bytes()[..], name.as_bytes()].concat()).as_bytes();
    all.sort_by_cached_key(|(name, _)| key(name));
    let total: u64 = all.iter().map(|(_, bytes)| bytes).sum();
    let wanted = (u128::from(total) * u128::from(percent)).div_ceil(100);
    let mut taken = 0;
    all.into_iter()
        .take_while(|(_, bytes)| {
            let more = taken < wanted;
            taken += u128::from(*bytes);
            more
        })
        .collect()
}
