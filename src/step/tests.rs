//! The steps that are small: command, check, wait, sql.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::*;
use crate::check::Finding;
use crate::context_fixture::{Fixture, shown};
use crate::plan::List;
use crate::resource::{Captured, Changes, Claim, Estimate, Resource};
use crate::store::ObjectId;

fn failure(fixture: &Fixture, result: Result<Output>) -> String {
    shown(&result.unwrap_err(), fixture)
}

#[test]
fn a_step_runs_its_program_and_another_takes_it_back() {
    let f = Fixture::new();
    let it = f.step("kind = \"command\"\nrun = [\"touch\", \"${dir}/done\"]\nundo = [\"rm\", \"-f\", \"${dir}/done\"]\nchanges = [\"db\"]");
    let cx = f.context("it");
    it.run(&cx).unwrap();
    assert!(f.path("done").exists() && it.has_undo());
    it.undo(&cx).unwrap();
    it.undo(&cx).unwrap();
    assert!(!f.path("done").exists());
    let line = it.describe(&f.scope()).replace(&f.place().display().to_string(), "DIR");
    assert_eq!(line, "run touch DIR/done, changes db");
    let other = f.step("kind = \"command\"\nrun = [\"true\"]");
    assert!(!other.has_undo());
    assert_eq!(other.undo(&cx), Ok(Output::default()));
}

#[test]
fn a_failed_step_quotes_its_last_line() {
    let f = Fixture::new();
    let it = f.step("kind = \"command\"\nshell = \"echo relation users already exists; exit 3\"");
    assert_eq!(
        failure(&f, it.run(&f.context("it"))),
        "`echo relation users already exists; exit 3` ended with exit status 3\n  \
         cause: its last line was: relation users already exists"
    );
}

#[test]
fn a_repeatable_step_is_tried_again() {
    let f = Fixture::new();
    let keys = "kind = \"command\"\nshell = \"echo try >> $dir/tries; test $(wc -l < $dir/tries) = 2 && echo done\"\n\
                repeatable = true\nattempts = 3";
    let it = f.step(keys);
    let cx = f.context("it");
    assert_eq!(it.run(&cx).unwrap().note, "on attempt 2");
    assert_eq!(*cx.said.borrow(), "done\n", "what the failed attempt said is forgotten");
    assert!(f.logged().contains("attempt 2 of 3"), "{}", f.logged());
    assert!(it.describe(&f.scope()).ends_with(", up to 3 times"));
}

#[test]
fn a_signal_ends_the_attempts() {
    let f = Fixture::new();
    f.stop.raise(15);
    let it = f.step("kind = \"command\"\nrun = [\"false\"]\nrepeatable = true\nattempts = 9");
    let error = it.run(&f.context("it")).unwrap_err();
    assert_eq!(error.fault, crate::error::Fault::Signal(15));
}

#[test]
fn a_check_step_fails_with_the_first_that_does_not_pass() {
    let f = Fixture::new();
    let it = f.step("kind = \"check\"\nchecks = [\"c\"]");
    let answer = |finding: Finding| f.peers.answers.borrow_mut().insert("c".to_owned(), VecDeque::from([finding]));
    answer(Finding::yes("status 200"));
    assert_eq!(it.run(&f.context("it")).unwrap().note, "c: status 200");
    answer(Finding::no("connection refused"));
    assert_eq!(failure(&f, it.run(&f.context("it"))), "check `c` does not pass\n  cause: connection refused");
    assert_eq!(it.describe(&f.scope()), "ask c");
}

#[test]
fn waiting_takes_its_time_and_obeys_a_signal() {
    let f = Fixture::new();
    let it = f.step("kind = \"wait\"\ntime = \"50ms\"");
    let began = Instant::now();
    it.run(&f.context("it")).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(it.describe(&f.scope()), "wait 50ms");
    let long = f.step("kind = \"wait\"\ntime = \"1h\"");
    std::thread::scope(|threads| {
        let stop = f.stop.clone();
        threads.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            stop.raise(2);
        });
        let error = long.run(&f.context("it")).unwrap_err();
        assert_eq!(error.to_string(), "interrupted by signal 2");
    });
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn waiting_for_checks_ends_when_they_pass_or_time_is_over() {
    let f = Fixture::new();
    let answers = VecDeque::from([Finding::no("not yet"), Finding::yes("there")]);
    f.peers.answers.borrow_mut().insert("c".to_owned(), answers);
    let it = f.step("kind = \"wait\"\nchecks = [\"c\"]");
    assert!(it.run(&f.context("it")).unwrap().note.starts_with("after 1."));
    assert_eq!(it.describe(&f.scope()), "wait until c, at most 1h");
    let late = f.step("kind = \"wait\"\nchecks = [\"c\"]\ntimeout = \"300ms\"");
    f.peers.answers.borrow_mut().insert("c".to_owned(), VecDeque::from([Finding::no("connection refused")]));
    assert_eq!(
        failure(&f, late.run(&f.context("it"))),
        "check `c` did not pass within 300ms\n  cause: connection refused"
    );
}

