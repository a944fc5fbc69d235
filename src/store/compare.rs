//! Comparing a live tree with a manifest: both are read in the same order, and what differs is noted, for people and for
//! the restore. Changes nothing.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::built::Built;
use super::live::{Anchor, Facts};
use super::manifest::{Entry, StoredHead, Time, Type, is_untouched, order};
use super::object::Bytes;
use super::part::{Scope, Severed, is_inside, scope};
use super::recorded::{ReadAhead, Recorded};
use super::tree::{IsDir, Protect, Stamps, Why};
use super::walk::{Found, Walk, Whose};
use super::{Store, content, meta};
use crate::error::{Fault, OrSay, Result};
use crate::resource::{Change, What};

/// One thing to be done to make the live tree equal to the manifest.
#[derive(Debug)]
pub(crate) enum Fix {
    /// It is built beside and put in place of what may be there.
    Build(Box<Entry>),
    /// Its metadata are set.
    Mend(Box<Entry>),
    /// It is put aside: the manifest does not have it.
    Displace(Vec<u8>),
    /// A directory's metadata are set after all that changes in it.
    Settle(Box<Entry>),
}

/// How a live tree differs.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) changes: Vec<Change>,
    pub(crate) fixes: Vec<Fix>,
    /// Why it cannot be restored as it is.
    pub(crate) refusals: Vec<String>,
    /// What would have to go, and stays since something in it is left alone.
    pub(crate) kept: Vec<Change>,
}

/// A directory that the comparison is in.
struct Level {
    path: Vec<u8>,
    state: State,
}

enum State {
    /// In both. `differs`: its metadata are to be set.
    Both { entry: Box<Recorded>, differs: bool },
    /// Only live. Where its own note and its fixes begin; what in it is left alone.
    Extra { change: usize, fixes: usize, holds: Option<(Vec<u8>, Why)>, in_place_of: Option<Type> },
    /// Only in the manifest.
    Missing,
    /// In both, and only on the way to what is compared.
    Around,
    /// Left alone.
    Skipped,
}

/// Compares what is at `part` (empty: everything) and below it. Of the directories around it, only that they are there.
pub(crate) fn compare(
    store: &Store,
    head: &StoredHead,
    anchor: Option<&Anchor>,
    protect: &Arc<Protect>,
    part: &[u8],
    built: &Built,
    stamps: Stamps,
) -> Result<Comparison> {
    let started = match stamps {
        Stamps::Count => head.started,
        // No file was changed before that.
        Stamps::SayNothing => Time(0, 0),
    };
    std::thread::scope(|scope| {
        let entries = ReadAhead::start(scope, store.entries(head));
        side_by_side(store, started, anchor, protect, part, built, entries)
    })
}

