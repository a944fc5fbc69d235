//! The database as a file: what stands at its path, and the attributes that a restore gives back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde::{Deserialize, Serialize};

use crate::error::{Error, OrSay, Result};

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File,
    /// In words: `a directory`.
    Other(&'static str),
}

/// Looks without following a link.
pub(super) fn found(path: &Path) -> Result<Found> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_file() => Ok(Found::File),
        Ok(meta) if meta.is_dir() => Ok(Found::Other("a directory")),
        Ok(meta) if meta.is_symlink() => Ok(Found::Other("a symbolic link")),
        Ok(_) => Ok(Found::Other("a device or the like")),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Found::Nothing),
        Err(error) => Err(Error::new(format!("cannot look at `{}`", path.display())).because(error)),
    }
}

/// Owner and mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Access {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Access {
    pub(super) fn of(path: &Path) -> Result<Access> {
        let meta = path.symlink_metadata().or_say(|| format!("cannot look at `{}`", path.display()))?;
        Ok(Access { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() })
    }

    /// Owner first: a change of owner drops setuid.
    pub(super) fn give(&self, path: &Path) -> Result<()> {
        if Access::of(path)? == *self {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid))
            .or_say(|| format!("cannot give `{}` to {}:{}", path.display(), self.uid, self.gid))?;
        fs::set_permissions(path, Permissions::from_mode(self.mode))
            .or_say(|| format!("cannot set the mode of `{}`", path.display()))
    }
}

/// Everything about the file that is not its content. The time is given back but never compared: SQLite touches the
/// file of a database that nobody changes, at every checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    #[serde(flatten)]
    pub(super) access: Access,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
    /// Extended attributes (access control lists are some), values in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) xattrs: BTreeMap<String, String>,
}

impl Attributes {
    pub(super) fn of(path: &Path) -> Result<Attributes> {
        let meta = path.symlink_metadata().or_say(|| format!("cannot look at `{}`", path.display()))?;
        let mut xattrs = BTreeMap::new();
        // A filesystem without extended attributes has none.
        for name in xattr::list(path).into_iter().flatten() {
            let value =
                xattr::get(path, &name).or_say(|| format!("cannot read the attributes of `{}`", path.display()))?;
            if let (Some(name), Some(value)) = (name.to_str(), value) {
                xattrs.insert(name.to_owned(), value.iter().map(|byte| format!("{byte:02x}")).collect());
            }
        }
        Ok(Attributes { access: Access::of(path)?, mtime: (meta.mtime(), meta.mtime_nsec()), xattrs })
    }

    /// Makes the file at `path` have these; the time last.
    pub(super) fn give(&self, path: &Path) -> Result<()> {
        let say = || format!("cannot set the attributes of `{}`", path.display());
        self.access.give(path)?;
        let there = Attributes::of(path)?.xattrs;
        for name in there.keys().filter(|name| !self.xattrs.contains_key(*name)) {
            xattr::remove(path, name).or_say(say)?;
        }
        for (name, value) in &self.xattrs {
            if there.get(name) != Some(value) {
                xattr::set(path, OsStr::from_bytes(name.as_bytes()), &from_hex(value)).or_say(say)?;
            }
        }
        self.give_time(path)
    }

    /// Only the time.
    pub(super) fn give_time(&self, path: &Path) -> Result<()> {
        let time = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .or_say(|| format!("cannot set the times of `{}`", path.display()))
    }

    /// In which respects the live file differs.
    pub(super) fn details(&self, live: &Attributes) -> Vec<String> {
        let mut details = Vec::new();
        if self.access.mode != live.access.mode {
            details.push(format!("mode {:o} -> {:o}", self.access.mode, live.access.mode));
        }
        let owner = |access: &Access| format!("{}:{}", access.uid, access.gid);
        if owner(&self.access) != owner(&live.access) {
            details.push(format!("owner {} -> {}", owner(&self.access), owner(&live.access)));
        }
        if self.xattrs != live.xattrs {
            details.push("extended attributes".to_owned());
        }
        details
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The path with the links of its parents resolved, as far as they are there.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let mut rest = PathBuf::from(name);
    for above in parent.ancestors() {
        if let Ok(real) = fs::canonicalize(above) {
            return real.join(rest);
        }
        if let Some(name) = above.file_name() {
            rest = Path::new(name).join(rest);
        }
    }
    path.to_owned()
}
