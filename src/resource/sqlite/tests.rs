//! Databases in use, databases whose writer died, and what a restore does to the files beside one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;

use super::*;
use crate::context_fixture::{Fixture, shown};
use crate::plan::List;

const KEYS: &str = "kind = \"sqlite\"\npath = \"${dir}/it.db\"";

fn resource(f: &Fixture) -> Box<dyn Resource> {
    f.resource(KEYS)
}

fn make(f: &Fixture, sql: &str) {
    Connection::open(f.path("it.db")).unwrap().execute_batch(sql).unwrap();
}

fn names(f: &Fixture) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(f.place()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Names and bytes of everything in the place; the `-shm` of a live database is its readers' to write.
fn bytes(f: &Fixture) -> Vec<(String, Vec<u8>)> {
    let of = |name: String| {
        let bytes = if name.ends_with("-shm") { Vec::new() } else { fs::read(f.path(&name)).unwrap_or_default() };
        (name, bytes)
    };
    names(f).into_iter().map(of).collect()
}

/// Another process with the database open: SQLite's locks do not show within one process.
struct Other {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Other {
    /// Runs a piece of Python, which has `c`, a connection, and then waits until it is told to end.
    fn open(f: &Fixture, python: &str) -> Other {
        let program = format!(
            "import sqlite3, sys, os\nc = sqlite3.connect('it.db', isolation_level=None)\n{python}\n\
             print('ready', flush=True)\nsys.stdin.readline()\nc.close()\n"
        );
        let mut child = Command::new("python3")
            .args(["-c", &program])
            .current_dir(f.place())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs `python3`: apt-get install python3");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Other { child, out }
    }

    fn close(mut self) {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        self.child.wait().unwrap();
        drop(self.out);
    }

    fn die(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

const WAL: &str = "c.execute('PRAGMA journal_mode=wal'); c.execute('PRAGMA wal_autocheckpoint=0')\n\
                   c.execute('CREATE TABLE t(x)'); c.execute('INSERT INTO t VALUES (1)')";

#[test]
fn a_database_in_use_is_captured_as_of_one_moment() {
    let f = Fixture::new();
    let other = Other::open(&f, &format!("{WAL}\nc.execute('BEGIN'); c.execute('INSERT INTO t VALUES (2)')"));
    let (it, cx) = (resource(&f), f.context("it"));
    let before = bytes(&f);
    it.probe(&cx, None).unwrap();
    let manifest = it.capture(&cx, None).unwrap().manifest;
    assert_eq!(it.prove(&cx, manifest).unwrap().as_deref(), Some("1 table, 1 row"));
    assert!(it.diff(&cx, manifest).unwrap().is_empty());
    assert_eq!(it.query(&cx, "SELECT x FROM t").unwrap(), "1");
    assert_eq!(bytes(&f), before, "nothing of it was changed");
    other.close();
}

#[test]
fn a_database_that_waits_for_its_writer_says_who_that_is() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x)");
    let other = Other::open(&f, "c.execute('BEGIN EXCLUSIVE')");
    let (it, cx) = (resource(&f), f.context("it"));
    let look = || {
        with_database(&f.path("it.db"), &cx.tmp, |looked| {
            looked.connection.busy_timeout(std::time::Duration::from_millis(50)).unwrap();
            answer(&looked.connection, "SELECT 1 FROM t").map_err(|error| in_words(error, &f.path("it.db")))
        })
    };
    let text = shown(&look().unwrap_err(), &f);
    let begin = format!("`DIR/it.db` is locked by process {} (`", other.child.id());
    assert!(text.starts_with(&begin) && text.contains("python3 -c import sqlite3"), "{text}");
    other.close();
    assert_eq!(it.query(&cx, "SELECT count(*) FROM t").unwrap(), "0");
}

#[test]
fn what_a_dead_writer_left_in_its_log_is_captured() {
    let f = Fixture::new();
    Other::open(&f, WAL).die();
    assert_eq!(names(&f), ["it.db", "it.db-shm", "it.db-wal"]);
    let (it, cx) = (resource(&f), f.context("it"));
    let before = bytes(&f);
    let manifest = it.capture(&cx, None).unwrap().manifest;
    assert_eq!(it.query(&cx, "SELECT x FROM t").unwrap(), "1");
    assert_eq!(bytes(&f), before);
    make(&f, "INSERT INTO t VALUES (2)");
    it.restore(&cx, manifest).unwrap();
    assert_eq!(it.query(&cx, "SELECT x FROM t").unwrap(), "1");
    make(&f, "INSERT INTO t VALUES (3)");
    assert_eq!(it.query(&cx, "SELECT sum(x) FROM t").unwrap(), "4", "it is an ordinary database again");
}

/// A transaction that has written to the database before its end.
const HALF: &str = "c.execute('PRAGMA cache_size=1'); c.execute('PRAGMA cache_spill=1'); c.execute('BEGIN')\n\
                    c.execute('UPDATE t SET x = 2')\n\
                    for i in range(2000): c.execute('INSERT INTO t VALUES (?)', ('a' * 500,))";

#[test]
fn what_a_writer_that_died_half_way_has_left_goes_although_the_database_says_the_same() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    let (it, cx) = (resource(&f), f.context("it"));
    let before = bytes(&f);
    let manifest = it.capture(&cx, None).unwrap().manifest;
    Other::open(&f, HALF).die();
    assert_eq!(names(&f), ["it.db", "it.db-journal"]);
    assert!(it.diff(&cx, manifest).unwrap().is_empty());
    it.restore(&cx, manifest).unwrap();
    assert!(!f.path("it.db-journal").exists());
    assert_eq!(fs::read(f.path("it.db")).unwrap(), before[0].1);
    // It died before it had begun to write.
    fs::write(f.path("it.db-journal"), "").unwrap();
    it.restore(&cx, manifest).unwrap();
    assert!(!f.path("it.db-journal").exists());
}

#[test]
fn a_journal_that_is_kept_for_the_next_transaction_is_not_touched() {
    let f = Fixture::new();
    make(&f, "PRAGMA journal_mode = persist; CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    assert_eq!(names(&f), ["it.db", "it.db-journal"]);
    let (it, cx) = (resource(&f), f.context("it"));
    let before = bytes(&f);
    let manifest = it.capture(&cx, None).unwrap().manifest;
    assert!(it.restore(&cx, manifest).unwrap().is_empty());
    assert_eq!(bytes(&f), before);
}

#[test]
fn a_transaction_that_died_half_way_is_not_part_of_it() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    Other::open(&f, HALF).die();
    assert_eq!(names(&f), ["it.db", "it.db-journal"]);
    let before = bytes(&f);
    let (it, cx) = (resource(&f), f.context("it"));
    it.probe(&cx, None).unwrap();
    let manifest = it.capture(&cx, None).unwrap().manifest;
    assert_eq!(it.query(&cx, "SELECT x FROM t").unwrap(), "1");
    assert!(it.diff(&cx, manifest).unwrap().is_empty());
    assert_eq!(bytes(&f), before, "the journal is still there to be played back");
    fs::remove_file(f.path("it.db-journal")).unwrap();
    it.restore(&cx, manifest).unwrap();
    assert_eq!(it.query(&cx, "SELECT x FROM t").unwrap(), "1");
}

#[test]
fn a_wal_database_at_rest_gets_no_files_beside_it() {
    let f = Fixture::new();
    Other::open(&f, WAL).close();
    assert_eq!(names(&f), ["it.db"]);
    let before = bytes(&f);
    let (it, cx) = (resource(&f), f.context("it"));
    it.probe(&cx, None).unwrap();
    let manifest = it.capture(&cx, None).unwrap().manifest;
    assert!(it.diff(&cx, manifest).unwrap().is_empty());
    assert_eq!(it.query(&cx, "SELECT x FROM t").unwrap(), "1");
    assert_eq!(bytes(&f), before);
    let mut stored = Vec::new();
    cx.store.restore_stream(manifest, &mut stored).unwrap();
    assert_eq!(stored, before[0].1, "byte for byte");
}

#[test]
fn a_restored_database_never_meets_another_ones_log() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    let (it, cx) = (resource(&f), f.context("it"));
    let manifest = it.capture(&cx, None).unwrap().manifest;
    Other::open(&f, "c.execute('PRAGMA journal_mode=wal'); c.execute('INSERT INTO t VALUES (2)')").die();
    it.restore(&cx, manifest).unwrap();
    let sides = ["", "-shm", "-wal"].map(|side| format!(".txupgrade-t-1-displaced-it{side}"));
    assert_eq!(names(&f), [sides.as_slice(), &["it.db".to_owned()]].concat());
    assert_eq!(it.query(&cx, "SELECT x FROM t").unwrap(), "1");
    let displaced = Connection::open(f.path(".txupgrade-t-1-displaced-it")).unwrap();
    let sum: i64 = displaced.query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 3, "what was displaced is whole");
    drop(displaced);
    assert_eq!(it.leftovers(&cx).unwrap().len(), 1, "closing it has ended its log");
}

