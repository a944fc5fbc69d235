//! `kind = "replace"`: a new tree is unpacked beside the old one, synced, and put in its place by one atomic exchange.
//!
//! Relies on the parent directory being on the filesystem of the tree. Promises: at every instant `path` is the whole
//! old tree or the whole new one; the old one stays beside it, as `.txupgrade-<TX>-old-<step>`, until the transaction's
//! end; nothing is written outside of the side directory before that, whatever the archive says.
//!
//! `strip` is 0 unless the plan says otherwise: what the archive holds is what is put in place. The new tree belongs
//! to the owner of the old one (to us, where there was none) unless `owner` says otherwise; the archive's own owners
//! and extended attributes are not taken over.

mod archive;
mod kept;
mod places;
mod source;
#[cfg(test)]
mod tests;
mod unpack;

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use self::places::{Places, Role};
use self::source::{Checksum, Source};
use self::unpack::Owner;
use super::{Kind, Room, Step};
use crate::context::Context;
use crate::error::{Error, OrSay, Result};
use crate::plan::{Fields, Scope, Template};
use crate::sys::process::{Account, group_id};
use crate::sys::{files, mounts};
use crate::tx::Output;

/// Keys: `path`, `with`, `blake3` or `sha256`, `strip`, `owner` (`user` or `user:group`).
pub(super) const KIND: Kind = Kind { name: "replace", read };

fn read(fields: &mut Fields) -> Box<dyn Step> {
    let path = fields.need_template("path");
    let with = fields.need_template("with");
    let blake3 = fields.template("blake3").map(Checksum::Blake3);
    let sha256 = fields.template("sha256").map(Checksum::Sha256);
    if blake3.is_some() && sha256.is_some() {
        fields.wrong("sha256", "`blake3` and `sha256` exclude each other", None);
    }
    let strip = fields.integer("strip", 0..=64).unwrap_or(0);
    Box::new(Replace {
        path,
        with,
        checksum: blake3.or(sha256),
        strip: usize::try_from(strip).unwrap_or(0),
        owner: fields.template("owner"),
        size: Mutex::new(None),
    })
}

struct Replace {
    path: Template,
    with: Template,
    checksum: Option<Checksum>,
    strip: usize,
    owner: Option<Template>,
    /// What was counted last: reading a large archive twice to say the same is slow.
    size: Mutex<Option<(Stamp, (u64, u64))>>,
}

/// When two looks at a file show the same stamp, it has not changed.
type Stamp = (PathBuf, u64, i64, i64);

impl Step for Replace {
    fn describe(&self, scope: &Scope) -> String {
        let path = self.path.path(scope).unwrap_or_default();
        let with = self.with.expand(scope).unwrap_or_default();
        format!("replace {} with {with}", path.display())
    }

    fn require(&self, cx: &Context<'_>) -> Result<Output> {
        self.places(cx)?.check()?;
        self.owner(cx, None)?;
        let source = self.source(cx)?;
        source.trusted()?;
        source.verify(self.checksum.as_ref(), cx)?;
        let (bytes, _) = self.unpacked(&source, cx)?;
        Ok(Output { bytes: Some(bytes), ..Output::default() })
    }

    fn run(&self, cx: &Context<'_>) -> Result<Output> {
        let places = self.places(cx)?;
        places.check()?;
        let source = self.source(cx)?;
        source.trusted()?;
        source.verify(self.checksum.as_ref(), cx)?;
        places.settle()?;
        for role in [Role::New, Role::Swap] {
            for garbage in places.all(role)? {
                files::remove_tree(&garbage)?;
            }
        }
        let old = places.path.symlink_metadata().ok();
        let new = places.named("new");
        let unpacked = unpack::unpack(&source, self.strip, &new, &self.owner(cx, old.as_ref())?, cx)?;
        let staying = kept::make_way(&places, &cx.kept)?;
        files::sync_filesystem(&new)?;
        // Nothing but the swap remains, and what comes after a signal must find it done or not begun.
        cx.go_on()?;
        places.put_in_place(old.is_some())?;
        kept::move_over(&places, &staying)?;
        let kept = places.all(Role::Old)?.iter().map(|path| path.display().to_string()).collect();
        let note = format!("{} entries", unpacked.items);
        Ok(Output { bytes: Some(unpacked.bytes), note, kept, ..Output::default() })
    }

    fn has_undo(&self) -> bool {
        true
    }

    fn undo_is_files(&self) -> bool {
        true
    }

    fn undo_lasts(&self) -> bool {
        false
    }

    fn undo(&self, cx: &Context<'_>) -> Result<Output> {
        let places = self.places(cx)?;
        places.settle()?;
        // It never was in place, and the way back may need the room.
        for unpacked in places.all(Role::New)? {
            files::remove_tree(&unpacked)?;
        }
        kept::move_back(&places)?;
        let note = places.take_back()?.to_owned();
        Ok(Output { note, ..Output::default() })
    }

