//! `kill -9` of txupgrade whenever it has started another program of a restore; then `recover`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cluster::{Cluster, does};
use super::{MIGRATION, SCHEMA, left, plan};
use crate::bed::Bed;

/// A transaction on hold after its migration, which can be had again and again.
struct Held {
    bed: Bed,
    cluster: Cluster,
    before: String,
}

impl Held {
    fn new(schema: &str, migration: &str) -> Held {
        let (bed, cluster) = (Bed::new(), Cluster::new());
        cluster.sql("postgres", "CREATE DATABASE shop");
        cluster.file("shop", schema);
        let before = cluster.dump("shop");
        bed.write("migration.sql", migration);
        let url = cluster.url("shop", "postgres");
        let steps = format!(
            "\n[policy]\non_failure = \"hold\"\nprove = \"read\"\n\n[[step]]\nname = \"migrate\"\nkind = \"command\"\n\
             shell = \"psql -Xq -v ON_ERROR_STOP=1 -d '{url}' -f @BED@/migration.sql; false\"\n"
        );
        bed.write("plan.toml", &plan(&cluster, "postgres", &steps));
        bed.run(&["run", "plan.toml"]).ends(10);
        does(Command::new("cp").arg("-a").args([bed.state(), bed.path("held")]));
        cluster.sql("postgres", "ALTER DATABASE shop RENAME TO held");
        Held { bed, cluster, before }
    }

    /// The transaction is on hold, and nothing was taken back.
    fn again(&self) {
        for name in left(&self.cluster).iter().chain([&"shop".to_owned()]) {
            let sql = format!("ALTER DATABASE \"{name}\" IS_TEMPLATE false");
            if self.cluster.databases().contains(name) {
                self.cluster.sql("postgres", &sql);
                self.cluster.sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
            }
        }
        self.cluster.sql("postgres", "CREATE DATABASE shop TEMPLATE held");
        let _ = std::fs::remove_dir_all(self.bed.state());
        does(Command::new("cp").arg("-a").args([self.bed.path("held"), self.bed.state()]));
    }

