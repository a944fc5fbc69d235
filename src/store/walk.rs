//! Walking the live tree in the order of manifests.
//!
//! Helpers list directories ahead of the walk and look at what is in them, so that all cores are busy and the walk
//! itself seldom waits. How far they run ahead is bounded, and with it the descriptors and memory they take.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::fs::RawDir;
use rustix::io::Errno;

use super::cores;
use super::live::{Anchor, Facts, Place, open_quietly};
use super::manifest::Type;
use super::tree::{IsDir, Protect, Why};
use crate::error::{Error, Result};

/// Directories of one level that are listed ahead.
const AHEAD: usize = 8;

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
    protect: &'a Protect,
    levels: Vec<Level>,
    helpers: Helpers,
    /// The root's device and mount.
    place: Option<Place>,
    /// The directory that was given last: the walk goes on in it.
    below: Option<Below>,
    begun: bool,
}

/// A directory that the walk goes into, and what a helper says of it.
struct Below {
    path: Vec<u8>,
    listing: Receiver<Listed>,
}

struct Level {
    path: Vec<u8>,
    dir: Arc<OwnedFd>,
    items: Vec<Item>,
    /// The next one to be given.
    at: usize,
    /// The next one to be listed ahead, and how many are.
    ahead: usize,
    listings: usize,
}

struct Item {
    name: Box<[u8]>,
    facts: rustix::io::Result<Facts>,
    state: Whose,
    listing: Option<Receiver<Listed>>,
}

/// A directory and what is in it, sorted by name.
struct Listing {
    dir: Arc<OwnedFd>,
    items: Vec<(Box<[u8]>, rustix::io::Result<Facts>)>,
}

type Listed = rustix::io::Result<Listing>;

struct Job {
    parent: Arc<OwnedFd>,
    name: Box<[u8]>,
    reply: Sender<Listed>,
}

/// The threads that list directories; they end with the walk.
struct Helpers {
    jobs: Sender<Job>,
    todo: Receiver<Job>,
    threads: usize,
}

impl Helpers {
    fn ask(&mut self, parent: &Arc<OwnedFd>, name: &[u8]) -> Receiver<Listed> {
        let (reply, listing) = bounded(1);
        let job = Job { parent: Arc::clone(parent), name: name.into(), reply };
        if self.threads < cores() {
            let todo = self.todo.clone();
            let work = move || {
                for job in todo {
                    // The walk may have skipped it.
                    let _ = job.reply.send(list(&job));
                }
            };
            if std::thread::Builder::new().name("walk".into()).spawn(work).is_ok() {
                self.threads += 1;
            }
        }
        if self.threads == 0 {
            let _ = job.reply.send(list(&job));
        } else {
            self.jobs.send(job).expect("the walk holds a receiver itself");
        }
        listing
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        // Nobody waits for what is still to be listed.
        while self.todo.try_recv().is_ok() {}
    }
}

fn list(job: &Job) -> Listed {
    let dir = Arc::new(open_quietly(&job.parent, &job.name)?);
    let look = |name: Box<[u8]>| {
        let facts = Facts::of(&dir, &name);
        (name, facts)
    };
    let items = names(&dir)?.into_iter().map(look).collect();
    Ok(Listing { dir, items })
}

impl<'a> Walk<'a> {
    pub(crate) fn new(anchor: &'a Anchor, protect: &'a Protect) -> Walk<'a> {
        let (jobs, todo) = unbounded();
        let helpers = Helpers { jobs, todo, threads: 0 };
        Walk { anchor, protect, levels: Vec::new(), helpers, place: None, below: None, begun: false }
    }

    fn cannot(&self, what: &str, path: &[u8], e: Errno) -> Error {
        Error::new(format!("cannot {what} `{}`", self.anchor.shown(path))).because(e)
    }

    /// The next thing that is there.
    pub(crate) fn next(&mut self) -> Result<Option<Found>> {
        if !self.begun {
            self.begun = true;
            let facts = match Facts::of(&self.anchor.dir, &self.anchor.name) {
                Ok(facts) => facts,
                Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(self.cannot("look at", b"", e)),
            };
            self.place = Some(facts.place);
            let state = self.state(b"", &facts);
            if facts.kind == Type::Dir && state == Whose::Ours {
                let dir = rustix::io::fcntl_dupfd_cloexec(&self.anchor.dir, 3);
                let dir = Arc::new(dir.map_err(|e| self.cannot("open", b"", e))?);
                let listing = self.helpers.ask(&dir, &self.anchor.name);
                self.below = Some(Below { path: Vec::new(), listing });
            }
            return Ok(Some(Found { path: Vec::new(), facts, state }));
        }
        if let Some(below) = self.below.take() {
            self.descend(below)?;
        }
        loop {
            self.look_ahead();
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(item) = level.items.get_mut(level.at) else {
                self.levels.pop();
                continue;
            };
            level.at += 1;
            let (name, listing, state) = (std::mem::take(&mut item.name), item.listing.take(), item.state);
            let path = if level.path.is_empty() { name.into_vec() } else { [&level.path, &b"/"[..], &name].concat() };
            let facts = match item.facts {
                Ok(facts) => facts,
                // It was removed a moment ago.
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(self.cannot("look at", &path, e)),
            };
            if let Some(listing) = listing {
                level.listings -= 1;
                self.below = Some(Below { path: path.clone(), listing });
            }
            return Ok(Some(Found { path, facts, state }));
        }
    }

    /// The walk does not go into the directory that was given last.
    pub(crate) fn skip(&mut self) {
        self.below = None;
    }

    fn state(&self, path: &[u8], facts: &Facts) -> Whose {
        let is_dir = if facts.kind == Type::Dir { IsDir::Yes } else { IsDir::No };
        match self.protect.why(path, is_dir) {
            Some(why) => Whose::Protected(why),
            None if !self.place.is_some_and(|place| facts.lies_in(place)) => Whose::Mount,
            None => Whose::Ours,
        }
    }

    /// Has the next directories listed.
    fn look_ahead(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        while level.listings < AHEAD && level.ahead < level.items.len() {
            let item = &mut level.items[level.ahead];
            level.ahead += 1;
            if item.state == Whose::Ours && matches!(item.facts, Ok(Facts { kind: Type::Dir, .. })) {
                item.listing = Some(self.helpers.ask(&level.dir, &item.name));
                level.listings += 1;
            }
        }
    }

    fn descend(&mut self, Below { path, listing }: Below) -> Result<()> {
        let listing = match listing.recv() {
            Ok(Ok(listing)) => listing,
            Ok(Err(Errno::NOENT)) => return Ok(()),
            Ok(Err(e)) => return Err(self.cannot("list", &path, e)),
            Err(_) => return Err(Error::new("a thread that lists directories died")),
        };
        let mut items = Vec::with_capacity(listing.items.len());
        let mut at = path.clone();
        for (name, facts) in listing.items {
            at.truncate(path.len());
            if !path.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(&name);
            let state = facts.as_ref().map_or(Whose::Ours, |facts| self.state(&at, facts));
            items.push(Item { name, facts, state, listing: None });
        }
        self.levels.push(Level { path, dir: listing.dir, items, at: 0, ahead: 0, listings: 0 });
        Ok(())
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
