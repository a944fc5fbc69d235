//! Staging: everything that a restore puts in place is first built, complete with content and metadata, beside the
//! resource. Every object it needs is thereby read and checked before the first change; a file whose objects are not all
//! whole is not built, and named.
//!
//! A directory that is missing is built as a whole, with all that is in it; it is put in place by one rename.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Store;
use super::built::Built;
use super::compare::Fix;
use super::fetch::{Held, OnBad, Want, fetch, fetch_rest};
use super::live::{Anchor, Facts, beneath, create, split};
use super::manifest::{Entry, Type};
use super::meta;
use super::object::{Bytes, ObjectId};
use super::part::is_inside;
use super::patch::{self, Piece};
use super::side::Side;
use super::verify::hit_by;
use crate::error::{Error, Fault, OrSay, Result};

/// What could not be built, and why.
pub(crate) type Lost = BTreeMap<Vec<u8>, String>;

/// What was built: for each `Fix::Build` that stands alone, where it is in the side directory.
pub(crate) struct Staged {
    pub(crate) slots: HashMap<Vec<u8>, Vec<u8>>,
    /// What cannot be built, by path, and why.
    pub(crate) lost: Lost,
    /// The files that are complete.
    pub(crate) built: Built,
}

struct Stage<'a> {
    store: &'a Store,
    anchor: &'a Anchor,
    side: &'a Side,
    /// The directories being built that the entry at hand is in: their paths and where they are built.
    open: Vec<(Vec<u8>, Vec<u8>)>,
    slots: HashMap<Vec<u8>, Vec<u8>>,
    /// Where files with several names are built.
    firsts: HashMap<Vec<u8>, Vec<u8>>,
    wants: Vec<Want<(u32, u64)>>,
    /// Where the files are built that `wants` names.
    files: Vec<BuiltFile<'a>>,
    parent: Option<(Vec<u8>, OwnedFd)>,
}

/// How many things are built in one directory: threads that create files in the same one only wait for each other.
const GROUP: usize = 64;

/// A file that gets content.
struct BuiltFile<'a> {
    entry: &'a Entry,
    place: Vec<u8>,
}

/// Creates a file below `dir`; `near` is the directory that the last one was created in.
fn create_near(dir: &OwnedFd, place: &[u8], near: &mut Option<(Vec<u8>, OwnedFd)>) -> rustix::io::Result<OwnedFd> {
    let (parent, name) = split(place);
    if parent.is_empty() {
        return create(dir, name);
    }
    if near.as_ref().is_none_or(|(path, _)| path != parent) {
        *near = Some((parent.to_vec(), beneath(dir, parent, OFlags::PATH | OFlags::DIRECTORY)?));
    }
    match near {
        Some((_, fd)) => create(fd, name),
        None => create(dir, place),
    }
}

/// Whether it gets its metadata with its content: then it consists of one object.
fn is_complete(entry: &Entry) -> bool {
    entry.object.is_some() && entry.extents.is_none() && !entry.mount
}

