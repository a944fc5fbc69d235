//! Manifests: what a captured resource consists of, entry by entry, with all that is needed to put it back.
//!
//! A manifest is a head (one JSON object, named by its BLAKE3: the manifest's id) and a stream of entries, one JSON line
//! each, cut into chunks like a large file. Entries are sorted depth first by the bytes of their names. Written and
//! read as streams: memory does not grow with the number of entries.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::archive::FRAME_LIMIT;
use super::chunk::Cutter;
use super::judge::Judge;
use super::live::Facts;
use super::object::{Bytes, ObjectId};
use super::pack::{Class, Packer};
use super::recorded::plain;
use super::{Head, Store};
use crate::error::{Error, Fault, OrSay, Result};

/// The format of manifests; a newer one is refused.
pub(crate) const FORMAT: u32 = 1;

/// The head as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredHead {
    pub(crate) format: u32,
    #[serde(flatten)]
    pub(crate) head: Head,
    /// When the capture began to look: what changed later than this may have been missed.
    pub(crate) started: Time,
    pub(crate) entries: u64,
    /// Of content.
    pub(crate) bytes: u64,
    /// The stream of entries.
    pub(crate) chunks: Vec<ObjectId>,
}

/// Seconds and nanoseconds since 1970; before it, negative seconds and nanoseconds that count forward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(pub i64, pub u32);

/// What an entry is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A regular file.
    #[default]
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket: recorded, not restored.
    Socket,
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// What a program printed: the only entry of a database's manifest.
    Stream,
}

impl Type {
    /// How it is called towards people.
    pub fn word(self) -> &'static str {
        match self {
            Type::File => "file",
            Type::Dir => "directory",
            Type::Symlink => "symlink",
            Type::Fifo => "fifo",
            Type::Socket => "socket",
            Type::Block => "block device",
            Type::Char => "character device",
            Type::Stream => "stream",
        }
    }
}

/// One entry of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the resource; the resource itself is empty.
    pub path: Bytes,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Type,
    /// The twelve permission bits.
    #[serde(default)]
    pub mode: u32,
    /// The owner.
    #[serde(default)]
    pub uid: u32,
    /// The group.
    #[serde(default)]
    pub gid: u32,
    /// When its content changed.
    #[serde(default)]
    pub mtime: Time,
    /// When its inode changed; only compared.
    #[serde(default)]
    pub ctime: Time,
    /// Its inode; only compared.
    #[serde(default)]
    pub ino: u64,
    /// How many names it had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nlink: u64,
    /// Bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Extended attributes, sorted; ACLs and capabilities are among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(Bytes, Bytes)>,
    /// Of a symlink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Bytes>,
    /// Of a device: major and minor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// The earlier entry that is the same file (a hard link); this one then has no content of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Bytes>,
    /// Of a sparse file: where there is data, as offset and length; the rest are holes. Objects hold the data only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extents: Option<Vec<(u64, u64)>>,
    /// The content of a small file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectId>,
    /// The content of a large file or a stream: objects that hold one line `<object> <length>` for each chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<ObjectId>,
    /// Another filesystem is mounted there; what is in it was not captured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mount: bool,
    /// It changed each time it was read: what is kept may be half of one state and half of another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub torn: bool,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Entry {
    /// Bytes of content that are stored for it.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match (&self.extents, &self.link, self.kind) {
            (Some(extents), _, _) => extents.iter().map(|(_, length)| length).sum(),
            (None, None, Type::File | Type::Stream) => self.size,
            _ => 0,
        }
    }
}

/// How far a file's time may lag behind the clock, in nanoseconds.
const LAG: i128 = 20_000_000;
/// The same where the filesystem keeps whole seconds only.
const COARSE_LAG: i128 = 2_000_000_000;

/// How long after `now` something could still be done to a file without giving it another change time.
pub(super) fn unsettled(live: &Facts, now: Time) -> Option<Duration> {
    let lag = if live.ctime.1 == 0 { COARSE_LAG } else { LAG };
    let nanos = |t: Time| i128::from(t.0) * 1_000_000_000 + i128::from(t.1);
    let left = nanos(live.ctime) + lag - nanos(now);
    u64::try_from(left).ok().map(|left| Duration::from_nanos(left + 1))
}

/// Whether what was done to a file since `started` has given it another change time, for sure.
pub(super) fn is_settled(live: &Facts, started: Time) -> bool {
    unsettled(live, started).is_none()
}

/// Whether it is the same inode and nothing was done to it since the entry was recorded, for sure. `started`: when the
/// capture that recorded it began.
pub(super) fn is_untouched(old: &Entry, live: &Facts, started: Time) -> bool {
    (old.kind, old.mtime, old.ctime, old.ino) == (live.kind, live.mtime, live.ctime, live.ino)
        && (old.mode, old.uid, old.gid) == (live.mode, live.uid, live.gid)
        && (old.kind != Type::File || old.size == live.size)
        && !old.mount
        && is_settled(live, started)
}

