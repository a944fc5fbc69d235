//! `store`: upkeep of what is kept.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::apply::tx;
use super::ui::Paint;
use super::{Answer, Cx, exit, json, words};
use crate::error::Result;
use crate::name::TxId;
use crate::ops::store::{self, Listing};
use crate::store::{Exported, ManifestInfo, Pruned, Pruning, Reindexed, Sample, Verified};

/// How many names of damaged objects and files a person is shown of each.
const SHOWN: usize = 10;

/// Check, list, prune, export or re-index what is kept
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::LOCKED, exit::DAMAGE],
    &["txupgrade store verify", "txupgrade store prune --dry-run", "txupgrade store export notes-3 notes-3.tar.zst"],
))]
pub(super) struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Verify(Verify),
    Prune(Prune),
    List(List),
    Export(Export),
    Reindex(Reindex),
}

/// Re-read every archive and every object
///
/// Names the archives and objects that are damaged or missing, and the transactions and files that cannot be put back
/// for it. Changes nothing.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::LOCKED, exit::DAMAGE],
    &["txupgrade store verify", "txupgrade store verify --sample 5"],
))]
struct Verify {
    /// Read only archives with about this share of all bytes, others each time
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    sample: Option<u8>,
}

/// Drop what no kept transaction needs
///
/// `[policy] keep` of a plan says how many of its committed upgrades and snapshots are kept; without it, all are, and only
/// what was aborted goes. Open transactions and the last committed one are never dropped. It may be interrupted
/// at any time.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::LOCKED, exit::DAMAGE, exit::INTERRUPTED, exit::TERMINATED],
    &["txupgrade store prune --dry-run", "txupgrade store prune"],
))]
struct Prune {
    /// Only say what would be dropped
    #[arg(long)]
    dry_run: bool,
}

/// List what was captured
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::LOCKED],
    &["txupgrade store list"],
))]
struct List {}

/// Write a snapshot as a plain tar.zst
///
/// GNU tar extracts it with all metadata: `tar --zstd --xattrs --xattrs-include='*' --acls --numeric-owner -xpf FILE`. Each
/// resource is below a directory of its name; databases are their dump.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::LOCKED, exit::DAMAGE, exit::INTERRUPTED, exit::TERMINATED],
    &["txupgrade store export notes-3 notes-3.tar.zst", "txupgrade store export notes-3 code.tar.zst --resource code"],
))]
struct Export {
    /// The transaction, such as notes-3
    #[arg(value_parser = tx)]
    tx: TxId,
    /// Where to; must not be there
    file: PathBuf,
    /// Only this resource, at the top of the archive
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
}

/// Rebuild the index from the archives alone
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::LOCKED, exit::DAMAGE, exit::INTERRUPTED, exit::TERMINATED],
    &["txupgrade store reindex"],
))]
struct Reindex {}

impl Store {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        match self.verb {
            Verb::Verify(Verify { sample }) => {
                let sample = sample.map_or(Sample::All, Sample::Percent);
                Ok(verified(&store::verify(&cx.watching(), sample)?, cx.ui.err))
            }
            Verb::Prune(Prune { dry_run: true }) => {
                Ok(pruned(&store::prune(&cx.watching(), Pruning::DryRun)?, Pruning::DryRun))
            }
            Verb::Prune(Prune { dry_run: false }) => {
                Ok(pruned(&store::prune(&cx.acting(), Pruning::Done)?, Pruning::Done))
            }
            Verb::List(List {}) => Ok(listed(&store::list(&cx.looking())?, &cx.zone, cx.ui.out)),
            Verb::Export(Export { tx, file, resource }) => {
                let exported = store::export(&cx.acting(), &tx, &file, resource.as_deref())?;
                Ok(self::exported(&exported, &file.display().to_string(), cx.ui.err))
            }
            Verb::Reindex(Reindex {}) => Ok(reindexed(&store::reindex(&cx.acting())?)),
        }
    }
}

fn number(count: u64, one: &str, many: &str) -> String {
    words::count(usize::try_from(count).unwrap_or(usize::MAX), one, many)
}

