//! What has content that can be captured and restored. One file per kind, one line in [`KINDS`].

mod command;
#[cfg(test)]
mod contract_tests;
mod fingerprint;
mod mysql;
mod path;
mod pipe;
mod postgres;
mod sqlite;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::plan::Fields;
use crate::store::ObjectId;

/// A kind of resource.
pub struct Kind {
    /// What `kind = "…"` says.
    pub name: &'static str,
    /// Reads the kind's keys; mistakes go to the report of `fields`.
    pub read: fn(&mut Fields) -> Box<dyn Resource>,
}

/// Every kind there is.
pub const KINDS: &[Kind] = &[path::KIND, command::KIND, sqlite::KIND, postgres::KIND, mysql::KIND];

/// Something that can be captured and restored.
pub trait Resource: Send + Sync {
    /// What no two open transactions may have in common.
    fn claims(&self, cx: &Context<'_>) -> Result<Vec<Claim>>;

    /// Whether it can be captured and restored, and how large it is; asked before anything is touched. What does
    /// not exist yet is no mistake: absent is a state. `base` is the last manifest of the same resource: where measuring
    /// takes long, the size it had then is enough.
    fn probe(&self, cx: &Context<'_>, base: Option<ObjectId>) -> Result<Estimate>;

    /// Captures it into the store; durable when it returns. Changes nothing. `base` is the last manifest of the same
    /// resource, whose unchanged parts need not be read again.
    fn capture(&self, cx: &Context<'_>, base: Option<ObjectId>) -> Result<Captured>;

    /// Beyond that all objects can be read (which the engine has checked): loads it somewhere and compares.
    /// `None` where reading back is all the proof there is.
    fn prove(&self, _cx: &Context<'_>, _manifest: ObjectId) -> Result<Option<String>> {
        Ok(None)
    }

    /// How the live resource differs from the manifest. Changes nothing.
    fn diff(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes>;

    /// Reads and checks what a restore would need if it came now. Changes nothing. Returns bytes read; `None` where that
    /// cannot be told from the rest: then all of the manifest is read.
    fn foresee(&self, _cx: &Context<'_>, _manifest: ObjectId) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Makes the live resource equal to the manifest, from whatever state it finds; every object has been checked.
    /// Proves it by an empty diff at the end. Returns what it changed.
    fn restore(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes>;

    /// Restores what can be although some of what the manifest needs is damaged. What cannot be is left as it is, and an
    /// error (`Fault::Damage`) names it. By default that is all of it or nothing.
    fn salvage(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        cx.store.prove(&[manifest], &|_, _| ())?;
        self.restore(cx, manifest)
    }

    /// Whether its proof loads what was captured somewhere and compares, as that of any database does.
    fn loads(&self) -> bool {
        true
    }

    /// Whether a capture or its proof writes all of it down once more for a while.
    fn copies(&self) -> bool {
        false
    }

    /// Whether capturing it takes all cores and the whole disk: then it is not captured beside another of that sort. What
    /// waits for a server or for a program can be.
    fn fills_the_machine(&self) -> bool {
        false
    }

    /// Whether capturing it ahead, while everything is still up, makes the capture proper shorter.
    fn precaptures(&self) -> bool {
        false
    }

    /// Whether it is files and nothing else: then it is put back while the machine boots, before any server is up.
    fn is_files(&self) -> bool {
        false
    }

    /// What is in it now and is left out of every capture: the topmost paths, absolute.
    fn excluded(&self, _cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// Puts one part of it back as captured (`None`: all of it): what a step carries over. Durable when it returns.
    fn carry(&self, cx: &Context<'_>, manifest: ObjectId, part: Option<&Path>) -> Result<()> {
        match part {
            None => self.restore(cx, manifest).map(drop),
            Some(part) => {
                Err(Error::new(format!("`{}` is a part of a resource that cannot be carried in parts", part.display())))
            }
        }
    }

    /// Side copies and displaced ones that it may have left, to be removed once the transaction's end is durable.
    fn leftovers(&self, _cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// Drops what it has left that is no path, such as a displaced database, once the transaction's end is durable. Done again
    /// it does nothing.
    fn sweep(&self, _cx: &Context<'_>) -> Result<()> {
        Ok(())
    }

    /// The answer of a query, one line per row, columns separated by tabs.
    fn query(&self, _cx: &Context<'_>, _sql: &str) -> Result<String> {
        Err(Error::new("this kind of resource cannot be asked with SQL"))
    }

    /// Runs an SQL script, all of it in one transaction where the database can.
    fn execute(&self, _cx: &Context<'_>, _sql: &str) -> Result<()> {
        Err(Error::new("this kind of resource cannot run SQL"))
    }
}

/// A source whose reading is told to the monitor, at most ten times a second.
struct Told<R> {
    source: R,
    monitor: std::sync::Arc<dyn crate::monitor::Monitor>,
    what: String,
    done: u64,
    /// 0 where it is not known.
    total: u64,
    last: std::time::Instant,
}

impl<R> Told<R> {
    fn new(source: R, cx: &Context<'_>, total: u64) -> Told<R> {
        let (monitor, what) = (std::sync::Arc::clone(&cx.monitor), cx.subject.clone());
        Told { source, monitor, what, done: 0, total, last: std::time::Instant::now() }
    }
}

impl<R: std::io::Read> std::io::Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.done += read as u64;
        if read == 0 || self.last.elapsed().as_millis() >= 100 {
            self.last = std::time::Instant::now();
            self.monitor.progress(&self.what, self.done, self.total);
        }
        Ok(read)
    }
}

/// What a resource occupies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A path and everything below it (absolute, symlinks of its parents resolved).
    Path(PathBuf),
    /// Anything else, compared as text: `database postgres://…`.
    Thing(String),
}

/// What `probe` found.
#[derive(Debug, Clone, Default)]
pub struct Estimate {
    /// Bytes that a capture will read.
    pub bytes: u64,
    /// Files, or tables.
    pub items: u64,
    /// What a person should know: a mount point inside that is not captured …
    pub warnings: Vec<String>,
}

/// What `capture` did.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The manifest.
    pub manifest: ObjectId,
    /// Bytes of content in it.
    pub bytes: u64,
    /// Bytes that were read this time.
    pub read: u64,
    /// Bytes by which the store grew.
    pub stored: u64,
    /// Entries in it.
    pub items: u64,
    /// What a person should know: files that changed while they were read …
    pub warnings: Vec<String>,
}

/// A difference between the live resource and a manifest, item by item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// In the order of the manifest.
    pub items: Vec<Change>,
}

/// One differing item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Seen from the snapshot: what has happened to it since.
    pub what: What,
    /// A path, or a table.
    pub name: String,
    /// In which respects: `content`, `mode 644 -> 600`, `+12 rows`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Whether its content may not be shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// What has happened to an item since the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It is there now and was not.
    Added,
    /// It was there and is not now.
    Removed,
    /// It differs.
    Changed,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
