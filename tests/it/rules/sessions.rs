//! Who started it may go, stop reading, or never have been there: the transaction goes on, and killed at any moment it
//! is before or after as ever.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{App, NEW, OLD, ended, is_alive, send, wait_until};
use crate::bed::Said;
use crate::tree::Dice;

/// How a session treats the program that it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    /// It closed stdin before.
    WithoutStdin,
    /// It closed stdin, stdout and stderr before.
    WithoutAny,
    /// It reads from pipes, and goes away at once.
    ReadersGone,
    /// Its terminal hangs up while a step runs.
    HungUp,
}

const SESSIONS: [Session; 4] = [Session::WithoutStdin, Session::WithoutAny, Session::ReadersGone, Session::HungUp];

/// A run in such a session, and the terminal it has.
struct Run {
    child: Child,
    terminal: Option<File>,
}

fn start(app: &App, session: Session, arguments: &str) -> Run {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let mut command = app.bed.command(&words);
    match session {
        Session::WithoutStdin | Session::WithoutAny => {
            let closed = if session == Session::WithoutAny { "<&- >&- 2>&-" } else { "<&-" };
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec \"$@\" {closed}"), "sh"]).arg(command.get_program());
            shell.args(command.get_args()).current_dir(app.bed.path(""));
            Run { child: shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), terminal: None }
        }
        Session::ReadersGone => {
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            drop((child.stdout.take(), child.stderr.take()));
            Run { child, terminal: None }
        }
        Session::HungUp => {
            let (ours, theirs) = terminal();
            let all = || Stdio::from(theirs.try_clone().unwrap());
            command.stdin(all()).stdout(all()).stderr(all()).env_remove("NO_COLOR").env("TERM", "xterm");
            // SAFETY: both are async-signal-safe; the terminal becomes the session's.
            unsafe {
                command.pre_exec(|| {
                    let made = libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0;
                    if made { Ok(()) } else { Err(std::io::Error::last_os_error()) }
                });
            }
            Run { child: command.spawn().unwrap(), terminal: Some(ours) }
        }
    }
}