/// Writes a part of a sparse file's data, which begins `from` bytes into all of it.
fn write_data(file: &File, extents: &[(u64, u64)], mut bytes: &[u8], mut from: u64) -> std::io::Result<()> {
    for &(offset, length) in extents {
        if from >= length {
            from -= length;
            continue;
        }
        let room = usize::try_from(length - from).unwrap_or(usize::MAX);
        let (now, later) = bytes.split_at(bytes.len().min(room));
        file.write_all_at(now, offset + from)?;
        (bytes, from) = (later, 0);
        if bytes.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Adds the objects that file number `file` needs from the store. What it can have from the live file it gets at once,
/// if there is one to write `to`.
fn wants_of(
    (store, anchor): (&Store, &Anchor),
    entry: &Entry,
    (file, to): (u32, Option<&File>),
    wants: &mut Vec<Want<(u32, u64)>>,
    bad: &mut HashMap<ObjectId, Error>,
) -> Result<()> {
    let pieces = match patch::missing(store, anchor, entry, to) {
        // It is lost; the others are not.
        Err(error) if error.fault == Fault::Damage => return Ok(()),
        pieces => pieces?,
    };
    for Piece { id, offset, length } in pieces {
        match store.index.find(id)? {
            None => drop(bad.insert(id, Error::new(format!("the object `{id}` is not in the store")))),
            Some(found) if found.length != length => {
                bad.insert(id, Error::new(format!("the object `{id}` has another length")));
            }
            Some(found) => wants.push(Want { place: found, id, what_for: (file, offset) }),
        }
    }
    Ok(())
}

fn builds(fixes: &[Fix]) -> impl Iterator<Item = &Entry> {
    fixes.iter().filter_map(|fix| if let Fix::Build(entry) = fix { Some(&**entry) } else { None })
}

/// Bytes of objects that are held for the restore, so that they need not be read again.
const HELD_BYTES: usize = 48 << 20;
/// Where a restore needs more than this, holding so few of them would not pay.
const WORTH_HOLDING: u64 = 4 * HELD_BYTES as u64;

/// Reads and checks every object that building needs, and builds nothing. Returns bytes read and some of the objects;
/// `None` when something cannot be built.
pub(crate) fn rehearse(
    store: &Store,
    anchor: &Anchor,
    fixes: &[Fix],
    tell: &dyn Fn(u64, u64),
) -> Result<Option<(u64, Held)>> {
    let (mut wants, mut bad) = (Vec::new(), HashMap::new());
    for entry in builds(fixes).filter(|entry| entry.link.is_none() && !entry.mount) {
        wants_of((store, anchor), entry, (0, None), &mut wants, &mut bad)?;
    }
    let total: u64 = wants.iter().map(|want| u64::from(want.place.length)).sum();
    let room = if total <= WORTH_HOLDING { HELD_BYTES } else { 0 };
    let held = Mutex::new((0, Held::new()));
    let fetched = fetch(store, wants, OnBad::GoOn, tell, &|want, bytes| {
        let (size, held) = &mut *held.lock().unwrap_or_else(PoisonError::into_inner);
        if *size + bytes.len() <= room {
            *size += bytes.len();
            held.insert(want.id, bytes.into());
        }
        Ok(())
    })?;
    bad.extend(fetched.bad);
    let sound = lost(store, builds(fixes), &bad)?.is_empty();
    Ok(sound.then(|| (fetched.bytes, held.into_inner().unwrap_or_else(PoisonError::into_inner).1)))
}

/// Builds all that can be built. Nothing in the resource changes.
pub(crate) fn stage<'a>(
    store: &'a Store,
    anchor: &'a Anchor,
    side: &'a Side,
    (fixes, held): (&'a [Fix], &Held),
    tell: &dyn Fn(u64, u64),
) -> Result<Staged> {
    let mut stage = Stage {
        store,
        anchor,
        side,
        open: Vec::new(),
        slots: HashMap::new(),
        firsts: HashMap::new(),
        wants: Vec::new(),
        files: Vec::new(),
        parent: None,
    };
    let mut bad = HashMap::new();
    for entry in builds(fixes) {
        let place = stage.place(entry)?;
        stage.begin(entry, &place, &mut bad)?;
    }
    let built = stage.fill(held, &mut bad, tell)?;
    let lost = lost(store, builds(fixes), &bad)?;
    stage.open.clear();
    stage.parent = None;
    let mut dirs: Vec<(&Entry, Vec<u8>)> = Vec::new();
    for entry in builds(fixes) {
        let place = stage.place(entry)?;
        if lost.contains_key(&entry.path.0) {
            stage.drop(entry, &place)?;
            continue;
        }
        while let Some((dir, at)) = dirs.pop_if(|(dir, _)| !is_inside(&entry.path.0, &dir.path.0)) {
            stage.complete(dir, &at)?;
        }
        if entry.kind == Type::Dir {
            dirs.push((entry, place));
        } else {
            stage.link(entry, &place)?;
            if entry.link.is_none() && !is_complete(entry) {
                stage.complete(entry, &place)?;
            }
        }
    }
    while let Some((dir, at)) = dirs.pop() {
        stage.complete(dir, &at)?;
    }
    Ok(Staged { slots: stage.slots, lost, built })
}

impl<'a> Stage<'a> {
    /// Where an entry is built.
    fn place(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        let path = &entry.path.0;
        while self.open.pop_if(|(dir, _)| !is_inside(path, dir)).is_some() {}
        let place = match self.open.last() {
            Some((_, dir)) => [dir, &b"/"[..], split(path).1].concat(),
            None => match self.slots.get(path) {
                Some(slot) => slot.clone(),
                None => self.slot(entry)?,
            },
        };
        if entry.kind == Type::Dir {
            self.open.push((path.clone(), place.clone()));
        } else if entry.nlink > 1 && entry.link.is_none() {
            self.firsts.insert(path.clone(), place.clone());
        }
        Ok(place)
    }

    /// A name in the side directory for what stands alone.
    fn slot(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        let number = self.slots.len();
        let group = (number / GROUP + 1).to_string();
        if number.is_multiple_of(GROUP) {
            rustix::fs::mkdirat(&self.side.dir, &group, Mode::RWXU).or_say(|| self.cannot(entry))?;
        }
        let slot = format!("{group}/{}", number % GROUP + 1).into_bytes();
        self.slots.insert(entry.path.0.clone(), slot.clone());
        Ok(slot)
    }

    /// The directory that `place` is in.
    fn parent<'p>(&mut self, place: &'p [u8]) -> rustix::io::Result<(&OwnedFd, &'p [u8])> {
        let (dir, name) = split(place);
        if dir.is_empty() {
            return Ok((&self.side.dir, name));
        }
        if self.parent.as_ref().is_none_or(|(path, _)| path != dir) {
            let fd = beneath(&self.side.dir, dir, OFlags::PATH | OFlags::DIRECTORY)?;
            self.parent = Some((dir.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("it was set just now");
        Ok((fd, name))
    }

    fn cannot(&self, entry: &Entry) -> String {
        format!("cannot build `{}` in `{}`", self.anchor.shown(&entry.path.0), self.side.path.display())
    }

    /// Makes everything but content, links and metadata.
    fn begin(&mut self, entry: &'a Entry, place: &[u8], bad: &mut HashMap<ObjectId, Error>) -> Result<()> {
        let cannot = self.cannot(entry);
        let cannot = || cannot;
        if entry.link.is_some() {
            return Ok(());
        }
        let (dir, name) = self.parent(place).or_say(cannot.clone())?;
        let device = |(major, minor): (u32, u32)| rustix::fs::makedev(major, minor);
        let node = |kind| rustix::fs::mknodat(dir, name, kind, Mode::RUSR, entry.device.map_or(0, device));
        match entry.kind {
            Type::Dir => rustix::fs::mkdirat(dir, name, Mode::RWXU).or_say(cannot),
            Type::Symlink => {
                let target = entry.target.as_ref().or_say(|| "a symlink without a target in the manifest")?;
                rustix::fs::symlinkat(&target.0, dir, name).or_say(cannot)
            }
            Type::Fifo => node(FileType::Fifo).or_say(cannot),
            Type::Block => node(FileType::BlockDevice).or_say(cannot),
            Type::Char => node(FileType::CharacterDevice).or_say(cannot),
            Type::Socket | Type::Stream => Ok(()),
            Type::File => {
                // A small file is created when its content is there.
                let mut file = None;
                if entry.object.is_none() || entry.extents.is_some() {
                    let made = File::from(create(dir, name).or_say(cannot.clone())?);
                    // One of pieces is as long as they are together.
                    if entry.list.is_empty() || entry.extents.is_some() {
                        made.set_len(entry.size).or_say(cannot.clone())?;
                    }
                    file = Some(made);
                }
                if entry.mount {
                    return Ok(());
                }
                self.want(entry, place, file.as_ref(), bad).map_err(|e| e.within(cannot()))
            }
        }
    }

    /// Notes which objects a file needs, and where they go.
    fn want(
        &mut self,
        entry: &'a Entry,
        place: &[u8],
        made: Option<&File>,
        bad: &mut HashMap<ObjectId, Error>,
    ) -> Result<()> {
        if entry.stored_bytes() == 0 {
            return Ok(());
        }
        let file = u32::try_from(self.files.len()).or_say(|| "too many files")?;
        self.files.push(BuiltFile { entry, place: place.to_vec() });
        wants_of((self.store, self.anchor), entry, (file, made), &mut self.wants, bad)
    }

    /// Reads, checks and writes the content.
    fn fill(&mut self, held: &Held, bad: &mut HashMap<ObjectId, Error>, tell: &dyn Fn(u64, u64)) -> Result<Built> {
        let wants = std::mem::take(&mut self.wants);
        let (side, files) = (self.side, &self.files);
        let built = Mutex::new(Built::default());
        let write = |near: &mut Option<(Vec<u8>, OwnedFd)>, want: &Want<(u32, u64)>, bytes: &[u8]| {
            let (file, offset) = want.what_for;
            let BuiltFile { place, entry } = &files[file as usize];
            let mut write = || -> std::io::Result<()> {
                let file = File::from(create_near(&side.dir, place, near)?);
                match &entry.extents {
                    None => file.write_all_at(bytes, offset)?,
                    Some(extents) => write_data(&file, extents, bytes, offset)?,
                }
                if is_complete(entry) {
                    meta::apply_to_new(&file, entry)?;
                    let facts = Facts::of(&file, b"")?;
                    built.lock().unwrap_or_else(PoisonError::into_inner).add(entry, &facts);
                }
                Ok(())
            };
            write().or_say(|| format!("cannot write `{}`", side.path.join(Bytes(place.clone()).to_string()).display()))
        };
        let fetched = fetch_rest(self.store, wants, held, OnBad::GoOn, tell, &write)?;
        bad.extend(fetched.bad);
        Ok(built.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes away what was built of a file that cannot be built.
    fn drop(&mut self, entry: &Entry, place: &[u8]) -> Result<()> {
        let cannot = self.cannot(entry);
        self.slots.remove(&entry.path.0);
        let (dir, name) = self.parent(place).or_say(|| cannot.clone())?;
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(cause).or_say(|| cannot),
        }
    }

    /// Makes a further name of a file.
    fn link(&mut self, entry: &Entry, place: &[u8]) -> Result<()> {
        let Some(first) = &entry.link else { return Ok(()) };
        let cannot = self.cannot(entry);
        let cannot = || cannot;
        let (from, from_name) = match self.firsts.get(&first.0) {
            Some(built) => {
                let (dir, name) = split(built);
                let fd = match dir {
                    b"" => rustix::io::fcntl_dupfd_cloexec(&self.side.dir, 3),
                    dir => beneath(&self.side.dir, dir, OFlags::PATH | OFlags::DIRECTORY),
                };
                (fd.or_say(cannot.clone())?, name.to_vec())
            }
            None => {
                let (dir, name) = self.anchor.open_parent(&first.0).or_say(cannot.clone())?;
                (dir, name.to_vec())
            }
        };
        let (dir, name) = self.parent(place).or_say(cannot.clone())?;
        rustix::fs::linkat(from, &from_name, dir, name, AtFlags::empty()).or_say(cannot)
    }

    /// Sets the metadata.
    fn complete(&mut self, entry: &Entry, place: &[u8]) -> Result<()> {
        let cannot = self.cannot(entry);
        let done = beneath(&self.side.dir, place, OFlags::PATH).and_then(|fd| meta::apply(&fd, entry));
        done.or_say(|| cannot)
    }
}

/// What cannot be built: what needs a bad object, and further names of that.
fn lost<'e>(store: &Store, builds: impl Iterator<Item = &'e Entry>, bad: &HashMap<ObjectId, Error>) -> Result<Lost> {
    let mut lost = Lost::new();
    for entry in builds {
        let why = match &entry.link {
            Some(first) => lost.get(&first.0).cloned(),
            None => hit_by(store, entry, bad)?,
        };
        if let Some(why) = why {
            lost.insert(entry.path.0.clone(), why);
        }
    }
    Ok(lost)
}
