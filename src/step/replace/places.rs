//! Where the trees of one `replace` stand, and the renames between these places.
//!
//! Beside `path` there may be, each as `.txupgrade-<TX>-<role>-<step>`: `new` (being unpacked: garbage after a death),
//! `swap.<inode>` (about to be exchanged), `old` (the tree that was replaced), `none` (a mark: there was no tree),
//! `back.<inode>` (about to be exchanged back), `gone` (what an undo took away), `kept` (the list of
//! what stays, see [`kept`](super::kept); `kept.0` while it is written).
//!
//! Why the inode: after `exchange(a, b)` the names are the same as before it. `swap` and `back` carry the inode of the tree
//! they hold *before* the exchange, so whoever comes after a death knows on which side of it they are, and the old
//! tree can never be taken for garbage.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Error, OrSay, Result};
use crate::sys::files;

/// What a side copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Not yet in place.
    New,
    /// At the exchange.
    Swap,
    /// What was replaced.
    Old,
    /// The mark that nothing was replaced.
    None,
    /// At the exchange back.
    Back,
    /// What was taken away again.
    Gone,
    /// The list of what stays where it is.
    Kept,
}

impl Role {
    fn of(word: &str) -> Option<(Role, Option<u64>)> {
        let (word, inode) = match word.split_once('.') {
            Some((word, inode)) => (word, Some(inode.parse().ok()?)),
            None => (word, None),
        };
        let role = match (word, inode) {
            ("new", None) => Role::New,
            ("old", None) => Role::Old,
            ("none", None) => Role::None,
            ("gone", None) => Role::Gone,
            ("kept", _) => Role::Kept,
            ("swap", Some(_)) => Role::Swap,
            ("back", Some(_)) => Role::Back,
            _ => return None,
        };
        Some((role, inode))
    }
}

/// The places of one step of one transaction.
#[derive(Debug)]
pub(super) struct Places {
    /// The tree's own place, its parent's links resolved.
    pub(super) path: PathBuf,
    /// The directory that holds it.
    pub(super) parent: PathBuf,
    prefix: String,
    step: String,
}

impl Places {
    pub(super) fn find(path: &Path, tx: &str, step: &str) -> Result<Places> {
        let name = path.file_name().or_say(|| format!("`{}` cannot be replaced", path.display()))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let parent = fs::canonicalize(parent)
            .or_say(|| format!("cannot replace `{}`: its directory is not there", path.display()))?;
        Ok(Places { path: parent.join(name), parent, prefix: format!(".txupgrade-{tx}-"), step: as_file_name(step) })
    }

    pub(super) fn named(&self, role: &str) -> PathBuf {
        self.parent.join(format!("{}{role}-{}", self.prefix, self.step))
    }

    /// Every side copy of this step, sorted.
    pub(super) fn everything(&self) -> Result<Vec<PathBuf>> {
        Ok(self.scan()?.into_iter().map(|(_, _, path)| path).collect())
    }

    pub(super) fn all(&self, role: Role) -> Result<Vec<PathBuf>> {
        Ok(self.scan()?.into_iter().filter(|(is, ..)| *is == role).map(|(_, _, path)| path).collect())
    }

    fn scan(&self) -> Result<Vec<(Role, Option<u64>, PathBuf)>> {
        let say = || format!("cannot list `{}`", self.parent.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.parent).or_say(say)? {
            let entry = entry.or_say(say)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some((role, step)) = name.strip_prefix(&self.prefix).and_then(|rest| rest.split_once('-')) else {
                continue;
            };
            if let (Some((role, inode)), true) = (Role::of(role), step == self.step) {
                found.push((role, inode, entry.path()));
            }
        }
        found.sort_by(|a, b| a.2.cmp(&b.2));
        Ok(found)
    }

