//! Many at once: of those that overlap one runs and is named, those that do not run at the same time, and nothing is
//! lost; a lock is worth as much as the process that holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::{App, NEW, OLD, ended, send, wait_until};
use crate::bed::{Bed, Said};
use crate::tree::Dice;

#[test]
fn of_twenty_runs_that_overlap_one_runs_and_is_named() {
    // It goes on when all have been started and the others have been refused.
    let app = App::new().script(
        "install",
        "echo 2.0.0 > @BED@/app/version; echo $TXUPGRADE_TX >> @BED@/ran\n\
         for i in $(seq 3000); do [ -e @BED@/go ] && exit 0; sleep 0.02; done; exit 1",
    );
    // The same plan, and others whose paths are equal, inside and around.
    app.bed.write("app/sub/file", "x");
    let plan = app.bed.read("plan.toml");
    for (name, path) in [("same", "app"), ("inner", "app/sub")] {
        let other = plan.replace("name   = \"app\"", &format!("name   = \"{name}\""));
        let other =
            other.replace(&format!("path = \"{}/app\"", app.root()), &format!("path = \"{}/{path}\"", app.root()));
        app.bed.write(&format!("{name}.toml"), &other);
    }
    let plans = ["plan.toml", "same.toml", "inner.toml"];
    let runs: Vec<Child> = (0..20).map(|number| app.start(&format!("run {}", plans[number % 3]))).collect();
    wait_until("one runs", || app.bed.exists("ran"));
    let alive = |runs: &[Child]| runs.iter().filter(|run| super::is_alive(run.id())).count();
    wait_until("the others have been refused", || alive(&runs) == 1);
    app.touch("go");
    let said: Vec<Said> = runs.into_iter().map(ended).collect();
    let ran = app.bed.read("ran").trim().to_owned();
    let statuses: Vec<i32> = said.iter().map(|said| said.status).collect();
    let of = |status: i32| statuses.iter().filter(|found| **found == status).count();
    println!("20 runs that overlap: {} ran, {} ended with 6, {} with 7", of(0), of(6), of(7));
    assert_eq!((of(0), of(6) + of(7)), (1, 19), "{statuses:?}");
    for said in said.iter().filter(|said| said.status != 0) {
        assert!(said.err.contains(&format!("`{ran}`")), "`{ran}` is named: {}", said.err);
    }
    assert_eq!(app.world(), NEW);
    assert_eq!(places(&app).len(), 1, "nothing was begun by those that were refused");
    app.run("store verify").ends(0);
}

/// Where each transaction is, by the history whose chain has been verified.
fn places(app: &App) -> BTreeMap<String, Value> {
    let said = app.run("history --verify --json").ends(0).out;
    let history: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(history["unreadable"].as_array().unwrap().len(), 0);
    let all = history["transactions"].as_array().unwrap();
    all.iter().map(|past| (past["tx"].as_str().unwrap().to_owned(), past.clone())).collect()
}

/// A plan of its own: a directory with a number in it, which each run makes greater by one while nobody else may touch
/// it. Who finds somebody else at work says so in `clashes`.
fn counter(bed: &Bed, name: &str) {
    bed.write(&format!("{name}/number"), "0\n");
    bed.script(
        &format!("bin/{name}-ctl"),
        &format!(
            "other=$(cat @BED@/{name}-busy 2>/dev/null)\n\
             [ -z \"$other\" ] || [ \"$other\" = $TXUPGRADE_TX ] || echo $other $TXUPGRADE_TX $1 >> @BED@/clashes\n\
             case $1 in stop) echo $TXUPGRADE_TX > @BED@/{name}-busy;; start) rm -f @BED@/{name}-busy;; esac"
        ),
    );
    bed.script(
        &format!("bin/{name}-add"),
        &format!("n=$(cat @BED@/{name}/number); sleep 0.05; echo $((n + 1)) > @BED@/{name}/number"),
    );
    bed.write(
        &format!("{name}.toml"),
        &format!(
            "format = 1\nname = \"{name}\"\n\
             [[quiesce]]\nname = \"server\"\nkind = \"command\"\nrun = [\"@BED@/bin/{name}-ctl\", \"stop\"]\n\
             resume = [\"@BED@/bin/{name}-ctl\", \"start\"]\n\
             [[resource]]\nname = \"number\"\nkind = \"path\"\npath = \"@BED@/{name}\"\n\
             [[step]]\nname = \"add\"\nkind = \"command\"\nrun = [\"@BED@/bin/{name}-add\"]\n"
        ),
    );
}

