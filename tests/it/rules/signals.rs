//! *Crash and reboot*: INT, TERM and HUP.

use std::process::Child;

use super::{App, NEW, OLD, ended, is_alive, send, wait_until};

/// A run whose first step waits until `go` is there, or for very long; it is under way when this returns.
fn waiting_run(app: &App) -> Child {
    let run = app.start("run plan.toml");
    wait_until("the step is under way", || app.bed.exists("waits") && !app.bed.read("waits").trim().is_empty());
    run
}

fn with_a_waiting_step() -> App {
    App::new().script(
        "install",
        "echo 2.0.0 > @BED@/app/version\nsleep 300 & echo $! > @BED@/child\n\
         echo $$ > @BED@/waits.new; mv @BED@/waits.new @BED@/waits\n\
         for i in $(seq 1500); do [ -e @BED@/go ] && break; sleep 0.02; done\nkill $(cat @BED@/child)",
    )
}

#[track_caller]
fn turns_back(signal: &str, status: i32, named: &str) {
    let app = with_a_waiting_step();
    let run = waiting_run(&app);
    send(signal, run.id());
    let said = ended(run).ends(status);
    assert_eq!(app.world(), OLD);
    for file in ["waits", "child"] {
        assert!(!is_alive(app.bed.read(file).trim().parse().unwrap()), "its whole group is ended");
    }
    let expected = format!("error: interrupted by {named}; everything was rolled back and rechecked");
    assert!(said.err.contains(&expected), "{}", said.err);
    app.run("status").ends(0);
}

#[test]
fn int_ends_the_programs_group_and_turns_back_with_130() {
    turns_back("INT", 130, "SIGINT");
}

#[test]
fn term_ends_the_programs_group_and_turns_back_with_143() {
    turns_back("TERM", 143, "SIGTERM");
}

#[test]
fn hup_does_not_stop_anything() {
    let app = with_a_waiting_step();
    let run = waiting_run(&app);
    send("HUP", run.id());
    std::thread::sleep(std::time::Duration::from_millis(200));
    app.touch("go");
    ended(run).ends(0);
    assert_eq!(app.world(), NEW);
}

/// A run that is on its way back, in the undo of `install`, which waits until `go` is there.
fn on_its_way_back() -> (App, Child) {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\nundo = [\"@BED@/bin/uninstall\"]")
        .script(
            "uninstall",
            "echo uninstall >> @BED@/log; touch @BED@/waits\n\
             for i in $(seq 1500); do [ -e @BED@/go ] && break; sleep 0.02; done; echo undone >> @BED@/log",
        );
    app.touch("broken");
    let run = app.start("run plan.toml");
    wait_until("it is on its way back", || app.bed.exists("waits"));
    (app, run)
}

#[test]
fn on_the_way_back_a_signal_is_only_noted() {
    let (app, run) = on_its_way_back();
    send("INT", run.id());
    std::thread::sleep(std::time::Duration::from_millis(200));
    app.touch("go");
    ended(run).ends(3);
    assert_eq!(app.world(), OLD);
}

#[test]
fn on_the_way_back_a_second_signal_stops_after_the_current_task_for_recover() {
    let (app, run) = on_its_way_back();
    for _ in 0..2 {
        send("INT", run.id());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    app.touch("go");
    let said = ended(run).ends(5);
    assert!(said.err.contains("`app-1` was left half-way back"), "{}", said.err);
    assert!(said.err.contains("it was told to stop by INT"), "{}", said.err);
    assert!(said.err.contains("hint: `txupgrade recover` goes on with it"), "{}", said.err);
    assert_eq!(app.log(), "stop install migrate uninstall undone", "the task under way was ended in peace");
    app.run("status").ends(10);
    app.run("recover").ends(0);
    assert_eq!(app.world(), OLD);
    assert_eq!(app.log(), "stop install migrate uninstall undone start", "what was done is not done again");
}

#[test]
fn a_signal_while_begin_captures_aborts() {
    let app = App::new();
    let ctl = app.bed.read("bin/ctl");
    let app = app.script(
        "ctl",
        &format!("{ctl}\n[ $1 = stop ] || exit 0\ntouch @BED@/waits; for i in $(seq 1500); do sleep 0.02; done"),
    );
    let run = app.start("begin plan.toml");
    wait_until("it is under way", || app.bed.exists("waits"));
    send("TERM", run.id());
    let said = ended(run).ends(143);
    assert!(said.err.contains("interrupted by SIGTERM; nothing was changed"), "{}", said.err);
    assert_eq!(app.world(), OLD);
}
