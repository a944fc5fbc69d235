//! Removing a tree without ever leaving it.
//!
//! Every step is relative to the open directory it happens in, so that nobody can lead it elsewhere by swapping a
//! directory for a symlink meanwhile. What is mounted inside stays, with the directories above it, and is named.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::mounts;
use crate::error::{Error, OrSay, Result};

/// How deep directories are held open; what is deeper is first moved up, since descriptors are few.
const DEPTH: u32 = 128;

/// Removes a tree: never follows a symlink, never crosses a mount point (which is an error that names it). Missing is
/// fine. After an error everything else in the tree is gone; the error names what stays and how many more do.
pub fn remove_tree(path: &Path) -> Result<()> {
    let cannot = || format!("cannot remove `{}`", path.display());
    let path = &mounts::real(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(cannot()).because("it is the root directory"));
    };
    let parent = match rustix::fs::open(parent, DIR.union(OFlags::PATH), Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(cause) => return Err(cause).or_say(cannot),
    };
    let name = CString::new(name.as_bytes()).or_say(cannot)?;
    let top = match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(cause) => return Err(cause).or_say(cannot),
    };
    let mut mounted: BTreeSet<PathBuf> = mounts::below(path)?.into_iter().collect();
    if mounts::is_mount_point(path)? {
        mounted.insert(path.clone());
    }
    let mut removal = Removal { device: top.st_dev, mounted, stays: Vec::new(), top: None, moved: 0 };
    removal.entry(parent.as_fd(), &name, path, FileType::from_raw_mode(top.st_mode), 0);
    let mut stays = removal.stays.into_iter();
    match stays.next() {
        None => Ok(()),
        Some(first) => {
            let error = Error::new(cannot()).because(first);
            Err(match stays.count() {
                0 => error,
                more => error.because(format!("and {more} more could not be removed")),
            })
        }
    }
}

const DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

struct Removal {
    device: u64,
    mounted: BTreeSet<PathBuf>,
    /// Why something stays, in words.
    stays: Vec<String>,
    /// The top directory, where what is too deep is moved to.
    top: Option<OwnedFd>,
    moved: u64,
}

impl Removal {
    /// Removes one entry of an open directory; `path` is for messages and for the list of mounts.
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &Path, kind: FileType, depth: u32) {
        if self.mounted.contains(path) {
            self.stays.push(format!("`{}` is a mount point", path.display()));
            return;
        }
        if kind != FileType::Directory {
            match unlink(dir, name, AtFlags::empty(), depth) {
                Ok(()) | Err(Errno::NOENT) => return,
                // It was exchanged for a directory meanwhile: then that is what has to go.
                Err(Errno::ISDIR) => {}
                Err(cause) => return self.stay(path, cause),
            }
        }
        if depth >= DEPTH && self.move_up(dir, name) {
            return;
        }
        let before = self.stays.len();
        match self.open(dir, name) {
            Ok(inner) => self.content(inner, path, depth),
            Err(Errno::NOENT) => return,
            Err(Errno::XDEV) => {
                self.stays.push(format!("`{}` is another filesystem", path.display()));
                return;
            }
            Err(cause) => return self.stay(path, cause),
        }
        match unlink(dir, name, AtFlags::REMOVEDIR, depth) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Named already: what stays inside.
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.stays.len() > before => {}
            Err(cause) => self.stay(path, cause),
        }
    }

    /// Removes what is in an open directory.
    fn content(&mut self, dir: OwnedFd, path: &Path, depth: u32) {
        if depth == 0 {
            self.top = dir.try_clone().ok();
        }
        let before = self.stays.len();
        // Reading while removing may skip entries on some filesystems, so it is read until nothing is left of it.
        loop {
            let names = match names(&dir) {
                Ok(names) if names.is_empty() => return,
                Ok(names) => names,
                Err(cause) => return self.stay(path, cause),
            };
            for (name, kind) in names {
                let inner = path.join(OsStr::from_bytes(name.to_bytes()));
                let kind = match kind {
                    FileType::Unknown => match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        Err(_) => continue,
                    },
                    kind => kind,
                };
                self.entry(dir.as_fd(), &name, &inner, kind, depth + 1);
            }
            if self.stays.len() > before {
                return;
            }
        }
    }

    /// Opens a directory that is no symlink and on the same filesystem; made accessible first if it is ours.
    fn open(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags = DIR.union(OFlags::NOFOLLOW);
        let inner = match rustix::fs::openat(dir, name, flags.union(OFlags::RDONLY), Mode::empty()) {
            Err(Errno::ACCESS) => {
                let closed = rustix::fs::openat(dir, name, flags.union(OFlags::PATH), Mode::empty())?;
                allow(&closed)?;
                rustix::fs::openat(dir, name, flags.union(OFlags::RDONLY), Mode::empty())?
            }
            opened => opened?,
        };
        if rustix::fs::fstat(&inner)?.st_dev != self.device {
            return Err(Errno::XDEV);
        }
        Ok(inner)
    }

    /// Moves a directory that is too deep to the top of the tree, where the next reading finds it.
    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> bool {
        let Some(top) = &self.top else { return false };
        self.moved += 1;
        let new = format!(".txupgrade-deep-{}-{}", std::process::id(), self.moved);
        // A mount inside it would come along under a name that is not in the list.
        self.mounted.is_empty() && rustix::fs::renameat(dir, name, top, new.as_str()).is_ok()
    }

    fn stay(&mut self, path: &Path, cause: Errno) {
        let cause = match cause {
            Errno::BUSY => "something is mounted there or uses it".to_owned(),
            cause => std::io::Error::from(cause).to_string(),
        };
        self.stays.push(format!("`{}`: {cause}", path.display()));
    }
}

