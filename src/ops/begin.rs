//! `run`, `begin` and `snapshot`: a transaction comes into being.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::carry_on::{finish, settle};
use super::keeper::watch_over;
use super::look::Account;
use super::office::{Office, Told, ground_to_look, lock_begin, lock_begun, read_plan_file, tell};
use super::reopen::reopen;
use super::{Site, Standing, Wait};
use crate::engine::{self, Bound, Driver, Ground, Proof, World};
use crate::error::{Error, Fault, Result};
use crate::journal::{Journal, SqliteJournal};
use crate::name::TxId;
use crate::store::{ObjectId, Store};
use crate::sys::lock::{self, Lock};
use crate::sys::reserve;
use crate::sys::scratch::Scratch;
use crate::tx::{Action, Begun, Goal, Itinerary, State, TaskId};

/// What `run` and `begin` are asked.
pub struct BeginRequest {
    /// The plan file.
    pub plan: PathBuf,
    /// `--set key=value`.
    pub set: BTreeMap<String, String>,
    /// What is said to the plan's notices.
    pub accept: Accept,
    /// How far to go: `Captured` is `begin`, `Committed` is `run`.
    pub goal: Goal,
    /// Whether to wait for a confirmation.
    pub wait: Wait,
}

/// Asks somebody about a notice, by its name and text.
pub type AskNotice = dyn Fn(&str, &str) -> bool;

/// What is said to the notices of a plan.
pub enum Accept {
    /// These are accepted, by name.
    Names(Vec<String>),
    /// All are.
    All,
    /// Somebody is asked, with the name and the text.
    Ask(Box<AskNotice>),
}

/// Begins a transaction and carries it as far as it is asked to go.
pub fn run(site: &Site, request: BeginRequest) -> Result<Standing> {
    let (text, path) = read_plan_file(&request.plan)?;
    let read = engine::read_plan(&text, &path, &request.set)?;
    refuse_before_anything_is_made(site, &text, &path, &request.set)?;
    let mut office = Office::open(site)?;
    let Office { dir, tmp, store, journal, .. } = &mut office;
    let (bound, left_out) = bind_now(Office::ground(dir, tmp, store, site), read)?;
    let accepted = accept(&bound, &request.accept)?;
    let mut world = World::new(Office::ground(dir, tmp, store, site), bound, String::new())?;
    world.bases = bases(journal, world.ground.store, &world.bound)?;
    let itinerary = engine::flatten_upgrade(&world.bound, &world.roots());
    let extras = Extras { left_out, accepted, undoes: Vec::new() };
    let begun = begun(&world, &request.set, itinerary, request.goal, extras)?;
    let tx = start(site, journal, world, begun)?;
    finish(site, &mut office, &tx, request.wait)
}

/// Captures a plan's resources only, as a transaction of its own.
pub fn snapshot(site: &Site, plan: &Path, set: &BTreeMap<String, String>, proof: Proof) -> Result<Standing> {
    let (text, path) = read_plan_file(plan)?;
    let read = engine::read_plan(&text, &path, set)?;
    refuse_before_anything_is_made(site, &text, &path, set)?;
    let mut office = Office::open(site)?;
    let Office { dir, tmp, store, journal, .. } = &mut office;
    let (bound, left_out) = bind_now(Office::ground(dir, tmp, store, site), read)?;
    let mut world = World::new(Office::ground(dir, tmp, store, site), bound, String::new())?;
    world.bases = bases(journal, world.ground.store, &world.bound)?;
    let itinerary = engine::flatten_snapshot(&world.bound, proof);
    let extras = Extras { left_out, accepted: Vec::new(), undoes: Vec::new() };
    let begun = begun(&world, set, itinerary, Goal::Committed, extras)?;
    let tx = start(site, journal, world, begun)?;
    finish(site, &mut office, &tx, Wait::No)
}

/// `[policy] snapshot_after`: captures the new state, as a transaction of its own. Without it the upgrade is
/// committed all the same, so what fails here is only told.
pub(super) fn snapshot_after(site: &Site, office: &mut Office, committed: &Told) {
    let mut snapshot = || -> Result<()> {
        let Office { dir, tmp, store, journal, .. } = &mut *office;
        let ground = Office::ground(dir, tmp, store, site);
        let mut world = reopen(journal, ground, &committed.tx, &committed.state)?;
        if !world.bound.policy.snapshot_after {
            return Ok(());
        }
        world.bases = bases(journal, world.ground.store, &world.bound)?;
        let itinerary = engine::flatten_snapshot(&world.bound, Proof::NotAsked);
        let before = committed.state.begun();
        let extras = Extras { left_out: before.left_out.clone(), accepted: Vec::new(), undoes: Vec::new() };
        let begun = begun(&world, &before.set, itinerary, Goal::Committed, extras)?;
        let tx = start(site, journal, world, begun)?;
        match Standing::of(&tell(journal, &tx)?).failure {
            Some((task, failure)) => Err(failure.within(format!("`{task}` of `{tx}` failed"))),
            None => Ok(()),
        }
    };
    if let Err(error) = snapshot() {
        site.monitor.warn(&format!("the snapshot after `{}` could not be taken: {error}", committed.tx));
    }
}

/// The first state directory is made only for a plan that can be bound there: it may lie in one of its resources.
fn refuse_before_anything_is_made(site: &Site, text: &str, path: &Path, set: &BTreeMap<String, String>) -> Result<()> {
    if site.dir.exists() {
        return Ok(());
    }
    let tmp = Scratch::new()?;
    let store = Store::open(tmp.path(), tmp.path())?;
    let ground = || ground_to_look(&site.dir, tmp.path(), &store, site);
    let bound = engine::bind_on(&ground(), engine::read_plan(text, path, set)?, None)?;
    World::new(ground(), bound, String::new()).map(drop)
}

