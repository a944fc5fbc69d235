//! Walking the live tree in the order of manifests.

use std::os::fd::OwnedFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

use super::live::{Anchor, Facts, open_quietly};
use super::manifest::Type;
use super::tree::{IsDir, Protect, Why};
use crate::error::{Error, Result};

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
    /// The root's device and mount.
    place: Option<(u32, u32, Option<u64>)>,
    /// The directory that was given last: the walk goes on in it.
    below: Option<Vec<u8>>,
    begun: bool,
}

struct Level {
    dir: OwnedFd,
    path: Vec<u8>,
    names: std::vec::IntoIter<Box<[u8]>>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(anchor: &'a Anchor, protect: &'a Protect) -> Walk<'a> {
        Walk { anchor, protect, levels: Vec::new(), place: None, below: None, begun: false }
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
            return Ok(Some(self.found(Vec::new(), facts)));
        }
        if let Some(path) = self.below.take() {
            self.descend(path)?;
        }
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let path = if level.path.is_empty() { name.to_vec() } else { [&level.path, &b"/"[..], &name].concat() };
            match Facts::of(&level.dir, &name) {
                Ok(facts) => return Ok(Some(self.found(path, facts))),
                // It was removed a moment ago.
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.cannot("look at", &path, e)),
            }
        }
        Ok(None)
    }

    /// The walk does not go into the directory that was given last.
    pub(crate) fn skip(&mut self) {
        self.below = None;
    }

    fn found(&mut self, path: Vec<u8>, facts: Facts) -> Found {
        let is_dir = if facts.kind == Type::Dir { IsDir::Yes } else { IsDir::No };
        let state = match self.protect.why(&path, is_dir) {
            Some(why) => Whose::Protected(why),
            None if Some(facts.place) != self.place => Whose::Mount,
            None => Whose::Ours,
        };
        if facts.kind == Type::Dir && state == Whose::Ours {
            self.below = Some(path.clone());
        }
        Found { path, facts, state }
    }

    fn descend(&mut self, path: Vec<u8>) -> Result<()> {
        let opened = match self.levels.last() {
            Some(level) => open_quietly(&level.dir, super::live::split(&path).1),
            None => open_quietly(&self.anchor.dir, &self.anchor.name),
        };
        let dir = match opened {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(self.cannot("open", &path, e)),
        };
        let names = names(&dir).map_err(|e| self.cannot("list", &path, e))?;
        self.levels.push(Level { dir, path, names: names.into_iter() });
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
