//! Upkeep of the store through the command line: damage is found and named, an export is what was captured, a prune keeps
//! what must be kept wherever it is killed, the index can be lost.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::bed::{Bed, Said};
use super::tree::noise;

/// A bed with an application of some size; each upgrade writes most of it anew.
fn bed(policy: &str) -> Bed {
    let bed = Bed::new();
    bed.write("app/version", "app 1.0.0\n");
    bed.write("app/stays", "the same always\n");
    fill(&bed, 0);
    let text = format!(
        r#"format = 1
name = "app"
[[resource]]
name = "app"
kind = "path"
path = "@BED@/app"
[[step]]
name = "up"
kind = "command"
shell = 'echo more >> @BED@/app/version; head -c 300000 /dev/urandom > @BED@/app/data; test ! -e @BED@/broken'
[policy]
{policy}
"#
    );
    bed.write("app.toml", &text);
    bed
}

fn fill(bed: &Bed, seed: u64) {
    std::fs::write(bed.path("app/data"), noise(seed, 300_000)).unwrap();
}

fn object(bed: &Bed, arguments: &[&str], status: i32, kind: &str) -> Value {
    let said = bed.run(&[&["--json"], arguments].concat()).ends(status);
    let object: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out));
    let mut schema: Value = serde_json::from_str(include_str!("../../schemas/output.schema.json")).unwrap();
    schema["oneOf"] = serde_json::json!([{ "$ref": format!("#/$defs/{kind}") }]);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&object).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{arguments:?}: {errors:#?}\n{object:#}");
    object
}

fn archives(bed: &Bed) -> Vec<PathBuf> {
    let mut all = bed.archives();
    all.sort_by_key(|path| path.metadata().unwrap().len());
    all
}

