//! Single bits that flip, at random places of what the store keeps: each is found, or has no effect; nothing wrong is ever
//! put back.
//!
//! The seed is printed with the table; `TXUPGRADE_SEED` sets it.

use std::io::Write as _;

use super::*;

/// The same numbers for the same seed.
struct Random(blake3::OutputReader);

impl Random {
    fn new(what: &str) -> (u64, Random) {
        let seed = std::env::var("TXUPGRADE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4);
        let mut hasher = blake3::Hasher::new();
        hasher.update(what.as_bytes()).update(&u64::to_le_bytes(seed));
        (seed, Random(hasher.finalize_xof()))
    }

    fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end
    }
}

/// Three snapshots of a tree, in archives and frames of their own, and the tree as it was at the last.
struct Shelf {
    world: World,
    manifest: ObjectId,
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn shelf() -> Shelf {
    let world = World::new();
    let root = world.root();
    let mut files = Vec::new();
    let mut manifest = None;
    for n in 0..3u64 {
        files.clear();
        for file in 0..12 {
            files.push((root.join(format!("d{}/f{file}", file % 3)), noise(n * 100 + file, 600)));
        }
        // Large enough to be cut, and small in the archive.
        let lines: String = (0..60_000).map(|line| format!("{n} {}\n", line / 40)).collect();
        files.push((root.join("large"), lines.repeat(3).into_bytes()));
        files.iter().for_each(|(path, bytes)| write(path, bytes));
        manifest = Some(world.capture(&world.tree(), manifest).manifest);
    }
    assert!(files.last().unwrap().1.len() as u64 > chunk::WHOLE_BYTES);
    Shelf { world, manifest: manifest.unwrap(), files }
}

impl Shelf {
    fn look(&self) -> Store {
        Store::open_read_only(&self.world.path("state")).unwrap().unwrap()
    }

    fn open(&self) -> Result<Store> {
        Store::open(&self.world.path("state"), &self.world.path("state/tmp/1"))
    }

    fn is_found(&self) -> bool {
        !self.look().verify(Sample::All, &[], &|_, _| Ok(())).unwrap().is_sound()
    }

    /// Breaks some of the tree and puts it back; whether all of it is as it was, or nothing was changed.
    fn goes_back(&self, store: &Store) -> Result<()> {
        let broken = &self.files[5].0;
        write(broken, "broken");
        let _ = std::fs::remove_file(&self.files.last().unwrap().0);
        store
            .prove(&[self.manifest], &|_, _| ())
            .and_then(|_| store.restore_tree(self.manifest, &self.world.tree(), "notes-1", &|_, _| ()))?;
        for (path, bytes) in &self.files {
            assert!(std::fs::read(path).unwrap() == *bytes, "{} was put back wrong", path.display());
        }
        Ok(())
    }

    /// After a rollback that did not happen.
    fn is_untouched(&self) {
        assert_eq!(std::fs::read(&self.files[5].0).unwrap(), b"broken");
        assert!(!self.files.last().unwrap().0.exists());
    }
}

fn flip(path: &Path, bit: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[bit as usize / 8] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
}

fn told(what: &str, seed: u64, flips: usize, found: usize, without: usize) {
    let otherwise = flips - found - without;
    // Around the capture of the test's own output.
    let _ = writeln!(
        std::io::stderr(),
        "flips of {what} (seed {seed}): {flips}, found {found}, without effect {without}, otherwise {otherwise}"
    );
    assert_eq!(otherwise, 0);
}

#[test]
fn every_flipped_bit_of_an_archive_is_found() {
    const FLIPS: usize = 500;
    let shelf = shelf();
    let (seed, mut random) = Random::new("archives");
    let archives = archive::list(&shelf.world.store.archives()).unwrap();
    let all: u64 = archives.iter().map(|(_, bytes)| bytes).sum();
    let (mut found, mut refused) = (0, 0);
    for number in 0..FLIPS {
        let mut bit = random.below(all * 8);
        let hit = archives.iter().find(|(_, bytes)| {
            let inside = bit < bytes * 8;
            bit -= if inside { 0 } else { bytes * 8 };
            inside
        });
        let (name, _) = *hit.unwrap();
        let path = archive::path_of(&shelf.world.store.archives(), name);
        flip(&path, bit);
        let verified = shelf.look().verify(Sample::All, &[], &|_, _| Ok(())).unwrap();
        assert_eq!(verified.damage.iter().map(|damaged| damaged.archive).collect::<Vec<_>>(), [name], "bit {bit}");
        assert!(verified.index.is_empty(), "{:?}", verified.index);
        found += 1;
        if number % 5 == 0
            && let Err(error) = shelf.goes_back(&shelf.open().unwrap())
        {
            assert_eq!(error.fault, Fault::Damage, "{error}");
            shelf.is_untouched();
            refused += 1;
        }
        flip(&path, bit);
    }
    assert!(refused > 20, "{refused}");
    shelf.goes_back(&shelf.open().unwrap()).unwrap();
    assert!(!shelf.is_found());
    told("archives", seed, FLIPS, found, 0);
}

#[test]
fn every_flipped_bit_of_the_index_is_found_or_without_effect_and_heals() {
    const FLIPS: usize = 250;
    let shelf = shelf();
    let (seed, mut random) = Random::new("index");
    let index = shelf.world.path("state/store/index.db");
    let whole = std::fs::read(&index).unwrap();
    let (mut found, mut without) = (0, 0);
    for _ in 0..FLIPS {
        let bit = random.below(whole.len() as u64 * 8);
        flip(&index, bit);
        let is_found = shelf.is_found();
        // Found or not, it goes back all the same.
        let gone_back = shelf.open().and_then(|store| shelf.goes_back(&store));
        gone_back.unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        if is_found {
            found += 1;
        } else {
            without += 1;
        }
        std::fs::write(&index, &whole).unwrap();
        flip(&index, bit);
        let store = shelf.open().unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        assert!(store.reindex(&|_, _| Ok(())).unwrap().damage.is_empty(), "bit {bit}");
        drop(store);
        assert!(!shelf.is_found(), "bit {bit}: what was made anew is whole");
        std::fs::write(&index, &whole).unwrap();
    }
    assert!(found > FLIPS / 10, "{found}");
    told("index.db", seed, FLIPS, found, without);
}
