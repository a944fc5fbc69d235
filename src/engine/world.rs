//! What a transaction acts in: the bound plan, the places it works in, and the contexts its tasks get.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use super::bind::{Bound, Instance, bind_on, read_plan};
use super::flatten::VERSION;
use crate::check::{Check, Finding};
use crate::context::{Context, Direction, Peers};
use crate::error::{Error, Fault, OrSay, Result};
use crate::monitor::Monitor;
use crate::name::TxId;
use crate::plan::Scope;
use crate::resource::{Changes, Claim, Resource};
use crate::store::{ObjectId, Replaced, Stamps, Store};
use crate::sys::clock;
use crate::sys::process::Log;
use crate::sys::signal::Stop;
use crate::sys::{files, mounts};
use crate::tx::{Action, Heading, Purpose, State, TaskId};

/// Where a transaction works.
pub struct Ground<'a> {
    /// The state directory.
    pub dir: &'a Path,
    /// This process's own directory in it.
    pub tmp: &'a Path,
    /// The objects.
    pub store: &'a Store,
    /// Who is told.
    pub monitor: Arc<dyn Monitor>,
    /// Whether what programs print is kept.
    pub logs: Logs,
}

/// Whether what programs print is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    /// In `logs/` of the state directory.
    Kept,
    /// Nowhere: the command leaves nothing behind.
    NotKept,
}

/// What a rollback of a committed transaction goes back to.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// The manifest of each resource.
    pub manifests: BTreeMap<String, ObjectId>,
    /// The version stamp.
    pub version: Option<String>,
    /// What the transaction claimed: where its resources were.
    pub claims: Vec<String>,
}

/// A bound plan in its place, about to be acted upon.
pub struct World<'a> {
    /// Where it works.
    pub ground: Ground<'a>,
    /// What it carries out.
    pub bound: Bound,
    /// `notes-3`; in commands without a transaction the plan's name.
    pub tx: String,
    /// The last manifest of each resource, whose unchanged parts need not be read again.
    pub bases: BTreeMap<String, ObjectId>,
    /// What a rollback of a committed transaction goes back to.
    pub target: Target,
    /// Whether the times of files tell what has not changed since the capture.
    pub stamps: Stamps,
    /// Whether sizes are measured also where the last snapshot tells them.
    pub measures: bool,
    /// Where the transaction's things were when it began: nothing is put back or swept elsewhere. Empty before that.
    pub(super) homes: Vec<PathBuf>,
    /// The paths that each resource claims, in the order of the plan.
    pub(super) paths: Vec<Vec<PathBuf>>,
    /// The resource that was restored last, and to what, as long as nothing else has run.
    pub(super) restored: Mutex<Option<(String, ObjectId)>>,
    /// Why the plan cannot be read: then nothing can be done, and that is what each task says.
    pub(super) lost: Option<Error>,
}

/// What the variables stand for at one moment of a transaction.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) direction: Direction,
    /// The version stamp.
    pub(super) from: Option<String>,
    /// What `${version}` stands for.
    pub(super) version: Option<String>,
    pub(super) to: Option<String>,
}