#[test]
fn a_death_between_the_renames_is_mended_by_the_next_restore() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    let (it, cx) = (resource(&f), f.context("it"));
    let manifest = it.capture(&cx, None).unwrap().manifest;
    let wal = "c.execute('PRAGMA journal_mode=wal'); c.execute('INSERT INTO t VALUES (2)')";
    // After the second name; after the log was moved; after that with the new one written but not in place.
    for moved in [&[][..], &["-wal"], &["-wal", "-shm"]] {
        Other::open(&f, wal).die();
        fs::hard_link(f.path("it.db"), f.path(".txupgrade-t-1-displaced-it")).unwrap();
        for side in moved {
            fs::rename(f.path(&format!("it.db{side}")), f.path(&format!(".txupgrade-t-1-displaced-it{side}"))).unwrap();
        }
        f.write(".txupgrade-t-1-incoming-it", "half");
        it.restore(&cx, manifest).unwrap();
        assert_eq!(it.query(&cx, "SELECT x FROM t").unwrap(), "1", "{moved:?}");
        assert!(!f.path("it.db-wal").exists());
        for leftover in it.leftovers(&cx).unwrap() {
            fs::remove_file(leftover).unwrap();
        }
        assert_eq!(names(&f), ["it.db"]);
    }
}

#[test]
fn a_database_in_use_is_not_restored() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x)");
    let (it, cx) = (resource(&f), f.context("it"));
    let manifest = it.capture(&cx, None).unwrap().manifest;
    let other = Other::open(&f, "c.execute('PRAGMA journal_mode=wal'); c.execute('INSERT INTO t VALUES (2)')");
    let text = shown(&it.restore(&cx, manifest).unwrap_err(), &f);
    let begin = format!("`DIR/it.db` is in use by process {} (`", other.child.id());
    assert!(text.starts_with(&begin) && text.ends_with("hint: stop it; then `txupgrade rollback` again"), "{text}");
    other.close();
    it.restore(&cx, manifest).unwrap();
    assert_eq!(it.query(&cx, "SELECT count(*) FROM t").unwrap(), "0");
}

