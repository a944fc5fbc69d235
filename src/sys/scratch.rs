//! Directories for what does not last.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, OrSay, Result};
use crate::sys::{clock, files, process};

/// A private directory outside the state directory, removed when it is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below the system's directory for temporary files.
    pub fn new() -> Result<Scratch> {
        let name = format!("txupgrade-look-{}-{}", std::process::id(), clock::since_boot());
        let path = std::env::temp_dir().join(name);
        // This fails on what is there already, so nobody can have prepared it.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.or_say(|| format!("cannot make `{}`", path.display()))?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
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
        let _ = files::remove_tree(&self.0);
    }
}
