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
use super::live::{Anchor, Facts, split};
use super::manifest::StoredHead;
use super::meta;
use super::object::ObjectId;
use super::side::Side;
use super::stage::{Staged, stage};
use super::tree::{Protect, Tree};
use crate::error::{Error, OrSay, Result};
use crate::resource::Changes;

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
        self.converge(manifest, tree, None, tx, tell)
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
        self.converge(manifest, tree, Some(part), tx, tell)
    }

    fn converge(
        &self,
        manifest: ObjectId,
        tree: &Tree,
        part: Option<&Path>,
        tx: &str,
        tell: &dyn Fn(u64, u64),
    ) -> Result<Changes> {
        let head = self.stored_head(manifest)?;
        let anchor = match Anchor::at(&tree.path)? {
            Some(anchor) => anchor,
            None if head.entries == 0 => return Ok(Changes::default()),
            None => {
                make_parents(&tree.path)?;
                Anchor::at(&tree.path)?.or_say(|| format!("cannot open `{}`", tree.path.display()))?
            }
        };
        let part = match part {
            None => Vec::new(),
            Some(part) => relative(part, tree, &anchor)?,
        };
        let compared = self.compare(&head, tree, Some(&anchor), &part)?;
        refuse(&compared, &anchor)?;
        if !compared.fixes.is_empty() {
            let side = Side::make(&anchor, tx)?;
            match stage(self, &anchor, &side, &compared.fixes, tell).and_then(|staged| side.sync().map(|()| staged)) {
                Ok(staged) => {
                    let swapped =
                        Swap { anchor: &anchor, side: &side, parent: None, aside: 0 }.all(&compared.fixes, &staged);
                    side.keep_parent_time();
                    swapped?;
                    side.sync()?;
                }
                Err(error) => {
                    side.discard();
                    return Err(error);
                }
            }
            let left = self.compare(&head, tree, Some(&anchor), &part)?;
            if !left.changes.is_empty() {
                return Err(differs_still(&anchor, &left));
            }
        }
        let mut items = compared.changes;
        items.extend(compared.kept);
        Ok(Changes { items })
    }
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

fn describe(change: &crate::resource::Change) -> String {
    match change.what {
        crate::resource::What::Added => "it should not be there".into(),
        crate::resource::What::Removed => "it is missing".into(),
        crate::resource::What::Changed => change.details.join(", "),
    }
}

/// Refuses what cannot be done, before anything is changed.
fn refuse(compared: &Comparison, anchor: &Anchor) -> Result<()> {
    let mut refusals = compared.refusals.clone();
    let mut hints = Vec::new();
    let replaces_root = compared.fixes.iter().any(|fix| match fix {
        Fix::Build(entry) => entry.path.0.is_empty(),
        Fix::Displace(path) => path.is_empty(),
        _ => false,
    });
    if replaces_root
        && let Ok(root) = Facts::of(&anchor.dir, &anchor.name)
        && Facts::of(&anchor.dir, b"").is_ok_and(|parent| !root.lies_in(parent.place))
    {
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

/// Makes the directories above the resource that somebody removed.
fn make_parents(path: &Path) -> Result<()> {
    let parent = path.parent().or_say(|| format!("`{}` has no parent", path.display()))?;
    std::fs::create_dir_all(parent).or_say(|| format!("cannot create `{}`", parent.display()))
}

/// Puts what was built in place.
struct Swap<'a> {
    anchor: &'a Anchor,
    side: &'a Side,
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
                        if Facts::of(&fd, b"")?.kind == entry.kind {
                            meta::apply(&fd, entry)
                        } else {
                            Err(Errno::STALE)
                        }
                    });
                    done.or_say(|| format!("cannot set the owner, mode and times of `{}`", self.anchor.shown(path)))?;
                }
            }
        }
        Ok(())
    }

    fn parent(&mut self, path: &[u8]) -> rustix::io::Result<(&OwnedFd, Vec<u8>)> {
        if path.is_empty() {
            return Ok((&self.anchor.dir, self.anchor.name.clone()));
        }
        let (dir, name) = split(path);
        if self.parent.as_ref().is_none_or(|(path, _)| path != dir) {
            let fd = self.anchor.open(dir, OFlags::PATH | OFlags::DIRECTORY)?;
            let facts = Facts::of(&fd, b"")?;
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
