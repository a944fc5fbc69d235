//! The parts of a plan.
use super::{Command, CommandDefaults, Fields, Range, Reading, Report, Scheme, Span, Template};
use crate::name::Name;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A whole plan. Kind-specific keys are still unread in each entry's `body`.
#[derive(Debug)]
pub struct Plan {
    pub text: String,
    /// Absolute path of the file.
    pub path: PathBuf,
    pub report: Report,
    pub name: Name,
    pub summary: String,
    pub vars: BTreeMap<String, Var>,
    pub command: CommandDefaults,
    pub version: Option<VersionSpec>,
    pub checks: Vec<Entry>,
    pub notices: Vec<Notice>,
    pub quiesces: Vec<Entry>,
    pub resources: Vec<Entry>,
    pub steps: Vec<Entry>,
    pub policy: Policy,
}
impl Plan {
    /// Parses the text of a plan. Syntax errors and a wrong `format` end it at once; everything else is collected in `report`,
    /// and the caller turns that into an error after the kinds have read their keys. `set` are the `--set key=value`.
    pub fn parse(text: &str, path: &Path, set: &BTreeMap<String, String>) -> crate::error::Result<Plan> {
        let _ = (text, path, set);
        todo!()
    }
}

/// The lists of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    Check,
    Notice,
    Quiesce,
    Resource,
    Step,
}

/// An entry of a list with what is common to all kinds.
#[derive(Debug)]
pub struct Entry {
    pub name: Name,
    /// The kind; empty when it was missing (already reported).
    pub kind: String,
    pub kind_span: Span,
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
/// What checks have in common.
#[derive(Debug, Clone, Default)]
pub struct CheckSpec {
    pub at: CheckAt,
    pub warn: bool,
    pub within: Option<Duration>,
    pub steady: Option<Duration>,
}
/// When a check is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckAt {
    Before,
    After,
    #[default]
    Both,
    Named,
}
/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StepAt {
    Prepare,
    #[default]
    Apply,
    Finish,
}
/// What proves a step or a quiesce.
#[derive(Debug, Clone)]
pub struct Expect {
    pub reading: Reading,
    pub checks: Vec<String>,
}
/// A value of `[vars]`.
#[derive(Debug)]
pub enum Var {
    Value(Value),
    /** lines a command prints */
    Lines(Command),
    /** paths that a pattern finds, sorted */
    Glob(Template),
}
/// A value that may be a secret.
#[derive(Debug, Clone)]
pub enum Value {
    Plain(Template),
    File(Template),
    Env(String),
    Credential(String),
}
/// Release notes to accept.
#[derive(Debug)]
pub struct Notice {
    pub name: Name,
    pub text: Template,
    pub when: Vec<String>,
    pub span: Span,
}
/// `[version]`.
#[derive(Debug)]
pub struct VersionSpec {
    /// The check that reads the text: its kind (`command` when `run`/`shell` stands there; else from `kind`) and keys.
    pub kind: String,
    pub kind_span: Span,
    pub body: Fields,
    pub reading: Reading,
    pub scheme: Scheme,
    pub from: Option<Range>,
    pub to: Option<Range>,
    /// The exact version of `to` when `to` names just one (`=2.0.0`): what `${to}` expands to.
    pub target: Option<String>,
    pub latest: Option<Command>,
}
/// `[policy]`.
#[derive(Debug, Clone)]
pub struct Policy {
    pub on_failure: crate::tx::OnFailure,
    pub confirm_within: Option<Duration>,
    pub prove: Option<Prove>,
    pub diagnose: Vec<Command>,
    pub snapshot_after: bool,
    pub keep: Option<u32>,
}
/// `[policy] prove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prove {
    Restore,
    Read,
}
