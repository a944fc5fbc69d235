//! Capture: a live tree into the store. Changes nothing in the tree.
//!
//! One thread walks, one per core reads, one per core compresses, one writes the manifest in order; all queues are
//! bounded. What has not changed since the base manifest is not opened. A file that changes while it is read is read
//! again, and named if that does not help.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::live::{Anchor, Facts};
use super::manifest::{Entry, ManifestWriter, Time, Type, chunks_of, is_untouched, order};
use super::object::{Bytes, ObjectId};
use super::pack::Packer;
use super::recorded::{Content, ReadAhead, Recorded, content_of};
use super::tree::{Protect, Tree};
use super::walk::{Found, Walk, Whose};
use super::{Head, Store, cores, meta, read};
use crate::error::{Error, Fault, OrSay, Result};
use crate::resource::Captured;

/// Entries that are handed to a reader at once.
const BATCH_ITEMS: usize = 64;
/// Bytes of content after which a batch is full.
const BATCH_BYTES: u64 = 4 << 20;
/// Batches on their way.
const BATCHES: usize = 32;

/// Something that may have to be read.
enum Item {
    Ready(Ready),
    Read(Box<Entry>),
}

/// What goes into the manifest.
enum Ready {
    Entry(Box<Entry>),
    /// As the base has it, with so many bytes of content.
    Same(Recorded, u64),
}

struct Batch {
    items: Vec<Item>,
    reply: Sender<Result<Vec<Ready>>>,
}

/// What the threads share.
struct Shared<'a> {
    anchor: &'a Anchor,
    packer: &'a Packer,
    read: AtomicU64,
    warnings: std::sync::Mutex<Vec<String>>,
}

impl Shared<'_> {
    fn warn(&self, line: String) {
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
    }
}

impl Store {
    /// Captures a tree. `base` is an earlier manifest of it, whose unchanged files are not opened again. `tell` gets
    /// the bytes read until now, and may say that it is enough. Where nothing is, that is captured.
    pub fn capture_tree(
        &self,
        mut head: Head,
        tree: &Tree,
        base: Option<ObjectId>,
        tell: &dyn Fn(u64) -> Result<()>,
    ) -> Result<Captured> {
        let started = super::stream::now();
        let anchor = Anchor::at(&tree.path)?;
        let present = match &anchor {
            Some(anchor) => anchor.facts(b"")?.is_some(),
            None => false,
        };
        let mut facts = match std::mem::take(&mut head.facts) {
            serde_json::Value::Object(facts) => facts,
            _ => serde_json::Map::new(),
        };
        let Some(anchor) = anchor.filter(|_| present) else {
            facts.insert("exclude".into(), serde_json::json!(tree.exclude));
            facts.insert("absent".into(), true.into());
            head.facts = facts.into();
            return self.capture_facts(head);
        };
        let protect = Arc::new(Protect::new(tree, &anchor, &serde_json::Value::Null)?);
        if let serde_json::Value::Object(more) = protect.facts(tree) {
            facts.extend(more);
        }
        head.facts = facts.into();
        self.index.hurry()?;
        let packer = Packer::start(self)?;
        let shared = Shared { anchor: &anchor, packer: &packer, read: AtomicU64::new(0), warnings: Default::default() };
        let base = match base.map(|id| self.stored_head(id)).transpose() {
            Ok(base) => base,
            // A base only saves work.
            Err(error) => {
                shared.warn(format!("everything is read again: {error}"));
                None
            }
        };
        let manifest = std::thread::scope(|scope| {
            let (jobs, todo) = bounded::<Batch>(cores());
            let (ordered, replies) = bounded::<Receiver<Result<Vec<Ready>>>>(BATCHES);
            for _ in 0..cores() {
                let (todo, shared) = (todo.clone(), &shared);
                scope.spawn(move || {
                    let mut buffer = Vec::new();
                    for batch in todo {
                        // Nobody waits for it when another thread has failed.
                        let _ = batch.reply.send(shared.read(batch.items, &mut buffer));
                    }
                });
            }
            drop(todo);
            let packer = &packer;
            let writer = scope.spawn(move || -> Result<ManifestWriter<'_>> {
                let mut manifest = ManifestWriter::new(packer);
                for reply in replies {
                    for ready in reply.recv().or_say(|| "a reading thread died")?? {
                        match ready {
                            Ready::Entry(entry) => manifest.add(&entry)?,
                            Ready::Same(recorded, bytes) => match recorded.line() {
                                Some(line) => manifest.add_line(line, bytes)?,
                                None => manifest.add(&recorded.into_entry()?)?,
                            },
                        }
                    }
                }
                Ok(manifest)
            });
            let walk = Walk::new(&anchor, &protect);
            let base = base.as_ref().map(|head| Base {
                entries: ReadAhead::start(scope, self.entries(head)),
                next: None,
                started: head.started,
            });
            let walked =
                Walking { store: self, shared: &shared, jobs, ordered, base, links: HashMap::new() }.run(walk, tell);
            let written = writer.join().map_err(|_| Error::new("the thread that writes the manifest panicked"))?;
            // The writer's failure is the cause of the walker's, if both failed.
            let manifest = written?;
            walked.map(|()| manifest)
        })?;
        let head = manifest.finish(head, started)?;
        let Shared { read, warnings, .. } = shared;
        self.finish(packer, &head, read.into_inner(), warnings.into_inner().unwrap_or_default())
    }
}

