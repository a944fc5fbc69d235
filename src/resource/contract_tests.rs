//! What every kind of resource promises, asked of each in the same words: capture changes nothing; after any change a
//! restore makes the difference empty; restoring twice is restoring once; absent stays absent.
//!
//! A new kind adds one [`Subject`].

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rusqlite::Connection;

use super::{Resource, What};
use crate::context_fixture::Fixture;

/// Something that happens to what was captured.
type Change = (&'static str, fn(&Fixture));

/// One kind, and what may happen to what it takes care of.
struct Subject {
    /// Its keys in a plan.
    keys: &'static str,
    /// Makes what is captured.
    make: fn(&Fixture),
    /// Changes it; each in turn is done to what was captured, and taken back.
    changes: &'static [Change],
    /// Takes it away, where absent is a state of it.
    remove: Option<fn(&Fixture)>,
}

fn sqlite(f: &Fixture) -> Connection {
    Connection::open(f.path("data/it.db")).unwrap()
}

const SQLITE: Subject = Subject {
    keys: "kind = \"sqlite\"\npath = \"${dir}/data/it.db\"",
    make: |f| {
        fs::create_dir_all(f.path("data")).unwrap();
        sqlite(f)
            .execute_batch(
                "CREATE TABLE notes(id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL);
                 CREATE INDEX by_text ON notes(text);
                 INSERT INTO notes(text) VALUES ('one'), ('two'), (x'00ff');
                 CREATE TABLE settings(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
                 INSERT INTO settings VALUES ('version', '1.4'), ('ratio', 0.5);
                 CREATE VIRTUAL TABLE words USING fts5(body);
                 INSERT INTO words VALUES ('to be found');
                 PRAGMA user_version = 14;",
            )
            .unwrap();
        fs::set_permissions(f.path("data/it.db"), fs::Permissions::from_mode(0o640)).unwrap();
    },
    changes: &[
        ("a row more", |f| sqlite(f).execute_batch("INSERT INTO notes(text) VALUES ('three')").unwrap()),
        ("a row less", |f| sqlite(f).execute_batch("DELETE FROM notes WHERE text = 'one'").unwrap()),
        ("a value", |f| sqlite(f).execute_batch("UPDATE settings SET value = '2.0' WHERE key = 'version'").unwrap()),
        ("a type", |f| sqlite(f).execute_batch("UPDATE settings SET value = 1.4 WHERE key = 'version'").unwrap()),
        ("a table more", |f| sqlite(f).execute_batch("CREATE TABLE more(x); INSERT INTO more VALUES (1)").unwrap()),
        ("a table less", |f| sqlite(f).execute_batch("DROP TABLE settings").unwrap()),
        ("a column", |f| sqlite(f).execute_batch("ALTER TABLE notes ADD COLUMN author TEXT").unwrap()),
        ("an index", |f| sqlite(f).execute_batch("DROP INDEX by_text").unwrap()),
        ("the text index", |f| sqlite(f).execute_batch("INSERT INTO words VALUES ('more')").unwrap()),
        ("the user version", |f| sqlite(f).execute_batch("PRAGMA user_version = 20").unwrap()),
        ("the log", |f| {
            let mode: String = sqlite(f).query_row("PRAGMA journal_mode = wal", [], |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
        }),
        ("a log left behind", |f| {
            let connection = sqlite(f);
            connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(())).unwrap();
            connection.execute_batch("INSERT INTO notes(text) VALUES ('in the log')").unwrap();
            let log = fs::read(f.path("data/it.db-wal")).unwrap();
            let database = fs::read(f.path("data/it.db")).unwrap();
            drop(connection);
            fs::write(f.path("data/it.db"), database).unwrap();
            fs::write(f.path("data/it.db-wal"), log).unwrap();
        }),
        ("the mode", |f| fs::set_permissions(f.path("data/it.db"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("damage", |f| fs::write(f.path("data/it.db"), "not a database any more").unwrap()),
        ("emptiness", |f| fs::write(f.path("data/it.db"), "").unwrap()),
        ("a directory in its place", |f| {
            fs::remove_file(f.path("data/it.db")).unwrap();
            fs::create_dir_all(f.path("data/it.db/deeper")).unwrap();
        }),
        ("a link in its place", |f| {
            fs::rename(f.path("data/it.db"), f.path("elsewhere.db")).unwrap();
            std::os::unix::fs::symlink(f.path("elsewhere.db"), f.path("data/it.db")).unwrap();
        }),
        ("its removal", |f| fs::remove_file(f.path("data/it.db")).unwrap()),
        ("the removal of its directory", |f| fs::remove_dir_all(f.path("data")).unwrap()),
    ],
    remove: Some(|f| {
        let _ = fs::remove_dir_all(f.path("data"));
        fs::create_dir(f.path("data")).unwrap();
    }),
};

const PATH: Subject = Subject {
    keys: "kind = \"path\"\npath = \"${dir}/data\"",
    make: |f| {
        f.write("data/config/a.conf", "one\n");
        f.write("data/bin/run", "#!/bin/sh\n");
        f.write("data/large", vec![3; 3_000_000]);
        fs::set_permissions(f.path("data/bin/run"), fs::Permissions::from_mode(0o4755)).unwrap();
        std::os::unix::fs::symlink("config/a.conf", f.path("data/link")).unwrap();
        fs::hard_link(f.path("data/large"), f.path("data/same")).unwrap();
    },
    changes: &[
        ("content", |f| drop(f.write("data/config/a.conf", "two\n"))),
        ("a file more", |f| drop(f.write("data/config/b.conf", "two\n"))),
        ("a file less", |f| fs::remove_file(f.path("data/bin/run")).unwrap()),
        ("a mode", |f| fs::set_permissions(f.path("data/bin"), fs::Permissions::from_mode(0o500)).unwrap()),
        ("a file where a directory was", |f| {
            fs::remove_dir_all(f.path("data/config")).unwrap();
            f.write("data/config", "a file\n");
        }),
        ("a directory where a file was", |f| {
            fs::remove_file(f.path("data/bin/run")).unwrap();
            f.write("data/bin/run/deeper", "x");
        }),
        ("a link that leads elsewhere", |f| {
            fs::remove_file(f.path("data/link")).unwrap();
            std::os::unix::fs::symlink("/etc", f.path("data/link")).unwrap();
        }),
        ("its removal", |f| fs::remove_dir_all(f.path("data")).unwrap()),
    ],
    remove: Some(|f| {
        let _ = fs::remove_dir_all(f.path("data"));
    }),
};

const COMMAND: Subject = Subject {
    keys: "kind = \"command\"\ndump = [\"cat\", \"${dir}/content\"]\nload = { shell = \"cat > $dir/content\" }\n\
           fingerprint = { shell = \"wc -c < $dir/content; cksum < $dir/content\" }",
    make: |f| drop(f.write("content", [b"binary \0\xff\n".as_slice(), &vec![7; 300_000]].concat())),
    changes: &[
        ("a byte", |f| drop(f.write("content", b"binary \0\xfe\n"))),
        ("emptiness", |f| drop(f.write("content", b""))),
    ],
    remove: None,
};

const COMMAND_WITHOUT_FINGERPRINT: Subject = Subject {
    keys: "kind = \"command\"\ndump = [\"cat\", \"${dir}/content\"]\nload = { shell = \"cat > $dir/content\" }",
    ..COMMAND
};

/// Everything below the place that a resource may not change: names, modes, times, bytes. Side copies left out.
fn everything(f: &Fixture) -> Vec<String> {
    let mut lines = Vec::new();
    let walk = walkdir::WalkDir::new(f.place()).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| !entry.file_name().to_string_lossy().starts_with(".txupgrade-")) {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let content = match meta.is_file() {
            true => blake3::hash(&fs::read(entry.path()).unwrap()).to_hex().to_string(),
            false => String::new(),
        };
        let name = entry.path().strip_prefix(f.place()).unwrap().display().to_string();
        // The time of the place itself changes with the side copies.
        let time = if meta.is_file() { meta.mtime_nsec() } else { 0 };
        lines.push(format!("{name} {:o} {}:{} {time} {content}", meta.mode(), meta.uid(), meta.gid()));
    }
    lines
}

fn honours(subject: &Subject) {
    let f = Fixture::new();
    let it: Box<dyn Resource> = f.resource(subject.keys);
    let cx = f.context("it");
    (subject.make)(&f);
    let before = everything(&f);

    it.probe(&cx).unwrap();
    assert!(!it.claims(&cx).unwrap().is_empty());
    let captured = it.capture(&cx, None).unwrap();
    let manifest = captured.manifest;
    let again = it.capture(&cx, Some(manifest)).unwrap();
    assert_eq!(again.bytes, captured.bytes);
    it.prove(&cx, manifest).unwrap();
    assert!(it.diff(&cx, manifest).unwrap().is_empty());
    assert!(it.restore(&cx, manifest).unwrap().is_empty());
    assert_eq!(everything(&f), before, "looking changes nothing");
    assert_eq!(f.store.head(manifest).unwrap().resource, "it");

    for (what, change) in subject.changes {
        change(&f);
        let changed = everything(&f);
        let differs = it.diff(&cx, manifest).unwrap();
        assert!(!differs.is_empty(), "{what} is seen");
        assert_eq!(everything(&f), changed, "seeing {what} changes nothing");
        assert_eq!(it.restore(&cx, manifest).unwrap(), differs, "{what}");
        assert!(it.diff(&cx, manifest).unwrap().is_empty(), "{what} is taken back");
        let restored = everything(&f);
        assert!(it.restore(&cx, manifest).unwrap().is_empty(), "{what} is taken back once");
        assert_eq!(everything(&f), restored, "{what} is taken back once");
        for leftover in it.leftovers(&cx).unwrap() {
            crate::sys::files::remove_tree(&leftover).unwrap();
        }
        crate::store::sweep("t-1", &f.path("data")).unwrap();
        let names = fs::read_dir(f.place()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(".txupgrade-")).collect();
        assert!(left.is_empty(), "{what} leaves {left:?}");
    }

    let Some(remove) = subject.remove else { return };
    remove(&f);
    let bare = everything(&f);
    it.probe(&cx).unwrap();
    let absent = it.capture(&cx, None).unwrap().manifest;
    it.prove(&cx, absent).unwrap();
    assert!(it.diff(&cx, absent).unwrap().is_empty());
    assert_eq!(it.restore(&cx, absent).unwrap(), super::Changes::default());
    assert_eq!(everything(&f), bare, "absent stays absent");
    (subject.make)(&f);
    assert_eq!(it.diff(&cx, absent).unwrap().items[0].what, What::Added);
    it.restore(&cx, absent).unwrap();
    assert!(it.diff(&cx, absent).unwrap().is_empty());
    assert_eq!(it.restore(&cx, absent).unwrap(), super::Changes::default());
    assert_eq!(everything(&f), bare, "what was absent is absent again");
    it.restore(&cx, manifest).unwrap();
    assert!(it.diff(&cx, manifest).unwrap().is_empty(), "and comes back");
}

#[test]
fn path_honours_the_contract() {
    honours(&PATH);
}

#[test]
fn sqlite_honours_the_contract() {
    honours(&SQLITE);
}

#[test]
fn command_honours_the_contract() {
    honours(&COMMAND);
}

#[test]
fn command_without_a_fingerprint_honours_the_contract() {
    honours(&COMMAND_WITHOUT_FINGERPRINT);
}
