//! What each command prints, for people and as JSON.

use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use jiff::Timestamp;
use serde_json::json;

use super::ui::Paint;
use super::*;
use crate::check::Finding;
use crate::journal::{Hash, Verified};
use crate::name::TxId;
use crate::ops::look::Account;
use crate::ops::tests::{Notebook, id};
use crate::ops::{
    Forecast, ForecastTask, History, LogFile, Open, Past, Place, ResourceDiff, RollbackPreview, Shown, Verify,
};
use crate::resource::{Change, Changes, What};
use crate::sys::lock::Holder;
use crate::tx::{Event, Extent, Goal, OnFailure, Outcome, Purpose};

/// Refuses what does not validate against the schema that `txupgrade schema output` prints.
fn valid(object: &Value) {
    let schema: Value = serde_json::from_str(crate::ops::schema("output").unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let kind = object["schema"].as_str().unwrap().trim_start_matches("txupgrade/").trim_end_matches("/1");
    // Against its own kind first: of fifteen kinds that do not match, nobody can tell why.
    let mut narrow = schema.clone();
    narrow["oneOf"] = json!([{ "$ref": format!("#/$defs/{kind}") }]);
    let narrow = jsonschema::validator_for(&narrow).unwrap();
    let errors: Vec<String> =
        narrow.iter_errors(object).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{object:#}");
    assert!(validator.is_valid(object), "{object:#}");
}

fn account(notebook: &Notebook, tx: &TxId) -> Account {
    Account::read_as(&notebook.journal, tx, None).unwrap()
}

fn running(notebook: &Notebook, tx: &TxId) -> Account {
    let holder = Holder { pid: 4242, command: "txupgrade run notes.toml".to_owned(), since: String::new() };
    Account::read_as(&notebook.journal, tx, Some(holder)).unwrap()
}

fn later() -> Timestamp {
    "2026-11-21T03:02:00Z".parse().unwrap()
}

/// The status of one transaction, for people; its JSON is validated on the way.
fn status_of(account: &Account) -> Answer {
    status_of_open(&Open::of(account))
}

fn status_of_open(open: &Open) -> Answer {
    let answer = status::answer(std::slice::from_ref(open), later(), &TimeZone::UTC, Paint::Plain);
    valid(&answer.json);
    answer
}

fn shown(account: &Account) -> String {
    let logs =
        vec![LogFile { task: "apply migrate".to_owned(), path: PathBuf::from("/s/logs/apply-migrate.log"), shown: 0 }];
    let shown = Shown::of(account, PathBuf::from("/s/logs"), logs);
    valid(&json::shown(&shown, 0));
    show::render(&shown, later(), &TimeZone::UTC, Paint::Plain)
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_helps_with_its_exit_statuses_and_an_example() {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut texts = vec![("txupgrade".to_owned(), root.clone().render_long_help().to_string())];
    let shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
    for command in root.get_subcommands().filter(shown) {
        let name = format!("txupgrade {}", command.get_name());
        for verb in command.get_subcommands().filter(shown) {
            let text = verb.clone().term_width(100).render_long_help().to_string();
            texts.push((format!("{name} {}", verb.get_name()), text));
        }
        texts.push((name, command.clone().term_width(100).render_long_help().to_string()));
    }
    assert_eq!(texts.len(), 26);
    for (name, text) in &texts {
        assert!(text.contains("Exit status:\n    0  done\n"), "{name}: {text}");
        assert!(text.contains("\nExample:\n  txupgrade") || text.contains("\nExamples:\n  txupgrade"), "{name}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{name}: {text}");
    }
    let all: String = texts.iter().map(|(name, text)| format!("## {name}\n\n{text}\n")).collect();
    insta::assert_snapshot!("help", all);
}

#[test]
fn nothing_open() {
    let answer = status::answer(&[], later(), &TimeZone::UTC, Paint::Plain);
    valid(&answer.json);
    assert_eq!((answer.exit, answer.data.as_str(), answer.talk.as_str()), (0, "", "no transaction is open\n"));
}

#[test]
fn status_of_one_that_is_captured() {
    let mut notebook = Notebook::new();
    let tx = notebook.begin_as("notes", |begun| begun.goal = Goal::Captured);
    notebook.captures(&tx);
    let answer = status_of(&account(&notebook, &tx));
    assert_eq!(answer.exit, 10);
    insta::assert_snapshot!(answer.data, @r"
    notes-1: open: everything is captured and proved
      purpose:      upgrade by /etc/txupgrade/notes.toml
      version:      1.4.2
      begun:        2026-11-21 03:00:00
      since:        1 min 51 s
      kept down:    `stop`
      steps to run: `unpack` and `migrate`
      next: `txupgrade apply notes-1` runs the plan's steps
      next: `txupgrade commit notes-1 --steps-done` after the upgrade by hand
      next: `txupgrade rollback notes-1` puts everything back
    ");
}

#[test]
fn status_of_one_that_is_under_way() {
    let mut notebook = Notebook::new();
    let tx = notebook.begin("notes");
    notebook.captures(&tx);
    notebook.starts(&tx, "apply unpack");
    let answer = status_of(&running(&notebook, &tx));
    assert_eq!(answer.exit, 0);
    insta::assert_snapshot!(answer.data, @r"
    notes-1: under way in process 4242
      purpose:      upgrade by /etc/txupgrade/notes.toml
      version:      1.4.2
      begun:        2026-11-21 03:00:00
      now:          step `unpack` for 1 min 51 s (6 of 11 tasks done)
      kept down:    `stop`
      next: `txupgrade log notes-1 --follow` shows what it does
    ");
}

#[test]
fn status_of_one_whose_process_is_gone() {
    let mut notebook = Notebook::new();
    let tx = notebook.begin("notes");
    notebook.captures(&tx);
    notebook.starts(&tx, "apply unpack");
    let answer = status_of(&account(&notebook, &tx));
    assert_eq!(answer.exit, 10);
    insta::assert_snapshot!(answer.data, @r"
    notes-1: interrupted: its process is gone
      purpose:      upgrade by /etc/txupgrade/notes.toml
      version:      1.4.2
      begun:        2026-11-21 03:00:00
      died in:      step `unpack`, 1 min 51 s ago
      kept down:    `stop`
      next: `txupgrade recover` settles it
    ");
}

#[test]
fn status_of_one_on_hold() {
    let mut notebook = Notebook::new();
    let tx = notebook.begin_as("notes", |begun| begun.itinerary.on_failure = OnFailure::Hold);
    notebook.captures(&tx);
    notebook.fails(&tx, "apply unpack", Error::new("`tar` ended with exit status 2"));
    let answer = status_of(&account(&notebook, &tx));
    assert_eq!(answer.exit, 10);
    insta::assert_snapshot!(answer.data, @r"
    notes-1: on hold: step `unpack` failed
      purpose:      upgrade by /etc/txupgrade/notes.toml
      version:      1.4.2
      begun:        2026-11-21 03:00:00
      since:        1 min 51 s
      failed:       step `unpack`: `tar` ended with exit status 2
      kept down:    `stop`
      steps to run: `unpack` and `migrate`
      next: `txupgrade apply notes-1` runs it again (`--skip unpack`: it is done by hand)
      next: `txupgrade rollback notes-1` puts everything back
    ");
}

#[test]
fn status_of_one_that_is_stuck() {
    let mut notebook = Notebook::new();
    let tx = notebook.gets_stuck("notes");
    let answer = status_of(&account(&notebook, &tx));
    assert_eq!(answer.exit, 10);
    insta::assert_snapshot!(answer.data, @r#"
    notes-1: stuck: restore of `db` failed
      purpose:      upgrade by /etc/txupgrade/notes.toml
      version:      1.4.2
      begun:        2026-11-21 03:00:00
      since:        1 min 46 s
      turned back:  step `migrate` failed
      failed:       step `migrate`: `/opt/notes/bin/notes migrate` ended with exit status 3: its last line was: relation "users" already exists
      restored:     `code`
      not restored: `db`
      kept down:    `stop`
      hint: remove the cause, then `txupgrade rollback notes-1` tries again
      hint: once it is restored by hand, `txupgrade release notes-1 --resume` (or `--leave-down`) closes it
    "#);
}

#[test]
fn status_of_one_that_waits_for_its_confirmation() {
    let mut notebook = Notebook::new();
    let tx = notebook.unconfirmed("notes");
    let mut open = Open::of(&account(&notebook, &tx));
    let mut with = |left: Option<u64>| {
        let until = "2026-11-21T03:10:09.5Z".to_owned();
        open.standing.place = Place::Unconfirmed { until, left: left.map(Duration::from_secs) };
        let answer = status_of_open(&open);
        assert_eq!(answer.exit, 10);
        answer.data
    };
    insta::assert_snapshot!(with(Some(600)), @r"
    notes-1: waits for its confirmation until 2026-11-21 03:10:09
      purpose:      upgrade by /etc/txupgrade/notes.toml
      version:      1.4.2
      begun:        2026-11-21 03:00:00
      since:        1 min 51 s
      kept down:    `stop`
      next: `txupgrade confirm notes-1` keeps it
      next: `txupgrade rollback notes-1` puts everything back
    ");
    insta::assert_snapshot!(with(None), @r"
    notes-1: was not confirmed in time, and nothing has taken it back yet
      purpose:      upgrade by /etc/txupgrade/notes.toml
      version:      1.4.2
      begun:        2026-11-21 03:00:00
      since:        1 min 51 s
      kept down:    `stop`
      next: `txupgrade recover` takes it back now
    ");
}

#[test]
fn history_is_a_line_for_each_the_newest_first() {
    let mut notebook = Notebook::new();
    let committed = notebook.commits("notes");
    notebook.wait(3_600_000);
    let back = notebook.rolls_back("notes");
    notebook.wait(3_600_000);
    let undo = notebook.begin_as("notes", |begun| {
        begun.undoes = vec!["notes-1".to_owned()];
        begun.itinerary.purpose = Purpose::Rollback;
        begun.itinerary.forward.clear();
    });
    notebook.add(&undo, Event::Ended { outcome: Outcome::Committed });
    let stuck = notebook.gets_stuck("shop");
    let mut transactions: Vec<Past> =
        [stuck, undo, back, committed].iter().map(|tx| Past::of(&account(&notebook, tx))).collect();
    transactions[3].undone_by = Some("notes-3".parse().unwrap());
    let verified = Some(Verified { events: 71, transactions: 4, last: Hash::ZERO });
    let history = History { transactions, unreadable: Vec::new(), verified };
    let answer = history::answer(&history, Verify::Chain, &TimeZone::UTC, Paint::Plain, Paint::Plain);
    valid(&answer.json);
    assert_eq!(answer.exit, 0);
    insta::assert_snapshot!(answer.data, @r"
    TX       BEGUN                VERSION         OUTCOME                       TOOK   DOWN  SNAPSHOT            PLAN
    shop-1   2026-11-21 05:00:34  1.4.2           stuck                         14 s   -     312 MB, 4.1 MB new  /etc/txupgrade/shop.toml
    notes-3  2026-11-21 05:00:34  -               undid notes-1                 0.0 s  -     -                   /etc/txupgrade/notes.toml
    notes-2  2026-11-21 04:00:16  1.4.2           rolled back                   18 s   14 s  312 MB, 4.1 MB new  /etc/txupgrade/notes.toml
    notes-1  2026-11-21 03:00:00  1.4.2 -> 2.0.0  committed, undone by notes-3  17 s   11 s  312 MB, 4.1 MB new  /etc/txupgrade/notes.toml
    ");
    insta::assert_snapshot!(answer.talk, @"the chain is whole: 71 events of 4 transactions, ending in 0000000000000000000000000000000000000000000000000000000000000000");
}

#[test]
fn history_without_any() {
    let answer = history::answer(&History::default(), Verify::Chain, &TimeZone::UTC, Paint::Plain, Paint::Plain);
    valid(&answer.json);
    assert_eq!(answer.data, "");
    insta::assert_snapshot!(answer.talk, @r"
    no transaction yet
    there is no journal to verify yet
    ");
}

#[test]
fn history_says_what_it_cannot_read() {
    let error = Error::new("event 4 of `notes-1` was changed").fault(Fault::Damage);
    let unreadable = vec![("notes-1".parse().unwrap(), error)];
    let history = History { unreadable, ..History::default() };
    let answer = history::answer(&history, Verify::No, &TimeZone::UTC, Paint::Plain, Paint::Plain);
    valid(&answer.json);
    assert_eq!((answer.exit, answer.talk.as_str()), (8, "error: event 4 of `notes-1` was changed\n"));
}

#[test]
fn show_of_one_that_committed() {
    let mut notebook = Notebook::new();
    let tx = notebook.commits("notes");
    insta::assert_snapshot!(shown(&account(&notebook, &tx)), @r"
    notes-1: committed: 1.4.2 -> 2.0.0 in 17 s, down for 11 s
      plan:         /etc/txupgrade/notes.toml
      begun:        2026-11-21 03:00:00
      snapshot:     312 MB, 4.1 MB new

    03:00:00.000  begun, to be committed
    03:00:00.000  require the version     1.5 s  1.4.2
    03:00:01.500  require page            1.5 s  status 200
    03:00:03.000  quiesce stop            1.5 s
    03:00:04.500  capture code            1.5 s  312000000 bytes, 4100000 new
    03:00:06.000  capture db              1.5 s  88000 bytes, 12000 new
    03:00:07.500  prove everything        1.5 s
    03:00:09.000  apply unpack            1.5 s
    03:00:10.500  apply migrate           1.5 s
    03:00:12.000  resume stop             1.5 s
    03:00:13.500  verify the version      1.5 s  2.0.0
    03:00:15.000  verify page             1.5 s  status 200
    03:00:16.500  committed

    warning: answered after 8 s

    logs:
      /s/logs/apply-migrate.log
    ");
}

#[test]
fn show_of_one_that_was_rolled_back() {
    let mut notebook = Notebook::new();
    let tx = notebook.rolls_back("notes");
    insta::assert_snapshot!(shown(&account(&notebook, &tx)), @r#"
    notes-1: rolled back: at 1.4.2, in 18 s, down for 14 s
      plan:         /etc/txupgrade/notes.toml
      begun:        2026-11-21 03:00:00
      turned back:  step `migrate` failed
      snapshot:     312 MB, 4.1 MB new

    03:00:00.000  begun, to be committed
    03:00:00.000  require the version                 1.5 s  1.4.2
    03:00:01.500  require page                        1.5 s  status 200
    03:00:03.000  quiesce stop                        1.5 s
    03:00:04.500  capture code                        1.5 s  312000000 bytes, 4100000 new
    03:00:06.000  capture db                          1.5 s  88000 bytes, 12000 new
    03:00:07.500  prove everything                    1.5 s
    03:00:09.000  apply unpack                        1.5 s
    03:00:10.500  apply migrate                       0.4 s  failed: `/opt/notes/bin/notes migrate` ended with exit status 3
    03:00:10.900  turned back: step `migrate` failed
    03:00:10.900  prove everything                    1.5 s
    03:00:12.400  restore db                          1.5 s  1 table
    03:00:13.900  restore code                        1.5 s  31 files
    03:00:15.400  resume stop                         1.5 s
    03:00:16.900  recheck page                        1.5 s  status 200
    03:00:18.400  rolled back

    error: step `migrate` failed: `/opt/notes/bin/notes migrate` ended with exit status 3
      cause: its last line was: relation "users" already exists

    logs:
      /s/logs/apply-migrate.log
    "#);
}

#[test]
fn show_of_one_that_is_stuck_and_tried_again() {
    let mut notebook = Notebook::new();
    let tx = notebook.gets_stuck("notes");
    notebook.add(&tx, Event::Retried { extent: Extent::Partial });
    notebook.starts(&tx, "prove everything");
    insta::assert_snapshot!(shown(&account(&notebook, &tx)), @r#"
    notes-1: interrupted: its process is gone
      purpose:      upgrade by /etc/txupgrade/notes.toml
      version:      1.4.2
      begun:        2026-11-21 03:00:00
      died in:      proof of `everything`, 1 min 46 s ago
      turned back:  step `migrate` failed
      failed:       step `migrate`: `/opt/notes/bin/notes migrate` ended with exit status 3: its last line was: relation "users" already exists
      kept down:    `stop`
      next: `txupgrade recover` settles it

    03:00:00.000  begun, to be committed
    03:00:00.000  require the version                       1.5 s  1.4.2
    03:00:01.500  require page                              1.5 s  status 200
    03:00:03.000  quiesce stop                              1.5 s
    03:00:04.500  capture code                              1.5 s  312000000 bytes, 4100000 new
    03:00:06.000  capture db                                1.5 s  88000 bytes, 12000 new
    03:00:07.500  prove everything                          1.5 s
    03:00:09.000  apply unpack                              1.5 s
    03:00:10.500  apply migrate                             0.4 s  failed: `/opt/notes/bin/notes migrate` ended with exit status 3
    03:00:10.900  turned back: step `migrate` failed
    03:00:10.900  prove everything                          1.5 s
    03:00:12.400  restore db                                0.4 s  failed: cannot write `/var/lib/notes/notes.db`
    03:00:12.800  restore code                              1.5 s  31 files
    03:00:14.300  stuck: restore of `db` failed
    03:00:14.300  tried again, leaving out what is damaged
    03:00:14.300  prove everything                                 not ended

    error: step `migrate` failed: `/opt/notes/bin/notes migrate` ended with exit status 3
      cause: its last line was: relation "users" already exists
    error: restore of `db` failed: cannot write `/var/lib/notes/notes.db`
      cause: no space left on device

    logs:
      /s/logs/apply-migrate.log
    "#);
}

fn forecast() -> Forecast {
    let task = |task: &str, does: &str, undo: Option<&str>, depth, timeout: Option<u64>| ForecastTask {
        task: task.to_owned(),
        does: does.to_owned(),
        undo: undo.map(str::to_owned),
        depth,
        timeout: timeout.map(Duration::from_secs),
    };
    Forecast {
        name: "notes".to_owned(),
        summary: "Notes 1.4 to 2.0".to_owned(),
        from: Some("1.4.2".to_owned()),
        to: Some("2.0.0".to_owned()),
        tasks: vec![
            task("require page", "status 200 of http://127.0.0.1:8080/", None, 0, Some(30)),
            task("quiesce stop", "run notes-ctl stop", Some("run notes-ctl start"), 0, Some(300)),
            task("capture code", "/opt/notes", None, 1, None),
            task("apply migrate", "run notes migrate", Some("restores code, db"), 1, Some(3600)),
            task("apply mail", "run mail everybody", Some("irreversible"), 1, Some(3600)),
        ],
        findings: vec![
            ("page".to_owned(), Finding::yes("status 200")),
            ("room".to_owned(), Finding::no("1.2 GB free")),
        ],
        bytes: 312_000_000,
        free: 21_000_000_000,
        seconds: Some(5.2),
        proof_seconds: Some(12.0),
        notices: vec![("config-keys".to_owned(), "2.0 renames listen to bind".to_owned())],
        warnings: vec!["`/opt/notes/cache` is a mount point; it is not captured".to_owned()],
    }
}

#[test]
fn plan_shows_each_task_with_its_undo() {
    let answer = plan::answer(&forecast(), Paint::Plain, Paint::Plain);
    valid(&answer.json);
    assert_eq!(answer.exit, 1);
    insta::assert_snapshot!(answer.data, @r"
    notes: Notes 1.4 to 2.0 (1.4.2 -> 2.0.0)

      require page     status 200 of http://127.0.0.1:8080/  at most 30 s
      quiesce stop     run notes-ctl stop                    at most 5 min  back: run notes-ctl start
        capture code   /opt/notes
        apply migrate  run notes migrate                     at most 1 h    back: restores code, db
        apply mail     run mail everybody                    at most 1 h    irreversible

      yes  page  status 200
      no   room  1.2 GB free

    notice config-keys: 2.0 renames listen to bind
      --accept config-keys

    312 MB to capture, in about 5.2 s, and to prove in about 12 s; 21 GB free for the store
    ");
    insta::assert_snapshot!(answer.talk, @r"
    warning: `/opt/notes/cache` is a mount point; it is not captured
    error: `room` does not pass; `run` would refuse to begin
    ");
}

#[test]
fn a_plan_whose_requirements_are_met_is_done() {
    let mut forecast = forecast();
    forecast.findings.pop();
    forecast.warnings.clear();
    forecast.seconds = None;
    let answer = plan::answer(&forecast, Paint::Plain, Paint::Plain);
    valid(&answer.json);
    assert_eq!((answer.exit, answer.talk.as_str()), (0, ""));
}

fn changes() -> Changes {
    let change = |what, name: &str, details: &[&str], secret| Change {
        what,
        name: name.to_owned(),
        details: details.iter().map(|detail| (*detail).to_owned()).collect(),
        secret,
    };
    Changes {
        items: vec![
            change(What::Added, "share/new\nline", &[], false),
            change(What::Changed, "bin/notes", &["content", "mode 755 -> 700"], false),
            change(What::Changed, "config/secrets.toml", &["content"], true),
            change(What::Removed, "share/page.html", &[], false),
        ],
    }
}

#[test]
fn diff_shows_what_happened_since_the_snapshot() {
    let patch = "--- a/bin/notes\n+++ b/bin/notes\n@@ -1 +1 @@\n-old\n+new\n".to_owned();
    let diffs = [
        ResourceDiff {
            resource: "code".to_owned(),
            changes: changes(),
            patches: vec![("bin/notes".to_owned(), patch)],
        },
        ResourceDiff { resource: "db".to_owned(), changes: Changes::default(), patches: Vec::new() },
    ];
    let answer = diff::answer(&diffs, Paint::Plain);
    valid(&answer.json);
    assert_eq!(answer.exit, 9);
    insta::assert_snapshot!(answer.data, @r"
    code
      added    share/new\nline
      changed  bin/notes            content, mode 755 -> 700
      changed  config/secrets.toml  content, secret
      removed  share/page.html

    bin/notes
    --- a/bin/notes
    +++ b/bin/notes
    @@ -1 +1 @@
    -old
    +new
    ");
    let answer = diff::answer(&diffs[1..], Paint::Plain);
    valid(&answer.json);
    assert_eq!((answer.exit, answer.talk.as_str()), (0, "nothing differs from the snapshot\n"));
}

#[test]
fn a_dry_run_shows_what_a_rollback_would_change() {
    let tx = |text: &str| text.parse::<TxId>().unwrap();
    let preview = RollbackPreview {
        tx: tx("notes-3"),
        open: false,
        of: vec![tx("notes-3")],
        later: vec![tx("shop-2"), tx("shop-4")],
        changes: vec![("code".to_owned(), changes()), ("db".to_owned(), Changes::default())],
    };
    let answer = rollback::dry_run(&preview, Paint::Plain, Paint::Plain);
    valid(&answer.json);
    assert_eq!(answer.exit, 0);
    insta::assert_snapshot!(answer.data, @r"
    undoing notes-3 would change, and what was written since would be lost:
    code
      removes      share/new\nline
      puts back    bin/notes            content, mode 755 -> 700
      puts back    config/secrets.toml  content, secret
      brings back  share/page.html
    ");
    insta::assert_snapshot!(answer.talk, @"warning: later transactions touch the same: shop-2 and shop-4; undoing needs --through");
    let nothing = RollbackPreview { open: true, later: Vec::new(), changes: Vec::new(), ..preview };
    let answer = rollback::dry_run(&nothing, Paint::Plain, Paint::Plain);
    insta::assert_snapshot!(answer.data, @r"
    turning notes-3 back would change:
      nothing: everything is as it was captured
    ");
}

#[test]
fn every_standing_is_a_valid_object() {
    let mut notebook = Notebook::new();
    let transactions = [
        notebook.commits("a"),
        notebook.rolls_back("b"),
        notebook.gets_stuck("c"),
        notebook.unconfirmed("d"),
        notebook.begin("e"),
    ];
    for tx in &transactions {
        let standing = account(&notebook, tx).standing();
        valid(&json::standing(&standing, 0));
        let mut released = json::stands(&standing);
        released["displaced"] = json!(["/opt/.txupgrade-c-1-code"]);
        valid(&json::object("released", 0, released));
        let standings = json!({ "standings": [json::stands(&standing)], "not_run": ["x.toml"], "error": null });
        valid(&json::object("standings", 3, standings));
    }
    let hold = Place::OnHold { task: id("apply migrate") };
    let standing = Standing { place: hold, ..account(&notebook, &transactions[0]).standing() };
    valid(&json::standing(&standing, 10));
}

#[test]
fn errors_and_the_small_commands_are_valid_objects() {
    let dir = tempfile::tempdir().unwrap();
    let cx = cx(dir.path());
    valid(&json::error(&Error::new("x").because("y").hint("z").fault(Fault::Signal(2)), 130));
    for line in [
        vec!["schema"],
        vec!["schema", "plan"],
        vec!["schema", "journal"],
        vec!["completions", "bash"],
        vec!["man", dir.path().join("man").to_str().unwrap()],
        vec!["status"],
        vec!["history"],
        vec!["history", "--verify"],
    ] {
        let answer = perform(&cx, &line).unwrap();
        valid(&answer.json);
        assert_eq!(answer.exit, 0, "{line:?}");
    }
    assert!(dir.path().join("man/txupgrade-run.1").exists());
    assert!(!dir.path().join("man/txupgrade-keep-watch.1").exists());
    let log = dir.path().join("apply-migrate.log");
    std::fs::write(&log, b"done \xff\n").unwrap();
    let logs = ops_logs(&log);
    valid(&log::json_answer(&logs).unwrap().json);
}

fn ops_logs(path: &Path) -> crate::ops::Logs {
    let files = vec![LogFile {
        task: "apply migrate".to_owned(),
        path: path.to_owned(),
        shown: path.metadata().unwrap().len(),
    }];
    crate::ops::Logs { tx: "notes-1".parse().unwrap(), files }
}

fn cx(dir: &Path) -> Cx {
    let ui = Ui::new(When::Never, Loudness::Quiet);
    Cx { ui, json: true, dir: dir.join("state"), zone: TimeZone::UTC, stop: Arc::default() }
}

fn perform(cx: &Cx, line: &[&str]) -> Result<Answer> {
    let words = ["txupgrade"].iter().chain(line);
    Cli::try_parse_from(words).unwrap().command.perform(cx)
}

#[test]
fn looking_leaves_nothing_behind_where_there_is_nothing_yet() {
    let dir = tempfile::tempdir().unwrap();
    let cx = cx(dir.path());
    assert_eq!(perform(&cx, &["status"]).unwrap().exit, 0);
    assert_eq!(perform(&cx, &["history"]).unwrap().exit, 0);
    for line in [vec!["show"], vec!["log"], vec!["log", "--follow"], vec!["diff"], vec!["show", "notes-1"]] {
        assert!(perform(&Cx { json: false, ..cx.clone() }, &line).is_err(), "{line:?}");
    }
    assert!(perform(&cx, &["rollback", "--dry-run"]).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let error = perform(&cx, &["show", "notes-1"]).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.fault), ("there is no transaction `notes-1`", Fault::Usage));
}

#[test]
fn a_path_of_plans_says_where_it_stands() {
    let mut notebook = Notebook::new();
    let one = notebook.commits("notes");
    let one = account(&notebook, &one).standing();
    let back = notebook.rolls_back("notes");
    let back = account(&notebook, &back).standing();
    let left = ["notes-3.0.toml".to_owned()];
    insta::assert_snapshot!(run::where_the_path_stands(std::slice::from_ref(&one), &[]), @"the path is done: notes-1 is committed, at 2.0.0");
    insta::assert_snapshot!(run::where_the_path_stands(&[one.clone(), back.clone()], &left), @"the path stops here: notes-1 is committed, at 2.0.0; not run: `notes-3.0.toml`");
    insta::assert_snapshot!(run::where_the_path_stands(&[one.clone(), one, back], &[]), @"the path stops here: notes-1 and notes-1 are committed, at 2.0.0");
}

#[test]
fn mistakes_on_the_command_line_say_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let cx = cx(dir.path());
    let refused = |line: &[&str]| match Cli::try_parse_from(["txupgrade"].iter().chain(line)) {
        Err(error) => error.render().to_string(),
        Ok(cli) => report::error(&cli.command.perform(&cx).unwrap_err(), Paint::Plain),
    };
    insta::assert_snapshot!(refused(&["begin", "path=/etc/shop", "sqlite=/var/lib/shop.db"]), @r"
    error: a plan made of KIND=VALUE needs a name
    hint: `txupgrade begin --name NAME path=/etc/shop sqlite=/var/lib/shop.db`
    ");
    insta::assert_snapshot!(refused(&["begin", "a.toml", "b.toml"]), @r"
    error: one plan is begun at a time, and these are 2
    hint: `txupgrade run` carries out several, one after the other
    ");
    insta::assert_snapshot!(refused(&["show", "notes"]), @r"
    error: invalid value 'notes' for '[TX]': `notes` is not a transaction; a transaction is a plan's name and a number, as in `notes-3`; `txupgrade history` lists them

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["release", "notes-3"]), @r"
    error: the following required arguments were not provided:
      <--resume|--leave-down>

    Usage: txupgrade release <--resume|--leave-down> <TX>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["run", "a.toml", "--set", "home"]), @r"
    error: invalid value 'home' for '--set <KEY=VALUE>': this is not KEY=VALUE

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["log", "--follow"]), @"error: `--follow` and `--json` do not go together");
    insta::assert_snapshot!(refused(&["schema", "plans"]), @r"
    error: there is no schema `plans`
      cause: there are `plan`, `event`, `manifest`, `output`, `journal`
    ");
}

#[test]
fn the_state_directory_must_be_something() {
    assert!(state_dir(Some(PathBuf::new())).is_err());
    assert!(state_dir(Some(PathBuf::from("here"))).unwrap().is_absolute());
}

#[test]
fn damage_in_the_store_is_named() {
    let id = |byte: &str| byte.repeat(32).parse::<crate::store::ObjectId>().unwrap();
    let found = crate::store::Verified {
        archives: 3,
        of: 4,
        objects: 120,
        bytes: 1_200_000,
        manifests: 2,
        damage: vec![crate::store::Damaged {
            archive: id("ab"),
            what: vec!["it is missing".to_owned()],
            objects: vec![id("cd")],
        }],
        index: vec!["what the index says of 3 objects of the archive `cd` is wrong".to_owned()],
        hit: vec![crate::store::Hit {
            tx: "notes-1".to_owned(),
            resource: "code".to_owned(),
            place: "/opt/notes".to_owned(),
            manifest: id("ef"),
            lost: None,
            files: 12,
            names: vec!["bin/tool".to_owned()],
        }],
    };
    let answer = store::verified(&found, Paint::Plain);
    valid(&answer.json);
    assert_eq!(answer.exit, 8);
    insta::assert_snapshot!(answer.data + &answer.talk, @r"
    archive abababababababababababababababababababababababababababababababab is damaged
      it is missing
      1 object cannot be read: `cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd`
    what the index says of 3 objects of the archive `cd` is wrong
    notes-1, `code` (/opt/notes): 12 files cannot be put back: `bin/tool` and 11 more
    error: the store is damaged: read 3 of 4 archives, 120 objects, 1.2 MB
    hint: `txupgrade store reindex` makes the index anew from the archives
    hint: `txupgrade store reindex` forgets what cannot be read: the next snapshot then writes it anew
    ");
}

#[test]
fn what_a_prune_dropped_is_named() {
    let pruned = crate::store::Pruned {
        kept: 2,
        removed: 3,
        rewritten: 1,
        before: 10_000_000,
        after: 4_000_000,
        ..crate::store::Pruned::default()
    };
    let answer = store::pruned(&pruned, crate::store::Pruning::Done);
    valid(&answer.json);
    let forecast = store::pruned(&pruned, crate::store::Pruning::DryRun);
    insta::assert_snapshot!(answer.talk + &forecast.talk, @r"
    dropped 0 snapshots, kept 2: 3 archives removed, 1 archive rewritten, 6.0 MB freed, 4.0 MB left
    would drop 0 snapshots and keep 2: about 6.0 MB of 10 MB
    ");
}
