//! Manifests that no capture wrote, in archives that are right in every other respect: made by the format that the README
//! tells, with no code of the store.

use super::*;

/// Writes an archive that holds these members, and says where.
fn archive(world: &World, members: &[(String, Vec<u8>)]) {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let packed = zstd::bulk::compress(&tar.into_inner().unwrap(), 3).unwrap();
    let name = blake3::hash(&packed).to_hex();
    let dir = world.path(&format!("state/store/archives/{}", &name[..2]));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{name}.tar.zst")), packed).unwrap();
}

/// A store with a manifest of these lines, each without its times.
fn forge(lines: &[&str]) -> (World, ObjectId) {
    let mut world = World::new();
    let object = blake3::hash(b"forged").to_hex().to_string();
    let list = format!("{object} 6\n").into_bytes();
    let times = r#""mode":420,"mtime":[1,0],"ctime":[1,0],"#;
    let named = |line: &&str| {
        let line = line.replace("OBJECT", &object).replace("LIST", &blake3::hash(&list).to_hex());
        format!("{}\n", line.replacen('{', &format!("{{{times}"), 1))
    };
    let entries: String = lines.iter().map(named).collect();
    let head = serde_json::json!({
        "format": 1, "tx": "notes-1", "resource": "code", "kind": "path", "place": "/app", "at": "2026-11-21T04:00:00Z",
        "started": [2, 0], "entries": lines.len(), "bytes": 6, "chunks": [blake3::hash(entries.as_bytes()).to_hex().as_str()],
    });
    let head = head.to_string().into_bytes();
    let id = ObjectId::of(&head);
    let member = |bytes: &[u8]| (blake3::hash(bytes).to_hex().to_string(), bytes.to_vec());
    let members = [member(b"forged"), member(&list), member(entries.as_bytes()), (format!("{id}.manifest"), head)];
    archive(&world, &members);
    world.store = Store::open(&world.path("state"), &world.path("state/tmp/1")).unwrap();
    (world, id)
}

const ROOT: &str = r#"{"path":"","type":"dir"}"#;

#[test]
fn one_that_is_right_is_restored() {
    let file = r#"{"path":"file","type":"file","size":6,"object":"OBJECT"}"#;
    let large = r#"{"path":"large","type":"file","size":6,"list":["LIST"]}"#;
    let (world, id) = forge(&[ROOT, file, large]);
    world.store.prove(&[id], &|_, _| ()).unwrap();
    world.restore(id, &world.tree());
    assert_eq!(std::fs::read(world.root().join("file")).unwrap(), b"forged");
    assert_eq!(std::fs::read(world.root().join("large")).unwrap(), b"forged");
    assert!(world.store.verify(Sample::All, &[], &|_, _| Ok(())).unwrap().is_sound());
}

