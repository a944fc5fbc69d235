//! A journal written by hand, for the tests of what is read from it: its clock stands where the test puts it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::journal::{Hash, Journal, Recorded, Verified};
use crate::name::{Name, TxId};
use crate::tx::{
    Action, Begun, Confirmation, Event, Goal, Itinerary, OnFailure, Outcome, Output, Purpose, Reason, Runner, State,
    Task, TaskId,
};

/// A journal in memory whose moments are given.
#[derive(Debug, Default)]
pub(crate) struct Paper {
    rows: Vec<Recorded>,
    now: Timestamp,
}

impl Journal for Paper {
    fn append(&mut self, tx: &TxId, event: &Event) -> Result<()> {
        let seq = self.rows.len() as u64 + 1;
        let (at, tx, event) = (self.now.to_string(), tx.clone(), event.clone());
        self.rows.push(Recorded { seq, tx, at, event, hash: Hash::ZERO });
        Ok(())
    }

    fn events(&self, tx: &TxId) -> Result<Vec<Recorded>> {
        Ok(self.rows.iter().filter(|row| row.tx == *tx).cloned().collect())
    }

    fn transactions(&self) -> Result<Vec<TxId>> {
        Ok(self.rows.iter().filter(|row| matches!(row.event, Event::Begun(_))).map(|row| row.tx.clone()).collect())
    }

    fn unfinished(&self) -> Result<Vec<TxId>> {
        let ended = |tx: &TxId| self.rows.iter().any(|row| row.tx == *tx && matches!(row.event, Event::Ended { .. }));
        Ok(self.transactions()?.into_iter().filter(|tx| !ended(tx)).collect())
    }

    fn begin(&mut self, plan: &Name, begun: &Begun) -> Result<TxId> {
        let number = self.transactions()?.iter().filter(|tx| tx.plan == *plan).count();
        let tx = TxId { plan: plan.clone(), number: u32::try_from(number).unwrap() + 1 };
        self.append(&tx, &Event::Begun(Box::new(begun.clone())))?;
        Ok(tx)
    }

    fn verify(&self) -> Result<Verified> {
        let transactions = self.transactions()?.len() as u64;
        Ok(Verified { events: self.rows.len() as u64, transactions, last: Hash::ZERO })
    }
}

/// Writes transactions of a small plan: `code` and `db` are captured while `stop` holds, `unpack` and `migrate` run.
pub(crate) struct Notebook {
    pub(crate) journal: Paper,
}

impl Notebook {
    pub(crate) fn new() -> Notebook {
        let now = "2026-11-21T03:00:00Z".parse().unwrap();
        Notebook { journal: Paper { rows: Vec::new(), now } }
    }

    /// Begins a transaction that is to be committed.
    pub(crate) fn begin(&mut self, plan: &str) -> TxId {
        self.begin_as(plan, |_| ())
    }

    /// Begins one that `change` has made different.
    pub(crate) fn begin_as(&mut self, plan: &str, change: impl FnOnce(&mut Begun)) -> TxId {
        let mut begun = Begun {
            plan: "0".repeat(64),
            path: format!("/etc/txupgrade/{plan}.toml"),
            set: BTreeMap::new(),
            lists: BTreeMap::new(),
            left_out: Vec::new(),
            accepted: Vec::new(),
            claims: vec![format!("path /opt/{plan}")],
            undoes: Vec::new(),
            itinerary: itinerary(),
            goal: Goal::Committed,
            runner: runner(),
        };
        change(&mut begun);
        self.journal.begin(&plan.parse().unwrap(), &begun).unwrap()
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.journal.now += Duration::from_millis(milliseconds);
    }

    /// Journals an event, which has to be legal.
    pub(crate) fn add(&mut self, tx: &TxId, event: Event) {
        self.journal.append(tx, &event).unwrap();
        let events = self.journal.events(tx).unwrap();
        State::fold(events.iter().map(|row| &row.event)).unwrap();
    }

    pub(crate) fn starts(&mut self, tx: &TxId, task: &str) {
        self.add(tx, Event::Started { task: id(task), runner: runner() });
    }

    /// A task that takes 1.5 seconds and ends well.
    pub(crate) fn does(&mut self, tx: &TxId, task: &str, output: Output) {
        self.starts(tx, task);
        self.wait(1500);
        self.add(tx, Event::Succeeded { task: id(task), output });
    }

    /// A task that takes 0.4 seconds and fails.
    pub(crate) fn fails(&mut self, tx: &TxId, task: &str, failure: Error) {
        self.starts(tx, task);
        self.wait(400);
        self.add(tx, Event::Failed { task: id(task), failure });
    }

