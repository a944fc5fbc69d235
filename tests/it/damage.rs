//! Damage of what is kept, through the command line: it is named, what can be put back is, and nothing wrong ever is.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde_json::Value;

use super::bed::{Bed, Said};
use super::tree::noise;

/// An application of two directories with some files of some size, and one small database; `broken` makes the step fail.
fn bed() -> Bed {
    let bed = Bed::new();
    files(&bed, 0..10);
    bed.write("conf/app.toml", "listen = 1\n");
    let db = rusqlite::Connection::open(bed.path("db")).unwrap();
    db.execute_batch("CREATE TABLE note (text); INSERT INTO note VALUES ('old');").unwrap();
    bed.script("ctl", "echo $1 >> @BED@/log");
    bed.write(
        "app.toml",
        r#"format = 1
name = "app"
[[quiesce]]
name = "server"
kind = "command"
run = ["@BED@/ctl", "stop"]
resume = ["@BED@/ctl", "start"]
[[resource]]
name = "code"
kind = "path"
path = "@BED@/app"
[[resource]]
name = "conf"
kind = "path"
path = "@BED@/conf"
[[resource]]
name = "db"
kind = "sqlite"
path = "@BED@/db"
[[step]]
name = "up"
kind = "command"
shell = '''
for f in @BED@/app/f*; do echo new > $f; done
echo 'listen = 2' > @BED@/conf/app.toml
sqlite3 @BED@/db "UPDATE note SET text = 'new'"
'''
"#,
    );
    bed
}

fn files(bed: &Bed, numbers: std::ops::Range<u64>) {
    for n in numbers {
        bed.write(&format!("app/f{n:02}"), &babble(n, 3000));
    }
}

/// Noise that is text.
fn babble(seed: u64, length: usize) -> String {
    noise(seed, length).iter().map(|byte| char::from(b' ' + byte % 90)).collect()
}

/// The archives, the oldest first.
fn archives(bed: &Bed) -> Vec<PathBuf> {
    let mut all = bed.archives();
    all.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    all
}

/// The archive that holds an object, and where its frame is.
fn holds(bed: &Bed, bytes: &[u8]) -> (PathBuf, u64) {
    let index = rusqlite::Connection::open(bed.state().join("store/index.db")).unwrap();
    let found = index.query_row(
        "SELECT name, frame FROM object JOIN archive ON number = archive WHERE id = ?1",
        [blake3::hash(bytes).as_bytes()],
        |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)),
    );
    let (name, frame) = found.unwrap();
    let name = blake3::Hash::from_slice(&name).unwrap().to_hex();
    (bed.state().join(format!("store/archives/{}/{name}.tar.zst", &name[..2])), frame.cast_unsigned())
}

fn flip(path: &PathBuf, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", said.out, said.err))
}