/// The order of entries: depth first, siblings by the bytes of their names.
pub(crate) fn order(a: &[u8], b: &[u8]) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let key = |&byte: &u8| if byte == b'/' { 0 } else { byte };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// Writes a manifest's stream of entries.
pub(crate) struct ManifestWriter<'a> {
    cutter: Cutter<'a>,
    line: Vec<u8>,
    entries: u64,
    bytes: u64,
}

impl<'a> ManifestWriter<'a> {
    pub(crate) fn new(packer: &'a Packer) -> ManifestWriter<'a> {
        ManifestWriter { cutter: Cutter::new(packer, Class::Meta), line: Vec::new(), entries: 0, bytes: 0 }
    }

    /// Appends the next entry.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, entry).or_say(|| format!("cannot record {:?}", entry.path))?;
        self.line.push(b'\n');
        self.entries += 1;
        self.bytes += entry.stored_bytes();
        self.cutter.write(&self.line)
    }

    /// Appends the line of an entry that has not changed, with `bytes` of content.
    pub(crate) fn add_line(&mut self, line: &[u8], bytes: u64) -> Result<()> {
        self.entries += 1;
        self.bytes += bytes;
        self.cutter.write(line)?;
        self.cutter.write(b"\n")
    }

    /// The head to these entries.
    pub(crate) fn finish(self, head: Head, started: Time) -> Result<StoredHead> {
        let (chunks, _) = self.cutter.finish()?;
        Ok(StoredHead { format: FORMAT, head, started, entries: self.entries, bytes: self.bytes, chunks })
    }
}

/// Reads a manifest's entries in order.
pub(crate) struct Entries<'a> {
    store: &'a Store,
    chunks: VecDeque<ObjectId>,
    held: Vec<u8>,
    from: usize,
    judge: Judge,
    /// How many there should be.
    entries: u64,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(store: &'a Store, head: &StoredHead) -> Entries<'a> {
        let chunks = head.chunks.iter().copied().collect();
        Entries { store, chunks, held: Vec::new(), from: 0, judge: Judge::default(), entries: head.entries }
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let Some(line) = self.line()? else {
            self.judge.end(self.entries)?;
            return Ok(None);
        };
        let entry = read_entry(&self.held[line])?;
        self.judge.look(&entry)?;
        Ok(Some(entry))
    }

    /// The next entry's line, without its end. Of its content nothing is known yet but what [`content_of`] tells.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>> {
        let Some(line) = self.line()? else {
            self.judge.end(self.entries)?;
            return Ok(None);
        };
        let line = &self.held[line];
        match plain(line) {
            Some((path, kind)) => self.judge.pass(path, kind)?,
            None => self.judge.look(&read_entry(line)?)?,
        }
        Ok(Some(line))
    }

    /// Where in `held` the next line is.
    fn line(&mut self) -> Result<Option<Range<usize>>> {
        let mut searched = self.from;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.held[searched..]) {
                let line = self.from..searched + end;
                self.from = line.end + 1;
                return Ok(Some(line));
            }
            let Some(chunk) = self.chunks.pop_front() else {
                return if self.from == self.held.len() {
                    Ok(None)
                } else {
                    Err(Error::new("a manifest ends in the middle of an entry").fault(Fault::Damage))
                };
            };
            self.held.drain(..self.from);
            self.from = 0;
            searched = self.held.len();
            self.store.append(chunk, &mut self.held)?;
        }
    }
}

pub(super) fn read_entry(line: &[u8]) -> Result<Entry> {
    serde_json::from_slice(line)
        .or_say(|| "a manifest has an entry that cannot be read")
        .map_err(|e| e.fault(Fault::Damage))
}

/// The chunks of an entry's content, in order, each with its length.
pub(crate) fn chunks_of(store: &Store, entry: &Entry, each: &mut dyn FnMut(ObjectId, u32) -> Result<()>) -> Result<()> {
    let wrong = |what: &str| Error::new(format!("the list of chunks of `{}` {what}", entry.path)).fault(Fault::Damage);
    if let Some(id) = entry.object {
        return each(id, entry.stored_bytes() as u32);
    }
    let (mut held, mut left) = (Vec::new(), entry.stored_bytes());
    for &id in &entry.list {
        store.append(id, &mut held)?;
        let mut from = 0;
        while let Some(end) = held[from..].iter().position(|&byte| byte == b'\n') {
            let (id, length): (ObjectId, u32) = std::str::from_utf8(&held[from..from + end])
                .ok()
                .and_then(|line| line.split_once(' '))
                .and_then(|(id, length)| Some((id.parse().ok()?, length.parse().ok()?)))
                .filter(|(_, length)| u64::from(*length) <= FRAME_LIMIT / 2)
                .ok_or_else(|| wrong("cannot be read"))?;
            left = left.checked_sub(length.into()).ok_or_else(|| wrong("is longer than the file"))?;
            each(id, length)?;
            from += end + 1;
        }
        held.drain(..from);
    }
    if left > 0 || !held.is_empty() { Err(wrong("is shorter than the file")) } else { Ok(()) }
}
