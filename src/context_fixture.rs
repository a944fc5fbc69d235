//! For tests: a [`Context`] over a temporary directory, and kinds read from pieces of a plan.
//!
//! `${dir}` stands in every piece for a directory of the test's own.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::{self, Check, Finding};
use crate::context::{Context, Direction, Peers};
use crate::error::{Error, Result};
use crate::monitor::Silent;
use crate::plan::{Fields, List, Plan, Report, Scope};
use crate::quiesce::{self, Quiesce};
use crate::resource::{self, Resource};
use crate::step::{self, Step};
use crate::store::{Replaced, Stamps, Store};
use crate::sys::process::Log;
use crate::sys::signal::Stop;

/// What a context is made of.
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) stop: Stop,
    pub(crate) peers: Others,
}

/// The other entries of an imagined plan.
#[derive(Default)]
pub(crate) struct Others {
    pub(crate) resources: BTreeMap<String, Box<dyn Resource>>,
    /// What each check answers, one time after the other; the last answer stays.
    pub(crate) answers: RefCell<BTreeMap<String, VecDeque<Finding>>>,
}

impl Peers for Others {
    fn resources(&self, reference: &str) -> Result<Vec<(String, Scope, &dyn Resource)>> {
        let name = reference.trim_end_matches("@*");
        let found: Vec<_> = self
            .resources
            .iter()
            .filter(|(key, _)| *key == reference || (name != reference && key.starts_with(&format!("{name}@"))))
            .map(|(key, resource)| (key.clone(), Scope::default(), &**resource))
            .collect();
        match found.is_empty() {
            true => Err(Error::new(format!("there is no resource `{reference}`"))),
            false => Ok(found),
        }
    }

