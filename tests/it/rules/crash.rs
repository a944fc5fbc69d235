//! *Crash and reboot*: the program is killed, or the machine is started anew.

use super::{App, NEW, OLD, is_alive, wait_until};

/// Ends txupgrade itself from inside a program that it runs: the nearest ancestor of that name.
const KILL_TXUPGRADE: &str = "if [ -e @BED@/kill ]; then rm @BED@/kill; kill -9 $(cat @BED@/txupgrade.pid); fi";

/// Starts `arguments`, with its pid known to the scripts, to be killed by one of them.
fn killed(app: &App, arguments: &str) {
    app.touch("kill");
    let line = format!("echo $$ > {}/txupgrade.pid; exec \"$@\"", app.root());
    let status = std::process::Command::new("sh")
        .args(["-c", &line, "sh", env!("CARGO_BIN_EXE_txupgrade"), "--state-dir"])
        .arg(app.bed.state())
        .args(arguments.split_whitespace())
        .current_dir(app.bed.path(""))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
        .status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status:?}");
}

#[test]
fn killed_in_a_step_it_is_turned_back_and_no_step_is_begun() {
    let app = App::new()
        .script("install", &format!("echo install >> @BED@/log\necho 2.0.0 > @BED@/app/version\n{KILL_TXUPGRADE}"));
    killed(&app, "run plan.toml");
    app.run("status").ends(10);
    let said = app.run("recover").ends(0);
    assert_eq!(app.world(), OLD);
    assert_eq!(app.log(), "stop install start", "`migrate` is never begun by recover");
    assert!(said.err.contains("app-1 was interrupted; everything was rolled back and rechecked"), "{}", said.err);
    app.run("status").ends(0);
}

