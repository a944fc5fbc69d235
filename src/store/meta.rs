//! Metadata: read from what is there, and put back.
//!
//! Everything goes through a descriptor that was opened without following symlinks; where the system has no call for
//! such a descriptor, through its name below `/proc/self/fd`.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::live::Facts;
use super::manifest::{Entry, Time, Type};
use super::object::Bytes;

/// The descriptor's name.
fn name_of(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// All extended attributes, sorted by name.
pub(crate) fn xattrs(fd: &OwnedFd) -> rustix::io::Result<Vec<(Bytes, Bytes)>> {
    let path = name_of(fd);
    let mut buffer = [0u8; 4096];
    let list = match rustix::fs::listxattr(&path, &mut buffer[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => buffer[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = Vec::with_capacity(64 << 10);
            rustix::fs::listxattr(&path, rustix::buffer::spare_capacity(&mut list))?;
            list
        }
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::with_capacity(256);
        let mut got = rustix::fs::getxattr(&path, name, rustix::buffer::spare_capacity(&mut value));
        if got == Err(Errno::RANGE) {
            value.reserve(64 << 10);
            got = rustix::fs::getxattr(&path, name, rustix::buffer::spare_capacity(&mut value));
        }
        match got {
            Ok(_) => found.push((Bytes(name.to_vec()), Bytes(value))),
            // Removed a moment ago, or not ours to read.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// An entry with these facts; content, links and extended attributes are still missing.
pub(crate) fn entry(path: Vec<u8>, facts: &Facts) -> Entry {
    let device = matches!(facts.kind, Type::Block | Type::Char).then_some(facts.rdev);
    Entry {
        path: Bytes(path),
        kind: facts.kind,
        mode: facts.mode,
        uid: facts.uid,
        gid: facts.gid,
        mtime: facts.mtime,
        ctime: facts.ctime,
        ino: facts.ino,
        nlink: if facts.kind != Type::Dir && facts.nlink > 1 { facts.nlink } else { 0 },
        size: if facts.kind == Type::File { facts.size } else { 0 },
        device,
        ..Entry::default()
    }
}

/// In which respects the metadata differ, seen from the snapshot.
pub(crate) fn differences(entry: &Entry, facts: &Facts, xattrs: Option<&[(Bytes, Bytes)]>) -> Vec<String> {
    let mut details = Vec::new();
    if entry.mode != facts.mode && entry.kind != Type::Symlink {
        details.push(format!("mode {:o} -> {:o}", entry.mode, facts.mode));
    }
    if (entry.uid, entry.gid) != (facts.uid, facts.gid) {
        details.push(format!("owner {}:{} -> {}:{}", entry.uid, entry.gid, facts.uid, facts.gid));
    }
    if entry.mtime != facts.mtime {
        details.push("mtime".into());
    }
    if let Some(xattrs) = xattrs {
        let missing = entry.xattrs.iter().filter(|pair| !xattrs.contains(pair)).map(|(name, _)| name);
        let extra = xattrs
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !is_automatic(name) && !entry.xattrs.iter().any(|(known, _)| known == *name));
        let mut names: Vec<&Bytes> = missing.chain(extra).collect();
        names.sort_unstable();
        details.extend(names.into_iter().map(|name| format!("xattr {name}")));
    }
    details
}

/// Attributes that the system gives by itself, so that one too many is no difference.
fn is_automatic(name: &Bytes) -> bool {
    matches!(&name.0[..], b"security.selinux" | b"security.evm" | b"security.ima")
}

/// Makes the metadata those of `entry`. Owners come first, since changing them clears capabilities and setuid bits;
/// then attributes, whose ACLs touch the mode; then the mode; then the times.
pub(crate) fn apply(fd: &OwnedFd, entry: &Entry) -> rustix::io::Result<()> {
    let path = name_of(fd);
    let facts = Facts::of(fd, b"")?;
    if (facts.uid, facts.gid) != (entry.uid, entry.gid) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(entry.uid), rustix::fs::Gid::from_raw(entry.gid));
        rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    let have = xattrs(fd)?;
    for (name, _) in &have {
        if !is_automatic(name) && !entry.xattrs.iter().any(|(wanted, _)| wanted == name) {
            rustix::fs::removexattr(&path, &name.0)?;
        }
    }
    for pair in entry.xattrs.iter().filter(|pair| !have.contains(pair)) {
        rustix::fs::setxattr(&path, &pair.0.0, &pair.1.0, XattrFlags::empty())?;
    }
    if entry.kind != Type::Symlink && Facts::of(fd, b"")?.mode != entry.mode {
        rustix::fs::chmod(&path, Mode::from_raw_mode(entry.mode))?;
    }
    set_mtime(fd, entry.mtime)
}

/// The same for a file that was made just now by ourselves, mode 0600, in a directory that hands nothing down.
pub(crate) fn apply_to_new(file: &std::fs::File, entry: &Entry) -> rustix::io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if (uid.as_raw(), gid.as_raw()) != (entry.uid, entry.gid) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(entry.uid), rustix::fs::Gid::from_raw(entry.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    for (name, value) in &entry.xattrs {
        rustix::fs::fsetxattr(file, &name.0[..], &value.0, XattrFlags::empty())?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
    rustix::fs::futimens(file, &only_mtime(entry.mtime))
}

fn only_mtime(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() },
    }
}

/// Sets the modification time and leaves the access time alone.
pub(crate) fn set_mtime(fd: &OwnedFd, mtime: Time) -> rustix::io::Result<()> {
    rustix::fs::utimensat(CWD, name_of(fd), &only_mtime(mtime), AtFlags::empty())
}