/// A new terminal: our end, and the one for a program.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: two places to write to; the rest may be null.
    assert_eq!(unsafe { libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast()) }, 0);
    for end in [ours, theirs] {
        // SAFETY: both were just opened, and no other child may keep them open.
        unsafe { libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: nobody else owns them.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

/// An application whose first step waits until `go` is there, and prints before and after.
fn with_a_waiting_step() -> App {
    App::new().script(
        "install",
        "echo install >> @BED@/log; echo 2.0.0 > @BED@/app/version; echo it begins; touch @BED@/waits\n\
         for i in $(seq 1500); do [ -e @BED@/go ] && break; sleep 0.02; done; echo it is done",
    )
}

#[test]
fn whatever_becomes_of_the_session_it_goes_on_to_the_end() {
    for session in SESSIONS {
        let app = with_a_waiting_step();
        let mut run = start(&app, session, "-v run plan.toml");
        wait_until("the step is under way", || app.bed.exists("waits"));
        let pid = run.child.id();
        drop(run.terminal.take());
        if session == Session::WithoutAny {
            for fd in 0..3 {
                let open = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
                assert_eq!(open.to_str().unwrap(), "/dev/null", "nothing of ours has the number {fd}");
            }
        }
        let status = app.run("status").ends(0).out;
        assert!(status.contains(&format!("app-1: under way in process {pid}")), "{session:?}: {status}");
        // From another session: what was and what comes, until it has ended.
        let follower = app.start("log --follow");
        std::thread::sleep(Duration::from_millis(100));
        app.touch("go");
        assert_eq!(ended(run.child).status, 0, "{session:?}");
        let followed = ended(follower).ends(0).out;
        assert!(followed.contains("it begins\n") && followed.contains("it is done\n"), "{session:?}: {followed}");
        assert_eq!(app.world(), NEW, "{session:?}");
        app.run("history --verify").ends(0);
        app.run("store verify").ends(0);
    }
}

/// How one that was killed stands after `recover`.
fn settled(app: &App, told: &str) -> &'static str {
    app.run("recover").ends(0);
    let history = app.run("history --verify --json").ends(0).out;
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let (world, stands) = match history["transactions"][0]["place"].as_str() {
        Some("committed") => (NEW, "after"),
        Some("aborted" | "rolled-back") | None => (OLD, "before"),
        other => panic!("{told}: {other:?}"),
    };
    assert_eq!(app.world(), world, "{told}");
    assert!(app.side_copies().is_empty(), "{told}");
    app.run("status").ends(0);
    // One that was ended at once has not come so far.
    if app.bed.exists("state/store") {
        app.run("store verify").ends(0);
    }
    stands
}

#[test]
fn killed_in_any_session_at_any_moment_it_is_before_or_after() {
    let mut dice = Dice(11);
    for session in SESSIONS {
        let (mut before, mut after) = (0, 0);
        let app = App::new();
        let clock = Instant::now();
        start(&app, session, "run plan.toml").child.wait().unwrap();
        let there = clock.elapsed();
        for _ in 0..5 {
            let app = App::new();
            let mut run = start(&app, session, "-v run plan.toml");
            let (hang_up, kill) = (there.mul_f64(dice.part() / 2.0), there.mul_f64(dice.part() / 2.0));
            std::thread::sleep(hang_up);
            drop(run.terminal.take());
            std::thread::sleep(kill);
            let _ = run.child.kill();
            run.child.wait().unwrap();
            match settled(&app, &format!("{session:?}, killed after {:?} of {there:?}", hang_up + kill)) {
                "after" => after += 1,
                _ => before += 1,
            }
        }
        println!("{session:?}: 5 kills, {before} before, {after} after, 0 otherwise");
    }
}

#[test]
fn any_number_of_signals_at_any_moment_leaves_one_of_two_worlds() {
    let mut dice = Dice(12);
    let (mut before, mut after, mut left) = (0, 0, 0);
    let app = App::new();
    let clock = Instant::now();
    app.run("run plan.toml").ends(0);
    let there = clock.elapsed();
    for round in 0..16 {
        let app = App::new();
        let run = app.start("run plan.toml");
        let began = Instant::now();
        let mut moments: Vec<Duration> = (0..2 + round % 3).map(|_| there.mul_f64(dice.part() * 1.2)).collect();
        moments.sort();
        for moment in &moments {
            std::thread::sleep(moment.saturating_sub(began.elapsed()));
            send(["INT", "TERM"][usize::try_from(dice.below(2)).unwrap()], run.id());
        }
        let said = ended(run);
        let told = format!("signals at {moments:?} of {there:?}: {}\n{}", said.status, said.err);
        match said.status {
            // Before the handlers were there, it simply ended.
            130 | 143 | 0 => {}
            5 => left += 1,
            _ => panic!("{told}"),
        }
        match settled(&app, &told) {
            "after" => after += 1,
            _ => before += 1,
        }
    }
    println!("signals: 16 rounds ({left} left to recover), {before} before, {after} after, 0 otherwise");
}

#[test]
fn stopped_and_continued_no_time_limit_is_over_that_had_time_left() {
    let app =
        App::new().edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\ntimeout = \"3s\"").script(
            "install",
            "echo $$ > @BED@/waits.new; mv @BED@/waits.new @BED@/waits\n\
             sleep 0.5; echo 2.0.0 > @BED@/app/version; sleep 0.5",
        );
    let run = app.start("run plan.toml");
    wait_until("the step is under way", || app.bed.exists("waits"));
    let step: u32 = app.bed.read("waits").trim().parse().unwrap();
    for pid in [run.id(), step] {
        send("STOP", pid);
    }
    std::thread::sleep(Duration::from_secs(4));
    for pid in [step, run.id()] {
        send("CONT", pid);
    }
    ended(run).ends(0);
    assert_eq!(app.world(), NEW);
}