#[test]
fn killed_in_the_last_step_it_is_turned_back() {
    let app = App::new()
        .script("migrate", &format!("echo migrate >> @BED@/log\necho new > @BED@/app/data\n{KILL_TXUPGRADE}"));
    killed(&app, "run plan.toml");
    app.run("recover").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn killed_in_the_quiesce_of_begin_everything_is_up_again() {
    let app = App::new();
    let ctl = app.bed.read("bin/ctl");
    let app = app.script("ctl", &format!("{ctl}\n[ $1 = stop ] || exit 0\n{KILL_TXUPGRADE}"));
    killed(&app, "begin plan.toml");
    app.run("recover").ends(0);
    assert_eq!(app.world(), OLD);
    assert!(app.run("history").ends(0).out.contains("aborted"));
}

#[test]
fn killed_in_the_resume_after_all_steps_it_goes_forward() {
    let app = App::new();
    let ctl = app.bed.read("bin/ctl");
    let app = app.script("ctl", &format!("{ctl}\n[ $1 = start ] || exit 0\n{KILL_TXUPGRADE}"));
    killed(&app, "run plan.toml");
    let said = app.run("recover").ends(0);
    assert!(said.err.contains("app-1 is committed"), "{}", said.err);
    assert_eq!(app.world(), NEW);
    assert_eq!(app.log(), "stop install migrate start start");
}

/// The application with a database on a server, which a migration changes before txupgrade is killed.
fn with_a_server_killed_in_its_migration(undo: &str) -> App {
    let app = App::new().add(&format!(
        "{undo}\n[[resource]]\nname = \"db\"\nkind = \"command\"\ndump = [\"cat\", \"@BED@/server\"]\n\
         load = {{ shell = \"echo load >> @BED@/log; cat > @BED@/server\" }}\n"
    ));
    app.bed.write("server", "old\n");
    let app = app.script("migrate", &format!("echo new > @BED@/app/data\necho new > @BED@/server\n{KILL_TXUPGRADE}"));
    killed(&app, "run plan.toml");
    app.bed.write("log", "");
    app
}

#[test]
fn at_boot_files_are_put_back_and_the_rest_waits_until_all_is_up() {
    let app = with_a_server_killed_in_its_migration("");
    let early = app.run_after_reboot("recover --boot").ends(10);
    let told: Vec<String> =
        early.told(&app.bed).lines().filter(|line| !line.contains("prove")).map(String::from).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    app-1: `apply migrate` was interrupted
    app-1: its process is gone; turning back
      quiesce server              TIME
      restore code                TIME   2 items put back
    app-1: what could be done before anything is up is done; `txupgrade recover` goes on
    ");
    assert_eq!((app.bed.read("app/data").as_str(), app.bed.read("server").as_str()), ("old\n", "new\n"));
    assert_eq!(app.log(), "stop");
    app.run_after_reboot("recover --boot").ends(10);
    assert_eq!(app.log(), "stop", "again: nothing more can be done");
    app.run_after_reboot("recover").ends(0);
    assert_eq!((app.world().as_str(), app.bed.read("server").as_str()), (OLD, "old\n"));
    assert_eq!(app.log(), "stop load start");
}

#[test]
fn at_boot_what_comes_after_an_undo_by_a_command_waits_with_it() {
    let app = with_a_server_killed_in_its_migration("undo = [\"sh\", \"-c\", \"echo undo >> @BED@/log\"]");
    app.run_after_reboot("recover --boot").ends(10);
    assert_eq!((app.bed.read("app/data").as_str(), app.log().as_str()), ("new\n", "stop"));
    app.run_after_reboot("recover").ends(0);
    assert_eq!((app.world().as_str(), app.bed.read("server").as_str()), (OLD, "old\n"));
    assert_eq!(app.log(), "stop undo load start");
}

#[test]
fn at_boot_what_goes_forward_waits_until_all_is_up() {
    let app = App::new();
    let ctl = app.bed.read("bin/ctl");
    let app = app.script("ctl", &format!("{ctl}\n[ $1 = start ] || exit 0\n{KILL_TXUPGRADE}"));
    killed(&app, "run plan.toml");
    app.bed.write("log", "");
    app.run_after_reboot("recover --boot").ends(10);
    assert_eq!(app.log(), "");
    app.run_after_reboot("recover").ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn at_boot_what_waits_is_quiesced_again_and_waits_on() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.bed.write("log", "");
    app.bed.write("up", "");
    let early = app.run_after_reboot("recover --boot").ends(10);
    assert!(early.err.contains("app-1 is open") && early.err.contains("kept down: `server`"), "{}", early.err);
    assert_eq!(app.log(), "stop");
    app.run_after_reboot("recover").ends(10);
    assert_eq!(app.log(), "stop", "once is enough");
}

#[test]
fn killed_in_a_check_before_the_commit_it_goes_forward() {
    let app = App::new().edit(
        "[[quiesce]]",
        "[[check]]\nname = \"later\"\nkind = \"command\"\nat = \"after\"\nrun = [\"@BED@/bin/later\"]\n\n[[quiesce]]",
    );
    let app = app.script("later", KILL_TXUPGRADE);
    killed(&app, "run plan.toml");
    app.run("recover").ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn all_steps_done_and_the_checks_fail_in_recover_turns_back() {
    let app = App::new();
    let ctl = app.bed.read("bin/ctl");
    let app = app.script("ctl", &format!("{ctl}\n[ $1 = start ] || exit 0\n{KILL_TXUPGRADE}"));
    killed(&app, "run plan.toml");
    app.touch("ill");
    let app = app.script("page", "[ $(cat @BED@/app/version) = 1.0.0 ]");
    app.run("recover").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn killed_on_the_way_back_recover_goes_on_back() {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\nundo = [\"@BED@/bin/uninstall\"]")
        .script("uninstall", &format!("echo uninstall >> @BED@/log\n{KILL_TXUPGRADE}"));
    app.touch("broken");
    killed(&app, "run plan.toml");
    app.run("recover").ends(0);
    assert_eq!(app.world(), OLD);
    assert_eq!(app.log(), "stop install migrate uninstall uninstall start", "an undo that died is run again");
}

#[test]
fn the_processes_of_a_killed_step_are_gone_before_anything_is_restored() {
    let writer = "while :; do echo scribble >> @BED@/app/data; sleep 0.02; done";
    let app = App::new().script("scribble", writer).script(
        "install",
        &format!(
            "@BED@/bin/scribble & echo $! > @BED@/writer\nsetsid @BED@/bin/scribble & echo $! > @BED@/writer2\n\
             sleep 0.1\n{KILL_TXUPGRADE}\nsleep 60"
        ),
    );
    killed(&app, "run plan.toml");
    let pids = [app.bed.read("writer"), app.bed.read("writer2")].map(|pid| pid.trim().parse::<u32>().unwrap());
    assert!(pids.iter().all(|pid| is_alive(*pid)), "killing txupgrade alone leaves them");
    app.run("recover").ends(0);
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    assert!(app.processes().is_empty());
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(app.world(), OLD, "and nothing was written behind the restore");
}

#[test]
fn a_reboot_while_open_leaves_it_open_quiesces_again_and_names_what_is_kept_down() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    app.touch("up"); // The machine starts the server at boot.
    let said = app.run_after_reboot("recover").ends(10);
    assert_eq!(app.world(), "1.0.0 old down");
    assert_eq!(app.log(), "stop stop");
    assert!(said.err.contains("app-1 is open"), "{}", said.err);
    assert!(said.err.contains("`server`"), "what is kept down is named: {}", said.err);
    let status = app.run_after_reboot("status").ends(10).out;
    assert!(status.contains("kept down:    `server`"), "{status}");
    app.run_after_reboot("apply").ends(0);
    app.run_after_reboot("commit").ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn recover_without_a_reboot_leaves_what_waits_alone() {
    let app = App::new();
    app.run("begin plan.toml").ends(0);
    let before = app.events();
    app.run("recover").ends(10);
    assert_eq!((app.events(), app.log().as_str()), (before, "stop"));
    app.run("rollback").ends(0);
}

#[test]
fn a_reboot_while_on_hold_leaves_it_on_hold_and_quiesces_again() {
    let app = App::new().add("[policy]\non_failure = \"hold\"");
    app.touch("broken");
    app.run("run plan.toml").ends(10);
    app.touch("up");
    let said = app.run_after_reboot("recover").ends(10);
    assert!(said.err.contains("app-1 is on hold"), "{}", said.err);
    assert_eq!(app.world(), "2.0.0 half down");
    assert_eq!(app.log(), "stop install migrate stop");
    app.run_after_reboot("rollback").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn a_reboot_while_stuck_leaves_it_stuck_and_quiesces_again() {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\nundo = [\"@BED@/bin/uninstall\"]")
        .script("uninstall", "test ! -e @BED@/no-undo");
    app.touch("broken");
    app.touch("no-undo");
    app.run("run plan.toml").ends(5);
    app.touch("up");
    app.run_after_reboot("recover").ends(5);
    assert!(!app.bed.exists("up"), "stopped again");
    app.remove("no-undo");
    app.run_after_reboot("rollback").ends(0);
    assert_eq!(app.world(), OLD);
}

#[test]
fn a_reboot_in_a_step_turns_back_with_the_server_stopped_for_the_restore() {
    let app = App::new()
        .script("install", &format!("echo install >> @BED@/log\necho 2.0.0 > @BED@/app/version\n{KILL_TXUPGRADE}"));
    killed(&app, "run plan.toml");
    app.touch("up");
    app.run_after_reboot("recover").ends(0);
    assert_eq!(app.world(), OLD);
    assert_eq!(app.log(), "stop install stop start");
    wait_until("nothing is left", || app.processes().is_empty());
}

/// An upgrade that is committed, and whose undoing is killed in the undo of `install`.
fn killed_undoing() -> App {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\nundo = [\"@BED@/bin/leave\"]")
        .script("install", "touch @BED@/listed\necho 2.0.0 > @BED@/app/version")
        .script("leave", &format!("echo leave >> @BED@/log\nrm -f @BED@/listed\n{KILL_TXUPGRADE}"));
    app.run("run plan.toml").ends(0);
    killed(&app, "rollback --yes");
    app
}

#[test]
fn an_undoing_that_was_killed_is_carried_on_since_nothing_does_again_what_an_undo_took_away() {
    let app = killed_undoing();
    let said = app.run("recover").ends(0);
    assert!(said.err.contains("app-1 is undone by app-2"), "{}", said.err);
    assert_eq!((app.world().as_str(), app.bed.exists("listed")), (OLD, false));
    assert_eq!(app.log(), "stop migrate start stop leave leave start");
}

#[test]
fn an_undoing_that_a_reboot_ended_is_carried_on_with_the_server_stopped() {
    let app = killed_undoing();
    app.touch("up");
    app.bed.write("app/data", "written at boot\n");
    app.run_after_reboot("recover").ends(0);
    assert_eq!((app.world().as_str(), app.bed.exists("listed")), (OLD, false));
    assert_eq!(app.log(), "stop migrate start stop leave stop leave start");
}
