//! Capture, comparison and restore of whole trees.

use super::*;
use crate::resource::What;

#[test]
fn a_wrecked_tree_comes_back_with_everything() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    build(&root);
    let original = world.path("original");
    copy(&root, &original);
    let captured = world.capture(&tree, None);
    assert_eq!(captured.warnings, Vec::<String>::new());
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());
    assert_eq!(rsync(&original, &root), "");

    let outside = world.path("outside");
    write(&outside.join("a"), "must stay");
    wreck(&root, &outside);
    let changes = world.diff(captured.manifest, &tree);
    assert!(!changes.is_empty());
    assert_eq!(world.restore(captured.manifest, &tree), changes);
    assert_eq!(rsync(&original, &root), "");
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());
    assert_eq!(std::fs::read_to_string(outside.join("a")).unwrap(), "must stay");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    // The holes are holes again.
    assert!(std::fs::metadata(root.join("sparse")).unwrap().blocks() * 512 < 4 << 20);
    assert_eq!(std::fs::metadata(root.join("hole")).unwrap().blocks(), 0);

    assert_eq!(world.restore(captured.manifest, &tree), Changes::default());
    world.sweep();
    assert_eq!(std::fs::read_dir(world.path("live")).unwrap().count(), 1);
}

#[test]
fn a_tree_that_is_gone_comes_back() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    build(&root);
    let original = world.path("original");
    copy(&root, &original);
    let captured = world.capture(&tree, None);
    std::fs::remove_dir_all(world.path("live")).unwrap();
    world.restore(captured.manifest, &tree);
    assert_eq!(rsync(&original, &root), "");
}

#[test]
fn a_second_capture_opens_no_unchanged_file() {
    let world = World::new();
    build(&world.root());
    let first = world.capture(&world.tree(), None);
    assert!(first.read > 5 << 20, "{first:?}");
    let second = world.capture(&world.tree(), Some(first.manifest));
    assert_eq!((second.read, second.items, second.bytes), (0, first.items, first.bytes));
    assert!(second.stored < 5_000, "{second:?}");
    write(&world.root().join("empty"), "no longer");
    settle();
    let third = world.capture(&world.tree(), Some(second.manifest));
    assert_eq!(third.read, 9);
    let entries = |manifest| {
        let head = world.store.stored_head(manifest).unwrap();
        let mut entries = world.store.entries(&head);
        std::iter::from_fn(move || entries.next().unwrap()).collect::<Vec<_>>()
    };
    let differing = entries(second.manifest).into_iter().zip(entries(third.manifest)).filter(|(a, b)| a != b);
    assert_eq!(differing.map(|(a, _)| a.path.to_string()).collect::<Vec<_>>(), ["empty"]);
}

#[test]
fn a_capture_changes_nothing_not_even_access_times() {
    let world = World::new();
    build(&world.root());
    let file = world.root().join("bin/tool");
    let before: Vec<_> = [&file, &world.root()].map(|path| std::fs::metadata(path).unwrap()).into();
    let captured = world.capture(&world.tree(), None);
    world.diff(captured.manifest, &world.tree());
    for (old, path) in before.iter().zip([&file, &world.root()]) {
        let new = std::fs::metadata(path).unwrap();
        let times = |m: &std::fs::Metadata| (m.atime(), m.atime_nsec(), m.ctime(), m.ctime_nsec(), m.mtime_nsec());
        assert_eq!(times(old), times(&new));
    }
}

#[test]
fn absent_stays_absent() {
    let world = World::new();
    let (root, tree) = (world.root(), world.tree());
    let captured = world.capture(&tree, None);
    assert_eq!(world.store.head(captured.manifest).unwrap().facts["absent"], true);
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());
    build(&root);
    assert!(world.diff(captured.manifest, &tree).items.iter().all(|change| change.what == What::Added));
    world.restore(captured.manifest, &tree);
    assert!(root.symlink_metadata().is_err());
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());
    assert_eq!(world.restore(captured.manifest, &tree), Changes::default());
    std::fs::remove_dir_all(world.path("live")).unwrap();
    assert_eq!(world.restore(captured.manifest, &tree), Changes::default());
}