fn side_by_side(
    store: &Store,
    started: Time,
    anchor: Option<&Anchor>,
    protect: &Arc<Protect>,
    part: &[u8],
    built: &Built,
    mut entries: ReadAhead,
) -> Result<Comparison> {
    let mut walk = anchor.map(|anchor| Walk::new(anchor, protect));
    let mut work = Work {
        store,
        anchor,
        protect,
        built,
        started,
        levels: Vec::new(),
        seen: HashMap::new(),
        rebuilt: HashSet::new(),
        out: Comparison::default(),
        buffer: Vec::new(),
    };
    let mut severed = Severed::default();
    let mut next_entry = || -> Result<Option<Recorded>> {
        let Some(recorded) = entries.next()? else { return Ok(None) };
        if part.is_empty() {
            return Ok(Some(recorded));
        }
        let mut entry = recorded.into_entry()?;
        severed.look(part, &mut entry);
        Ok(Some(Recorded::Entry(Box::new(entry))))
    };
    let mut entry = next_entry()?;
    let mut found = walk.as_mut().map_or(Ok(None), Walk::next)?;
    loop {
        let side = match (&entry, &found) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(entry), Some(found)) => order(entry.path(), &found.path),
        };
        let old = if side.is_le() { entry.take() } else { None };
        let live = if side.is_ge() { found.take() } else { None };
        let path = match (&old, &live) {
            (Some(old), _) => old.path(),
            (None, Some(live)) => &live.path,
            (None, None) => break,
        };
        work.leave(path)?;
        let scope = scope(part, path);
        if scope == Scope::Out
            && let (Some(_), Some(walk)) = (&live, &mut walk)
        {
            walk.skip();
        }
        if scope == Scope::Out {
            // Nobody asked.
        } else if matches!(work.levels.last(), Some(Level { state: State::Skipped, .. })) {
            // Only the manifest can have something below: the walk does not go there.
        } else {
            match (old, &live) {
                (Some(old), None) => work.missing(old.into_entry()?),
                (None, Some(_)) if scope == Scope::Around => {}
                (None, Some(live)) => work.extra(live, None),
                (Some(_), Some(live)) if scope == Scope::Around => {
                    if live.facts.kind == Type::Dir && live.state == Whose::Ours {
                        work.enter(live.path.clone(), State::Around);
                    } else {
                        work.out.refusals.push(format!("`{}` is in the way", work.shown(&live.path)));
                    }
                }
                (Some(old), Some(live))
                    if live.state == Whose::Ours && old.is_plainly_untouched(&live.facts, started) =>
                {
                    if live.facts.kind == Type::Dir {
                        work.enter(live.path.clone(), State::Both { entry: Box::new(old), differs: false });
                    }
                }
                (Some(old), Some(live)) => {
                    if work.both(old.into_entry()?, live)? == Below::Skip
                        && let Some(walk) = &mut walk
                    {
                        walk.skip();
                    }
                }
                (None, None) => {}
            }
        }
        if side.is_le() {
            entry = next_entry()?;
        }
        if side.is_ge() {
            found = walk.as_mut().map_or(Ok(None), Walk::next)?;
        }
    }
    while let Some(level) = work.levels.pop() {
        work.left(level)?;
    }
    Ok(work.out)
}

#[derive(PartialEq, Eq)]
enum Below {
    GoOn,
    Skip,
}

struct Work<'a> {
    store: &'a Store,
    anchor: Option<&'a Anchor>,
    protect: &'a Protect,
    built: &'a Built,
    started: Time,
    levels: Vec<Level>,
    /// Live files with several names, and which entry of the manifest they are.
    seen: HashMap<(u32, u32, u64), Vec<u8>>,
    /// Entries with several names that get a new inode.
    rebuilt: HashSet<Vec<u8>>,
    out: Comparison,
    buffer: Vec<u8>,
}

