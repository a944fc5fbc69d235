//! A fault at any point (issue 4): txupgrade is killed before each of its effects on disk, or that effect fails, and it is
//! killed again while it recovers. Whatever happens, what is left after `recover` is exactly the world before or exactly
//! the one after, the journal says which, the store is whole, and nothing lies around.
//!
//! A point is a system call that changes something on disk, whoever in the program makes it, SQLite included; they are
//! counted from outside (see `trace`), so nothing in the product knows of this. By default some of the points are
//! disturbed, chosen by a seed that is printed; the README says how to have them all.

mod ground;
mod scenario;
mod stage;
mod strace;
mod table;
mod trace;

use crate::tree::Dice;

use scenario::Scenario;
use stage::{ERRORS, Stage};
use table::{Row, Table};
use trace::Fault;

/// How much is disturbed, of each scenario.
#[derive(Debug, Clone, Copy)]
struct Amount {
    kills: usize,
    errors: usize,
    pairs: usize,
}

const ALL: usize = usize::MAX;

impl Amount {
    /// As the environment says.
    fn asked() -> Amount {
        let points = |normal| asked("TXUPGRADE_POINTS", normal);
        Amount { kills: points(30), errors: points(24), pairs: asked("TXUPGRADE_PAIRS", 8) }
    }
}

/// A number from the environment, or `all`.
fn asked(name: &str, normal: usize) -> usize {
    match std::env::var(name).as_deref() {
        Err(_) => normal,
        Ok("all") => ALL,
        Ok(number) => number.parse().unwrap_or_else(|_| panic!("{name} is a number or `all`")),
    }
}

/// The seed that the environment asks for, or another one each time.
fn seed() -> u64 {
    asked("TXUPGRADE_SEED", std::process::id() as usize) as u64
}

/// The scenarios whose name holds what the environment asks for.
fn scenarios() -> Vec<&'static Scenario> {
    let only = std::env::var("TXUPGRADE_SCENARIO").unwrap_or_default();
    scenario::ALL.iter().filter(|scenario| scenario.name.contains(&only)).collect()
}

/// Lets several workers do their share of each job, and adds up what they return for it.
fn shared<J: Sync>(jobs: &[J], work: impl Fn(&J, Share) -> Vec<Row> + Sync) -> Vec<Row> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let mut rows: Vec<Row> = Vec::new();
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..workers)
            .map(|worker| {
                let work = &work;
                scope.spawn(move || {
                    jobs.iter().flat_map(|job| work(job, Share { worker, workers, turn: 0 })).collect::<Vec<Row>>()
                })
            })
            .collect();
        for share in shares {
            let share = share.join().unwrap();
            rows.resize_with(share.len(), Row::default);
            rows.iter_mut().zip(share).for_each(|(row, more)| row.add(more));
        }
    });
    rows
}

/// Which of the faults are those of one worker.
struct Share {
    worker: usize,
    workers: usize,
    turn: usize,
}

impl Share {
    fn is_next(&mut self) -> bool {
        self.turn += 1;
        self.turn % self.workers == self.worker
    }
}

/// Prints what faults led to; fails if one led anywhere but to before or after.
#[track_caller]
fn tell(title: &str, rows: &[Row]) {
    const SHOWN: usize = 30;
    let wrong: Vec<&String> = rows.iter().flat_map(|row| &row.otherwise).collect();
    let table = Table(title, rows).to_string();
    println!("\n{table}");
    for one in rows.iter().flat_map(|row| &row.stuck).take(SHOWN) {
        println!("- stuck first: {one}");
    }
    for one in wrong.iter().take(SHOWN) {
        println!("- {one}\n");
    }
    assert!(wrong.is_empty(), "{} of them ended otherwise", wrong.len());
}

fn disturb(scenario: &Scenario, seed: u64, amount: Amount, mut share: Share) -> Vec<Row> {
    let stage = Stage::set(scenario);
    let of = |kind: &str| Row::of(format!("{}: {kind}", scenario.name), stage.points.len());
    let [mut kills, mut errors, mut lasting, mut pairs] =
        ["kills", "errors", "lasting errors", "pairs of kills"].map(of);
    let mut dice = Dice(seed);
    for at in stage.some(amount.kills, &mut dice) {
        if share.is_next() {
            stage.disturb(Fault::Kill(at), Fault::Nowhere, &mut kills);
        }
    }
    for (turn, at) in stage.some(amount.errors, &mut dice).into_iter().enumerate() {
        for (number, (error, _)) in ERRORS.iter().enumerate() {
            if (amount.errors == ALL || turn % ERRORS.len() == number) && share.is_next() {
                stage.disturb(Fault::Fail(at, *error), Fault::Nowhere, &mut errors);
            }
        }
    }
    let some = if amount.errors == ALL { ALL } else { amount.errors / 3 };
    for (turn, at) in stage.some(some, &mut dice).into_iter().enumerate() {
        if share.is_next() {
            let (error, _) = ERRORS[turn % ERRORS.len()];
            stage.disturb(Fault::FailOn(at, error), Fault::Nowhere, &mut lasting);
        }
    }
    for at in stage.some(amount.pairs, &mut dice) {
        let part = dice.part();
        if !share.is_next() {
            continue;
        }
        let first = Fault::Kill(at);
        let points = stage.points_of_recovery(first);
        let seconds = match amount.pairs {
            ALL => 0..points,
            _ => {
                let second = (part * points as f64) as usize;
                second..second + 1
            }
        };
        for second in seconds {
            stage.disturb(first, Fault::Kill(second), &mut pairs);
        }
    }
    vec![kills, errors, lasting, pairs]
}

#[test]
fn a_fault_at_any_point_ends_before_or_after() {
    let (seed, amount) = (seed(), Amount::asked());
    println!("TXUPGRADE_SEED={seed}");
    let scenarios = scenarios();
    let rows = shared(&scenarios, |scenario, share| disturb(scenario, seed, amount, share));
    tell("a fault at any point", &rows);
    let points: usize = rows.iter().step_by(4).map(|row| row.points).sum();
    println!("{points} points counted in {} scenarios", scenarios.len());
    assert!(points >= 300 || scenarios.len() < scenario::ALL.len(), "only {points} points were counted");
}

#[test]
fn what_could_not_be_synced_into_the_journal_is_for_recover_to_tell() {
    let commit = scenario::ALL.iter().find(|scenario| scenario.name == "the commit of an open one").unwrap();
    let stage = Stage::set(commit);
    let first = stage.points.iter().position(|point| point.call == "fsync" && point.target.ends_with("journal.db-wal"));
    let fault = Fault::Fail(first.unwrap(), libc::EIO);
    let run = |ground: &ground::Ground| {
        let (said, _) = ground.traced(commit.command, fault);
        let told = said.err.replace(ground.bed.path("").to_str().unwrap(), "BED/");
        insta::assert_snapshot!(told, @r"
        error: `app-1` was left half-way
          cause: cannot write to the journal `BED/state/journal.db`
          cause: disk I/O error
        hint: remove the cause, then `txupgrade recover` settles it
        ");
        said
    };
    let (world, _) = stage.disturbed_by(run, &[5]);
    assert_eq!(world, table::World::After);
}