    /// Kills a rollback when it has started so many programs to restore the database; false when it needed fewer.
    fn killed_at(&self, point: usize) -> bool {
        let log = self.bed.state().join("logs/shop-1/restore-db.log");
        let mut command = self.bed.command(&["rollback", "shop-1", "--yes"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while started(&log) < point {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        true
    }

    #[track_caller]
    fn is_as_it_was(&self, point: usize) {
        let after = self.cluster.dump("shop");
        let differs = similar::TextDiff::from_lines(&self.before, &after);
        assert!(self.before == after, "killed at {point}: {}", differs.unified_diff());
        assert_eq!(left(&self.cluster), Vec::<String>::new(), "killed at {point}");
    }
}

/// Programs that a log has seen start.
fn started(log: &Path) -> usize {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("$ ")).count()
}

/// Before the first that is tried here it has only looked.
const FIRST: usize = 5;

#[test]
fn a_restore_that_was_killed_anywhere_is_finished_by_recover() {
    let held = Held::new(SCHEMA, &MIGRATION.replace("ALTER TABLE pgbench", "-- ").replace("UPDATE pgbench", "-- "));
    let mut point = FIRST;
    loop {
        held.again();
        if !held.killed_at(point) {
            break;
        }
        let said = held.bed.run(&["recover"]).ends(0);
        assert!(said.err.contains("rolled back"), "{}", said.err);
        held.is_as_it_was(point);
        point += 1;
    }
    held.is_as_it_was(point);
    assert!(point > FIRST + 8, "a restore starts more programs than that: {point}");
}

#[test]
fn what_is_there_or_not_is_put_back_from_every_state() {
    let held = Held::new("CREATE TABLE t (x int); INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)");
    let all = "SELECT x FROM t ORDER BY 1";
    let states = [
        ("dropped", "DROP DATABASE shop"),
        ("closed by a restore that died", "ALTER DATABASE shop ALLOW_CONNECTIONS false"),
        ("another one", "DROP DATABASE shop; CREATE DATABASE shop ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"),
        ("only its settings", "ALTER DATABASE shop SET work_mem TO '1MB'; ALTER DATABASE shop CONNECTION LIMIT 3"),
    ];
    for (state, sql) in states {
        held.again();
        for sql in sql.split("; ") {
            held.cluster.sql("postgres", sql);
        }
        held.bed.run(&["rollback", "shop-1", "--yes"]).ends(0);
        assert_eq!(held.cluster.sql("shop", all), "1", "{state}");
        held.is_as_it_was(0);
    }
    // Whoever connects again and again is held off, and is let in afterwards.
    held.again();
    let knocks = format!(
        "while [ ! -e over ]; do psql -Xqh {} -U postgres shop -c 'SELECT pg_sleep(0.2)'; done",
        held.cluster.dir().display()
    );
    let mut knocking: Vec<_> = (0..3)
        .map(|_| {
            let mut command = Command::new("sh");
            command.args(["-c", &knocks]).current_dir(held.bed.path(""));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let said = held.bed.run(&["rollback", "shop-1", "--yes"]);
    held.bed.write("over", "");
    knocking.iter_mut().for_each(|child| assert!(child.wait().is_ok()));
    said.ends(0);
    held.is_as_it_was(0);
    // Nothing differs: nothing is touched.
    held.again();
    held.cluster.sql("shop", "DELETE FROM t WHERE x = 2");
    let oid = || held.cluster.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'shop'");
    let was = oid();
    held.bed.run(&["rollback", "shop-1", "--yes"]).ends(0);
    assert_eq!(oid(), was);
}

/// The sessions that are to create a database and are not let.
fn creating(cluster: &Cluster) -> Vec<String> {
    let sql =
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE \"txupgrade%' AND wait_event_type = 'Lock'";
    cluster.sql("postgres", sql).lines().map(str::to_owned).collect()
}

/// While it lives no database can be created.
struct Barred(Child);

impl Barred {
    fn new(cluster: &Cluster) -> Barred {
        let mut command = cluster.client("psql", "postgres");
        let child = command.arg("-Xq").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut barred = Barred(child);
        let locked = "BEGIN; LOCK TABLE pg_database IN SHARE MODE;\n\\echo locked\n";
        barred.0.stdin.as_mut().unwrap().write_all(locked.as_bytes()).unwrap();
        let mut said = String::new();
        BufReader::new(barred.0.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "locked\n");
        barred
    }

    fn lift(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

/// Waits until something is true.
#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a command and kills it when the server is at creating a database for it, and is held up in that.
fn killed_in_create(bed: &Bed, cluster: &Cluster, arguments: &[&str]) {
    let mut command = bed.command(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it creates a database", || !creating(cluster).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits until nobody of ours is at work on the server.
fn is_quiet(cluster: &Cluster) {
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'txupgrade%'";
    until("the server is left alone", || cluster.sql("postgres", ours) == "0");
}

#[test]
fn a_database_that_the_server_still_creates_for_a_killed_proof_does_not_come() {
    let (bed, cluster) = (Bed::new(), Cluster::new());
    cluster.sql("postgres", "CREATE DATABASE shop");
    cluster.file("shop", "CREATE TABLE t (x int); INSERT INTO t VALUES (1)");
    let steps = "\n[policy]\nprove = \"restore\"\n\n[[step]]\nname = \"s\"\nkind = \"command\"\nrun = [\"true\"]\n";
    bed.write("plan.toml", &plan(&cluster, "postgres", steps));
    let barred = Barred::new(&cluster);
    killed_in_create(&bed, &cluster, &["run", "plan.toml"]);
    bed.run(&["recover"]).ends(0);
    assert_eq!(creating(&cluster), Vec::<String>::new());
    barred.lift();
    is_quiet(&cluster);
    assert_eq!(left(&cluster), Vec::<String>::new());
    bed.run(&["run", "plan.toml"]).ends(0);
    assert_eq!(left(&cluster), Vec::<String>::new());
}

#[test]
fn a_database_that_the_server_still_creates_for_a_killed_restore_is_in_nobodys_way() {
    let held = Held::new("CREATE TABLE t (x int); INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)");
    held.again();
    let barred = Barred::new(&held.cluster);
    killed_in_create(&held.bed, &held.cluster, &["rollback", "shop-1", "--yes"]);
    let was = creating(&held.cluster);
    std::thread::scope(|threads| {
        let recover = threads.spawn(|| held.bed.run(&["recover"]));
        until("another creates it", || creating(&held.cluster).iter().any(|pid| !was.contains(pid)));
        assert_eq!(creating(&held.cluster).len(), 1);
        barred.lift();
        let said = recover.join().unwrap().ends(0);
        assert!(said.err.contains("rolled back"), "{}", said.err);
    });
    is_quiet(&held.cluster);
    held.is_as_it_was(0);
}

#[test]
fn a_database_that_was_half_dropped_is_dropped() {
    let held = Held::new("CREATE TABLE t (x int); INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)");
    held.again();
    let barred = Barred::new(&held.cluster);
    killed_in_create(&held.bed, &held.cluster, &["rollback", "shop-1", "--yes"]);
    barred.lift();
    is_quiet(&held.cluster);
    let [incoming] = &left(&held.cluster)[..] else { panic!("one was created: {:?}", left(&held.cluster)) };
    // So the server marks it while it drops it.
    let mark = format!("UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{incoming}'");
    held.cluster.sql("postgres", &mark);
    held.bed.run(&["recover"]).ends(0);
    held.is_as_it_was(0);
}
