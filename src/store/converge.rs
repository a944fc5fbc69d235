//! Restore: makes a live tree equal to a manifest, from whatever state it finds.
//!
//! In this order: compare; build all that is new beside the resource, which reads and checks every object; sync; put it
//! in place by exchanging names, so that each file is at any instant either the old one or the new one, and what was
//! displaced is kept; set directories' metadata; sync; compare again. A restore that died is simply run again.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Store;
use super::compare::{Comparison, Fix, compare};
use super::fetch::OnBad;
use super::live::{Anchor, Facts, resolved, split};
use super::manifest::StoredHead;
use super::meta;
use super::object::{Bytes, ObjectId};
use super::side::Side;
use super::stage::{Staged, stage};
use super::tree::{Protect, Tree};
use super::verify::Hits;
use crate::error::{Error, OrSay, Result};
use crate::resource::{Change, Changes};

impl Store {
    /// How the live tree differs from the manifest. Changes nothing.
    pub fn diff_tree(&self, manifest: ObjectId, tree: &Tree) -> Result<Changes> {
        let head = self.stored_head(manifest)?;
        let anchor = Anchor::at(&tree.path)?;
        let compared = self.compare(&head, tree, anchor.as_ref(), b"")?;
        Ok(Changes { items: compared.changes })
    }

    fn compare(&self, head: &StoredHead, tree: &Tree, anchor: Option<&Anchor>, part: &[u8]) -> Result<Comparison> {
        let protect = match anchor {
            Some(anchor) => Protect::new(tree, anchor, &head.head.facts)?,
            None => Protect::nothing(tree)?,
        };
        compare(self, head, anchor, &protect, part)
    }

    /// Makes the live tree equal to the manifest; displaced things go to the side directory of transaction `tx`. Durable
    /// when it returns; what it returns is what was different, and what had to stay.
    pub fn restore_tree(&self, manifest: ObjectId, tree: &Tree, tx: &str, tell: &dyn Fn(u64, u64)) -> Result<Changes> {
        self.converge(manifest, tree, None, OnBad::Stop, tx, tell)
    }

    /// The same of what can be restored, although something of what it needs is damaged: a file whose objects are not all
    /// whole is left as it is. An error (`Fault::Damage`) names these.
    pub fn salvage_tree(&self, manifest: ObjectId, tree: &Tree, tx: &str, tell: &dyn Fn(u64, u64)) -> Result<Changes> {
        self.converge(manifest, tree, None, OnBad::GoOn, tx, tell)
    }

    /// The same for what is at `part`, an absolute path in the tree, and below it only.
    pub fn restore_part(
        &self,
        manifest: ObjectId,
        tree: &Tree,
        part: &Path,
        tx: &str,
        tell: &dyn Fn(u64, u64),
    ) -> Result<Changes> {
        self.converge(manifest, tree, Some(part), OnBad::Stop, tx, tell)
    }

    fn converge(
        &self,
        manifest: ObjectId,
        tree: &Tree,
        part: Option<&Path>,
        on_bad: OnBad,
        tx: &str,
        tell: &dyn Fn(u64, u64),
    ) -> Result<Changes> {
        let head = self.stored_head(manifest)?;
        let anchor = match Anchor::at(&tree.path)? {
            Some(anchor) => anchor,
            None if head.entries == 0 => return Ok(Changes::default()),
            None => {
                make_parents(tree)?;
                Anchor::at(&tree.path)?.or_say(|| format!("cannot open `{}`", tree.path.display()))?
            }
        };
        refuse_elsewhere(tree, &anchor.root())?;
        let part = match part {
            None => Vec::new(),
            Some(part) => relative(part, tree, &anchor)?,
        };
        let compared = self.compare(&head, tree, Some(&anchor), &part)?;
        refuse(&compared, &anchor, &head)?;
        if !compared.fixes.is_empty() {
            let (side, staged) = self.staged(&anchor, tx, &compared.fixes, on_bad, tell)?;
            let place = Facts::of(&anchor.dir, &anchor.name).or_else(|_| Facts::of(&anchor.dir, b""));
            let place = place.or_say(|| format!("cannot look at `{}`", anchor.shown(b"")))?.place;
            let swap = Swap { anchor: &anchor, side: &side, place, parent: None, aside: 0 };
            let swapped = swap.all(&compared.fixes, &staged);
            side.keep_parent_time();
            swapped?;
            side.sync()?;
            let mut left = self.compare(&head, tree, Some(&anchor), &part)?;
            left.changes.retain(|change| !is_lost(change, &staged));
            if !left.changes.is_empty() {
                return Err(differs_still(&anchor, &left));
            }
            if !staged.lost.is_empty() {
                let count = staged.lost.len();
                let files =
                    if count == 1 { "1 file, which is".to_owned() } else { format!("{count} files, which are") };
                let shown = anchor.shown(b"");
                return Err(self.lost(
                    &anchor,
                    &staged,
                    format!("`{shown}` is restored but for {files} left as found"),
                ));
            }
        }
        let mut items = compared.changes;
        items.extend(compared.kept);
        Ok(Changes { items })
    }

