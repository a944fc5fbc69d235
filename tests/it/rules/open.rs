//! *Open and waiting*: begin, apply, commit one by one.

use super::{App, NEW, OLD};

#[test]
fn once_it_waited_at_captured_turning_back_restores_what_was_changed_by_hand() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    assert_eq!(app.world(), "1.0.0 old down", "what writes is stopped while it is open");
    app.bed.write("app/data", "by hand\n");
    app.bed.write("app/added", "by hand\n");
    let said = app.run("rollback").ends(0);
    assert_eq!(app.world(), OLD);
    assert!(!app.bed.exists("app/added"));
    assert_eq!(app.bed.events("app-1").last().unwrap(), "ended");
    assert!(said.err.contains("app-1 is turned back: everything was rolled back and rechecked"), "{}", said.err);
}

#[test]
fn a_begin_that_only_waited_ends_rolled_back_and_not_aborted() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.run("rollback app-1").ends(0);
    assert!(app.run("history").ends(0).out.contains("rolled back"));
    assert!(app.bed.events("app-1").contains(&"started restore code".to_owned()));
}

#[test]
fn a_run_that_fails_before_its_first_step_is_aborted_and_everything_is_up_again() {
    let app = App::new();
    app.touch("no-stop");
    let said = app.run("run plan.toml").ends(1);
    assert_eq!(app.world(), OLD);
    assert_eq!(app.log(), "stop start", "what may have been stopped is resumed");
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    assert!(app.run("history").ends(0).out.contains("aborted"));
}

#[test]
fn commit_without_apply_is_refused_names_the_steps_and_journals_nothing() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    let before = app.events();
    let said = app.run("commit").ends(1);
    insta::assert_snapshot!(said.told(&app.bed), @r"
    error: `app-1` cannot be committed: its steps `install`, `migrate` have not run
    hint: `txupgrade apply app-1` runs them
    hint: `txupgrade commit app-1 --steps-done` says that you have done them by hand
    ");
    assert_eq!(app.events(), before, "nothing was journaled");
    app.run("rollback").ends(0);
}

#[test]
fn steps_done_commits_what_was_done_by_hand() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.bed.write("app/version", "2.0.0\n");
    app.bed.write("app/data", "new\n");
    app.run("commit --steps-done").ends(0);
    assert_eq!(app.world(), NEW);
    assert_eq!(app.log(), "stop start", "no step ran");
    let events = app.bed.events("app-1");
    assert!(events.contains(&"skipped apply install".to_owned()), "{events:?}");
    assert!(events.contains(&"skipped apply migrate".to_owned()), "{events:?}");
}

#[test]
fn steps_done_still_asks_the_checks_and_turns_back() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.bed.write("app/data", "by hand\n");
    let said = app.run("commit --steps-done").ends(3);
    assert_eq!(app.world(), OLD);
    assert!(said.err.contains("version 1.0.0 is installed, and the plan wants `=2.0.0`"), "{}", said.err);
}

#[test]
fn begin_apply_commit_goes_the_way_of_a_run() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.run("apply").ends(0);
    assert_eq!(app.world(), "2.0.0 new down", "services stay down until the commit");
    app.run("commit").ends(0);
    assert_eq!(app.world(), NEW);
    assert_eq!(app.log(), "stop install migrate start");
}

#[test]
fn apply_and_commit_at_a_goal_already_reached_do_nothing_and_end_with_0() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.run("apply").ends(0);
    let before = app.events();
    app.run("apply app-1").ends(0);
    assert_eq!((app.events(), app.log().as_str()), (before, "stop install migrate"));
    app.run("commit app-1").ends(0);
    let before = app.events();
    app.run("commit app-1").ends(0);
    assert_eq!((app.events(), app.world().as_str()), (before, NEW));
}

#[test]
fn editing_or_deleting_the_plan_of_an_open_transaction_changes_nothing() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.bed.write("plan.toml", "this is no plan any more");
    app.run("apply").ends(0);
    app.remove("plan.toml");
    app.run("commit").ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn several_open_transactions_need_a_name() {
    let app = App::new();
    app.bed.write("other/file", "x");
    app.run("begin plan.toml").ends(0);
    app.run(&format!("begin --name other path={}/other", app.root())).ends(0);
    let said = app.run("commit").ends(2);
    insta::assert_snapshot!(said.told(&app.bed), @r"
    error: several transactions are open: `app-1`, `other-1`
    hint: name the one that you mean
    ");
    app.run("rollback other-1").ends(0);
    app.run("rollback").ends(0);
}
