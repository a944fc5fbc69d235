//! The manifests that were pruned: `store/dropped`, one name a line.
//!
//! It is written, durably, before the first object of theirs is removed: a prune that dies half-way has dropped them
//! whole. It also tells what was pruned from what was lost. It is no more than a note: where it is damaged, what was pruned
//! looks lost, until the next prune writes it anew; nothing that is kept suffers.

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
    // A line that is no name says nothing: the manifest is then looked for, and found missing.
    let name = |line: &[u8]| std::str::from_utf8(line).ok()?.parse().ok();
    match std::fs::read(&path) {
        Ok(text) => Ok(text.split(|byte| *byte == b'\n').filter_map(name).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(error) => {
            let cannot: Result<_> = Err(error).or_say(|| format!("cannot read `{}`", path.display()));
            cannot.map_err(|error| error.hint("move it away: `txupgrade store prune` then writes it anew"))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_costs_two_names_at_most_and_never_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<ObjectId> = (0..4u8).map(|n| ObjectId::of(&[n])).collect();
        add(dir.path(), dir.path(), &names).unwrap();
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let found = read(dir.path()).unwrap();
            let left = names.iter().filter(|name| found.contains(name)).count();
            assert!(left >= 2 && found.len() <= names.len(), "bit {bit}: {found:?}");
        }
    }
}