/// The first names, and how many more there are.
fn some(names: &[String], all: u64) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", words::clean(name))).collect();
    match all.saturating_sub(shown.len() as u64) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(super) fn verified(verified: &Verified, paint: Paint) -> Answer {
    let exit = if verified.is_sound() { exit::DONE } else { exit::DAMAGE };
    let mut data = String::new();
    for damaged in &verified.damage {
        data.push_str(&format!("archive {} is damaged\n", damaged.archive));
        for what in &damaged.what {
            data.push_str(&format!("  {}\n", words::clean(what)));
        }
        if !damaged.objects.is_empty() {
            let names: Vec<String> = damaged.objects.iter().map(ToString::to_string).collect();
            let count = number(names.len() as u64, "object", "objects");
            data.push_str(&format!("  {count} cannot be read: {}\n", some(&names, names.len() as u64)));
        }
    }
    for wrong in &verified.index {
        data.push_str(&format!("{}\n", words::clean(wrong)));
    }
    for hit in &verified.hit {
        let of = match (hit.tx.as_str(), hit.resource.as_str()) {
            ("", _) => format!("manifest {}", hit.manifest),
            (tx, "") => tx.to_owned(),
            (tx, resource) => format!("{tx}, `{}`", words::clean(resource)),
        };
        data.push_str(&match &hit.lost {
            Some(why) => format!("{of}: cannot be put back: {}\n", words::clean(why)),
            None => format!(
                "{of} ({}): {} cannot be put back: {}\n",
                words::clean(&hit.place),
                number(hit.files, "file", "files"),
                some(&hit.names, hit.files)
            ),
        });
    }
    let read = format!(
        "{} of {} archives, {}, {}",
        verified.archives,
        verified.of,
        number(verified.objects, "object", "objects"),
        words::bytes(verified.bytes)
    );
    let talk = if verified.is_sound() {
        format!("what was read is whole: {read}\n")
    } else {
        let mut talk = format!("{} the store is damaged: read {read}\n", paint.bad("error:"));
        let mut hint = |line: &str| talk.push_str(&format!("{} {line}\n", paint.hint("hint:")));
        if !verified.index.is_empty() {
            hint("`txupgrade store reindex` makes the index anew from the archives");
        }
        if !verified.damage.is_empty() {
            hint("`txupgrade store reindex` forgets what cannot be read: the next snapshot then writes it anew");
        } else if !verified.hit.is_empty() {
            hint("where that was pruned, `store/dropped` has lost it: `txupgrade store prune` notes it again");
        }
        talk
    };
    let damage: Vec<Value> = verified
        .damage
        .iter()
        .map(|damaged| json!({ "archive": damaged.archive, "what": damaged.what, "objects": damaged.objects }))
        .collect();
    let hit: Vec<Value> = verified
        .hit
        .iter()
        .map(|hit| {
            json!({
                "tx": hit.tx, "resource": hit.resource, "place": hit.place, "manifest": hit.manifest,
                "lost": hit.lost, "files": hit.files, "names": hit.names,
            })
        })
        .collect();
    let fields = json!({
        "archives": verified.archives, "of": verified.of, "objects": verified.objects, "bytes": verified.bytes,
        "manifests": verified.manifests, "damage": damage, "index": verified.index, "hit": hit,
    });
    Answer { json: json::object("store-verify", exit, fields), data, talk, exit }
}

pub(super) fn pruned(pruned: &Pruned, pruning: Pruning) -> Answer {
    let freed = pruned.before.saturating_sub(pruned.after);
    let mut data = String::new();
    for info in &pruned.manifests {
        let head = &info.head;
        data.push_str(&format!(
            "{}, `{}` ({})\n",
            words::clean(&head.tx),
            words::clean(&head.resource),
            words::bytes(info.bytes)
        ));
    }
    let archives = format!(
        "{} removed, {} rewritten",
        number(pruned.removed, "archive", "archives"),
        number(pruned.rewritten, "archive", "archives")
    );
    let mut talk = match pruning {
        Pruning::DryRun => format!(
            "would drop {} and keep {}: about {} of {}\n",
            number(pruned.manifests.len() as u64, "snapshot", "snapshots"),
            pruned.kept,
            words::bytes(freed),
            words::bytes(pruned.before)
        ),
        Pruning::Done => format!(
            "dropped {}, kept {}: {archives}, {} freed, {} left\n",
            number(pruned.manifests.len() as u64, "snapshot", "snapshots"),
            pruned.kept,
            words::bytes(freed),
            words::bytes(pruned.after)
        ),
    };
    for line in &pruned.damaged {
        talk.push_str(&format!("warning: {}\n", words::clean(line)));
    }
    let exit = if pruned.damaged.is_empty() { exit::DONE } else { exit::DAMAGE };
    let fields = json!({
        "dry_run": pruning == Pruning::DryRun,
        "dropped": pruned.manifests.iter().map(manifest).collect::<Vec<_>>(),
        "kept": pruned.kept, "removed": pruned.removed, "rewritten": pruned.rewritten,
        "before": pruned.before, "after": pruned.after, "damage": pruned.damaged,
    });
    Answer { json: json::object("store-prune", exit, fields), data, talk, exit }
}