impl Work<'_> {
    fn shown(&self, path: &[u8]) -> String {
        self.anchor.map_or_else(|| Bytes(path.to_vec()).to_string(), |anchor| anchor.shown(path))
    }

    fn note(&mut self, what: What, path: &[u8], details: Vec<String>) {
        self.out.changes.push(self.change(what, path, details));
    }

    fn change(&self, what: What, path: &[u8], details: Vec<String>) -> Change {
        let name = if path.is_empty() { ".".into() } else { Bytes(path.to_vec()).to_string() };
        Change { what, name, details, secret: self.protect.is_secret(path) }
    }

    fn enter(&mut self, path: Vec<u8>, state: State) {
        self.levels.push(Level { path, state });
    }

    /// Ends the directories that `path` is not in.
    fn leave(&mut self, path: &[u8]) -> Result<()> {
        while let Some(level) = self.levels.pop_if(|level| !is_inside(path, &level.path)) {
            self.left(level)?;
        }
        Ok(())
    }

    fn left(&mut self, Level { path, state }: Level) -> Result<()> {
        match state {
            State::Both { entry, differs: true } => self.out.fixes.push(Fix::Settle(Box::new(entry.into_entry()?))),
            State::Extra { fixes, holds: None, in_place_of, .. } => {
                // The whole of it goes at once.
                self.out.fixes.truncate(fixes);
                if in_place_of.is_none() {
                    self.out.fixes.push(Fix::Displace(path));
                    self.touch();
                }
            }
            State::Extra { change, holds: Some((held, why)), in_place_of, .. } => {
                let because = format!("`{}` in it {}", Bytes(held.clone()), why.words());
                if let Some(kind) = in_place_of {
                    self.out.refusals.push(format!(
                        "`{}` was a {} and is a directory now that has to stay: {because}",
                        self.shown(&path),
                        kind.word()
                    ));
                } else {
                    self.out.changes.remove(change);
                    let kept = self.change(What::Added, &path, vec![format!("kept: {because}")]);
                    self.out.kept.push(kept);
                    self.hold(held, why);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The directory at hand changes.
    fn touch(&mut self) {
        if let Some(Level { state: State::Both { differs, .. }, .. }) = self.levels.last_mut() {
            *differs = true;
        }
    }

    /// The directory at hand holds something that is left alone.
    fn hold(&mut self, path: Vec<u8>, why: Why) {
        if let Some(Level { state: State::Extra { holds, .. }, .. }) = self.levels.last_mut() {
            holds.get_or_insert((path, why));
        }
    }

    fn missing(&mut self, entry: Entry) {
        let is_dir = if entry.kind == Type::Dir { IsDir::Yes } else { IsDir::No };
        if self.protect.why(&entry.path.0, is_dir).is_some() {
            if entry.kind == Type::Dir {
                self.enter(entry.path.0, State::Skipped);
            }
            return;
        }
        // A socket is made by the program that listens on it.
        if entry.kind == Type::Socket {
            return;
        }
        self.note(What::Removed, &entry.path.0, Vec::new());
        self.build(entry);
    }

    fn build(&mut self, entry: Entry) {
        self.touch();
        if entry.kind == Type::Dir {
            self.enter(entry.path.0.clone(), State::Missing);
        } else if entry.nlink > 1 && entry.link.is_none() {
            self.rebuilt.insert(entry.path.0.clone());
        }
        self.out.fixes.push(Fix::Build(Box::new(entry)));
    }

    fn extra(&mut self, live: &Found, in_place_of: Option<Type>) {
        match live.state {
            Whose::Protected(why) => return self.hold(live.path.clone(), why),
            Whose::Mount => self.refuse_mount(&live.path),
            Whose::Ours => {}
        }
        let change = self.out.changes.len();
        if in_place_of.is_none() {
            self.note(What::Added, &live.path, Vec::new());
        }
        if live.facts.kind == Type::Dir && live.state == Whose::Ours {
            let fixes = self.out.fixes.len();
            self.enter(live.path.clone(), State::Extra { change, fixes, holds: None, in_place_of });
        } else if in_place_of.is_none() {
            self.out.fixes.push(Fix::Displace(live.path.clone()));
            self.touch();
        }
    }

    fn refuse_mount(&mut self, path: &[u8]) {
        let shown = self.shown(path);
        self.out.refusals.push(format!("something is mounted at `{shown}` that was not when it was captured"));
    }

    fn both(&mut self, entry: Entry, live: &Found) -> Result<Below> {
        let dir_at = |work: &mut Self| {
            if live.facts.kind == Type::Dir || entry.kind == Type::Dir {
                work.enter(live.path.clone(), State::Skipped);
            }
            Ok(Below::Skip)
        };
        match live.state {
            Whose::Protected(why) => {
                self.hold(live.path.clone(), why);
                return dir_at(self);
            }
            Whose::Mount if !entry.mount => {
                self.refuse_mount(&live.path);
                self.note(What::Changed, &live.path, vec!["mount".into()]);
                return dir_at(self);
            }
            _ if entry.mount && entry.kind == live.facts.kind => return dir_at(self),
            _ => {}
        }
        if entry.kind != live.facts.kind {
            let details = vec![format!("type {} -> {}", entry.kind.word(), live.facts.kind.word())];
            self.note(What::Changed, &live.path, details);
            if entry.kind == Type::Socket {
                self.out.fixes.push(Fix::Displace(live.path.clone()));
                self.touch();
                return Ok(Below::Skip);
            }
            let kind = entry.kind;
            self.build(entry);
            if live.facts.kind == Type::Dir {
                self.extra(live, Some(kind));
            }
            return Ok(Below::GoOn);
        }
        if entry.kind == Type::Socket {
            return Ok(Below::GoOn);
        }
        let (details, rebuild) = self.differences(&entry, live)?;
        let differs = !details.is_empty();
        if differs {
            self.note(What::Changed, &live.path, details);
        }
        if entry.kind == Type::Dir {
            self.enter(live.path.clone(), State::Both { entry: Box::new(Recorded::Entry(Box::new(entry))), differs });
        } else if rebuild {
            self.build(entry);
        } else if differs {
            self.out.fixes.push(Fix::Mend(Box::new(entry)));
        }
        Ok(Below::GoOn)
    }

    /// In which respects it differs, and whether it needs a new inode for that.
    fn differences(&mut self, entry: &Entry, live: &Found) -> Result<(Vec<String>, bool)> {
        let facts = &live.facts;
        if let Some(first) = &entry.link {
            let same = self.seen.get(&facts.identity()) == Some(&first.0);
            let details = if same { Vec::new() } else { vec!["links".to_owned()] };
            return Ok((details, !same));
        }
        let shared = facts.kind != Type::Dir && facts.nlink > 1;
        if shared && self.seen.contains_key(&facts.identity()) {
            return Ok((vec!["links".into()], true));
        }
        let mut details = Vec::new();
        let mut rebuild = false;
        if !is_untouched(entry, facts, self.started) && !self.built.is(entry, facts) {
            (details, rebuild) = self.closely(entry, live)?;
            // The inode may be shared with something outside.
            rebuild |= shared && !details.is_empty() && facts.ino != entry.ino;
        }
        if shared && !rebuild {
            self.seen.insert(facts.identity(), live.path.clone());
        }
        Ok((details, rebuild))
    }

    fn closely(&mut self, entry: &Entry, live: &Found) -> Result<(Vec<String>, bool)> {
        let shown = self.shown(&live.path);
        let cannot = || format!("cannot compare `{shown}`");
        let anchor = self.anchor.or_say(cannot)?;
        let mut details = Vec::new();
        let fd = anchor.open(&live.path, OFlags::PATH).or_say(cannot)?;
        let facts = Facts::of(&fd, b"").or_say(cannot)?;
        if facts.kind != entry.kind {
            return Err(crate::error::Error::new(cannot()).because("it changes at this moment"));
        }
        match entry.kind {
            Type::File => {
                let same = facts.size == entry.size
                    && match content::is_same(self.store, anchor, entry, &mut self.buffer) {
                        // The list of its pieces is lost: it cannot be taken for the same.
                        Err(error) if error.fault == Fault::Damage => false,
                        same => same.map_err(|e| e.within(cannot()))?,
                    };
                if !same {
                    details.push("content".into());
                }
            }
            Type::Symlink => {
                let target = rustix::fs::readlinkat(&fd, "", Vec::new()).or_say(cannot)?.into_bytes();
                if entry.target.as_ref().map(|target| &target.0) != Some(&target) {
                    details.push("target".into());
                }
            }
            Type::Block | Type::Char if entry.device != Some(facts.rdev) => details.push("device".into()),
            _ => {}
        }
        let rebuild = !details.is_empty();
        let xattrs = meta::xattrs(&fd).or_say(cannot)?;
        details.extend(meta::differences(entry, &facts, Some(&xattrs)));
        Ok((details, rebuild))
    }
}
