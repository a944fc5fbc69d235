//! Reading one live file into the store.
//!
//! Promises: what is kept of a file that did not change meanwhile is exactly what was in it; one that changed is read
//! again, and marked as torn if it goes on changing.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::chunk::{Cutter, WHOLE_BYTES, cut_stream};
use super::live::{Anchor, Facts, open_quietly};
use super::manifest::{Entry, Type, unsettled};
use super::meta;
use super::object::ObjectId;
use super::pack::{Class, Packer};
use crate::error::{Error, OrSay, Result};

/// How often a file that changes is read.
const TRIES: u32 = 3;

/// A file with a time that lies in the future is not waited for.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// Where in a file there is data: offsets and lengths.
pub(crate) type Extents = Vec<(u64, u64)>;

/// Keeps a file's content and metadata. `None`: it is not there any more. `read` counts the bytes read.
pub(crate) fn file(
    anchor: &Anchor,
    packer: &Packer,
    path: Vec<u8>,
    buffer: &mut Vec<u8>,
    read: &mut u64,
) -> Result<Option<Entry>> {
    let mut last = None;
    for _ in 0..TRIES {
        let fd = match open_quietly(&anchor.dir, &anchor.anchored(&path)) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP) => return Err(Error::new("it became a symlink meanwhile")),
            Err(e) => return Err(Error::new("it cannot be opened").because(e)),
        };
        let mut before = Facts::of(&fd, b"").or_say(|| "it cannot be looked at")?;
        // Written a moment ago, it could be written again in the same tick of its filesystem's clock.
        if let Some(rest) = unsettled(&before, super::stream::now()).filter(|rest| *rest <= LONGEST_REST) {
            std::thread::sleep(rest);
            before = Facts::of(&fd, b"").or_say(|| "it cannot be looked at")?;
        }
        if before.kind != Type::File {
            return Err(Error::new(format!("it became a {} meanwhile", before.kind.word())));
        }
        let mut entry = meta::entry(path.clone(), &before);
        entry.xattrs = meta::xattrs(&fd).or_say(|| "its extended attributes cannot be read")?;
        if before.blocks * 512 < before.size {
            entry.extents = holes(&fd, before.size).or_say(|| "its holes cannot be found")?;
        }
        let file = File::from(fd);
        let got = content(&file, packer, &mut entry, buffer)?;
        *read += got;
        let after = Facts::of(&file, b"").or_say(|| "it cannot be looked at")?;
        let same = |f: &Facts| (f.size, f.mtime, f.ctime, f.ino);
        if same(&before) == same(&after) && got == entry.stored_bytes() {
            return Ok(Some(entry));
        }
        last = Some((entry, got));
    }
    // What was read of it is shorter than it claims to be when it was cut off meanwhile.
    Ok(last.map(|(mut entry, got)| {
        if got != entry.stored_bytes() {
            (entry.size, entry.extents) = (got, None);
        }
        entry.torn = true;
        entry
    }))
}

/// Adds a file's content to the store; returns the bytes read.
fn content(file: &File, packer: &Packer, entry: &mut Entry, buffer: &mut Vec<u8>) -> Result<u64> {
    let failed = |e: std::io::Error| Error::new("it cannot be read").because(e);
    let size = entry.stored_bytes();
    let whole = vec![(0, entry.size)];
    let mut source = Data { file, extents: entry.extents.as_ref().unwrap_or(&whole), at: 0, into: 0 };
    if size <= WHOLE_BYTES {
        buffer.clear();
        source.read_to_end(buffer).map_err(failed)?;
        if !buffer.is_empty() {
            let id = ObjectId::of(buffer);
            packer.add(id, Class::Content, buffer)?;
            entry.object = Some(id);
        }
        return Ok(buffer.len() as u64);
    }
    let mut list = Cutter::new(packer, Class::Meta);
    let got = cut_stream(&mut source, failed, |chunk| {
        let id = ObjectId::of(chunk);
        packer.add(id, Class::Content, chunk)?;
        list.write(format!("{id} {}\n", chunk.len()).as_bytes())
    })?;
    entry.list = list.finish()?.0;
    Ok(got)
}

/// Reads a file's data and leaves out its holes.
pub(crate) struct Data<'a> {
    pub(crate) file: &'a File,
    pub(crate) extents: &'a [(u64, u64)],
    /// The extent at hand, and how far in it.
    pub(crate) at: usize,
    pub(crate) into: u64,
}

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(&(offset, length)) = self.extents.get(self.at) {
            let left = length - self.into;
            if left == 0 {
                (self.at, self.into) = (self.at + 1, 0);
                continue;
            }
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = self.file.read_at(&mut buffer[..wanted], offset + self.into)?;
            self.into += got as u64;
            return Ok(got);
        }
        Ok(0)
    }
}

/// Where a file has data; `None` when it has no holes, or the filesystem does not tell.
pub(crate) fn holes(fd: &OwnedFd, size: u64) -> rustix::io::Result<Option<Extents>> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let from = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
            Ok(from) if from < size => from,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(None),
            Err(e) => return Err(e),
        };
        let to = rustix::fs::seek(fd, SeekFrom::Hole(from))?.min(size);
        extents.push((from, to - from));
        at = to;
    }
    Ok((extents != [(0, size)]).then_some(extents))
}
