//! A plan bound to the kinds it names: every entry an object that can act, every `each` written out.
//!
//! Binding runs the plan's list variables (`{ run = … }`, `{ glob = … }`) unless they are given, and nothing else.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::trust::refuse_untrusted_commands;
use super::world::Ground;
use crate::check::{self, Check};
use crate::context::{Context, Direction, Peers, default_timeout, run};
use crate::error::{Error, OrSay, Result};
use crate::name::Name;
use crate::plan::{CheckAt, Command, Entry, Expect, List, Plan, Scope, StepAt, Template, Var, VersionSpec};
use crate::quiesce::{self, Quiesce};
use crate::resource::{self, Resource};
use crate::step::{self, Step};
use crate::sys::process::Log;
use crate::sys::signal::Stop;

/// A plan that can be acted upon.
pub struct Bound {
    /// The plan's text as it was read.
    pub text: String,
    /// Where it was (absolute).
    pub path: PathBuf,
    /// Its name.
    pub name: Name,
    /// Its summary.
    pub summary: String,
    /// The scalar variables, resolved.
    pub scope: Scope,
    /// The list variables, read.
    pub lists: BTreeMap<String, Vec<String>>,
    /// The release notes to accept.
    pub notices: Vec<crate::plan::Notice>,
    /// What reads the version, if the plan says.
    pub version: Option<Version>,
    /// The quiesces' entries in the order of the plan, those left out included.
    order: Vec<Name>,
    /// The account that commands run as where they say nothing.
    pub user: Option<Template>,
    /// The policy.
    pub policy: crate::plan::Policy,
    /// In the order of the plan, as are the rest.
    pub checks: Vec<Instance<dyn Check>>,
    /// Outermost first.
    pub quiesces: Vec<Instance<dyn Quiesce>>,
    /// Resources.
    pub resources: Vec<Instance<dyn Resource>>,
    /// Steps.
    pub steps: Vec<Instance<dyn Step>>,
}

/// `[version]`, bound to the check that reads it.
pub struct Version {
    /// Its ranges and how to find it in the text.
    pub spec: VersionSpec,
    /// What reads the text.
    pub check: Arc<dyn Check>,
}

/// One entry for one line of its `each`, or the entry itself.
pub struct Instance<K: ?Sized> {
    /// `name`, or `name@line`.
    pub name: String,
    /// The entry's name.
    pub entry: Name,
    /// The line that `${each}` stands for.
    pub line: Option<String>,
    /// What does the work.
    pub kind: Arc<K>,
    /// The kind's name.
    pub kind_name: &'static str,
    /// What the entry says beside its kind.
    pub common: Arc<Common>,
}

/// What every entry may say, whatever its kind.
#[derive(Debug)]
pub struct Common {
    /// As in [`Entry`].
    pub under: Option<Option<Name>>,
    /// As in [`Entry`].
    pub when: Vec<String>,
    /// As in [`Entry`].
    pub check: crate::plan::CheckSpec,
    /// As in [`Entry`].
    pub step_at: StepAt,
    /// As in [`Entry`].
    pub expect: Option<Expect>,
    /// As in [`Entry`].
    pub carry: Vec<Template>,
}

impl<K: ?Sized> Instance<K> {
    /// Whether `reference` (`name`, `name@line`, `name@*`) names it.
    pub fn is_called(&self, reference: &str) -> bool {
        self.name == reference || reference.strip_suffix("@*").is_some_and(|entry| entry == self.entry.as_str())
    }
}

impl<K: ?Sized> Clone for Instance<K> {
    fn clone(&self) -> Self {
        Instance {
            name: self.name.clone(),
            entry: self.entry.clone(),
            line: self.line.clone(),
            kind: Arc::clone(&self.kind),
            kind_name: self.kind_name,
            common: Arc::clone(&self.common),
        }
    }
}

/// A plan whose kinds have read their keys: everything is known that its text can tell.
pub struct Read {
    plan: Plan,
    version: Option<Version>,
    checks: Vec<Held<dyn Check>>,
    quiesces: Vec<Held<dyn Quiesce>>,
    resources: Vec<Held<dyn Resource>>,
    steps: Vec<Held<dyn Step>>,
}

struct Held<K: ?Sized> {
    name: Name,
    each: Option<String>,
    kind: Arc<K>,
    kind_name: &'static str,
    common: Arc<Common>,
}

