//! *Going back*: proof first, undo, restore, recheck; stuck and the ways out.

use super::{App, OLD};

/// With undos that write themselves down; `no-undo-STEP` makes one fail.
fn with_undos() -> App {
    let mut app = App::new();
    for step in ["install", "migrate"] {
        app = app
            .edit(
                &format!("run  = [\"@BED@/bin/{step}\"]"),
                &format!("run  = [\"@BED@/bin/{step}\"]\nundo = [\"@BED@/bin/undo\", \"{step}\"]"),
            )
            .script("undo", "echo undo-$1 >> @BED@/log; if [ -e @BED@/no-undo-$1 ]; then echo stays; exit 1; fi");
    }
    app
}

#[test]
fn undos_run_first_in_reverse_order_also_that_of_the_step_that_failed() {
    let app = with_undos();
    app.touch("broken");
    app.run("run plan.toml").ends(3);
    assert_eq!(app.log(), "stop install migrate undo-migrate undo-install start");
    assert_eq!(app.world(), OLD);
    let events = app.bed.events("app-1");
    let at = |event: &str| events.iter().position(|other| other == event).unwrap();
    assert!(at("succeeded prove the snapshot") < at("started undo migrate"), "the proof comes before the first undo");
    assert!(at("succeeded undo install") < at("started restore code"));
}

#[test]
fn a_step_that_was_not_started_is_not_undone() {
    let app = with_undos().script("install", "echo install >> @BED@/log; exit 1");
    app.run("run plan.toml").ends(3);
    assert_eq!(app.log(), "stop install undo-install start");
}

#[test]
fn a_failure_before_the_resume_does_not_stop_again_on_the_way_back() {
    let app = App::new();
    app.touch("broken");
    app.run("run plan.toml").ends(3);
    assert_eq!(app.log(), "stop install migrate start");
}

/// An upgrade after which the page does not answer as long as the new release is there.
fn page_of_the_old_release_only(app: App) -> App {
    app.script("page", "[ -e @BED@/up ] && [ $(cat @BED@/app/version) = 1.0.0 ]")
}

#[test]
fn a_quiesce_runs_on_the_way_back_where_its_resume_was_started_since() {
    let app = page_of_the_old_release_only(App::new());
    app.run("run plan.toml").ends(3);
    assert_eq!(app.log(), "stop install migrate start stop start");
    assert_eq!(app.world(), OLD);
}

#[test]
fn without_expect_a_repeat_that_fails_after_an_earlier_success_is_a_warning() {
    let app = page_of_the_old_release_only(App::new());
    let migrate = app.bed.read("bin/migrate");
    let app = app.script("migrate", &format!("{migrate}\ntouch @BED@/no-stop"));
    let said = app.run("run plan.toml").ends(3);
    assert_eq!(app.world(), OLD);
    assert!(said.err.contains("quiesce `server` failed"), "{}", said.err);
}

fn expecting_a_port_free() -> App {
    App::new()
        .edit(
            "resume = [\"@BED@/bin/ctl\", \"start\"]",
            "resume = [\"@BED@/bin/ctl\", \"start\"]\nexpect = { checks = [\"free\"] }",
        )
        .edit(
            "[[quiesce]]",
            "[[check]]\nname = \"free\"\nkind = \"command\"\nat = \"named\"\nrun = [\"@BED@/bin/free\"]\n\n[[quiesce]]",
        )
        .script("free", "if [ -e @BED@/taken ]; then echo the port is taken; exit 1; fi")
}

#[test]
fn on_the_way_back_expect_decides_and_not_the_exit_status() {
    let app = page_of_the_old_release_only(expecting_a_port_free());
    let migrate = app.bed.read("bin/migrate");
    let app = app.script("migrate", &format!("{migrate}\ntouch @BED@/no-stop"));
    app.run("run plan.toml").ends(3);
    assert_eq!(app.world(), OLD);
}

