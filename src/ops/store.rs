//! `store`: upkeep of what is kept.
//!
//! `verify`, `list` and `export` only look, and work on a state directory that cannot be written; they keep a prune away
//! while they do. `prune` and `reindex` are alone in the store.

use std::path::Path;

use super::Site;
use super::keep::{self, Asks, kept, refuse_pruned};
use super::look::which;
use super::office::{Office, Reading, patiently, store_lock, tell};
use crate::error::{Error, Fault, Result};
use crate::journal::{Journal, format};
use crate::name::TxId;
use crate::store::{Exported, Hit, ManifestInfo, ObjectId, Part, Pruned, Pruning, Reindexed, Sample, Store, Verified};
use crate::sys::lock::Lock;

/// What is in the store.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Bytes of all archives.
    pub bytes: u64,
    /// How many archives.
    pub archives: u64,
    /// How many objects.
    pub objects: u64,
    /// What was captured, the oldest first.
    pub manifests: Vec<ManifestInfo>,
}

/// The store, opened only to look; nobody removes anything from it meanwhile.
struct Looking {
    store: Store,
    _sharing: Option<Lock>,
}

impl Looking {
    fn open(site: &Site) -> Result<Looking> {
        if site.dir.is_dir() {
            format::check(&site.dir)?;
        }
        let sharing = patiently(site, || Lock::share_if_there(&store_lock(&site.dir), "the store"))?;
        let store = Store::open_read_only(&site.dir)?.ok_or_else(|| nothing_yet(site))?;
        Ok(Looking { store, _sharing: sharing })
    }
}

fn nothing_yet(site: &Site) -> Error {
    Error::new(format!("there is no store in `{}` yet", site.dir.display()))
}

/// Tells how far the work has come, and ends it when a signal has come.
fn teller<'a>(site: &'a Site, what: &'a str) -> impl Fn(u64, u64) -> Result<()> + 'a {
    move |done, total| {
        site.monitor.progress(what, done, total);
        match site.stop.signal() {
            Some(number) => Err(Error::new("was stopped by a signal").fault(Fault::Signal(number))),
            None => Ok(()),
        }
    }
}

/// Re-reads the store, or a sample of it, and says which transactions are hit by damage.
pub fn verify(site: &Site, sample: Sample) -> Result<Verified> {
    let Looking { store, _sharing } = &Looking::open(site)?;
    let mut wanted = Vec::new();
    if let Some(reading) = Reading::open(site)? {
        let dropped = store.dropped()?;
        for tx in reading.journal.transactions()? {
            let told = tell(&reading.journal, &tx)?;
            let plan = ("", told.state.begun().plan.as_str(), "its plan is not in the store");
            let manifests = told.state.captured().filter_map(|(resource, output)| {
                Some((resource, output.manifest.as_deref()?, "its manifest is not in the store"))
            });
            for (resource, id, lost) in std::iter::once(plan).chain(manifests) {
                let Ok(manifest) = id.parse::<ObjectId>() else { continue };
                if !dropped.contains(&manifest) {
                    let hit = Hit {
                        tx: tx.to_string(),
                        resource: resource.to_owned(),
                        place: String::new(),
                        manifest,
                        lost: Some(lost.to_owned()),
                        files: 0,
                        names: Vec::new(),
                    };
                    wanted.push(hit);
                }
            }
        }
    }
    let ids: Vec<ObjectId> = wanted.iter().map(|hit| hit.manifest).collect();
    let mut verified = store.verify(sample, &ids, &teller(site, "verify"))?;
    for hit in wanted {
        if !store.has(hit.manifest)? {
            verified.hit.retain(|known| !(known.tx.is_empty() && known.manifest == hit.manifest));
            verified.hit.push(hit);
        }
    }
    Ok(verified)
}

/// What is in the store; the archives alone tell it.
pub fn list(site: &Site) -> Result<Listing> {
    let Looking { store, _sharing } = &Looking::open(site)?;
    Ok(Listing {
        bytes: store.size()?,
        archives: store.archive_count()?,
        objects: store.object_count()?,
        manifests: store.list_manifests()?,
    })
}