    /// Gives what a death left between two renames its final name. Deletes nothing.
    pub(super) fn settle(&self) -> Result<()> {
        for (role, was, place) in self.scan()? {
            let swapped = Some(inode(&place)?) != was;
            match (role, swapped) {
                (Role::Swap, true) if !exists(&self.named("old"))? && !exists(&self.named("none"))? => {
                    files::rename_durably(&place, &self.named("old"))?;
                }
                (Role::Back, false) if !exists(&self.named("old"))? => {
                    files::rename_durably(&place, &self.named("old"))?;
                }
                (Role::Back, true) if !exists(&self.named("gone"))? => {
                    files::rename_durably(&place, &self.named("gone"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The complete tree `new` becomes `path`.
    pub(super) fn put_in_place(&self, there_is_one: bool) -> Result<()> {
        let new = self.named("new");
        let first = !exists(&self.named("old"))? && !exists(&self.named("none"))?;
        if !there_is_one {
            if first {
                files::create_private_dir(&self.named("none"))?;
                files::sync_dir(&self.parent)?;
            }
            return move_to_nothing(&new, &self.path);
        }
        let swap = self.named(&format!("swap.{}", inode(&new)?));
        files::rename_durably(&new, &swap)?;
        // After an earlier run of this step the old tree is safe already, and what is displaced now is our own.
        let aside = self.named(if first { "old" } else { "gone" });
        files::remove_tree(&self.named("gone"))?;
        let displaced = exchange(&swap, &self.path, &aside)?;
        files::sync_dir(&self.parent)?;
        if displaced != aside {
            files::rename_durably(displaced, &aside)?;
        }
        Ok(())
    }

    /// The old tree becomes `path` again, if there is one to take back. Says what it did.
    pub(super) fn take_back(&self) -> Result<&'static str> {
        let (old, gone) = (self.named("old"), self.named("gone"));
        if exists(&old)? {
            if !exists(&self.path)? {
                move_to_nothing(&old, &self.path)?;
                return Ok("the old tree is back");
            }
            let back = self.named(&format!("back.{}", inode(&old)?));
            files::rename_durably(&old, &back)?;
            files::remove_tree(&gone)?;
            let displaced = exchange(&back, &self.path, &gone)?;
            files::sync_dir(&self.parent)?;
            if displaced != gone {
                files::rename_durably(displaced, &gone)?;
            }
            return Ok("the old tree is back");
        }
        let none = self.named("none");
        if exists(&none)? {
            if exists(&self.path)? {
                files::remove_tree(&gone)?;
                files::rename_durably(&self.path, &gone)?;
            }
            files::remove_tree(&none)?;
            return Ok("the new tree is gone again");
        }
        Ok("")
    }
}

/// Exchanges the trees at `side` and `place` at one instant. Returns where the displaced tree is now: at `side`, or, on a
/// filesystem that knows no exchange, at `aside` (a death in between leaves no `place`, which `take_back` mends).
fn exchange<'a>(side: &'a Path, place: &Path, aside: &'a Path) -> Result<&'a Path> {
    match renameat_with(CWD, side, CWD, place, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(side),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            files::rename_durably(place, aside)?;
            files::rename_durably(side, place)?;
            Ok(aside)
        }
        Err(error) => {
            Err(Error::new(format!("cannot put `{}` in the place of `{}`", side.display(), place.display()))
                .because(error))
        }
    }
}

fn move_to_nothing(from: &Path, to: &Path) -> Result<()> {
    let say = || format!("cannot move `{}` to `{}`", from.display(), to.display());
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !exists(to)? => fs::rename(from, to).or_say(say)?,
        Err(error) => return Err(Error::new(say()).because(error)),
    }
    match to.parent() {
        Some(parent) => files::sync_dir(parent),
        None => Ok(()),
    }
}

pub(super) fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::new(format!("cannot look at `{}`", path.display())).because(error)),
    }
}

fn inode(path: &Path) -> Result<u64> {
    Ok(path.symlink_metadata().or_say(|| format!("cannot look at `{}`", path.display()))?.ino())
}

/// The name of a step's instance as part of a file name; `each` may put any text into it.
fn as_file_name(step: &str) -> String {
    let mut name = String::new();
    for byte in step.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'@' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > 100 {
        name.truncate(80);
        name.push_str(&blake3::hash(step.as_bytes()).to_hex()[..16]);
    }
    name
}
