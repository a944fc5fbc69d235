//! Prune and export.

use super::*;

fn go(_: u64, _: u64) -> Result<()> {
    Ok(())
}

fn keep(manifests: &[ObjectId]) -> Keep {
    Keep { manifests: manifests.to_vec(), ..Keep::default() }
}

fn sound(world: &World) {
    let verified = world.store.verify(Sample::All, &[], &go).unwrap();
    let damage: Vec<_> = verified.damage.iter().map(|damaged| &damaged.what).collect();
    assert!(verified.is_sound(), "{damage:?} {:?}", verified.hit);
}

/// Three snapshots of a tree of which most changes each time; the tree as it was at each.
fn three(world: &World) -> Vec<(ObjectId, PathBuf)> {
    let mut all = Vec::new();
    for n in 0..3u64 {
        for file in 0..20 {
            write(&world.root().join(format!("f{file}")), noise(n * 100 + file, 20_000));
        }
        write(&world.root().join("same"), noise(7, 200_000));
        write(&world.root().join("large"), noise(n, 2 << 20));
        let captured =
            world
                .store
                .capture_tree(Head { tx: format!("notes-{}", n + 1), ..head() }, &world.tree(), None, &|_| Ok(()));
        let kept = world.path(&format!("was-{n}"));
        copy(&world.root(), &kept);
        all.push((captured.unwrap().manifest, kept));
    }
    all
}

#[test]
fn prune_drops_what_nothing_needs_and_nothing_else() {
    let world = World::new();
    let plan = world.store.put(b"the plan").unwrap();
    world.store.put(b"nobody needs it").unwrap();
    let all = three(&world);
    let before = world.store.size().unwrap();
    let wanted = Keep { manifests: vec![all[2].0], objects: vec![plan], ..Keep::default() };
    let forecast = world.store.prune(&wanted, Pruning::DryRun, &go).unwrap();
    assert_eq!(world.store.size().unwrap(), before);
    assert_eq!((forecast.manifests.len(), forecast.kept), (2, 1));
    let pruned = world.store.prune(&wanted, Pruning::Done, &go).unwrap();
    assert_eq!((pruned.before, pruned.after), (before, world.store.size().unwrap()));
    assert!(pruned.after < before * 45 / 100, "{pruned:?}");
    assert!(forecast.after.abs_diff(pruned.after) < before / 10, "{forecast:?} {pruned:?}");
    sound(&world);
    assert_eq!(world.store.get(plan).unwrap(), b"the plan");
    assert!(!world.store.has(ObjectId::of(b"nobody needs it")).unwrap());
    assert_eq!(world.store.list_manifests().unwrap().len(), 1);
    let error = world.store.head(all[0].0).unwrap_err();
    assert_eq!(error.to_string(), format!("the manifest `{}` was pruned", all[0].0));
    std::fs::remove_dir_all(world.root()).unwrap();
    world.restore(all[2].0, &world.tree());
    assert_eq!(rsync(&all[2].1, &world.root()), "");
    // The index says what the archives say.
    let count = world.store.object_count().unwrap();
    assert_eq!(world.store.reindex(&go).unwrap().objects, count);
    let again = world.store.prune(&wanted, Pruning::Done, &go).unwrap();
    assert_eq!((again.removed, again.rewritten, again.before), (0, 0, again.after));
}

#[test]
fn what_an_old_archive_shares_with_a_kept_one_stays() {
    let world = World::new();
    let all = three(&world);
    for last in [1, 0] {
        world.store.prune(&keep(&[all[2].0, all[last].0]), Pruning::Done, &go).unwrap_or_else(|error| {
            assert_eq!(last, 0, "{error}");
            Pruned::default()
        });
        sound(&world);
    }
    world.restore(all[1].0, &world.tree());
    assert_eq!(rsync(&all[1].1, &world.root()), "");
}

#[test]
fn a_prune_that_is_stopped_anywhere_leaves_a_whole_store() {
    for steps in 0.. {
        let mut world = World::new();
        let all = three(&world);
        let left = std::cell::Cell::new(steps);
        let stop = |_: u64, _: u64| match left.get() {
            0 => Err(Error::new("stopped")),
            n => {
                left.set(n - 1);
                Ok(())
            }
        };
        let ended = world.store.prune(&keep(&[all[2].0]), Pruning::Done, &stop).is_ok();
        sound(&world);
        world.store = Store::open(&world.path("state"), &world.path("state/tmp/2")).unwrap();
        sound(&world);
        assert_eq!(world.store.list_manifests().unwrap().len(), 1);
        let pruned = world.store.prune(&keep(&[all[2].0]), Pruning::Done, &go).unwrap();
        assert_eq!(ended, pruned.removed + pruned.rewritten == 0);
        sound(&world);
        world.restore(all[2].0, &world.tree());
        if ended {
            break;
        }
    }
}

