//! Archives and indexes that are damaged, missing or new.

use super::*;

fn archives(world: &World) -> Vec<PathBuf> {
    let all = archive::list(&world.store.archives()).unwrap();
    all.into_iter().map(|(name, _)| archive::path_of(&world.store.archives(), name)).collect()
}

impl World {
    fn reopen(&mut self) {
        self.store = Store::open(&self.path("state"), &self.path("state/tmp/1")).unwrap();
    }

    fn shown(&self, error: &Error) -> String {
        let mut text = error.to_string().replace(&self.dir.path().display().to_string(), "DIR");
        for hex in regex::Regex::new("[0-9a-f]{64}").unwrap().find_iter(&text.clone()) {
            text = text.replace(hex.as_str(), "HASH");
        }
        let text = regex::Regex::new("archives/../").unwrap().replace_all(&text, "archives/XX/");
        regex::Regex::new("byte [0-9]+").unwrap().replace_all(&text, "byte N").into_owned()
    }
}

/// Flips a byte in the frame that holds an object.
fn flip(world: &World, id: ObjectId) {
    let place = world.store.index.find(id).unwrap().unwrap();
    let path = world.store.index.path(place.archive).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = place.frame as usize + place.packed as usize / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_is_named_and_nothing_is_written() {
    let mut world = World::new();
    let (root, tree) = (world.root(), world.tree());
    write(&root.join("a"), noise(1, 5000));
    write(&root.join("b"), noise(2, 3 << 20));
    let captured = world.capture(&tree, None);
    let read = world.store.prove(&[captured.manifest], &|_, _| ()).unwrap();
    assert_eq!(read, 5000 + (3 << 20));
    flip(&world, ObjectId::of(&noise(1, 5000)));
    world.reopen();
    let verified = world.store.verify(Sample::All, &[], &|_, _| Ok(())).unwrap();
    let damaged = &verified.damage[0];
    assert_eq!((verified.damage.len(), damaged.objects.len()), (1, 85));
    assert!(damaged.objects.contains(&ObjectId::of(&noise(1, 5000))));
    assert!(damaged.what[0].starts_with("its BLAKE3 is `"), "{:?}", damaged.what);
    let hit = &verified.hit[0];
    assert_eq!((hit.tx.as_str(), hit.resource.as_str(), hit.place.as_str(), hit.files), ("notes-1", "code", "/app", 2));
    assert_eq!(hit.names, ["a", "b"]);
    world.reopen();
    let error = world.store.prove(&[captured.manifest], &|_, _| ()).unwrap_err();
    assert_eq!(error.fault, Fault::Damage);
    insta::assert_snapshot!(world.shown(&error), @"the snapshot is damaged: 85 of its objects cannot be read: the frame at byte N of the archive `HASH` cannot be read: Restored data doesn't match checksum: the BLAKE3 of the archive `HASH` is `HASH`: `/app/a` of `code` cannot be restored: `/app/b` of `code` cannot be restored");

    write(&root.join("a"), "new");
    write(&root.join("b"), "new");
    write(&root.join("c"), "new");
    let error = world.store.restore_tree(captured.manifest, &tree, "notes-1", &|_, _| ()).unwrap_err();
    assert_eq!(error.fault, Fault::Damage);
    insta::assert_snapshot!(world.shown(&error), @"the snapshot is damaged; nothing was changed: the frame at byte N of the archive `HASH` cannot be read: Restored data doesn't match checksum: the BLAKE3 of the archive `HASH` is `HASH`: `DIR/live/app/a` cannot be restored: `DIR/live/app/b` cannot be restored");
    for name in ["a", "b", "c"] {
        assert_eq!(std::fs::read_to_string(root.join(name)).unwrap(), "new");
    }
    // Nothing is left beside it either.
    assert_eq!(std::fs::read_dir(world.path("live")).unwrap().count(), 1);
    // What is still right need not be read from the store.
    write(&root.join("a"), noise(1, 5000));
    write(&root.join("b"), noise(2, 3 << 20));
    world.restore(captured.manifest, &tree);
}

#[test]
fn a_whole_store_verifies() {
    let world = World::new();
    build(&world.root());
    world.capture(&world.tree(), None);
    world.store.put(b"plan").unwrap();
    let verified = world.store.verify(Sample::All, &[], &|_, _| Ok(())).unwrap();
    assert_eq!((verified.damage.len(), verified.archives), (0, 2));
    assert_eq!(verified.bytes, world.store.size().unwrap());
}

#[test]
fn the_index_can_be_deleted() {
    let mut world = World::new();
    let (root, tree) = (world.root(), world.tree());
    build(&root);
    let captured = world.capture(&tree, None);
    let count = world.store.index.count().unwrap();
    for bytes in [None, Some(&b"not an index, but long enough to be taken for a damaged one"[..]), Some(b"")] {
        let index = world.path("state/store/index.db");
        std::fs::remove_file(&index).unwrap();
        if let Some(bytes) = bytes {
            std::fs::write(&index, bytes).unwrap();
        }
        world.reopen();
        assert_eq!(world.store.index.count().unwrap(), count);
    }
    assert_eq!(world.store.reindex(&|_, _| Ok(())).unwrap().objects, count);
    let outside = world.path("outside");
    write(&outside, "x");
    wreck(&root, &outside);
    world.restore(captured.manifest, &tree);
    assert_eq!(world.store.list_manifests().unwrap()[0].id, captured.manifest);
}

#[test]
fn a_missing_archive_is_named_and_its_objects_are_written_again() {
    let mut world = World::new();
    let tree = world.tree();
    write(&world.root().join("a"), "content");
    settle();
    let first = world.capture(&tree, None);
    std::fs::remove_file(&archives(&world)[0]).unwrap();
    world.reopen();
    let error = world.store.head(first.manifest).unwrap_err();
    insta::assert_snapshot!(world.shown(&error), @"cannot read the manifest `HASH`: the object `HASH` is not in the store");
    // The lost manifest as base only costs a full capture.
    let second = world.store.capture_tree(head(), &tree, Some(first.manifest), &|_| Ok(())).unwrap();
    assert_eq!((second.read, second.warnings.len()), (7, 1));
    world.store.prove(&[second.manifest], &|_, _| ()).unwrap();
}

#[test]
fn a_truncated_archive_is_told() {
    let mut world = World::new();
    write(&world.root().join("a"), noise(1, 100_000));
    let captured = world.capture(&world.tree(), None);
    let path = archives(&world)[0].clone();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    world.reopen();
    assert!(world.store.head(captured.manifest).is_err());
    assert!(!world.store.verify(Sample::All, &[], &|_, _| Ok(())).unwrap().damage.is_empty());
    std::fs::remove_file(world.path("state/store/index.db")).unwrap();
    world.reopen();
    assert!(world.store.head(captured.manifest).is_err());
}

/// The names below the root that the tree has now, and what is in them.
fn now(world: &World) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![world.root()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let name = entry.path().strip_prefix(world.root()).unwrap().display().to_string();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                found.push((name, String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_can_be_restored_is_restored_file_by_file() {
    let mut world = World::new();
    let (root, tree) = (world.root(), world.tree());
    let old = |n: u64| format!("old {n:08} {:?}", noise(n, 2000));
    write(&root.join("a"), old(1));
    write(&root.join("was/deep/b"), old(2));
    write(&root.join("kind"), old(3));
    std::fs::hard_link(root.join("kind"), root.join("name of kind")).unwrap();
    let lost = world.capture(&tree, None);
    for n in 4..9 {
        write(&root.join(format!("was/deep/c{n}")), old(n));
    }
    write(&root.join("large"), (0..9000).map(|n| old(n).chars().take(200).collect::<String>()).collect::<String>());
    settle();
    let captured = world.capture(&tree, Some(lost.manifest));
    // The contents of the first capture are lost: an archive of their own, of which only the manifest's frame is left.
    let place = world.store.index.find(ObjectId::of(old(1).as_bytes())).unwrap().unwrap();
    let path = world.store.index.path(place.archive).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[place.frame as usize + 40] ^= 8;
    std::fs::write(&path, bytes).unwrap();
    world.reopen();
    // `a` changed, `was` went as a whole, `kind` became a directory, `c4` changed, something was added.
    write(&root.join("a"), "new");
    std::fs::remove_dir_all(root.join("was")).unwrap();
    std::fs::remove_file(root.join("kind")).unwrap();
    write(&root.join("kind/inside"), "new");
    write(&root.join("added"), "new");
    std::fs::remove_file(root.join("large")).unwrap();
    let before = now(&world);
    let error = world.store.restore_tree(captured.manifest, &tree, "notes-1", &|_, _| ()).unwrap_err();
    assert!(error.statement.ends_with("nothing was changed"), "{error}");
    assert_eq!(now(&world), before);
    let error = world.store.salvage_tree(captured.manifest, &tree, "notes-1", &|_, _| ()).unwrap_err();
    assert_eq!(error.fault, Fault::Damage);
    insta::assert_snapshot!(world.shown(&error).replace(": `", "\n`"), @r"
    `DIR/live/app` is restored but for 4 files, which are left as found: the frame at byte N of the archive `HASH` cannot be read: Restored data doesn't match checksum: the BLAKE3 of the archive `HASH` is `HASH`
    `DIR/live/app/a` cannot be restored
    `DIR/live/app/kind` cannot be restored
    `DIR/live/app/name of kind` cannot be restored
    `DIR/live/app/was/deep/b` cannot be restored
    ");
    let names: Vec<String> = now(&world).into_iter().map(|(name, text)| format!("{name}: {text}")).collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    a: new
    kind/inside: new
    large: old 00000000
    name of kind: old 00000003
    was/deep/c4: old 00000004
    was/deep/c5: old 00000005
    was/deep/c6: old 00000006
    was/deep/c7: old 00000007
    was/deep/c8: old 00000008
    ");
    let left = world.diff(captured.manifest, &tree);
    let left: Vec<&str> = left.items.iter().map(|change| change.name.as_str()).collect();
    insta::assert_snapshot!(left.join("\n"), @r"
    a
    kind
    kind/inside
    name of kind
    was/deep/b
    ");
    // By hand, and again: then all of it is as it was.
    std::fs::remove_dir_all(root.join("kind")).unwrap();
    std::fs::hard_link(root.join("name of kind"), root.join("kind")).unwrap();
    write(&root.join("a"), old(1));
    write(&root.join("was/deep/b"), old(2));
    world.store.salvage_tree(captured.manifest, &tree, "notes-1", &|_, _| ()).unwrap();
    assert!(world.diff(captured.manifest, &tree).is_empty());
}
