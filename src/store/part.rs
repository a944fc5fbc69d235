//! A part of a tree: a path in it, and what is below.

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
