//! The same by a program that is not ours: `strace` kills the release build, or lets its calls fail.
//!
//! Unlike `trace` it also hits the programs that are started, and calls that only read. `when=N` counts for each
//! process and thread on its own, so one injection can hit several of them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::tree::Dice;

use super::scenario::{self, Scenario};
use super::stage::Stage;
use super::table::Row;
use super::{ALL, Share, asked, ground, seed, shared, tell};

/// What is hit, and up to which of its calls.
const CALLS: [&str; 5] = [
    "rename,renameat,renameat2",
    "fsync,fdatasync,syncfs",
    "unlink,unlinkat,rmdir",
    "openat,openat2",
    "write,pwrite64",
];
const INJECTED: [&str; 3] = ["signal=KILL", "error=EIO", "error=ENOSPC"];
/// The names of the scenarios whose commands are hit.
const HIT: [&str; 3] = ["a run that prunes", "a run that fails", "the undoing of a run"];
/// All that a command may end with whose calls fail: what it reads may seem damaged or wrong, and the loader finds no
/// library.
const STATUSES: [i32; 9] = [0, 1, 2, 3, 4, 5, 8, 10, 127];

/// How many injections have hit something.
static HITS: AtomicUsize = AtomicUsize::new(0);

/// The release build, if it is not older than the debug build.
fn program() -> PathBuf {
    let debug = ground::program();
    let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/txupgrade");
    let made = |path: &Path| path.metadata().and_then(|there| there.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if made(&release) >= made(debug) { release } else { debug.to_owned() }
}

fn hit(scenario: &Scenario, seed: u64, places: usize, mut share: Share) -> Vec<Row> {
    let stage = Stage::set(scenario);
    let program = program();
    let mut dice = Dice(seed);
    let mut rows = Vec::new();
    for injected in INJECTED {
        let mut row = Row::of(format!("{}: {injected}", scenario.name), 0);
        for place in 0..places {
            let calls = CALLS[place % CALLS.len()];
            // Opening to read is no point, and most of what is opened.
            let of_these = |call: &str| calls.split(',').any(|one| one == call);
            let many = stage.points.iter().filter(|point| of_these(point.call)).count() as u64;
            let when = 1 + dice.below(if of_these("openat") { many + 300 } else { many });
            if !share.is_next() {
                continue;
            }
            // With `--seccomp-bpf` it would be faster, and strace 6.1 then injects no signal.
            let by = format!("strace -f -qq -o hits -e trace={calls} -e inject={calls}:{injected}:when={when}");
            let by: Vec<String> = by.split(' ').map(str::to_owned).collect();
            let run = |ground: &ground::Ground| {
                let said = ground.run_by(&by, &program, scenario.command);
                let told = ground.bed.read("hits");
                let hit = told.contains("(INJECTED)") || told.contains("killed by SIGKILL");
                HITS.fetch_add(usize::from(hit), Ordering::Relaxed);
                said
            };
            let (world, stuck) = stage.disturbed_by(run, &STATUSES);
            row.count(&format!("{}, {calls} {injected} when={when}", scenario.name), world, stuck);
        }
        rows.push(row);
    }
    rows
}

#[test]
fn strace_injections_end_before_or_after() {
    let works = std::process::Command::new("strace").arg("-V").output();
    works.expect("strace is there (Debian: apt-get install strace)");
    let seed = seed();
    // Of each scenario and injection that many; 200 in all, and some more, when all are asked for.
    let places = match asked("TXUPGRADE_STRACE", 5 * HIT.len() * INJECTED.len()) {
        ALL => 25,
        number => number.div_ceil(HIT.len() * INJECTED.len()),
    };
    println!("TXUPGRADE_SEED={seed}, {}", program().display());
    let scenarios: Vec<&Scenario> = scenario::ALL.iter().filter(|one| HIT.contains(&one.name)).collect();
    let rows = shared(&scenarios, |scenario, share| hit(scenario, seed, places, share));
    tell("strace injections", &rows);
    let hits = HITS.load(Ordering::Relaxed);
    println!("{hits} of them hit something");
    assert!(hits >= places * HIT.len() * INJECTED.len() / 2, "most injections have hit nothing");
}
