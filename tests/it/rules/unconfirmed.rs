//! `confirm_within` is honoured whoever is gone: the process that began, the keeper, the boot; and whatever the clock
//! says meanwhile.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{App, NEW, OLD, ended, is_alive, send, wait_until};
use crate::bed::{Said, behind};
use crate::tree::Dice;

fn to_confirm(within: &str) -> App {
    App::new().add(&format!("[policy]\nconfirm_within = \"{within}\""))
}

/// The same, and on the way back `install` is undone, which waits until `go` is there.
fn with_a_slow_undo(within: &str) -> App {
    to_confirm(within)
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\nundo = [\"@BED@/bin/uninstall\"]")
        .script(
            "uninstall",
            "echo uninstall >> @BED@/log; touch @BED@/waits\n\
             for i in $(seq 1500); do [ -e @BED@/go ] && break; sleep 0.02; done; echo undone >> @BED@/log",
        )
}

/// The keepers of the bed that live.
fn keepers(app: &App) -> Vec<u32> {
    let is_keeper = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("keep-watch") && is_alive(*pid)
    };
    app.processes().into_iter().filter(is_keeper).collect()
}

/// Ends them, and waits until they are gone.
fn kill_keepers(app: &App) {
    wait_until("there is a keeper", || !keepers(app).is_empty());
    keepers(app).into_iter().for_each(|keeper| send("KILL", keeper));
    wait_until("the keepers are gone", || keepers(app).is_empty());
}

#[track_caller]
fn taken_back(app: &App) {
    wait_until("it is taken back", || app.bed.events("app-1").last().unwrap() == "ended");
    assert_eq!(app.world(), OLD);
    assert_eq!(count(app, "turned_back"), 1);
}

fn count(app: &App, event: &str) -> usize {
    app.bed.events("app-1").iter().filter(|name| *name == event).count()
}

#[test]
fn a_killed_keeper_is_started_again_by_the_next_command_that_acts() {
    let app = to_confirm("8s");
    app.run("run plan.toml").ends(10);
    kill_keepers(&app);
    app.bed.write("other/file", "x");
    app.run(&format!("begin --name other path={}/other", app.root())).ends(0);
    wait_until("it has a keeper again", || !keepers(&app).is_empty());
    taken_back(&app);
    wait_until("the keeper has gone", || keepers(&app).is_empty());
    app.run("rollback other-1").ends(0);
}

#[test]
fn without_a_keeper_status_says_when_it_is_overdue_and_recover_takes_it_back() {
    let app = to_confirm("1s");
    app.run("run plan.toml").ends(10);
    kill_keepers(&app);
    std::thread::sleep(Duration::from_millis(1100));
    let status = app.run("status").ends(10).out;
    if count(&app, "turned_back") == 0 {
        assert!(status.contains("app-1: was not confirmed in time, and nothing has taken it back yet"), "{status}");
        assert!(status.contains("next: `txupgrade recover` takes it back now"), "{status}");
        assert!(!status.contains("`txupgrade confirm"), "{status}");
        let said = app.run("recover").ends(0);
        assert!(said.err.contains("app-1 went back: everything was rolled back"), "{}", said.err);
    }
    taken_back(&app);
}

