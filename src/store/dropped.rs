//! The manifests that were pruned: `store/dropped`, one name a line.
//!
//! It is written, durably, before the first object of theirs is removed: a prune that dies half-way has dropped them
//! whole. It also tells what was pruned from what was lost.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::object::ObjectId;
use crate::error::{OrSay, Result};

const NAME: &str = "dropped";

/// The manifests that were dropped from the store in `store`.
pub(super) fn read(store: &Path) -> Result<HashSet<ObjectId>> {
    let path = store.join(NAME);
    match std::fs::read_to_string(&path) {
        // A line that is no name says nothing: the manifest is then looked for, and found missing.
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(error) => Err(error).or_say(|| format!("cannot read `{}`", path.display())),
    }
}

/// Adds `more`; durable when it returns. `tmp` is on the same filesystem.
pub(super) fn add(store: &Path, tmp: &Path, more: &[ObjectId]) -> Result<()> {
    let path = store.join(NAME);
    let mut all: Vec<ObjectId> = read(store)?.into_iter().chain(more.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    let text: String = all.iter().map(|id| format!("{id}\n")).collect();
    let write = || -> std::io::Result<()> {
        let beside = tmp.join(NAME);
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        File::open(store)?.sync_all()
    };
    write().or_say(|| format!("cannot write `{}`", path.display()))
}
