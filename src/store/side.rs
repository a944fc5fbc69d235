//! Side copies: what a transaction displaced, and what it is about to put in place.
//!
//! They are named `.txupgrade-<TX>-…` and stand beside the resource, on its filesystem; nobody captures, compares or
//! restores them. The engine sweeps them after the transaction's end.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::live::{Anchor, Facts, beneath};
use super::manifest::{Time, Type};
use super::meta;
use crate::error::{Error, OrSay, Result};

/// The name of a side copy of a transaction.
pub fn side_name(tx: &str, what: &str) -> String {
    format!(".txupgrade-{tx}-{what}")
}

/// Whether a file's name is that of a side copy of any transaction.
pub fn is_side_name(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b".txupgrade-") else { return false };
    let mut parts = rest.split(|&byte| byte == b'-').skip(1).peekable();
    // A plan's name may hold dashes and numbers itself: some part must be a number, with more behind it.
    while let Some(part) = parts.next() {
        let number = !part.is_empty() && part[0] != b'0' && part.iter().all(u8::is_ascii_digit);
        if number && parts.peek().is_some() {
            return true;
        }
    }
    false
}

/// Where a restore of the resource at `path` may have left displaced copies.
pub fn side_paths(tx: &str, path: &Path) -> Vec<PathBuf> {
    let name = side_name(tx, "aside");
    let resolved = |path: &Path| path.parent().and_then(|parent| parent.canonicalize().ok());
    let mut paths: Vec<PathBuf> = Vec::new();
    for candidate in [resolved(path).map(|parent| parent.join(&name)), Some(path.join(&name))].into_iter().flatten() {
        if !paths.contains(&candidate) {
            paths.push(candidate);
        }
    }
    paths
}

/// One restore's place for what it displaces and builds.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) dir: OwnedFd,
    pub(crate) path: PathBuf,
    /// Whether it is beside the resource or in it.
    spot: Spot,
    /// The directory that holds `.txupgrade-<TX>-aside`, whose times are not to change.
    holder: OwnedFd,
    holder_mtime: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    Beside,
    Inside,
}

impl Side {
    /// Makes `.txupgrade-<TX>-aside/<n>/` beside the resource, or in it where beside is another filesystem or not ours
    /// to write.
    pub(crate) fn make(anchor: &Anchor, tx: &str) -> Result<Side> {
        let name = side_name(tx, "aside");
        let cannot = || format!("cannot make a directory for displaced copies beside `{}`", anchor.shown(b""));
        let root = match Facts::of(&anchor.dir, &anchor.name) {
            Ok(facts) => Some(facts),
            Err(Errno::NOENT) => None,
            Err(e) => return Err(Error::new(cannot()).because(e)),
        };
        let parent = Facts::of(&anchor.dir, b"").or_say(cannot)?;
        let root = root.filter(|root| root.kind == Type::Dir);
        let same_place = root.is_none_or(|root| root.place == parent.place);
        let beside = || -> rustix::io::Result<Side> {
            let holder = rustix::io::fcntl_dupfd_cloexec(&anchor.dir, 3)?;
            Side::make_in(holder, anchor.parent.clone(), &name, Spot::Beside)
        };
        let inside = || -> rustix::io::Result<Side> {
            let holder = anchor.open(b"", OFlags::PATH | OFlags::DIRECTORY)?;
            Side::make_in(holder, anchor.root(), &name, Spot::Inside)
        };
        let made = if same_place {
            match beside() {
                Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) if root.is_some() => inside(),
                made => made,
            }
        } else {
            inside()
        };
        made.or_say(cannot)
    }

    fn make_in(holder: OwnedFd, path: PathBuf, name: &str, spot: Spot) -> rustix::io::Result<Side> {
        let holder_mtime = Facts::of(&holder, b"")?.mtime;
        let made = match rustix::fs::mkdirat(&holder, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(e),
        };
        let top = beneath(&holder, name.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let facts = Facts::of(&top, b"")?;
        if facts.uid != rustix::process::geteuid().as_raw() || (!made && facts.mode & 0o077 != 0) {
            return Err(Errno::PERM);
        }
        // A default ACL or a group bit of the parent must not be inherited by what is built here.
        for (name, _) in meta::xattrs(&top)? {
            if name.0.starts_with(b"system.posix_acl") {
                rustix::fs::removexattr(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&top)), &name.0)?;
            }
        }
        rustix::fs::fchmod(&top, Mode::RWXU)?;
        let mut number = 1u32;
        let run = loop {
            let run = number.to_string();
            match rustix::fs::mkdirat(&top, &run, Mode::RWXU) {
                Ok(()) => break run,
                Err(Errno::EXIST) => number += 1,
                Err(e) => return Err(e),
            }
        };
        let dir = beneath(&top, run.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let side = Side { dir, path: path.join(name).join(run), spot, holder, holder_mtime };
        side.keep_time();
        Ok(side)
    }

    /// After the resource was put in place: the parent's time is not the resource's to change.
    pub(crate) fn keep_parent_time(&self) {
        if self.spot == Spot::Beside {
            self.keep_time();
        }
    }

    /// Sets the modification time of the directory around it back to what it was.
    fn keep_time(&self) {
        // Where that is not allowed the directory is not part of the resource.
        let _ = meta::set_mtime(&self.holder, self.holder_mtime);
    }

    /// Writes everything on its filesystem to disk.
    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.dir).or_say(|| format!("cannot sync the filesystem of `{}`", self.path.display()))
    }

    /// Removes what was built in it, after a failure before the first change.
    pub(crate) fn discard(self) {
        // What is left is swept after the transaction's end.
        let _ = crate::sys::files::remove_tree(&self.path);
        if let Some(top) = self.path.parent().and_then(Path::file_name) {
            let _ = rustix::fs::unlinkat(&self.holder, top, AtFlags::REMOVEDIR);
        }
        self.keep_time();
    }
}