    fn ask(&self, reference: &str, _: &Context<'_>) -> Result<Finding> {
        let mut all = self.answers.borrow_mut();
        let answers = all.get_mut(reference).ok_or_else(|| Error::new(format!("there is no check `{reference}`")))?;
        let first = answers.front().cloned().expect("a test gives at least one answer");
        if answers.len() > 1 {
            answers.pop_front();
        }
        Ok(first)
    }
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let root = dir.path();
        for below in ["state/tmp/own", "scratch", "place"] {
            fs::create_dir_all(root.join(below)).expect("a directory can be made");
        }
        let store = Store::open(&root.join("state"), &root.join("state/tmp/own")).expect("a store can be made");
        let token = format!("test-{}", root.display());
        let log = Log::open(&root.join("state/logs/t-1/task.log"), &token, Vec::new()).expect("a log can be made");
        Fixture { store, log, stop: Stop::never(), peers: Others::default(), dir }
    }

    /// What `${dir}` stands for.
    pub(crate) fn place(&self) -> PathBuf {
        self.dir.path().join("place")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place().join(name)
    }

    /// Writes a file below `${dir}`.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below the place")).expect("a directory can be made");
        fs::write(&path, content).expect("a file can be written");
        path
    }

    pub(crate) fn scope(&self) -> Scope {
        Scope { dir: self.place(), ..Scope::default() }.with("dir", &self.place().display().to_string())
    }

    /// The context of a task about `subject`, on the way forward.
    pub(crate) fn context(&self, subject: &str) -> Context<'_> {
        Context {
            tx: "t-1".to_owned(),
            subject: subject.to_owned(),
            direction: Direction::Forward,
            scope: self.scope(),
            version: None,
            scratch: self.dir.path().join("scratch"),
            tmp: self.dir.path().join("state/tmp/own"),
            left_out: Vec::new(),
            kept: Vec::new(),
            stamps: Stamps::Count,
            replaced: Replaced::KeptAside,
            units: Vec::new(),
            state: self.dir.path().join("state"),
            store: &self.store,
            log: &self.log,
            stop: &self.stop,
            monitor: Arc::new(Silent),
            peers: &self.peers,
            said: RefCell::new(String::new()),
        }
    }

    /// What the log of the task holds.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(self.log.path()).expect("the log can be read")
    }

    pub(crate) fn check(&self, keys: &str) -> Box<dyn Check> {
        self.read(List::Check, keys, |kind, fields| {
            let kind = check::KINDS.iter().find(|it| it.name == kind).expect("the kind is listed");
            (kind.read)(fields)
        })
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    pub(crate) fn step(&self, keys: &str) -> Box<dyn Step> {
        self.read(List::Step, keys, |kind, fields| {
            let kind = step::KINDS.iter().find(|it| it.name == kind).expect("the kind is listed");
            (kind.read)(fields)
        })
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    pub(crate) fn quiesce(&self, keys: &str) -> Box<dyn Quiesce> {
        self.read(List::Quiesce, keys, |kind, fields| {
            let kind = quiesce::KINDS.iter().find(|it| it.name == kind).expect("the kind is listed");
            (kind.read)(fields)
        })
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    pub(crate) fn resource(&self, keys: &str) -> Box<dyn Resource> {
        self.read(List::Resource, keys, |kind, fields| {
            let kind = resource::KINDS.iter().find(|it| it.name == kind).expect("the kind is listed");
            (kind.read)(fields)
        })
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    /// The mistakes of an entry, as statements and hints, one per line.
    pub(crate) fn mistakes(&self, list: List, keys: &str) -> String {
        let read = self.read(list, keys, |kind, fields| match list {
            List::Check => drop(check::KINDS.iter().find(|it| it.name == kind).map(|kind| (kind.read)(fields))),
            List::Step => drop(step::KINDS.iter().find(|it| it.name == kind).map(|kind| (kind.read)(fields))),
            List::Quiesce => drop(quiesce::KINDS.iter().find(|it| it.name == kind).map(|kind| (kind.read)(fields))),
            List::Resource => drop(resource::KINDS.iter().find(|it| it.name == kind).map(|kind| (kind.read)(fields))),
            List::Notice => {}
        });
        read.err().unwrap_or_else(|| "no mistake".to_owned())
    }

    /// The mistakes of each of several entries, one paragraph per entry.
    pub(crate) fn all_mistakes(&self, list: List, entries: &[&str]) -> String {
        entries.iter().map(|keys| self.mistakes(list, keys)).collect::<Vec<_>>().join("\n\n")
    }

    fn read<T>(&self, list: List, keys: &str, read: impl Fn(&str, &mut Fields) -> T) -> Result<T, String> {
        // The entries that a piece may name.
        let others = "[[check]]\nname = \"c\"\nkind = \"tcp\"\naddress = \"127.0.0.1:1\"\n\
                      [[resource]]\nname = \"db\"\nkind = \"sqlite\"\npath = \"/nowhere/db\"\n";
        let text = format!(
            "format = 1\nname = \"t\"\n[vars]\ndir = \"{}\"\n{others}[[{list}]]\nname = \"it\"\n{keys}\n",
            self.place().display(),
        );
        let mut plan = Plan::parse(&text, Path::new("/plans/t.toml"), &BTreeMap::new()).map_err(|e| told(&e))?;
        let entries = match list {
            List::Check => &mut plan.checks,
            List::Quiesce => &mut plan.quiesces,
            List::Resource => &mut plan.resources,
            List::Step => &mut plan.steps,
            List::Notice => panic!("a notice has no kind"),
        };
        let mut entry = entries.pop().expect("the entry was read");
        let made = read(&entry.kind, &mut entry.body);
        entry.body.finish();
        let report: Report = plan.report.clone();
        match report.is_empty() {
            true => Ok(made),
            false => Err(told(&report.into_error("t.toml", &text))),
        }
    }
}

/// Every line of an error that says something, markers and places left out.
fn told(error: &Error) -> String {
    let mut lines = vec![error.statement.clone()];
    lines.extend(error.causes.iter().flat_map(|cause| cause.lines().map(str::to_owned)));
    lines.extend(error.hints.clone());
    // The statement counts them; of each, its place and the line of the plan are left out.
    let kept = lines.iter().skip(1).filter_map(|line| match line.strip_prefix("t.toml:") {
        Some(rest) => rest.splitn(3, ':').nth(2).map(|text| text.trim().to_owned()),
        None => line.contains("hint").then(|| line.trim().to_owned()),
    });
    match kept.collect::<Vec<_>>().join("\n") {
        text if text.is_empty() => error.to_string(),
        text => text,
    }
}

/// An error as people see it, `dir` written as `DIR`.
pub(crate) fn shown(error: &Error, fixture: &Fixture) -> String {
    let causes = error.causes.iter().map(|cause| format!("\n  cause: {cause}"));
    let hints = error.hints.iter().map(|hint| format!("\nhint: {hint}"));
    let text = error.statement.clone() + &causes.chain(hints).collect::<String>();
    text.replace(&fixture.place().display().to_string(), "DIR")
}