#[test]
fn stopped_at_any_moment_nobody_else_touches_it_and_it_goes_on() {
    let mut dice = Dice(13);
    let app = App::new();
    let clock = Instant::now();
    app.run("run plan.toml").ends(0);
    let there = clock.elapsed();
    for _ in 0..6 {
        let app = App::new();
        let run = app.start("run plan.toml");
        let moment = there.mul_f64(dice.part());
        std::thread::sleep(moment);
        send("STOP", run.id());
        let recover = app.start("recover");
        std::thread::sleep(Duration::from_millis(300));
        send("CONT", run.id());
        ended(run).ends(0);
        let said = ended(recover);
        assert!(matches!(said.status, 0 | 7 | 10), "after {moment:?}: {}\n{}", said.status, said.err);
        assert_eq!(app.world(), NEW);
        app.run("history --verify").ends(0);
    }
}

/// A reader that does not read: a terminal on hold (Ctrl-S), or a connection that is dead and not yet closed.
#[test]
fn a_reader_that_is_there_and_does_not_read_keeps_nothing_down() {
    let app = App::new().script(
        "install",
        "echo 2.0.0 > @BED@/app/version; yes this is a line of what the installer says | head -c 300000",
    );
    let mut run = start(&app, Session::HungUp, "-v run plan.toml");
    wait_until("it has ended", || !is_alive(run.child.id()));
    assert_eq!(run.child.wait().unwrap().code(), Some(0));
    assert_eq!(app.world(), NEW);
    let mut seen = vec![0; 4096];
    assert!(run.terminal.as_mut().unwrap().read(&mut seen).unwrap() > 0, "what it took was shown");

    let app = App::new().script(
        "install",
        "echo 2.0.0 > @BED@/app/version; yes this is a line of what the installer says | head -c 300000",
    );
    let run = app.start("-v run plan.toml");
    wait_until("it has ended", || !is_alive(run.id()));
    let said = Said::of(run.wait_with_output().unwrap()).ends(0);
    assert!(said.err.contains("this is a line"), "what it took was shown");
    assert_eq!(app.world(), NEW);
}

#[test]
fn what_a_program_that_knows_a_secret_prints_is_shown_when_it_is_masked() {
    let app = App::new()
        .edit(
            "run  = [\"@BED@/bin/install\"]",
            "run  = [\"@BED@/bin/install\"]\nenv  = { TOKEN = { file = \"@BED@/token\" } }",
        )
        .script(
            "install",
            "echo 2.0.0 > @BED@/app/version; echo the token is $TOKEN; touch @BED@/waits\n\
             for i in $(seq 1500); do [ -e @BED@/go ] && break; sleep 0.02; done; echo it is done",
        );
    let token = app.bed.write("token", "hunter2-hunter2\n");
    std::fs::set_permissions(token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let run = app.start("run plan.toml");
    wait_until("the step is under way", || app.bed.exists("waits"));
    let follower = app.start("log --follow");
    std::thread::sleep(Duration::from_millis(500));
    let meanwhile = app.run("log app-1 install").ends(0).out;
    assert!(meanwhile.contains("bin/install") && !meanwhile.contains("the token"), "{meanwhile}");
    app.touch("go");
    ended(run).ends(0);
    let followed = ended(follower).ends(0).out;
    let expected = "the token is ***************\nit is done\n";
    assert!(followed.contains(expected), "{followed}");
    assert_eq!(app.run("log app-1 install").ends(0).out.matches(expected).count(), 1);

    // Killed in the middle, it is not shown until `recover` has masked it.
    app.run("rollback --yes").ends(0);
    for file in ["waits", "go"] {
        app.remove(file);
    }
    let mut run = app.start("run plan.toml");
    wait_until("the step is under way", || app.bed.exists("waits"));
    send("KILL", run.id());
    run.wait().unwrap();
    let tx = "app-3";
    assert!(!app.run(&format!("log {tx} install")).ends(0).out.contains("hunter2"));
    assert!(!app.run(&format!("log {tx} --follow")).ends(0).out.contains("hunter2"));
    app.run("recover").ends(0);
    assert!(!app.run(&format!("log {tx} install")).ends(0).out.contains("hunter2"));
    assert_eq!(app.world(), OLD);
}
