//! What must not get lost or be claimed, found by people who used the program for the first time.

use super::bed::Bed;

/// A plan that replaces `w/app` by `new`, where `uploads/` is excluded.
fn replacing(bed: &Bed, more: &str) {
    bed.write("w/app/v", "v1\n");
    bed.write("w/app/uploads/p", "precious\n");
    bed.write("w/app/deep/er/uploads/q", "precious too\n");
    bed.write("new/v", "v2\n");
    bed.write("new/uploads/p", "of the release\n");
    bed.write(
        "p.toml",
        &format!(
            "format = 1\nname = \"x\"\n\
             [[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"w/app\"\nexclude = [\"uploads/\"]\n\
             [[step]]\nname = \"swap\"\nkind = \"replace\"\npath = \"w/app\"\nwith = \"new\"\n{more}"
        ),
    );
}

#[test]
fn what_a_resource_excludes_stays_when_its_tree_is_replaced() {
    let bed = Bed::new();
    replacing(&bed, "");
    bed.run(&["run", "p.toml"]).ends(0);
    assert_eq!(bed.read("w/app/v"), "v2\n");
    assert_eq!(bed.read("w/app/uploads/p"), "precious\n");
    assert_eq!(bed.read("w/app/deep/er/uploads/q"), "precious too\n");
    bed.run(&["rollback", "--yes"]).ends(0);
    assert_eq!(bed.read("w/app/v"), "v1\n");
    assert_eq!(bed.read("w/app/uploads/p"), "precious\n");
    let beside: Vec<_> = std::fs::read_dir(bed.path("w")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["app"]);
}

#[test]
fn what_stays_is_back_in_the_old_tree_when_the_upgrade_fails() {
    let bed = Bed::new();
    replacing(&bed, "[[step]]\nname = \"fails\"\nkind = \"command\"\nrun = [\"false\"]\n");
    bed.run(&["run", "p.toml"]).ends(3);
    assert_eq!(bed.read("w/app/v"), "v1\n");
    assert_eq!(bed.read("w/app/uploads/p"), "precious\n");
    assert_eq!(bed.read("w/app/deep/er/uploads/q"), "precious too\n");
}

#[test]
fn what_no_resource_holds_is_kept_where_a_step_carries_it() {
    let bed = Bed::new();
    bed.write("w/app/data/p", "precious\n");
    bed.write("new/v", "v2\n");
    bed.write(
        "p.toml",
        "format = 1\nname = \"x\"\n\
         [[step]]\nname = \"swap\"\nkind = \"replace\"\npath = \"w/app\"\nwith = \"new\"\ncarry = [\"data/\"]\n",
    );
    bed.run(&["run", "p.toml"]).ends(0);
    assert_eq!(bed.read("w/app/v"), "v2\n");
    assert_eq!(bed.read("w/app/data/p"), "precious\n");
}

#[test]
fn what_stays_survives_a_death_at_every_rename() {
    // The renames of the step and of its undo are counted by their system calls.
    for number in 1..=14 {
        let bed = Bed::new();
        replacing(&bed, "[[step]]\nname = \"fails\"\nkind = \"command\"\nrun = [\"false\"]\n");
        let traced = format!("inject=rename,renameat,renameat2:signal=SIGKILL:when={number}");
        let program = bed.command(&["run", "p.toml"]);
        let status = std::process::Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-e", "trace=rename,renameat,renameat2", "-e", &traced])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(bed.path(""))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(status.status.code() != Some(0), "{number}");
        bed.run(&["recover"]).ends(0);
        assert_eq!(bed.read("w/app/v"), "v1\n", "{number}");
        assert_eq!(bed.read("w/app/uploads/p"), "precious\n", "{number}");
        assert_eq!(bed.read("w/app/deep/er/uploads/q"), "precious too\n", "{number}");
    }
}

#[test]
fn what_wrote_before_it_failed_to_come_up_is_restored_again() {
    let bed = Bed::new();
    bed.write("app/f", "old\n");
    bed.write("block", "");
    bed.write(
        "p.toml",
        "format = 1\nname = \"r\"\n\
         [[quiesce]]\nname = \"srv\"\nkind = \"command\"\nrun = [\"true\"]\n\
         resume = { shell = \"echo started >> app/f; test ! -e block\" }\n\
         [[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"app\"\n\
         [[step]]\nname = \"s\"\nkind = \"command\"\nshell = \"echo new > app/f; false\"\n",
    );
    bed.run(&["run", "p.toml"]).ends(5);
    assert_eq!(bed.read("app/f"), "old\nstarted\n");
    std::fs::remove_file(bed.path("block")).unwrap();
    bed.run(&["rollback"]).ends(0);
    assert_eq!(bed.read("app/f"), "old\nstarted\n", "restored, and then started once");
}

#[test]
fn a_directory_above_that_became_a_symlink_is_not_followed() {
    let bed = Bed::new();
    bed.write("d/home/f", "mine\n");
    bed.write("out/home/f", "foreign\n");
    let home = bed.path("d/home");
    bed.run(&["begin", "--name", "q", &format!("path={}", home.display())]).ends(0);
    std::fs::rename(bed.path("d"), bed.path("d2")).unwrap();
    std::os::unix::fs::symlink(bed.path("out"), bed.path("d")).unwrap();
    let said = bed.run(&["rollback"]).ends(5);
    assert!(
        said.err.contains("`d-home` is not where it was captured") || said.err.contains("is not where it was captured")
    );
    assert_eq!(bed.read("out/home/f"), "foreign\n");
    std::fs::remove_file(bed.path("d")).unwrap();
    std::fs::rename(bed.path("d2"), bed.path("d")).unwrap();
    bed.run(&["rollback"]).ends(0);
    assert_eq!(bed.read("d/home/f"), "mine\n");
}