/// Removes a name; a directory of the tree that forbids it is opened up first. The one around the tree stays as it is.
fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags, depth: u32) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::ACCESS) if depth > 0 => {
            allow(dir)?;
            rustix::fs::unlinkat(dir, name, flags)
        }
        done => done,
    }
}

/// Gives ourselves all rights to an open directory; through `/proc`, since it may be open as a path only.
fn allow(dir: impl AsFd) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let open = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    rustix::fs::chmod(open.as_str(), Mode::RWXU).map_err(|_| Errno::ACCESS)
}

fn names(dir: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            found.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_symlink_is_removed_and_what_it_points_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("kept"), "").unwrap();
        symlink(&other, tree.join("a/link")).unwrap();
        symlink("nowhere", tree.join("a/b/dangling")).unwrap();
        std::fs::set_permissions(tree.join("a/b"), std::fs::Permissions::from_mode(0o0)).unwrap();
        symlink(&tree, dir.path().join("to-tree")).unwrap();
        remove_tree(&dir.path().join("to-tree")).unwrap();
        assert!(tree.exists());
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(other.join("kept").exists());
    }

    #[test]
    fn missing_is_fine_and_a_lone_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        remove_tree(&file).unwrap();
        remove_tree(&file.join("below/it")).unwrap();
        std::fs::write(&file, "").unwrap();
        remove_tree(&file.join("below")).unwrap();
        remove_tree(&file).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn the_root_is_refused() {
        assert_eq!(remove_tree(Path::new("/")).unwrap_err().to_string(), "cannot remove `/`: it is the root directory");
    }

    #[test]
    fn a_tree_deeper_than_descriptors_and_path_names_goes() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("deep");
        std::fs::create_dir(&top).unwrap();
        let mut here = rustix::fs::open(&top, DIR, Mode::empty()).unwrap();
        let name = "d".repeat(20);
        for _ in 0..600 {
            rustix::fs::mkdirat(&here, name.as_str(), Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, name.as_str(), DIR, Mode::empty()).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    /// Mounts in a namespace of its own: a thread may leave the shared one only when it shares nothing else, hence `unshare`.
    #[test]
    fn a_mount_point_stays_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/mnt")).unwrap();
        std::fs::create_dir_all(tree.join("b")).unwrap();
        std::fs::create_dir(dir.path().join("bound")).unwrap();
        std::fs::write(dir.path().join("bound/kept"), "").unwrap();
        let (said, status) = inside_mount(dir.path(), &tree);
        assert!(status, "{said}");
        let tree = std::fs::canonicalize(&tree).unwrap();
        assert!(said.contains(&format!("cannot remove `{0}`: `{0}/a/mnt` is a mount point", tree.display())), "{said}");
        assert!(dir.path().join("bound/kept").exists());
        assert!(!tree.join("b").exists());
    }

    fn inside_mount(dir: &Path, tree: &Path) -> (String, bool) {
        let test = std::env::current_exe().unwrap();
        let script = "mount --bind \"$1/bound\" \"$2/a/mnt\" && exec \"$3\" --exact --nocapture --ignored \
                      sys::files::remove::tests::removes_what_it_is_told";
        let out = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .args([dir, tree, &test])
            .env("TXUPGRADE_TEST_REMOVE", tree)
            .output()
            .expect("`unshare` is there (Debian: apt-get install util-linux)");
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        (said, out.status.success())
    }

    #[test]
    #[ignore = "run by a_mount_point_stays_and_is_named in a mount namespace of its own"]
    #[allow(clippy::print_stdout)]
    fn removes_what_it_is_told() {
        let tree = std::env::var_os("TXUPGRADE_TEST_REMOVE").expect("told by the other test");
        println!("{}", remove_tree(Path::new(&tree)).unwrap_err());
    }
}
