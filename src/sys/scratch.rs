//! Directories for what does not last.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, OrSay, Result};
use crate::sys::{clock, files, process};

/// How their names begin; a pid and the time since boot follow.
const PREFIX: &str = "txupgrade-look-";

/// A private directory outside the state directory, removed when it is dropped. It is locked as long as it is used: who
/// shares the place may count pids and time in another way.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes one below the system's directory for temporary files.
    pub fn new() -> Result<Scratch> {
        let name = format!("{PREFIX}{}-{}", std::process::id(), clock::since_boot());
        let path = std::env::temp_dir().join(name);
        // This fails on what is there already, so nobody can have prepared it.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        let locked = made.and_then(|()| File::open(&path)).and_then(|dir| dir.lock_shared().map(|()| dir));
        let lock = locked.or_say(|| format!("cannot make `{}`", path.display()))?;
        Ok(Scratch { path, _lock: lock })
    }

    /// Removes those that processes of ours left when they died.
    pub fn sweep() {
        let us = rustix::process::geteuid().as_raw();
        for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some((pid, since)) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')) else {
                continue;
            };
            let (Ok(pid), Ok(since)) = (pid.parse(), since.parse()) else { continue };
            let ours = entry.metadata().is_ok_and(|there| there.is_dir() && there.uid() == us);
            let free = || files::open_nofollow(&entry.path()).is_ok_and(|dir| dir.try_lock().is_ok());
            if ours && process::is_gone(pid, since) && free() {
                // What cannot be removed is in nobody's way.
                let _ = files::remove_tree(&entry.path());
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the private directory `path`, below a place that others may write too, for `user` (by default for us). One
/// that is there already must be ours or theirs, and no symlink.
pub fn make_for(path: &Path, user: Option<&str>) -> Result<()> {
    let shown = path.display();
    let us = rustix::process::geteuid().as_raw();
    let owner = user.and_then(process::uid_of).unwrap_or(us);
    match path.symlink_metadata() {
        Ok(there) if there.is_dir() && (there.uid() == owner || there.uid() == us) => {}
        Ok(_) => {
            return Err(Error::new(format!("`{shown}` is in the way: it is not a directory of ours"))
                .hint(format!("see whose it is with `ls -ld {shown}`, and move it away")));
        }
        Err(_) => {
            let made = std::fs::DirBuilder::new().mode(0o700).create(path);
            made.or_say(|| format!("cannot make `{shown}`"))?;
        }
    }
    if owner != us {
        std::os::unix::fs::lchown(path, Some(owner), None).or_say(|| format!("cannot give `{shown}` to its user"))?;
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dead_processes_left_is_swept() {
        let left = std::env::temp_dir().join(format!("{PREFIX}{}-{}", u32::MAX, clock::since_boot()));
        std::fs::create_dir_all(left.join("store")).unwrap();
        let ours = Scratch::new().unwrap();
        Scratch::sweep();
        assert!(!left.exists());
        assert!(ours.path().exists());
    }
}