/// A database that writes its scripts down.
struct Paper(std::path::PathBuf);

impl Resource for Paper {
    fn claims(&self, _: &Context<'_>) -> Result<Vec<Claim>> {
        Ok(Vec::new())
    }
    fn probe(&self, _: &Context<'_>, _: Option<ObjectId>) -> Result<Estimate> {
        Ok(Estimate::default())
    }
    fn capture(&self, _: &Context<'_>, _: Option<ObjectId>) -> Result<Captured> {
        unreachable!("no test captures it")
    }
    fn diff(&self, _: &Context<'_>, _: ObjectId) -> Result<Changes> {
        unreachable!("no test compares it")
    }
    fn restore(&self, _: &Context<'_>, _: ObjectId) -> Result<Changes> {
        unreachable!("no test restores it")
    }
    fn execute(&self, cx: &Context<'_>, sql: &str) -> Result<()> {
        if sql == "fail" {
            return Err(crate::error::Error::new("no such table: x"));
        }
        let mut text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.push_str(&format!("{}: {sql}\n", cx.subject));
        std::fs::write(&self.0, text).unwrap();
        Ok(())
    }
}

#[test]
fn a_script_runs_on_its_database() {
    let mut f = Fixture::new();
    f.peers.resources.insert("db".to_owned(), Box::new(Paper(f.path("paper"))));
    f.write("fix.sql", "update x set y = 1;");
    let cx = f.context("it");
    let of_file = f.step("kind = \"sql\"\nresource = \"db\"\nfile = \"fix.sql\"");
    of_file.require(&cx).unwrap();
    assert_eq!(of_file.run(&cx).unwrap().note, "on db");
    let of_query = f.step("kind = \"sql\"\nresource = \"db\"\nquery = \"delete\\n  from x -- ${dir}\"");
    of_query.run(&cx).unwrap();
    let paper = std::fs::read_to_string(f.path("paper")).unwrap();
    assert_eq!(paper, format!("db: update x set y = 1;\ndb: delete\n  from x -- {}\n", f.place().display()));
    assert!(of_file.describe(&f.scope()).ends_with("/fix.sql on db"));
    let failing = f.step("kind = \"sql\"\nresource = \"db\"\nquery = \"fail\"");
    assert_eq!(failure(&f, failing.run(&cx)), "the script failed on `db`\n  cause: no such table: x");
}

#[test]
fn a_script_must_be_there_and_only_ours_to_write() {
    let mut f = Fixture::new();
    f.peers.resources.insert("db".to_owned(), Box::new(Paper(f.path("paper"))));
    let it = f.step("kind = \"sql\"\nresource = \"db\"\nfile = \"fix.sql\"");
    assert!(it.require(&f.context("it")).is_err());
    let script = f.write("fix.sql", "");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    if rustix::process::geteuid().is_root() {
        let refused = failure(&f, it.require(&f.context("it")));
        assert!(refused.contains("fix.sql"), "{refused}");
    }
}

#[test]
fn mistakes_of_steps_are_told() {
    let f = Fixture::new();
    let all = f.all_mistakes(
        List::Step,
        &[
            "kind = \"command\"",
            "kind = \"command\"\nrun = [\"x\"]\nattempts = 3",
            "kind = \"check\"",
            "kind = \"wait\"",
            "kind = \"wait\"\ntime = \"1s\"\nchecks = [\"c\"]",
            "kind = \"wait\"\ntime = \"1s\"\ntimeout = \"1s\"",
            "kind = \"sql\"\nresource = \"db\"",
            "kind = \"sql\"\nquery = \"x\"\nfile = \"y\"",
            "kind = \"replace\"\npath = \"/x\"",
            "kind = \"replace\"\npath = \"/x\"\nwith = \"y.zip\"\nblake3 = \"1\"\nsha256 = \"2\"",
        ],
    );
    insta::assert_snapshot!(all, @r#"
    what to run is missing
    hint: `run = ["program", "argument"]`, or `shell = "…"` for a line of shell

    a step is tried again only when it is repeatable
    hint: repeatable = true, if running it twice does no harm

    the key `checks` is missing

    what to wait for is missing
    hint: time = "30s", or checks

    `time` and `checks` exclude each other

    `timeout` limits the waiting for checks, not for time

    the script is missing
    hint: query = "…", or file = "…"

    the key `resource` is missing
    `file` and `query` exclude each other

    the key `with` is missing

    `blake3` and `sha256` exclude each other
    "#);
}
