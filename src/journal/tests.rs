//! What both journals promise, and what is noticed when the one on disk is tampered with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::chain::Hash;
use super::*;
use crate::error::Fault;
use crate::tx::{
    Action, Boot, Confirmation, Extent, Goal, Itinerary, OnFailure, Outcome, Output, Purpose, Reason, Runner, Task,
    TaskId, Unit,
};

fn runner() -> Runner {
    Runner { pid: 7, start: 8, boot_id: "b0".into() }
}

fn begun(claims: &[&str]) -> Begun {
    Begun {
        plan: "00".into(),
        path: "/etc/notes.toml".into(),
        set: BTreeMap::new(),
        lists: BTreeMap::new(),
        left_out: Vec::new(),
        accepted: Vec::new(),
        claims: claims.iter().map(|claim| (*claim).to_owned()).collect(),
        undoes: Vec::new(),
        itinerary: Itinerary {
            purpose: Purpose::Upgrade,
            on_failure: OnFailure::Rollback,
            confirm: Confirmation::NotAsked,
            forward: vec![Task::new(Action::Capture, "code", 1), Task::new(Action::Verify, "page", 0).noted()],
            backward: vec![Task::new(Action::Restore, "code", 1)],
        },
        goal: Goal::Committed,
        runner: runner(),
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn ended() -> Event {
    Event::Ended { outcome: Outcome::Committed }
}

fn report(error: &Error) -> String {
    let mut text = format!("error: {}", error.statement);
    error.causes.iter().for_each(|cause| text += &format!("\n  cause: {cause}"));
    error.hints.iter().for_each(|hint| text += &format!("\nhint: {hint}"));
    text
}

/// A state directory with two finished transactions: `notes-1` and `shop-1`, three events each.
fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    for plan in ["notes", "shop"] {
        let tx = journal.begin(&name(plan), &begun(&[&format!("path /opt/{plan}")])).unwrap();
        journal.append(&tx, &Event::Confirmed).unwrap();
        journal.append(&tx, &ended()).unwrap();
    }
    dir
}

/// Does to the rows of `dir` what no trigger would let pass.
fn tamper(dir: &Path, sql: &str) {
    let db = Connection::open(dir.join("journal.db")).unwrap();
    db.execute_batch(
        "DROP TRIGGER event_is_added_at_the_end; DROP TRIGGER event_is_not_changed; DROP TRIGGER event_is_not_removed;",
    )
    .unwrap();
    db.execute_batch(sql).unwrap();
}

fn verdict(dir: &Path) -> String {
    let error = SqliteJournal::open_read_only(dir).unwrap().unwrap().verify().unwrap_err();
    assert_eq!(error.fault, Fault::Damage);
    assert_eq!(error.statement, "the journal is damaged");
    error.causes.join("; ")
}

fn verdict_after(sql: &str) -> String {
    let dir = filled();
    tamper(dir.path(), sql);
    verdict(dir.path())
}

fn both(test: impl Fn(&mut dyn Journal)) {
    let dir = tempfile::tempdir().unwrap();
    test(&mut SqliteJournal::open(dir.path()).unwrap());
    test(&mut MemoryJournal::new());
}

#[test]
fn what_is_appended_is_read_back_in_order() {
    both(|journal| {
        let notes = journal.begin(&name("notes"), &begun(&["path /opt/notes"])).unwrap();
        let shop = journal.begin(&name("shop"), &begun(&["path /opt/shop"])).unwrap();
        journal.append(&notes, &Event::Confirmed).unwrap();
        journal.append(&shop, &ended()).unwrap();
        let events = journal.events(&notes).unwrap();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(events[0].event, Event::Begun(Box::new(begun(&["path /opt/notes"]))));
        assert_eq!(events[1].event, Event::Confirmed);
        assert_eq!(events[1].tx, notes);
        assert!(events[0].at <= events[1].at && events[0].at.ends_with('Z'), "{}", events[0].at);
        assert_eq!(journal.transactions().unwrap(), [notes.clone(), shop]);
        assert_eq!(journal.unfinished().unwrap(), [notes]);
        let verified = journal.verify().unwrap();
        assert_eq!((verified.events, verified.transactions), (4, 2));
        assert!(journal.events(&"notes-9".parse().unwrap()).unwrap().is_empty());
    });
}

#[test]
fn an_empty_journal_is_whole() {
    both(|journal| {
        assert_eq!(journal.verify().unwrap(), Verified { events: 0, transactions: 0, last: Hash::ZERO });
        assert!(journal.transactions().unwrap().is_empty() && journal.unfinished().unwrap().is_empty());
    });
}

#[test]
fn transactions_of_a_plan_are_numbered_from_one() {
    both(|journal| {
        for expected in ["notes-1", "notes-2", "notes-3"] {
            let tx = journal.begin(&name("notes"), &begun(&[])).unwrap();
            assert_eq!(tx.to_string(), expected);
            journal.append(&tx, &ended()).unwrap();
        }
        // `notes-2` as a plan's name does not disturb the numbers of `notes`.
        assert_eq!(journal.begin(&name("notes-7"), &begun(&[])).unwrap().to_string(), "notes-7-1");
        assert_eq!(journal.begin(&name("notes"), &begun(&[])).unwrap().to_string(), "notes-4");
    });
}

#[test]
fn overlapping_transactions_are_refused_by_name() {
    both(|journal| {
        let open = journal.begin(&name("notes"), &begun(&["path /opt/notes", "unit notes.service"])).unwrap();
        let refused = |journal: &mut dyn Journal, plan: &str, claims: &[&str]| {
            let error = journal.begin(&name(plan), &begun(claims)).unwrap_err();
            assert_eq!(error.fault, Fault::Overlap);
            error
        };
        insta::allow_duplicates! {
            insta::assert_snapshot!(report(&refused(journal, "shop", &["path /opt/notes/db"])), @r"
            error: `shop` overlaps with `notes-1`, which is not finished
              cause: `/opt/notes/db` lies in `/opt/notes` of `notes-1`
            hint: `txupgrade show notes-1` says where it is; commit it, roll it back or `txupgrade recover` it first
            ");
        }
        assert_eq!(refused(journal, "shop", &["path /opt"]).causes, ["`/opt/notes` of `notes-1` lies in `/opt`"]);
        assert_eq!(refused(journal, "shop", &["path /opt/notes/"]).causes, ["both have `/opt/notes`"]);
        assert_eq!(refused(journal, "shop", &["unit notes.service"]).causes, ["both have the unit `notes.service`"]);
        assert_eq!(refused(journal, "notes", &["path /srv"]).causes, ["it is a transaction of the same plan"]);
        assert_eq!(journal.transactions().unwrap(), std::slice::from_ref(&open));
        // Not by components the same, and another kind of the same value.
        for (plan, claim) in [("a", "path /opt/notes-old"), ("b", "unit /opt/notes"), ("c", "path /opt/note")] {
            journal.begin(&name(plan), &begun(&[claim])).unwrap();
        }
        journal.append(&open, &ended()).unwrap();
        journal.begin(&name("shop"), &begun(&["path /opt/notes"])).unwrap();
    });
}

#[test]
fn of_two_that_begin_at_once_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let start = Barrier::new(2);
        let claim = format!("path /opt/{round}");
        let begin = |plan: &'static str| {
            let mut journal = SqliteJournal::open(dir.path()).unwrap();
            start.wait();
            journal.begin(&name(plan), &begun(&[&claim]))
        };
        let (one, other) = thread::scope(|threads| {
            let (one, other) = (threads.spawn(|| begin("one")), threads.spawn(|| begin("other")));
            (one.join().unwrap(), other.join().unwrap())
        });
        let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
        assert_eq!(lost.unwrap_err().fault, Fault::Overlap);
        SqliteJournal::open(dir.path()).unwrap().append(&won.unwrap(), &ended()).unwrap();
    }
    SqliteJournal::open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn many_writers_and_a_reader_keep_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    SqliteJournal::open(path).unwrap();
    thread::scope(|threads| {
        for writer in ["a", "b", "c"] {
            threads.spawn(move || {
                let mut journal = SqliteJournal::open(path).unwrap();
                let tx = journal.begin(&name(writer), &begun(&[])).unwrap();
                (0..30).for_each(|_| journal.append(&tx, &Event::Confirmed).unwrap());
            });
        }
        let mut seen = 0;
        let reader = SqliteJournal::open_read_only(path).unwrap().unwrap();
        let started = std::time::Instant::now();
        while seen < 93 {
            assert!(started.elapsed().as_secs() < 60, "{seen}");
            let verified = reader.verify().unwrap();
            assert!(verified.events >= seen, "{} after {seen}", verified.events);
            seen = verified.events;
        }
    });
}