/// Reads the text of a plan completely. Every mistake in it is in the one error.
pub fn read_plan(text: &str, path: &Path, set: &BTreeMap<String, String>) -> Result<Read> {
    let mut plan = Plan::parse(text, path, set)?;
    let checks: Vec<_> = check::KINDS.iter().map(|kind| (kind.name, kind.read)).collect();
    let quiesces: Vec<_> = quiesce::KINDS.iter().map(|kind| (kind.name, kind.read)).collect();
    let resources: Vec<_> = resource::KINDS.iter().map(|kind| (kind.name, kind.read)).collect();
    let steps: Vec<_> = step::KINDS.iter().map(|kind| (kind.name, kind.read)).collect();
    let version = plan.version.take().and_then(|mut entry| {
        let known = checks.iter().find(|(name, _)| *name == entry.kind);
        let Some((_, read)) = known else {
            plan.refuse_kind(List::Check, &entry.kind, &entry.kind_span, &names(&checks));
            return None;
        };
        let reads_text = |kind: &check::Kind| kind.reads == check::Reads::Text;
        if !check::KINDS.iter().any(|kind| kind.name == entry.kind && reads_text(kind)) {
            let kinds = check::KINDS.iter().filter(|kind| reads_text(kind)).map(|kind| format!("`{}`", kind.name));
            let kinds: Vec<_> = kinds.collect();
            let statement = format!("no version can be read with `{}`", entry.kind);
            plan.report.mistake(&entry.kind_span, statement, Some(format!("it can be {}", kinds.join(", "))));
        }
        let check = read(&mut entry.body).into();
        entry.body.finish();
        Some(Version { spec: entry.spec, check })
    });
    let checks = read_kinds(&mut plan, List::Check, |plan| &mut plan.checks, &checks);
    let quiesces = read_kinds(&mut plan, List::Quiesce, |plan| &mut plan.quiesces, &quiesces);
    let resources = read_kinds(&mut plan, List::Resource, |plan| &mut plan.resources, &resources);
    let steps = read_kinds(&mut plan, List::Step, |plan| &mut plan.steps, &steps);
    plan.verdict()?;
    Ok(Read {
        checks: hold(std::mem::take(&mut plan.checks), checks),
        quiesces: hold(std::mem::take(&mut plan.quiesces), quiesces),
        resources: hold(std::mem::take(&mut plan.resources), resources),
        steps: hold(std::mem::take(&mut plan.steps), steps),
        plan,
        version,
    })
}

type Reader<K> = fn(&mut crate::plan::Fields) -> Box<K>;

