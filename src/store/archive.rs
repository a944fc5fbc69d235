//! Archives: ordinary `.tar.zst` files made of independent zstd frames, each of whole tar members.
//!
//! Promises: an archive is seen under its name only when it is complete and durable; a frame can be decoded alone.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::object::ObjectId;
use crate::error::{Error, Fault, OrSay, Result};

/// Bytes of tar stream after which a frame is closed.
pub(crate) const FRAME_BYTES: usize = 4 << 20;
/// Compressed bytes after which an archive is closed and the next begun.
pub(crate) const ARCHIVE_BYTES: u64 = 256 << 20;
/// The zstd level, by measurement (`tests/bench/run`): against 3 it makes a first capture a tenth faster and the store a
/// twentieth larger; against 1, a tenth slower and a twentieth smaller.
pub(crate) const LEVEL: i32 = 2;
/// A frame larger than this (decoded) is taken for damage.
pub(crate) const FRAME_LIMIT: u64 = 1 << 30;

const BLOCK: usize = 512;

/// What the store calls an archive: the BLAKE3 of its file.
pub(crate) type ArchiveName = ObjectId;

/// Where the archive called `name` is.
pub(crate) fn path_of(archives: &Path, name: ArchiveName) -> PathBuf {
    let hex = name.to_string();
    archives.join(&hex[..2]).join(format!("{hex}.tar.zst"))
}

/// A member of an archive: an object, or the head of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    /// `<blake3>`
    Object,
    /// `<blake3>.manifest`
    Manifest,
}

/// One object in a frame's tar stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) id: ObjectId,
    pub(crate) member: Member,
    /// Where its bytes begin in the frame's tar stream.
    pub(crate) start: u64,
    pub(crate) length: u64,
}

/// A tar stream of whole members.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) tar: Vec<u8>,
    pub(crate) slots: Vec<Slot>,
}

impl Frame {
    /// An empty one with room for all that will come.
    pub(crate) fn roomy() -> Frame {
        Frame { tar: Vec::with_capacity(FRAME_BYTES + (FRAME_BYTES / 4)), slots: Vec::new() }
    }

    /// Appends a member.
    pub(crate) fn add(&mut self, id: ObjectId, member: Member, bytes: &[u8]) -> Result<()> {
        if self.tar.capacity() == 0 && bytes.len() > BLOCK {
            *self = Frame::roomy();
        }
        let mut header = tar::Header::new_ustar();
        let name = match member {
            Member::Object => id.to_string(),
            Member::Manifest => format!("{id}.manifest"),
        };
        header.set_path(&name).or_say(|| format!("cannot name the member `{name}`"))?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        self.slots.push(Slot { id, member, start: self.tar.len() as u64, length: bytes.len() as u64 });
        self.tar.extend_from_slice(bytes);
        self.tar.resize(self.tar.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    /// Reads the members of a decoded frame.
    pub(crate) fn read(tar: &[u8]) -> Result<Vec<Slot>> {
        let bad = |at: usize| Error::new(format!("no tar member at byte {at} of the frame")).fault(Fault::Damage);
        let (mut slots, mut at) = (Vec::new(), 0);
        while at < tar.len() {
            let block = tar.get(at..at + BLOCK).ok_or_else(|| bad(at))?;
            if block.iter().all(|&byte| byte == 0) {
                at += BLOCK;
                continue;
            }
            let header = tar::Header::from_byte_slice(block);
            let name = header.path_bytes();
            let text = std::str::from_utf8(&name).map_err(|_| bad(at))?;
            let (text, member) = match text.strip_suffix(".manifest") {
                Some(text) => (text, Member::Manifest),
                None => (text, Member::Object),
            };
            let id = text.parse().map_err(|_| bad(at))?;
            let length = header.size().map_err(|_| bad(at))?;
            let start = (at + BLOCK) as u64;
            let end = start.checked_add(length).filter(|&end| end <= tar.len() as u64).ok_or_else(|| bad(at))?;
            slots.push(Slot { id, member, start, length });
            at = (end as usize).next_multiple_of(BLOCK);
        }
        Ok(slots)
    }
}

/// Compresses frames, one after the other.
pub(crate) struct Squeezer {
    zstd: zstd::bulk::Compressor<'static>,
    /// Used again for each frame.
    packed: Vec<u8>,
}

impl Squeezer {
    pub(crate) fn new() -> Result<Squeezer> {
        let make = || {
            let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
            compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
            Ok::<_, std::io::Error>(compressor)
        };
        make().map(|zstd| Squeezer { zstd, packed: Vec::new() }).or_say(|| "cannot start zstd")
    }

    /// The compressed frame, until the next one.
    pub(crate) fn squeeze(&mut self, tar: &[u8]) -> Result<&[u8]> {
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(tar.len()));
        self.zstd.compress_to_buffer(tar, &mut self.packed).or_say(|| "cannot compress")?;
        Ok(&self.packed)
    }
}

/// An object of an archive that is being written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) slot: Slot,
    /// Where the frame begins in the archive.
    pub(crate) frame: u64,
    /// How long it is, compressed.
    pub(crate) packed: u64,
}

