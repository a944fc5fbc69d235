//! What is stopped and resumed, and with which of the entry's keys.

use super::*;
use crate::context_fixture::{Fixture, shown};
use crate::plan::List;

#[test]
fn each_direction_runs_its_program() {
    let f = Fixture::new();
    let it =
        f.quiesce("kind = \"command\"\nshell = \"echo off >> $dir/log\"\nresume = { shell = \"echo on >> $dir/log\" }");
    let cx = f.context("it");
    it.quiesce(&cx).unwrap();
    it.resume(&cx).unwrap();
    it.resume(&cx).unwrap();
    assert_eq!(std::fs::read_to_string(f.path("log")).unwrap(), "off\non\non\n");
    assert_eq!(it.describe(&f.scope()), ("run echo off >> $dir/log".to_owned(), "run echo on >> $dir/log".to_owned()));
    assert_eq!(it.claims(&cx), Ok(Vec::new()));
}

#[test]
fn what_is_left_out_does_nothing() {
    let f = Fixture::new();
    let it = f.quiesce("kind = \"command\"\nresume = [\"touch\", \"${dir}/up\"]");
    let cx = f.context("it");
    assert_eq!(it.quiesce(&cx), Ok(Output::default()));
    assert!(!f.path("up").exists());
    it.resume(&cx).unwrap();
    assert!(f.path("up").exists());
    let (stop, resume) = it.describe(&f.scope());
    assert_eq!((stop.as_str(), resume.starts_with("run touch ")), ("nothing", true));
}

#[test]
fn the_keys_of_the_entry_hold_for_both_programs() {
    let f = Fixture::new();
    std::fs::create_dir(f.path("sub")).unwrap();
    let keys = "kind = \"command\"\nrun = [\"sh\", \"-c\", \"pwd > off; echo $WHO >> off\"]\n\
                resume = [\"sh\", \"-c\", \"pwd > on; echo $WHO >> on\"]\ndir = \"${dir}/sub\"\nenv = { WHO = \"me\" }";
    let it = f.quiesce(keys);
    let cx = f.context("it");
    it.quiesce(&cx).unwrap();
    it.resume(&cx).unwrap();
    let expected = format!("{}\nme\n", f.path("sub").display());
    assert_eq!(std::fs::read_to_string(f.path("sub/off")).unwrap(), expected);
    assert_eq!(std::fs::read_to_string(f.path("sub/on")).unwrap(), expected);
    let late = f.quiesce("kind = \"command\"\nrun = [\"true\"]\nresume = [\"sleep\", \"60\"]\ntimeout = \"100ms\"");
    assert_eq!(shown(&late.resume(&cx).unwrap_err(), &f), "`sleep 60` was stopped after 100ms: it did not end in time");
}

#[test]
fn a_server_that_stays_is_named() {
    let f = Fixture::new();
    let it = f.quiesce("kind = \"command\"\nresume = { shell = \"sleep 2.25 & true\" }");
    let note = it.resume(&f.context("it")).unwrap().note;
    let pid: i32 = note.split(' ').nth(2).and_then(|word| word.parse().ok()).expect("a pid is named");
    assert_eq!(note, format!("left running: {pid} sleep 2.25"));
    // SAFETY: ends the one process that this test left running.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

#[test]
fn units_are_named_in_the_order_of_stopping_and_of_starting() {
    let f = Fixture::new();
    let it = f.quiesce("kind = \"service\"\nunits = [\"web\", \"shop.service\", \"worker@*\"]\ntimeout = \"1m\"");
    let (stop, start) = it.describe(&f.scope());
    assert_eq!(stop, "stop web, shop.service, worker@*");
    assert_eq!(start, "start what was up of worker@*, shop.service, web");
    let minute = Some(std::time::Duration::from_secs(60));
    assert_eq!((it.time_limits(), it.remembers()), ((minute, minute), true));
}

#[test]
fn mistakes_of_quiesces_are_told() {
    let f = Fixture::new();
    let all = f.all_mistakes(
        List::Quiesce,
        &[
            "kind = \"command\"",
            "kind = \"command\"\nrun = [\"x\"]\nresum = [\"y\"]",
            "kind = \"command\"\nresume = [\"x\"]\ndri = \"/\"",
            "kind = \"service\"\nsteady = \"5s\"",
            "kind = \"service\"\nunits = []\nstedy = \"5s\"",
            "kind = \"service\"\nunits = [\"shop\"]\ntimeout = \"0s\"",
        ],
    );
    insta::assert_snapshot!(all, @r#"
    neither `run` nor `resume` says what to do
    hint: run = ["…"] and resume = ["…"]

    unknown key `resum`
    hint: did you mean `resume`?

    unknown key `dri`
    hint: did you mean `dir`?

    the key `units` is missing

    `units` names no unit
    hint: units = ["shop.service"]
    unknown key `stedy`
    hint: did you mean `steady`?

    `timeout` cannot be nothing
    hint: write it as `"90s"`, `"10m"`, `"1h 30m"` or `"500ms"`
    "#);
}