#[test]
fn copies_that_a_death_left_behind_are_cleared_away() {
    let mut world = World::new();
    let all = three(&world);
    let old: Vec<(PathBuf, Vec<u8>)> = archive::list(&world.store.archives())
        .unwrap()
        .into_iter()
        .map(|(name, _)| archive::path_of(&world.store.archives(), name))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let pruned = world.store.prune(&keep(&[all[2].0]), Pruning::Done, &go).unwrap();
    // As if it had died between sealing the new archives and removing the old ones.
    for (path, bytes) in &old {
        write(path, bytes);
    }
    world.store = Store::open(&world.path("state"), &world.path("state/tmp/2")).unwrap();
    sound(&world);
    world.store.prune(&keep(&[all[2].0]), Pruning::Done, &go).unwrap();
    assert_eq!(world.store.size().unwrap(), pruned.after);
    sound(&world);
    // And as if the index had been lost as well.
    for (path, bytes) in &old {
        write(path, bytes);
    }
    std::fs::remove_file(world.path("state/store/index.db")).unwrap();
    world.store = Store::open(&world.path("state"), &world.path("state/tmp/3")).unwrap();
    world.store.prune(&keep(&[all[2].0]), Pruning::Done, &go).unwrap();
    sound(&world);
    world.restore(all[2].0, &world.tree());
    assert_eq!(rsync(&all[2].1, &world.root()), "");
}

#[test]
fn a_damaged_store_is_not_pruned() {
    let mut world = World::new();
    let all = three(&world);
    let files = |world: &World| archive::list(&world.store.archives()).unwrap();
    let place = world.store.index.find(all[2].0).unwrap().unwrap();
    std::fs::remove_file(world.store.index.path(place.archive).unwrap()).unwrap();
    world.store = Store::open(&world.path("state"), &world.path("state/tmp/2")).unwrap();
    let before = files(&world);
    let error = world.store.prune(&keep(&[all[2].0]), Pruning::Done, &go).unwrap_err();
    assert_eq!(error.statement, "nothing was pruned: what has to be kept is damaged");
    assert_eq!(error.fault, Fault::Damage);
    assert_eq!(files(&world), before);
}

fn extract(archive: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let flags = ["--zstd", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf"].map(OsStr::new);
    run("tar", &[&flags[..], &[archive.as_os_str(), OsStr::new("-C"), to.as_os_str()]].concat());
}

#[test]
fn gnu_tar_extracts_an_export_with_everything() {
    let world = World::new();
    build(&world.root());
    let deep = format!("deep/{}/{}", "d".repeat(120), "ä".repeat(60));
    write(&world.root().join(&deep), "deep");
    std::fs::hard_link(world.root().join(&deep), world.root().join("zz-link-to-deep")).unwrap();
    symlink("t".repeat(150), world.root().join("long-target")).unwrap();
    let odd = [&b"odd \xff "[..], &[b'o'; 200]].concat();
    write(&world.root().join(OsStr::from_bytes(&odd)), "odd");
    symlink(OsStr::from_bytes(&odd), world.root().join("to-odd")).unwrap();
    settle();
    let captured = world.capture(&world.tree(), None);
    let file = world.path("out.tar.zst");
    let part = |below: &str| Part { manifest: captured.manifest, below: below.to_owned() };
    let exported = world.store.export(&[part("code")], &file, &go).unwrap();
    assert_eq!((exported.entries, exported.warnings.len()), (captured.items, 0));
    assert_eq!(file.metadata().unwrap().len(), exported.size);
    extract(&file, &world.path("out"));
    assert_eq!(rsync(&world.root(), &world.path("out/code")), "");
    assert_eq!(rsync(&world.path("out/code"), &world.root()), "");
    assert!(std::fs::metadata(world.path("out/code/sparse")).unwrap().blocks() * 512 < 4 << 20);
    let error = world.store.export(&[part("")], &file, &go).unwrap_err();
    assert_eq!(error.statement, format!("`{}` is there already", file.display()));
    let top = world.path("top.tar.zst");
    world.store.export(&[part("")], &top, &go).unwrap();
    extract(&top, &world.path("top"));
    assert_eq!(rsync(&world.root(), &world.path("top")), "");
}

#[test]
fn a_dump_is_exported_as_a_file() {
    let world = World::new();
    let dump = noise(5, 3 << 20);
    let head =
        |kind: &str| Head { kind: kind.into(), place: "/var/lib/notes.db".into(), resource: "db@a/b".into(), ..head() };
    for (kind, name) in [("sqlite", "notes.db"), ("command", "db@a_b.dump")] {
        let captured = world.store.capture_stream(head(kind), &mut &dump[..]).unwrap();
        let file = world.path(&format!("{kind}.tar.zst"));
        world.store.export(&[Part { manifest: captured.manifest, below: "db@a/b".into() }], &file, &go).unwrap();
        extract(&file, &world.path(kind));
        let path = world.path(kind).join("db@a_b").join(name);
        assert!(std::fs::read(&path).unwrap() == dump);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }
    let absent = world.store.capture_facts(head("sqlite")).unwrap();
    let exported = world
        .store
        .export(&[Part { manifest: absent.manifest, below: "db".into() }], &world.path("none.tar.zst"), &go)
        .unwrap();
    assert_eq!(exported.warnings, ["`db@a/b` of `notes-1` was not there when it was captured"]);
}
