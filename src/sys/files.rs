//! Durable effects on files: write beside, fsync, rename, fsync the directory.
//!
//! Promise: after a crash at any instant each path has its old content or its new one, and nothing here ever
//! follows a symlink at the end of a path it changes.

mod owned;
mod remove;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use owned::{only_owner_writes, only_trusted_write};
pub use remove::remove_tree;

use super::process;
use crate::error::{Error, OrSay, Result};

/// Puts `bytes` at `path` so that after a crash there is either the old content or the new: a temporary file beside it, fsync, rename, fsync of the directory. Mode 0600 for new files; an old file's mode and owner are kept.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    write_durably_through(&beside(parent(path)), path, bytes)
}

/// The same by a temporary file of the caller's choice, in the directory of `path`: who knows its name can remove it
/// after a death.
pub fn write_durably_through(beside: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let say = || format!("cannot write `{}`", path.display());
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(beside)?;
        file.write_all(bytes)?;
        match std::fs::symlink_metadata(path) {
            Ok(old) if old.is_file() => {
                let new = file.metadata()?;
                if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                    std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
                }
                file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
            }
            Ok(old) if old.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            _ => {}
        }
        file.sync_all()?;
        std::fs::rename(beside, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(beside);
    }
    written.or_say(say)?;
    sync_dir(parent(path))
}

/// Removes the temporary files that [`write_durably`] left in `dir` when its process died.
pub fn sweep_beside(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(BESIDE)) else { continue };
        let mut parts = rest.split('-');
        let pid = parts.next().and_then(|pid| pid.parse().ok());
        let since = parts.next().and_then(|since| u64::from_str_radix(since, 16).ok());
        if pid.zip(since).is_some_and(|(pid, since)| process::is_gone(pid, since)) {
            // What cannot be removed is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// [`remove_tree`] for something that only stood beside what counts: the times of its directory are left as they were. Durable when it returns.
pub fn remove_beside(path: &Path) -> Result<()> {
    let dir = parent(path);
    let before = std::fs::symlink_metadata(dir);
    remove_tree(path)?;
    if let Ok(before) = before {
        let time = |seconds: i64, nanoseconds: i64| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = rustix::fs::Timestamps {
            last_access: time(before.atime(), before.atime_nsec()),
            last_modification: time(before.mtime(), before.mtime_nsec()),
        };
        rustix::fs::utimensat(rustix::fs::CWD, dir, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .or_say(|| format!("cannot set the times of `{}`", dir.display()))?;
        sync_dir(dir)?;
    }
    Ok(())
}

/// Everything that was written on the filesystem of `path`, and every name on it, is on disk when this returns. Where
/// `path` is no directory, it is that of the nearest one above.
pub fn sync_filesystem(path: &Path) -> Result<()> {
    let is_dir = |path: &&Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let dir = path.ancestors().find(is_dir).unwrap_or(Path::new("/"));
    match File::open(dir) {
        Ok(dir) => rustix::fs::syncfs(&dir).or_say(|| format!("cannot sync the filesystem of `{}`", path.display())),
        // It may be searched and not read.
        Err(_) => {
            rustix::fs::sync();
            Ok(())
        }
    }
}

/// fsync of a directory.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).or_say(|| format!("cannot sync the directory `{}`", path.display()))
}

/// rename, then fsync of both directories. What stood at `to` is replaced, as rename does.
pub fn rename_durably(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).or_say(|| format!("cannot rename `{}` to `{}`", from.display(), to.display()))?;
    // The new name first: a crash in between leaves two names rather than none.
    sync_dir(parent(to))?;
    if parent(from) != parent(to) {
        sync_dir(parent(from))?;
    }
    Ok(())
}

/// Removes a file, then fsync of its directory. Missing is fine.
pub fn remove_durably(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(cause).or_say(|| format!("cannot remove `{}`", path.display())),
    }
}

/// Creates a directory and its parents with mode 0700; those that exist are left as they are.
pub fn create_private_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(cause) => Err(cause).or_say(|| format!("cannot create the directory `{}`", path.display())),
    }
}

/// Gives a directory of ours mode 0700, whatever the umask was when it was made.
pub fn make_private(path: &Path) -> Result<()> {
    let dir = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY).open(path);
    dir.and_then(|dir| dir.set_permissions(std::fs::Permissions::from_mode(0o700)))
        .or_say(|| format!("cannot make the directory `{}` private", path.display()))
}

/// Opens for reading without following a symlink at the end, and without waiting for a writer when it is a FIFO.
pub fn open_nofollow(path: &Path) -> Result<File> {
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    match opened {
        Err(cause) if cause.raw_os_error() == Some(libc::ELOOP) => {
            Err(Error::new(format!("cannot open `{}`", path.display())).because("it is a symlink"))
        }
        opened => opened.or_say(|| format!("cannot open `{}`", path.display())),
    }
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in `dir` that nobody has; short, so that it fits wherever any name does.
fn beside(dir: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = super::clock::since_boot();
    dir.join(format!("{BESIDE}{}-{now:x}-{next}", std::process::id()))
}

/// How the names of temporary files begin; a pid and the time since boot follow.
const BESIDE: &str = ".txupgrade-new-";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_file_is_private_and_an_old_one_keeps_its_mode_and_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(255));
        write_durably(&path, b"one").unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4751)).unwrap();
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4751)).unwrap();
        write_durably(&path, b"two").unwrap();
        let meta = path.metadata().unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o4751, 1234, 4321));
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()).len(), 1);
    }

    #[test]
    fn a_symlink_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_durably(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"kept");
        assert!(link.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind_and_says_what_failed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("there");
        std::fs::create_dir(&path).unwrap();
        let error = write_durably(&path, b"x").unwrap_err();
        assert_eq!(error.statement, format!("cannot write `{}`", path.display()));
        assert_eq!(error.causes, ["is a directory"]);
        assert_eq!(names(dir.path()), ["there"]);
        let error = write_durably(&dir.path().join("no/where"), b"x").unwrap_err();
        assert_eq!(error.causes, ["No such file or directory (os error 2)"]);
    }

    #[test]
    fn what_dead_processes_left_beside_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let now = crate::sys::clock::since_boot();
        let kept = [
            format!("{BESIDE}{}-{now:x}-0", std::process::id()),
            format!("{BESIDE}notes"),
            ".txupgrade-notes-1-old-unpack".to_owned(),
        ];
        for name in &kept {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        // No such process, and one of another boot.
        for (pid, since) in [(u32::MAX, now), (std::process::id(), u64::MAX)] {
            std::fs::write(dir.path().join(format!("{BESIDE}{pid}-{since:x}-3")), "").unwrap();
        }
        sweep_beside(dir.path());
        let mut left = names(dir.path());
        left.sort();
        let mut kept = kept.to_vec();
        kept.sort();
        assert_eq!(left, kept);
    }

    #[test]
    fn private_directories_are_0700_and_old_ones_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        create_private_dir(&path).unwrap();
        assert_eq!(dir.path().join("a").metadata().unwrap().mode() & 0o7777, 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        create_private_dir(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o755);
    }

    #[test]
    fn opening_does_not_follow_a_symlink_nor_wait_for_a_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let error = open_nofollow(&link).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot open `{}`: it is a symlink", link.display()));
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        open_nofollow(&fifo).unwrap();
    }

    #[test]
    fn renames_across_directories() {
        let dir = tempfile::tempdir().unwrap();
        create_private_dir(&dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("x"), "x").unwrap();
        rename_durably(&dir.path().join("x"), &dir.path().join("a/y")).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a/y")).unwrap(), b"x");
    }
}