/// A complete archive.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) name: ArchiveName,
    pub(crate) bytes: u64,
    pub(crate) rows: Vec<Row>,
}

/// An archive that is being written; dropped unsealed, it is removed.
#[derive(Debug)]
pub(crate) struct ArchiveWriter {
    file: File,
    path: PathBuf,
    hash: blake3::Hasher,
    bytes: u64,
    rows: Vec<Row>,
}

impl ArchiveWriter {
    pub(crate) fn create(tmp: &Path) -> Result<ArchiveWriter> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = tmp.join(format!("archive-{}-{number}", std::process::id()));
            match File::options().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    return Ok(ArchiveWriter { file, path, hash: blake3::Hasher::new(), bytes: 0, rows: Vec::new() });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::new(format!("cannot create `{}`", path.display())).because(e)),
            }
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).or_say(|| format!("cannot write `{}`", self.path.display()))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Appends a compressed frame.
    pub(crate) fn write(&mut self, slots: &[Slot], packed: &[u8]) -> Result<()> {
        let frame = self.bytes;
        self.append(packed)?;
        self.rows.extend(slots.iter().map(|&slot| Row { slot, frame, packed: packed.len() as u64 }));
        Ok(())
    }

    /// Ends the tar stream, makes it durable and gives it its name below `archives`.
    pub(crate) fn seal(mut self, archives: &Path, squeezer: &mut Squeezer) -> Result<Sealed> {
        let end = squeezer.squeeze(&[0; 2 * BLOCK])?;
        self.append(end)?;
        let name = ObjectId::from_bytes(*self.hash.finalize().as_bytes());
        let to = path_of(archives, name);
        let dir = to.parent().expect("an archive has a folder");
        let publish = || -> std::io::Result<()> {
            self.file.sync_all()?;
            match std::fs::DirBuilder::new().mode(0o700).create(dir) {
                Ok(()) => File::open(archives)?.sync_all()?,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            std::fs::rename(&self.path, &to)?;
            File::open(dir)?.sync_all()
        };
        publish().or_say(|| format!("cannot write the archive `{}`", to.display()))?;
        Ok(Sealed { name, bytes: self.bytes, rows: std::mem::take(&mut self.rows) })
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        // After `seal` the name is gone already; a leftover is swept with the whole of `tmp`.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads frames, one after the other, into the same memory.
#[derive(Default)]
pub(crate) struct Opener {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    packed: Vec<u8>,
    tar: Vec<u8>,
}

impl Opener {
    /// The tar stream of the frame that begins at `frame` and is `packed` bytes long, until the next one.
    pub(crate) fn read(&mut self, file: &File, frame: u64, packed: u64) -> Result<&[u8]> {
        let damaged = |why: String| {
            Error::new(format!("the frame at byte {frame} cannot be read")).because(why).fault(Fault::Damage)
        };
        let have = file.metadata().map_err(|e| damaged(e.to_string()))?.len();
        if frame.checked_add(packed).is_none_or(|end| end > have) {
            return Err(damaged(format!("the archive has only {have} bytes")));
        }
        self.packed.resize(packed as usize, 0);
        file.read_exact_at(&mut self.packed, frame).map_err(|e| damaged(e.to_string()))?;
        self.decode().map_err(damaged)?;
        Ok(&self.tar)
    }

    /// The tar stream that was read last.
    pub(crate) fn into_tar(self) -> Vec<u8> {
        self.tar
    }

    fn decode(&mut self) -> std::result::Result<(), String> {
        let size = match zstd::zstd_safe::get_frame_content_size(&self.packed) {
            Ok(Some(size)) if size <= FRAME_LIMIT => size,
            _ => return Err("it does not begin like a zstd frame of ours".into()),
        };
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?),
        };
        self.tar.clear();
        self.tar.reserve(size as usize);
        zstd.decompress_to_buffer(&self.packed, &mut self.tar).map_err(|e| e.to_string()).map(drop)
    }
}