/// Binds a plan as it is now: lists are read, and each `when` is asked, once.
pub(super) fn bind_now(ground: Ground<'_>, read: engine::Read) -> Result<(Bound, Vec<String>)> {
    let bound = engine::bind_on(&ground, read, None)?;
    let mut world = World::new(ground, bound, String::new())?;
    let left_out = world.ask_whens()?;
    world.bound.leave_out(&left_out);
    Ok((world.bound, left_out))
}

/// Asks for the notices that take part; one that is not accepted is a refusal.
fn accept(bound: &Bound, accept: &Accept) -> Result<Vec<String>> {
    if let Accept::Names(names) = accept
        && let Some(unknown) =
            names.iter().find(|name| !bound.notices.iter().any(|notice| notice.name.as_str() == **name))
    {
        return Err(Error::new(format!("the plan has no notice `{unknown}`"))
            .hint("`txupgrade plan` shows the notices of a plan")
            .fault(Fault::Usage));
    }
    let mut accepted = Vec::new();
    for notice in &bound.notices {
        let name = notice.name.as_str();
        let text = notice.text.expand(&bound.scope)?;
        let yes = match accept {
            Accept::All => true,
            Accept::Names(names) => names.iter().any(|given| given == name),
            Accept::Ask(ask) => ask(name, &text),
        };
        if !yes {
            return Err(Error::new(format!("the notice `{name}` was not accepted"))
                .because(text)
                .hint(format!("read it, and say `--accept {name}`")));
        }
        accepted.push(name.to_owned());
    }
    Ok(accepted)
}

/// What `Begun` says beside the plan.
pub(super) struct Extras {
    pub(super) left_out: Vec<String>,
    pub(super) accepted: Vec<String>,
    pub(super) undoes: Vec<String>,
}

/// Keeps the plan and makes the first event.
pub(super) fn begun(
    world: &World<'_>,
    set: &BTreeMap<String, String>,
    itinerary: Itinerary,
    goal: Goal,
    extras: Extras,
) -> Result<Begun> {
    let plan = world.ground.store.put(world.bound.text.as_bytes())?;
    Ok(Begun {
        plan: plan.to_string(),
        path: world.bound.path.display().to_string(),
        set: set.clone(),
        lists: world.bound.lists.clone(),
        left_out: extras.left_out,
        accepted: extras.accepted,
        claims: world.claims()?,
        undoes: extras.undoes,
        itinerary,
        goal,
        runner: Driver::runner(),
    })
}

/// Journals the beginning, takes the lock and drives.
pub(super) fn start(site: &Site, journal: &mut SqliteJournal, world: World<'_>, begun: Begun) -> Result<TxId> {
    watch_over(site, world.ground.dir, journal);
    let beginning = lock_begin(world.ground.dir)?;
    start_next(site, journal, world, begun, beginning)
}

/// The same for who keeps others from beginning already.
pub(super) fn start_next(
    site: &Site,
    journal: &mut SqliteJournal,
    mut world: World<'_>,
    begun: Begun,
    beginning: Lock,
) -> Result<TxId> {
    let dir = world.ground.dir.to_path_buf();
    reserve::keep(&dir)?;
    let tx = journal.begin(&world.bound.name, &begun).map_err(|error| say_who(journal, &dir, error))?;
    let lock = lock_begun(&dir, &tx)?;
    drop(beginning);
    world.tx = tx.to_string();
    world.stay_at(&begun.claims);
    site.monitor.said(&tx, "begun");
    let state = State::begin(&begun);
    let mut driver = Driver::new(journal, world, tx.clone(), state, site.stop.clone());
    settle(&mut driver)?;
    drop(driver);
    drop(lock);
    Ok(tx)
}

/// Of an overlap with a transaction that somebody is at work on, says who that is: nothing else can be done about it now.
fn say_who(journal: &dyn Journal, dir: &Path, mut error: Error) -> Error {
    if error.fault != Fault::Overlap {
        return error;
    }
    let open = journal.unfinished().unwrap_or_default();
    let with = open.iter().find(|tx| error.statement.contains(&format!("with `{tx}`,")));
    let account = with.and_then(|tx| Account::read(journal, dir, tx).ok());
    if let Some(holder) = account.as_ref().and_then(Account::worker) {
        error = error.because(format!("process {} is at work on it: {}", holder.pid, holder.command));
        error.hints = vec![lock::WAIT.to_owned()];
    }
    error
}

/// The last manifest of each resource of the plan, from its latest transactions.
pub(super) fn bases(journal: &dyn Journal, store: &Store, bound: &Bound) -> Result<BTreeMap<String, ObjectId>> {
    const DEEP: usize = 8;
    let mut found = BTreeMap::new();
    let dropped = store.dropped()?;
    let mine = journal.transactions()?.into_iter().rev().filter(|tx| tx.plan == bound.name).take(DEEP);
    for tx in mine {
        let told = tell(journal, &tx)?;
        for resource in &bound.resources {
            let output = told.state.output(&TaskId::new(Action::Capture, &resource.name));
            let manifest = output.and_then(|output| output.manifest.as_ref()?.parse().ok());
            // What was pruned saves no work.
            if let Some(manifest) = manifest
                && !dropped.contains(&manifest)
                && store.has(manifest)?
            {
                found.entry(resource.name.clone()).or_insert(manifest);
            }
        }
        if found.len() == bound.resources.len() {
            break;
        }
    }
    Ok(found)
}
