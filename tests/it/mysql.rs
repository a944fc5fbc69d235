//! A schema of a MariaDB server with everything that a dump has to bring back (issue 5), each test on a server of its own.

mod allowed;
mod refused;
mod server;

use crate::bed::Said;
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

/// A program in the way of the real one.
fn in_the_way(server: &Server, name: &str, script: &str) -> String {
    server.bed.script(&format!("bin/{name}"), script);
    format!("{}:{}", server.bed.path("bin").display(), std::env::var("PATH").unwrap())
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

/// How txupgrade dies while a program of the restore runs.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// Before the program has done anything.
    Before,
    /// The program goes on by itself.
    During,
    /// The program reads half of its script and dies too.
    Half,
}

/// A client in the way of the real one that counts, and kills who runs it at the turn that is asked for.
fn lay_trap(server: &Server) {
    server.bed.script(
        "bin/mariadb",
        r#"real() { exec /usr/bin/mariadb "$@"; }
        [ -e @BED@/trap ] || real "$@"
        read turn how < @BED@/trap
        echo >> @BED@/turns
        [ $(wc -l < @BED@/turns) = $turn ] || real "$@"
        rm @BED@/trap
        case $how in
        Before) kill -9 $PPID; exit 1;;
        During) kill -9 $PPID; real "$@";;
        Half) cat > @BED@/input; head -c $(($(wc -c < @BED@/input) / 2)) @BED@/input | /usr/bin/mariadb "$@"; kill -9 $PPID; exit 1;;
        esac"#,
    );
}

/// An upgrade by hand that dies half-way, and its rollback, which is killed at that turn. How many turns it took.
fn roll_back_killed(server: &Server, turn: usize, how: Death) -> usize {
    let bed = &server.bed;
    bed.run(&["begin", "plan.toml"]).ends(0);
    let migration = std::fs::File::open(bed.path("migrate.sql")).unwrap();
    assert!(!server.client().arg("shop").stdin(migration).output().unwrap().status.success());
    bed.write("trap", &format!("{turn} {how:?}\n"));
    bed.write("turns", "");
    let path = format!("{}:{}", bed.path("bin").display(), std::env::var("PATH").unwrap());
    let said = Said::of(bed.command(&["rollback"]).env("PATH", path).output().unwrap());
    let turns = bed.read("turns").lines().count();
    assert_eq!(said.status, if turns < turn { 0 } else { 137 }, "{}", said.err);
    if turns >= turn {
        let recovered = bed.run(&["recover"]);
        // Killed before it had said that it turns back.
        let open = recovered.status == 10;
        if open { bed.run(&["rollback"]) } else { recovered }.ends(0);
    }
    turns
}

#[test]
fn a_restore_that_is_killed_anywhere_is_carried_on() {
    let server = shop();
    lay_trap(&server);
    server.bed.write("plan.toml", &format!("{PLAN}\n[policy]\nprove = \"read\"\n"));
    let before = server.world();
    let turns = roll_back_killed(&server, usize::MAX, Death::Before);
    assert_same(&server.world(), &before);
    let asked = std::env::var("TXUPGRADE_POINTS").unwrap_or_default();
    let mut dice = crate::tree::Dice(u64::from(std::process::id()));
    let points: Vec<(usize, Death)> =
        (1..=turns).flat_map(|turn| [Death::Before, Death::During, Death::Half].map(|how| (turn, how))).collect();
    let some = match asked.as_str() {
        "all" => points.len(),
        number => number.parse().unwrap_or(6).min(points.len()),
    };
    println!("{some} of {} deaths in {turns} turns", points.len());
    let chosen = (0..some).map(|at| match some == points.len() {
        true => points[at],
        false => points[(dice.part() * points.len() as f64) as usize],
    });
    for (turn, how) in chosen.collect::<Vec<_>>() {
        println!("turn {turn}, {how:?}");
        roll_back_killed(&server, turn, how);
        assert_same(&server.world(), &before);
        assert!(server.bed.exists("up"));
    }
}
