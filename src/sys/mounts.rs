//! What is mounted where, from `/proc/self/mountinfo`; and how much room there is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{OrSay, Result};

/// Mount points strictly below `path`, sorted. A symlink at the end of `path` is not followed. An error when the
/// kernel's list cannot be read.
pub fn below(path: &Path) -> Result<Vec<PathBuf>> {
    let path = real(path)?;
    let mut found: Vec<PathBuf> = all()?.into_iter().filter(|at| *at != path && at.starts_with(&path)).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether something is mounted at exactly `path`. An error when the kernel's list cannot be read.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    let path = real(path)?;
    Ok(all()?.contains(&path))
}

/// Bytes that a user like us may still write on the filesystem that holds `path` (or its nearest existing parent).
/// What is reserved for root is not counted, as in `df`.
pub fn free(path: &Path) -> Result<u64> {
    let room = nearest(path, |path| rustix::fs::statvfs(path))?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// How many files may still be made there; `None` where nothing limits that.
pub fn free_inodes(path: &Path) -> Result<Option<u64>> {
    let room = nearest(path, |path| rustix::fs::statvfs(path))?;
    Ok((room.f_files > 0).then_some(room.f_favail))
}

/// How many bytes that filesystem has in all.
pub fn size(path: &Path) -> Result<u64> {
    let room = nearest(path, |path| rustix::fs::statvfs(path))?;
    Ok(room.f_blocks.saturating_mul(room.f_frsize))
}

/// A number for the filesystem that holds `path` (or its nearest existing parent): equal where they share their room.
pub fn device(path: &Path) -> Result<u64> {
    Ok(nearest(path, |path| rustix::fs::stat(path))?.st_dev)
}

/// What `ask` says of `path` or of its nearest existing parent.
fn nearest<T>(path: &Path, ask: impl Fn(&Path) -> rustix::io::Result<T>) -> Result<T> {
    let absolute = std::path::absolute(path).or_say(|| format!("cannot tell where `{}` is", path.display()))?;
    let mut here = absolute.as_path();
    loop {
        match (ask(here), here.parent()) {
            (Ok(answer), _) => return Ok(answer),
            (Err(Errno::NOENT | Errno::NOTDIR), Some(parent)) => here = parent,
            (Err(cause), _) => {
                return Err(cause).or_say(|| format!("cannot look at the filesystem of `{}`", path.display()));
            }
        }
    }
}

/// Every mount point.
fn all() -> Result<Vec<PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo").or_say(|| "cannot read the list of mounts")?;
    Ok(parse(&text))
}

/// The mount points in the text of a `mountinfo`.
fn parse(text: &[u8]) -> Vec<PathBuf> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescaped(field))))
        .collect()
}

/// `\040` and its like as the bytes they stand for.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) if first == b'\\' => {
                out.push(digits.iter().fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')));
                rest = &after[3..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// `path` with every symlink resolved but one at its end, so that it can be compared with the kernel's list.
/// What does not exist is taken as it is written.
pub(crate) fn real(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).or_say(|| format!("cannot tell where `{}` is", path.display()))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(std::fs::canonicalize(&absolute).unwrap_or(absolute));
    };
    match std::fs::canonicalize(parent) {
        Ok(parent) => Ok(parent.join(name)),
        Err(_) => Ok(absolute),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_are_decoded() {
        let text = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw\n";
        assert_eq!(parse(text), [PathBuf::from("/mnt/a b\\c")]);
    }

    #[test]
    fn proc_is_a_mount_point_below_the_root() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(is_mount_point(Path::new("/proc/")).unwrap());
        assert!(below(Path::new("/")).unwrap().contains(&PathBuf::from("/proc")));
        assert!(!below(Path::new("/proc")).unwrap().contains(&PathBuf::from("/proc")));
    }

    #[test]
    fn a_symlink_to_a_mount_point_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        assert!(!is_mount_point(&link).unwrap());
        assert_eq!(below(dir.path()).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn room_is_that_of_the_nearest_parent() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free(dir.path()).unwrap() > 0);
        let later = dir.path().join("not/yet/there");
        assert!(free(&later).unwrap() > 0);
        assert_eq!(device(&later).unwrap(), device(dir.path()).unwrap());
        assert_ne!(device(&later).unwrap(), device(Path::new("/proc")).unwrap());
    }
}