#[test]
fn who_acts_while_another_appends_sees_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let mut writer = SqliteJournal::open(path).unwrap();
    let tx = writer.begin(&name("notes"), &begun(&[])).unwrap();
    thread::scope(|threads| {
        let appending = threads.spawn(|| {
            for _ in 0..200 {
                writer.append(&tx, &Event::Confirmed).unwrap();
                // Room for the other, who needs the lock to open it.
                thread::sleep(Duration::from_millis(2));
            }
        });
        let (mut seen, mut asked) = (1, 0);
        while !appending.is_finished() {
            // Opened anew each time: what can be relied on is found out at the first question.
            let other = SqliteJournal::open(path).unwrap();
            other.check_end().unwrap();
            let events = other.events(&tx).unwrap().len();
            assert!(events >= seen, "{events} after {seen}");
            (seen, asked) = (events, asked + 1);
        }
        assert!(asked > 0);
    });
}

#[test]
fn a_thousand_events_stay_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let tx = journal.begin(&name("notes"), &begun(&[])).unwrap();
    for number in 0..1000 {
        let reason = Reason::Signal { number };
        journal.append(&tx, &Event::TurnedBack { reason }).unwrap();
    }
    drop(journal);
    let events = SqliteJournal::open(dir.path()).unwrap().events(&tx).unwrap();
    for (number, recorded) in (0..1000i32).zip(&events[1..]) {
        assert_eq!(recorded.seq, 2 + u64::from(number.unsigned_abs()));
        assert_eq!(recorded.event, Event::TurnedBack { reason: Reason::Signal { number } });
    }
    assert!(events.windows(2).all(|pair| pair[0].at <= pair[1].at && pair[0].hash != pair[1].hash));
}