    fn replaces(&self, cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        Ok(vec![self.places(cx)?.path])
    }

    fn leftovers(&self, cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        match self.places(cx) {
            Ok(places) => places.everything(),
            // Without its parent directory there is nothing beside it either.
            Err(_) => Ok(Vec::new()),
        }
    }

    fn room(&self, cx: &Context<'_>) -> Result<Vec<Room>> {
        let places = self.places(cx)?;
        let with = self.with.path(&cx.scope)?;
        // A step may still have to fetch it.
        match with.try_exists() {
            Ok(true) => {
                let (bytes, files) = self.unpacked(&self.source(cx)?, cx)?;
                Ok(vec![Room { path: places.parent.clone(), bytes, files }])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn spent(&self, cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        match self.places(cx) {
            Ok(places) => places.all(Role::Gone),
            Err(_) => Ok(Vec::new()),
        }
    }
}

impl Replace {
    fn places(&self, cx: &Context<'_>) -> Result<Places> {
        Places::find(&self.path.path(&cx.scope)?, &cx.tx, &cx.subject)
    }

    fn source(&self, cx: &Context<'_>) -> Result<Source> {
        let source = Source::find(&self.with.path(&cx.scope)?)?;
        if let Source::Directory(dir) = &source {
            if self.checksum.is_some() {
                return Err(Error::new(format!("`{}` is a directory, and only a file has a checksum", dir.display())));
            }
            if self.strip > 0 {
                return Err(Error::new(format!("`{}` is a directory: nothing to `strip`", dir.display()))
                    .hint("name the directory below it instead"));
            }
            if self.places(cx)?.parent.starts_with(dir) {
                return Err(Error::new(format!("`{}` holds the place it would be copied to", dir.display())));
            }
        }
        Ok(source)
    }

    /// How many bytes and files the new tree has.
    fn unpacked(&self, source: &Source, cx: &Context<'_>) -> Result<(u64, u64)> {
        let stamp = stamp(source.path()).ok();
        let mut known = self.size.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(stamp), Some((of, size)), false) = (&stamp, &*known, matches!(source, Source::Directory(_)))
            && stamp == of
        {
            return Ok(*size);
        }
        let (mut bytes, mut files) = (0, 0);
        source.each(self.strip, &mut |item, _| {
            // Every entry costs a block or so, even when it is empty.
            bytes += item.size().next_multiple_of(4096) + 512;
            files += 1;
            cx.go_on()
        })?;
        *known = stamp.map(|stamp| (stamp, (bytes, files)));
        Ok((bytes, files))
    }

    fn owner(&self, cx: &Context<'_>, old: Option<&std::fs::Metadata>) -> Result<Owner> {
        let mode = old.map_or(0o755, |old| old.mode() & 0o7777);
        let Some(owner) = &self.owner else {
            let ids = old.filter(|_| rustix::process::geteuid().is_root()).map(|old| (old.uid(), old.gid()));
            return Ok(Owner { ids, mode });
        };
        let owner = owner.expand(&cx.scope)?;
        let (user, group) = owner.split_once(':').unwrap_or((owner.as_str(), ""));
        let user = Account::find(user)?.uid;
        let group = match group {
            "" => old.map_or_else(|| rustix::process::getegid().as_raw(), MetadataExt::gid),
            group => group_id(group)?,
        };
        Ok(Owner { ids: Some((user, group)), mode })
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let meta = path.metadata()?;
    Ok((path.to_owned(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

impl Places {
    /// Whether the swap can be done at all.
    fn check(&self) -> Result<()> {
        let shown = self.path.display();
        match self.path.symlink_metadata() {
            Ok(meta) if meta.is_symlink() => {
                let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
                return Err(Error::new(format!("`{shown}` is a symbolic link"))
                    .hint(format!("name what it points to: path = \"{}\"", target.display())));
            }
            Ok(meta) if !meta.is_dir() => return Err(Error::new(format!("`{shown}` is not a directory"))),
            Ok(meta) => {
                if mounts::is_mount_point(&self.path)? {
                    return Err(Error::new(format!("`{shown}` is a mount point and cannot be replaced by a rename")));
                }
                if let Some(inner) = mounts::below(&self.path)?.first() {
                    return Err(Error::new(format!("`{shown}` cannot be replaced"))
                        .because(format!("something is mounted inside, at `{}`", inner.display())));
                }
                let parent = self.parent.metadata().or_say(|| format!("cannot look at `{}`", self.parent.display()))?;
                if parent.dev() != meta.dev() {
                    return Err(Error::new(format!(
                        "`{shown}` is on another filesystem than the directory that holds it"
                    )));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::new(format!("cannot look at `{shown}`")).because(error)),
        }
        Ok(())
    }
}
