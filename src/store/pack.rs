//! Packing: objects go in, archives come out.
//!
//! Objects gather in frames; full frames are compressed by one thread per core and written to an archive, which is
//! sealed and indexed when it is large enough and at the end. The queue is bounded, so memory stays flat. Promises: an
//! object that the store has, or that was added before, is not written again; the head of a manifest is written last.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::archive::{ARCHIVE_BYTES, ArchiveWriter, FRAME_BYTES, FRAME_LIMIT, Frame, Member, Squeezer};
use super::index::Index;
use super::object::ObjectId;
use super::{Store, cores};
use crate::error::{Error, OrSay, Result};

/// What kind of frame an object belongs in: manifests are read without the content, so they share no frame with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// What files hold.
    Content,
    /// Manifests and lists of chunks.
    Meta,
}

/// What came of packing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed {
    /// Bytes by which the store grew.
    pub(crate) stored: u64,
}

/// Takes objects; any number of threads may add at once.
pub(crate) struct Packer {
    shared: Arc<Shared>,
    queue: Option<Sender<Frame>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    index: Arc<Index>,
    archives: PathBuf,
    tmp: PathBuf,
    gathering: Mutex<Gathering>,
    output: Mutex<Output>,
    failure: Mutex<Option<Error>>,
}

#[derive(Default)]
struct Gathering {
    content: Frame,
    meta: Frame,
    /// Added, and not yet in the index.
    pending: HashSet<ObjectId>,
}

#[derive(Default)]
struct Output {
    archive: Option<ArchiveWriter>,
    stored: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Packer {
    pub(crate) fn start(store: &Store) -> Result<Packer> {
        let tmp = store.tmp.clone().ok_or_else(|| Error::new("the store is open for reading only"))?;
        let shared = Arc::new(Shared {
            index: Arc::clone(&store.index),
            archives: store.archives(),
            tmp,
            gathering: Mutex::default(),
            output: Mutex::default(),
            failure: Mutex::default(),
        });
        let (queue, frames) = bounded::<Frame>(cores());
        let mut threads = Vec::new();
        for _ in 0..cores() {
            let (shared, frames) = (Arc::clone(&shared), frames.clone());
            let work = move || {
                let mut squeezer = Squeezer::new();
                for frame in frames {
                    let done = match &mut squeezer {
                        Ok(squeezer) => shared.write(&frame, squeezer),
                        Err(error) => Err(error.clone()),
                    };
                    if let Err(error) = done {
                        lock(&shared.failure).get_or_insert(error);
                    }
                }
            };
            let thread = std::thread::Builder::new().name("pack".into()).spawn(work);
            threads.push(thread.or_say(|| "cannot start a thread")?);
        }
        Ok(Packer { shared, queue: Some(queue), threads })
    }

    /// Whether the store has it, or will when this is finished.
    pub(crate) fn has(&self, id: ObjectId) -> Result<bool> {
        Ok(lock(&self.shared.gathering).pending.contains(&id) || self.shared.index.has(id)?)
    }

    /// Adds an object unless it is there already.
    pub(crate) fn add(&self, id: ObjectId, class: Class, bytes: &[u8]) -> Result<()> {
        self.add_member(id, class, Member::Object, bytes)
    }

    fn add_member(&self, id: ObjectId, class: Class, member: Member, bytes: &[u8]) -> Result<()> {
        if let Some(error) = &*lock(&self.shared.failure) {
            return Err(error.clone());
        }
        if bytes.len() as u64 > FRAME_LIMIT / 2 {
            return Err(Error::new(format!("an object of {} bytes is too large", bytes.len())));
        }
        if self.shared.index.has(id)? {
            return Ok(());
        }
        let full = {
            let mut gathering = lock(&self.shared.gathering);
            if !gathering.pending.insert(id) {
                return Ok(());
            }
            let frame = match class {
                Class::Content => &mut gathering.content,
                Class::Meta => &mut gathering.meta,
            };
            frame.add(id, member, bytes)?;
            (frame.tar.len() >= FRAME_BYTES).then(|| std::mem::take(frame))
        };
        if let Some(frame) = full {
            self.send(frame);
        }
        Ok(())
    }

    fn send(&self, frame: Frame) {
        if let Some(queue) = &self.queue {
            // The threads go on receiving after a failure, so this ends.
            let _ = queue.send(frame);
        }
    }

    /// Writes what is left, then `head` as a manifest's head; durable and in the index when it returns.
    pub(crate) fn finish(mut self, head: Option<&[u8]>) -> Result<Packed> {
        let (content, meta) = {
            let mut gathering = lock(&self.shared.gathering);
            (std::mem::take(&mut gathering.content), std::mem::take(&mut gathering.meta))
        };
        for frame in [content, meta] {
            if !frame.slots.is_empty() {
                self.send(frame);
            }
        }
        self.join();
        if let Some(error) = lock(&self.shared.failure).take() {
            return Err(error);
        }
        let mut squeezer = Squeezer::new()?;
        if let Some(head) = head {
            let id = ObjectId::of(head);
            if !self.shared.index.has(id)? {
                let mut frame = Frame::default();
                frame.add(id, Member::Manifest, head)?;
                self.shared.write(&frame, &mut squeezer)?;
            }
        }
        let mut output = lock(&self.shared.output);
        self.shared.seal(&mut output, &mut squeezer)?;
        Ok(Packed { stored: output.stored })
    }

    fn join(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                lock(&self.shared.failure).get_or_insert(Error::new("a packing thread panicked"));
            }
        }
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn write(&self, frame: &Frame, squeezer: &mut Squeezer) -> Result<()> {
        if lock(&self.failure).is_some() {
            return Ok(());
        }
        let packed = squeezer.squeeze(&frame.tar)?;
        let mut output = lock(&self.output);
        let archive = match &mut output.archive {
            Some(archive) => archive,
            none => none.insert(ArchiveWriter::create(&self.tmp)?),
        };
        archive.write(&frame.slots, packed)?;
        if archive.bytes() >= ARCHIVE_BYTES {
            self.seal(&mut output, squeezer)?;
        }
        Ok(())
    }

    fn seal(&self, output: &mut Output, squeezer: &mut Squeezer) -> Result<()> {
        let Some(archive) = output.archive.take() else { return Ok(()) };
        let sealed = archive.seal(&self.archives, squeezer)?;
        output.stored += sealed.bytes;
        self.index.insert(&sealed)?;
        let mut gathering = lock(&self.gathering);
        for row in &sealed.rows {
            gathering.pending.remove(&row.slot.id);
        }
        Ok(())
    }
}