fn note(bed: &Bed) -> String {
    let db = rusqlite::Connection::open(bed.path("db")).unwrap();
    db.query_row("SELECT text FROM note", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_rollback_that_lacks_objects_names_the_files_and_partial_restores_the_rest() {
    let bed = bed();
    // The first ten files are in an archive of their own.
    bed.run(&["snapshot", "app.toml"]).ends(0);
    std::fs::remove_file(bed.path("log")).unwrap();
    files(&bed, 10..20);
    bed.run(&["begin", "app.toml"]).ends(0);
    bed.write("app/later", "came later\n");
    bed.run(&["apply"]).ends(0);
    let (archive, frame) = holds(&bed, babble(3, 3000).as_bytes());
    flip(&archive, frame + 100);
    let said = bed.run(&["--json", "rollback"]).ends(5);
    assert_eq!(bed.read("app/f00"), "new\n", "nothing is changed");
    assert_eq!(bed.read("log"), "stop\n");
    let causes = json(&said)["failure"]["error"]["causes"].as_array().unwrap().clone();
    let names: Vec<&str> = causes.iter().filter_map(Value::as_str).filter(|cause| cause.contains("/app/f0")).collect();
    assert_eq!(names.len(), 10, "every file is named: {causes:#?}");
    let said = bed.run(&["rollback"]).ends(5);
    insta::assert_snapshot!(masked(&said, &bed), @r"
      prove the snapshot          TIME   failed: the snapshot is damaged: 10 of its objects cannot be read
    app-2: stuck at `prove the snapshot`
    error: app-2 is stuck: `prove the snapshot` failed
      cause: the snapshot is damaged: 10 of its objects cannot be read
      cause: the frame at byte N of the archive `HASH` cannot be read: Restored data doesn't match checksum
      cause: the BLAKE3 of the archive `HASH` is `HASH`
      cause: `BED/app/f00` of `code` cannot be restored
      cause: `BED/app/f01` of `code` cannot be restored
      cause: `BED/app/f02` of `code` cannot be restored
      cause: `BED/app/f03` of `code` cannot be restored
      cause: `BED/app/f04` of `code` cannot be restored
      cause: `BED/app/f05` of `code` cannot be restored
      cause: `BED/app/f06` of `code` cannot be restored
      cause: `BED/app/f07` of `code` cannot be restored
      cause: `BED/app/f08` of `code` cannot be restored
      cause: `BED/app/f09` of `code` cannot be restored
      restored: nothing
      not restored: `code`, `conf` and `db`
    hint: `txupgrade store verify` lists all damage
      kept down: `server`
    hint: remove the cause, then `txupgrade rollback app-2` tries again
    hint: `txupgrade rollback app-2 --partial` restores what is whole, and leaves the rest as it is
    hint: once it is restored by hand, `txupgrade release app-2 --resume` (or `--leave-down`) closes it
    ");
    let said = bed.run(&["rollback", "--partial"]).ends(5);
    insta::assert_snapshot!(masked(&said, &bed), @r"
      prove the snapshot          TIME   failed: the snapshot is damaged: 10 of its objects cannot be read
      restore code                TIME   failed: `BED/app` is restored but for 10 files, which are left as found
      restore conf                TIME   1 item put back
      restore db                  TIME   1 item put back
      recheck resource code       TIME   failed: `code` is not as it was
      recheck resource conf       TIME   as it was
      recheck resource db         TIME   as it was
    app-2: stuck at `restore code`
    error: `prove the snapshot` failed, and app-2 is stuck on its way back: restore of `code` failed
      cause: the snapshot is damaged: 10 of its objects cannot be read
      cause: the frame at byte N of the archive `HASH` cannot be read: Restored data doesn't match checksum
      cause: the BLAKE3 of the archive `HASH` is `HASH`
      cause: `BED/app/f00` of `code` cannot be restored
      cause: `BED/app/f01` of `code` cannot be restored
      cause: `BED/app/f02` of `code` cannot be restored
      cause: `BED/app/f03` of `code` cannot be restored
      cause: `BED/app/f04` of `code` cannot be restored
      cause: `BED/app/f05` of `code` cannot be restored
      cause: `BED/app/f06` of `code` cannot be restored
      cause: `BED/app/f07` of `code` cannot be restored
      cause: `BED/app/f08` of `code` cannot be restored
      cause: `BED/app/f09` of `code` cannot be restored
      also: restore of `code` failed: `BED/app` is restored but for 10 files, which are left as found: the frame at byte N of the archive `HASH` cannot be read: Restored data doesn't match checksum: the BLAKE3 of the archive `HASH` is `HASH`: `BED/app/f00` cannot be restored: `BED/app/f01` cannot be restored: `BED/app/f02` cannot be restored: `BED/app/f03` cannot be restored: and 6 more
      also: `recheck resource code` failed: `code` is not as it was: it differs in `f00`: it differs in `f01`: it differs in `f02`: it differs in `f03`: it differs in `f04`: it differs in `f05`: and 4 more
      restored: `conf` and `db`
      not restored: `code`
    hint: `txupgrade store verify` lists all damage
      kept down: `server`
    hint: remove the cause, then `txupgrade rollback app-2` tries again
    hint: once it is restored by hand, `txupgrade release app-2 --resume` (or `--leave-down`) closes it
    ");
    assert_eq!((bed.read("conf/app.toml").as_str(), note(&bed).as_str()), ("listen = 1\n", "old"));
    assert_eq!(bed.read("app/f00"), "new\n", "what is lost is left as it is");
    assert_eq!(bed.read("app/f10"), babble(10, 3000));
    assert!(!bed.exists("app/later"), "and the rest of its resource is restored");
    assert_eq!(bed.read("log"), "stop\n", "nothing is resumed on top of it");
    bed.run(&["status"]).ends(10);
    // The files come back from elsewhere; then what is left is put right, and it ends like any other.
    files(&bed, 0..10);
    let said = bed.run(&["rollback", "--partial"]).ends(0);
    assert!(said.err.contains("app-2"), "{}", said.err);
    assert_eq!(bed.read("log"), "stop\nstart\n");
    assert!(bed.run(&["history"]).ends(0).out.contains("rolled back"));
}

/// What was said, with the names of archives and places masked.
fn masked(said: &Said, bed: &Bed) -> String {
    let hashes = regex::Regex::new("[0-9a-f]{64}").unwrap();
    let bytes = regex::Regex::new("byte [0-9]+").unwrap();
    bytes.replace_all(&hashes.replace_all(&said.told(bed), "HASH"), "byte N").into_owned()
}

#[test]
fn with_every_archive_gone_it_can_still_be_seen_and_released() {
    let bed = bed();
    bed.run(&["begin", "app.toml"]).ends(0);
    bed.run(&["apply"]).ends(0);
    for archive in archives(&bed) {
        std::fs::remove_file(archive).unwrap();
    }
    let said = bed.run(&["status"]).ends(10);
    assert!(said.out.contains("every step has run"), "{}", said.out);
    bed.run(&["release", "app-1", "--leave-down"]).ends(1);
    let said = bed.run(&["apply"]).ends(8);
    assert!(said.told(&bed).contains("cannot read the plan of `app-1` back"), "{}", said.err);
    let said = bed.run(&["rollback"]).ends(5);
    insta::assert_snapshot!(masked(&said, &bed), @r"
    app-1: turning back, as asked
      prove the snapshot          TIME   failed: cannot read the plan of `app-1` back
    app-1: stuck at `prove the snapshot`
    error: app-1 is stuck: `prove the snapshot` failed
      cause: cannot read the plan of `app-1` back
      cause: the object `HASH` is not in the store
      restored: nothing
      not restored: `code`, `conf` and `db`
    hint: `txupgrade store reindex` looks for it in every archive
      kept down: `server`
    hint: remove the cause, then `txupgrade rollback app-1` tries again
    hint: `txupgrade rollback app-1 --partial` restores what is whole, and leaves the rest as it is
    hint: once it is restored by hand, `txupgrade release app-1 --resume` (or `--leave-down`) closes it
    ");
    assert_eq!((bed.read("app/f00").as_str(), bed.read("log").as_str()), ("new\n", "stop\n"));
    for verb in [&["status"][..], &["rollback", "--partial"], &["recover"], &["show"], &["history"]] {
        let said = bed.run(verb);
        assert!([0, 5, 10].contains(&said.status), "{verb:?}: {}\n{}", said.status, said.err);
    }
    let said = bed.run(&["store", "verify"]).ends(8);
    insta::assert_snapshot!(regex::Regex::new("[0-9a-f]{64}").unwrap().replace_all(&said.out, "HASH"), @r"
    app-1: cannot be put back: its plan is not in the store
    app-1, `code`: cannot be put back: its manifest is not in the store
    app-1, `conf`: cannot be put back: its manifest is not in the store
    app-1, `db`: cannot be put back: its manifest is not in the store
    ");
    // What was stopped cannot be started again by a plan that is gone.
    let said = bed.run(&["release", "app-1", "--resume"]).ends(8);
    assert!(said.err.contains("cannot resume `server`"), "{}", said.err);
    let said = bed.run(&["release", "app-1", "--leave-down"]).ends(0);
    assert!(said.err.contains("app-1 is released"), "{}", said.err);
    bed.run(&["status"]).ends(0);
    // And the next one starts from nothing.
    bed.run(&["run", "app.toml"]).ends(0);
    bed.run(&["store", "verify"]).ends(8);
}

#[test]
fn a_transaction_that_died_and_lost_its_plan_is_settled_as_stuck() {
    let bed = bed();
    let plan = bed.read("app.toml").replace("shell = '''", "shell = '''\nkill -9 $PPID; sleep 1");
    bed.write("app.toml", &plan);
    let _ = bed.run(&["run", "app.toml"]);
    for archive in archives(&bed) {
        std::fs::remove_file(archive).unwrap();
    }
    let said = bed.run(&["recover"]).ends(5);
    assert!(said.err.contains("app-1 is stuck"), "{}", said.err);
    bed.run(&["release", "app-1", "--leave-down"]).ends(0);
    bed.run(&["recover"]).ends(0);
}

#[test]
fn what_a_capture_took_over_and_is_damaged_is_found_by_the_proof_and_stored_anew_the_next_time() {
    let bed = bed();
    bed.run(&["snapshot", "app.toml"]).ends(0);
    let (archive, frame) = holds(&bed, babble(3, 3000).as_bytes());
    flip(&archive, frame + 100);
    let said = bed.run(&["begin", "app.toml"]).ends(1);
    insta::assert_snapshot!(masked(&said, &bed).lines().filter(|line| line.starts_with("hint")).collect::<Vec<_>>().join("\n"), @r"
    hint: `txupgrade store verify` lists all damage
    hint: try again: the next capture stores anew what is damaged
    ");
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    bed.run(&["begin", "app.toml"]).ends(0);
    bed.run(&["apply"]).ends(0);
    bed.run(&["rollback"]).ends(0);
    assert_eq!(bed.read("app/f03"), babble(3, 3000));
    // One of another size than it was is not built upon at all.
    let (archive, _) = holds(&bed, babble(3, 3000).as_bytes());
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() - 900]).unwrap();
    bed.run(&["run", "app.toml"]).ends(0);
    bed.run(&["rollback", "--yes"]).ends(0);
    assert_eq!(bed.read("app/f03"), babble(3, 3000));
}

#[test]
fn what_is_committed_is_undone_whole_or_not_at_all() {
    let bed = bed();
    bed.run(&["run", "app.toml"]).ends(0);
    let (archive, frame) = holds(&bed, babble(3, 3000).as_bytes());
    flip(&archive, frame + 100);
    let said = bed.run(&["rollback", "--dry-run"]).ends(8);
    insta::assert_snapshot!(masked(&said, &bed), @r"
    error: undoing `app-1` would be refused
      cause: the snapshot is damaged: 10 of its objects cannot be read
      cause: the frame at byte N of the archive `HASH` cannot be read: Restored data doesn't match checksum
      cause: the BLAKE3 of the archive `HASH` is `HASH`
      cause: `BED/app/f00` of `code` cannot be restored
      cause: `BED/app/f01` of `code` cannot be restored
      cause: `BED/app/f02` of `code` cannot be restored
      cause: `BED/app/f03` of `code` cannot be restored
      cause: `BED/app/f04` of `code` cannot be restored
      cause: `BED/app/f05` of `code` cannot be restored
      cause: `BED/app/f06` of `code` cannot be restored
      cause: `BED/app/f07` of `code` cannot be restored
      cause: `BED/app/f08` of `code` cannot be restored
      cause: `BED/app/f09` of `code` cannot be restored
    hint: `txupgrade store verify` lists all damage
    ");
    let said = bed.run(&["rollback", "--yes"]).ends(1);
    assert!(said.err.contains("/app/f03` of `code` cannot be restored"), "{}", said.err);
    let said = bed.run(&["rollback", "--yes", "--partial"]).ends(1);
    insta::assert_snapshot!(masked(&said, &bed), @r"
    error: `app-1` has ended: only one that is open goes back in part
      cause: what is undone by a new transaction is put back whole, or the present stays
    hint: `txupgrade rollback app-1` says what of its snapshot is damaged
    hint: `txupgrade store export app-1 FILE --resource NAME` writes down a resource that is whole
    ");
    assert_eq!((bed.read("app/f03").as_str(), note(&bed).as_str()), ("new\n", "new"));
}

/// What each kind of damage to the archives does: all of them, one after the other.
#[test]
fn whatever_happens_to_an_archive_is_said_and_nothing_wrong_is_put_back() {
    type Damage = fn(&[PathBuf], usize);
    let cases: [(&str, Damage); 5] = [
        ("truncated", |all, at| {
            let bytes = std::fs::read(&all[at]).unwrap();
            std::fs::write(&all[at], &bytes[..bytes.len() * 2 / 3]).unwrap();
        }),
        ("emptied", |all, at| std::fs::write(&all[at], "").unwrap()),
        ("deleted", |all, at| std::fs::remove_file(&all[at]).unwrap()),
        ("swapped", |all, at| {
            let (one, other) = (std::fs::read(&all[at]).unwrap(), std::fs::read(&all[(at + 1) % all.len()]).unwrap());
            std::fs::write(&all[at], other).unwrap();
            std::fs::write(&all[(at + 1) % all.len()], one).unwrap();
        }),
        ("overwritten", |all, at| std::fs::write(&all[at], babble(9, 5000)).unwrap()),
    ];
    let (mut refused, mut whole) = (0, 0);
    for (what, damage) in cases {
        let bed = bed();
        bed.run(&["begin", "app.toml"]).ends(0);
        bed.run(&["apply"]).ends(0);
        let all = archives(&bed);
        let mut is_back = false;
        for at in 0..all.len() {
            let kept: Vec<Vec<u8>> = all.iter().map(|path| std::fs::read(path).unwrap()).collect();
            damage(&all, at);
            bed.run(&["store", "verify"]).ends(8);
            match bed.run(&["rollback", "app-1"]).status {
                // Nothing of it was needed, or it is found where it is now.
                0 => {
                    assert_eq!((bed.read("app/f03"), note(&bed)), (babble(3, 3000), "old".to_owned()));
                    whole += 1;
                    is_back = true;
                }
                5 => {
                    assert_eq!((bed.read("app/f03").as_str(), note(&bed).as_str()), ("new\n", "new"), "{what}");
                    refused += 1;
                }
                other => panic!("{what}: {other}"),
            }
            all.iter().zip(kept).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
            if is_back {
                break;
            }
        }
        bed.run(&["store", "reindex"]).ends(0);
        bed.run(&["store", "verify"]).ends(0);
        if !is_back {
            bed.run(&["rollback", "app-1"]).ends(0);
        }
        assert_eq!((bed.read("app/f03"), note(&bed)), (babble(3, 3000), "old".to_owned()), "{what}");
    }
    assert!(refused >= 8 && whole >= 1, "{refused} {whole}");
}

/// Whatever happens to the list of what was pruned: what is open goes back all the same, what was pruned is never taken
/// for a snapshot, it is said what to do, and the next prune, by hand or by `keep`, has the list whole again.
#[test]
fn a_damaged_list_of_what_was_pruned_is_in_nobodys_way_and_is_written_anew() {
    type Damage = fn(&PathBuf, &[u8]);
    let cases: [(&str, Damage); 8] = [
        ("another name", |path, _| flip(path, 70)),
        ("no name", |path, whole| std::fs::write(path, [b"x", &whole[1..]].concat()).unwrap()),
        ("no text", |path, whole| std::fs::write(path, [&[whole[0] ^ 0x80], &whole[1..]].concat()).unwrap()),
        ("two lines in one", |path, _| flip(path, 64)),
        ("truncated", |path, whole| std::fs::write(path, &whole[..whole.len() - 100]).unwrap()),
        ("emptied", |path, _| std::fs::write(path, "").unwrap()),
        ("deleted", |path, _| std::fs::remove_file(path).unwrap()),
        ("not to be read", |path, _| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
    ];
    let bed = bed();
    bed.write("app.toml", &(bed.read("app.toml") + "[policy]\nkeep = 1\n"));
    for _ in 0..3 {
        bed.run(&["run", "app.toml"]).ends(0);
    }
    let list = bed.state().join("store/dropped");
    let read = || -> BTreeSet<String> {
        String::from_utf8_lossy(&std::fs::read(&list).unwrap()).lines().map(str::to_owned).collect()
    };
    // What damage has made of a name stays, and is nobody's.
    let mut nobodys = BTreeSet::new();
    let (mut found, mut harmless) = (0, 0);
    for (number, (what, damage)) in cases.into_iter().enumerate() {
        let pruned: BTreeSet<String> = read().difference(&nobodys).cloned().collect();
        assert!(pruned.len() >= 6, "three resources of two snapshots: {pruned:?}");
        bed.write("app/f03", what);
        bed.run(&["begin", "app.toml"]).ends(0);
        bed.run(&["apply"]).ends(0);
        damage(&list, &std::fs::read(&list).unwrap());
        if list.is_file() {
            nobodys.extend(read().difference(&pruned).cloned());
        }

        let said = bed.run(&["store", "verify"]);
        match said.status {
            0 => harmless += 1,
            8 => {
                found += 1;
                let kept = said.out.lines().find(|line| !line.starts_with("app-1,") && !line.starts_with("app-2,"));
                assert_eq!(kept, None, "{what}");
                assert!(said.err.ends_with(WHERE_PRUNED), "{what}: {}", said.err);
            }
            1 => {
                found += 1;
                insta::assert_snapshot!(masked(&said, &bed), @r"
                error: cannot read `BED/state/store/dropped`
                  cause: Is a directory (os error 21)
                hint: move it away: `txupgrade store prune` then writes it anew
                ");
            }
            other => panic!("{what}: {other}: {}{}", said.out, said.err),
        }
        let said = bed.run(&["store", "export", "app-1", "app-1.tar.zst"]);
        assert!([1, 8].contains(&said.status) && !bed.exists("app-1.tar.zst"), "{what}: {}", said.err);

        let is_whole_again = || {
            assert_eq!(pruned.difference(&read()).next(), None, "{what}");
            bed.run(&["store", "verify"]).ends(0);
            let said = bed.run(&["store", "export", "app-1", "app-1.tar.zst"]).ends(1);
            assert!(said.err.starts_with("error: the snapshot of `app-1` was pruned"), "{what}: {}", said.err);
        };
        let by_hand = number % 2 == 1;
        if list.is_dir() {
            bed.run(&["store", "prune"]).ends(1);
        } else if by_hand {
            bed.run(&["store", "prune"]).ends(0);
            is_whole_again();
        }
        bed.run(&["rollback"]).ends(0);
        assert_eq!(bed.read("app/f03"), what);
        if list.is_dir() {
            std::fs::remove_dir(&list).unwrap();
            bed.run(&["store", "prune"]).ends(0);
        }
        is_whole_again();
    }
    println!("damage of the list of what was pruned: {found} found, {harmless} without effect");
    // Of a single name it depends on whose it is: nobody looks for what was captured ahead.
    assert!(found >= 3, "{found} {harmless}");
}

const WHERE_PRUNED: &str =
    "hint: where that was pruned, `store/dropped` has lost it: `txupgrade store prune` notes it again\n";

#[test]
fn a_diff_of_what_has_captured_nothing_names_the_last_snapshot() {
    let bed = bed();
    let works = bed.read("app.toml");
    bed.write(
        "app.toml",
        &works.replace(
            "[[step]]",
            "[[check]]\nname = \"no\"\nat = \"before\"\nkind = \"command\"\nshell = \"false\"\n[[step]]",
        ),
    );
    bed.run(&["run", "app.toml"]).ends(1);
    insta::assert_snapshot!(masked(&bed.run(&["diff"]).ends(1), &bed), @r"
    error: `app-1` has captured nothing
    hint: `txupgrade snapshot PLAN` takes one
    ");
    bed.write("app.toml", &works);
    bed.run(&["snapshot", "app.toml"]).ends(0);
    bed.write("my plan.toml", &works.replace("shell = '''", "shell = '''\nexit 1"));
    let said = bed.run(&["run", "my plan.toml"]).ends(3);
    insta::assert_snapshot!(said.told(&bed).lines().last().unwrap(), @r"
    hint: its output is in `txupgrade log app-3 up`; after a fix, `txupgrade run 'my plan.toml'` again
    ");
    bed.write(
        "app.toml",
        &works.replace(
            "[[step]]",
            "[[check]]\nname = \"no\"\nat = \"before\"\nkind = \"command\"\nshell = \"false\"\n[[step]]",
        ),
    );
    bed.run(&["run", "app.toml"]).ends(1);
    insta::assert_snapshot!(masked(&bed.run(&["diff"]).ends(1), &bed), @r"
    error: `app-4` has captured nothing
    hint: the last that has a snapshot is `app-3`: `txupgrade diff app-3`
    ");
}
