//! `diff`: how the live resources differ from a snapshot.

use super::keep::refuse_pruned;
use super::look::which;
use super::office::{Reading, Told, ground_to_look, patiently, store_lock, tell};
use super::reopen::{manifest_of, reopen};
use super::{Patch, Site};
use crate::error::{Error, Result};
use crate::journal::Journal as _;
use crate::name::TxId;
use crate::resource::{Changes, What};
use crate::store::{ObjectId, Store};
use crate::sys::lock::Lock;
use crate::sys::scratch::Scratch;

/// How one resource differs from its snapshot.
#[derive(Debug, Clone)]
pub struct ResourceDiff {
    /// The resource.
    pub resource: String,
    /// What differs.
    pub changes: Changes,
    /// The differences of text files, as unified diffs, where they were asked for: path and text.
    pub patches: Vec<(String, String)>,
}

/// Compares the live resources with the snapshot of a transaction; without one, of the open or else the last.
pub fn diff(site: &Site, tx: Option<&TxId>, patch: Patch) -> Result<Vec<ResourceDiff>> {
    let none = || Error::new("there is no snapshot yet").hint("`txupgrade snapshot PLAN` takes one");
    let reading = Reading::open(site)?.ok_or_else(none)?;
    let tx = which(&reading.journal, tx)?.ok_or_else(none)?;
    let told = tell(&reading.journal, &tx)?;
    let mut differences = differences(site, &reading, &told)?;
    if patch == Patch::Shown {
        let store = Store::open_read_only(&reading.dir)?.ok_or_else(none)?;
        for difference in &mut differences {
            let manifest = manifest_of(&told.state, &difference.resource);
            let Some(manifest) = manifest else { continue };
            let place = store.head(manifest)?.place;
            difference.patches = patches(&store, manifest, &place, &difference.changes)?;
        }
    }
    Ok(differences)
}

/// What differs, resource by resource, those that do not differ included.
pub(super) fn differences(site: &Site, reading: &Reading, told: &Told) -> Result<Vec<ResourceDiff>> {
    let tmp = Scratch::new()?;
    let _sharing = patiently(site, || Lock::share_if_there(&store_lock(&reading.dir), "the store"))?;
    let store = Store::open_read_only(&reading.dir)?.ok_or_else(|| Error::new("the store is not there"))?;
    refuse_pruned(&store, told)?;
    let ground = ground_to_look(&reading.dir, tmp.path(), &store, site);
    let world = reopen(&reading.journal, ground, &told.tx, &told.state)?;
    let mut differences = Vec::new();
    for resource in &world.bound.resources {
        let Some(manifest) = manifest_of(&told.state, &resource.name) else {
            let error = Error::new(format!("`{}` has captured nothing", told.tx));
            return Err(match last_captured(reading, &store)? {
                Some(tx) => error.hint(format!("the last that has a snapshot is `{tx}`: `txupgrade diff {tx}`")),
                None => error.hint("`txupgrade snapshot PLAN` takes one"),
            });
        };
        let changes = world.differences(resource, manifest, &site.stop)?;
        differences.push(ResourceDiff { resource: resource.name.clone(), changes, patches: Vec::new() });
    }
    Ok(differences)
}

/// The last transaction that has captured something that is still there.
fn last_captured(reading: &Reading, store: &Store) -> Result<Option<TxId>> {
    let dropped = store.dropped()?;
    for tx in reading.journal.transactions()?.into_iter().rev() {
        let state = tell(&reading.journal, &tx)?.state;
        let is_there = |text: &String| text.parse().is_ok_and(|id: ObjectId| !dropped.contains(&id));
        if state.captured().any(|(_, output)| output.manifest.as_ref().is_some_and(is_there)) {
            return Ok(Some(tx));
        }
    }
    Ok(None)
}

fn patches(store: &Store, manifest: ObjectId, place: &str, changes: &Changes) -> Result<Vec<(String, String)>> {
    const LARGEST: u64 = 1 << 20;
    let mut patches = Vec::new();
    for change in changes.items.iter().filter(|change| !change.secret) {
        let live = std::path::Path::new(place).join(&change.name);
        let plain = live.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
        let new = match change.what {
            What::Removed => Some(Vec::new()),
            _ if plain => std::fs::read(&live).ok(),
            _ => None,
        };
        let old = match change.what {
            What::Added => Some(Vec::new()),
            _ => store.file_content(manifest, &change.name)?,
        };
        let (Some(old), Some(new)) = (old, new) else { continue };
        let (Ok(old), Ok(new)) = (String::from_utf8(old), String::from_utf8(new)) else { continue };
        if old == new || old.contains('\0') || new.contains('\0') {
            continue;
        }
        let diff = similar::TextDiff::from_lines(&old, &new);
        let text = diff.unified_diff().header(&format!("a/{}", change.name), &format!("b/{}", change.name)).to_string();
        patches.push((change.name.clone(), text));
    }
    Ok(patches)
}
