//! *Going back*: a committed transaction is undone by a new one.

use super::{App, NEW, OLD};

#[test]
fn undoing_a_committed_transaction_is_a_new_one_that_can_be_undone_by_naming_it() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    app.bed.write("app/data", "written since\n");
    app.run("rollback --yes").ends(0);
    assert_eq!(app.world(), OLD);
    assert_eq!(app.bed.events("app-2").last().unwrap(), "ended");
    assert_eq!(app.log(), "stop install migrate start stop start");

    let said = app.run("rollback --yes").ends(1);
    assert!(said.err.contains("no committed upgrade or snapshot is still in effect"), "{}", said.err);
    assert!(said.err.contains("a rollback is undone by naming it"), "{}", said.err);
    assert_eq!(app.world(), OLD, "a rollback is never undone without its name");

    app.run("rollback app-2 --yes").ends(0);
    assert_eq!(app.world(), "2.0.0 written since up", "what was written since is not lost");
    app.run("rollback --yes").ends(0);
    assert_eq!(app.world(), OLD, "and then the upgrade is in effect again, and can be undone again");
}

#[test]
fn the_tasks_of_undoing_come_in_their_order() {
    let app = App::new()
        .edit(
            "run  = [\"@BED@/bin/install\"]",
            "run  = [\"@BED@/bin/install\"]\nundo = [\"@BED@/bin/undo\", \"install\"]",
        )
        .edit(
            "run  = [\"@BED@/bin/migrate\"]",
            "run  = [\"@BED@/bin/migrate\"]\nundo = [\"@BED@/bin/undo\", \"migrate\"]",
        )
        .script("undo", "echo undo-$1 >> @BED@/log");
    app.run("run plan.toml").ends(0);
    app.run("rollback app-1 --yes").ends(0);
    assert_eq!(app.world(), OLD);
    assert_eq!(app.log(), "stop install migrate start stop undo-migrate undo-install start");
    let mut order: Vec<String> = Vec::new();
    for event in app.bed.events("app-2") {
        if let Some(task) = event.strip_prefix("started ") {
            let action = task.split(' ').next().unwrap().to_owned();
            // A file tree need not be read ahead; a database dump is not.
            if action != "precapture" && order.last() != Some(&action) {
                order.push(action);
            }
        }
    }
    assert_eq!(
        order.join(" "),
        "require quiesce capture prove undo reinstate recheck resume recheck",
        "version stamp, precapture, quiesce, capture the present, prove, undo, reinstate, resume, recheck"
    );
}

#[test]
fn it_needs_yes_where_nobody_can_be_asked() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    let before = app.events();
    let said = app.run("rollback").ends(2);
    insta::assert_snapshot!(said.told(&app.bed), @r"
    error: app-1 is committed, and nobody can be asked whether to undo it
    hint: `txupgrade rollback --dry-run` shows what that changes
    hint: `txupgrade rollback --yes` does it
    ");
    assert_eq!((app.events(), app.world().as_str()), (before, NEW));
}

#[test]
fn dry_run_lists_what_would_change_and_changes_nothing() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    app.bed.write("app/since", "x");
    let before = app.events();
    let said = app.run("rollback --dry-run").ends(0);
    assert!(said.out.contains("undoing app-1 would change, and what was written since would be lost"), "{}", said.out);
    for name in ["version", "data", "since"] {
        assert!(said.out.contains(name), "{}", said.out);
    }
    assert_eq!((app.events(), app.world().as_str()), (before, NEW));
    assert!(app.bed.exists("app/since"));
}

#[test]
fn where_undoing_fails_the_present_is_put_back() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    app.bed.write("app/data", "written since\n");
    let app = app.script("page", "[ -e @BED@/up ] && [ $(cat @BED@/app/version) = 2.0.0 ]");
    let said = app.run("rollback --yes").ends(3);
    assert_eq!(app.world(), "2.0.0 written since up");
    assert!(said.err.contains("`page`"), "{}", said.err);
    let app = app.script("page", "true");
    app.run("rollback --yes").ends(0);
    assert_eq!(app.world(), OLD, "app-1 is still the latest in effect");
}

#[test]
fn without_tx_it_is_the_latest_committed_upgrade_or_snapshot() {
    let app = App::new();
    app.run("run plan.toml").ends(0);
    app.bed.write("app/data", "precious\n");
    app.run("snapshot plan.toml").ends(0);
    app.bed.write("app/data", "spoilt\n");
    app.run("rollback --yes").ends(0);
    assert_eq!(app.world(), "2.0.0 precious up", "the snapshot was the latest");
}

/// Upgrades to 2.0.0 by app-1, and to 3.0.0 by next-1, which touches the same.
fn two_upgrades() -> App {
    let app = App::new();
    let plan = app.bed.read("plan.toml");
    let plan = plan.replace("name   = \"app\"", "name   = \"next\"").replace("bin/install", "bin/install-3");
    app.bed.write(
        "next.toml",
        &plan.replace(">=1.0.0, <2.0.0", "=2.0.0").replace("\"=2.0.0\"\n\n[[check", "\"=3.0.0\"\n\n[[check"),
    );
    let app = app.script("install-3", "echo 3.0.0 > @BED@/app/version");
    app.run("run plan.toml next.toml").ends(0);
    assert_eq!(app.world(), "3.0.0 new up");
    app
}

#[test]
fn where_later_transactions_touch_the_same_they_are_listed_and_through_is_needed() {
    let app = two_upgrades();
    let before = app.events();
    let said = app.run("rollback app-1 --yes").ends(1);
    insta::assert_snapshot!(said.told(&app.bed), @r"
    error: later transactions touch what `app-1` would put back
      cause: they are `next-1`
    hint: `txupgrade rollback app-1 --through` undoes them first, the latest first
    ");
    assert_eq!(app.events(), before);
    app.run("rollback app-1 --through --yes").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn the_latest_goes_first_without_a_name() {
    let app = two_upgrades();
    app.run("rollback --yes").ends(0);
    assert_eq!(app.world(), "2.0.0 new up");
    app.run("rollback --yes").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn what_did_not_commit_cannot_be_undone() {
    let app = App::new();
    app.touch("broken");
    app.run("run plan.toml").ends(3);
    let said = app.run("rollback app-1 --yes").ends(1);
    assert!(said.err.contains("`app-1` did not commit: there is nothing to undo"), "{}", said.err);
}

#[test]
fn what_an_undo_took_away_stays_away_where_undoing_fails_and_that_is_said() {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\nundo = [\"@BED@/bin/leave\"]")
        .script("install", "touch @BED@/listed\necho 2.0.0 > @BED@/app/version")
        .script("leave", "rm -f @BED@/listed");
    app.run("run plan.toml").ends(0);
    let app = app.script("page", "[ -e @BED@/up ] && [ $(cat @BED@/app/version) = 2.0.0 ]");
    let said = app.run("rollback --yes").ends(4);
    assert_eq!((app.world().as_str(), app.bed.exists("listed")), (NEW, false));
    insta::assert_snapshot!(said.told(&app.bed).split_once("error: ").unwrap().1, @r"
    recheck `page` failed; what the undo of `install` did stays: no step is run again by itself
      cause: the check `page` does not pass
      cause: exit status 1
    hint: after a fix, `txupgrade rollback app-1` undoes all of it
    ");
    let app = app.script("page", "true");
    app.run("rollback app-1 --yes").ends(0);
    assert_eq!(app.world(), OLD);
}