#[test]
fn an_expect_that_is_not_seen_on_the_way_back_is_stuck() {
    let app = page_of_the_old_release_only(expecting_a_port_free());
    let migrate = app.bed.read("bin/migrate");
    let app = app.script("migrate", &format!("{migrate}\ntouch @BED@/taken"));
    let said = app.run("run plan.toml").ends(5);
    assert!(said.err.contains("quiesce `server` failed"), "{}", said.err);
    assert_eq!(app.bed.read("app/version").trim(), "2.0.0", "nothing is restored under a server that still writes");
    app.remove("taken");
    app.run("rollback").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn going_forward_an_expect_that_is_not_seen_fails_the_quiesce() {
    let app = expecting_a_port_free();
    app.touch("taken");
    app.run("run plan.toml").ends(1);
    assert_eq!(app.world(), OLD);
}

#[test]
fn a_failing_undo_does_not_stop_the_others_nothing_is_resumed_and_rollback_tries_again() {
    let app = with_undos();
    app.touch("broken");
    app.touch("no-undo-migrate");
    let said = app.run("run plan.toml").ends(5);
    assert_eq!(app.log(), "stop install migrate undo-migrate undo-install", "nothing is resumed");
    assert_eq!(app.world(), "1.0.0 old down", "what can be restored is restored");
    insta::assert_snapshot!(from_error(&said.told(&app.bed)), @r"
    error: step `migrate` failed, and app-1 is stuck on its way back: undo of `migrate` failed
      cause: `BED/bin/migrate` ended with exit status 3
      cause: its last line was: no such table
      also: undo of `migrate` failed: `BED/bin/undo migrate` ended with exit status 1: its last line was: stays
      restored: undo of `install` and `code`
      not restored: undo of `migrate`
      kept down: `server`
    hint: remove the cause, then `txupgrade rollback app-1` tries again
    hint: once it is restored by hand, `txupgrade release app-1 --resume` (or `--leave-down`) closes it
    ");
    let status = app.run("status").ends(10).out;
    assert!(status.contains("app-1: stuck: undo of `migrate` failed"), "{status}");
    app.remove("no-undo-migrate");
    app.run("rollback").ends(0);
    assert_eq!(app.world(), OLD);
    assert!(app.log().ends_with("undo-migrate start"), "only what failed is tried again: {}", app.log());
}

/// What was said from the line on that starts with `error:`.
fn from_error(text: &str) -> String {
    text.lines().skip_while(|line| !line.starts_with("error:")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_failing_restore_does_not_stop_the_others() {
    let app = App::new().add(
        "[[resource]]\nname = \"dump\"\nkind = \"command\"\n\
         dump = [\"cat\", \"@BED@/dump\"]\nload = [\"@BED@/bin/load\"]",
    );
    let app = app.script("load", "if [ -e @BED@/no-load ]; then exit 1; fi; cat > @BED@/dump");
    app.bed.write("dump", "rows\n");
    app.touch("broken");
    app.touch("no-load");
    let migrate = app.bed.read("bin/migrate");
    let app = app.script("migrate", &format!("echo fewer > @BED@/dump\n{migrate}"));
    let said = app.run("run plan.toml").ends(5);
    assert_eq!(app.world(), "1.0.0 old down");
    assert!(said.err.contains("restored: `code`\n"), "{}", said.err);
    assert!(said.err.contains("not restored: `dump`"), "{}", said.err);
    app.remove("no-load");
    app.run("rollback app-1").ends(0);
    assert_eq!((app.world().as_str(), app.bed.read("dump").as_str()), (OLD, "rows\n"));
}

fn stuck_with_a_displaced_copy() -> App {
    let app = with_undos().edit(
        "[[step]]\nname = \"migrate\"",
        "[[step]]\nname = \"swap\"\nkind = \"replace\"\npath = \"@BED@/share\"\nwith = \"@BED@/share-2\"\n\n\
         [[resource]]\nname = \"share\"\nkind = \"path\"\npath = \"@BED@/share\"\n\n[[step]]\nname = \"migrate\"",
    );
    app.bed.write("share/page", "old");
    app.bed.write("share-2/page", "new");
    app.touch("broken");
    app.touch("no-undo-install");
    app.run("run plan.toml").ends(5);
    app
}

#[test]
fn release_resume_starts_what_is_down_and_deletes_no_displaced_copy() {
    let app = stuck_with_a_displaced_copy();
    let before = app.side_copies();
    let said = app.run("release app-1 --resume").ends(0);
    assert!(app.bed.exists("up"));
    assert_eq!(app.side_copies(), before, "none is deleted");
    assert!(!before.is_empty(), "there was one");
    assert!(!said.err.contains("/var/tmp/"), "the scratch directory is none: {}", said.err);
    // What a restore put aside is in a directory of the store's own, not something that a step displaced.
    for copy in before.iter().filter(|copy| !copy.ends_with(".txupgrade-app-1-aside")) {
        assert!(said.err.contains(copy.to_str().unwrap()), "it is printed where `{}` is: {}", copy.display(), said.err);
    }
    assert!(app.run("history").ends(0).out.contains("released"));
    app.run("status").ends(0);
}

#[test]
fn release_leave_down_starts_nothing() {
    let app = stuck_with_a_displaced_copy();
    app.run("release app-1").ends(2);
    app.run("release app-1 --leave-down").ends(0);
    assert!(!app.bed.exists("up"));
    app.run("recover").ends(0);
    assert!(!app.side_copies().is_empty(), "nor does a later recover delete them");
}

#[test]
fn only_a_stuck_transaction_is_released() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    let said = app.run("release app-1 --resume").ends(1);
    assert!(said.err.contains("`app-1` is not stuck"), "{}", said.err);
    app.run("rollback").ends(0);
}

/// Flips a byte in the middle of each archive that is larger than `least`.
fn damage(app: &App, least: u64) {
    let mut found = 0;
    let mut dirs = vec![app.bed.state().join("store/archives")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else if entry.metadata().unwrap().len() > least {
                let mut bytes = std::fs::read(entry.path()).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
                std::fs::write(entry.path(), bytes).unwrap();
                found += 1;
            }
        }
    }
    assert!(found > 0, "there is an archive to damage");
}

#[test]
fn where_the_snapshot_is_damaged_nothing_is_changed_and_it_is_stuck_and_partial_goes_on() {
    let app = with_undos().add("[[resource]]\nname = \"big\"\nkind = \"path\"\npath = \"@BED@/big\"");
    let mut state = 1u32;
    let noise = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + u8::try_from(state >> 24).unwrap() % 90)
    };
    let text: String = (0..600_000).map(noise).collect();
    app.bed.write("big", &text);
    app.run("begin plan.toml").ends(0);
    app.run("apply").ends(0);
    app.bed.write("big", "gone");
    damage(&app, 200_000);
    let said = app.run("rollback").ends(5);
    assert_eq!(app.world(), "2.0.0 new down", "nothing is changed");
    assert_eq!(app.log(), "stop install migrate", "not even undone");
    assert!(said.err.contains("app-1 is stuck"), "{}", said.err);
    app.run("rollback app-1").ends(5);
    assert_eq!(app.log(), "stop install migrate");
    let said = app.run("rollback app-1 --partial").ends(5);
    assert_eq!(app.world(), "1.0.0 old down", "what can be restored is restored");
    assert!(said.err.contains("not restored: `big`"), "{}", said.err);
    app.run("release app-1 --resume").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn a_version_that_is_not_the_one_recorded_at_begin_does_not_pass_the_recheck() {
    let app = App::new().edit("@BED@/app/version\"]\nfrom", "@BED@/stamp\"]\nfrom");
    app.bed.write("stamp", "1.0.0\n");
    let app = app.script("install", "echo 2.0.0 > @BED@/stamp");
    app.touch("broken");
    let said = app.run("run plan.toml").ends(4);
    assert!(said.err.contains("everything was restored, but the recheck does not pass"), "{}", said.err);
    assert!(said.err.contains("version 2.0.0 is installed, and 1.0.0 was before"), "{}", said.err);
}

#[test]
fn every_both_check_is_asked_again_after_a_rollback() {
    let app = App::new();
    app.touch("broken");
    let migrate = app.bed.read("bin/migrate");
    let app = app.script("migrate", &format!("touch @BED@/ill\n{migrate}"));
    let said = app.run("run plan.toml").ends(4);
    assert!(said.err.contains("recheck `page` failed"), "{}", said.err);
    assert!(
        said.err.starts_with("error: step `migrate` failed") || said.err.contains("\nerror: step `migrate` failed"),
        "the first failure is not hidden: {}",
        said.err
    );
}

#[test]
fn without_a_log_a_task_on_the_way_back_is_done_all_the_same() {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\nundo = [\"@BED@/bin/undo\"]")
        .script("undo", "echo undo >> @BED@/log")
        .script("migrate", "mkdir @BED@/state/logs/app-1/undo-install.log\nexit 3");
    let said = app.run("run plan.toml").ends(3);
    assert_eq!(app.world(), OLD);
    assert_eq!(app.log(), "stop install undo start");
    assert!(said.err.contains("warning: the output of `undo install` is not kept: "), "{}", said.err);
}

#[test]
fn diagnose_runs_before_anything_is_undone_and_its_output_is_kept() {
    let app = with_undos()
        .add("[policy]\ndiagnose = [[\"@BED@/bin/why\"]]")
        .script("why", "echo why >> @BED@/log; echo the data is $(cat @BED@/app/data); exit 1");
    app.touch("broken");
    app.run("run plan.toml").ends(3);
    assert_eq!(app.log(), "stop install migrate why undo-migrate undo-install start");
    let log = app.run("log app-1").ends(0).out;
    assert!(log.contains("the data is half"), "{log}");
}