fn number(app: &App, name: &str) -> usize {
    app.bed.read(&format!("{name}/number")).trim().parse().unwrap()
}

/// How many upgrades of a plan are committed and not undone.
fn in_effect(places: &BTreeMap<String, Value>, plan: &str) -> usize {
    let of_plan = places.iter().filter(|(tx, _)| tx.rsplit_once('-').unwrap().0 == plan);
    let counts = of_plan.filter(|(_, past)| {
        past["place"] == "committed" && past["purpose"] == "upgrade" && past["undone_by"].is_null()
    });
    counts.count()
}

/// What is done; `TX` is one that is open at the moment, if one is.
const VERBS: [&str; 16] = [
    "run one.toml",
    "run two.toml",
    "run one.toml",
    "begin one.toml",
    "begin two.toml",
    "apply TX",
    "apply TX",
    "commit TX",
    "commit TX",
    "rollback TX",
    "rollback --yes",
    "rollback --yes",
    "recover",
    "snapshot one.toml",
    "store prune",
    "history",
];

/// One of the open transactions.
fn one_open(app: &App, dice: &mut Dice) -> String {
    let said = app.run("status --json").out;
    let status: Value = serde_json::from_str(&said).unwrap();
    let open = status["open"].as_array().unwrap();
    if open.is_empty() {
        return String::new();
    }
    let one = &open[usize::try_from(dice.below(open.len() as u64)).unwrap()];
    one["tx"].as_str().unwrap().to_owned()
}

#[test]
fn two_at_once_over_and_over_lose_nothing() {
    let rounds = super::times("TXUPGRADE_TEST_ROUNDS", 14);
    let app = App::new();
    counter(&app.bed, "one");
    counter(&app.bed, "two");
    let tally: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let reported: Mutex<BTreeSet<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (app, tally, reported) = (&app, &tally, &reported);
            scope.spawn(move || {
                let mut dice = Dice(100 + seed);
                for _ in 0..rounds {
                    let verb = VERBS[usize::try_from(dice.below(16)).unwrap()];
                    let verb = verb.replace("TX", &one_open(app, &mut dice));
                    let said = app.run(&format!("{verb} --json"));
                    let told = format!("{verb} ended with {}:\n{}{}", said.status, said.out, said.err);
                    assert!(matches!(said.status, 0 | 1 | 2 | 6 | 7 | 10), "{told}");
                    let answer: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{told}"));
                    if let (Some(tx), true) = (answer["tx"].as_str(), verb.starts_with("run") && said.status == 0) {
                        assert!(reported.lock().unwrap().insert(tx.to_owned()), "{tx} was run twice");
                        assert_eq!(answer["place"], "committed", "{told}");
                    }
                    let word = verb.split_whitespace().next().unwrap();
                    *tally.lock().unwrap().entry(format!("{word} {}", said.status)).or_default() += 1;
                }
            });
        }
    });
    // What was left open is settled by hand.
    app.run("recover");
    for (tx, past) in places(&app) {
        if !["committed", "aborted", "rolled-back"].contains(&past["place"].as_str().unwrap()) {
            app.run(&format!("rollback {tx}")).ends(0);
        }
    }
    let places = places(&app);
    for plan in ["one", "two"] {
        assert_eq!(number(&app, plan), in_effect(&places, plan), "{plan}: {places:#?}");
    }
    for tx in reported.lock().unwrap().iter() {
        assert_eq!(places[tx]["place"], "committed", "{tx} was reported");
    }
    assert!(!app.bed.exists("clashes"), "{}", app.bed.read("clashes"));
    app.run("status").ends(0);
    app.run("store verify").ends(0);
    assert!(app.side_copies().is_empty());
    println!(
        "4 at once, {rounds} commands each: {} transactions, nothing lost; {:?}",
        places.len(),
        tally.lock().unwrap()
    );
}