fn names<K: ?Sized>(kinds: &[(&'static str, Reader<K>)]) -> Vec<&'static str> {
    kinds.iter().map(|(name, _)| *name).collect()
}

/// Lets the kinds read their keys. An entry of no known kind is reported, and its keys are not.
fn read_kinds<K: ?Sized>(
    plan: &mut Plan,
    list: List,
    entries: fn(&mut Plan) -> &mut Vec<Entry>,
    kinds: &[(&'static str, Reader<K>)],
) -> Vec<(&'static str, Arc<K>)> {
    // Taken out for the moment, because a mistake is told to the plan.
    let mut own = std::mem::take(entries(plan));
    let mut read = Vec::new();
    for entry in &mut own {
        match kinds.iter().find(|(name, _)| *name == entry.kind) {
            Some((name, reader)) => {
                read.push((*name, reader(&mut entry.body).into()));
                entry.body.finish();
            }
            None => plan.refuse_kind(list, &entry.kind, &entry.kind_span, &names(kinds)),
        }
    }
    *entries(plan) = own;
    read
}

/// Joins entries and kinds; there is a kind for each entry, or the plan was refused.
fn hold<K: ?Sized>(entries: Vec<Entry>, kinds: Vec<(&'static str, Arc<K>)>) -> Vec<Held<K>> {
    let held = entries.into_iter().zip(kinds).map(|(entry, (kind_name, kind))| {
        let common = Common {
            under: entry.under,
            when: entry.when,
            check: entry.check,
            step_at: entry.step_at,
            expect: entry.expect,
            carry: entry.carry,
        };
        Held { name: entry.name, each: entry.each, kind, kind_name, common: Arc::new(common) }
    });
    held.collect()
}

/// Resolves the variables of a plan and writes out every `each`.
///
/// `lists` are the list variables as they were read when the transaction began; without them they are read now, by
/// `lines` (which runs a command of the plan and returns what it printed).
fn bind(
    read: Read,
    lists: Option<&BTreeMap<String, Vec<String>>>,
    lines: &dyn Fn(&Command, &Scope) -> Result<String>,
) -> Result<Bound> {
    let Read { plan, version, checks, quiesces, resources, steps } = read;
    let scope = plan.scope()?;
    let lists = match lists {
        Some(lists) => lists.clone(),
        None => {
            refuse_untrusted_commands(&plan.commands(), &scope)?;
            read_lists(&plan, &scope, lines)?
        }
    };
    Ok(Bound {
        order: quiesces.iter().map(|quiesce| quiesce.name.clone()).collect(),
        text: plan.text,
        path: plan.path,
        name: plan.name,
        summary: plan.summary,
        notices: plan.notices,
        user: plan.command.user,
        policy: plan.policy,
        version,
        checks: write_out(checks, &lists)?,
        quiesces: write_out(quiesces, &lists)?,
        resources: write_out(resources, &lists)?,
        steps: write_out(steps, &lists)?,
        scope,
        lists,
    })
}

/// Binds a plan on its ground, where the commands of its list variables can be run.
pub fn bind_on(ground: &Ground<'_>, read: Read, lists: Option<&BTreeMap<String, Vec<String>>>) -> Result<Bound> {
    let log = Log::transient()?;
    let stop = Stop::never();
    let name = read.plan.name.to_string();
    bind(read, lists, &|command, scope| {
        let cx = Context {
            tx: name.clone(),
            subject: String::new(),
            direction: Direction::Forward,
            scope: scope.clone(),
            version: None,
            scratch: ground.tmp.to_path_buf(),
            tmp: ground.tmp.to_path_buf(),
            left_out: Vec::new(),
            homes: Vec::new(),
            kept: Vec::new(),
            stamps: crate::store::Stamps::Count,
            replaced: crate::store::Replaced::KeptAside,
            units: Vec::new(),
            state: ground.dir.to_path_buf(),
            store: ground.store,
            log: &log,
            stop: &stop,
            monitor: Arc::clone(&ground.monitor),
            peers: &NoPeers,
            said: RefCell::new(String::new()),
        };
        Ok(run::command(&cx, command, default_timeout::CHECK)?.text)
    })
}

/// While the lists of a plan are read there are no instances yet.
struct NoPeers;

impl Peers for NoPeers {
    fn resources(&self, reference: &str) -> Result<Vec<(String, Scope, &dyn Resource)>> {
        Err(Error::new(format!("the resource `{reference}` is not known yet")))
    }

    fn ask(&self, reference: &str, _: &Context<'_>) -> Result<crate::check::Finding> {
        Err(Error::new(format!("the check `{reference}` is not known yet")))
    }
}

fn read_lists(
    plan: &Plan,
    scope: &Scope,
    lines: &dyn Fn(&Command, &Scope) -> Result<String>,
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut lists = BTreeMap::new();
    for (name, var) in &plan.vars {
        let list: Vec<String> = match var {
            Var::Value(_) => continue,
            Var::Lines(command) => {
                let text =
                    lines(command, scope).map_err(|error| error.within(format!("cannot read the list `{name}`")))?;
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
            Var::Glob(pattern) => glob(&pattern.path(scope)?)?,
        };
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = list.iter().find(|line| !seen.insert(line.as_str())) {
            return Err(Error::new(format!("the list `{name}` has the line `{twice}` twice")));
        }
        lists.insert(name.clone(), list);
    }
    Ok(lists)
}

/// The existing paths that a shell pattern names, sorted.
fn glob(pattern: &Path) -> Result<Vec<String>> {
    let pattern = pattern.to_str().or_say(|| format!("the pattern `{}` is not UTF-8", pattern.display()))?;
    let mut paths = Vec::new();
    for path in glob::glob(pattern).or_say(|| format!("`{pattern}` is not a pattern of paths"))? {
        let path = path.or_say(|| format!("cannot look for `{pattern}`"))?;
        let path = path.into_os_string().into_string();
        paths.push(
            path.map_err(|path| {
                Error::new(format!("`{}` is not UTF-8 and cannot be a line of a list", path.display()))
            })?,
        );
    }
    paths.sort();
    Ok(paths)
}

fn write_out<K: ?Sized>(held: Vec<Held<K>>, lists: &BTreeMap<String, Vec<String>>) -> Result<Vec<Instance<K>>> {
    let mut instances = Vec::new();
    for entry in held {
        let instance = |name: String, line: Option<String>| Instance {
            name,
            entry: entry.name.clone(),
            line,
            kind: Arc::clone(&entry.kind),
            kind_name: entry.kind_name,
            common: Arc::clone(&entry.common),
        };
        match &entry.each {
            None => instances.push(instance(entry.name.to_string(), None)),
            Some(list) => {
                let lines =
                    lists.get(list).or_say(|| format!("the list `{list}` was not read when the transaction began"))?;
                for line in lines {
                    instances.push(instance(format!("{}@{line}", entry.name), Some(line.clone())));
                }
            }
        }
    }
    Ok(instances)
}

impl Bound {
    /// How many quiesces hold while an entry with this `under` is at work; `default` where it says nothing.
    pub fn depth(&self, under: Option<&Option<Name>>, default: usize) -> usize {
        match under {
            None => default,
            Some(None) => 0,
            // A quiesce that is left out by its `when` leaves the depth of those before it.
            Some(Some(name)) => self.order.iter().position(|entry| entry == name).map_or(0, |last| {
                let outer = &self.order[..=last];
                self.quiesces.iter().filter(|quiesce| outer.contains(&quiesce.entry)).count()
            }),
        }
    }

    /// Whether a check is asked before, after, at both times or only by name.
    pub fn checks_at(&self, wanted: &[CheckAt]) -> impl Iterator<Item = &Instance<dyn Check>> {
        self.checks.iter().filter(move |check| wanted.contains(&check.common.check.at))
    }

    /// Leaves out instances, named `step migrate` or `quiesce stop`.
    pub fn leave_out(&mut self, left_out: &[String]) {
        let stays = |list: &str, name: &str| !left_out.iter().any(|out| out.strip_prefix(list) == Some(name));
        self.steps.retain(|step| stays("step ", &step.name));
        self.quiesces.retain(|quiesce| stays("quiesce ", &quiesce.name));
        self.notices.retain(|notice| stays("notice ", notice.name.as_str()));
    }
}
