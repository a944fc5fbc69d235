//! What is asked of a database and done to it: differences, checks and steps of kind `sql`, one database by two names,
//! and what a second capture costs.

use super::cluster::{Cluster, does};
use super::{left, plan};
use crate::bed::Bed;

#[test]
fn a_diff_says_what_was_done_to_it() {
    let (bed, cluster) = (Bed::new(), Cluster::new());
    cluster.sql("postgres", "CREATE DATABASE shop");
    cluster.file(
        "shop",
        "CREATE TABLE notes (x int); INSERT INTO notes SELECT generate_series(1, 5); CREATE TABLE tags (x int);
         INSERT INTO tags VALUES (1), (2); CREATE TABLE gone (x int); INSERT INTO gone VALUES (1); CREATE TABLE same (x varchar
         CHECK (x IN ('a', 'b'))); CREATE SEQUENCE s; CREATE VIEW v AS SELECT 1; CREATE INDEX i ON notes (x);
         CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT lo_from_bytea(1, 'x'); COMMENT ON TABLE notes IS 'x'",
    );
    bed.write("plan.toml", &plan(&cluster, "postgres", ""));
    bed.run(&["snapshot", "plan.toml"]).ends(0);
    bed.run(&["diff"]).ends(0);
    cluster.file(
        "shop",
        "INSERT INTO notes VALUES (6), (7); UPDATE tags SET x = x + 1; DROP TABLE gone; CREATE TABLE new (x int);
         INSERT INTO new VALUES (1); ALTER TABLE same ADD COLUMN y int; SELECT nextval('s'), nextval('s'); DROP VIEW v; DROP INDEX i;
         CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 2'; GRANT SELECT ON notes TO PUBLIC;
         SELECT lo_put(1, 0, 'y'); COMMENT ON TABLE notes IS 'y'; ALTER DATABASE shop SET work_mem TO '1MB';",
    );
    let said = bed.run(&["diff"]).ends(9);
    insta::assert_snapshot!(said.out, @r#"
    db
      changed  the database                   large objects 1 (13d30b65) -> 1 (c0cb4720), sequence public.s 1 (next) -> 2, settings none -> work_mem=1MB
      removed  public.gone                    -1 row
      changed  public.notes                   +2 rows
      changed  public.same                    definition
      changed  public.tags                    content
      added    public.new                     +1 row
      changed  comment on table public.notes  definition
      changed  function public.f(integer)     definition
      removed  index public.i
      removed  view public.v
      added    grants on table public.notes
    "#);
    // A rollback of a snapshot captures the present first, and can be taken back itself.
    bed.run(&["rollback", "--yes"]).ends(0);
    bed.run(&["diff", "shop-1"]).ends(0);
    assert_eq!(cluster.sql("shop", "SELECT count(*) FROM notes"), "5");
    bed.run(&["rollback", "shop-2", "--yes"]).ends(0);
    assert_eq!(cluster.sql("shop", "SELECT count(*) FROM notes"), "7");
    assert_eq!(left(&cluster), Vec::<String>::new());
}

#[test]
fn a_database_that_was_not_there_is_moved_away_again() {
    let (bed, cluster) = (Bed::new(), Cluster::new());
    let create = format!(
        "\"psql\", \"-Xqh\", \"{}\", \"-U\", \"postgres\", \"-c\", \"CREATE DATABASE shop\"",
        cluster.dir().display()
    );
    let steps = format!(
        "\n[[step]]\nname = \"create\"\nkind = \"command\"\nrun = [{create}]\n\n[[step]]\nname = \"start\"\nkind = \"command\"\nrun = [\"false\"]\n"
    );
    bed.write("plan.toml", &plan(&cluster, "postgres", &steps));
    let before = cluster.databases();
    let said = bed.run(&["run", "plan.toml"]).ends(3);
    assert!(said.err.contains("there is no database `shop`; a rollback moves away what comes there"), "{}", said.err);
    assert_eq!(cluster.databases(), before);
}

#[test]
fn checks_and_steps_of_sql_ask_it_and_change_it() {
    let (bed, cluster) = (Bed::new(), Cluster::new());
    cluster.sql("postgres", "CREATE DATABASE shop");
    cluster.sql("shop", "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x y'), (2, NULL)");
    let check =
        |query: &str| format!("\n[[check]]\nname = \"c\"\nkind = \"sql\"\nresource = \"db\"\nquery = \"{query}\"\n");
    let step =
        |sql: &str| format!("\n[[step]]\nname = \"sql\"\nkind = \"sql\"\nresource = \"db\"\nquery = \"{sql}\"\n");
    let mut told = String::new();
    let mut run = |rest: &str, status: i32| {
        bed.write("plan.toml", &plan(&cluster, "postgres", rest));
        let said = bed.run(&["run", "plan.toml"]).ends(status);
        let text = cluster.told(&said, &bed);
        let text = regex::Regex::new(r"shop-\d+ ").unwrap().replace_all(&text, "shop-TX ");
        told += text.find("error: ").map_or("", |at| &text[at..]);
    };
    run(&format!("{}matches = '^1\\tx y$'\nmatches_not = '(?m)^2\\t.'\n", check("SELECT * FROM t ORDER BY a")), 0);
    run(&check("SELECT * FROM t WHERE a = 9"), 1);
    run(&check("SELECT * FROM nope"), 1);
    run(&check("DELETE FROM t RETURNING a"), 1);
    run(&check("SELECT 'a:b', '12:30'::time, (ARRAY[1,2])[1:2]"), 0);
    run(&step("UPDATE t SET a = 7 WHERE a = 2; CREATE TABLE u ()"), 0);
    assert_eq!(cluster.sql("shop", "SELECT a FROM t ORDER BY 1"), "1\n7");
    run(&step("DELETE FROM t; INSERT INTO nope VALUES (1)"), 3);
    run(&step("DELETE FROM t; COMMIT; SELECT 1"), 3);
    run(&step("BEGIN; DELETE FROM t; COMMIT; BEGIN"), 3);
    run(&step("VACUUM t"), 3);
    assert_eq!(cluster.sql("shop", "SELECT a FROM t ORDER BY 1"), "1\n7");
    insta::assert_snapshot!(told, @r#"
    error: check `c` failed; nothing was changed
      cause: the check `c` does not pass
      cause: no rows
    hint: after a fix, `txupgrade run plan.toml` again
    error: check `c` failed; nothing was changed
      cause: the check `c` does not pass
      cause: cannot ask the database `shop`: relation "nope" does not exist
    hint: after a fix, `txupgrade run plan.toml` again
    error: check `c` failed; nothing was changed
      cause: the check `c` does not pass
      cause: cannot ask the database `shop`: cannot execute DELETE in a read-only transaction
    hint: after a fix, `txupgrade run plan.toml` again
    error: step `sql` failed; everything was rolled back and rechecked
      cause: the script failed on `db`
      cause: cannot change the database `shop`
      cause: relation "nope" does not exist
    hint: its output is in `txupgrade log shop-TX sql`; after a fix, `txupgrade run plan.toml` again
    error: step `sql` failed; everything was rolled back and rechecked
      cause: the script failed on `db`
      cause: cannot change the database `shop`
      cause: it ended its transaction by itself
    hint: the script runs in one transaction already: leave out BEGIN, COMMIT, VACUUM and CONCURRENTLY
    hint: its output is in `txupgrade log shop-TX sql`; after a fix, `txupgrade run plan.toml` again
    error: step `sql` failed; everything was rolled back and rechecked
      cause: the script failed on `db`
      cause: cannot change the database `shop`
      cause: it ended its transaction by itself
    hint: the script runs in one transaction already: leave out BEGIN, COMMIT, VACUUM and CONCURRENTLY
    hint: its output is in `txupgrade log shop-TX sql`; after a fix, `txupgrade run plan.toml` again
    error: step `sql` failed; everything was rolled back and rechecked
      cause: the script failed on `db`
      cause: cannot change the database `shop`
      cause: VACUUM cannot run inside a transaction block
    hint: the script runs in one transaction already: leave out BEGIN, COMMIT, VACUUM and CONCURRENTLY
    hint: its output is in `txupgrade log shop-TX sql`; after a fix, `txupgrade run plan.toml` again
    "#);
}

#[test]
fn one_database_by_two_names_is_one_database() {
    let (bed, cluster) = (Bed::new(), Cluster::new());
    cluster.sql("postgres", "CREATE DATABASE shop");
    bed.write("plan.toml", &plan(&cluster, "postgres", ""));
    let service = format!("[here]\nhost={}\ndbname=shop\nuser=postgres\n", cluster.dir().display());
    let file = bed.write("services", &service);
    bed.write(
        "other.toml",
        "format = 1\nname = \"other\"\n[[resource]]\nname = \"it\"\nkind = \"postgres\"\nurl = \"postgresql:///?service=here\"\n",
    );
    bed.run(&["begin", "plan.toml"]).ends(0);
    let mut other = bed.command(&["begin", "other.toml"]);
    let said = crate::bed::Said::of(other.env("PGSERVICEFILE", file).output().unwrap()).ends(6);
    let told = cluster.told(&said, &bed);
    let told = regex::Regex::new(r"postgres \d{10,}").unwrap().replace_all(&told, "postgres CLUSTER");
    insta::assert_snapshot!(told, @r#"
    error: `other` overlaps with `shop-1`, which is not finished
      cause: both have the database `postgres CLUSTER:5432/shop`
    hint: `txupgrade show shop-1` says where it is; commit it, roll it back or `txupgrade recover` it first
    "#);
    bed.run(&["commit"]).ends(0);
    // On the command line, a plan of its own.
    let url = cluster.url("shop", "postgres");
    bed.run(&["begin", "--name", "adhoc", &format!("postgres={url}")]).ends(0);
    cluster.sql("shop", "CREATE TABLE t ()");
    bed.run(&["rollback"]).ends(0);
    assert_eq!(cluster.sql("shop", "SELECT count(*) FROM pg_class WHERE relname = 't'"), "0");
}

#[test]
fn a_second_capture_of_what_changed_little_adds_little() {
    let (bed, cluster) = (Bed::new(), Cluster::new());
    cluster.sql("postgres", "CREATE DATABASE shop");
    does(cluster.client("pgbench", "shop").args(["-i", "-q", "-s", "2"]));
    bed.write("plan.toml", &plan(&cluster, "postgres", ""));
    let stored = |tx: &str| {
        bed.run(&["snapshot", "plan.toml"]).ends(0);
        let shown: serde_json::Value = serde_json::from_str(&bed.run(&["--json", "show", tx]).ends(0).out).unwrap();
        shown["stored"].as_u64().unwrap()
    };
    let first = stored("shop-1");
    cluster.sql("shop", "UPDATE pgbench_accounts SET abalance = 7 WHERE aid BETWEEN 50001 AND 52000");
    let second = stored("shop-2");
    println!("first {first}, second {second}");
    assert!(second * 20 < first * 2, "{second} of {first}");
}
