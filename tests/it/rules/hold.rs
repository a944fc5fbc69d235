//! *Open and waiting*: `on_failure = "hold"` and `confirm_within`.

use std::time::{Duration, Instant};

use super::{App, NEW, OLD, ended, send, wait_until};

fn holding() -> App {
    let app = App::new().add("[policy]\non_failure = \"hold\"");
    app.touch("broken");
    app
}

fn to_confirm(within: &str) -> App {
    App::new().add(&format!("[policy]\nconfirm_within = \"{within}\""))
}

#[test]
fn a_failure_on_hold_leaves_it_open_and_services_as_they_are() {
    let app = holding();
    let said = app.run("run plan.toml").ends(10);
    assert_eq!(app.world(), "2.0.0 half down");
    assert_eq!(app.log(), "stop install migrate");
    insta::assert_snapshot!(last_lines(&said.told(&app.bed), "error:"), @r"
    error: step `migrate` failed; app-1 is on hold
      cause: `BED/bin/migrate` ended with exit status 3
      cause: its last line was: no such table
    hint: its output is in `txupgrade log app-1 migrate`
      kept down: `server`
      next: `txupgrade apply app-1` runs it again (`--skip migrate`: it is done by hand)
      next: `txupgrade rollback app-1` puts everything back
    ");
    app.run("status").ends(10);
    app.run("rollback").ends(0);
    assert_eq!(app.world(), OLD);
}

/// What was said from the first line on that starts with `from`.
fn last_lines(text: &str, from: &str) -> String {
    text.lines().skip_while(|line| !line.starts_with(from)).collect::<Vec<_>>().join("\n")
}

#[test]
fn apply_runs_the_failed_step_again() {
    let app = holding();
    app.run("begin plan.toml").ends(0);
    app.run("apply").ends(10);
    app.remove("broken");
    app.run("apply").ends(0);
    assert_eq!(app.log(), "stop install migrate migrate", "and only that one");
    app.run("commit").ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn apply_skip_after_a_run_takes_the_failed_step_as_done_by_hand() {
    let app = holding();
    app.run("run plan.toml").ends(10);
    app.run("apply --skip nothing").ends(2);
    app.bed.write("app/data", "new\n");
    app.run("apply --skip migrate").ends(0);
    assert_eq!(app.world(), NEW);
    assert_eq!(app.log(), "stop install migrate start");
}

#[test]
fn commit_on_hold_asks_the_checks_again() {
    let app = holding();
    app.remove("broken");
    app.bed.script("bin/migrate", "echo migrate >> @BED@/log\necho new > @BED@/app/data\ntouch @BED@/ill");
    app.run("run plan.toml").ends(10);
    assert_eq!(app.world(), NEW, "services stay as they are: up");
    app.run("commit").ends(10);
    app.remove("ill");
    app.run("commit").ends(0);
    assert_eq!(app.world(), NEW);
    assert_eq!(app.log(), "stop install migrate start");
}

#[test]
fn recover_leaves_it_on_hold() {
    let app = holding();
    app.run("run plan.toml").ends(10);
    let before = app.events();
    let said = app.run("recover").ends(10);
    assert!(said.err.contains("on hold"), "{}", said.err);
    assert_eq!((app.events(), app.world().as_str()), (before, "2.0.0 half down"));
    app.run("rollback").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn a_failure_before_the_capture_is_not_held() {
    let app = holding();
    app.touch("no-stop");
    app.run("run plan.toml").ends(1);
    assert_eq!(app.world(), OLD);
    app.run("status").ends(0);
}

#[test]
fn run_ends_with_10_at_once_services_are_up_and_confirm_commits() {
    let app = to_confirm("10m");
    let since = Instant::now();
    let said = app.run("run plan.toml").ends(10);
    assert!(since.elapsed() < Duration::from_secs(60));
    assert!(said.err.contains("app-1 waits for its confirmation until"), "{}", said.err);
    assert!(said.err.contains("`txupgrade confirm app-1` keeps it"), "{}", said.err);
    assert_eq!(app.world(), NEW);
    app.run("confirm").ends(0);
    assert_eq!(app.bed.events("app-1").last().unwrap(), "ended");
    assert_eq!(app.world(), NEW);
    wait_until("the keeper has gone", || app.processes().is_empty());
}

#[test]
fn commit_ends_with_10_as_well_where_a_confirmation_is_asked() {
    let app = to_confirm("10m");
    app.run("begin plan.toml").ends(0);
    app.run("apply").ends(0);
    app.run("commit").ends(10);
    app.run("confirm app-1").ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn without_a_confirmation_the_keeper_turns_it_back_in_time_and_confirm_is_too_late() {
    let app = to_confirm("1s");
    app.run("run plan.toml").ends(10);
    wait_until("the keeper has turned it back", || app.bed.events("app-1").last().unwrap() == "ended");
    assert_eq!(app.world(), OLD);
    let said = app.run("confirm app-1").ends(1);
    assert!(said.err.contains("`app-1` was rolled back"), "{}", said.err);
    assert!(app.run("history").ends(0).out.contains("rolled back"));
}

#[test]
fn confirm_is_refused_when_the_time_is_over_even_if_nothing_took_it_back_yet() {
    let app = to_confirm("1s");
    app.run("run plan.toml").ends(10);
    app.processes().into_iter().for_each(|keeper| send("KILL", keeper));
    std::thread::sleep(Duration::from_millis(1100));
    if app.bed.events("app-1").last().unwrap() == "awaiting" {
        let said = app.run("confirm").ends(1);
        assert!(said.err.contains("the time to confirm `app-1` is over"), "{}", said.err);
        wait_until("it is taken back", || app.bed.events("app-1").last().unwrap() == "ended");
    }
    assert_eq!(app.world(), OLD);
}

#[test]
fn wait_blocks_until_it_is_confirmed() {
    let app = to_confirm("10m");
    let run = app.start("run plan.toml --wait");
    wait_until("it waits", || {
        app.bed.state().join("journal.db").exists() && app.run("status").out.contains("confirmation")
    });
    app.run("confirm").ends(0);
    let said = ended(run).ends(0);
    assert!(said.err.contains("app-1 is committed"), "{}", said.err);
}

#[test]
fn a_signal_ends_only_the_waiting() {
    let app = to_confirm("10m");
    let run = app.start("run plan.toml --wait");
    wait_until("it waits", || {
        app.bed.state().join("journal.db").exists() && app.run("status").out.contains("confirmation")
    });
    send("INT", run.id());
    ended(run).ends(10);
    assert_eq!(app.bed.events("app-1").last().unwrap(), "awaiting");
    app.run("confirm").ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn after_a_reboot_what_remained_counts() {
    let app = to_confirm("10m");
    app.run("run plan.toml").ends(10);
    let before = app.run("status").ends(10).out;
    app.processes().into_iter().for_each(|keeper| send("KILL", keeper));
    app.run_after_reboot("recover").ends(10);
    let after = app.run_after_reboot("status").ends(10).out;
    let until = |text: &str| text.lines().next().unwrap().to_owned();
    assert_eq!(until(&after), until(&before), "the same moment");
    assert_eq!(app.world(), NEW, "up, and not stopped again");
    wait_until("it has a keeper again", || !app.processes().is_empty());
    app.run_after_reboot("confirm").ends(0);
}

#[test]
fn after_a_reboot_that_took_too_long_it_is_turned_back() {
    let app = to_confirm("2s");
    app.run("run plan.toml").ends(10);
    app.processes().into_iter().for_each(|keeper| send("KILL", keeper));
    std::thread::sleep(Duration::from_secs(2));
    app.run_after_reboot("recover").ends(0);
    assert_eq!(app.world(), OLD);
}