#[test]
fn a_keeper_that_is_told_to_stop_goes_at_once_and_takes_nothing_back() {
    let app = to_confirm("10m");
    app.run("run plan.toml").ends(10);
    wait_until("there is a keeper", || app.bed.exists("state/locks/app-1.keeper.lock"));
    std::thread::sleep(Duration::from_millis(100));
    keepers(&app).into_iter().for_each(|keeper| send("TERM", keeper));
    wait_until("it is gone", || keepers(&app).is_empty());
    assert_eq!(app.bed.events("app-1").last().unwrap(), "awaiting");
    app.run("confirm").ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn of_many_keepers_one_acts() {
    let app = with_a_slow_undo("2s");
    app.touch("go");
    app.run("run plan.toml").ends(10);
    let more: Vec<_> = (0..5).map(|_| app.start("keep-watch app-1")).collect();
    taken_back(&app);
    for keeper in more {
        ended(keeper).ends(0);
    }
    assert_eq!(app.log(), "stop install migrate start stop uninstall undone start");
    assert_eq!(count(&app, "ended"), 1);
    wait_until("all have gone", || keepers(&app).is_empty());
    assert!(!app.bed.exists("state/locks/app-1.keeper.lock"));
}

#[test]
fn a_keeper_that_is_killed_while_it_acts_is_followed_by_the_next() {
    let app = with_a_slow_undo("1s");
    app.run("run plan.toml").ends(10);
    let more: Vec<_> = (0..2).map(|_| app.start("keep-watch app-1")).collect();
    wait_until("one acts", || app.bed.exists("waits"));
    let status = app.run("status").out;
    let acting = status.split("in process ").nth(1).unwrap_or_else(|| panic!("{status}"));
    let acting: u32 = acting.lines().next().unwrap().trim().parse().unwrap();
    assert!(keepers(&app).contains(&acting));
    app.touch("go");
    send("KILL", acting);
    taken_back(&app);
    more.into_iter().for_each(|keeper| drop(ended(keeper)));
    assert_eq!(app.log().matches("start").count(), 2, "{}", app.log());
}

#[test]
fn a_confirmation_at_the_last_moment_and_the_keeper_never_both_win() {
    let mut tally = (0, 0);
    let mut dice = Dice(7);
    let rounds: Vec<f64> = (0..8).map(|_| dice.part()).collect();
    std::thread::scope(|scope| {
        let round = |part: f64| {
            let app = to_confirm("1s");
            app.run("run plan.toml").ends(10);
            let began = Instant::now();
            // The time began a little before that; from well in time to a little late.
            std::thread::sleep(Duration::from_millis(700) + Duration::from_millis(400).mul_f64(part));
            let asked = began.elapsed();
            let said = app.run("confirm app-1");
            let won = said.status == 0;
            wait_until("it has ended", || app.bed.events("app-1").last().unwrap() == "ended");
            let events = (count(&app, "confirmed"), count(&app, "turned_back"), count(&app, "ended"));
            let told = format!("confirmed after {asked:?}: {}", said.err);
            assert_eq!(events, if won { (1, 0, 1) } else { (0, 1, 1) }, "{told}");
            assert_eq!(app.world(), if won { NEW } else { OLD }, "{told}");
            let history = app.run("history --verify").ends(0).out;
            assert!(history.contains(if won { "committed" } else { "rolled back" }), "{history}");
            won
        };
        let threads: Vec<_> = rounds
            .chunks(4)
            .map(|parts| scope.spawn(move || parts.iter().map(|part| round(*part)).collect::<Vec<_>>()))
            .collect();
        for won in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            if won { tally.0 += 1 } else { tally.1 += 1 }
        }
    });
    println!("confirm at the last moment: {} confirmed, {} taken back, 0 otherwise", tally.0, tally.1);
}

#[test]
fn a_suspended_keeper_takes_it_back_when_it_goes_on() {
    let app = to_confirm("1s");
    app.run("run plan.toml").ends(10);
    wait_until("there is a keeper", || !keepers(&app).is_empty());
    let keeper = keepers(&app)[0];
    send("STOP", keeper);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(app.world(), NEW);
    let said = app.run("confirm app-1").ends(1);
    assert!(said.err.contains("the time to confirm `app-1` is over"), "{}", said.err);
    send("CONT", keeper);
    taken_back(&app);
}

#[test]
fn a_keeper_has_nothing_open_that_a_shell_left_open() {
    let app = to_confirm("10m");
    let line = format!(
        "exec 9>{}; flock 9; {} --state-dir {} run plan.toml",
        app.bed.path("shell.lock").display(),
        env!("CARGO_BIN_EXE_txupgrade"),
        app.bed.state().display()
    );
    let said = Said::of(Command::new("sh").args(["-c", &line]).current_dir(app.bed.path("")).output().unwrap());
    said.ends(10);
    wait_until("there is a keeper", || !keepers(&app).is_empty());
    let free = Command::new("flock").arg("-n").arg(app.bed.path("shell.lock")).arg("true").status().unwrap();
    assert!(free.success(), "the keeper would hold it for ten minutes");
    app.run("confirm").ends(0);
}

/// A wall clock that can be set while programs run: libfaketime, which leaves the other clocks alone.
struct Clock {
    file: PathBuf,
    library: String,
}

