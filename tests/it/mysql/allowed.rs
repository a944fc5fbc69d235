//! What else holds: an account that is not root's, a database that is not there yet, questions and scripts in SQL, a server
//! without room.

use super::server::Server;
use super::{PLAN, assert_same, in_the_way, shop};
use crate::bed::Said;

#[test]
fn an_account_with_the_rights_that_are_named_is_enough() {
    let server = shop();
    let before = server.world();
    server.sql("CREATE USER backup@localhost IDENTIFIED BY 'a secret'; GRANT SELECT ON shop.* TO backup@localhost;");
    server.option_file("backup.cnf", "user=backup\npassword='a secret'\n");
    server.bed.write("plan.toml", &PLAN.replace("my.cnf\"\ndatabase", "backup.cnf\"\ndatabase"));
    let said = server.bed.run(&["run", "plan.toml"]).ends(1);
    let grants = said.err.split("administrator: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    server.sql(&format!("{grants}; GRANT SELECT, REFERENCES ON other.* TO backup@localhost;"));
    let with = server.world();
    let said = server.bed.run(&["run", "plan.toml"]).ends(3);
    assert_same(&server.world(), &with);
    server.sql("DROP USER backup@localhost;");
    assert_same(&server.world(), &before);
    let logs = Said::of(
        std::process::Command::new("grep").arg("-r").arg("a secret").arg(server.bed.state()).output().unwrap(),
    );
    assert_eq!((logs.status, logs.out.as_str()), (1, ""), "{}", said.err);
}

#[test]
fn a_database_that_was_not_there_is_gone_again() {
    let server = shop();
    let before = server.world();
    let plan = PLAN.replace("\"shop\"\n\n[[step]]", "\"fresh\"\n\n[[step]]").replace("utf8mb4 shop <", "utf8mb4 <");
    server.bed.write("plan.toml", &plan);
    let made = "CREATE DATABASE fresh; CREATE TABLE fresh.t(x int); CREATE VIEW fresh.v AS SELECT x FROM fresh.t;
                GRANT SELECT ON fresh.* TO app@'%'; SELECT nope;";
    server.bed.write("migrate.sql", made);
    let said = server.bed.run(&["run", "plan.toml"]).ends(3);
    assert!(
        said.err.contains("warning: there is no database `fresh`; a rollback removes what comes there"),
        "{}",
        said.err
    );
    assert_same(&server.world(), &before);

    // And one that was there and is gone comes back.
    server.bed.write("plan.toml", PLAN);
    server.bed.write("migrate.sql", "DROP DATABASE shop; SELECT nope;");
    server.bed.run(&["run", "plan.toml"]).ends(3);
    assert_same(&server.world(), &before);
}

#[test]
fn it_is_asked_and_changed_in_sql() {
    let server = shop();
    let before = server.world();
    let asks = r#"
[[check]]
name     = "version"
kind     = "sql"
at       = "named"
resource = "db"
query    = "SELECT CONCAT('two\nlines\t', id), NULL FROM parent WHERE id = 100"
matches  = '^two\\nlines\\t100\tNULL$'

[[check]]
name     = "writes"
kind     = "sql"
at       = "named"
warn     = true
resource = "db"
query    = "DELETE FROM child"

[[step]]
name     = "first"
kind     = "sql"
resource = "db"
query    = "INSERT INTO hidden(a) VALUES (2); DELETE FROM child;"

[[step]]
name   = "look"
kind   = "check"
checks = ["version"]

[[step]]
name     = "second"
kind     = "sql"
resource = "db"
query    = "INSERT INTO hidden(a) VALUES (3); SELECT nope"
"#;
    let plan = PLAN.split("[[step]]").next().unwrap();
    server.bed.write("plan.toml", &format!("{plan}{asks}\n[policy]\non_failure = \"hold\"\n"));
    let said = server.bed.run(&["run", "plan.toml"]).ends(10);
    assert!(said.err.contains("Unknown column 'nope'"), "{}", said.err);
    assert_eq!(server.sql("SELECT a FROM shop.hidden ORDER BY a; SELECT COUNT(*) FROM shop.child"), "1\n2\n0");
    let dry = server.bed.run(&["rollback", "--dry-run"]).ends(0);
    insta::assert_snapshot!(dry.out, @r"
    turning shop-1 back would change:
    db
      puts back  child   2 rows come back
      puts back  hidden  1 row that came since is lost
    ");
    server.bed.run(&["rollback"]).ends(0);
    assert_same(&server.world(), &before);
    let asked = server.bed.read("plan.toml").replace("\"version\"]", "\"writes\"]");
    server.bed.write("plan.toml", &asked);
    let said = server.bed.run(&["run", "plan.toml"]).ends(10);
    assert!(said.err.contains("Cannot execute statement in a READ ONLY transaction"), "{}", said.err);
    server.bed.run(&["rollback"]).ends(0);
    assert_same(&server.world(), &before);
}

#[test]
fn what_the_upgrade_left_gives_way_where_there_is_no_room() {
    let server = shop();
    let before = server.world();
    // A server whose disk is really full may never answer again; what it says before that is said here.
    let full = r#"case "$*" in *txupgrade_incoming*) ;; *) exec /usr/bin/mariadb "$@";; esac
        cat > @BED@/input; grep -q INSERT @BED@/input || exec /usr/bin/mariadb "$@" < @BED@/input
        [ ! -e @BED@/room ] || exec /usr/bin/mariadb "$@" < @BED@/input
        [ ! -e @BED@/full ] || : > @BED@/room
        : > @BED@/full
        echo "ERROR 1114 (HY000) at line 80: The table 'parent' is full" >&2; exit 1"#;
    let path = in_the_way(&server, "mariadb", full);
    server.bed.run(&["begin", "plan.toml"]).ends(0);
    server.sql("UPDATE shop.hidden SET b = 2; DROP TABLE shop.parted; CREATE TABLE shop.new(x int);");
    let said = Said::of(server.bed.command(&["rollback"]).env("PATH", path).output().unwrap()).ends(0);
    assert!(said.err.contains("there is no room to restore `db` beside what it replaces"), "{}", said.err);
    assert!(server.bed.exists("room"));
    assert_same(&server.world(), &before);
}

#[test]
fn a_person_is_told_what_a_dump_does_not_keep() {
    let server = Server::new();
    server.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE a(x float, y float); CREATE TABLE b(x double) ENGINE = MyISAM;
         CREATE TABLE c(x float) ENGINE = Aria; INSERT INTO a VALUES (3.1415927, 1e-30), (1.5, 0.1);",
    );
    server.bed.write("up", "");
    server.bed.write("plan.toml", PLAN);
    server.bed.write("migrate.sql", "UPDATE a SET x = 7; SELECT nope");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(server.bed.path("my.cnf"), mode).unwrap();
    let said = server.bed.run(&["run", "plan.toml"]).ends(3);
    let told = said.told(&server.bed);
    let warnings: Vec<&str> = told.lines().filter(|line| line.starts_with("warning: ")).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r#"
    warning: the option file `BED/my.cnf` may be read by others: chmod 600 BED/my.cnf
    warning: `shop`: not of InnoDB, and so dumped as they are and not as of one moment: b, c
    warning: `shop`: a dump keeps six digits of a FLOAT: a.x, a.y, c.x
    "#);
    assert_eq!(server.sql("SELECT * FROM shop.a ORDER BY x"), "1.5\t0.1\n3.14159\t1e-30");
}

#[test]
fn an_event_whose_time_has_passed_is_not_missed() {
    let server = shop();
    let before = server.world();
    server.sql(
        "USE shop; CREATE EVENT soon ON SCHEDULE AT NOW() + INTERVAL 4 SECOND DO SET @a = 1;
         CREATE EVENT ending ON SCHEDULE EVERY 1 HOUR STARTS '2020-01-01 00:00:00' ENDS NOW() + INTERVAL 4 SECOND DO SET @a = 1;",
    );
    server.bed.run(&["begin", "plan.toml"]).ends(0);
    server.sql("USE shop; DELETE FROM hidden; DO SLEEP(5);");
    assert_eq!(server.sql("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_NAME = 'soon'"), "");
    server.bed.run(&["rollback"]).ends(0);
    server.sql("USE shop; DROP EVENT IF EXISTS ending;");
    assert_same(&server.world(), &before);
}
