//! The resource kind `postgres`, on servers of the tests' own (issue 5): what a half-run migration leaves is taken back to
//! the row, wherever a restore was killed, and what cannot work is said in words before anything is changed.

mod asked;
mod cluster;
mod killed;
mod wrong;

use crate::bed::Bed;
use cluster::{Cluster, does};

const SCHEMA: &str = include_str!("postgres/schema.sql");
const MIGRATION: &str = include_str!("postgres/migration.sql");

/// A plan of one database.
fn plan(cluster: &Cluster, role: &str, rest: &str) -> String {
    let url = cluster.url("shop", role);
    format!("format = 1\nname = \"shop\"\n\n[[resource]]\nname = \"db\"\nkind = \"postgres\"\nurl = \"{url}\"\n{rest}")
}

/// Databases beside those that there were.
fn left(cluster: &Cluster) -> Vec<String> {
    cluster.databases().into_iter().filter(|name| name.starts_with("txupgrade")).collect()
}

#[test]
fn a_half_run_migration_is_taken_back_to_the_row() {
    let (bed, cluster) = (Bed::new(), Cluster::new());
    cluster.sql("postgres", "CREATE DATABASE shop");
    does(cluster.client("pgbench", "shop").args(["-i", "-q", "-s", "10"]));
    cluster.file("shop", SCHEMA);
    let before = cluster.dump("shop");
    let large = "SELECT loid, md5(string_agg(data, '' ORDER BY pageno)) FROM pg_largeobject GROUP BY 1 ORDER BY 1";
    let objects = cluster.sql("shop", large);
    let migration = bed.write("migration.sql", MIGRATION);
    let psql = format!(
        "[\"psql\", \"-Xq\", \"-v\", \"ON_ERROR_STOP=1\", \"-d\", \"{}\", \"-f\", \"{}\"]",
        cluster.url("shop", "postgres"),
        migration.display()
    );
    let steps = format!(
        "\n[[step]]\nname = \"migrate\"\nkind = \"command\"\nrun = {psql}\n\n[[step]]\nname = \"start\"\nkind = \"command\"\nrun = [\"false\"]\n"
    );
    bed.write("plan.toml", &plan(&cluster, "postgres", &steps));
    let said = bed.run(&["run", "plan.toml"]).ends(3);
    assert!(said.err.contains("everything was rolled back and rechecked"), "{}", said.err);
    let after = cluster.dump("shop");
    assert!(before == after, "{}", similar::TextDiff::from_lines(&before, &after).unified_diff());
    assert_eq!(cluster.sql("shop", large), objects);
    assert_eq!(left(&cluster), Vec::<String>::new());
    bed.run(&["diff"]).ends(0);
}