impl<'a> World<'a> {
    /// Puts a bound plan in its place. Fails when what a resource claims cannot be told, or may not be claimed.
    pub fn new(ground: Ground<'a>, bound: Bound, tx: String) -> Result<World<'a>> {
        let mut world = World {
            ground,
            bound,
            tx,
            bases: BTreeMap::new(),
            target: Target::default(),
            homes: Vec::new(),
            stamps: Stamps::Count,
            measures: false,
            paths: Vec::new(),
            restored: Mutex::default(),
            lost: None,
        };
        world.paths = world.resource_paths()?;
        Ok(world)
    }

    /// The world of a transaction whose plan cannot be read: what the journal alone tells can still be done, so that it
    /// gets stuck, says why, and can be released.
    pub fn of_lost_plan(ground: Ground<'a>, tx: &TxId, why: Error) -> Result<World<'a>> {
        let nothing = format!("format = 1\nname = \"{}\"\n", tx.plan);
        let read = read_plan(&nothing, Path::new("/"), &BTreeMap::new())?;
        let bound = bind_on(&ground, read, None)?;
        let mut world = World::new(ground, bound, tx.to_string())?;
        world.lost = Some(why);
        Ok(world)
    }

    /// From here on things are only put back where they were when the transaction claimed them.
    pub fn stay_at(&mut self, claims: &[String]) {
        self.homes = claims.iter().filter_map(|claim| claim.strip_prefix("path ").map(PathBuf::from)).collect();
    }

    fn resource_paths(&self) -> Result<Vec<Vec<PathBuf>>> {
        let mut all = Vec::new();
        for resource in &self.bound.resources {
            let mut paths = Vec::new();
            for claim in self.claims_of(resource)? {
                if let Claim::Path(path) = claim {
                    self.refuse_state_dir(&path, &format!("the resource `{}`", resource.name))?;
                    paths.push(path);
                }
            }
            all.push(paths);
        }
        Ok(all)
    }

    pub(super) fn claims_of(&self, resource: &Instance<dyn Resource>) -> Result<Vec<Claim>> {
        let log = Log::transient()?;
        let stop = Stop::never();
        let cx = self.context(&self.before(None), &resource.name, resource.line.as_deref(), &log, &stop);
        resource
            .kind
            .claims(&cx)
            .map_err(|error| error.within(format!("cannot tell what the resource `{}` is", resource.name)))
    }

    /// The state directory must never be captured, and never be put back.
    pub(super) fn refuse_state_dir(&self, path: &Path, what: &str) -> Result<()> {
        let state = std::fs::canonicalize(self.ground.dir).unwrap_or_else(|_| self.ground.dir.to_path_buf());
        if !state.starts_with(path) && !path.starts_with(&state) {
            return Ok(());
        }
        Err(Error::new(format!("{what} holds the state directory, or is inside it"))
            .because(format!("it is `{}`, and the state directory is `{}`", path.display(), state.display()))
            .hint("choose another state directory with --state-dir or TXUPGRADE_STATE_DIR")
            .fault(Fault::Usage))
    }

    /// What no other open transaction may touch, as it is journaled.
    pub fn claims(&self) -> Result<Vec<String>> {
        let mut claims = BTreeSet::new();
        for resource in &self.bound.resources {
            for claim in self.claims_of(resource)? {
                claims.insert(match claim {
                    Claim::Path(path) => format!("path {}", path.display()),
                    Claim::Thing(thing) => thing,
                });
            }
        }
        let log = Log::transient()?;
        let stop = Stop::never();
        for quiesce in &self.bound.quiesces {
            let cx = self.context(&self.before(None), &quiesce.name, quiesce.line.as_deref(), &log, &stop);
            claims.extend(quiesce.kind.claims(&cx)?);
        }
        for step in &self.bound.steps {
            let cx = self.context(&self.before(None), &step.name, step.line.as_deref(), &log, &stop);
            claims.extend(step.kind.replaces(&cx)?.iter().map(|path| format!("path {}", path.display())));
        }
        Ok(claims.into_iter().collect())
    }

    /// The instances (`step migrate`, `quiesce stop`, `notice keys`) that a `when` leaves out. Asked once, at begin.
    pub fn ask_whens(&self) -> Result<Vec<String>> {
        let log = Log::transient()?;
        let stop = Stop::never();
        let mut left_out = Vec::new();
        let mut ask = |list: &str, name: &str, line: Option<&str>, when: &[String]| -> Result<()> {
            let cx = self.context(&self.before(None), name, line, &log, &stop);
            for reference in when {
                if !self.ask(reference, &cx)?.passed() {
                    left_out.push(format!("{list} {name}"));
                    return Ok(());
                }
            }
            Ok(())
        };
        for step in &self.bound.steps {
            ask("step", &step.name, step.line.as_deref(), &step.common.when)?;
        }
        for quiesce in &self.bound.quiesces {
            ask("quiesce", &quiesce.name, quiesce.line.as_deref(), &quiesce.common.when)?;
        }
        for notice in &self.bound.notices {
            ask("notice", notice.name.as_str(), None, &notice.when)?;
        }
        Ok(left_out)
    }

    /// How a resource differs from a manifest; changes nothing.
    pub fn differences(&self, resource: &Instance<dyn Resource>, manifest: ObjectId, stop: &Stop) -> Result<Changes> {
        let log = Log::transient()?;
        let cx = self.context(&self.before(None), &resource.name, resource.line.as_deref(), &log, stop);
        resource.kind.diff(&cx, manifest)
    }

    /// The first path of each resource, in the order of the plan: what decides which contains which.
    pub fn roots(&self) -> Vec<Option<PathBuf>> {
        self.paths.iter().map(|paths| paths.first().cloned()).collect()
    }

    /// What was done to what the plan is about is on disk when this returns.
    pub(super) fn sync(&self) -> Result<()> {
        let log = Log::transient()?;
        let stop = Stop::never();
        let mut paths: Vec<PathBuf> = self.paths.iter().flatten().cloned().collect();
        for step in &self.bound.steps {
            let cx = self.context(&self.before(None), &step.name, step.line.as_deref(), &log, &stop);
            paths.extend(step.kind.replaces(&cx).unwrap_or_default());
        }
        let mut synced = BTreeSet::new();
        for path in paths {
            if synced.insert(mounts::device(&path)?) {
                files::sync_filesystem(&path)?;
            }
        }
        Ok(())
    }

    /// Paths of other resources that are inside this one.
    pub(super) fn inner_paths(&self, name: &str) -> Vec<PathBuf> {
        let Some(index) = self.bound.resources.iter().position(|resource| resource.name == name) else {
            return Vec::new();
        };
        let Some(root) = self.paths.get(index).and_then(|paths| paths.first()) else { return Vec::new() };
        let others = self.paths.iter().enumerate().filter(|(other, _)| *other != index);
        let paths = others.flat_map(|(_, paths)| paths.iter());
        let inner = paths.filter(|path| *path != root && path.starts_with(root)).cloned();
        inner.chain(crate::sys::hold::below(self.ground.dir, root)).collect()
    }

    /// What tells this state directory from others wherever names meet: in a shared directory, in the list of processes.
    fn place(&self) -> String {
        blake3::hash(self.ground.dir.as_os_str().as_encoded_bytes()).to_string()
    }

    /// The directory of this transaction that commands know as `${scratch}`. Outside the state directory, which
    /// the account of a command may not enter.
    pub fn scratch(&self) -> PathBuf {
        if self.ground.logs == Logs::NotKept {
            return self.ground.tmp.to_path_buf();
        }
        let place = self.place();
        let var = Path::new("/var/tmp");
        let base = if var.is_dir() { var.to_path_buf() } else { std::env::temp_dir() };
        base.join(format!("txupgrade-{}-{}", self.tx, &place[..8]))
    }

    /// Makes the scratch directory where it is not there, for a plan that speaks of it; it belongs to the account that
    /// the plan's commands run as.
    pub(super) fn make_scratch(&self) -> Result<()> {
        if self.ground.logs == Logs::NotKept || !self.bound.text.contains("scratch") {
            return Ok(());
        }
        let user = self.bound.user.as_ref().map(|user| user.expand(&self.bound.scope)).transpose()?;
        crate::sys::scratch::make_for(&self.scratch(), user.as_deref())
    }

    /// Where the logs of the transaction are.
    pub fn logs(&self) -> PathBuf {
        self.ground.dir.join("logs").join(&self.tx)
    }

    /// The log of one task. On the way back it goes on without one where there can be none.
    pub(super) fn log(&self, task: &TaskId, state: &State) -> Result<Log> {
        if self.ground.logs == Logs::NotKept {
            return Log::transient();
        }
        let dir = self.logs();
        let path = dir.join(format!("{}.log", task.file_stem()));
        let mut secrets: Vec<String> = self.bound.scope.secrets.values().cloned().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        match Log::open(&path, &self.token(task), secrets.clone()) {
            Err(error) if *state.heading() != Heading::Forward => {
                self.ground.monitor.warn(&format!("the output of `{task}` is not kept: {error}"));
                Log::not_kept(&dir, &self.token(task), secrets)
            }
            opened => opened,
        }
    }

    /// What the processes of a task are known by.
    pub(super) fn token(&self, task: &TaskId) -> String {
        let place = self.place();
        format!("{}:{}:{}", &place[..16], self.tx, task.file_stem())
    }

    /// The moment before anything was done; `stamp` is the version that was found.
    pub(super) fn before(&self, stamp: Option<&str>) -> Moment {
        let to = self.bound.version.as_ref().and_then(|version| version.spec.target.clone());
        let stamp = stamp.map(str::to_owned);
        Moment { direction: Direction::Forward, from: stamp.clone(), version: stamp, to }
    }

    /// The moment of a task.
    pub(super) fn moment(&self, task: &TaskId, state: &State) -> Moment {
        let stamp = |action| {
            let output = state.output(&TaskId::new(action, VERSION));
            output.and_then(|output| output.version.as_deref())
        };
        let mut moment = self.before(stamp(Action::Require));
        if *state.heading() != Heading::Forward {
            moment.direction = Direction::Backward;
            return moment;
        }
        if let Some(found) = stamp(Action::Verify) {
            moment.to = Some(found.to_owned());
        }
        let purpose = state.itinerary().purpose;
        match (purpose, task.action) {
            (Purpose::Upgrade, Action::Verify | Action::Finish) => moment.version = moment.to.clone(),
            (Purpose::Upgrade, Action::Resume) => moment.version = moment.to.clone().or(moment.version),
            (Purpose::Rollback, Action::Reinstate | Action::Undo | Action::Resume | Action::Recheck) => {
                moment.direction = Direction::Backward;
                moment.version = self.target.version.clone();
            }
            _ => {}
        }
        moment
    }

    /// What a task works with.
    pub(super) fn context<'c>(
        &'c self,
        moment: &Moment,
        subject: &str,
        line: Option<&str>,
        log: &'c Log,
        stop: &'c Stop,
    ) -> Context<'c> {
        let mut scope = self.bound.scope.clone();
        let scratch = self.scratch();
        let mut set = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                scope.values.insert(key.to_owned(), value.to_owned());
            }
        };
        set("tx", Some(&self.tx));
        set("scratch", scratch.to_str());
        set("from", moment.from.as_deref());
        set("to", moment.to.as_deref());
        set("version", moment.version.as_deref());
        set("each", line);
        Context {
            tx: self.tx.clone(),
            subject: subject.to_owned(),
            direction: moment.direction,
            scope,
            version: moment.from.clone(),
            scratch,
            tmp: self.ground.tmp.to_path_buf(),
            left_out: self.inner_paths(subject),
            homes: self.homes.clone(),
            kept: Vec::new(),
            stamps: self.stamps,
            replaced: Replaced::KeptAside,
            units: Vec::new(),
            state: self.ground.dir.to_path_buf(),
            store: self.ground.store,
            log,
            stop,
            monitor: Arc::clone(&self.ground.monitor),
            peers: self,
            said: RefCell::new(String::new()),
        }
    }

    /// Asks one check until it passes, or its `within` is over; then it has to keep passing for its `steady`.
    pub(super) fn ask_patiently(&self, check: &Instance<dyn Check>, cx: &Context<'_>) -> Result<Finding> {
        const PAUSE: Duration = Duration::from_millis(250);
        let spec = &check.common.check;
        let deadline = clock::ran().saturating_add(spec.within.unwrap_or_default());
        let mut passing_since: Option<Duration> = None;
        loop {
            let finding = check.kind.ask(cx)?;
            let now = clock::ran();
            if finding.passed() {
                let since = *passing_since.get_or_insert(now);
                if now.saturating_sub(since) >= spec.steady.unwrap_or_default() {
                    return Ok(finding);
                }
            } else {
                if now >= deadline {
                    let asked = match (passing_since, spec.within) {
                        (Some(_), _) => format!("{}; it had passed and did not keep passing", finding.found),
                        (None, Some(within)) => format!("{}, for {within:?}", finding.found),
                        (None, None) => finding.found,
                    };
                    return Ok(Finding::no(asked));
                }
                passing_since = None;
            }
            if let Some(number) = cx.stop.signal() {
                return Err(Error::new("was stopped by a signal").fault(Fault::Signal(number)));
            }
            sleep(PAUSE);
        }
    }
}

