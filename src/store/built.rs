//! Files that a restore has built itself, where nobody else could reach them.
//!
//! What went into them was checked on its way. As long as the change time that they had when they were complete has
//! not moved, nobody has touched them since, and they need not be read again to tell that they are what they should be.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::live::Facts;
use super::manifest::{Entry, Time, Type, is_settled};

/// Files that were built.
#[derive(Debug, Default)]
pub(crate) struct Built {
    /// By inode: the change time, and which entry it is.
    files: HashMap<u64, (Time, u64)>,
    /// When others could reach them.
    placed: Time,
}

impl Built {
    /// Notes a file that is complete.
    pub(crate) fn add(&mut self, entry: &Entry, facts: &Facts) {
        self.files.insert(facts.ino, (facts.ctime, which(&entry.path.0)));
    }

    /// From now on others can reach them.
    pub(crate) fn placed(mut self) -> Built {
        self.placed = super::stream::now();
        self
    }

    /// Whether the live file of an entry is what was built for it, for sure.
    pub(crate) fn is(&self, entry: &Entry, live: &Facts) -> bool {
        live.kind == Type::File
            && self.files.get(&live.ino) == Some(&(live.ctime, which(&entry.path.0)))
            && (entry.kind, entry.size, entry.mtime) == (live.kind, live.size, live.mtime)
            && (entry.mode, entry.uid, entry.gid) == (live.mode, live.uid, live.gid)
            && is_settled(live, self.placed)
    }
}

fn which(path: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(path)
}

#[cfg(test)]
mod tests {
    use super::super::meta;
    use super::*;

    #[test]
    fn only_what_nobody_has_touched_since_is_known() {
        let live = Facts {
            kind: Type::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time(5, 5),
            atime: Time(0, 0),
            ctime: Time(10, 1),
            ino: 7,
            nlink: 1,
            size: 3,
            blocks: 8,
            rdev: (0, 0),
            place: (1, 1, None),
        };
        let entry = meta::entry(b"a".to_vec(), &live);
        let built = |placed| {
            let mut built = Built { placed, ..Built::default() };
            built.add(&entry, &live);
            built
        };
        assert!(built(Time(11, 0)).is(&entry, &live));
        assert!(!built(Time(10, 2)).is(&entry, &live), "it could have been written in the same tick");
        assert!(!Built::default().is(&entry, &live));
        assert!(!built(Time(11, 0)).is(&meta::entry(b"b".to_vec(), &live), &live));
        for change in [
            &(|f: &mut Facts| f.ctime = Time(10, 2)) as &dyn Fn(&mut Facts),
            &|f| f.ino = 8,
            &|f| f.size = 4,
            &|f| f.mode = 0o600,
            &|f| f.mtime = Time(5, 6),
        ] {
            let mut other = live;
            change(&mut other);
            assert!(!built(Time(11, 0)).is(&entry, &other), "{other:?}");
        }
    }
}
