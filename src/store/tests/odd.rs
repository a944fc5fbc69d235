//! Odd places: links, mounts, sockets, roots that are no directory, files that change.

use super::*;

#[test]
fn hard_links_are_taken_apart_and_put_together() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    for name in ["a", "c", "d", "e"] {
        write(&root.join(name), "same");
    }
    let link = |a: &str, b: &str| std::fs::hard_link(root.join(a), root.join(b)).unwrap();
    link("a", "b");
    link("e", "f");
    link("e", "g");
    settle();
    let captured = world.capture(&tree, None);
    let copy_of = world.path("copy");
    copy(&root, &copy_of);
    // a and b apart, c and d together, e another inode with its links left behind.
    let remove = |name: &str| std::fs::remove_file(root.join(name)).unwrap();
    remove("b");
    write(&root.join("b"), "same");
    remove("d");
    link("c", "d");
    remove("e");
    write(&root.join("e"), "changed");
    world.restore(captured.manifest, &tree);
    assert_eq!(rsync(&copy_of, &root), "");
    let ino = |name: &str| std::fs::metadata(root.join(name)).unwrap().ino();
    assert_eq!(ino("a"), ino("b"));
    assert_ne!(ino("c"), ino("d"));
    assert_eq!((ino("e"), ino("f")), (ino("f"), ino("g")));
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());
}

#[test]
fn a_file_outside_that_was_linked_in_keeps_its_mode() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    write(&root.join("a"), "same");
    settle();
    let captured = world.capture(&tree, None);
    let outside = world.path("outside");
    write(&outside, "same");
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::remove_file(root.join("a")).unwrap();
    std::fs::hard_link(&outside, root.join("a")).unwrap();
    world.restore(captured.manifest, &tree);
    assert_eq!(std::fs::metadata(&outside).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());
}

struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path) -> Mount {
        run("mount", &[OsStr::new("-t"), OsStr::new("tmpfs"), OsStr::new("none"), at.as_os_str()]);
        Mount(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn mount_points_are_never_crossed() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    write(&root.join("a"), "old");
    write(&root.join("late/x"), "old");
    std::fs::create_dir(root.join("mnt")).unwrap();
    let mount = Mount::tmpfs(&root.join("mnt"));
    write(&root.join("mnt/inside"), "not ours");
    let captured = world.capture(&tree, None);
    let shown = |text: String| text.replace(&root.display().to_string(), "ROOT");
    let warning = "`ROOT/mnt` is a mount point: what is in it is not captured";
    assert_eq!(captured.warnings.clone().into_iter().map(shown).collect::<Vec<_>>(), [warning]);
    assert_eq!(tree.measure().unwrap().2.into_iter().map(shown).collect::<Vec<_>>(), [warning]);
    write(&root.join("mnt/inside"), "changed");
    write(&root.join("a"), "new");
    world.restore(captured.manifest, &tree);
    assert_eq!(std::fs::read_to_string(root.join("mnt/inside")).unwrap(), "changed");
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "old");
    drop(mount);
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());

    write(&root.join("a"), "new");
    let mount = Mount::tmpfs(&root.join("late"));
    let error = world.store.restore_tree(captured.manifest, &tree, "notes-1", &|_, _| ()).unwrap_err();
    insta::assert_snapshot!(shown(format!("{error}\nhint: {}", error.hints.join(" / "))), @"
    cannot restore `ROOT`; nothing was changed: something is mounted at `ROOT/late` that was not when it was captured
    hint: `umount ROOT/late`, then try again
    ");
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "new");
    drop(mount);
    world.restore(captured.manifest, &tree);
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "old");
}

