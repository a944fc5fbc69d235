//! What is said of databases (issue 5), on SQLite files and programs, which need no server: the proof before the first step,
//! rows gained and lost, gates over every database of an `each`, and copies of what somebody writes to all the time.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;

use crate::bed::Bed;

const STOP: &str = "[[quiesce]]\nname = \"stop\"\nkind = \"command\"\nrun = [\"touch\", \"@BED@/down\"]\n\
                    resume = [\"rm\", \"@BED@/down\"]\n";
const DB: &str = "[[resource]]\nname = \"db\"\nkind = \"sqlite\"\npath = \"@BED@/it.db\"\n";

fn plan(bed: &Bed, entries: &str) {
    bed.write("plan.toml", &format!("format = 1\nname = \"notes\"\n{entries}"));
}

fn sql(bed: &Bed, name: &str, sql: &str) {
    Connection::open(bed.path(name)).unwrap().execute_batch(sql).unwrap();
}

/// What `sqlite3 FILE .dump` prints.
#[track_caller]
fn dump(bed: &Bed, name: &str) -> String {
    let said = Command::new("sqlite3").arg(bed.path(name)).arg(".dump").output();
    let said = said.expect("this test needs `sqlite3`: apt-get install sqlite3");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn no_step_runs_before_what_was_captured_is_proved() {
    let bed = Bed::new();
    bed.write("content", "old");
    sql(&bed, "it.db", "create table t(x); insert into t values (1), (2)");
    // It prints something else each time: nothing could ever be proved to be back.
    let entries = format!(
        "{STOP}{DB}[[resource]]\nname = \"registry\"\nkind = \"command\"\ndump = [\"cat\", \"@BED@/content\"]\n\
         load = [\"tee\", \"@BED@/content\"]\nfingerprint = {{ shell = \"date +%N\" }}\n\
         [[step]]\nname = \"change\"\nkind = \"command\"\nrun = [\"touch\", \"@BED@/changed\"]\n"
    );
    plan(&bed, &entries);
    let said = bed.run(&["run", "plan.toml"]).ends(1);
    assert!(!bed.exists("changed") && !bed.exists("down") && bed.read("content") == "old");
    let told = said.told(&bed);
    let told =
        regex::Regex::new(r"[-+]\d{5,}").unwrap().replace_all(&told[told.find("error:").unwrap()..], "NANOSECONDS");
    insta::assert_snapshot!(told, @r"
    error: proof of `registry` failed; nothing was changed
      cause: the fingerprint of `registry` changes though nothing was done
      cause: NANOSECONDS; NANOSECONDS
    hint: something still writes to it, or `fingerprint` prints more than the content
    hint: after a fix, `txupgrade run plan.toml` again
    ");
    let events = bed.events("notes-1");
    assert!(events.contains(&"failed prove registry".to_owned()), "{events:#?}");
    assert!(!events.iter().any(|event| event.contains("apply")) && events.last().unwrap() == "ended");

    // Who says so takes its word.
    plan(&bed, &format!("{entries}[policy]\nprove = \"read\"\n"));
    let planned = bed.run(&["plan", "plan.toml"]).ends(0).out;
    assert!(planned.contains("reads back what was captured\n"), "{planned}");
    bed.run(&["run", "plan.toml"]).ends(0);
    assert!(bed.exists("changed"));
    let shown = bed.run(&["show"]).ends(0).out;
    assert!(!shown.contains("2 rows"), "{shown}");
}

#[test]
fn a_proof_says_what_it_has_seen_and_is_forecast() {
    let bed = Bed::new();
    sql(&bed, "it.db", "create table t(x); create table u(x); insert into t values (1), (2), (3)");
    plan(&bed, &format!("{STOP}{DB}"));
    let planned = bed.run(&["plan", "plan.toml"]).ends(0).out;
    assert!(planned.contains("reads back what was captured, loads it beside and compares\n"), "{planned}");
    assert!(planned.contains(", and to prove in less than a second; "), "{planned}");
    bed.run(&["run", "plan.toml"]).ends(0);
    let shown = bed.run(&["show"]).ends(0).out;
    let proof = shown.lines().find(|line| line.contains("prove db")).unwrap();
    assert!(proof.ends_with(" read back, 2 tables, 3 rows"), "{proof}");
    // What was measured is what is forecast.
    let said = bed.run(&["plan", "plan.toml", "--json"]).ends(0).out;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(said["proof_seconds"].as_f64().unwrap() > 0.0 && said["seconds"].as_f64().unwrap() > 0.0, "{said}");
}

#[test]
fn what_a_rollback_loses_is_counted_by_table() {
    let bed = Bed::new();
    let many = "insert into %(x) with recursive n(i) as (select 1 union all select i + 1 from n where i < ";
    let fill = |table: &str, rows: usize| format!("{}{rows}) select i from n;", many.replace('%', table));
    let tables: String = ["grown", "shrunk", "gone", "edited", "altered"]
        .iter()
        .map(|table| format!("create table {table}(x); {}", fill(table, 20)))
        .collect();
    sql(&bed, "it.db", &tables);
    plan(&bed, &format!("{STOP}{DB}"));
    bed.run(&["begin", "plan.toml"]).ends(0);
    let before = dump(&bed, "it.db");
    sql(
        &bed,
        "it.db",
        &format!(
            "{} delete from shrunk where x > 19; drop table gone; update edited set x = -x where x = 7; \
             alter table altered add column y; create table new(x); {}",
            fill("grown", 12),
            fill("new", 1)
        ),
    );
    let diff = bed.run(&["diff"]).ends(9).out;
    insta::assert_snapshot!(diff, @r"
    db
      changed  altered  definition, content
      changed  edited   content
      removed  gone     -20 rows
      changed  grown    +12 rows
      changed  shrunk   -1 row
      added    new      +1 row
    ");
    let lost = bed.run(&["rollback", "--dry-run"]).ends(0).out;
    insta::assert_snapshot!(lost, @r"
    turning notes-1 back would change:
    db
      puts back    altered  definition, content
      puts back    edited   content
      brings back  gone     20 rows come back
      puts back    grown    12 rows that came since are lost
      puts back    shrunk   1 row comes back
      removes      new      1 row that came since is lost
    ");
    assert_ne!(dump(&bed, "it.db"), before, "it only says so");
    bed.run(&["rollback"]).ends(0);
    assert_eq!(dump(&bed, "it.db"), before);
}

#[test]
fn a_gate_is_asked_of_every_database_of_an_each() {
    let bed = Bed::new();
    std::fs::create_dir(bed.path("shards")).unwrap();
    for (name, version) in [("a", "2.1"), ("b", "2.0"), ("c", "1.9")] {
        sql(
            &bed,
            &format!("shards/{name}.db"),
            &format!("create table meta(v); insert into meta values ('{version}')"),
        );
    }
    let entries = "[vars]\nshards = { glob = \"@BED@/shards/*.db\" }\n[[resource]]\nname = \"db\"\nkind = \"sqlite\"\n\
                   each = \"shards\"\npath = \"${each}\"\n[[check]]\nname = \"release\"\nkind = \"sql\"\n\
                   resources = [\"db@*\"]\nquery = \"select v from meta\"\nis = \">=2.0\"\n";
    plan(&bed, entries);
    let said = bed.run(&["run", "plan.toml"]).ends(1);
    let told = said.told(&bed);
    insta::assert_snapshot!(&told[told.find("error:").unwrap()..], @r"
    error: check `release` failed; nothing was changed
      cause: the check `release` does not pass
      cause: db@BED/shards/c.db: is `1.9`, not `>=2.0`
    hint: after a fix, `txupgrade run plan.toml` again
    ");
    sql(&bed, "shards/c.db", "update meta set v = '2.0'");
    bed.run(&["run", "plan.toml"]).ends(0);
    // One that cannot be asked is named as well.
    sql(&bed, "shards/b.db", "drop table meta");
    let said = bed.run(&["run", "plan.toml"]).ends(1);
    assert!(said.err.contains("b.db: "), "{}", said.err);
}

/// Commits rows to a database as fast as 1,000 times a second, in another process.
struct Writer {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Writer {
    fn start(bed: &Bed, mode: &str) -> Writer {
        let program = format!(
            "import sqlite3, sys, time, threading\n\
             c = sqlite3.connect('it.db', isolation_level=None, timeout=30)\n\
             c.execute('PRAGMA journal_mode={mode}'); c.execute('PRAGMA synchronous=OFF')\n\
             c.execute('CREATE TABLE ballast(x)'); c.execute('BEGIN')\n\
             c.executemany('INSERT INTO ballast VALUES (randomblob(1000))', [()] * 20000); c.execute('COMMIT')\n\
             c.execute('CREATE TABLE one(n INTEGER PRIMARY KEY)'); c.execute('CREATE TABLE two(n INTEGER PRIMARY KEY)')\n\
             over, n, began = [], 0, time.monotonic()\n\
             threading.Thread(target=lambda: (sys.stdin.readline(), over.append(1)), daemon=True).start()\n\
             while not over:\n    \
                 n += 1\n    \
                 c.execute('BEGIN IMMEDIATE'); c.execute('INSERT INTO one VALUES (?)', (n,))\n    \
                 c.execute('INSERT INTO two VALUES (?)', (n,)); c.execute('COMMIT')\n    \
                 if n == 100: print('ready', flush=True)\n    \
                 time.sleep(max(0, began + n / 1000 - time.monotonic()))\n\
             print(n, time.monotonic() - began, flush=True)\nc.close()\n"
        );
        let mut child = Command::new("python3")
            .args(["-c", &program])
            .current_dir(bed.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs `python3`: apt-get install python3");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Writer { child, out }
    }

    /// How many commits it made, and how many a second.
    fn stop(mut self) -> (u64, f64) {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(self.child.wait().unwrap().success());
        let (commits, seconds) = line.trim().split_once(' ').unwrap();
        let commits = commits.parse().unwrap();
        (commits, commits as f64 / seconds.parse::<f64>().unwrap())
    }
}

fn count(bed: &Bed, table: &str) -> u64 {
    let db = Connection::open_with_flags(bed.path("it.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    db.query_row(&format!("select count(*) from {table}"), [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
}

#[track_caller]
fn is_of_one_moment_beside_a_writer(mode: &str) {
    let bed = Bed::new();
    plan(&bed, DB);
    let writer = Writer::start(&bed, mode);
    let before = count(&bed, "one");
    bed.run(&["snapshot", "plan.toml", "--prove"]).ends(0);
    let after = count(&bed, "one");
    let (commits, rate) = writer.stop();
    println!("{mode}: {commits} commits, {rate:.0} a second, {} of them while it was captured", after - before);
    assert!(after > before + 20, "nobody wrote meanwhile: {before}, {after}");

    // In the store: a whole database as of one moment between the two.
    let captured = bed.run(&["diff", "--json"]).ends(9).out;
    assert!(captured.contains("rows"), "{captured}");
    bed.run(&["rollback", "--yes"]).ends(0);
    for side in ["it.db-wal", "it.db-shm", "it.db-journal"] {
        assert!(!bed.exists(side), "`{side}` is left");
    }
    let then = count(&bed, "one");
    assert!((before..=after).contains(&then), "{before} <= {then} <= {after}");
    assert_eq!(count(&bed, "two"), then, "both tables are of one moment");
    let db = Connection::open(bed.path("it.db")).unwrap();
    let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(one("pragma integrity_check"), "ok");
    assert_eq!(one("select max(n) || ' ' || min(n) from one"), format!("{then} 1"));
    drop(db);

    // At rest it comes back as the same text, whatever was done to it since.
    let text = dump(&bed, "it.db");
    bed.run(&["begin", "plan.toml"]).ends(0);
    sql(&bed, "it.db", "drop table two; delete from ballast where rowid % 2; vacuum");
    bed.run(&["rollback"]).ends(0);
    assert!(dump(&bed, "it.db") == text, "it is another text");
}

#[test]
fn a_log_that_is_written_a_thousand_times_a_second_is_captured_as_of_one_moment() {
    is_of_one_moment_beside_a_writer("wal");
}

#[test]
fn a_journal_that_is_written_a_thousand_times_a_second_is_captured_as_of_one_moment() {
    is_of_one_moment_beside_a_writer("delete");
}

/// A commit over several files is settled by a file of its own, which each of their journals names. A writer that dies
/// before it is removed has committed nothing, in none of them.
#[test]
fn attached_databases_whose_writer_died_in_a_commit_are_captured_as_before_it() {
    let bed = Bed::new();
    let other = DB.replace("\"db\"", "\"other\"").replace("it.db", "other.db");
    plan(&bed, &format!("{STOP}{DB}{other}"));
    for name in ["it.db", "other.db"] {
        sql(&bed, name, "create table t(x); insert into t values ('old')");
    }
    let before = [dump(&bed, "it.db"), dump(&bed, "other.db")];
    let writer = "import sqlite3\nc = sqlite3.connect('it.db', isolation_level=None)\n\
                  c.execute(\"ATTACH 'other.db' AS other\"); c.execute('BEGIN')\n\
                  c.execute(\"INSERT INTO main.t VALUES ('new')\"); c.execute(\"INSERT INTO other.t VALUES ('new')\")\n\
                  c.execute('COMMIT')\n";
    let strace = ["-qq", "-o", "/dev/null", "-e", "trace=unlink", "-e", "inject=unlink:signal=KILL:when=1"];
    let mut dies = Command::new("strace");
    dies.args(strace).args(["/usr/bin/python3", "-IBc", writer]).current_dir(bed.path(""));
    let died = dies.output().expect("this test needs `strace`: apt-get install strace");
    let names = || {
        let entries = std::fs::read_dir(bed.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut files: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        files.retain(|name| name.contains(".db"));
        files.sort();
        let hash = |name: &String| blake3::hash(&std::fs::read(bed.path(name)).unwrap());
        files.iter().map(|name| format!("{name} {}", hash(name))).collect::<Vec<_>>()
    };
    let found = names();
    let there = |start: &str| found.iter().any(|name| name.starts_with(start));
    assert!(there("it.db-mj") && there("it.db-journal") && there("other.db-journal"), "{found:?} {died:?}");
    let said = bed.run(&["begin", "plan.toml"]).ends(0);
    assert_eq!(names(), found, "{}", said.err);
    // Whoever opens them next takes the commit back, and so nothing has changed.
    assert_eq!([dump(&bed, "it.db"), dump(&bed, "other.db")], before);
    bed.run(&["diff"]).ends(0);
    bed.run(&["rollback"]).ends(0);
    assert_eq!([dump(&bed, "it.db"), dump(&bed, "other.db")], before);
}

/// A stream longer than any 32-bit length.
#[test]
fn a_dump_of_more_than_four_gibibytes_goes_through() {
    let bed = Bed::new();
    bed.script("bin/dump", "head -c 4400000000 /dev/zero; echo end");
    bed.script("bin/load", "test \"$(tail -c +4400000001)\" = end && rm @BED@/changed");
    bed.script("bin/print", "ls @BED@/changed 2>/dev/null; true");
    plan(
        &bed,
        "[[resource]]\nname = \"large\"\nkind = \"command\"\ndump = [\"@BED@/bin/dump\"]\nload = [\"@BED@/bin/load\"]\n\
         fingerprint = [\"@BED@/bin/print\"]\n",
    );
    bed.run(&["begin", "plan.toml"]).ends(0);
    bed.write("changed", "");
    bed.run(&["rollback"]).ends(0);
    assert!(!bed.exists("changed"));
}