#[test]
fn what_nothing_takes_back_is_not_called_rolled_back() {
    let bed = Bed::new();
    bed.write("v/f", "1\n");
    bed.write(
        "i.toml",
        "format = 1\nname = \"i\"\n\
         [[step]]\nname = \"s\"\nkind = \"command\"\nshell = \"echo BROKEN > v/f\"\n\
         [[step]]\nname = \"t\"\nkind = \"command\"\nshell = \"false\"\n",
    );
    let said = bed.run(&["run", "i.toml"]).ends(4);
    let first = said.err.lines().find(|line| line.starts_with("error:")).unwrap();
    assert_eq!(first, "error: step `t` failed; what `s` and `t` did stays: no resource holds it, and it has no undo");
}

#[test]
fn a_resource_that_is_not_there_is_said() {
    let bed = Bed::new();
    let path = bed.path("shpo");
    let said = bed.run(&["begin", "--name", "shop", &format!("path={}", path.display())]).ends(0);
    assert!(
        said.told(&bed).contains("there is nothing at `BED/shpo`; a rollback removes what comes there"),
        "{}",
        said.err
    );
    bed.run(&["rollback"]).ends(0);
}

/// A bed in which a transaction is open, and what to begin another one with.
fn one_open() -> (Bed, [String; 4]) {
    let bed = Bed::new();
    let path = bed.write("app/f", "1\n");
    let begin = ["begin".to_owned(), "--name".to_owned(), "shop".to_owned(), format!("path={}", path.display())];
    bed.run(&begin.each_ref().map(String::as_str)).ends(0);
    (bed, begin)
}

/// Nothing acts on the journal or drops a snapshot, and nobody is told that all is well.
fn is_damage(bed: &Bed, begin: &[String; 4]) {
    let archives = bed.archives();
    for _ in 0..2 {
        for arguments in [
            &begin.each_ref().map(String::as_str)[..],
            &["status"],
            &["recover"],
            &["history", "--verify"],
            &["rollback"],
            &["store", "prune"],
            &["store", "prune", "--dry-run"],
        ] {
            let said = bed.run(arguments).ends(8);
            assert!(said.err.contains("journal"), "{}", said.err);
        }
    }
    assert_eq!(bed.archives(), archives);
}

#[test]
fn a_journal_that_is_gone_is_damage_and_not_a_new_beginning() {
    let (bed, begin) = one_open();
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(bed.state().join(name));
    }
    is_damage(&bed, &begin);
    assert!(!bed.exists("state/journal.db"));
    std::fs::write(bed.state().join("journal.db"), "").unwrap();
    is_damage(&bed, &begin);
    let said = bed.run(&["status"]).ends(8);
    insta::assert_snapshot!(said.told(&bed), @r"
    error: the journal of `BED/state` is gone
      cause: `journal.head` is there and `journal.db` is empty
    hint: put `journal.db` back from a backup; the snapshots are still in `store/archives`
    ");
}

#[test]
fn a_journal_of_yesterday_is_damage_and_not_the_truth() {
    let (bed, begin) = one_open();
    bed.run(&["rollback"]).ends(0);
    // A passive checkpoint at the end of each command has put all of it into the one file.
    let yesterday = std::fs::read(bed.state().join("journal.db")).unwrap();
    bed.run(&begin.each_ref().map(String::as_str)).ends(0);
    for name in ["journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(bed.state().join(name));
    }
    std::fs::write(bed.state().join("journal.db"), yesterday).unwrap();
    is_damage(&bed, &begin);
    let said = bed.run(&["status"]).ends(8);
    insta::assert_snapshot!(said.told(&bed), @r"
    error: the journal is damaged
      cause: it was cut off: it ends with event 17 of `shop-1`, and there were 26
    hint: put the `journal.*` files back from a backup; `txupgrade store list` and `store export` read the snapshots without
    ");
}

#[test]
fn what_was_captured_before_the_journal_begins_is_not_pruned() {
    let (bed, begin) = one_open();
    for name in ["journal.db", "journal.db-wal", "journal.db-shm", "journal.head"] {
        let _ = std::fs::remove_file(bed.state().join(name));
    }
    let archives = bed.archives();
    bed.write("app/f", "2\n");
    bed.run(&begin.each_ref().map(String::as_str)).ends(0);
    bed.run(&["rollback"]).ends(0);
    let said = bed.run(&["store", "prune"]).ends(0);
    insta::assert_snapshot!(said.err.lines().next().unwrap(), @"warning: what was captured for `shop-1` is older than the journal, which therefore cannot tell whether it is needed; it stays");
    assert!(archives.iter().all(|archive| archive.exists()));
}

#[test]
fn an_undoing_is_not_undone_while_a_later_one_stands_on_it() {
    let bed = Bed::new();
    bed.write("app/v", "1\n");
    for number in [2, 3] {
        bed.write(
            &format!("{number}.toml"),
            &format!(
                "format = 1\nname = \"kv\"\n[[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"app\"\n\
                 [[step]]\nname = \"s\"\nkind = \"command\"\nshell = \"echo {number} > app/v\"\n"
            ),
        );
        bed.run(&["run", &format!("{number}.toml")]).ends(0);
    }
    bed.run(&["rollback", "kv-1", "--yes", "--through"]).ends(0);
    assert_eq!(bed.read("app/v"), "1\n");
    let said = bed.run(&["rollback", "kv-3", "--yes"]).ends(1);
    assert!(said.err.contains("`kv-4`"), "{}", said.err);
    bed.run(&["rollback", "kv-3", "--yes", "--through"]).ends(0);
    assert_eq!(bed.read("app/v"), "3\n");
}