#[test]
fn a_root_that_is_a_mount_point_keeps_its_side_copies_inside() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    std::fs::create_dir(&root).unwrap();
    let _mount = Mount::tmpfs(&root);
    write(&root.join("a"), "old");
    write(&root.join("b/c"), "old");
    set_mtime(&root, 1_000_000, 0);
    let captured = world.capture(&tree, None);
    assert_eq!(captured.items, 4);
    write(&root.join("a"), "new");
    std::fs::remove_dir_all(root.join("b")).unwrap();
    world.restore(captured.manifest, &tree);
    assert_eq!(std::fs::read_to_string(root.join("b/c")).unwrap(), "old");
    assert!(side_paths("notes-1", &root)[1].exists());
    world.sweep();
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());
}

#[test]
fn sockets_are_recorded_and_not_restored() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    std::fs::create_dir(&root).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(root.join("sock")).unwrap();
    let captured = world.capture(&tree, None);
    assert_eq!(captured.items, 2);
    assert!(captured.warnings[0].ends_with("sock` is a socket: it is recorded and will not be restored"));
    drop(listener);
    std::fs::remove_file(root.join("sock")).unwrap();
    assert!(world.restore(captured.manifest, &tree).items.iter().all(|change| change.name == "."));
    assert!(!root.join("sock").exists());
}

#[test]
fn a_resource_may_be_a_file_or_a_link() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    write(&root, "a file");
    let file = world.capture(&tree, None);
    std::fs::remove_file(&root).unwrap();
    symlink("/etc", &root).unwrap();
    let link = world.capture(&tree, None);
    assert!(tree.measure().unwrap().2[0].ends_with("is a symlink: the link is captured, not what it points to"));
    std::fs::remove_file(&root).unwrap();
    write(&root.join("x"), "a directory");
    let dir = world.capture(&tree, None);
    assert_eq!((file.items, link.items, dir.items), (1, 1, 2));
    for manifest in [file.manifest, link.manifest, dir.manifest, link.manifest, file.manifest] {
        world.restore(manifest, &tree);
        assert_eq!(world.diff(manifest, &tree), Changes::default());
    }
    assert_eq!(std::fs::read_to_string(&root).unwrap(), "a file");
    let whole = Tree { path: "/".into(), ..Tree::default() };
    let error = world.store.capture_tree(head(), &whole, None, &|_| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "`/` cannot be captured or restored as a whole");
}

#[test]
fn a_file_that_goes_on_changing_is_named() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    write(&root.join("log"), noise(1, 4 << 20));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let captured = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let mut log = std::fs::File::options().append(true).open(root.join("log")).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                log.write_all(b"x").unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        // The writer may sleep through a capture on a busy machine, so several are tried.
        let captured = (0..50).map(|_| world.capture(&tree, None)).find(|captured| !captured.warnings.is_empty());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        captured.unwrap()
    });
    assert_eq!(captured.warnings.len(), 1, "{captured:?}");
    assert!(captured.warnings[0].contains("/log` changed each time it was read"));
    settle();
    // It is not taken for unchanged later.
    let again = world.capture(&tree, Some(captured.manifest));
    assert!(again.read > 4 << 20 && again.warnings.is_empty());
    world.store.prove(&[captured.manifest, again.manifest], &|_, _| ()).unwrap();
}

#[test]
fn a_capture_can_be_stopped() {
    let world = World::new();
    build(&world.root());
    let error = world.store.capture_tree(head(), &world.tree(), None, &|_| Err(Error::new("enough"))).unwrap_err();
    assert_eq!(error.to_string(), "enough");
    assert_eq!(std::fs::read_dir(world.path("state/tmp/1")).unwrap().count(), 0);
    assert_eq!(world.store.size().unwrap(), 0);
}

#[test]
fn side_names_are_known() {
    for name in [".txupgrade-notes-3-aside", ".txupgrade-a-b-12-old-x", ".txupgrade-a-1-2"] {
        assert!(is_side_name(name.as_bytes()), "{name}");
    }
    for name in [".txupgrade-notes", ".txupgrade-3", ".txupgrade-notes-3", ".txupgrade-notes-03-x", "txupgrade-a-1-b"] {
        assert!(!is_side_name(name.as_bytes()), "{name}");
    }
}
