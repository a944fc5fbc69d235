//! Restore: makes a live tree equal to a manifest, from whatever state it finds.
//!
//! In this order: compare; build all that is new beside the resource, which reads and checks every object; sync; put it
//! in place by exchanging names, so that each file is at any instant either the old one or the new one, and what was
//! displaced is kept; set directories' metadata; sync; compare again. A restore that died is simply run again.
//!
//! Where there is no room to build beside, and the caller has read and checked all that the manifest needs and says so
//! ([`Replaced::GoesFirst`]), what was added is removed first, then what is to be replaced; it all goes on from there.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Store;
use super::built::Built;
use super::compare::{Comparison, Fix, compare};
use super::fetch::{Held, OnBad};
use super::live::{Anchor, resolved};
use super::manifest::StoredHead;
use super::object::{Bytes, ObjectId};
use super::side::Side;
use super::stage::{self, Lost, Staged, stage};
use super::swap::Swap;
use super::tree::{Protect, Replaced, Stamps, Tree};
use super::verify::Hits;
use crate::error::{Error, OrSay, Result};
use crate::resource::{Change, Changes};
use crate::sys::files;

/// How often a restore begins again when the tree still differs.
const ROUNDS: usize = 2;

impl Store {
    /// How the live tree differs from the manifest. Changes nothing.
    pub fn diff_tree(&self, manifest: ObjectId, tree: &Tree) -> Result<Changes> {
        let head = self.stored_head(manifest)?;
        let anchor = Anchor::at(&tree.path)?;
        let compared = self.compare(&head, tree, anchor.as_ref(), b"", &Built::default())?;
        Ok(Changes { items: compared.changes })
    }

    /// Reads and checks every object that a restore would need if it came now, and remembers what differs for that restore.
    /// Changes nothing. Returns bytes read; an error (`Fault::Damage`) names the files that cannot be restored.
    pub fn foresee_tree(&self, manifest: ObjectId, tree: &Tree, tell: &dyn Fn(u64, u64)) -> Result<u64> {
        let head = self.stored_head(manifest)?;
        let Some(anchor) = Anchor::at(&tree.path)? else {
            return self.prove(&[manifest], tell);
        };
        self.index.hurry()?;
        let comparison = self.compare(&head, tree, Some(&anchor), b"", &Built::default())?;
        let Some((read, held)) = stage::rehearse(self, &anchor, &comparison.fixes, tell)? else {
            // That says what is the matter, and whether only the index leads astray.
            return self.prove(&[manifest], tell);
        };
        self.lock_compared().push(Compared { manifest, tree: tree.clone(), comparison, held });
        Ok(read)
    }

    /// Forgets what was compared: something has run since.
    pub fn forget_compared(&self) {
        self.lock_compared().clear();
    }

    fn lock_compared(&self) -> std::sync::MutexGuard<'_, Vec<Compared>> {
        self.compared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn compare(
        &self,
        head: &StoredHead,
        tree: &Tree,
        anchor: Option<&Anchor>,
        part: &[u8],
        built: &Built,
    ) -> Result<Comparison> {
        let protect = match anchor {
            Some(anchor) => Protect::new(tree, anchor, &head.head.facts)?,
            None => Protect::nothing(tree)?,
        };
        tracing::debug!("compares {} with {}", tree.path.display(), head.head.tx);
        let compared = compare(self, head, anchor, &Arc::new(protect), part, built, tree.stamps);
        tracing::debug!("has compared");
        compared
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
        let remembered = if part.is_empty() { self.recall(manifest, tree) } else { None };
        let (first, mut held) = match remembered {
            Some(compared) => (compared.comparison, compared.held),
            None => (self.compare(&head, tree, Some(&anchor), &part, &Built::default())?, Held::new()),
        };
        refuse(&first, &anchor, &head)?;
        let mut now = first;
        let mut items = std::mem::take(&mut now.changes);
        items.append(&mut now.kept);
        let mut lost = Lost::new();
        // It is right the first time, unless something still writes, or has written since it was compared.
        for _ in 0..ROUNDS {
            if now.fixes.is_empty() || !lost.is_empty() {
                break;
            }
            let built;
            (lost, built) = self.fix(&anchor, tree.replaced, (&now.fixes, &held), on_bad, tx, tell)?;
            held = Held::new();
            // What differs under its old times has been found, and what was built has new ones.
            let tree = Tree { stamps: Stamps::Count, ..tree.clone() };
            now = self.compare(&head, &tree, Some(&anchor), &part, &built)?;
            refuse(&now, &anchor, &head)?;
        }
        now.changes.retain(|change| !is_lost(change, &lost));
        if !now.changes.is_empty() {
            return Err(differs_still(&anchor, &now.changes));
        }
        if !lost.is_empty() {
            let count = lost.len();
            let files = if count == 1 { "1 file, which is".to_owned() } else { format!("{count} files, which are") };
            let statement = format!("`{}` is restored but for {files} left as found", anchor.shown(b""));
            return Err(self.lost(&anchor, &lost, statement));
        }
        Ok(Changes { items })
    }