#[test]
fn what_is_excluded_or_belongs_to_others_is_not_touched() {
    let world = World::new();
    let root = world.root();
    write(&root.join("code.py"), "1");
    write(&root.join("code.pyc"), "x");
    write(&root.join("cache/a/b"), "x");
    write(&root.join("db/notes.db"), "x");
    let tree = Tree {
        exclude: vec!["cache/".into(), "*.pyc".into()],
        left_out: vec![root.join("db/notes.db")],
        ..world.tree()
    };
    let captured = world.capture(&tree, None);
    let head = world.store.head(captured.manifest).unwrap();
    assert_eq!(head.facts["exclude"], serde_json::json!(["cache/", "*.pyc"]));
    assert_eq!(head.facts["left_out"], serde_json::json!(["db/notes.db"]));
    assert_eq!(captured.items, 3);

    write(&root.join("code.py"), "2");
    write(&root.join("code.pyc"), "changed");
    write(&root.join("cache/c"), "added");
    write(&root.join("db/notes.db"), "changed");
    write(&root.join("new/cache/kept"), "k");
    write(&root.join("new/gone"), "g");
    write(&root.join(".txupgrade-notes-2-old/x"), "side");
    // The plan at hand excludes less than the one that captured: what was not captured is not touched all the same.
    let less = world.tree();
    let changes = world.restore(captured.manifest, &less);
    let text: Vec<String> =
        changes.items.iter().map(|c| format!("{:?} {} {}", c.what, c.name, c.details.join(", "))).collect();
    insta::assert_snapshot!(text.join("\n"), @"
    Changed . mtime
    Changed code.py content, mtime
    Added new/gone 
    Added new kept: `new/cache` in it is excluded
    ");
    assert_eq!(std::fs::read_to_string(root.join("code.py")).unwrap(), "1");
    assert_eq!(std::fs::read_to_string(root.join("code.pyc")).unwrap(), "changed");
    assert_eq!(std::fs::read_to_string(root.join("cache/c")).unwrap(), "added");
    assert_eq!(std::fs::read_to_string(root.join("db/notes.db")).unwrap(), "changed");
    assert_eq!(std::fs::read_to_string(root.join("new/cache/kept")).unwrap(), "k");
    assert!(!root.join("new/gone").exists());
    assert!(root.join(".txupgrade-notes-2-old/x").exists());
    assert_eq!(world.diff(captured.manifest, &tree), Changes::default());
}

#[test]
fn a_directory_that_has_to_stay_is_not_replaced_by_a_file() {
    let world = World::new();
    let root = world.root();
    write(&root.join("x"), "file");
    write(&root.join("y"), "file");
    let tree = Tree { exclude: vec!["cache/".into()], ..world.tree() };
    let captured = world.capture(&tree, None);
    std::fs::remove_file(root.join("x")).unwrap();
    write(&root.join("x/cache/k"), "keep");
    write(&root.join("y"), "changed");
    let error = world.store.restore_tree(captured.manifest, &tree, "notes-1", &|_, _| ()).unwrap_err();
    let text = error.to_string().replace(&root.display().to_string(), "ROOT");
    insta::assert_snapshot!(text, @"cannot restore `ROOT`; nothing was changed: `ROOT/x` was a file and is a directory now that has to stay: `x/cache` in it is excluded");
    assert_eq!(std::fs::read_to_string(root.join("y")).unwrap(), "changed");
}

#[test]
fn a_part_is_put_back_and_nothing_else() {
    let world = World::new();
    let root = world.root();
    for name in ["etc/app/a", "etc/app/b", "etc/other", "code"] {
        write(&root.join(name), "old");
    }
    let captured = world.capture(&world.tree(), None);
    let carry = |part: &str| {
        world.store.restore_part(captured.manifest, &world.tree(), &root.join(part), "notes-1", &|_, _| ())
    };
    std::fs::remove_dir_all(root.join("etc")).unwrap();
    write(&root.join("code"), "new");
    write(&root.join("extra"), "new");
    carry("etc/app/").unwrap();
    assert_eq!(std::fs::read_to_string(root.join("etc/app/b")).unwrap(), "old");
    assert!(!root.join("etc/other").exists() && root.join("extra").exists());
    assert_eq!(std::fs::read_to_string(root.join("code")).unwrap(), "new");
    write(&root.join("etc/app/added"), "new");
    assert_eq!(carry("etc/app").unwrap().items.len(), 2);
    assert!(!root.join("etc/app/added").exists());
    carry("etc/other").unwrap();
    assert!(root.join("etc/other").exists());
    assert_eq!(carry("etc/other").unwrap(), Changes::default());
    let error = world.store.restore_part(captured.manifest, &world.tree(), Path::new("/etc"), "notes-1", &|_, _| ());
    assert!(error.unwrap_err().to_string().starts_with("`/etc` is not in `"));
}

#[test]
fn differences_are_told_in_words() {
    let world = World::new();
    let (root, tree) = (world.root(), Tree { secret: vec!["*.key".into()], ..world.tree() });
    for name in ["mode", "owner", "time", "attr", "content", "gone", "type", "a.key"] {
        write(&root.join(name), "1234");
    }
    symlink("a", root.join("link")).unwrap();
    let captured = world.capture(&tree, None);
    std::fs::set_permissions(root.join("mode"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(root.join("owner"), Some(1), None).unwrap();
    set_mtime(&root.join("time"), 5, 5);
    set_xattr(&root.join("attr"), "user.x", b"1");
    write(&root.join("content"), "4321");
    write(&root.join("a.key"), "4321");
    for name in ["content", "a.key"] {
        let old = std::fs::metadata(root.join("mode")).unwrap();
        set_mtime(&root.join(name), old.mtime(), old.mtime_nsec());
    }
    std::fs::remove_file(root.join("gone")).unwrap();
    std::fs::remove_file(root.join("type")).unwrap();
    std::fs::create_dir(root.join("type")).unwrap();
    std::fs::remove_file(root.join("link")).unwrap();
    symlink("b", root.join("link")).unwrap();
    write(&root.join("new\nline"), "");
    let changes = world.diff(captured.manifest, &tree);
    let line = |c: &crate::resource::Change| {
        let details: Vec<_> = c.details.iter().filter(|detail| *detail != "mtime").map(String::as_str).collect();
        format!("{:?} {}: {}{}", c.what, c.name, details.join(", "), if c.secret { " (secret)" } else { "" })
    };
    insta::assert_snapshot!(changes.items.iter().map(line).collect::<Vec<_>>().join("\n"), @"
    Changed .: 
    Changed a.key: content (secret)
    Changed attr: xattr user.x
    Changed content: content
    Removed gone: 
    Changed link: target
    Changed mode: mode 644 -> 600
    Added new\\x0aline: 
    Changed owner: owner 0:0 -> 1:0
    Changed time: 
    Changed type: type file -> directory
    ");
}
