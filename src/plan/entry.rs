//! The parts of a plan.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{Command, CommandDefaults, Fields, Range, Reading, Report, Scheme, Span, Template};
use crate::name::Name;

/// A whole plan. Kind-specific keys are still unread in each entry's `body`.
#[derive(Debug)]
pub struct Plan {
    /// The file's content.
    pub text: String,
    /// Absolute path of the file.
    pub path: PathBuf,
    /// The mistakes found so far; kinds add theirs.
    pub report: Report,
    /// Its name; transactions are called after it.
    pub name: Name,
    /// What it does, in the user's words; may be empty.
    pub summary: String,
    /// `[vars]`, `--set` already heeded.
    pub vars: BTreeMap<String, Var>,
    /// `[command]`.
    pub command: CommandDefaults,
    /// `[version]`.
    pub version: Option<VersionEntry>,
    /// `[[check]]`.
    pub checks: Vec<Entry>,
    /// `[[notice]]`.
    pub notices: Vec<Notice>,
    /// `[[quiesce]]`, the outermost first.
    pub quiesces: Vec<Entry>,
    /// `[[resource]]`.
    pub resources: Vec<Entry>,
    /// `[[step]]`.
    pub steps: Vec<Entry>,
    /// `[policy]`.
    pub policy: Policy,
    pub(super) language: std::rc::Rc<super::language::Language>,
}

/// The lists of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// `[[check]]`
    Check,
    /// `[[notice]]`
    Notice,
    /// `[[quiesce]]`
    Quiesce,
    /// `[[resource]]`
    Resource,
    /// `[[step]]`
    Step,
}

impl List {
    /// What one of its entries is called, which is also its key in the plan.
    pub fn word(self) -> &'static str {
        match self {
            List::Check => "check",
            List::Notice => "notice",
            List::Quiesce => "quiesce",
            List::Resource => "resource",
            List::Step => "step",
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An entry of a list with what is common to all kinds.
#[derive(Debug)]
pub struct Entry {
    /// Unique in its list.
    pub name: Name,
    /// The kind; empty when it was missing (already reported).
    pub kind: String,
    /// Where the kind stands; the entry's head when it does not.
    pub kind_span: Span,
    /// The entry's head.
    pub span: Span,
    /// The list variable that repeats it.
    pub each: Option<String>,
    /// `under`: `None` = default, `Some(None)` = none at all (`""`), `Some(Some(name))`.
    pub under: Option<Option<Name>>,
    /// Checks that must pass at begin for the entry to take part (steps, quiesces).
    pub when: Vec<String>,
    /// On checks.
    pub check: CheckSpec,
    /// On steps.
    pub step_at: StepAt,
    /// On steps and quiesces.
    pub expect: Option<Expect>,
    /// On steps.
    pub carry: Vec<Template>,
    /// The other keys, for the kind to read. (`user` and `timeout` are read by the kind, through `own_command` or `template("user")`.)
    pub body: Fields,
}

impl Entry {
    /// The keys for the kind to read; none are left behind.
    pub fn take_body(&mut self) -> Fields {
        self.body.take()
    }
}

/// What checks have in common.
#[derive(Debug, Clone, Default)]
pub struct CheckSpec {
    /// When it is asked.
    pub at: CheckAt,
    /// A no is shown and journaled and stops nothing.
    pub warn: bool,
    /// Ask until it passes or this is over.
    pub within: Option<Duration>,
    /// And then keep passing for this long.
    pub steady: Option<Duration>,
}

/// When a check is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckAt {
    /// Before anything is touched.
    Before,
    /// Before commit.
    After,
    /// The health of the application: of the old release, of the new one, and of the old one again after a rollback.
    #[default]
    Both,
    /// Only where an `expect` or a `when` names it.
    Named,
}

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StepAt {
    /// Before quiesce, services still up.
    Prepare,
    /// After everything was captured and proved.
    #[default]
    Apply,
    /// After the checks; a failure is a warning.
    Finish,
}

/// What proves a step or a quiesce.
#[derive(Debug, Clone)]
pub struct Expect {
    /// What its output has to say.
    pub reading: Reading,
    /// Checks that have to pass after it.
    pub checks: Vec<String>,
}

/// A value of `[vars]`.
#[derive(Debug)]
pub enum Var {
    /// One string.
    Value(Value),
    /// Lines that a command prints.
    Lines(Command),
    /// Paths that a pattern finds, sorted.
    Glob(Template),
}

/// A value that may be a secret.
#[derive(Debug, Clone)]
pub enum Value {
    /// Written in the plan; secret only if a variable in it is.
    Plain(Template),
    /// The content of a file, without its last newline.
    File(Template),
    /// A variable of txupgrade's own environment.
    Env(String),
    /// A credential of systemd's.
    Credential(String),
}

/// Release notes to accept.
#[derive(Debug)]
pub struct Notice {
    /// Unique in its list.
    pub name: Name,
    /// What is to be accepted.
    pub text: Template,
    /// Checks that must pass at begin for it to be shown.
    pub when: Vec<String>,
    /// The entry's head.
    pub span: Span,
    pub(super) name_span: Span,
}

/// `[version]`, until the kind of check that reads the text has read its keys.
#[derive(Debug)]
pub struct VersionEntry {
    /// That kind (`command` when `run`/`shell` stands there; else from `kind`).
    pub kind: String,
    /// Where the kind stands; the table's head when it does not.
    pub kind_span: Span,
    /// The keys of that check.
    pub body: Fields,
    /// The rest.
    pub spec: VersionSpec,
}

/// What `[version]` says beside how the text is read.
#[derive(Debug)]
pub struct VersionSpec {
    /// How the version is found in the text.
    pub reading: Reading,
    /// How versions compare.
    pub scheme: Scheme,
    /// What `begin` accepts.
    pub from: Option<Range>,
    /// What `commit` accepts.
    pub to: Option<Range>,
    /// The exact version of `to` when `to` names just one (`=2.0.0`): what `${to}` expands to.
    pub target: Option<String>,
    /// What says which is the newest.
    pub latest: Option<Command>,
}

/// `[policy]`.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What a failure after capture leads to.
    pub on_failure: crate::tx::OnFailure,
    /// How long `commit` waits for `confirm`; it does not when there is none.
    pub confirm_within: Option<Duration>,
    /// How what was captured is proved; the caller decides when there is none.
    pub prove: Option<Prove>,
    /// What is run when turning back, before anything is undone.
    pub diagnose: Vec<Command>,
    /// Whether the new state is captured after commit.
    pub snapshot_after: bool,
    /// How many committed snapshots of this plan are kept; all when there is none.
    pub keep: Option<u32>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            on_failure: crate::tx::OnFailure::Rollback,
            confirm_within: None,
            prove: None,
            diagnose: Vec::new(),
            snapshot_after: false,
            keep: None,
        }
    }
}

/// `[policy] prove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prove {
    /// It is loaded somewhere and compared.
    Restore,
    /// Every byte is read back.
    Read,
}