#[test]
fn a_trigger_refuses_to_change_remove_or_replace_an_event() {
    let dir = filled();
    let db = Connection::open(dir.path().join("journal.db")).unwrap();
    let refused = |sql: &str| db.execute_batch(sql).unwrap_err().to_string();
    insta::assert_snapshot!(refused("UPDATE event SET at = '' WHERE seq = 3"), @"an event that has happened is not changed");
    insta::assert_snapshot!(refused("DELETE FROM event WHERE seq = 6"), @"an event that has happened is not removed");
    for seq in [0, 3, 6, 8] {
        let sql = format!("INSERT OR REPLACE INTO event VALUES ({seq}, 'notes-1', '', '{{}}', x'00', x'00')");
        assert_eq!(refused(&sql), "an event is only ever added at the end");
    }
    drop(db);
    SqliteJournal::open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn a_changed_row_is_named() {
    for change in [
        "at = '2020-01-01T00:00:00Z'",
        "tx = 'shop-2'",
        "event = replace(event, 'confirmed', 'Confirmed')",
        "hash = zeroblob(32)",
        "hash = x'00'",
        "previous = zeroblob(32)",
    ] {
        let tx = if change.starts_with("tx") { "shop-2" } else { "shop-1" };
        assert_eq!(
            verdict_after(&format!("UPDATE event SET {change} WHERE seq = 5")),
            format!("event 5 of `{tx}` was changed: its hash is not right")
        );
    }
}

#[test]
fn a_removed_row_is_noticed() {
    insta::assert_snapshot!(verdict_after("DELETE FROM event WHERE seq = 1"), @"event 1 was removed: the next one is event 2 of `notes-1`");
    insta::assert_snapshot!(verdict_after("DELETE FROM event WHERE seq IN (3, 4)"), @"events 3 to 4 were removed: the next one is event 5 of `shop-1`");
    insta::assert_snapshot!(
        verdict_after("DELETE FROM event WHERE seq = 3; UPDATE event SET seq = seq - 1 WHERE seq > 3"),
        @"events were reordered: event 3 of `shop-1` was event 4"
    );
}

#[test]
fn reordered_rows_are_noticed() {
    let swap = "UPDATE event SET seq = 99 WHERE seq = 2; UPDATE event SET seq = 2 WHERE seq = 3; UPDATE event SET seq = 3 WHERE seq = 99";
    insta::assert_snapshot!(verdict_after(swap), @"events were reordered: event 2 of `notes-1` was event 3");
}

#[test]
fn a_row_of_another_chain_is_noticed() {
    let (dir, other) = (filled(), filled());
    tamper(
        dir.path(),
        &format!(
            "ATTACH '{}' AS other; DELETE FROM event WHERE seq = 4; \
             INSERT INTO event SELECT * FROM other.event WHERE seq = 4",
            other.path().join("journal.db").display()
        ),
    );
    insta::assert_snapshot!(verdict(dir.path()), @"event 4 of `shop-1` does not continue what stands before it: one of the two was replaced");
}

#[test]
fn a_journal_cut_at_the_end_is_noticed_and_not_continued() {
    insta::assert_snapshot!(verdict_after("DELETE FROM event WHERE seq = 6"), @"it was cut off: it ends with event 5 of `shop-1`, and there were 6");
    insta::assert_snapshot!(verdict_after("DELETE FROM event"), @"all its 6 events were removed");
    let dir = filled();
    tamper(dir.path(), "DELETE FROM event WHERE seq > 4");
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let error = journal.append(&"shop-1".parse().unwrap(), &Event::Confirmed).unwrap_err();
    assert_eq!(error.causes, ["it was cut off: it ends with event 4 of `shop-1`, and there were 6"]);
    assert_eq!(error.fault, Fault::Damage);
}

#[test]
fn nothing_is_appended_after_a_last_row_that_was_changed() {
    let dir = filled();
    tamper(dir.path(), "UPDATE event SET at = '' WHERE seq = 6");
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let error = journal.append(&"shop-1".parse().unwrap(), &Event::Confirmed).unwrap_err();
    insta::assert_snapshot!(report(&error), @r"
    error: the journal is damaged
      cause: event 6 of `shop-1` was changed: its hash is not right
    hint: put the `journal.*` files back from a backup; `txupgrade store list` and `store export` read the snapshots without
    ");
    assert_eq!(journal.events(&"shop-1".parse().unwrap()).unwrap_err(), error);
    assert_eq!(journal.events(&"notes-1".parse().unwrap()).unwrap().len(), 3);
}

#[test]
fn a_head_one_behind_is_no_damage_and_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let head = dir.path().join("journal.head");
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let tx = journal.begin(&name("notes"), &begun(&[])).unwrap();
    let first = fs::read(&head).unwrap();
    fs::remove_file(&head).unwrap();
    journal.verify().unwrap();
    journal.append(&tx, &Event::Confirmed).unwrap();
    fs::write(&head, &first).unwrap();
    journal.verify().unwrap();
    journal.append(&tx, &Event::Confirmed).unwrap();
    let text = fs::read_to_string(&head).unwrap();
    assert_eq!(text, format!("3 {}\n", journal.events(&tx).unwrap()[2].hash));

    fs::write(&head, &first).unwrap();
    let said = |journal: &SqliteJournal| journal.verify().unwrap_err().causes.join("; ");
    insta::assert_snapshot!(said(&journal), @"the file `journal.head` is of event 1, and the last is 3 of `notes-1`");
    fs::remove_file(&head).unwrap();
    insta::assert_snapshot!(said(&journal), @"the file `journal.head` is missing");
    fs::write(&head, "3").unwrap();
    insta::assert_snapshot!(said(&journal), @"the file `journal.head` is not a number and a hash");
    fs::write(&head, text.replace("3 ", "2 ")).unwrap();
    insta::assert_snapshot!(said(&journal), @"event 2 is not the one whose hash is in `journal.head`");
}

#[test]
fn a_head_that_cannot_be_written_refuses_the_event_after() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let tx = journal.begin(&name("notes"), &begun(&[])).unwrap();
    let head = dir.path().join("journal.head");
    fs::remove_file(&head).unwrap();
    // A directory in its place stops root too.
    fs::create_dir(&head).unwrap();
    journal.append(&tx, &Event::Confirmed).unwrap_err();
    fs::remove_dir(&head).unwrap();
    assert_eq!(journal.events(&tx).unwrap().len(), 1);
    journal.append(&tx, &Event::Confirmed).unwrap();
    journal.verify().unwrap();
}