    /// Builds everything beside the resource, and makes it durable. After an error nothing is left there.
    fn staged(
        &self,
        anchor: &Anchor,
        tx: &str,
        fixes: &[Fix],
        on_bad: OnBad,
        tell: &dyn Fn(u64, u64),
    ) -> Result<(Side, Staged)> {
        loop {
            let side = Side::make(anchor, tx)?;
            let staged = stage(self, anchor, &side, fixes, tell).and_then(|staged| side.sync().map(|()| staged));
            let error = match staged {
                Ok(staged) if staged.lost.is_empty() => return Ok((side, staged)),
                Ok(staged) => {
                    let error = self.lost(anchor, &staged, "the snapshot is damaged; nothing was changed".to_owned());
                    match self.mend(&error) {
                        Ok(false) if on_bad == OnBad::GoOn => return Ok((side, staged)),
                        Ok(false) => error,
                        Ok(true) => {
                            side.discard();
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            side.discard();
            return Err(error);
        }
    }

    /// Says which files cannot be restored, and why.
    fn lost(&self, anchor: &Anchor, staged: &Staged, statement: String) -> Error {
        let mut hits = Hits::default();
        for (path, why) in &staged.lost {
            hits.add(format!("`{}` cannot be restored", anchor.shown(path)), why.clone());
        }
        hits.tell(self, Error::new(statement))
    }
}

/// Whether a difference is of something that was left as it is, or of what is below it.
fn is_lost(change: &Change, staged: &Staged) -> bool {
    let path = if change.name == "." { Some(Bytes::default()) } else { Bytes::from_text(&change.name) };
    let Some(Bytes(path)) = path else { return false };
    let ends = (0..path.len()).filter(|&at| path[at] == b'/').chain([0, path.len()]);
    ends.into_iter().any(|end| staged.lost.contains_key(&path[..end]))
}

/// A path in the tree, as entries are named.
fn relative(part: &Path, tree: &Tree, anchor: &Anchor) -> Result<Vec<u8>> {
    let inside = part.strip_prefix(&tree.path).or_else(|_| part.strip_prefix(anchor.root()));
    let inside = inside.or_say(|| format!("`{}` is not in `{}`", part.display(), tree.path.display()))?;
    let plain: std::path::PathBuf = inside.components().collect();
    Ok(plain.as_os_str().as_bytes().to_vec())
}

fn differs_still(anchor: &Anchor, left: &Comparison) -> Error {
    let shown = anchor.shown(b"");
    let mut error = Error::new(format!("`{shown}` still differs from the snapshot after it was restored"));
    for change in left.changes.iter().take(5) {
        error = error.because(format!("`{}`: {}", change.name, describe(change)));
    }
    if left.changes.len() > 5 {
        error = error.because(format!("and {} more", left.changes.len() - 5));
    }
    error.hint(format!("see that nothing writes to `{shown}`, then try again"))
}

fn describe(change: &Change) -> String {
    match change.what {
        crate::resource::What::Added => "it should not be there".into(),
        crate::resource::What::Removed => "it is missing".into(),
        crate::resource::What::Changed => change.details.join(", "),
    }
}

/// Refuses what cannot be done, before anything is changed.
fn refuse(compared: &Comparison, anchor: &Anchor, head: &StoredHead) -> Result<()> {
    let mut refusals = compared.refusals.clone();
    let was_mounted = head.head.facts.get("mounted").and_then(serde_json::Value::as_bool);
    if was_mounted == Some(false) && anchor.is_mounted()? {
        let shown = anchor.shown(b"");
        refusals.push(format!("something is mounted at `{shown}` that was not when it was captured"));
    }
    let mut hints = Vec::new();
    let replaces_root = compared.fixes.iter().any(|fix| match fix {
        Fix::Build(entry) => entry.path.0.is_empty(),
        Fix::Displace(path) => path.is_empty(),
        _ => false,
    });
    if replaces_root && refusals.is_empty() && anchor.is_mounted()? {
        refusals.push(format!("something is mounted at `{}`, which has to be replaced", anchor.shown(b"")));
    }
    for refusal in &refusals {
        if refusal.starts_with("something is mounted at")
            && let Some(path) = refusal.split('`').nth(1)
        {
            hints.push(format!("`umount {path}`, then try again"));
        }
    }
    if refusals.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(format!("cannot restore `{}`; nothing was changed", anchor.shown(b"")));
    error = refusals.into_iter().fold(error, |error, refusal| error.because(refusal));
    Err(hints.into_iter().fold(error, Error::hint))
}

/// A directory above may have become a symlink, at this very moment: what `root` leads to is where it was captured, or
/// nothing is done.
fn refuse_elsewhere(tree: &Tree, root: &Path) -> Result<()> {
    if tree.homes.is_empty() || tree.homes.iter().any(|home| home == root) {
        return Ok(());
    }
    Err(Error::new(format!("`{}` is not where it was captured; nothing was changed", tree.path.display()))
        .because(format!("its path leads to `{}` now", root.display()))
        .hint("see which directory above it has become a symlink, put it back, then try again"))
}

/// Makes the directories above the resource that somebody removed, none of them through a symlink.
fn make_parents(tree: &Tree) -> Result<()> {
    let path = resolved(&tree.path);
    refuse_elsewhere(tree, &path)?;
    let parent = path.parent().or_say(|| format!("`{}` has no parent", path.display()))?;
    let cannot = || format!("cannot create `{}`", parent.display());
    let mut at =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).or_say(cannot)?;
    for part in parent.components().skip(1) {
        let name = part.as_os_str();
        match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(cause) => return Err(cause).or_say(cannot),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        at = rustix::fs::openat(&at, name, flags, Mode::empty()).or_say(cannot)?;
    }
    Ok(())
}

/// Puts what was built in place.
struct Swap<'a> {
    anchor: &'a Anchor,
    side: &'a Side,
    /// The resource's device and mount.
    place: (u32, u32, Option<u64>),
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// How many things were put aside without a replacement.
    aside: u64,
}

impl Swap<'_> {
    fn all(mut self, fixes: &[Fix], staged: &Staged) -> Result<()> {
        for fix in fixes {
            match fix {
                Fix::Build(entry) => {
                    // What is not there is part of something larger that is put in place as a whole.
                    if let Some(slot) = staged.slots.get(&entry.path.0) {
                        self.put(&entry.path.0, slot)?;
                    }
                }
                Fix::Displace(path) => self.displace(path)?,
                Fix::Mend(entry) | Fix::Settle(entry) => {
                    let path = &entry.path.0;
                    let done = self.anchor.open(path, OFlags::PATH).and_then(|fd| {
                        let facts = self.inside(&fd)?;
                        if facts.kind == entry.kind { meta::apply(&fd, entry) } else { Err(Errno::STALE) }
                    });
                    done.or_say(|| format!("cannot set the owner, mode and times of `{}`", self.anchor.shown(path)))?;
                }
            }
        }
        Ok(())
    }

    /// What is open, unless something was mounted there since it was compared.
    fn inside(&self, fd: &OwnedFd) -> rustix::io::Result<Facts> {
        let facts = Facts::of(fd, b"")?;
        if facts.place == self.place { Ok(facts) } else { Err(Errno::XDEV) }
    }

    fn parent(&mut self, path: &[u8]) -> rustix::io::Result<(&OwnedFd, Vec<u8>)> {
        if path.is_empty() {
            return Ok((&self.anchor.dir, self.anchor.name.clone()));
        }
        let (dir, name) = split(path);
        if self.parent.as_ref().is_none_or(|(path, _)| path != dir) {
            let fd = self.anchor.open(dir, OFlags::PATH | OFlags::DIRECTORY)?;
            let facts = self.inside(&fd)?;
            // Without this its owner could not change it; its mode is set at the end.
            if facts.mode & 0o300 != 0o300 && facts.uid == rustix::process::geteuid().as_raw() {
                let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
                rustix::fs::chmod(name, Mode::from_raw_mode(facts.mode | 0o700))?;
            }
            self.parent = Some((dir.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("it was set just now");
        Ok((fd, name.to_vec()))
    }

    fn put(&mut self, path: &[u8], slot: &[u8]) -> Result<()> {
        let shown = self.anchor.shown(path);
        let side = &self.side.dir;
        let mut work = || -> rustix::io::Result<()> {
            let (dir, name) = self.parent(path)?;
            match rustix::fs::renameat_with(side, slot, dir, &name, RenameFlags::EXCHANGE) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                // The filesystem cannot exchange names: put the old one aside first.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    let aside = [slot, b".displaced"].concat();
                    match rustix::fs::renameat(dir, &name, side, &aside) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => return Err(e),
            }
            match rustix::fs::renameat_with(side, slot, dir, &name, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(side, slot, dir, &name),
                done => done,
            }
        };
        work().or_say(|| format!("cannot put `{shown}` in place"))?;
        self.parent = self.parent.take().filter(|(dir, _)| dir != path && !dir.starts_with(path));
        Ok(())
    }

    fn displace(&mut self, path: &[u8]) -> Result<()> {
        let shown = self.anchor.shown(path);
        self.aside += 1;
        let aside = format!("extra-{}", self.aside);
        let side = &self.side.dir;
        let mut work = || -> rustix::io::Result<()> {
            let (dir, name) = self.parent(path)?;
            match rustix::fs::renameat(dir, &name, side, &aside) {
                // It is gone by itself.
                Err(Errno::NOENT) => Ok(()),
                done => done,
            }
        };
        work().or_say(|| format!("cannot put `{shown}` aside"))
    }
}
