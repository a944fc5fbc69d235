//! Captures of one moment go side by side (issue 5), and so do their proofs: shown by the order of what happens, since a
//! dump that waits for another one's begin ends only where both are under way.

use std::time::{Duration, Instant};

use crate::bed::{Bed, Said};

/// A bed with a program that waits until as many dumps are under way as its second word says, and others that misbehave.
fn bed() -> Bed {
    let bed = Bed::new();
    bed.write("live/app/file", "old");
    bed.write("live/more/file", "old");
    bed.script(
        "bin/meet",
        "touch @BED@/met/$1
         for round in $(seq 400); do
             [ $(ls @BED@/met | wc -l) -ge $2 ] && exec cat @BED@/data/$1
             sleep 0.05
         done
         echo $1 was left alone >&2; exit 1",
    );
    bed.script("bin/hang", "echo $$ > @BED@/met/$1; exec sleep 600");
    bed.script(
        "bin/fail",
        "for round in $(seq 400); do
             [ $(ls @BED@/met | wc -l) -ge $1 ] && { echo the server is down >&2; exit 3; }
             sleep 0.05
         done",
    );
    std::fs::create_dir(bed.path("met")).unwrap();
    bed
}

fn plan(bed: &Bed, resources: &str) {
    bed.write(
        "plan.toml",
        &format!(
            "format = 1\nname = \"notes\"\n[[quiesce]]\nname = \"stop\"\nkind = \"command\"\n\
             run = [\"touch\", \"@BED@/down\"]\nresume = [\"rm\", \"@BED@/down\"]\n{resources}"
        ),
    );
}

/// A resource whose dump waits until `count` of them are under way.
fn meets(bed: &Bed, name: &str, count: usize) -> String {
    bed.write(&format!("data/{name}"), name);
    resource(name, &format!("\"@BED@/bin/meet\", \"{name}\", \"{count}\""))
}

fn resource(name: &str, dump: &str) -> String {
    format!(
        "[[resource]]\nname = \"{name}\"\nkind = \"command\"\ndump = [{dump}]\nload = [\"false\"]\n\
         fingerprint = [\"cat\", \"/dev/null\"]\n"
    )
}

fn path(name: &str) -> String {
    format!("[[resource]]\nname = \"{name}\"\nkind = \"path\"\npath = \"@BED@/live/{name}\"\n")
}

/// The tasks of an action that were under way at once, at most.
fn at_once(events: &[String], of: impl Fn(&str) -> bool) -> usize {
    let (mut now, mut most) = (0, 0);
    for event in events {
        match event.split_once(' ') {
            Some(("started", task)) if of(task) => now += 1,
            Some(("succeeded" | "failed", task)) if of(task) => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

/// Waits until a file is there.
#[track_caller]
fn wait_for(bed: &Bed, name: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while !bed.path(name).metadata().is_ok_and(|file| file.len() > 0) {
        assert!(Instant::now() < until, "`{name}` does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lives(bed: &Bed, name: &str) -> bool {
    let pid = bed.read(&format!("met/{name}"));
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

#[test]
fn four_databases_and_a_tree_are_captured_at_once_and_trees_one_by_one() {
    let bed = bed();
    // Six that wait until four are there: with fewer at once none would end.
    let meeting: String = ["a", "b", "c", "d"].iter().map(|name| meets(&bed, name, 4)).collect();
    plan(&bed, &format!("{meeting}{}{}", path("app"), path("more")));
    bed.run(&["run", "plan.toml"]).ends(0);
    let events = bed.events("notes-1");
    assert_eq!(at_once(&events, |task| task.starts_with("capture")), 4, "{events:#?}");
    assert_eq!(at_once(&events, |task| ["capture app", "capture more"].contains(&task)), 1);
    let place = |event: &str| events.iter().position(|other| other == event).unwrap();
    let last = |kind: &str| events.iter().rposition(|event| event.starts_with(kind)).unwrap();
    // While it is down, and the proofs after the captures.
    assert!(place("succeeded quiesce stop") < place("started capture a"), "{events:#?}");
    assert!(last("succeeded capture") < place("started prove a"));
    assert!(last("succeeded prove") < place("started resume stop"));

    let shown = bed.run(&["show", "--json"]).ends(0);
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    let timeline = shown["timeline"].as_array().unwrap();
    let captures =
        timeline.iter().filter(|moment| moment["task"].as_str().is_some_and(|task| task.starts_with("capture")));
    let captures: Vec<_> = captures.collect();
    assert_eq!(captures.len(), 6);
    assert!(captures.iter().all(|moment| moment["what"] == "succeeded"), "{captures:#?}");
}

#[test]
fn the_first_that_fails_stops_the_others() {
    let bed = bed();
    let hangs = |name: &str| resource(name, &format!("\"@BED@/bin/hang\", \"{name}\""));
    let fails = resource("broken", "\"@BED@/bin/fail\", \"1\"");
    plan(&bed, &format!("{}{fails}{}", hangs("a"), path("app")));
    let said = bed.run(&["run", "plan.toml"]).ends(1);
    assert!(!lives(&bed, "a") && !bed.exists("down"));
    let events = bed.events("notes-1");
    let failed: Vec<&String> = events.iter().filter(|event| event.starts_with("failed")).collect();
    assert_eq!(failed, ["failed capture broken", "failed capture a"], "{events:#?}");
    let told = said.told(&bed);
    let told = &told[told.find("error:").unwrap()..];
    insta::assert_snapshot!(told, @r"
    error: capture of `broken` failed; nothing was changed
      cause: `BED/bin/fail 1` ended with exit status 3
      cause: its last line was: the server is down
      also: capture of `a` failed: it was stopped, since `capture broken` failed
    hint: after a fix, `txupgrade run plan.toml` again
    ");
}

#[test]
fn a_signal_stops_all_of_them() {
    let bed = bed();
    let hangs = |name: &str| resource(name, &format!("\"@BED@/bin/hang\", \"{name}\""));
    plan(&bed, &format!("{}{}", hangs("a"), hangs("b")));
    let child = bed.start(&["run", "plan.toml"]);
    for name in ["met/a", "met/b"] {
        wait_for(&bed, name);
    }
    // SAFETY: sends a signal to a child of ours that was not waited for.
    unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGTERM) };
    let said = Said::of(child.wait_with_output().unwrap()).ends(143);
    assert!(!lives(&bed, "a") && !lives(&bed, "b") && !bed.exists("down"), "{}", said.err);
    assert_eq!(bed.events("notes-1").last().unwrap(), "ended");
}

#[test]
fn what_a_death_leaves_of_each_of_them_is_ended() {
    let bed = bed();
    let hangs = |name: &str| resource(name, &format!("\"@BED@/bin/hang\", \"{name}\""));
    plan(&bed, &format!("{}{}", hangs("a"), hangs("b")));
    let mut child = bed.start(&["run", "plan.toml"]);
    for name in ["met/a", "met/b"] {
        wait_for(&bed, name);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lives(&bed, "a") && lives(&bed, "b"));
    let said = bed.run(&["recover"]).ends(0);
    assert!(!lives(&bed, "a") && !lives(&bed, "b") && !bed.exists("down"), "{}", said.err);
    let events = bed.events("notes-1");
    assert_eq!(events.last().unwrap(), "ended");
    assert!(events.contains(&"interrupted capture a".to_owned()), "{events:#?}");
    let shown = bed.run(&["show"]).ends(0).out;
    for task in ["capture a", "capture b"] {
        assert!(shown.lines().any(|line| line.contains(task) && line.ends_with("not ended")), "{shown}");
    }
}
