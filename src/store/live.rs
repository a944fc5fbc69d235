//! The live tree, reached through one directory descriptor: the parent of the resource.
//!
//! Promises: no path is ever followed through a symlink below the anchor, so nothing outside the resource is read or
//! written, whatever was put in the place of a directory.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::manifest::{Time, Type};
use super::object::Bytes;
use crate::error::{Error, OrSay, Result};

/// What the system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: Type,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Time,
    pub(crate) ctime: Time,
    pub(crate) ino: u64,
    pub(crate) nlink: u64,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) rdev: (u32, u32),
    /// Where it lies.
    pub(crate) place: Place,
}

/// A device, and the mount where the system tells.
pub(crate) type Place = (u32, u32, Option<u64>);

impl Facts {
    /// Of `name` in `dir`, or of `dir` itself when `name` is empty. A symlink is not followed.
    pub(crate) fn of(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Facts> {
        const MNT_ID: StatxFlags = StatxFlags::MNT_ID;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let s = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | MNT_ID)?;
        let time = |t: rustix::fs::StatxTimestamp| Time(t.tv_sec, t.tv_nsec);
        let kind = match FileType::from_raw_mode(s.stx_mode.into()) {
            FileType::RegularFile => Type::File,
            FileType::Directory => Type::Dir,
            FileType::Symlink => Type::Symlink,
            FileType::Fifo => Type::Fifo,
            FileType::Socket => Type::Socket,
            FileType::BlockDevice => Type::Block,
            FileType::CharacterDevice => Type::Char,
            _ => return Err(Errno::NOTSUP),
        };
        let mount = (s.stx_mask & MNT_ID.bits() != 0).then_some(s.stx_mnt_id);
        Ok(Facts {
            kind,
            mode: u32::from(s.stx_mode) & 0o7777,
            uid: s.stx_uid,
            gid: s.stx_gid,
            mtime: time(s.stx_mtime),
            atime: time(s.stx_atime),
            ctime: time(s.stx_ctime),
            ino: s.stx_ino,
            nlink: s.stx_nlink.into(),
            size: s.stx_size,
            blocks: s.stx_blocks,
            rdev: (s.stx_rdev_major, s.stx_rdev_minor),
            place: (s.stx_dev_major, s.stx_dev_minor, mount),
        })
    }

    /// Whether it lies on what is mounted at `place`. Files of an overlay have the device of their layer, and directories
    /// that of the whole: where the mount is known it alone tells of a file.
    pub(crate) fn lies_in(&self, place: Place) -> bool {
        match (self.kind, self.place.2, place.2) {
            (Type::Dir, ..) | (_, None, _) | (_, _, None) => self.place == place,
            (_, own, there) => own == there,
        }
    }

    /// Which file it is, whatever its name.
    pub(crate) fn identity(&self) -> (u32, u32, u64) {
        (self.place.0, self.place.1, self.ino)
    }
}

/// The resource's root, seen from its parent.
#[derive(Debug)]
pub(crate) struct Anchor {
    /// The parent.
    pub(crate) dir: OwnedFd,
    /// The parent's path, without symlinks.
    pub(crate) parent: PathBuf,
    /// The root's name in it.
    pub(crate) name: Vec<u8>,
}

impl Anchor {
    /// `None`: not even the parent is there.
    pub(crate) fn at(root: &Path) -> Result<Option<Anchor>> {
        let Some((parent, name)) = root.parent().zip(root.file_name()) else {
            return Err(Error::new(format!("`{}` cannot be captured or restored as a whole", root.display())));
        };
        let cannot = || format!("cannot open `{}`", parent.display());
        let canonical = match parent.canonicalize() {
            Ok(path) => path,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(Error::new(cannot()).because(e)),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, &canonical, flags, Mode::empty()).or_say(cannot)?;
        Ok(Some(Anchor { dir, parent: canonical, name: name.as_bytes().to_vec() }))
    }

    /// The root's path, symlinks of its parents resolved.
    pub(crate) fn root(&self) -> PathBuf {
        self.parent.join(std::ffi::OsStr::from_bytes(&self.name))
    }

    /// An entry's path from the anchor.
    pub(crate) fn anchored(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() { self.name.clone() } else { [&self.name, &b"/"[..], path].concat() }
    }

    /// An entry's path for people.
    pub(crate) fn shown(&self, path: &[u8]) -> String {
        let parent = self.parent.as_os_str().as_bytes();
        let parent = if parent == b"/" { &b""[..] } else { parent };
        Bytes([parent, b"/", &self.anchored(path)].concat()).to_string()
    }

    /// The entry's facts; `None` when it is not there.
    pub(crate) fn facts(&self, path: &[u8]) -> Result<Option<Facts>> {
        let said = |e: Errno| Error::new(format!("cannot look at `{}`", self.shown(path))).because(e);
        match self.open(path, OFlags::PATH) {
            Ok(fd) => Facts::of(fd, b"").map(Some).map_err(said),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(said(e)),
        }
    }

    /// Opens an entry without following any symlink.
    pub(crate) fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        beneath(&self.dir, &self.anchored(path), flags)
    }

    /// Opens an entry's directory; the name it has there.
    pub(crate) fn open_parent<'p>(&'p self, path: &'p [u8]) -> rustix::io::Result<(OwnedFd, &'p [u8])> {
        if path.is_empty() {
            return Ok((rustix::io::fcntl_dupfd_cloexec(&self.dir, 3)?, &self.name));
        }
        let (parent, name) = split(path);
        Ok((self.open(parent, OFlags::PATH | OFlags::DIRECTORY)?, name))
    }
}

/// A relative path's parent and last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Opens for reading without changing the access time where that is allowed.
pub(crate) fn open_quietly(dir: impl AsFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match beneath(dir.as_fd(), path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => beneath(dir, path, flags),
        done => done,
    }
}

/// Opens `path` below `dir`; fails with `ELOOP` where a symlink stands on the way. A symlink at the end is opened itself
/// with `O_PATH`.
pub(crate) fn beneath(dir: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    static NO_OPENAT2: AtomicBool = AtomicBool::new(false);
    const LONGEST: usize = 4000;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.len() < LONGEST && !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(dir.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => NO_OPENAT2.store(true, Ordering::Relaxed),
            // A rename elsewhere got in its way.
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    let mut names = path.split(|&byte| byte == b'/').peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let flags = match names.peek() {
            Some(_) => OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            None => flags,
        };
        let from = at.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
        at = Some(rustix::fs::openat(from, name, flags, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

/// Creates (or opens) a file below `dir` for writing, mode 0600.
pub(crate) fn create(dir: impl AsFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match split(path) {
        (b"", name) => rustix::fs::openat(dir, name, flags, mode),
        (parent, name) => {
            let parent = beneath(dir, parent, OFlags::PATH | OFlags::DIRECTORY)?;
            rustix::fs::openat(parent, name, flags, mode)
        }
    }
}