#[test]
fn two_that_do_not_overlap_run_at_the_same_time_beside_prune_and_history() {
    let app = App::new();
    for name in ["one", "two"] {
        counter(&app.bed, name);
        // Each goes on only when the other's step runs too.
        let other = if name == "one" { "two" } else { "one" };
        app.bed.script(
            &format!("bin/{name}-add"),
            &format!(
                "echo 1 > @BED@/{name}/number; touch @BED@/{name}-there\n\
                 for i in $(seq 1500); do [ -e @BED@/{other}-there ] && exit 0; sleep 0.02; done; exit 1"
            ),
        );
    }
    // Else there is no journal yet, and nothing that could be pruned.
    app.run("run plan.toml").ends(0);
    let over = AtomicBool::new(false);
    let (mut pruned, mut refused, mut looked) = (0, 0, 0);
    std::thread::scope(|scope| {
        let prune = scope.spawn(|| {
            let mut counts = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let said = app.run("store prune");
                assert!(matches!(said.status, 0 | 7), "{}: {}", said.status, said.err);
                match said.status {
                    0 => counts.0 += 1,
                    _ => {
                        assert!(said.err.contains("the store is locked by another process"), "{}", said.err);
                        counts.1 += 1;
                    }
                }
            }
            counts
        });
        let look = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                app.run("history --verify").ends(0);
                count += 1;
            }
            count
        });
        std::thread::sleep(Duration::from_millis(300));
        let (one, two) = (app.start("run one.toml"), app.start("run two.toml"));
        ended(one).ends(0);
        ended(two).ends(0);
        std::thread::sleep(Duration::from_millis(300));
        over.store(true, Ordering::Relaxed);
        (pruned, refused) = prune.join().unwrap();
        looked = look.join().unwrap();
    });
    let step = |tx: &str| {
        let shown: Value = serde_json::from_str(&app.run(&format!("show {tx} --json")).ends(0).out).unwrap();
        let line = shown["timeline"].as_array().unwrap().iter().find(|line| line["task"] == "apply add").unwrap();
        let began: jiff::Timestamp = line["at"].as_str().unwrap().parse().unwrap();
        (began, began + Duration::from_secs_f64(line["took"].as_f64().unwrap()))
    };
    let (one, two) = (step("one-1"), step("two-1"));
    assert!(one.0 < two.1 && two.0 < one.1, "their steps ran at the same time: {one:?} {two:?}");
    assert!(pruned > 0 && looked > 0);
    println!("2 at once beside prune ({pruned} done, {refused} refused with 7) and history ({looked}): both committed");
    assert_eq!((number(&app, "one"), number(&app, "two")), (1, 1));
    app.run("store verify").ends(0);
}

#[test]
fn the_lock_of_a_dead_owner_or_of_another_with_its_pid_keeps_nobody_out() {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let living = std::process::id();
    for (what, pid, start, boot) in [
        ("a dead one", 4_194_000, 7, boot.trim()),
        ("a reused pid", living, (ticks + 100) * 10_000_000, boot.trim()),
        ("of another boot", living, ticks * 10_000_000, "another"),
        ("even a living one that does not hold it", living, ticks * 10_000_000, boot.trim()),
    ] {
        let app = App::new();
        app.run("begin plan.toml").ends(0);
        let claim = serde_json::json!({
            "pid": pid, "start": start, "boot_id": boot, "command": "txupgrade run plan.toml",
            "what": "transaction `app-1`", "since": "2026-11-21T03:15:19Z",
        });
        for lock in ["app-1.lock", "begin.lock", "store.lock"] {
            app.bed.write(&format!("state/locks/{lock}"), &format!("{claim}\n"));
        }
        let status = app.run("status").ends(10).out;
        assert!(status.contains("app-1: open"), "{what}: {status}");
        app.run("apply").ends(0);
        app.run("store prune").ends(0);
        app.run("rollback").ends(0);
        assert_eq!(app.world(), OLD, "{what}");
    }
}

#[test]
fn a_holder_that_was_killed_is_named_no_more_and_one_that_lives_by_pid_command_and_transaction() {
    let app = App::new().script("install", "touch @BED@/waits; sleep 300");
    let mut run = app.start("run plan.toml");
    wait_until("it is under way", || app.bed.exists("waits"));
    let said = app.run("rollback app-1").ends(7);
    insta::assert_snapshot!(without_time(&said.told(&app.bed)), @r"
    error: transaction `app-1` is locked by another process
      cause: process PID: txupgrade --state-dir BED/state run plan.toml (since THEN)
    hint: wait until it has ended; `txupgrade log --follow` shows what it does
    ");
    assert!(said.err.contains(&format!("process {}: ", run.id())), "{}", said.err);
    send("KILL", run.id());
    run.wait().unwrap();
    app.run("rollback app-1").ends(0);
    assert_eq!(app.world(), OLD);
}

fn without_time(text: &str) -> String {
    let text = text.replace(env!("CARGO_BIN_EXE_txupgrade"), "txupgrade");
    regex::Regex::new("since [^)]*").unwrap().replace_all(&text, "since THEN").into_owned()
}
