//! The table of exit statuses (design §6): each is reached by the real program.

use super::{App, ended, send, wait_until};

#[test]
fn status_0_done_and_a_rollback_that_was_asked_for() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.run("rollback").ends(0);
    app.run("run plan.toml").ends(0);
}

#[test]
fn status_1_failed_or_refused_and_nothing_was_changed() {
    let app = App::new();
    app.touch("ill");
    app.run("run plan.toml").ends(1);
    app.run("apply").ends(1);
}

#[test]
fn status_2_the_command_line_or_the_plan_is_wrong() {
    let app = App::new();
    app.run("upgrade").ends(2);
    app.run("run nowhere.toml").ends(2);
    app.bed.write("wrong.toml", "format = 1\nname = \"a\"\n[[step]]\nname = \"x\"\nkind = \"comand\"\n");
    app.run("run wrong.toml").ends(2);
    app.run("plan wrong.toml").ends(2);
}

#[test]
fn status_3_failed_and_rolled_back() {
    let app = App::new();
    app.touch("broken");
    app.run("run plan.toml").ends(3);
}

#[test]
fn status_4_rolled_back_but_the_recheck_does_not_pass() {
    let app = App::new().script("migrate", "touch @BED@/ill; exit 1");
    app.run("run plan.toml").ends(4);
}

/// An upgrade whose undo fails.
fn stuck(app: App) -> App {
    app.edit("run  = [\"@BED@/bin/migrate\"]", "run  = [\"@BED@/bin/migrate\"]\nundo = [\"false\"]")
}

#[test]
fn status_5_stuck() {
    let app = stuck(App::new());
    app.touch("broken");
    app.run("run plan.toml").ends(5);
    app.run("recover").ends(5);
    app.run("rollback").ends(5);
    app.run("release app-1 --resume").ends(0);
}

#[test]
fn status_6_an_unfinished_transaction_overlaps() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.run("run plan.toml").ends(6);
    app.run("rollback").ends(0);
}

/// A run in its step `install`, which waits.
fn under_way(app: &App) -> std::process::Child {
    app.bed.script(
        "bin/install",
        "touch @BED@/waits; for i in $(seq 1500); do [ -e @BED@/go ] && break; sleep 0.02; done",
    );
    let run = app.start("run plan.toml");
    wait_until("the step is under way", || app.bed.exists("waits"));
    run
}

#[test]
fn status_7_locked_by_another_process_and_130_and_143() {
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let app = App::new();
        let run = under_way(&app);
        app.run("rollback").ends(7);
        send(signal, run.id());
        ended(run).ends(status);
    }
}

#[test]
fn status_8_damage_found() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    app.run("history --verify").ends(0);
    let journal = rusqlite::Connection::open(app.bed.state().join("journal.db")).unwrap();
    let triggers: Vec<String> = journal
        .prepare("select name from sqlite_master where type = 'trigger'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(journal.execute("update event set at = '2000-01-01T00:00:00Z' where seq = 3", []).is_err(), "insert only");
    triggers.iter().for_each(|name| journal.execute_batch(&format!("drop trigger {name}")).unwrap());
    journal.execute("update event set at = '2000-01-01T00:00:00Z' where seq = 3", []).unwrap();
    drop(journal);
    app.run("history --verify").ends(8);
}

#[test]
fn status_9_differences_found() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    app.run("diff").ends(9);
    app.run("rollback --yes").ends(0);
    app.run("diff app-1").ends(0);
}

#[test]
fn status_10_waiting() {
    let app = App::new().add("[policy]\nconfirm_within = \"10m\"\non_failure = \"hold\"");
    app.touch("broken");
    app.run("run plan.toml").ends(10);
    app.run("status").ends(10);
    app.run("recover").ends(10);
    app.run("apply").ends(10);
    app.remove("broken");
    app.run("apply").ends(10);
    app.run("confirm").ends(0);
}

#[test]
fn stuck_outranks_the_signal_that_turned_it_back() {
    let app = stuck(App::new()).script("migrate", "touch @BED@/waits; sleep 300");
    let run = app.start("run plan.toml");
    wait_until("the step is under way", || app.bed.exists("waits"));
    send("INT", run.id());
    ended(run).ends(5);
    app.run("release app-1 --leave-down").ends(0);
}

#[test]
fn an_unsound_recheck_outranks_the_signal_too() {
    let app = App::new().script("migrate", "touch @BED@/ill @BED@/waits; sleep 300");
    let run = app.start("run plan.toml");
    wait_until("the step is under way", || app.bed.exists("waits"));
    send("TERM", run.id());
    ended(run).ends(4);
}

#[test]
fn json_errors_say_the_same_status() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    for (command, status) in [("--json run plan.toml", 6), ("--json commit", 1), ("--json run nowhere.toml", 2)] {
        let said = app.run(command).ends(status);
        let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(told["exit"].as_i64(), Some(i64::from(status)), "{}", said.out);
    }
    app.run("rollback").ends(0);
}