impl Clock {
    fn of(app: &App) -> Clock {
        let found = Command::new("faketime").args(["-f", "+0", "sh", "-c", "echo $LD_PRELOAD"]).output();
        let found = found.expect("`faketime` is there (Debian: apt-get install faketime)");
        let library = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        assert!(!library.is_empty());
        let clock = Clock { file: app.bed.path("clock"), library };
        clock.set("+0");
        clock
    }

    fn set(&self, offset: &str) {
        std::fs::write(self.file.with_extension("new"), format!("{offset}\n")).unwrap();
        std::fs::rename(self.file.with_extension("new"), &self.file).unwrap();
    }

    fn command(&self, app: &App, arguments: &str) -> Command {
        let mut command = app.bed.command(&arguments.split_whitespace().collect::<Vec<_>>());
        command
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        // The library leaves two files in `/dev/shm` for every process that is killed.
        behind(&format!("mount -t tmpfs none /dev/shm && export LD_PRELOAD='{}'", self.library), &command)
    }

    fn run(&self, app: &App, arguments: &str) -> Said {
        Said::of(self.command(app, arguments).output().unwrap())
    }

    fn run_after_reboot(&self, app: &App, arguments: &str) -> Said {
        Said::of(self.command(app, arguments).env("TXUPGRADE_TEST_BOOT_ID", "another-boot").output().unwrap())
    }
}

#[test]
fn a_clock_that_jumps_neither_confirms_nor_takes_back() {
    for jump in ["+1d", "-1d"] {
        let app = to_confirm("9s");
        let clock = Clock::of(&app);
        clock.run(&app, "run plan.toml").ends(10);
        let began = Instant::now();
        clock.set(jump);
        let day = |text: &str| text.split_whitespace().find(|word| word.starts_with("20")).unwrap().to_owned();
        let status = clock.run(&app, "status").ends(10).out;
        assert!(status.contains("waits for its confirmation until"), "{jump}: {status}");
        let real = app.run("status").ends(10).out;
        assert_ne!(day(&status), day(&real), "{jump}: as the clock goes now");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(app.world(), NEW, "{jump}: not before its time");
        taken_back(&app);
        assert!(began.elapsed() > Duration::from_secs(8) && began.elapsed() < Duration::from_secs(40), "{jump}");
        drop(app);

        let app = to_confirm("9s");
        let clock = Clock::of(&app);
        clock.run(&app, "run plan.toml").ends(10);
        clock.set(jump);
        clock.run(&app, "confirm").ends(0);
        assert_eq!(app.world(), NEW, "{jump}");
    }
}

#[test]
fn a_clock_that_went_back_over_a_reboot_gives_no_more_time_than_there_was() {
    let app = to_confirm("12s");
    let clock = Clock::of(&app);
    clock.run(&app, "run plan.toml").ends(10);
    kill_keepers(&app);
    clock.set("-10y");
    clock.run_after_reboot(&app, "recover").ends(10);
    assert_eq!(count(&app, "awaiting"), 2, "what remained is journaled anew");
    let began = Instant::now();
    assert_eq!(app.world(), NEW);
    // The clock is set right, by far: this boot's time counts.
    clock.set("+10y");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(app.world(), NEW);
    taken_back(&app);
    assert!(began.elapsed() < Duration::from_secs(40));
}

#[test]
fn a_clock_that_went_on_over_a_reboot_takes_it_back() {
    let app = to_confirm("10m");
    let clock = Clock::of(&app);
    clock.run(&app, "run plan.toml").ends(10);
    kill_keepers(&app);
    clock.set("+1h");
    clock.run_after_reboot(&app, "recover").ends(0);
    taken_back(&app);
}

#[test]
fn after_a_reboot_it_can_be_confirmed_until_what_remained_is_over() {
    let app = to_confirm("10m");
    app.run("run plan.toml").ends(10);
    kill_keepers(&app);
    app.run_after_reboot("recover").ends(10);
    let said = app.run_after_reboot("confirm").ends(0);
    assert!(said.err.contains("app-1 is committed"), "{}", said.err);
    assert_eq!(app.world(), NEW);
    app.run("history --verify").ends(0);
}