fn manifest(info: &ManifestInfo) -> Value {
    let head = &info.head;
    json!({
        "manifest": info.id, "tx": head.tx, "resource": head.resource, "kind": head.kind, "place": head.place,
        "version": head.version, "at": head.at, "entries": info.entries, "bytes": info.bytes,
    })
}

pub(super) fn listed(listing: &Listing, zone: &TimeZone, paint: Paint) -> Answer {
    let mut data = String::new();
    if !listing.manifests.is_empty() {
        let head = ["TX", "RESOURCE", "CAPTURED", "VERSION", "KIND", "ENTRIES", "SIZE", "PLACE"];
        let mut rows = vec![head.iter().map(|word| paint.dim(word)).collect::<Vec<String>>()];
        rows.extend(listing.manifests.iter().map(|info| {
            let head = &info.head;
            vec![
                paint.bold(&words::clean(&head.tx)),
                words::clean(&head.resource).into_owned(),
                words::moment(&head.at, zone),
                head.version.as_deref().map_or_else(|| "-".to_owned(), |version| words::clean(version).into_owned()),
                words::clean(&head.kind).into_owned(),
                info.entries.to_string(),
                words::bytes(info.bytes),
                words::clean(&head.place).into_owned(),
            ]
        }));
        data = words::table(&rows);
    }
    let talk = format!(
        "{} in {}, {}\n",
        number(listing.objects, "object", "objects"),
        number(listing.archives, "archive", "archives"),
        words::bytes(listing.bytes)
    );
    let fields = json!({
        "archives": listing.archives, "objects": listing.objects, "bytes": listing.bytes,
        "manifests": listing.manifests.iter().map(manifest).collect::<Vec<_>>(),
    });
    Answer { json: json::object("store-list", exit::DONE, fields), data, talk, exit: exit::DONE }
}

pub(super) fn exported(exported: &Exported, file: &str, paint: Paint) -> Answer {
    let mut talk: String =
        exported.warnings.iter().map(|line| format!("{} {}\n", paint.warn("warning:"), words::clean(line))).collect();
    talk.push_str(&format!(
        "{}: {}, {}, {} compressed\n",
        words::clean(file),
        number(exported.entries, "entry", "entries"),
        words::bytes(exported.bytes),
        words::bytes(exported.size)
    ));
    let fields = json!({
        "file": file, "entries": exported.entries, "bytes": exported.bytes, "size": exported.size,
        "warnings": exported.warnings,
    });
    Answer { json: json::object("store-export", exit::DONE, fields), data: String::new(), talk, exit: exit::DONE }
}

pub(super) fn reindexed(reindexed: &Reindexed) -> Answer {
    let exit = if reindexed.damage.is_empty() { exit::DONE } else { exit::DAMAGE };
    let data = reindexed.damage.iter().map(|line| format!("{}\n", words::clean(line))).collect();
    let talk = format!(
        "{} in {}, {}\n",
        number(reindexed.objects, "object", "objects"),
        number(reindexed.archives, "archive", "archives"),
        words::bytes(reindexed.bytes)
    );
    let fields = json!({
        "archives": reindexed.archives, "objects": reindexed.objects, "bytes": reindexed.bytes,
        "damage": reindexed.damage,
    });
    Answer { json: json::object("store-reindex", exit, fields), data, talk, exit }
}
