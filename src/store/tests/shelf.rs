//! Objects, streams, archives as files, several writers, readers that leave nothing behind.

use super::*;

#[test]
fn objects_are_kept_once() {
    let world = World::new();
    let id = world.store.put(b"a plan").unwrap();
    let size = world.store.size().unwrap();
    assert_eq!(world.store.put(b"a plan").unwrap(), id);
    assert_eq!(world.store.size().unwrap(), size);
    assert_eq!(world.store.get(id).unwrap(), b"a plan");
    assert_eq!(world.store.put(b"").unwrap(), ObjectId::of(b""));
    assert_eq!(world.store.get(ObjectId::of(b"")).unwrap(), b"");
    let error = world.store.get(ObjectId::of(b"other")).unwrap_err();
    assert!(error.statement.ends_with("is not in the store"));
    assert_eq!(error.fault, Fault::Damage);
}

#[test]
fn streams_come_back_and_share_chunks() {
    let world = World::new();
    for size in [0, 1, 100_000, 5 << 20] {
        let bytes = noise(size as u64, size);
        let captured = world.store.capture_stream(head(), &mut &bytes[..]).unwrap();
        assert_eq!((captured.bytes, captured.items), (size as u64, 1));
        let mut back = Vec::new();
        assert_eq!(world.store.restore_stream(captured.manifest, &mut back).unwrap(), size as u64);
        assert!(back == bytes);
        world.store.prove(&[captured.manifest], &|_, _| ()).unwrap();
    }
    let mut changed = noise(5 << 20, 5 << 20);
    changed.splice(1_000_000..1_000_000, *b"inserted");
    let captured = world.store.capture_stream(head(), &mut &changed[..]).unwrap();
    assert!(captured.stored < 300_000, "{captured:?}");
    let facts = world.store.capture_facts(Head { facts: serde_json::json!({"absent": true}), ..head() }).unwrap();
    let error = world.store.restore_stream(facts.manifest, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().ends_with("holds no stream"));
}

#[test]
fn an_archive_is_an_ordinary_tar_zst_named_by_its_hash() {
    let world = World::new();
    write(&world.root().join("a"), "content");
    let captured = world.capture(&world.tree(), None);
    let (name, _) = archive::list(&world.store.archives()).unwrap()[0];
    let path = archive::path_of(&world.store.archives(), name);
    assert_eq!(ObjectId::of(&std::fs::read(&path).unwrap()), name);
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
    let flags = ["--zstd", "-tf"].map(OsStr::new);
    let list = run("tar", &[flags[0], flags[1], path.as_os_str()]);
    let content = ObjectId::of(b"content").to_string();
    assert!(list.lines().any(|line| line == content));
    assert_eq!(list.lines().last().unwrap(), format!("{}.manifest", captured.manifest));
    let out = ["--zstd", "-xOf"].map(OsStr::new);
    assert_eq!(run("tar", &[out[0], out[1], path.as_os_str(), OsStr::new(&content)]), "content");
}

#[test]
fn a_manifest_says_everything_in_json_lines() {
    let world = World::new();
    write(&world.root().join("a"), "content");
    let captured = world.capture(&world.tree(), None);
    let head: serde_json::Value = serde_json::from_slice(&world.store.get(captured.manifest).unwrap()).unwrap();
    assert_eq!((&head["format"], &head["tx"], &head["entries"]), (&1.into(), &"notes-1".into(), &2.into()));
    let chunk: ObjectId = head["chunks"][0].as_str().unwrap().parse().unwrap();
    let text = String::from_utf8(world.store.get(chunk).unwrap()).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&line["path"], &line["type"], &line["size"]), (&"a".into(), &"file".into(), &7.into()));
    assert_eq!(line["object"], ObjectId::of(b"content").to_string());
    assert_eq!(world.store.file_content(captured.manifest, "a").unwrap().unwrap(), b"content");
    assert_eq!(world.store.file_content(captured.manifest, "b").unwrap(), None);
}

#[test]
fn a_newer_manifest_is_refused() {
    let world = World::new();
    let id = world.store.put(br#"{"format":2,"whatever":true}"#).unwrap();
    let error = world.store.head(id).unwrap_err();
    assert_eq!(error.to_string(), format!("the manifest `{id}` has format 2: this txupgrade knows formats up to 1"));
}

#[test]
fn old_content_of_odd_files_is_found() {
    let world = World::new();
    build(&world.root());
    let captured = world.capture(&world.tree(), None);
    let content = |name: &str| world.store.file_content(captured.manifest, name).unwrap().unwrap();
    assert_eq!(content("not utf-8 \\xff\\xfe"), b"x");
    assert_eq!(content("data/c"), b"same");
    assert!(content("data/big-too") == noise(2, 3 << 20));
    assert!(content("sparse") == std::fs::read(world.root().join("sparse")).unwrap());
}

#[test]
fn manifests_are_as_their_schema_says() {
    let schema = serde_json::from_str(include_str!("../../../schemas/manifest.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let valid = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let wrong: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{text}");
        value
    };
    let world = World::new();
    build(&world.root());
    let captured = world.capture(&world.tree(), None);
    let head = valid(std::str::from_utf8(&world.store.get(captured.manifest).unwrap()).unwrap());
    let mut text = Vec::new();
    for chunk in head["chunks"].as_array().unwrap() {
        text.extend(world.store.get(chunk.as_str().unwrap().parse().unwrap()).unwrap());
    }
    let lines = String::from_utf8(text).unwrap();
    assert_eq!(lines.lines().map(valid).count(), head["entries"].as_u64().unwrap() as usize);
}

#[test]
fn several_writers_at_once() {
    let world = World::new();
    let state = world.path("state");
    let ids: Vec<Vec<ObjectId>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                let state = &state;
                scope.spawn(move || {
                    let store = Store::open(state, &state.join(format!("tmp/{writer}"))).unwrap();
                    (0..10).map(|n| store.put(&noise((writer + n) % 12, 10_000)).unwrap()).collect()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for id in ids.into_iter().flatten() {
        assert_eq!(world.store.get(id).unwrap().len(), 10_000);
    }
    assert!(world.store.verify(Sample::All, &[], &|_, _| Ok(())).unwrap().is_sound());
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = walkdir::WalkDir::new(dir).into_iter().map(|e| e.unwrap().into_path()).collect();
    all.sort();
    all
}

#[test]
fn a_reader_leaves_nothing_behind() {
    let world = World::new();
    assert!(Store::open_read_only(&world.path("nothing")).unwrap().is_none());
    assert!(!world.path("nothing").exists());
    write(&world.root().join("a"), "content");
    let captured = world.capture(&world.tree(), None);
    let before = names(&world.path("state"));
    let reader = Store::open_read_only(&world.path("state")).unwrap().unwrap();
    assert_eq!(reader.diff_tree(captured.manifest, &world.tree()).unwrap(), Changes::default());
    // It sees what is written later.
    let later = world.store.put(b"later").unwrap();
    assert_eq!(reader.get(later).unwrap(), b"later");
    assert_eq!(reader.put(b"x").unwrap_err().to_string(), "the store is open for reading only");
    drop(reader);
    // Without an index it reads the archives.
    std::fs::remove_file(world.path("state/store/index.db")).unwrap();
    let reader = Store::open_read_only(&world.path("state")).unwrap().unwrap();
    assert_eq!(reader.head(captured.manifest).unwrap().tx, "notes-1");
    drop(reader);
    let after = names(&world.path("state"));
    assert_eq!(before.len(), after.iter().filter(|path| before.contains(path)).count() + 1);
}