#[test]
fn an_event_of_a_newer_txupgrade_is_refused_by_name() {
    let dir = filled();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    let tx: TxId = "shop-2".parse().unwrap();
    journal.add(|_| Ok(((), tx.clone(), r#"{"event":"teleported","to":"mars"}"#.into()))).unwrap();
    insta::assert_snapshot!(report(&journal.events(&tx).unwrap_err()), @r"
    error: cannot read event 7 of `shop-2`
      cause: this txupgrade is too old: it does not know the event `teleported`
    hint: use the txupgrade that began this transaction, or a newer one
    ");
    journal.add(|_| Ok(((), tx.clone(), r#"{"event":"stuck","task":"teleport x"}"#.into()))).unwrap();
    journal.verify().unwrap();
    assert_eq!(journal.unfinished().unwrap(), [tx]);
}

#[test]
fn a_newer_format_is_refused() {
    let dir = filled();
    fs::write(dir.path().join("FORMAT"), r#"{"format":3}"#).unwrap();
    let error = SqliteJournal::open(dir.path()).unwrap_err();
    let text = report(&error).replace(dir.path().to_str().unwrap(), "STATE");
    insta::assert_snapshot!(text, @r"
    error: this txupgrade is too old for the state directory `STATE`
      cause: it has format 3, and this txupgrade knows formats up to 1
    hint: use the txupgrade that wrote it, or a newer one
    ");
    assert_eq!(SqliteJournal::open_read_only(dir.path()).unwrap_err(), error);
}

#[test]
fn a_newer_journal_is_refused() {
    let dir = filled();
    Connection::open(dir.path().join("journal.db")).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = SqliteJournal::open(dir.path()).unwrap_err();
    insta::assert_snapshot!(report(&error).replace(dir.path().to_str().unwrap(), "STATE"), @r"
    error: this txupgrade is too old for the journal `STATE/journal.db`
      cause: it has format 2, and this txupgrade knows formats up to 1
    hint: use the txupgrade that wrote it, or a newer one
    ");
    assert_eq!(SqliteJournal::open_read_only(dir.path()).unwrap_err(), error);
}

#[test]
fn the_format_is_written_where_the_directory_is_new_and_missed_where_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    SqliteJournal::open(&state).unwrap();
    assert_eq!(fs::read_to_string(state.join("FORMAT")).unwrap(), "{\"format\":1}\n");
    assert_eq!(format::check(&state).unwrap(), Some(1));
    fs::remove_file(state.join("FORMAT")).unwrap();
    let error = SqliteJournal::open(&state).unwrap_err();
    insta::assert_snapshot!(report(&error).replace(state.to_str().unwrap(), "STATE"), @r#"
    error: `STATE/FORMAT` is missing
      cause: there is a journal beside it, so the state directory is not new
    hint: if the journal is of this version of txupgrade: echo '{"format":1}' > STATE/FORMAT
    "#);
    for text in ["", "{}", r#"{"format":0}"#, r#"{"format":"1"}"#] {
        fs::write(state.join("FORMAT"), text).unwrap();
        let error = format::check(&state).unwrap_err();
        assert_eq!(error.statement, format!("`{}` does not name a format", state.join("FORMAT").display()));
        assert_eq!(error.causes, ["it should say {\"format\":1}"]);
        assert_eq!(error.fault, Fault::Damage);
    }
}

/// Every file of `dir` with its content.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn reading_creates_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(SqliteJournal::open_read_only(&dir.path().join("nowhere")).unwrap().is_none());
    assert!(SqliteJournal::open_read_only(dir.path()).unwrap().is_none());
    assert!(content(dir.path()).is_empty());

    let read = |dir: &Path, expected: u64| {
        let before = content(dir);
        let mut journal = SqliteJournal::open_read_only(dir).unwrap().unwrap();
        assert_eq!(journal.verify().unwrap().events, expected, "{:?}", before.keys());
        assert_eq!(journal.unfinished().unwrap().len(), 0);
        assert_eq!(journal.events(&"notes-1".parse().unwrap()).unwrap().len(), 3);
        let error = journal.append(&"notes-1".parse().unwrap(), &Event::Confirmed).unwrap_err();
        assert_eq!(error.causes, ["it was opened only to be read"]);
        assert_eq!(error.statement, format!("cannot write to the journal `{}`", dir.join("journal.db").display()));
        assert!(before == content(dir), "something was changed");
    };
    let dir = filled();
    read(dir.path(), 6);
    // As a crash leaves it: rows only in the write-ahead log, with and without its index.
    let (crashed, lost) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    journal.append(&"shop-1".parse().unwrap(), &Event::Confirmed).unwrap();
    for (file, bytes) in content(dir.path()) {
        fs::write(crashed.path().join(&file), &bytes).unwrap();
        if !file.ends_with("-shm") {
            fs::write(lost.path().join(&file), &bytes).unwrap();
        }
    }
    read(crashed.path(), 7);
    read(lost.path(), 7);
    read(dir.path(), 7);
    drop(journal);
    // As it is copied by somebody who does not know of the log.
    fs::remove_file(dir.path().join("journal.db-wal")).unwrap();
    fs::remove_file(dir.path().join("journal.db-shm")).unwrap();
    read(dir.path(), 7);
}

#[test]
fn a_reader_sees_what_is_appended_after_it_was_opened() {
    let dir = filled();
    let reader = SqliteJournal::open_read_only(dir.path()).unwrap().unwrap();
    let mut journal = SqliteJournal::open(dir.path()).unwrap();
    for events in 7..40 {
        journal.append(&"shop-1".parse().unwrap(), &Event::Confirmed).unwrap();
        assert_eq!(reader.verify().unwrap().events, events);
    }
}

#[test]
fn a_file_that_is_no_journal_is_damage() {
    let dir = filled();
    for file in ["journal.db-wal", "journal.db-shm"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    fs::write(dir.path().join("journal.db"), vec![7; 8192]).unwrap();
    let error = SqliteJournal::open(dir.path()).unwrap_err();
    insta::assert_snapshot!(report(&error), @r"
    error: the journal is damaged
      cause: file is not a database
    hint: put the `journal.*` files back from a backup; `txupgrade store list` and `store export` read the snapshots without
    ");
    assert_eq!(error.fault, Fault::Damage);
    assert_eq!(SqliteJournal::open_read_only(dir.path()).unwrap_err(), error);
}

#[test]
fn the_hash_is_of_length_prefixed_fields() {
    let mut journal = MemoryJournal::new();
    let tx = journal.begin(&name("notes"), &begun(&[])).unwrap();
    journal.append(&tx, &Event::Confirmed).unwrap();
    let (first, second) = (&journal.rows[0], &journal.rows[1]);
    assert_eq!(first.previous.as_bytes(), &[0; 32]);
    let mut bytes = Vec::new();
    for field in
        [first.hash.as_bytes(), &2u64.to_le_bytes()[..], b"notes-1", second.at.as_bytes(), br#"{"event":"confirmed"}"#]
    {
        bytes.extend((field.len() as u64).to_le_bytes());
        bytes.extend(field);
    }
    assert_eq!(second.hash.as_bytes(), blake3::hash(&bytes).as_bytes());
}

/// One of each event, with everything in it that can be left out and without it.
fn one_of_each() -> Vec<Event> {
    let task = TaskId::new(Action::Capture, "code");
    let full = Output {
        manifest: Some("00".into()),
        version: Some("1.4".into()),
        bytes: Some(1),
        stored: Some(2),
        note: "note".into(),
        warnings: vec!["warning".into()],
        kept: vec!["/opt/.txupgrade-notes-1-old".into()],
        units: vec![Unit { name: "notes.service".into(), active: true, enabled: "enabled".into() }],
    };
    let failure = Error::new("cannot").because("no").hint("do").fault(Fault::Signal(15));
    let everything = Begun {
        set: BTreeMap::from([("home".into(), "/opt".into())]),
        lists: BTreeMap::from([("shards".into(), vec!["1".into()])]),
        left_out: vec!["step migrate".into()],
        accepted: vec!["keys".into()],
        undoes: vec!["notes-1".into()],
        ..begun(&["path /opt"])
    };
    let mut events = vec![
        Event::Begun(Box::new(begun(&[]))),
        Event::Begun(Box::new(everything)),
        Event::Started { task: task.clone(), runner: runner() },
        Event::Succeeded { task: task.clone(), output: full },
        Event::Succeeded { task: task.clone(), output: Output::default() },
        Event::Failed { task: task.clone(), failure },
        Event::Failed { task: task.clone(), failure: Error::new("no") },
        Event::Interrupted { task: Some(task.clone()), boot: Boot::Same, runner: runner() },
        Event::Interrupted { task: None, boot: Boot::Other, runner: runner() },
        Event::Skipped { task: task.clone() },
        Event::Awaiting {
            until: "2026-11-21T03:15:19.123456789Z".into(),
            seconds: 600,
            since_boot: 5,
            boot_id: "b".into(),
        },
        Event::Confirmed,
        Event::Stuck { task: task.clone() },
        Event::Retried { extent: Extent::Whole },
        Event::Retried { extent: Extent::Partial },
    ];
    let goals = [Goal::Captured, Goal::Applied, Goal::Committed];
    events.extend(goals.map(|goal| Event::Aimed { goal, runner: runner() }));
    let outcomes = [Outcome::Committed, Outcome::Aborted, Outcome::RolledBack, Outcome::Released];
    events.extend(outcomes.map(|outcome| Event::Ended { outcome }));
    let reasons =
        [Reason::Failed { task }, Reason::Died, Reason::Asked, Reason::Signal { number: 2 }, Reason::NotConfirmed];
    events.extend(reasons.map(|reason| Event::TurnedBack { reason }));
    let faults = [Fault::Usage, Fault::Overlap, Fault::Locked, Fault::Damage];
    events.extend(faults.map(|fault| Event::Failed {
        task: TaskId::new(Action::Require, "resource code"),
        failure: Error::new("no").fault(fault),
    }));
    events
}

#[test]
fn every_event_is_as_its_schema_says() {
    let schema = serde_json::from_str(include_str!("../../schemas/event.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for event in one_of_each() {
        let text = encode(&event);
        let value = serde_json::from_str(&text).unwrap();
        let faults: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{text}: {faults:?}");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
    for wrong in [
        r#"{"event":"teleported"}"#,
        r#"{"event":"stuck"}"#,
        r#"{"event":"stuck","task":"fly x"}"#,
        r#"{"event":"confirmed","extra":1}"#,
        r#"{"event":"ended","outcome":"won"}"#,
    ] {
        assert!(!schema.is_valid(&serde_json::from_str(wrong).unwrap()), "{wrong}");
    }
}

/// Every file of the journal, flipped at random places; the seed is printed, `TXUPGRADE_SEED` sets it.
#[test]
fn every_flipped_bit_is_found_or_without_effect() {
    use std::io::Write as _;
    let seed: u64 = std::env::var("TXUPGRADE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4);
    let mut random = blake3::Hasher::new().update(b"journal").update(&seed.to_le_bytes()).finalize_xof();
    let dir = filled();
    let txs: Vec<TxId> = ["notes-1", "shop-1"].iter().map(|tx| tx.parse().unwrap()).collect();
    let all =
        |journal: &SqliteJournal| -> Result<Vec<Vec<Recorded>>> { txs.iter().map(|tx| journal.events(tx)).collect() };
    let whole = all(&SqliteJournal::open(dir.path()).unwrap()).unwrap();
    let names = ["journal.db", "journal.db-wal", "journal.db-shm", "journal.head", "FORMAT"];
    let kept: Vec<Option<Vec<u8>>> = names.iter().map(|name| fs::read(dir.path().join(name)).ok()).collect();
    let put_back = || {
        for (name, bytes) in names.iter().zip(&kept) {
            let path = dir.path().join(name);
            match bytes {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => drop(fs::remove_file(path)),
            }
        }
    };
    // What is in the write-ahead log is not read from the database: at the end it is flipped without one.
    let alone = {
        let db = Connection::open(dir.path().join("journal.db")).unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        fs::read(dir.path().join("journal.db")).unwrap()
    };
    put_back();
    let rounds = names.iter().zip([50, 100, 20, 100, 50]).chain([(&"journal.db", 250)]);
    for (round, (name, flips)) in rounds.enumerate() {
        let bytes = match &kept[names.iter().position(|other| other == name).unwrap()] {
            _ if round == names.len() => alone.clone(),
            Some(bytes) => bytes.clone(),
            None => Vec::new(),
        };
        assert!(!bytes.is_empty(), "{name}");
        let (mut found, mut without) = (0, 0);
        for _ in 0..flips {
            let mut number = [0; 8];
            random.fill(&mut number);
            let bit = usize::try_from(u64::from_le_bytes(number) % (bytes.len() as u64 * 8)).unwrap();
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.path().join(name), &flipped).unwrap();
            if round == names.len() {
                let _ = fs::remove_file(dir.path().join("journal.db-wal"));
                let _ = fs::remove_file(dir.path().join("journal.db-shm"));
            }
            let read_only = SqliteJournal::open_read_only(dir.path());
            let is_found = !read_only.is_ok_and(|journal| journal.is_some_and(|journal| journal.verify().is_ok()));
            // Whoever acts sees all of what happened, or is refused.
            if let Ok(journal) = SqliteJournal::open(dir.path()) {
                for (tx, whole) in txs.iter().zip(&whole) {
                    if let Ok(events) = journal.events(tx) {
                        assert_eq!(events, *whole, "bit {bit} of {name}");
                    } else {
                        assert!(is_found, "bit {bit} of {name}");
                    }
                }
            }
            put_back();
            if is_found {
                found += 1;
            } else {
                without += 1;
            }
        }
        let line =
            format!("flips of {name} (seed {seed}): {flips}, found {found}, without effect {without}, otherwise 0");
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    SqliteJournal::open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn a_row_that_was_given_to_another_is_missed() {
    let dir = filled();
    tamper(
        dir.path(),
        "UPDATE event SET tx = 'shop-1' WHERE tx = 'notes-1' AND seq = (SELECT max(seq) FROM event WHERE tx = 'notes-1')",
    );
    let journal = SqliteJournal::open(dir.path()).unwrap();
    for tx in ["notes-1", "shop-1"] {
        assert_eq!(journal.events(&tx.parse().unwrap()).unwrap_err().fault, Fault::Damage, "{tx}");
    }
}