    /// Everything up to the proof.
    pub(crate) fn captures(&mut self, tx: &TxId) {
        let version = Output { version: Some("1.4.2".to_owned()), note: "1.4.2".to_owned(), ..Output::default() };
        self.does(tx, "require the version", version);
        self.does(tx, "require page", Output::note("status 200"));
        self.does(tx, "quiesce stop", Output::default());
        let captured = |bytes, stored| Output {
            manifest: Some("1".repeat(64)),
            bytes: Some(bytes),
            stored: Some(stored),
            note: format!("{bytes} bytes, {stored} new"),
            ..Output::default()
        };
        self.does(tx, "capture code", captured(312_000_000, 4_100_000));
        self.does(tx, "capture db", captured(88_000, 12_000));
        self.does(tx, "prove everything", Output::default());
    }

    /// From begin to commit.
    pub(crate) fn commits(&mut self, plan: &str) -> TxId {
        let tx = self.begin(plan);
        self.captures(&tx);
        self.does(&tx, "apply unpack", Output::default());
        self.does(&tx, "apply migrate", Output::default());
        self.does(&tx, "resume stop", Output::default());
        let version = Output { version: Some("2.0.0".to_owned()), note: "2.0.0".to_owned(), ..Output::default() };
        self.does(&tx, "verify the version", version);
        let warned = Output { warnings: vec!["answered after 8 s".to_owned()], ..Output::note("status 200") };
        self.does(&tx, "verify page", warned);
        self.add(&tx, Event::Ended { outcome: Outcome::Committed });
        tx
    }

    /// From begin to the failure of `migrate`.
    pub(crate) fn fails_to_migrate(&mut self, plan: &str) -> TxId {
        let tx = self.begin(plan);
        self.captures(&tx);
        self.does(&tx, "apply unpack", Output::default());
        let failure = Error::new("`/opt/notes/bin/notes migrate` ended with exit status 3")
            .because("its last line was: relation \"users\" already exists");
        self.fails(&tx, "apply migrate", failure);
        tx
    }

    pub(crate) fn turns_back(&mut self, tx: &TxId) {
        self.add(tx, Event::TurnedBack { reason: Reason::Failed { task: id("apply migrate") } });
        self.does(tx, "prove everything", Output::default());
    }

    /// From begin to rolled back.
    pub(crate) fn rolls_back(&mut self, plan: &str) -> TxId {
        let tx = self.fails_to_migrate(plan);
        self.turns_back(&tx);
        self.does(&tx, "restore db", Output::note("1 table"));
        self.does(&tx, "restore code", Output::note("31 files"));
        self.does(&tx, "resume stop", Output::default());
        self.does(&tx, "recheck page", Output::note("status 200"));
        self.add(&tx, Event::Ended { outcome: Outcome::RolledBack });
        tx
    }

    /// From begin to waiting for a confirmation.
    pub(crate) fn unconfirmed(&mut self, plan: &str) -> TxId {
        let tx = self.begin_as(plan, |begun| {
            begun.itinerary.confirm = Confirmation::Asked;
            begun.itinerary.forward.truncate(6);
        });
        self.captures(&tx);
        let until = "2026-11-21T03:10:09.5Z".to_owned();
        self.add(&tx, Event::Awaiting { until, seconds: 600, since_boot: 17, boot_id: "b7e1".to_owned() });
        tx
    }

    /// From begin to stuck: `db` cannot be restored.
    pub(crate) fn gets_stuck(&mut self, plan: &str) -> TxId {
        let tx = self.fails_to_migrate(plan);
        self.turns_back(&tx);
        let full = Error::new("cannot write `/var/lib/notes/notes.db`").because("no space left on device");
        self.fails(&tx, "restore db", full);
        self.does(&tx, "restore code", Output::note("31 files"));
        self.add(&tx, Event::Stuck { task: id("restore db") });
        tx
    }
}

pub(crate) fn id(task: &str) -> TaskId {
    task.parse().unwrap()
}

pub(crate) fn runner() -> Runner {
    Runner { pid: 4242, start: 17, boot_id: "b7e1".to_owned() }
}

fn itinerary() -> Itinerary {
    Itinerary {
        purpose: Purpose::Upgrade,
        on_failure: OnFailure::Rollback,
        confirm: Confirmation::NotAsked,
        forward: vec![
            Task::new(Action::Require, "the version", 0),
            Task::new(Action::Require, "page", 0),
            Task::new(Action::Quiesce, "stop", 0),
            Task::new(Action::Capture, "code", 1),
            Task::new(Action::Capture, "db", 1),
            Task::new(Action::Prove, "everything", 1),
            Task::new(Action::Apply, "unpack", 1),
            Task::new(Action::Apply, "migrate", 1),
            Task::new(Action::Resume, "stop", 0),
            Task::new(Action::Verify, "the version", 0),
            Task::new(Action::Verify, "page", 0),
        ],
        backward: vec![
            Task::new(Action::Prove, "everything", 1),
            Task::new(Action::Quiesce, "stop", 0),
            Task::new(Action::Restore, "db", 1),
            Task::new(Action::Restore, "code", 1),
            Task::new(Action::Resume, "stop", 0),
            Task::new(Action::Recheck, "page", 0),
        ],
    }
}
