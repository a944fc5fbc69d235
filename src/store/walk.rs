//! Walking the live tree in the order of manifests.
//!
//! Helpers list directories ahead of the walk, with what is in them and below, a bounded number of entries at once, so
//! that all cores are busy and threads seldom wait for each other. What no helper has begun with when the walk gets
//! there, it lists itself.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::fs::RawDir;
use rustix::io::Errno;

use super::cores;
use super::live::{Anchor, Facts, Place, open_quietly, split};
use super::manifest::Type;
use super::tree::{IsDir, Protect, Why};
use crate::error::{Error, Result};

/// Directories of one level that are listed ahead.
const AHEAD: usize = 4;
/// Entries after which no further directory is listed by the same helper.
const ENOUGH: usize = 1000;

/// Something that is there.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Relative to the resource.
    pub(crate) path: Vec<u8>,
    pub(crate) facts: Facts,
    pub(crate) state: Whose,
}

/// Whether the walk goes on below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It is the resource's.
    Ours,
    /// It is left alone.
    Protected(Why),
    /// Another filesystem is mounted there.
    Mount,
}

/// A walk: depth first, siblings by the bytes of their names, each directory before what is in it.
pub(crate) struct Walk<'a> {
    anchor: &'a Anchor,
    bounds: Arc<Bounds>,
    levels: Vec<Level>,
    helpers: Helpers,
    /// The directory that was given last: the walk goes on in it.
    below: Option<(Vec<u8>, Below)>,
    begun: bool,
}

/// Where a walk ends.
struct Bounds {
    protect: Arc<Protect>,
    /// The root's device and mount.
    place: Option<Place>,
}

impl Bounds {
    fn state(&self, path: &[u8], facts: &Facts) -> Whose {
        let is_dir = if facts.kind == Type::Dir { IsDir::Yes } else { IsDir::No };
        match self.protect.why(path, is_dir) {
            Some(why) => Whose::Protected(why),
            None if !self.place.is_some_and(|place| facts.lies_in(place)) => Whose::Mount,
            None => Whose::Ours,
        }
    }
}

struct Level {
    path: Vec<u8>,
    listing: Listing,
    /// The next one to be given.
    at: usize,
    /// The next one to be listed ahead, and how many are.
    ahead: usize,
    asked: usize,
}

struct Item {
    name: Box<[u8]>,
    facts: rustix::io::Result<Facts>,
    state: Whose,
    below: Option<Below>,
}

impl Item {
    fn is_entered(&self) -> bool {
        self.state == Whose::Ours && matches!(self.facts, Ok(Facts { kind: Type::Dir, .. }))
    }
}

/// What is in a directory.
enum Below {
    Listed(Listed),
    Asked { parent: Arc<OwnedFd>, begun: Arc<AtomicBool>, listing: Receiver<Listed> },
}

/// What is in a directory, sorted by name; and the directory, if some of what is below is not listed yet.
struct Listing {
    dir: Option<Arc<OwnedFd>>,
    items: Vec<Item>,
}

type Listed = rustix::io::Result<Listing>;

struct Job {
    bounds: Arc<Bounds>,
    parent: Arc<OwnedFd>,
    path: Vec<u8>,
    name: Box<[u8]>,
    begun: Arc<AtomicBool>,
    reply: Sender<Listed>,
}

/// The threads that list directories; they end with the walk.
struct Helpers {
    jobs: Sender<Job>,
    todo: Receiver<Job>,
    threads: usize,
}

impl Helpers {
    fn ask(&mut self, bounds: &Arc<Bounds>, parent: &Arc<OwnedFd>, path: Vec<u8>, name: &[u8]) -> Below {
        if self.threads < cores() {
            let todo = self.todo.clone();
            let work = move || {
                for Job { bounds, parent, path, name, begun, reply } in todo {
                    if !begun.swap(true, Ordering::Relaxed) {
                        // The walk may have skipped it.
                        let _ = reply.send(list(&bounds, &parent, &path, &name, &mut 0));
                    }
                }
            };
            if std::thread::Builder::new().name("walk".into()).spawn(work).is_ok() {
                self.threads += 1;
            }
        }
        let (reply, listing) = bounded(1);
        let begun = Arc::new(AtomicBool::new(false));
        let (bounds, parent) = (Arc::clone(bounds), Arc::clone(parent));
        let below = Below::Asked { parent: Arc::clone(&parent), begun: Arc::clone(&begun), listing };
        let job = Job { bounds, parent, path, name: name.into(), begun, reply };
        self.jobs.send(job).expect("the walk holds a receiver itself");
        below
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        // Nobody waits for what is still to be listed.
        while self.todo.try_recv().is_ok() {}
    }
}

