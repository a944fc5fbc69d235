//! Export: a snapshot as a plain `tar.zst` that other programs extract, with all metadata.
//!
//! Promises: the file appears under its name complete and durable, or not at all; nothing is overwritten; every byte in it was
//! checked against its name.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::archive::LEVEL;
use super::manifest::{Entry, Time, Type, chunks_of};
use super::object::ObjectId;
use super::pax::{Member, PaxWriter};
use super::{Head, Store};
use crate::error::{Error, OrSay, Result};

/// A captured resource that is to be exported.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its manifest.
    pub manifest: ObjectId,
    /// The directory of the archive that it goes to; empty: the top.
    pub below: String,
}

/// What an export wrote.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// Members.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes of the file.
    pub size: u64,
    /// What a person should know: what is not in it.
    pub warnings: Vec<String>,
}

type Out = PaxWriter<zstd::Encoder<'static, BufWriter<File>>>;

impl Store {
    /// Writes captured resources to `to`, which must not be there. `tell` gets bytes of content done and in all, and may say
    /// that it is enough.
    pub fn export(&self, parts: &[Part], to: &Path, tell: &dyn Fn(u64, u64) -> Result<()>) -> Result<Exported> {
        let cannot = || format!("cannot write `{}`", to.display());
        if to.symlink_metadata().is_ok() {
            return Err(
                Error::new(format!("`{}` is there already", to.display())).hint("name a file that is not there")
            );
        }
        let mut total = 0;
        for part in parts {
            total += self.stored_head(part.manifest)?.bytes;
        }
        let beside = Beside::create(to)?;
        let file = beside.file.try_clone().or_say(cannot)?;
        let mut encoder = zstd::Encoder::new(BufWriter::with_capacity(1 << 20, file), LEVEL).or_say(cannot)?;
        encoder.include_checksum(true).or_say(cannot)?;
        let mut exporting = Exporting {
            store: self,
            out: PaxWriter::new(encoder),
            to: to.to_owned(),
            exported: Exported::default(),
            total,
            tell,
        };
        for part in parts {
            exporting.part(part)?;
        }
        let Exporting { out, mut exported, .. } = exporting;
        let mut file = out.finish().and_then(zstd::Encoder::finish).or_say(cannot)?;
        file.flush().or_say(cannot)?;
        exported.size = beside.publish()?;
        Ok(exported)
    }
}

struct Exporting<'a> {
    store: &'a Store,
    out: Out,
    to: PathBuf,
    exported: Exported,
    total: u64,
    tell: &'a dyn Fn(u64, u64) -> Result<()>,
}

impl Exporting<'_> {
    fn part(&mut self, part: &Part) -> Result<()> {
        let head = self.store.stored_head(part.manifest)?;
        let below = if part.below.is_empty() { Vec::new() } else { directory(&part.below) };
        let mut entries = self.store.entries(&head);
        let mut any = false;
        while let Some(entry) = entries.next()? {
            any = true;
            self.entry(&head.head, &below, entry)?;
        }
        if !any {
            let of = format!("`{}` of `{}`", head.head.resource, head.head.tx);
            self.exported.warnings.push(format!("{of} was not there when it was captured"));
        }
        Ok(())
    }

    fn entry(&mut self, head: &Head, below: &[u8], mut entry: Entry) -> Result<()> {
        let shown = |entry: &Entry| format!("`{}/{}`", head.place, entry.path);
        if entry.kind == Type::Socket {
            self.exported.warnings.push(format!("{} is a socket and was left out", shown(&entry)));
            return Ok(());
        }
        if entry.torn {
            self.exported.warnings.push(format!("{} changed while it was captured", shown(&entry)));
        }
        let name_of = |path: &[u8], kind: Type| {
            let mut name = below.to_vec();
            match (path.is_empty(), kind) {
                (true, Type::Dir) if below.is_empty() => name.extend_from_slice(b"./"),
                (true, Type::Dir) => {}
                (true, _) => name.extend_from_slice(&file_name(head, kind)),
                (false, Type::Dir) => {
                    name.extend_from_slice(path);
                    name.push(b'/');
                }
                (false, _) => name.extend_from_slice(path),
            }
            name
        };
        if entry.kind == Type::Stream {
            entry.mode = 0o600;
            entry.mtime = Time(head.at.parse::<jiff::Timestamp>().map_or(0, |at| at.as_second()), 0);
        }
        let name = name_of(&entry.path.0, entry.kind);
        let link = entry.link.as_ref().map(|first| name_of(&first.0, entry.kind));
        let cannot = {
            let to = self.to.clone();
            move || format!("cannot write `{}`", to.display())
        };
        self.out.begin(&Member { name: &name, link: link.as_deref() }, &entry).or_say(&cannot)?;
        self.exported.entries += 1;
        if link.is_none() {
            let mut bytes = 0;
            let (out, done) = (&mut self.out, self.exported.bytes);
            let mut held = Vec::new();
            chunks_of(self.store, &entry, &mut |id, _| {
                held.clear();
                self.store.append(id, &mut held)?;
                out.content(&held).or_say(&cannot)?;
                bytes += held.len() as u64;
                (self.tell)(done + bytes, self.total)
            })
            .map_err(|error| error.within(format!("cannot export {}", shown(&entry))))?;
            if bytes != entry.stored_bytes() {
                return Err(Error::new(format!("the manifest does not fit what is stored of {}", shown(&entry)))
                    .fault(crate::error::Fault::Damage));
            }
            self.exported.bytes += bytes;
        }
        self.out.end().or_say(&cannot)
    }
}

/// The directory of a resource: its name, in which no `/` may stand.
fn directory(name: &str) -> Vec<u8> {
    let name = name.replace('/', "_");
    format!("{name}/").into_bytes()
}

/// How a resource that is a single file is called.
fn file_name(head: &Head, kind: Type) -> Vec<u8> {
    let last = Path::new(&head.place).file_name().map(|name| name.as_bytes().to_vec());
    let dump = |suffix: &str| format!("{}.{suffix}", head.resource.replace('/', "_")).into_bytes();
    match (kind, head.kind.as_str()) {
        // What is stored of these is the database file itself.
        (Type::Stream, "sqlite") => last.unwrap_or_else(|| b"database".to_vec()),
        (Type::Stream, "mysql") => dump("sql"),
        (Type::Stream, _) => dump("dump"),
        _ => last.unwrap_or_else(|| b"file".to_vec()),
    }
}

/// The file while it is written, beside the place where it belongs; removed unless it is published.
struct Beside {
    file: File,
    path: PathBuf,
    to: PathBuf,
}

impl Beside {
    fn create(to: &Path) -> Result<Beside> {
        let name = to.file_name().or_say(|| format!("`{}` does not name a file", to.display()))?;
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}", std::process::id()));
        let path = to.with_file_name(beside);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.or_say(|| format!("cannot create `{}`", path.display()))?;
        Ok(Beside { file, path, to: to.to_owned() })
    }

    /// Durable, under its name, unless that was taken meanwhile. Returns its bytes.
    fn publish(&self) -> Result<u64> {
        let publish = || -> std::io::Result<u64> {
            self.file.sync_all()?;
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                &self.path,
                rustix::fs::CWD,
                &self.to,
                rustix::fs::RenameFlags::NOREPLACE,
            )?;
            let parent = self.to.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(self.file.metadata()?.len())
        };
        publish().or_say(|| format!("cannot write `{}`", self.to.display()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After `publish` that name is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}
