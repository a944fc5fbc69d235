//! A directory for a command that leaves nothing behind.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{OrSay, Result};
use crate::sys::{clock, files};

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

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.0);
    }
}
