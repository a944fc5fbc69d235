//! Which part of the filesystem a path resource is, and what in it is none of its business.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::live::Anchor;
use super::manifest::Type;
use super::side::is_side_name;
use super::walk::{Found, Walk, Whose};
use crate::error::{OrSay, Result};

/// A file or directory with everything below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Gitignore patterns, relative to it: not captured, not touched.
    pub exclude: Vec<String>,
    /// Absolute paths in it that belong to others: not captured, not touched.
    pub left_out: Vec<PathBuf>,
    /// Gitignore patterns: content that is not shown.
    pub secret: Vec<String>,
    /// Whether times tell what has not changed.
    pub stamps: Stamps,
    /// What becomes of what a restore replaces.
    pub replaced: Replaced,
}

/// What becomes of what a restore replaces or takes away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replaced {
    /// It is put aside, and kept until the transaction's end.
    #[default]
    KeptAside,
    /// Where there is no room for both it goes first. Everything that has to come back has been read and checked.
    GoesFirst,
}

/// Whether a file whose inode, size and times are those of the manifest is taken as unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stamps {
    /// It is.
    #[default]
    Count,
    /// It is read: a power cut may have lost the new times of what was written in place.
    SayNothing,
}

/// What is left alone, and what is not shown.
#[derive(Debug)]
pub(crate) struct Protect {
    exclude: Gitignore,
    secret: Gitignore,
    left_out: HashSet<Vec<u8>>,
}

/// Why an entry is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Excluded,
    LeftOut,
    Side,
}

impl Why {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Why::Excluded => "is excluded",
            Why::LeftOut => "belongs to another resource",
            Why::Side => "is a displaced copy",
        }
    }
}

fn patterns(lines: &[String]) -> Result<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    for line in lines {
        builder.add_line(None, line).or_say(|| format!("`{line}` is not a gitignore pattern"))?;
    }
    builder.build().or_say(|| "these gitignore patterns cannot be used")
}

impl Protect {
    /// `recorded` are the facts of the manifest at hand: what was excluded then is not touched now.
    pub(crate) fn new(tree: &Tree, anchor: &Anchor, recorded: &serde_json::Value) -> Result<Protect> {
        let texts = |key: &str| {
            let list = recorded.get(key).and_then(|list| list.as_array()).cloned().unwrap_or_default();
            list.into_iter().filter_map(|text| text.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let mut exclude = tree.exclude.clone();
        exclude.extend(texts("exclude").into_iter().filter(|line| !tree.exclude.contains(line)));
        let root = anchor.root();
        let inside = |path: &Path| -> Option<Vec<u8>> {
            let resolved = path
                .parent()
                .zip(path.file_name())
                .and_then(|(parent, name)| Some(parent.canonicalize().ok()?.join(name)));
            let relative = path
                .strip_prefix(&tree.path)
                .or_else(|_| path.strip_prefix(&root))
                .ok()
                .or_else(|| resolved.as_deref().and_then(|path| path.strip_prefix(&root).ok()))?;
            (!relative.as_os_str().is_empty()).then(|| relative.as_os_str().as_bytes().to_vec())
        };
        let mut left_out: HashSet<Vec<u8>> = tree.left_out.iter().filter_map(|path| inside(path)).collect();
        left_out.extend(texts("left_out").into_iter().filter_map(|text| Some(super::Bytes::from_text(&text)?.0)));
        Ok(Protect { exclude: patterns(&exclude)?, secret: patterns(&tree.secret)?, left_out })
    }

    /// For a place that does not exist.
    pub(crate) fn nothing(tree: &Tree) -> Result<Protect> {
        let nothing = patterns(&[])?;
        Ok(Protect { exclude: nothing, secret: patterns(&tree.secret)?, left_out: HashSet::new() })
    }

    /// What it protects, to be recorded with a manifest.
    pub(crate) fn facts(&self, tree: &Tree) -> serde_json::Value {
        let mut left_out: Vec<String> =
            self.left_out.iter().map(|path| super::Bytes(path.clone()).to_string()).collect();
        left_out.sort_unstable();
        serde_json::json!({ "exclude": tree.exclude, "left_out": left_out, "secret": tree.secret })
    }

    /// Whether an entry is left alone, given that its parents are not.
    pub(crate) fn why(&self, path: &[u8], is_dir: IsDir) -> Option<Why> {
        if path.is_empty() {
            None
        } else if is_side_name(super::live::split(path).1) {
            Some(Why::Side)
        } else if self.left_out.contains(path) {
            Some(Why::LeftOut)
        } else {
            matches(&self.exclude, path, is_dir).then_some(Why::Excluded)
        }
    }

    /// Whether an entry's content may not be shown.
    pub(crate) fn is_secret(&self, path: &[u8]) -> bool {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        !self.secret.is_empty()
            && !path.as_os_str().is_empty()
            && self.secret.matched_path_or_any_parents(path, false).is_ignore()
    }
}

/// Whether an entry is a directory: gitignore patterns with a `/` at the end match only these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsDir {
    Yes,
    No,
}

fn matches(patterns: &Gitignore, path: &[u8], is_dir: IsDir) -> bool {
    !patterns.is_empty() && patterns.matched(std::ffi::OsStr::from_bytes(path), is_dir == IsDir::Yes).is_ignore()
}

impl Tree {
    /// What is there and left out by `exclude`, relative to it: the topmost entries.
    pub fn excluded(&self) -> Result<Vec<PathBuf>> {
        let mut excluded = Vec::new();
        let Some(anchor) = Anchor::at(&self.path)? else { return Ok(excluded) };
        let protect = Arc::new(Protect::new(self, &anchor, &serde_json::Value::Null)?);
        let mut walk = Walk::new(&anchor, &protect);
        while let Some(Found { path, state, .. }) = walk.next()? {
            if matches!(state, Whose::Protected(Why::Excluded)) {
                excluded.push(PathBuf::from(std::ffi::OsStr::from_bytes(&path)));
            }
        }
        Ok(excluded)
    }

    /// Bytes and entries that a capture will read, and what a person should know. Changes nothing.
    pub fn measure(&self) -> Result<(u64, u64, Vec<String>)> {
        let (mut bytes, mut items, mut warnings) = (0, 0, Vec::new());
        let Some(anchor) = Anchor::at(&self.path)? else { return Ok((bytes, items, warnings)) };
        let protect = Arc::new(Protect::new(self, &anchor, &serde_json::Value::Null)?);
        let mut walk = Walk::new(&anchor, &protect);
        let mut seen = HashSet::new();
        while let Some(Found { path, facts, state }) = walk.next()? {
            let shown = || anchor.shown(&path);
            match state {
                Whose::Protected(_) => continue,
                Whose::Mount => {
                    warnings.push(format!("`{}` is a mount point: what is in it is not captured", shown()));
                }
                Whose::Ours if facts.kind == Type::Socket => {
                    warnings.push(format!("`{}` is a socket: it will not be restored", shown()));
                }
                Whose::Ours if facts.kind == Type::Symlink && path.is_empty() => {
                    warnings.push(format!("`{}` is a symlink: the link is captured, not what it points to", shown()));
                }
                Whose::Ours if facts.kind == Type::File => {
                    // The holes of a sparse file are not read.
                    let first = facts.nlink < 2 || seen.insert(facts.identity());
                    bytes += if first { facts.size.min(facts.blocks * 512 + 512) } else { 0 };
                }
                Whose::Ours => {}
            }
            items += 1;
        }
        Ok((bytes, items, warnings))
    }
}