/// Drops what no kept transaction needs.
pub fn prune(site: &Site, pruning: Pruning) -> Result<Pruned> {
    let tell = teller(site, "prune");
    if pruning == Pruning::DryRun {
        let Looking { store, _sharing } = &Looking::open(site)?;
        let reading = Reading::open(site)?.ok_or_else(|| no_journal(site))?;
        reading.journal.check_end()?;
        warn_of_unknown(site, &reading.journal, store)?;
        return store.prune(&kept(&reading.journal, store, Asks::Person)?, pruning, &tell);
    }
    // Without its journal nobody knows what a store has to keep.
    if Reading::open(site)?.is_none() {
        return Err(no_journal(site));
    }
    let office = Office::open_alone(site)?;
    office.journal.check_end()?;
    warn_of_unknown(site, &office.journal, &office.store)?;
    let keep = kept(&office.journal, &office.store, Asks::Person)?;
    office.store.prune(&keep, pruning, &tell)
}

fn warn_of_unknown(site: &Site, journal: &dyn Journal, store: &Store) -> Result<()> {
    let names: Vec<String> = keep::unknown(journal, store)?.iter().map(|name| format!("`{name}`")).collect();
    if !names.is_empty() {
        site.monitor.warn(&format!(
            "what was captured for {} is older than the journal, which therefore cannot tell whether it is needed; it stays",
            names.join(", ")
        ));
    }
    Ok(())
}

fn no_journal(site: &Site) -> Error {
    Error::new(format!("there is no journal in `{}`", site.dir.display()))
        .because("without it nobody knows what has to be kept")
}

/// Makes the index anew from the archives alone.
pub fn reindex(site: &Site) -> Result<Reindexed> {
    if !site.dir.join("store").is_dir() {
        return Err(nothing_yet(site));
    }
    let office = Office::open_alone(site)?;
    office.store.reindex(&teller(site, "reindex"))
}

/// Writes what a transaction captured, or one resource of it, to a `tar.zst`.
pub fn export(site: &Site, tx: &TxId, to: &Path, resource: Option<&str>) -> Result<Exported> {
    let Looking { store, _sharing } = &Looking::open(site)?;
    let mut captured: Vec<(String, ObjectId)> = Vec::new();
    match Reading::open(site)? {
        Some(reading) => {
            which(&reading.journal, Some(tx))?;
            let told = tell(&reading.journal, tx)?;
            refuse_pruned(store, &told)?;
            for (resource, output) in told.state.captured() {
                if let Some(manifest) = output.manifest.as_ref().and_then(|text| text.parse().ok()) {
                    captured.push((resource.to_owned(), manifest));
                }
            }
        }
        // The archives tell it as well; of several captures of a resource the last is meant.
        None => {
            for info in store.list_manifests()?.into_iter().filter(|info| info.head.tx == tx.to_string()) {
                captured.retain(|(resource, _)| *resource != info.head.resource);
                captured.push((info.head.resource, info.id));
            }
        }
    }
    if captured.is_empty() {
        return Err(Error::new(format!("`{tx}` has captured nothing")));
    }
    let parts: Vec<Part> = match resource {
        None => captured.into_iter().map(|(below, manifest)| Part { manifest, below }).collect(),
        Some(wanted) => {
            let names: Vec<String> = captured.iter().map(|(name, _)| format!("`{name}`")).collect();
            let found = captured.into_iter().find(|(name, _)| name == wanted);
            let (_, manifest) = found.ok_or_else(|| {
                Error::new(format!("`{tx}` has not captured `{wanted}`"))
                    .hint(format!("it has captured {}", names.join(", ")))
                    .fault(Fault::Usage)
            })?;
            vec![Part { manifest, below: String::new() }]
        }
    };
    store.export(&parts, to, &teller(site, "export"))
}
