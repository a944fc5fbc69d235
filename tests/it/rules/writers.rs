//! txupgrade alone is killed while its step has forked programs that go on writing: `recover` ends them before it puts
//! anything back.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{App, OLD, is_alive, send, wait_until};
use crate::bed::Said;
use crate::tree::Dice;

/// The ways in which a program can get away from the one that started it.
const WAYS: [(&str, &str); 6] = [
    ("child", "@BED@/bin/scribble &"),
    ("session", "setsid @BED@/bin/scribble &"),
    ("daemon", "(setsid sh -c '@BED@/bin/scribble & exit' &)"),
    ("deaf", "setsid sh -c 'trap \"\" TERM INT HUP; exec @BED@/bin/scribble' &"),
    ("nameless", "env -i PATH=$PATH setsid @BED@/bin/scribble &"),
    ("hopping", "setsid @BED@/bin/hop &"),
];

/// An application whose first step starts writers in these ways and then waits.
fn writing(ways: &[&str]) -> App {
    let starts: Vec<&str> = ways.iter().map(|way| WAYS.iter().find(|(name, _)| name == way).unwrap().1).collect();
    // Whoever writes says so: the pid in a file of its own, and again and again in what is to be restored.
    let write = "echo x > @BED@/writers/$$; echo scribble >> @BED@/app/data; echo $$ > @BED@/app/by-$$";
    let app = App::new()
        .script("scribble", &format!("while :; do {write}; sleep 0.005; done"))
        .script("hop", &format!("[ ${{1:-0}} -lt 5000 ] || exit\n{write}; rm -f @BED@/app/by-$$ @BED@/writers/$$\n@BED@/bin/hop $((${{1:-0}} + 1)) &"))
        .script(
            "install",
            &format!("echo 2.0.0 > @BED@/app/version\n{}\ntouch @BED@/started; sleep 300", starts.join("\n")),
        );
    std::fs::create_dir(app.bed.path("writers")).unwrap();
    app
}

/// Kills a run alone, some time after its writers were started, and lets `recover` settle it. Returns the writers that
/// live afterwards.
fn left_after_recover(app: &App, mut run: Child, after: Duration, told: &str) -> Vec<u32> {
    wait_until("the writers write", || app.bed.exists("started"));
    std::thread::sleep(after);
    send("KILL", run.id());
    run.wait().unwrap();
    let writers = || -> Vec<u32> {
        let all = std::fs::read_dir(app.bed.path("writers")).unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| is_alive(*pid)).collect()
    };
    wait_until("they go on without it", || !writers().is_empty());
    let said = Said::of(app.bed.command(&["recover"]).env("TXUPGRADE_TEST_GRACE_MS", "100").output().unwrap());
    let left = writers();
    if left.is_empty() {
        let said = said.ends(0);
        assert!(said.err.contains("warning: ended process"), "who was ended is named: {}", said.err);
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(app.world(), OLD, "{told}: nothing was written behind the restore");
        let mut names: Vec<_> = std::fs::read_dir(app.bed.path("app")).unwrap().flatten().collect();
        names.retain(|entry| entry.file_name() != "data" && entry.file_name() != "version");
        assert!(names.is_empty(), "{told}: {names:?}");
        app.run("status").ends(0);
        app.run("history --verify").ends(0);
    }
    left
}

#[test]
fn what_a_killed_run_has_forked_is_ended_before_anything_is_restored() {
    let rounds = super::times("TXUPGRADE_TEST_ROUNDS", 7);
    let mut dice = Dice(21);
    for round in 0..rounds {
        // One way each in turn, and all at once.
        let all: Vec<&str> = WAYS.iter().map(|(name, _)| *name).collect();
        let ways = match usize::try_from(round).unwrap() % 7 {
            0 => all.as_slice(),
            one => &all[one - 1..=one - 1],
        };
        let app = writing(ways);
        let after = Duration::from_millis(dice.below(200));
        let left = left_after_recover(&app, app.start("run plan.toml"), after, &format!("round {round}, {ways:?}"));
        assert!(left.is_empty(), "round {round}, {ways:?}: {left:?}");
        assert!(app.processes().is_empty(), "round {round}, {ways:?}");
    }
    println!("forked writers: {rounds} kills, {rounds} before, 0 otherwise");
}

/// The run sees no cgroups, as in a container that has none. Then a program is found by its session or by its
/// environment; one that has left both is nobody's.
#[test]
fn without_a_cgroup_who_left_both_session_and_environment_is_not_found() {
    for (ways, lost) in [(&["child", "session", "daemon", "deaf"][..], 0), (&["nameless"], 1)] {
        let app = writing(ways);
        let line = format!(
            "mount -t tmpfs none /sys/fs/cgroup && exec {} --state-dir {} run plan.toml",
            env!("CARGO_BIN_EXE_txupgrade"),
            app.bed.state().display()
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", &line]).current_dir(app.bed.path(""));
        let run = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let run = run.expect("`unshare` is there (Debian: apt-get install util-linux)");
        let left = left_after_recover(&app, run, Duration::from_millis(50), &format!("{ways:?}"));
        assert_eq!(left.len(), lost, "{ways:?}");
        left.into_iter().for_each(|pid| send("KILL", pid));
    }
}