    /// Takes what is remembered of the tree.
    fn recall(&self, manifest: ObjectId, tree: &Tree) -> Option<Compared> {
        let mut all = self.lock_compared();
        let at = all.iter().position(|compared| compared.manifest == manifest && compared.tree == *tree)?;
        Some(all.remove(at))
    }

    /// Builds what is to be built beside the resource, and puts it in place. After an error before the first change nothing
    /// is left beside. Returns what could not be built.
    fn fix(
        &self,
        anchor: &Anchor,
        replaced: Replaced,
        (fixes, held): (&[Fix], &Held),
        on_bad: OnBad,
        tx: &str,
        tell: &dyn Fn(u64, u64),
    ) -> Result<(Lost, Built)> {
        let beside = || self.staged(anchor, (fixes, held), on_bad, tx, tell);
        let mut staged = beside();
        // Where there is no room for both, what has to go anyway goes first.
        for goes in [Goes::Added, Goes::Replaced] {
            match &staged {
                Err(error) if replaced == Replaced::GoesFirst && error.is_no_room() => {
                    remove(anchor, fixes, goes)?;
                    staged = beside();
                }
                _ => break,
            }
        }
        let (side, mut staged) = staged?;
        tracing::debug!("puts it in place");
        let built = std::mem::take(&mut staged.built).placed();
        let swapped = Swap::at(anchor, &side)?.all(fixes, &staged);
        side.keep_parent_time();
        swapped?;
        tracing::debug!("syncs what was put in place");
        side.sync()?;
        Ok((staged.lost, built))
    }

    /// Builds everything beside the resource, and makes it durable. After an error nothing is left there.
    fn staged(
        &self,
        anchor: &Anchor,
        (fixes, held): (&[Fix], &Held),
        on_bad: OnBad,
        tx: &str,
        tell: &dyn Fn(u64, u64),
    ) -> Result<(Side, Staged)> {
        loop {
            let side = Side::make(anchor, tx)?;
            tracing::debug!("builds beside {}", anchor.shown(b""));
            let staged =
                stage(self, anchor, &side, (fixes, held), tell).and_then(|staged| side.sync().map(|()| staged));
            let error = match staged {
                Ok(staged) if staged.lost.is_empty() => return Ok((side, staged)),
                Ok(staged) => {
                    let error =
                        self.lost(anchor, &staged.lost, "the snapshot is damaged; nothing was changed".to_owned());
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
    fn lost(&self, anchor: &Anchor, lost: &Lost, statement: String) -> Error {
        let mut hits = Hits::default();
        for (path, why) in lost {
            hits.add(format!("`{}` cannot be restored", anchor.shown(path)), why.clone());
        }
        hits.tell(self, Error::new(statement))
    }
}

/// Whether a difference is of something that was left as it is, or of what is below it.
fn is_lost(change: &Change, lost: &Lost) -> bool {
    let path = if change.name == "." { Some(Bytes::default()) } else { Bytes::from_text(&change.name) };
    let Some(Bytes(path)) = path else { return false };
    let ends = (0..path.len()).filter(|&at| path[at] == b'/').chain([0, path.len()]);
    ends.into_iter().any(|end| lost.contains_key(&path[..end]))
}

/// What of a live tree goes before anything is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    Added,
    Replaced,
}

/// Removes what a restore would put aside.
fn remove(anchor: &Anchor, fixes: &[Fix], goes: Goes) -> Result<()> {
    for fix in fixes {
        let path = match (fix, goes) {
            (Fix::Displace(path), Goes::Added) => path,
            (Fix::Build(entry), Goes::Replaced) => &entry.path.0,
            _ => continue,
        };
        let (dir, name) = match anchor.open_parent(path) {
            // It is in something that is missing as a whole.
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            opened => opened.or_say(|| format!("cannot remove `{}`", anchor.shown(path)))?,
        };
        // No symlink leads elsewhere: the directory is the one that was opened without following any.
        let dir = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir));
        files::remove_tree(&Path::new(&dir).join(std::ffi::OsStr::from_bytes(name)))?;
    }
    Ok(())
}

/// How a live tree differs from a manifest, as long as nothing else has run.
#[derive(Debug)]
pub(super) struct Compared {
    manifest: ObjectId,
    tree: Tree,
    comparison: Comparison,
    held: Held,
}

/// A path in the tree, as entries are named.
fn relative(part: &Path, tree: &Tree, anchor: &Anchor) -> Result<Vec<u8>> {
    let inside = part.strip_prefix(&tree.path).or_else(|_| part.strip_prefix(anchor.root()));
    let inside = inside.or_say(|| format!("`{}` is not in `{}`", part.display(), tree.path.display()))?;
    let plain: std::path::PathBuf = inside.components().collect();
    Ok(plain.as_os_str().as_bytes().to_vec())
}

fn differs_still(anchor: &Anchor, left: &[Change]) -> Error {
    let shown = anchor.shown(b"");
    let mut error = Error::new(format!("`{shown}` still differs from the snapshot after it was restored"));
    for change in left.iter().take(5) {
        error = error.because(format!("`{}`: {}", change.name, describe(change)));
    }
    if left.len() > 5 {
        error = error.because(format!("and {} more", left.len() - 5));
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