fn decode(bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let mut opener = Opener { packed: bytes.to_vec(), ..Opener::default() };
    opener.decode()?;
    Ok(opener.into_tar())
}

/// The BLAKE3 of an archive's file, and its bytes.
pub(crate) fn hash(path: &Path) -> Result<(ObjectId, u64)> {
    let cannot = || format!("cannot read the archive `{}`", path.display());
    let mut file = File::open(path).or_say(cannot)?;
    let mut hash = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((ObjectId::from_bytes(*hash.finalize().as_bytes()), bytes)),
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).or_say(cannot),
        }
    }
}

/// Gives `each` every frame of an archive in order: where it begins, its compressed length, its tar stream or what is
/// wrong with it. Returns the BLAKE3 of the file. Fails where the next frame's end cannot be found.
pub(crate) fn frames(
    path: &Path,
    each: &mut dyn FnMut(u64, u64, std::result::Result<Vec<u8>, String>) -> Result<()>,
) -> Result<ObjectId> {
    let cannot = || format!("cannot read the archive `{}`", path.display());
    let (name, _) = hash(path)?;
    let mut file = File::open(path).or_say(cannot)?;
    let (mut window, mut at, mut ended) = (Vec::new(), 0u64, false);
    loop {
        match zstd::zstd_safe::find_frame_compressed_size(&window) {
            Ok(packed) if !window.is_empty() => {
                each(at, packed as u64, decode(&window[..packed]))?;
                window.drain(..packed);
                at += packed as u64;
            }
            _ if ended && window.is_empty() => return Ok(name),
            _ if ended => {
                return Err(Error::new(format!("the archive `{}` is damaged", path.display()))
                    .because(format!("no frame begins at byte {at}"))
                    .fault(Fault::Damage));
            }
            _ => {
                let more = (&mut file).take(FRAME_BYTES as u64).read_to_end(&mut window).or_say(cannot)?;
                ended = more == 0;
            }
        }
    }
}

/// Every archive below `archives`, by name; files of other names are left alone.
pub(crate) fn list(archives: &Path) -> Result<Vec<(ArchiveName, u64)>> {
    let cannot = || format!("cannot list `{}`", archives.display());
    let mut found = Vec::new();
    for folder in std::fs::read_dir(archives).or_say(cannot)? {
        let folder = folder.or_say(cannot)?;
        if folder.file_name().len() != 2 {
            continue;
        }
        for file in std::fs::read_dir(folder.path()).or_say(cannot)? {
            let file = file.or_say(cannot)?;
            let name = file.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(".tar.zst"));
            if let Some(Ok(name)) = hex.map(str::parse) {
                found.push((name, file.metadata().or_say(cannot)?.len()));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}
