//! A schema of a MariaDB server with everything that a dump has to bring back (issue 5), each test on a server of its own.

mod server;

use server::Server;

/// An application that is up while the file is there, and its schema.
const PLAN: &str = r#"format = 1
name   = "shop"

[[quiesce]]
name   = "app"
kind   = "command"
run    = ["rm", "-f", "@BED@/up"]
resume = ["touch", "@BED@/up"]

[[resource]]
name        = "db"
kind        = "mysql"
option_file = "my.cnf"
database    = "shop"

[[step]]
name  = "migrate"
kind  = "command"
shell = "mariadb --defaults-file=my.cnf --binary-mode --comments --default-character-set=utf8mb4 shop < migrate.sql"
"#;

/// A server with the shop's schema, and a plan whose migration dies half-way.
fn shop() -> Server {
    let server = Server::new();
    server.sql(include_str!("mysql/shop.sql"));
    server.bed.write("migrate.sql", include_str!("mysql/migrate.sql"));
    server.bed.write("plan.toml", PLAN);
    server.bed.write("up", "");
    server
}

#[track_caller]
fn assert_same(is: &str, was: &str) {
    let diff = similar::TextDiff::from_lines(was, is);
    assert!(is == was, "{}", diff.unified_diff().header("before", "after"));
}

#[test]
fn a_migration_that_dies_half_way_is_rolled_back_to_the_row() {
    let server = shop();
    let before = server.world();
    let said = server.bed.run(&["run", "plan.toml"]).ends(3);
    assert_same(&server.world(), &before);
    assert!(server.bed.exists("up"));
    assert!(said.err.contains("restore db"), "{}", said.err);

    // Committed, and undone by a transaction of its own.
    let migration = include_str!("mysql/migrate.sql");
    server.bed.write("migrate.sql", migration.split("SELECT nope").next().unwrap());
    server.bed.run(&["run", "plan.toml"]).ends(0);
    let after = server.world();
    assert_ne!(after, before);
    let said = server.bed.run(&["diff"]).ends(9);
    insta::assert_snapshot!(said.out, @r"
    db
      changed  the database                                      character set latin1 -> utf8mb4, collation latin1_swedish_ci -> utf8mb4_bin, comment  -> of the upgrade
      changed  computed                                          -1 row
      removed  found                                             -1 row
      changed  hidden                                            content
      removed  numbered                                          -1 row
      changed  parent                                            definition, content
      changed  safe                                              definition
      removed  versioned                                         -2 rows
      added    added                                             +1 row
      added    lost                                              +1 row
      changed  event asleep                                      definition
      removed  event once
      changed  function plus                                     definition
      removed  grants of 'app'@'%' on FUNCTION `shop`.`plus`
      removed  grants of 'app'@'%' on PROCEDURE `shop`.`listed`
      changed  grants of 'app'@'%' on `shop`.*                   definition
      removed  grants of 'app'@'%' on `shop`.`child`
      removed  grants of 'clerk' on `shop`.*
      removed  procedure listed
      removed  sequence numbers
      removed  trigger early
      changed  trigger late                                      definition
      removed  view first
      changed  view second                                       definition
      added    event hourly
      added    grants of 'app'@'%' on `shop`.`added`
      added    trigger counting
      added    view newer
    ");
    server.bed.run(&["rollback", "--yes"]).ends(0);
    assert_same(&server.world(), &before);
    server.bed.run(&["diff", "shop-2"]).ends(0);
}