/// The thread that walks.
struct Walking<'a> {
    store: &'a Store,
    shared: &'a Shared<'a>,
    jobs: Sender<Batch>,
    ordered: Sender<Receiver<Result<Vec<Ready>>>>,
    base: Option<Base>,
    /// The first name of files that have several.
    links: HashMap<(u32, u32, u64), Vec<u8>>,
}

impl Walking<'_> {
    fn run(mut self, mut walk: Walk<'_>, tell: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while let Some(found) = walk.next()? {
            let Some(item) = self.item(found, &mut walk)? else { continue };
            if let Item::Read(entry) = &item {
                bytes += entry.size;
            }
            items.push(item);
            if items.len() >= BATCH_ITEMS || bytes >= BATCH_BYTES {
                tell(self.shared.read.load(Ordering::Relaxed))?;
                self.send(std::mem::take(&mut items))?;
                bytes = 0;
            }
        }
        self.send(items)
    }

    fn send(&self, items: Vec<Item>) -> Result<()> {
        let (reply, receiver) = bounded(1);
        // They are gone only after a failure, which the writer reports.
        let gone = || "the capture was given up";
        self.ordered.send(receiver).or_say(gone)?;
        self.jobs.send(Batch { items, reply }).or_say(gone)
    }

    fn item(&mut self, found: Found, walk: &mut Walk<'_>) -> Result<Option<Item>> {
        let Found { path, facts, state } = found;
        let shown = |path: &[u8]| self.shared.anchor.shown(path);
        let mut entry = meta::entry(path, &facts);
        match state {
            Whose::Protected(_) => return Ok(None),
            Whose::Mount => {
                self.shared.warn(format!("`{}` is a mount point: what is in it is not captured", shown(&entry.path.0)));
                entry.mount = true;
                return Ok(Some(Item::Ready(Ready::Entry(Box::new(entry)))));
            }
            Whose::Ours => {}
        }
        if facts.kind == Type::Socket {
            self.shared
                .warn(format!("`{}` is a socket: it is recorded and will not be restored", shown(&entry.path.0)));
            return Ok(Some(Item::Ready(Ready::Entry(Box::new(entry)))));
        }
        if entry.nlink > 1 {
            if let Some(first) = self.links.get(&facts.identity()) {
                entry.link = Some(Bytes(first.clone()));
                return Ok(Some(Item::Ready(Ready::Entry(Box::new(entry)))));
            }
            self.links.insert(facts.identity(), entry.path.0.clone());
        }
        if let Some(same) = self.unchanged(&entry.path.0, &facts)? {
            return Ok(Some(Item::Ready(same)));
        }
        if facts.kind != Type::Dir {
            return Ok(Some(Item::Read(Box::new(entry))));
        }
        // A directory is read before what is in it, so that it cannot be gone while its entries are kept.
        match self.shared.complete(&mut entry) {
            Ok(()) => Ok(Some(Item::Ready(Ready::Entry(Box::new(entry))))),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                walk.skip();
                Ok(None)
            }
            Err(e) => Err(Error::new(format!("cannot read `{}`", shown(&entry.path.0))).because(e)),
        }
    }
}