fn size(bed: &Bed) -> u64 {
    archives(bed).iter().map(|path| path.metadata().unwrap().len()).sum()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// What rsync would change to make `b` equal to `a`.
fn rsync(a: &Path, b: &Path) -> String {
    let slash = |path: &Path| format!("{}/", path.display());
    let out = Command::new("rsync")
        .args(["-aHAXn", "--checksum", "--delete", "--itemize-changes", &slash(a), &slash(b)])
        .output()
        .expect("rsync is there (Debian: apt-get install rsync)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The transactions that have a snapshot in the store.
fn listed(bed: &Bed) -> Vec<String> {
    let list = object(bed, &["store", "list"], 0, "store-list");
    list["manifests"].as_array().unwrap().iter().map(|one| one["tx"].as_str().unwrap().to_owned()).collect()
}

fn sound(bed: &Bed) {
    let said = bed.run(&["store", "verify"]).ends(0);
    assert!(said.err.starts_with("what was read is whole: "), "{}", said.err);
}

#[test]
fn a_flipped_bit_is_found_and_named() {
    let bed = bed("");
    bed.run(&["run", "app.toml"]).ends(0);
    assert_eq!(object(&bed, &["store", "verify"], 0, "store-verify")["damage"], serde_json::json!([]));
    let largest = archives(&bed).pop().unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&largest).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 150_000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 150_000).unwrap();
    let name = largest.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.zst").to_owned();
    let found = object(&bed, &["store", "verify"], 8, "store-verify");
    assert_eq!(found["damage"][0]["archive"], name);
    assert!(!found["damage"][0]["objects"].as_array().unwrap().is_empty());
    assert_eq!((&found["hit"][0]["tx"], &found["hit"][0]["resource"]), (&"app-1".into(), &"app".into()));
    assert!(found["hit"][0]["names"].as_array().unwrap().contains(&"data".into()), "{found:#}");
    let said = bed.run(&["store", "verify"]).ends(8);
    assert!(said.out.contains(&format!("archive {name} is damaged\n")), "{}", said.out);
    assert!(said.out.contains("files cannot be put back: `data`, `stays`, `version`\n"), "{}", said.out);
    object(&bed, &["store", "verify", "--sample", "100"], 8, "store-verify");
    // A prune may need it, so it is left alone, and an archive that is gone is named as well.
    std::fs::remove_file(&largest).unwrap();
    let found = object(&bed, &["store", "verify"], 8, "store-verify");
    assert_eq!(found["damage"][0]["what"][0], "it is missing");
    bed.run(&["store", "prune"]).ends(8);
    bed.run(&["store", "verify", "--sample", "0"]).ends(2);
}

#[test]
fn an_export_that_gnu_tar_extracts_is_what_was_captured() {
    let bed = bed("");
    std::fs::create_dir(bed.path("app/plugins")).unwrap();
    std::os::unix::fs::symlink("data", bed.path("app/link")).unwrap();
    std::os::unix::fs::chown(bed.path("app/stays"), Some(12), Some(34)).unwrap();
    copy(&bed.path("app"), &bed.path("was"));
    bed.run(&["run", "app.toml"]).ends(0);
    let exported = object(&bed, &["store", "export", "app-1", "app-1.tar.zst"], 0, "store-export");
    assert_eq!(exported["entries"], 6);
    std::fs::create_dir(bed.path("out")).unwrap();
    let tar = ["--zstd", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf", "../app-1.tar.zst"];
    assert!(Command::new("tar").args(tar).current_dir(bed.path("out")).status().unwrap().success());
    assert_eq!(rsync(&bed.path("was"), &bed.path("out/app")), "");
    bed.run(&["store", "export", "app-1", "app-1.tar.zst"]).ends(1);
    bed.run(&["store", "export", "app-9", "x.tar.zst"]).ends(2);
    let said = bed.run(&["store", "export", "app-1", "x.tar.zst", "--resource", "db"]).ends(2);
    assert_eq!(said.err, "error: `app-1` has not captured `db`\nhint: it has captured `app`\n");
    bed.run(&["store", "export", "app-1", "x.tar.zst", "--resource", "app"]).ends(0);
}

#[test]
fn without_a_policy_only_what_was_aborted_goes() {
    let bed = bed("");
    bed.run(&["run", "app.toml"]).ends(0);
    bed.write("broken", "");
    bed.run(&["run", "app.toml"]).ends(3);
    std::fs::remove_file(bed.path("broken")).unwrap();
    fill(&bed, 9);
    bed.run(&["begin", "app.toml"]).ends(0);
    bed.run(&["rollback"]).ends(0);
    fill(&bed, 10);
    bed.run(&["begin", "app.toml"]).ends(0);
    let before = size(&bed);
    let forecast = object(&bed, &["store", "prune", "--dry-run"], 0, "store-prune");
    assert_eq!(size(&bed), before);
    assert!(forecast["dropped"].as_array().unwrap().iter().all(|one| one["tx"] == "app-3"), "{forecast:#}");
    let pruned = object(&bed, &["store", "prune"], 0, "store-prune");
    assert_eq!(pruned["dropped"], forecast["dropped"]);
    assert_eq!(size(&bed), pruned["after"].as_u64().unwrap());
    sound(&bed);
    let kept = listed(&bed);
    assert!(["app-1", "app-2", "app-4"].iter().all(|tx| kept.contains(&tx.to_string())), "{kept:?}");
    bed.run(&["rollback"]).ends(0);
    bed.run(&["rollback", "app-1", "--yes"]).ends(0);
    assert_eq!(bed.read("app/version"), "app 1.0.0\n");
}

#[test]
fn keep_one_over_three_upgrades() {
    let bed = bed("keep = 1");
    let mut sizes = Vec::new();
    for _ in 0..3 {
        copy(&bed.path("app"), &bed.path("was"));
        bed.run(&["run", "app.toml"]).ends(0);
        sizes.push(size(&bed));
        if sizes.len() < 3 {
            std::fs::remove_dir_all(bed.path("was")).unwrap();
        }
    }
    assert_eq!(listed(&bed), ["app-3"]);
    assert!(sizes[2] < sizes[0] * 3 / 2, "{sizes:?}");
    sound(&bed);
    for arguments in
        [&["rollback", "app-1", "--yes", "--through"][..], &["diff", "app-1"], &["store", "export", "app-1", "x"]]
    {
        let said = bed.run(arguments).ends(1);
        assert!(
            said.err
                .starts_with("error: the snapshot of `app-1` was pruned: what it captured is no longer in the store\n"),
            "{}",
            said.err
        );
    }
    bed.run(&["show", "app-1"]).ends(0);
    bed.run(&["rollback", "--yes"]).ends(0);
    assert_eq!(rsync(&bed.path("was"), &bed.path("app")), "");
    sound(&bed);
}

#[test]
fn a_prune_may_be_killed_anywhere() {
    let bed = bed("");
    for _ in 0..4 {
        bed.run(&["run", "app.toml"]).ends(0);
    }
    // The policy comes late: three snapshots are to go.
    bed.write("app.toml", &(bed.read("app.toml") + "keep = 1\n"));
    let whole = bed.path("whole");
    bed.run(&["begin", "app.toml"]).ends(0);
    bed.run(&["rollback"]).ends(0);
    copy(&bed.state(), &whole);
    let mut killed = 0;
    for milliseconds in [0, 3, 6, 10, 15, 20, 30, 45] {
        std::fs::remove_dir_all(bed.state()).unwrap();
        copy(&whole, &bed.state());
        let mut prune = bed.start(&["store", "prune"]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        prune.kill().unwrap();
        killed += u32::from(!prune.wait().unwrap().success());
        sound(&bed);
        bed.run(&["store", "prune"]).ends(0);
        sound(&bed);
        assert!(listed(&bed).contains(&"app-4".to_owned()));
    }
    assert!(killed > 0, "every prune was faster than its kill");
    bed.run(&["rollback", "app-4", "--yes"]).ends(0);
}

#[test]
fn a_lost_index_is_made_again() {
    let bed = bed("");
    bed.run(&["run", "app.toml"]).ends(0);
    let before = object(&bed, &["store", "list"], 0, "store-list");
    std::fs::remove_file(bed.state().join("store/index.db")).unwrap();
    // What only looks does not need it, and does not make it.
    assert_eq!(object(&bed, &["store", "list"], 0, "store-list"), before);
    assert!(!bed.state().join("store/index.db").exists());
    let made = object(&bed, &["store", "reindex"], 0, "store-reindex");
    assert_eq!(made["objects"], before["objects"]);
    sound(&bed);
    bed.run(&["rollback", "--yes"]).ends(0);
    assert_eq!(bed.read("app/version"), "app 1.0.0\n");
}

#[test]
fn prune_and_reindex_are_alone_in_the_store() {
    let bed = bed("");
    bed.run(&["run", "app.toml"]).ends(0);
    let lock = std::fs::File::open(bed.state().join("locks/store.lock")).unwrap();
    lock.lock_shared().unwrap();
    bed.run(&["store", "prune"]).ends(7);
    bed.run(&["store", "reindex"]).ends(7);
    sound(&bed);
    lock.unlock().unwrap();
    lock.lock().unwrap();
    // Who shares it waits, and says so; in the end somebody else is named.
    for arguments in [["store", "verify"], ["run", "app.toml"]] {
        let mut impatient = bed.command(&arguments);
        let said = Said::of(impatient.env("TXUPGRADE_TEST_PATIENCE_MS", "1500").output().unwrap()).ends(7);
        assert!(said.err.starts_with("warning: waits, for the store is locked by another process"), "{}", said.err);
        assert!(said.err.contains("error: the store is locked by "), "{}", said.err);
    }
}

#[test]
fn before_there_is_a_store() {
    let bed = bed("");
    for verb in [&["store", "list"][..], &["store", "verify"], &["store", "reindex"]] {
        let said = bed.run(verb).ends(1);
        assert!(said.told(&bed).starts_with("error: there is no store in `BED/state` yet\n"), "{}", said.err);
    }
    bed.run(&["store", "prune"]).ends(1);
    assert!(!bed.exists("state"));
}
