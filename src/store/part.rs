//! A part of a tree: a path in it, and what is below.

use std::collections::HashMap;

use super::manifest::{Entry, Type};
use super::object::Bytes;

/// How an entry stands to the part that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It is the part, or in it.
    In,
    /// The part is in it.
    Around,
    /// Neither.
    Out,
}

/// How `path` stands to `part`.
pub(crate) fn scope(part: &[u8], path: &[u8]) -> Scope {
    if path == part || is_inside(path, part) {
        Scope::In
    } else if is_inside(part, path) {
        Scope::Around
    } else {
        Scope::Out
    }
}

/// Whether `path` is below `dir`.
pub(crate) fn is_inside(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || (path.len() > dir.len() && path.starts_with(dir) && path[dir.len()] == b'/')
}

/// Files with names on both sides of a part: in the part, the first of them takes the content.
#[derive(Debug, Default)]
pub(crate) struct Severed {
    /// By the name outside that has the content: that entry, or the name inside that has taken it.
    firsts: HashMap<Vec<u8>, First>,
}

#[derive(Debug)]
enum First {
    Outside(Box<Entry>),
    Inside(Bytes),
}

impl Severed {
    /// Looks at each entry in the order of the manifest; one in the part that has its content outside gets it.
    pub(crate) fn look(&mut self, part: &[u8], entry: &mut Entry) {
        if part.is_empty() || entry.nlink <= 1 || entry.kind == Type::Dir {
            return;
        }
        if scope(part, &entry.path.0) != Scope::In {
            if entry.link.is_none() {
                self.firsts.insert(entry.path.0.clone(), First::Outside(Box::new(entry.clone())));
            }
            return;
        }
        let Some(first) = entry.link.as_ref().and_then(|link| self.firsts.get_mut(&link.0)) else { return };
        match first {
            First::Inside(name) => entry.link = Some(name.clone()),
            First::Outside(content) => {
                let name = entry.path.clone();
                *entry = Entry { path: name.clone(), ..(**content).clone() };
                *first = First::Inside(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_itself_and_what_is_below() {
        for (part, path, want) in [
            ("", "a/b", Scope::In),
            ("a/b", "a/b", Scope::In),
            ("a/b", "a/b/c", Scope::In),
            ("a/b", "a", Scope::Around),
            ("a/b", "", Scope::Around),
            ("a/b", "a/bc", Scope::Out),
            ("a/b", "c", Scope::Out),
        ] {
            assert_eq!(scope(part.as_bytes(), path.as_bytes()), want, "{part} {path}");
        }
    }
}
