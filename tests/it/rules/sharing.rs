//! *Sharing*: overlaps, locks, looking commands, side copies, trust, nested resources.

use super::{App, NEW, OLD, ended, send, wait_until};

#[test]
fn transactions_overlap_when_paths_are_equal_or_nested() {
    let app = App::new();
    app.bed.write("app/sub/file", "x");
    app.run("begin plan.toml").ends(0);
    for path in ["app", "app/sub", ""] {
        let path = app.bed.path(path);
        let before = app.events();
        let said = app.run(&format!("begin --name other path={}", path.display())).ends(if path == app.bed.path("") {
            // It holds the state directory, too; that is refused first.
            said_status(&app, &path)
        } else {
            6
        });
        assert_eq!(app.events(), before);
        if path != app.bed.path("") {
            assert!(said.err.contains("app-1"), "the other one is named: {}", said.err);
        }
    }
    app.run("rollback app-1").ends(0);
}

/// A path that holds the state directory is refused with the status of a plan that is wrong, or of a failure.
fn said_status(app: &App, path: &std::path::Path) -> i32 {
    let status = app.run(&format!("begin --name other path={}", path.display())).status;
    assert!(status == 1 || status == 2, "{status}");
    status
}

#[test]
fn transactions_overlap_when_the_plan_name_is_the_same() {
    let app = App::new();
    app.bed.write("other/file", "x");
    app.run("begin plan.toml").ends(0);
    let said = app.run(&format!("begin --name app path={}/other", app.root())).ends(6);
    assert!(said.err.contains("app-1"), "{}", said.err);
    app.run("rollback").ends(0);
}

#[test]
fn transactions_overlap_when_a_replace_touches_what_another_captures() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.bed.write("new/file", "x");
    app.bed.write(
        "swap.toml",
        "format = 1\nname = \"swap\"\n[[resource]]\nname = \"all\"\nkind = \"path\"\npath = \"@BED@/app/data\"\n\
         [[step]]\nname = \"swap\"\nkind = \"replace\"\npath = \"@BED@/app\"\nwith = \"@BED@/new\"\n",
    );
    app.run("run swap.toml").ends(6);
    app.run("rollback").ends(0);
}

#[test]
fn two_at_once_that_do_not_overlap_both_commit() {
    let app = App::new().script(
        "install",
        "echo 2.0.0 > @BED@/app/version; touch @BED@/one\n\
         for i in $(seq 1500); do [ -e @BED@/two ] && exit 0; sleep 0.02; done; exit 1",
    );
    app.bed.write("other/file", "old");
    app.bed.script(
        "bin/other",
        "echo new > @BED@/other/file; touch @BED@/two\n\
         for i in $(seq 1500); do [ -e @BED@/one ] && exit 0; sleep 0.02; done; exit 1",
    );
    app.bed.write(
        "other.toml",
        "format = 1\nname = \"other\"\n[[resource]]\nname = \"file\"\nkind = \"path\"\npath = \"@BED@/other\"\n\
         [[step]]\nname = \"write\"\nkind = \"command\"\nrun = [\"@BED@/bin/other\"]\n",
    );
    let (one, two) = (app.start("run plan.toml"), app.start("run other.toml"));
    ended(one).ends(0);
    ended(two).ends(0);
    assert_eq!(app.world(), NEW);
    assert_eq!(app.bed.read("other/file"), "new\n");
}

#[test]
fn a_running_transaction_is_locked_and_its_process_is_named() {
    let app = App::new().script(
        "install",
        "touch @BED@/waits\nfor i in $(seq 1500); do [ -e @BED@/go ] && break; sleep 0.02; done\n\
         echo 2.0.0 > @BED@/app/version",
    );
    let run = app.start("run plan.toml");
    let pid = run.id();
    wait_until("it is under way", || app.bed.exists("waits"));
    for verb in ["rollback app-1", "apply app-1", "commit app-1"] {
        let said = app.run(verb).ends(7);
        assert!(said.err.contains(&format!("process {pid}: ")), "{}", said.err);
        assert!(said.err.contains("run plan.toml"), "with its command: {}", said.err);
    }
    let status = app.run("status").ends(0).out;
    assert!(status.contains(&format!("under way in process {pid}")), "{status}");
    app.run("recover").ends(10);
    app.touch("go");
    ended(run).ends(0);
    assert_eq!(app.world(), NEW);
}

const LOOKING: [&str; 7] =
    ["plan plan.toml", "status", "history", "show app-1", "log app-1", "diff app-1", "rollback --dry-run"];

#[test]
fn commands_that_look_leave_nothing_behind_where_there_is_no_state_directory() {
    let app = App::new();
    for command in LOOKING {
        let status = app.run(command).status;
        assert!(matches!(status, 0..=2), "{command}: {status}");
        assert!(!app.bed.exists("state"), "{command}");
    }
}