#[test]
fn the_file_is_put_back_with_all_its_attributes() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    let path = f.path("it.db");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    let owned = std::os::unix::fs::chown(&path, Some(1234), Some(1235)).is_ok();
    let marked = xattr::set(&path, "user.mark", b"kept").is_ok();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_000_000_000_000_000_123);
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let before = (Attributes::of(&path).unwrap(), fs::read(&path).unwrap());
    let (it, cx) = (resource(&f), f.context("it"));
    let manifest = it.capture(&cx, None).unwrap().manifest;

    make(&f, "INSERT INTO t VALUES (2)");
    it.restore(&cx, manifest).unwrap();
    assert_eq!((Attributes::of(&path).unwrap(), fs::read(&path).unwrap()), before);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    xattr::set(&path, "user.more", b"x").ok();
    let _ = std::os::unix::fs::chown(&path, Some(0), Some(0));
    let changes = it.restore(&cx, manifest).unwrap();
    let mut expected = vec!["mode 664 -> 600"];
    expected.extend(owned.then_some("owner 1234:1235 -> 0:0"));
    expected.extend(marked.then_some("extended attributes"));
    assert_eq!(changes.items[0].details, expected);
    assert_eq!((Attributes::of(&path).unwrap(), fs::read(&path).unwrap()), before);

    make(&f, "VACUUM; INSERT INTO t VALUES (2); DELETE FROM t WHERE x = 2");
    assert!(it.restore(&cx, manifest).unwrap().is_empty(), "it says the same");
    assert_eq!((Attributes::of(&path).unwrap(), fs::read(&path).unwrap()), before, "and is the same file again");
}

