//! A directory for a command that leaves nothing behind.

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
        // `create_dir` fails on what is there already, so nobody can have prepared it.
        std::fs::create_dir(&path).or_say(|| format!("cannot make `{}`", path.display()))?;
        let scratch = Scratch(path);
        files::make_private(&scratch.0)?;
        Ok(scratch)
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