/// Lists the directory `name` in `parent`, whose path is `path`, and what is below as long as it is not enough.
fn list(bounds: &Bounds, parent: &OwnedFd, path: &[u8], name: &[u8], entries: &mut usize) -> Listed {
    let dir = Arc::new(open_quietly(parent, name)?);
    let names = names(&dir)?;
    *entries += names.len();
    let mut at = path.to_vec();
    let (mut items, mut complete) = (Vec::with_capacity(names.len()), true);
    for name in names {
        at.truncate(path.len());
        push(&mut at, &name);
        let facts = Facts::of(&dir, &name);
        let state = facts.as_ref().map_or(Whose::Ours, |facts| bounds.state(&at, facts));
        let mut item = Item { name, facts, state, below: None };
        if item.is_entered() {
            if *entries < ENOUGH {
                item.below = Some(Below::Listed(list(bounds, &dir, &at, &item.name, entries)));
            } else {
                complete = false;
            }
        }
        items.push(item);
    }
    Ok(Listing { dir: (!complete).then_some(dir), items })
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

impl<'a> Walk<'a> {
    pub(crate) fn new(anchor: &'a Anchor, protect: &Arc<Protect>) -> Walk<'a> {
        let (jobs, todo) = unbounded();
        let helpers = Helpers { jobs, todo, threads: 0 };
        let bounds = Arc::new(Bounds { protect: Arc::clone(protect), place: None });
        Walk { anchor, bounds, levels: Vec::new(), helpers, below: None, begun: false }
    }

    fn cannot(&self, what: &str, path: &[u8], e: Errno) -> Error {
        Error::new(format!("cannot {what} `{}`", self.anchor.shown(path))).because(e)
    }

    /// The next thing that is there.
    pub(crate) fn next(&mut self) -> Result<Option<Found>> {
        if !self.begun {
            self.begun = true;
            return self.root();
        }
        if let Some((path, below)) = self.below.take() {
            self.descend(path, below)?;
        }
        loop {
            self.look_ahead();
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(item) = level.listing.items.get_mut(level.at) else {
                self.levels.pop();
                continue;
            };
            level.at += 1;
            let (name, below, state) = (std::mem::take(&mut item.name), item.below.take(), item.state);
            let mut path = Vec::with_capacity(level.path.len() + 1 + name.len());
            path.extend_from_slice(&level.path);
            push(&mut path, &name);
            let facts = match item.facts {
                Ok(facts) => facts,
                // It was removed a moment ago.
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(self.cannot("look at", &path, e)),
            };
            if let Some(below) = below {
                level.asked -= usize::from(matches!(below, Below::Asked { .. }));
                self.below = Some((path.clone(), below));
            }
            return Ok(Some(Found { path, facts, state }));
        }
    }

    fn root(&mut self) -> Result<Option<Found>> {
        let facts = match Facts::of(&self.anchor.dir, &self.anchor.name) {
            Ok(facts) => facts,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.cannot("look at", b"", e)),
        };
        let bounds = Bounds { protect: Arc::clone(&self.bounds.protect), place: Some(facts.place) };
        self.bounds = Arc::new(bounds);
        let state = self.bounds.state(b"", &facts);
        if facts.kind == Type::Dir && state == Whose::Ours {
            let dir = rustix::io::fcntl_dupfd_cloexec(&self.anchor.dir, 3);
            let dir = Arc::new(dir.map_err(|e| self.cannot("open", b"", e))?);
            let below = self.helpers.ask(&self.bounds, &dir, Vec::new(), &self.anchor.name);
            self.below = Some((Vec::new(), below));
        }
        Ok(Some(Found { path: Vec::new(), facts, state }))
    }

    /// The walk does not go into the directory that was given last.
    pub(crate) fn skip(&mut self) {
        self.below = None;
    }

    /// Has the next directories listed.
    fn look_ahead(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        let Listing { dir: Some(dir), items } = &mut level.listing else { return };
        while level.asked < AHEAD && level.ahead < items.len() {
            let item = &mut items[level.ahead];
            level.ahead += 1;
            if item.below.is_none() && item.is_entered() {
                let mut path = level.path.clone();
                push(&mut path, &item.name);
                item.below = Some(self.helpers.ask(&self.bounds, dir, path, &item.name));
                level.asked += 1;
            }
        }
    }

    fn descend(&mut self, path: Vec<u8>, below: Below) -> Result<()> {
        let listed = match below {
            Below::Listed(listed) => listed,
            Below::Asked { parent, begun, .. } if !begun.swap(true, Ordering::Relaxed) => {
                let name = if path.is_empty() { &self.anchor.name } else { split(&path).1 };
                list(&self.bounds, &parent, &path, name, &mut 0)
            }
            Below::Asked { listing, .. } => {
                listing.recv().map_err(|_| Error::new("a thread that lists directories died"))?
            }
        };
        match listed {
            Ok(listing) => {
                self.levels.push(Level { path, listing, at: 0, ahead: 0, asked: 0 });
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.cannot("list", &path, e)),
        }
    }
}

/// The names in a directory, sorted.
fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<Box<[u8]>>> {
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut list = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names: Vec<Box<[u8]>> = Vec::new();
    while let Some(entry) = list.next() {
        match entry?.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.into()),
        }
    }
    names.sort_unstable();
    Ok(names)
}
