//! A check of the whole store, or of a sample: every archive against its name, every frame, every object, and then which
//! snapshots and files are hit by what is damaged or missing.
//!
//! Changes nothing, and works on a store that is open for reading only. By all cores; what is damaged is kept in memory, what is
//! right is not.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::archive::{self, ArchiveName, Frame};
use super::manifest::chunks_of;
use super::object::ObjectId;
use super::{Store, cores};
use crate::error::Result;

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
    /// The first of them.
    pub names: Vec<String>,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.hit.is_empty()
    }
}

/// What reading one archive gave.
#[derive(Default)]
struct Looked {
    objects: u64,
    what: Vec<String>,
    bad: Vec<ObjectId>,
}

impl Store {
    /// Re-reads archives and objects, and checks that every manifest's objects are there. `tell` gets bytes of archives done
    /// and in all, and may say that it is enough.
    pub fn verify(&self, sample: Sample, tell: &dyn Fn(u64, u64) -> Result<()>) -> Result<Verified> {
        self.index.look_around()?;
        let all = archive::list(&self.archives())?;
        let numbers: HashMap<ArchiveName, u32> =
            self.index.archives()?.into_iter().map(|(number, name)| (name, number)).collect();
        let mut verified = Verified { of: all.len() as u64, ..Verified::default() };
        for (name, number) in &numbers {
            if all.binary_search_by_key(name, |(name, _)| *name).is_err() {
                let objects = self.index.objects_of(*number)?;
                verified.damage.push(Damaged { archive: *name, what: vec!["it is missing".to_owned()], objects });
            }
        }
        let chosen = choose(all, sample);
        let total = chosen.iter().map(|(_, bytes)| bytes).sum();
        tell(0, total)?;
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (done, looked) = crossbeam_channel::unbounded::<(usize, Result<Looked>)>();
        let mut failure = None;
        std::thread::scope(|scope| {
            for _ in 0..cores().min(chosen.len()) {
                let (done, chosen, next, stop, numbers) = (done.clone(), &chosen, &next, &stop, &numbers);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(&(name, _)) = chosen.get(at) else { break };
                        if done.send((at, self.look_at(name, numbers.get(&name).copied()))).is_err() {
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
                    }
                    tell(verified.bytes, total)
                });
                if let Err(error) = told {
                    stop.store(true, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        verified.damage.sort_by_key(|damaged| damaged.archive);
        let bad: HashSet<ObjectId> =
            verified.damage.iter().flat_map(|damaged| damaged.objects.iter().copied()).collect();
        for id in self.manifests()? {
            verified.manifests += 1;
            verified.hit.extend(self.hit(id, &bad)?);
            tell(verified.bytes, total)?;
        }
        verified.hit.sort_by(|a, b| (&a.tx, &a.resource).cmp(&(&b.tx, &b.resource)));
        Ok(verified)
    }

    fn look_at(&self, name: ArchiveName, number: Option<u32>) -> Result<Looked> {
        let mut looked = Looked::default();
        let mut good: HashSet<ObjectId> = HashSet::new();
        let read = archive::frames(&archive::path_of(&self.archives(), name), &mut |at, _, tar| {
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
                if ObjectId::of(&tar[start..start + slot.length as usize]) == slot.id {
                    good.insert(slot.id);
                    looked.objects += 1;
                } else {
                    looked.what.push(format!("the object `{}` is damaged", slot.id));
                }
            }
            Ok(())
        });
        match read {
            Ok(hash) if hash == name => {}
            Ok(hash) => looked.what.insert(0, format!("its BLAKE3 is `{hash}`")),
            Err(error) => looked.what.push(error.causes.first().cloned().unwrap_or(error.statement)),
        }
        if let (false, Some(number)) = (looked.what.is_empty(), number) {
            looked.bad = self.index.objects_of(number)?;
            looked.bad.retain(|id| !good.contains(id));
        }
        Ok(looked)
    }

    /// What of a manifest cannot be put back.
    fn hit(&self, manifest: ObjectId, bad: &HashSet<ObjectId>) -> Result<Option<Hit>> {
        const NAMES: usize = 100;
        let mut hit = Hit {
            tx: String::new(),
            resource: String::new(),
            place: String::new(),
            manifest,
            lost: None,
            files: 0,
            names: Vec::new(),
        };
        let head = match self.stored_head(manifest) {
            Ok(head) => head,
            Err(error) => return Ok(Some(Hit { lost: Some(error.to_string()), ..hit })),
        };
        (hit.tx, hit.resource, hit.place) = (head.head.tx.clone(), head.head.resource.clone(), head.head.place.clone());
        let mut entries = self.entries(&head);
        loop {
            let entry = match entries.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => return Ok(Some(Hit { lost: Some(error.to_string()), ..hit })),
            };
            let mut missing = false;
            let read = chunks_of(self, &entry, &mut |id, _| {
                missing |= bad.contains(&id) || self.index.find(id)?.is_none();
                Ok(())
            });
            if missing || read.is_err() {
                hit.files += 1;
                if hit.names.len() < NAMES {
                    let whole = entry.path.0.is_empty();
                    hit.names.push(if whole { hit.place.clone() } else { entry.path.to_string() });
                }
            }
        }
        Ok((hit.files > 0).then_some(hit))
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
