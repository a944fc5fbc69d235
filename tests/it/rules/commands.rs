//! *Commands*: when a program is over, where its output goes, what becomes of what it leaves running.

use std::time::{Duration, Instant};

use super::{App, NEW, OLD, ended, is_alive, send, wait_until};

fn pid_in(app: &App, file: &str) -> u32 {
    app.bed.read(file).trim().parse().unwrap()
}

#[test]
fn a_command_is_over_when_its_own_process_ends_and_what_it_leaves_is_left_alone_and_named() {
    let app = App::new().script("install", "echo 2.0.0 > @BED@/app/version\nsleep 300 &\necho $! > @BED@/left");
    let since = Instant::now();
    let said = app.run("run plan.toml").ends(0);
    assert!(since.elapsed() < Duration::from_secs(60), "nobody waits for what holds the output open");
    let left = pid_in(&app, "left");
    assert!(is_alive(left), "it is left alone");
    send("KILL", left);
    assert!(said.err.contains(&format!("left running: {left} sleep 300")), "and named: {}", said.err);
    assert_eq!(app.world(), NEW);
}

#[test]
fn what_it_leaves_is_killed_after_a_failure() {
    let app = App::new().script("install", "sleep 300 &\necho $! > @BED@/left\nexit 1");
    app.run("run plan.toml").ends(3);
    assert!(!is_alive(pid_in(&app, "left")));
    assert_eq!(app.world(), OLD);
}

#[test]
fn a_timeout_is_term_and_counts_as_failed() {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\ntimeout = \"500ms\"")
        .script(
            "install",
            "trap 'echo term >> @BED@/log; exit 0' TERM\nsleep 300 & echo $! > @BED@/left\n\
             for i in $(seq 600); do sleep 0.02; done",
        );
    let said = app.run("run plan.toml").ends(3);
    assert_eq!(app.log(), "stop term start", "although it ended with 0");
    assert!(!is_alive(pid_in(&app, "left")));
    assert!(said.err.contains("0.5 s") || said.err.contains("500ms"), "the limit is named: {}", said.err);
    assert_eq!(app.world(), OLD);
}

#[test]
fn what_does_not_heed_term_is_killed_ten_seconds_later() {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\ntimeout = \"200ms\"")
        .script("install", "trap '' TERM\necho $$ > @BED@/left\nwhile :; do sleep 0.05; done");
    let since = Instant::now();
    app.run("run plan.toml").ends(3);
    assert!(since.elapsed() >= Duration::from_secs(10), "it had its ten seconds");
    assert!(!is_alive(pid_in(&app, "left")));
    assert_eq!(app.world(), OLD);
}

#[test]
fn output_goes_to_a_file_and_there_is_no_terminal_nor_input() {
    let app = App::new().script(
        "install",
        "echo 2.0.0 > @BED@/app/version\n\
         streams=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo \"$streams\" > @BED@/streams\n\
         read answer && echo $answer > @BED@/answered\n\
         (: < /dev/tty) 2> /dev/null && touch @BED@/tty\necho said out loud; echo and aside >&2; true",
    );
    app.run("run plan.toml").ends(0);
    let streams = app.bed.read("streams");
    let streams: Vec<&str> = streams.lines().collect();
    assert_eq!(streams[0], "/dev/null");
    assert!(streams[1].starts_with(app.bed.state().join("logs/app-1").to_str().unwrap()), "{streams:?}");
    assert_eq!(streams[1], streams[2], "stdout and stderr together");
    assert!(!app.bed.exists("answered") && !app.bed.exists("tty"));
    let log = app.run("log app-1 install").ends(0).out;
    assert!(log.contains("said out loud\n") && log.contains("and aside\n"), "{log}");
}

#[test]
fn log_follow_shows_what_is_still_being_said() {
    let app = App::new().script(
        "install",
        "echo first words; touch @BED@/waits\nfor i in $(seq 1500); do [ -e @BED@/go ] && break; sleep 0.02; done\n\
         echo last words; echo 2.0.0 > @BED@/app/version",
    );
    let run = app.start("run plan.toml");
    wait_until("it speaks", || app.bed.exists("waits"));
    let follow = app.start("log app-1 install --follow");
    std::thread::sleep(Duration::from_millis(300));
    app.touch("go");
    ended(run).ends(0);
    let said = ended(follow).ends(0);
    assert!(said.out.contains("first words\n") && said.out.contains("last words\n"), "{}", said.out);
}

#[test]
fn the_default_limits_are_shown_by_plan() {
    let app = App::new().edit("[command]\ntimeout = \"60s\"\n", "");
    let out = app.run("plan plan.toml").ends(0).out;
    assert!(out.contains("30 s") || out.contains("30s"), "check: {out}");
    assert!(out.contains("5 min"), "quiesce and resume: {out}");
    assert!(out.contains("1 h"), "step: {out}");
    assert!(!app.bed.exists("state"), "and nothing is left behind");
}

#[test]
fn a_step_whose_expect_is_not_seen_has_failed_whatever_its_exit_status() {
    let app = App::new()
        .edit(
            "run  = [\"@BED@/bin/migrate\"]",
            "run  = [\"@BED@/bin/migrate\"]\nexpect = { matches = \"done\", matches_not = \"(?i)error\" }",
        )
        .script("migrate", "echo half > @BED@/app/data; echo Error: no such table; echo done; exit 0");
    let said = app.run("run plan.toml").ends(3);
    assert_eq!(app.world(), OLD);
    assert!(said.err.contains("step `migrate` failed"), "{}", said.err);
}
