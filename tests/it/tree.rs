//! Trees, written down entry by entry so that two can be compared; and dice that fall the same way every time.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The entries of a tree, each with all that is to be known of it.
pub type Inventory = BTreeMap<PathBuf, String>;

/// All that is to be known of a tree, one line for each entry: what rsync compares, and which names are one file and
/// where files have holes.
pub fn inventory(root: &Path) -> Inventory {
    let mut found = Inventory::new();
    let mut names: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let (path, data) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let name = path.strip_prefix(root).unwrap().to_owned();
        let kind = data.file_type();
        let mut line =
            format!("{:o} {}:{} {}.{:09}", data.mode(), data.uid(), data.gid(), data.mtime(), data.mtime_nsec());
        if kind.is_file() {
            let hash = blake3::hash(&fs::read(path).unwrap()).to_hex();
            // How much room a file takes differs a little between copies.
            let sparse = data.len() > 1 << 20 && data.blocks() * 512 < data.len() / 2;
            write!(line, " {} {hash}{}", data.len(), if sparse { " sparse" } else { "" }).unwrap();
        } else if kind.is_symlink() {
            write!(line, " -> {:?}", fs::read_link(path).unwrap()).unwrap();
        } else if kind.is_char_device() || kind.is_block_device() {
            write!(line, " {:x}", data.rdev()).unwrap();
        }
        if !kind.is_dir() && data.nlink() > 1 {
            // Only names in the tree count: a further one elsewhere is not the tree's.
            names.entry(data.ino()).or_default().push(name.clone());
        }
        let mut attributes: Vec<_> = xattr::list(path).unwrap().collect();
        attributes.sort();
        for attribute in attributes {
            write!(line, " {attribute:?}={:?}", xattr::get(path, &attribute).unwrap()).unwrap();
        }
        found.insert(name, line);
    }
    for names in names.values().filter(|names| names.len() > 1) {
        for name in names {
            write!(found.get_mut(name).unwrap(), " is {:?} of {}", names[0], names.len()).unwrap();
        }
    }
    found
}

/// Where two trees differ, for people; empty when they do not.
pub fn differences(left: &Inventory, right: &Inventory) -> String {
    let mut told = String::new();
    for (name, line) in left {
        match right.get(name) {
            Some(other) if other == line => {}
            other => writeln!(told, "{}\n  {line}\n  {}", name.display(), other.map_or("is not there", |o| o)).unwrap(),
        }
    }
    for name in right.keys().filter(|name| !left.contains_key(*name)) {
        writeln!(told, "{} is only in the second", name.display()).unwrap();
    }
    told
}

/// Bytes that do not get smaller, the same ones for the same seed.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Chance with a seed (splitmix64): a failure can be had again.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0 and less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// At least 0 and less than 1.
    pub fn part(&mut self) -> f64 {
        self.below(1 << 32) as f64 / (1u64 << 32) as f64
    }
}