#[test]
fn the_directory_keeps_its_time() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x)");
    let (it, cx) = (resource(&f), f.context("it"));
    let manifest = it.capture(&cx, None).unwrap().manifest;
    make(&f, "INSERT INTO t VALUES (2)");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(f.place()).unwrap().set_modified(old).unwrap();
    it.restore(&cx, manifest).unwrap();
    assert_eq!(f.place().metadata().unwrap().modified().unwrap(), old);
}

#[test]
fn a_diff_says_which_tables_changed_by_how_much() {
    let f = Fixture::new();
    make(
        &f,
        "CREATE TABLE notes(x); INSERT INTO notes VALUES (1), (2), (3); CREATE TABLE tags(x); INSERT INTO tags VALUES (1);
         CREATE TABLE gone(x); INSERT INTO gone VALUES (1); CREATE TABLE same(x); CREATE INDEX i ON notes(x);
         CREATE VIEW v AS SELECT 1; PRAGMA user_version = 14",
    );
    let (it, cx) = (resource(&f), f.context("it"));
    let manifest = it.capture(&cx, None).unwrap().manifest;
    make(
        &f,
        "INSERT INTO notes VALUES (4), (5); UPDATE tags SET x = 2; DROP TABLE gone; CREATE TABLE new(x); DROP INDEX i;
         INSERT INTO new VALUES (1); ALTER TABLE same ADD COLUMN y; DROP VIEW v; CREATE VIEW v AS SELECT 2;
         CREATE TRIGGER t AFTER INSERT ON notes BEGIN SELECT 1; END; PRAGMA user_version = 20",
    );
    let lines = |changes: Changes| {
        changes
            .items
            .iter()
            .map(|c| format!("{:?} {}: {}", c.what, c.name, c.details.join(", ")).trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    insta::assert_snapshot!(lines(it.diff(&cx, manifest).unwrap()).join("\n"), @r"
    Changed the database: user_version 14 -> 20
    Removed gone: -1 row
    Changed notes: +2 rows
    Changed same: definition
    Changed tags: content
    Added new: +1 row
    Removed index i:
    Changed view v: definition
    Added trigger t:
    ");
    fs::write(f.path("it.db"), "nothing of the kind, and longer than a header\n".repeat(100)).unwrap();
    insta::assert_snapshot!(lines(it.diff(&cx, manifest).unwrap()).join("\n"), @r"Changed the database: file is not a database");
    fs::remove_file(f.path("it.db")).unwrap();
    fs::create_dir(f.path("it.db")).unwrap();
    let dir = f.place().display().to_string();
    insta::assert_snapshot!(lines(it.diff(&cx, manifest).unwrap()).join("\n").replace(&dir, "DIR"), @r"Changed DIR/it.db: now a directory");
}

#[test]
fn what_is_no_sound_database_is_refused_by_name() {
    let f = Fixture::new();
    let (it, cx) = (resource(&f), f.context("it"));
    let refused = |what: &str| format!("{what}: {}\n", shown(&it.probe(&cx, None).unwrap_err(), &f));
    let mut told = String::new();
    fs::write(f.path("it.db"), "plain text\n".repeat(100)).unwrap();
    told += &refused("text");
    make_damaged(&f);
    told += &refused("damage");
    assert!(it.capture(&cx, None).is_err());
    fs::remove_file(f.path("it.db")).unwrap();
    fs::create_dir(f.path("it.db")).unwrap();
    told += &refused("a directory");
    fs::remove_dir(f.path("it.db")).unwrap();
    std::os::unix::fs::symlink("real.db", f.path("it.db")).unwrap();
    f.write("real.db", "");
    told += &refused("a link");
    insta::assert_snapshot!(told, @r#"
    text: `DIR/it.db` is not an SQLite database
    damage: the database `DIR/it.db` is damaged
      cause: Tree 2 page 2 cell 0: Offset 3855 out of range 4082..4092
    a directory: `DIR/it.db` is a directory, not a database
    a link: `DIR/it.db` is a symbolic link
    hint: name what it points to: path = "DIR/real.db"
    "#);
}

/// A database with a page that makes no sense.
fn make_damaged(f: &Fixture) {
    let _ = fs::remove_file(f.path("it.db"));
    make(f, "CREATE TABLE t(x); INSERT INTO t VALUES (1), (2), (3)");
    let mut bytes = fs::read(f.path("it.db")).unwrap();
    bytes[4096 + 20..4096 + 60].fill(0xff);
    bytes[4096 + 8..4096 + 10].fill(0x0f);
    fs::write(f.path("it.db"), bytes).unwrap();
}

#[test]
fn what_only_the_application_knows_is_no_reason_to_refuse() {
    let f = Fixture::new();
    let foreign = "c.create_collation('HOUSE', lambda a, b: (a > b) - (a < b))\n\
                   c.execute('CREATE TABLE t(x TEXT COLLATE HOUSE)'); c.execute('CREATE INDEX i ON t(x)')\n\
                   c.execute(\"INSERT INTO t VALUES ('b'), ('a')\")";
    Other::open(&f, foreign).close();
    let (it, cx) = (resource(&f), f.context("it"));
    let warnings = it.probe(&cx, None).unwrap().warnings;
    assert!(warnings.len() <= 1, "{warnings:?}");
    let manifest = it.capture(&cx, None).unwrap().manifest;
    it.prove(&cx, manifest).unwrap();
    fs::remove_file(f.path("it.db")).unwrap();
    it.restore(&cx, manifest).unwrap();
    assert!(it.diff(&cx, manifest).unwrap().is_empty());
}

#[test]
fn answers_are_lines_of_cells() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(a, b, c, d); INSERT INTO t VALUES (1, 'x y', 1.5, x'0aff'), (NULL, 'z', 2.0, '')");
    let (it, cx) = (resource(&f), f.context("it"));
    assert_eq!(it.query(&cx, "SELECT * FROM t").unwrap(), "1\tx y\t1.5\t0aff\n\tz\t2\t");
    assert_eq!(it.query(&cx, "SELECT * FROM t WHERE a = 9").unwrap(), "");
    let wrong = shown(&it.query(&cx, "SELECT * FROM nope").unwrap_err(), &f);
    assert!(wrong.starts_with("cannot ask `DIR/it.db`\n  cause: no such table: nope"), "{wrong}");
    let write = shown(&it.query(&cx, "DELETE FROM t").unwrap_err(), &f);
    assert_eq!(write, "cannot ask `DIR/it.db`\n  cause: attempt to write a readonly database");
    fs::remove_file(f.path("it.db")).unwrap();
    assert_eq!(shown(&it.query(&cx, "SELECT 1").unwrap_err(), &f), "`DIR/it.db` does not exist");
    assert!(names(&f).is_empty(), "asking makes no database");
}

#[test]
fn a_script_is_one_transaction() {
    let f = Fixture::new();
    make(&f, "CREATE TABLE t(x)");
    let (it, cx) = (resource(&f), f.context("it"));
    it.execute(&cx, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);").unwrap();
    assert_eq!(it.query(&cx, "SELECT count(*) FROM t").unwrap(), "2");
    let failed = shown(&it.execute(&cx, "DELETE FROM t; INSERT INTO nope VALUES (1)").unwrap_err(), &f);
    assert!(failed.starts_with("cannot change `DIR/it.db`\n  cause: no such table: nope"), "{failed}");
    assert_eq!(it.query(&cx, "SELECT count(*) FROM t").unwrap(), "2");
    let begun = shown(&it.execute(&cx, "BEGIN; DELETE FROM t; COMMIT").unwrap_err(), &f);
    assert!(
        begun.ends_with("hint: the script runs in one transaction already: leave out BEGIN, COMMIT and VACUUM"),
        "{begun}"
    );
    let ended = shown(&it.execute(&cx, "SELECT 1; COMMIT").unwrap_err(), &f);
    assert!(ended.starts_with("the script ended its transaction on `DIR/it.db` by itself"), "{ended}");
    assert_eq!(names(&f), ["it.db"]);
}

#[test]
fn the_files_beside_it_are_claimed_too() {
    let f = Fixture::new();
    let claims = resource(&f).claims(&f.context("it")).unwrap();
    let place = f.place().canonicalize().unwrap();
    let expected = ["", "-wal", "-shm", "-journal"].map(|side| Claim::Path(place.join(format!("it.db{side}"))));
    assert_eq!(claims, expected);
    assert_eq!(f.mistakes(List::Resource, "kind = \"sqlite\""), "the key `path` is missing");
}
