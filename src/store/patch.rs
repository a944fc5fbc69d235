//! What a large file still holds of what a manifest says: a restore takes that from the file itself, and only the rest
//! from the store.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::live::{Anchor, Facts, open_quietly};
use super::manifest::{Entry, Type, chunks_of};
use super::object::ObjectId;
use super::{Store, cores};
use crate::error::{Error, Result};

/// Bytes that one thread looks at before it takes more.
const SEGMENT: u64 = 8 << 20;

/// A chunk of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) id: ObjectId,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// The chunks of a large file that the live file does not hold at their place; with `to`, the others are written there.
/// Every byte that is written was checked just before.
pub(crate) fn missing(store: &Store, anchor: &Anchor, entry: &Entry, to: Option<&File>) -> Result<Vec<Piece>> {
    let (mut pieces, mut offset) = (Vec::new(), 0);
    chunks_of(store, entry, &mut |id, length| {
        pieces.push(Piece { id, offset, length });
        offset += u64::from(length);
        Ok(())
    })?;
    let Some(mut live) = live(anchor, entry) else { return Ok(pieces) };
    let mut to = to;
    if let Some(file) = to
        && rustix::fs::ioctl_ficlone(file, &live).is_ok()
        && let Ok(clone) = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)))
    {
        // The filesystem shares the blocks: what is right in the clone stays.
        file.set_len(entry.size).map_err(|e| Error::new("it cannot be written").because(e))?;
        (live, to) = (clone, None);
    }
    let segments: Vec<&[Piece]> = pieces.chunk_by(|a, b| a.offset / SEGMENT == b.offset / SEGMENT).collect();
    // Writers to one file would only wait for each other, spinning.
    let to = to.map(Mutex::new);
    let (next, missing) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        let mut buffer = Vec::new();
        while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
            let lost = compare(&live, segment, &mut buffer, to.as_ref())?;
            missing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(lost);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..cores().min(segments.len())).map(|_| scope.spawn(work)).collect();
        let mine = work();
        helpers.into_iter().map(|helper| helper.join().unwrap_or(Ok(()))).fold(mine, Result::and)
    })?;
    Ok(missing.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// The live file in the entry's place, if it is worth a look.
fn live(anchor: &Anchor, entry: &Entry) -> Option<File> {
    if entry.extents.is_some() || entry.list.is_empty() {
        return None;
    }
    let fd = open_quietly(&anchor.dir, &anchor.anchored(&entry.path.0)).ok()?;
    (Facts::of(&fd, b"").ok()?.kind == Type::File).then(|| File::from(fd))
}

/// The pieces of a segment that the file does not hold.
fn compare(live: &File, segment: &[Piece], buffer: &mut Vec<u8>, to: Option<&Mutex<&File>>) -> Result<Vec<Piece>> {
    let (Some(first), Some(last)) = (segment.first(), segment.last()) else { return Ok(Vec::new()) };
    let from = first.offset;
    buffer.resize((last.offset - from) as usize + last.length as usize, 0);
    let mut filled = 0;
    while filled < buffer.len() {
        match live.read_at(&mut buffer[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // What cannot be read of it comes from the store.
            Err(_) => break,
        }
    }
    let mut lost = Vec::new();
    // Neighbours are written together.
    let (mut run, mut end) = (from, from);
    let write = |run: u64, end: u64| -> Result<()> {
        match to {
            Some(to) if run < end => to
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .write_all_at(&buffer[(run - from) as usize..(end - from) as usize], run)
                .map_err(|e| Error::new("it cannot be written").because(e)),
            _ => Ok(()),
        }
    };
    for piece in segment {
        let start = (piece.offset - from) as usize;
        let stop = start + piece.length as usize;
        if stop <= filled && ObjectId::of(&buffer[start..stop]) == piece.id {
            end = from + stop as u64;
        } else {
            write(run, end)?;
            (run, end) = (from + stop as u64, from + stop as u64);
            lost.push(*piece);
        }
    }
    write(run, end)?;
    Ok(lost)
}