#[test]
fn a_device_is_made_and_not_written_to() {
    // /dev/full says no to every write.
    let (world, id) = forge(&[ROOT, r#"{"path":"full","type":"char","device":[1,7]}"#]);
    world.restore(id, &world.tree());
    let meta = world.root().join("full").symlink_metadata().unwrap();
    assert_eq!(meta.rdev(), rustix::fs::makedev(1, 7));
}

#[test]
fn what_no_capture_writes_is_refused_and_touches_nothing() {
    let file = |path: &str| format!(r#"{{"path":"{path}","type":"file","size":6,"object":"OBJECT"}}"#);
    let not_inside = "is not a path inside of the resource";
    let enormous = u64::MAX;
    let cases: &[(&[&str], &str, &str)] = &[
        (&[ROOT, &file("../x")], "../x", not_inside),
        (&[ROOT, &file("/etc/passwd")], "/etc/passwd", not_inside),
        (&[ROOT, &file("a//b")], "a//b", not_inside),
        (&[ROOT, &file("./a")], "./a", not_inside),
        (
            &[ROOT, r#"{"path":"link","type":"symlink","target":"/etc"}"#, &file("link/passwd")],
            "link/passwd",
            "is not below a directory of the manifest",
        ),
        (&[ROOT, &file("a"), &file("a/b")], "a/b", "is not below a directory of the manifest"),
        (&[ROOT, &file("no/dir")], "no/dir", "is not below a directory of the manifest"),
        (&[ROOT, &file("a"), &file("a")], "a", "is there twice"),
        (&[ROOT, &file("b"), &file("a")], "a", "is not in order"),
        (&[&file("a")], "a", "comes before the resource itself"),
        (
            &[ROOT, r#"{"path":"a","type":"file","nlink":2,"link":"../../etc/passwd"}"#],
            "a",
            "is the same file as one that is not there",
        ),
        (&[ROOT, r#"{"path":"a","type":"char"}"#], "a", "says something that its kind cannot be"),
        (&[ROOT, r#"{"path":"a","type":"symlink"}"#], "a", "says something that its kind cannot be"),
        (
            &[ROOT, &format!(r#"{{"path":"a","type":"file","size":{enormous},"object":"OBJECT"}}"#)],
            "a",
            "has data where there cannot be any",
        ),
        (
            &[ROOT, r#"{"path":"a","type":"file","size":4000000000000,"object":"OBJECT"}"#],
            "a",
            "does not have the content that its size says",
        ),
        (
            &[ROOT, r#"{"path":"a","type":"file","size":6,"extents":[[18446744073709551615,6]],"object":"OBJECT"}"#],
            "a",
            "has data where there cannot be any",
        ),
        (&[ROOT, r#"{"path":"a","type":"file","size":6}"#], "a", "does not have the content that its size says"),
    ];
    for (lines, path, why) in cases {
        let (world, id) = forge(lines);
        write(&world.root().join("mine"), "mine");
        let want = format!("the manifest is not one of ours: `{path}` {why}");
        let said = |error: Error| {
            assert_eq!(error.fault, Fault::Damage, "{error}");
            error.to_string()
        };
        let proved = said(world.store.prove(&[id], &|_, _| ()).unwrap_err());
        assert_eq!(proved, format!("the manifest of `code` of `notes-1` is damaged: {want}"));
        assert_eq!(said(world.store.diff_tree(id, &world.tree()).unwrap_err()), want);
        for _ in 0..2 {
            assert_eq!(said(world.store.restore_tree(id, &world.tree(), "notes-1", &|_, _| ()).unwrap_err()), want);
            assert_eq!(said(world.store.salvage_tree(id, &world.tree(), "notes-1", &|_, _| ()).unwrap_err()), want);
        }
        let names: Vec<_> =
            std::fs::read_dir(world.path("live")).unwrap().map(|name| name.unwrap().file_name()).collect();
        assert_eq!(names, ["app"]);
        assert_eq!(std::fs::read_dir(world.root()).unwrap().count(), 1);
        let store = Store::open_read_only(&world.path("state")).unwrap().unwrap();
        let verified = store.verify(Sample::All, &[], &|_, _| Ok(())).unwrap();
        assert_eq!((verified.hit.len(), verified.hit[0].lost.as_ref()), (1, Some(&want)));
    }
}

#[test]
fn a_size_that_its_pieces_do_not_have_hits_that_file_only() {
    for (size, why) in [(5, "is longer than the file"), (4_000_000_000_000_000_000u64, "is shorter than the file")] {
        let large = format!(r#"{{"path":"large","type":"file","size":{size},"list":["LIST"]}}"#);
        let small = r#"{"path":"small","type":"file","size":6,"object":"OBJECT"}"#;
        let (world, id) = forge(&[ROOT, &large, small]);
        let error = world.store.prove(&[id], &|_, _| ()).unwrap_err();
        assert!(error.causes.contains(&"`/app/large` of `code` cannot be restored".to_owned()), "{error}");
        assert!(error.causes.contains(&format!("the list of chunks of `large` {why}")), "{error}");
        let error = world.store.salvage_tree(id, &world.tree(), "notes-1", &|_, _| ()).unwrap_err();
        assert!(error.statement.contains("restored but for 1 file"), "{error}");
        assert_eq!(std::fs::read(world.root().join("small")).unwrap(), b"forged");
        assert!(!world.root().join("large").exists());
    }
}
