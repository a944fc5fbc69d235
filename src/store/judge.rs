//! Whether the entries of a manifest can be what a capture wrote: each inside of the resource, below a directory that the
//! manifest has itself, in order, once, and with the content that its kind has.
//!
//! Everything that reads a manifest goes through here, so that nobody else has to think of `..`, of names below a
//! symlink, or of sizes that no memory holds.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::archive::FRAME_LIMIT;
use super::live::split;
use super::manifest::{Entry, Type, order};
use super::object::Bytes;
use super::part::is_inside;
use crate::error::{Error, Fault, Result};

/// What was read until now.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    read: u64,
    last: Option<Vec<u8>>,
    /// The directories that the last entry is in, and itself if it is one.
    dirs: Vec<Vec<u8>>,
    /// Files with several names that have content.
    firsts: HashSet<Vec<u8>>,
}

impl Judge {
    /// Looks at the next entry.
    pub(crate) fn look(&mut self, entry: &Entry) -> Result<()> {
        let wrong = self.place(&entry.path.0).or_else(|| content(entry)).or_else(|| self.link(entry));
        if let Some(why) = wrong {
            return Err(not_ours(&entry.path.0, why));
        }
        let path = &entry.path.0;
        self.note(path);
        if entry.kind == Type::Dir && !entry.mount {
            self.dirs.push(path.clone());
        } else if entry.nlink > 1 && entry.link.is_none() {
            self.firsts.insert(path.clone());
        }
        Ok(())
    }

    /// Looks at where the next entry is; it has one name, and is no mount point. Its content is looked at by [`content`]
    /// when it is read.
    pub(crate) fn pass(&mut self, path: &[u8], kind: Type) -> Result<()> {
        if let Some(why) = self.place(path) {
            return Err(not_ours(path, why));
        }
        self.note(path);
        if kind == Type::Dir {
            self.dirs.push(path.to_vec());
        }
        Ok(())
    }

    fn note(&mut self, path: &[u8]) {
        self.read += 1;
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(path);
    }

    /// The stream of entries is over, and there should be `entries` of them.
    pub(crate) fn end(&self, entries: u64) -> Result<()> {
        if self.read == entries {
            return Ok(());
        }
        Err(Error::new(format!("the manifest has {} entries, and there were {entries}", self.read))
            .fault(Fault::Damage))
    }

    fn place(&mut self, path: &[u8]) -> Option<&'static str> {
        let Some(last) = &self.last else {
            return (!path.is_empty()).then_some("comes before the resource itself");
        };
        if path.split(|&byte| byte == b'/').any(|name| matches!(name, b"" | b"." | b"..") || name.contains(&0)) {
            return Some("is not a path inside of the resource");
        }
        match order(last, path) {
            Ordering::Less => {}
            Ordering::Equal => return Some("is there twice"),
            Ordering::Greater => return Some("is not in order"),
        }
        while self.dirs.pop_if(|dir| !is_inside(path, dir)).is_some() {}
        let parent = self.dirs.last().map(Vec::as_slice);
        (parent != Some(split(path).0)).then_some("is not below a directory of the manifest")
    }

    fn link(&self, entry: &Entry) -> Option<&'static str> {
        let first = entry.link.as_ref()?;
        (!self.firsts.contains(&first.0)).then_some("is the same file as one that is not there")
    }
}

fn not_ours(path: &[u8], why: &str) -> Error {
    let path = Bytes(path.to_vec());
    Error::new(format!("the manifest is not one of ours: `{path}` {why}")).fault(Fault::Damage)
}

/// Looks at an entry for itself.
pub(crate) fn alone(entry: Entry) -> Result<Entry> {
    match content(&entry) {
        Some(why) => Err(not_ours(&entry.path.0, why)),
        None => Ok(entry),
    }
}

/// What is wrong with an entry for itself.
fn content(entry: &Entry) -> Option<&'static str> {
    const NANOS: u32 = 1_000_000_000;
    let wrong = match entry.kind {
        // A further name of one says nothing more.
        Type::Symlink if entry.link.is_some() => false,
        Type::Symlink => entry.target.as_ref().is_none_or(|target| target.0.is_empty() || target.0.contains(&0)),
        Type::Block | Type::Char => entry.device.is_none(),
        Type::Stream => !entry.path.0.is_empty(),
        _ => false,
    };
    if wrong || entry.mode > 0o7777 || entry.mtime.1 >= NANOS {
        return Some("says something that its kind cannot be");
    }
    let stored = match stored_bytes(entry) {
        Some(stored) => stored,
        None => return Some("has data where there cannot be any"),
    };
    let held = entry.object.is_some() || !entry.list.is_empty();
    let whole = entry.object.is_none() || (entry.list.is_empty() && stored <= FRAME_LIMIT / 2);
    if held != (stored > 0 && !entry.mount) || !whole {
        return Some("does not have the content that its size says");
    }
    None
}

/// Bytes of content that are stored for an entry; `None` where its data are not in order, or behind its end.
fn stored_bytes(entry: &Entry) -> Option<u64> {
    let mut end = 0u64;
    for &(offset, length) in entry.extents.iter().flatten() {
        if offset < end || length == 0 {
            return None;
        }
        end = offset.checked_add(length)?;
    }
    // No offset in a file is larger.
    (end <= entry.size && entry.size <= i64::MAX as u64).then(|| entry.stored_bytes())
}