impl Walking<'_> {
    /// The entry of the base, if nothing about it has changed for sure and the store has all of it. What is damaged is
    /// read again.
    fn unchanged(&mut self, path: &[u8], live: &Facts) -> Result<Option<Ready>> {
        let Some(base) = &mut self.base else { return Ok(None) };
        match base.unchanged(path, live, self.store, self.shared.packer) {
            Err(error) if error.fault == Fault::Damage => {
                self.shared.warn(format!("what comes behind is read again: {error}"));
                self.base = None;
                Ok(None)
            }
            same => same,
        }
    }
}

impl Shared<'_> {
    fn read(&self, items: Vec<Item>, buffer: &mut Vec<u8>) -> Result<Vec<Ready>> {
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Ready(ready) => entries.push(ready),
                Item::Read(entry) => {
                    entries.extend(self.read_one(*entry, buffer)?.map(|entry| Ready::Entry(Box::new(entry))))
                }
            }
        }
        Ok(entries)
    }

    fn read_one(&self, mut entry: Entry, buffer: &mut Vec<u8>) -> Result<Option<Entry>> {
        let shown = self.anchor.shown(&entry.path.0);
        let path = std::mem::take(&mut entry.path.0);
        let done = if entry.kind == Type::File {
            let mut read = 0;
            let done = read::file(self.anchor, self.packer, path, buffer, &mut read);
            self.read.fetch_add(read, Ordering::Relaxed);
            done.map_err(|e| e.within(format!("cannot capture `{shown}`")))?
        } else {
            entry.path.0 = path;
            match self.complete(&mut entry) {
                Ok(()) => Some(entry.clone()),
                Err(Errno::NOENT | Errno::NOTDIR) => None,
                Err(e) => return Err(Error::new(format!("cannot capture `{shown}`")).because(e)),
            }
        };
        match &done {
            None if entry.nlink > 1 => {
                Err(Error::new(format!("`{shown}` disappeared while it was captured, and has other names")))
            }
            Some(entry) if entry.torn => {
                self.warn(format!("`{shown}` changed each time it was read: what was kept of it may not fit together"));
                Ok(done)
            }
            _ => Ok(done),
        }
    }

    /// Reads what is not content: link target and extended attributes.
    fn complete(&self, entry: &mut Entry) -> rustix::io::Result<()> {
        let fd = self.anchor.open(&entry.path.0, OFlags::PATH)?;
        let facts = Facts::of(&fd, b"")?;
        let path = std::mem::take(&mut entry.path.0);
        *entry = meta::entry(path, &facts);
        if facts.kind == Type::Symlink {
            entry.target = Some(Bytes(rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes()));
        }
        entry.xattrs = meta::xattrs(&fd)?;
        Ok(())
    }
}

/// The manifest of the last capture, read along with the walk.
struct Base {
    entries: ReadAhead,
    next: Option<Recorded>,
    started: Time,
}

impl Base {
    /// What it has of the same path, if nothing about it has changed for sure and its content is still in the store.
    fn unchanged(&mut self, path: &[u8], live: &Facts, store: &Store, packer: &Packer) -> Result<Option<Ready>> {
        let old = loop {
            if self.next.is_none() {
                self.next = self.entries.next()?;
            }
            let Some(old) = &self.next else { return Ok(None) };
            match order(old.path(), path) {
                std::cmp::Ordering::Less => self.next = None,
                std::cmp::Ordering::Greater => return Ok(None),
                std::cmp::Ordering::Equal => break self.next.take(),
            }
        };
        let Some(old) = old else { return Ok(None) };
        if old.is_plainly_untouched(live, self.started)
            && let Some(line) = old.line()
        {
            match content_of(line) {
                Content::Nothing => return Ok(Some(Ready::Same(old, 0))),
                Content::Object(id, size) => return Ok(packer.has(id)?.then_some(Ready::Same(old, size.into()))),
                Content::More => {}
            }
        }
        let entry = old.into_entry()?;
        if entry.link.is_some() || entry.torn || !is_untouched(&entry, live, self.started) {
            return Ok(None);
        }
        match has_content(store, packer, &entry) {
            Err(error) if error.fault == Fault::Damage => Ok(None),
            has => Ok(has?.then(|| Ready::Entry(Box::new(entry)))),
        }
    }
}

/// Whether the store still has all that an entry needs.
fn has_content(store: &Store, packer: &Packer, entry: &Entry) -> Result<bool> {
    for &id in &entry.list {
        if !packer.has(id)? {
            return Ok(false);
        }
    }
    let mut all = true;
    chunks_of(store, entry, &mut |id, _| {
        all = all && packer.has(id)?;
        Ok(())
    })?;
    Ok(all)
}