/// Every file of the state directory with its content and times.
fn contents(app: &App) -> Vec<(std::path::PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut dirs = vec![app.bed.state()];
    while let Some(dir) = dirs.pop() {
        found.push((dir.clone(), Vec::new(), dir.metadata().unwrap().modified().unwrap()));
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                let meta = entry.metadata().unwrap();
                found.push((entry.path(), std::fs::read(entry.path()).unwrap(), meta.modified().unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn commands_that_look_change_nothing_in_a_state_directory() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    app.bed.write("app/data", "since\n");
    let before = contents(&app);
    for command in ["plan plan.toml --set a=b", "status", "history", "show", "log app-1", "diff", "rollback --dry-run"]
    {
        app.run(command);
        let after = contents(&app);
        let paths = |all: &[(std::path::PathBuf, Vec<u8>, std::time::SystemTime)]| {
            all.iter().map(|one| one.0.clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&after), paths(&before), "{command}");
        assert!(after == before, "{command}");
    }
}

#[test]
fn commands_that_look_work_on_a_read_only_state_directory() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    for (command, status) in [("status", 0), ("history", 0), ("show", 0), ("log app-1", 0), ("diff", 9)] {
        // In a mount namespace of its own, so that nothing stays mounted; root could write to any directory else.
        let line = format!(
            "mount --bind {0} {0} && mount -o remount,bind,ro {0} && ! touch {0}/x 2>/dev/null && exec {1} --state-dir {0} {command}",
            app.bed.state().display(),
            env!("CARGO_BIN_EXE_txupgrade"),
        );
        let output = std::process::Command::new("unshare").args(["--mount", "sh", "-c", &line]).output();
        let said = crate::bed::Said::of(output.expect("`unshare` is there (Debian: apt-get install util-linux)"));
        said.ends(status);
    }
    assert!(!app.bed.exists("state/x"));
}

#[test]
fn side_copies_are_swept_after_the_end_and_a_restore_leaves_none() {
    let swap = "[[step]]\nname = \"swap\"\nkind = \"replace\"\npath = \"@BED@/app\"\nwith = \"@BED@/app-2\"\n";
    for (broken, status, world) in [(false, 0, "2.0.0 new up"), (true, 3, OLD)] {
        let app = App::new();
        app.bed.write("app-2/version", "2.0.0\n");
        app.bed.write("app-2/data", "fresh\n");
        let app = app.edit("[[step]]\nname = \"migrate\"", &format!("{swap}\n[[step]]\nname = \"migrate\""));
        if broken {
            app.touch("broken");
        }
        app.run("run plan.toml").ends(status);
        assert_eq!(app.world(), world);
        assert_eq!(app.side_copies(), Vec::<std::path::PathBuf>::new());
        let scratch = std::fs::read_dir("/var/tmp").unwrap().flatten();
        let names: Vec<String> = scratch.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let place = blake3::hash(app.bed.state().as_os_str().as_encoded_bytes()).to_hex();
        assert!(!names.contains(&format!("txupgrade-app-1-{}", &place[..8])), "{names:?}");
    }
}

#[test]
fn displaced_copies_are_there_until_the_commit_and_are_never_captured_or_restored_away() {
    let app = App::new();
    app.bed.write("app-2/version", "2.0.0\n");
    app.bed.write("app-2/data", "new\n");
    let swap = "[[step]]\nname = \"swap\"\nkind = \"replace\"\npath = \"@BED@/app\"\nwith = \"@BED@/app-2\"\n";
    let app = app.edit("[[step]]\nname = \"migrate\"", &format!("{swap}\n[[step]]\nname = \"migrate\""));
    app.run("begin plan.toml").ends(0);
    app.run("apply").ends(0);
    assert!(!app.side_copies().is_empty(), "what was displaced is kept until commit");
    let said = app.run("diff").ends(9);
    assert!(!said.out.contains(".txupgrade-"), "{}", said.out);
    app.run("commit").ends(0);
    assert!(app.side_copies().is_empty());
    assert_eq!(app.world(), NEW);
}

#[test]
fn run_by_root_a_script_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let app = App::new();
    let mode =
        |mode| std::fs::set_permissions(app.bed.path("bin/migrate"), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o775);
    let said = app.run("run plan.toml").ends(2);
    assert!(said.err.contains("bin/migrate` is not safe to run"), "{}", said.err);
    assert_eq!((app.world().as_str(), app.log().as_str()), (OLD, ""));
    mode(0o755);
    app.run("run plan.toml").ends(0);
}

const NESTED: &str = "format = 1\nname = \"nest\"\n\
    [[resource]]\nname = \"tree\"\nkind = \"path\"\npath = \"@BED@/tree\"\n\
    [[resource]]\nname = \"db\"\nkind = \"sqlite\"\npath = \"@BED@/tree/data/notes.db\"\n";

#[test]
fn a_nested_sqlite_resource_takes_its_wal_along_and_the_outer_one_leaves_it_out() {
    let app = App::new();
    app.bed.write("tree/file", "old");
    app.bed.write("tree/data/other", "old");
    app.bed.write("nest.toml", NESTED);
    let db = app.bed.path("tree/data/notes.db");
    let live = rusqlite::Connection::open(&db).unwrap();
    live.execute_batch(
        "pragma journal_mode = wal; pragma wal_autocheckpoint = 0; create table t (x); insert into t values (1)",
    )
    .unwrap();
    assert!(app.bed.exists("tree/data/notes.db-wal"), "the row is in the log only");
    app.run("begin nest.toml").ends(0);
    let plan = app.run("plan nest.toml").out;
    assert!(plan.contains("notes.db"), "{plan}");
    live.execute_batch("insert into t values (2)").unwrap();
    drop(live);
    app.bed.write("tree/file", "new");
    std::fs::remove_dir_all(app.bed.path("tree/data")).unwrap();
    app.run("rollback").ends(0);
    assert_eq!((app.bed.read("tree/file").as_str(), app.bed.read("tree/data/other").as_str()), ("old", "old"));
    let rows: i64 =
        rusqlite::Connection::open(&db).unwrap().query_row("select sum(x) from t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1, "what was in the log was captured, and what came later is gone");
}

#[test]
fn restoring_the_outer_resource_does_not_remove_the_inner_one() {
    let app = App::new();
    app.bed.write("tree/file", "old");
    std::fs::create_dir(app.bed.path("tree/data")).unwrap();
    app.bed.write("nest.toml", NESTED);
    let open = || rusqlite::Connection::open(app.bed.path("tree/data/notes.db")).unwrap();
    open().execute_batch("create table t (x); insert into t values (1)").unwrap();
    app.run("begin nest.toml").ends(0);
    open().execute_batch("insert into t values (2)").unwrap();
    app.bed.write("tree/file", "new");
    app.run("rollback").ends(0);
    let events = app.bed.events("nest-1");
    let at = |event: &str| events.iter().position(|other| other == event).unwrap();
    assert!(at("succeeded restore tree") < at("started restore db"), "outer before inner");
    assert_eq!(open().query_row("select sum(x) from t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_resource_that_holds_the_state_directory_is_refused() {
    let app = App::new();
    let said = app.run(&format!("begin --name all path={}", app.root()));
    assert!(matches!(said.status, 1 | 2), "{}", said.status);
    assert!(said.err.contains("state directory"), "{}", said.err);
    let said = app.run(&format!("begin --name inside path={}/state/logs", app.root()));
    assert!(matches!(said.status, 1 | 2), "{}", said.status);
    assert_eq!(app.run("status").ends(0).out, "");
}

#[test]
fn a_resource_that_is_not_there_is_a_state_and_rollback_removes_what_came() {
    let app = App::new();
    app.run(&format!("begin --name new path={0}/conf sqlite={0}/new.db", app.root())).ends(0);
    app.bed.write("conf/file", "new");
    rusqlite::Connection::open(app.bed.path("new.db")).unwrap().execute_batch("create table t (x)").unwrap();
    app.run("rollback").ends(0);
    assert!(!app.bed.exists("conf") && !app.bed.exists("new.db"));
}

#[test]
fn prove_belongs_to_begin_and_run_and_snapshot_does_it_when_asked() {
    let app = App::new();
    app.run("snapshot plan.toml").ends(0);
    assert!(!app.bed.events("app-1").contains(&"started prove code".to_owned()));
    app.run("snapshot plan.toml --prove").ends(0);
    assert!(app.bed.events("app-2").contains(&"succeeded prove code".to_owned()));
    app.run("run plan.toml").ends(0);
    assert!(app.bed.events("app-3").contains(&"succeeded prove code".to_owned()));
}

#[test]
fn dead_owners_leave_their_work_directories_to_the_next_command_that_writes() {
    let app = App::new().script("install", "touch @BED@/waits; sleep 300");
    let mut run = app.start("run plan.toml");
    wait_until("it is under way", || app.bed.exists("waits"));
    send("KILL", run.id());
    run.wait().unwrap();
    let work = || std::fs::read_dir(app.bed.state().join("tmp")).unwrap().count();
    assert_eq!(work(), 1);
    app.run("status").ends(10);
    assert_eq!(work(), 1, "who looks cleans nothing up");
    app.run("recover").ends(0);
    assert_eq!(work(), 0);
    assert_eq!(app.world(), OLD);
}