impl Peers for World<'_> {
    fn resources(&self, reference: &str) -> Result<Vec<(String, Scope, &dyn Resource)>> {
        let found: Vec<_> = self.bound.resources.iter().filter(|resource| resource.is_called(reference)).collect();
        if found.is_empty() {
            return Err(Error::new(format!("there is no resource `{reference}`")));
        }
        let mut peers = Vec::new();
        for resource in found {
            let mut scope = self.bound.scope.clone();
            if let Some(line) = &resource.line {
                scope = scope.with("each", line);
            }
            peers.push((resource.name.clone(), scope, &*resource.kind));
        }
        Ok(peers)
    }

    fn ask(&self, reference: &str, cx: &Context<'_>) -> Result<Finding> {
        let reference =
            cx.scope.values.get("each").map_or(reference.to_owned(), |each| reference.replace("${each}", each));
        let found: Vec<_> = self.bound.checks.iter().filter(|check| check.is_called(&reference)).collect();
        found.first().or_say(|| format!("there is no check `{reference}`"))?;
        let mut last = Finding::yes("");
        for check in found {
            let scope = match &check.line {
                Some(line) => cx.scope.with("each", line),
                None => cx.scope.clone(),
            };
            last = self.ask_patiently(check, &cx.with_scope(scope))?;
            if !last.passed() {
                return Ok(Finding::no(format!("`{}`: {}", check.name, last.found)));
            }
        }
        Ok(last)
    }
}
