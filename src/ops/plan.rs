//! `plan`: the dry run. Everything is asked that `run` would ask before it touches anything, and nothing is changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Site;
use super::begin::bases;
use super::office::{Reading, ground_to_look, read_plan_file, tell};
use crate::check::Finding;
use crate::engine::{self, World};
use crate::error::Result;
use crate::journal::{Journal, MemoryJournal, Recorded};
use crate::plan::Prove;
use crate::store::Store;
use crate::sys::scratch::Scratch;
use crate::tx::{Action, Event, Itinerary, Outcome, State, TaskId};

/// What a run of a plan would do.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// The plan's name.
    pub name: String,
    /// Its summary.
    pub summary: String,
    /// The version that is installed.
    pub from: Option<String>,
    /// The version, or the range of versions, that it leads to.
    pub to: Option<String>,
    /// Every task of the way forward.
    pub tasks: Vec<ForecastTask>,
    /// What was asked, and the answers.
    pub findings: Vec<(String, Finding)>,
    /// Bytes that will be captured.
    pub bytes: u64,
    /// Bytes that are free where the store is.
    pub free: u64,
    /// How long the capture takes, in seconds: as the last one of this plan, else by a cautious rate.
    pub seconds: Option<f64>,
    /// The same of its proof, before which no step runs.
    pub proof_seconds: Option<f64>,
    /// Release notes to accept: name and text.
    pub notices: Vec<(String, String)>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// A task of a forecast.
#[derive(Debug, Clone)]
pub struct ForecastTask {
    /// Its name, as in `capture code`.
    pub task: String,
    /// What it does.
    pub does: String,
    /// What takes it back; `None` for what changes nothing.
    pub undo: Option<String>,
    /// How many quiesces hold while it runs.
    pub depth: usize,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// Bytes a second that a first capture makes on a slow machine.
const CAUTIOUS_RATE: f64 = 60e6;
/// The same of reading back what was captured.
const READING_RATE: f64 = 200e6;
/// The same of loading it into a database.
const LOADING_RATE: f64 = 10e6;

/// Makes the forecast.
pub fn plan(site: &Site, plan: &Path, set: &BTreeMap<String, String>) -> Result<Forecast> {
    let (text, path) = read_plan_file(plan)?;
    let read = engine::read_plan(&text, &path, set)?;
    let tmp = Scratch::new()?;
    let reading = Reading::open(site)?;
    let store = match Store::open_read_only(&site.dir)? {
        Some(store) => store,
        None => Store::open(tmp.path(), tmp.path())?,
    };
    let nothing_yet = MemoryJournal::default();
    let journal: &dyn Journal = reading.as_ref().map_or(&nothing_yet, |reading| &reading.journal);
    let ground = || ground_to_look(&site.dir, tmp.path(), &store, site);
    let (bound, left_out) = super::begin::bind_now(ground(), read)?;
    let name = bound.name.to_string();
    let mut world = World::new(ground(), bound, name.clone())?;
    world.bases = bases(journal, world.ground.store, &world.bound)?;
    world.measures = true;
    let itinerary = engine::flatten_upgrade(&world.bound, &world.roots());
    let (findings, state) = world.ask_requirements(&itinerary, &site.stop)?;
    let bytes =
        state.outputs().filter(|(task, _)| task.subject.starts_with("resource ")).filter_map(|(_, o)| o.bytes).sum();
    let mut warnings: Vec<String> = state.outputs().flat_map(|(_, output)| output.warnings.clone()).collect();
    warnings.extend(left_out.iter().map(|instance| format!("`{instance}` is left out: its `when` does not hold")));
    warnings.extend(world.nested());
    let version = world.bound.version.as_ref().map(|version| &version.spec);
    let mut notices = Vec::new();
    for notice in &world.bound.notices {
        notices.push((notice.name.to_string(), notice.text.expand(&world.bound.scope)?));
    }
    let (captures, proves) = (bytes as f64 / CAUTIOUS_RATE, cautiously_proved(&world, &state, bytes));
    let took = |of| -> Result<Option<f64>> { Ok(measured(journal, &world, of)?.map(|seconds| seconds * bytes as f64)) };
    Ok(Forecast {
        from: state.output(&TaskId::new(Action::Require, "the version")).and_then(|o| o.version.clone()),
        to: version.and_then(|spec| Some(spec.target.clone()?).or_else(|| Some(spec.to.as_ref()?.text().to_owned()))),
        tasks: tasks(&world, &itinerary),
        findings,
        bytes,
        free: crate::sys::mounts::free(&site.dir)?,
        seconds: Some(took(|action| matches!(action, Action::Precapture | Action::Capture))?.unwrap_or(captures)),
        proof_seconds: Some(took(|action| action == Action::Prove)?.unwrap_or(proves)),
        notices,
        warnings,
        summary: world.bound.summary.clone(),
        name,
    })
}

fn tasks(world: &World<'_>, itinerary: &Itinerary) -> Vec<ForecastTask> {
    let task = |task: &crate::tx::Task| {
        let (does, undo) = world.describe(&task.id);
        let timeout = world.time_limit(&task.id);
        ForecastTask { task: task.id.to_string(), does, undo, depth: task.depth, timeout }
    };
    itinerary.forward.iter().map(task).collect()
}

/// How many seconds a byte has taken, by the last committed transaction of the plan in which that was done: tasks that went
/// together count once.
fn measured(journal: &dyn Journal, world: &World<'_>, of: fn(Action) -> bool) -> Result<Option<f64>> {
    let mine = journal.transactions()?.into_iter().rev().filter(|tx| tx.plan == world.bound.name);
    for tx in mine.take(8) {
        let told = tell(journal, &tx)?;
        if told.state.ended() != Some(Outcome::Committed) {
            continue;
        }
        let captured: u64 = told.state.captured().filter_map(|(_, output)| output.bytes).sum();
        let spent = spent(&told.recorded, of);
        if captured > 0 && !spent.is_zero() {
            return Ok(Some(spent.as_secs_f64() / captured as f64));
        }
    }
    Ok(None)
}

/// How long anything of a sort was under way.
fn spent(recorded: &[Recorded], of: fn(Action) -> bool) -> Duration {
    let (mut spent, mut under_way, mut since) = (Duration::ZERO, 0, "");
    for Recorded { event, at, .. } in recorded {
        match event {
            Event::Started { task, .. } if of(task.action) => {
                if under_way == 0 {
                    since = at;
                }
                under_way += 1;
            }
            Event::Succeeded { task, .. } | Event::Failed { task, .. } if of(task.action) && under_way > 0 => {
                under_way -= 1;
                if under_way == 0 {
                    spent += super::standing::seconds_between(since, at).unwrap_or_default();
                }
            }
            Event::Interrupted { .. } => under_way = 0,
            _ => {}
        }
    }
    spent
}

/// How long a first proof takes: all is read back, and databases are loaded unless the plan says otherwise.
fn cautiously_proved(world: &World<'_>, state: &State, bytes: u64) -> f64 {
    let loaded = world.bound.resources.iter().filter(|resource| resource.kind.loads());
    let size = |name: &str| state.output(&TaskId::new(Action::Require, format!("resource {name}")))?.bytes;
    let loaded: u64 = match world.bound.policy.prove {
        Some(Prove::Read) => 0,
        Some(Prove::Restore) | None => loaded.filter_map(|resource| size(&resource.name)).sum(),
    };
    bytes as f64 / READING_RATE + loaded as f64 / LOADING_RATE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{Notebook, id};
    use crate::tx::Output;

    #[test]
    fn what_went_together_counts_once() {
        let mut notebook = Notebook::new();
        let tx = notebook.begin("notes");
        for task in ["require the version", "require page", "quiesce stop"] {
            notebook.does(&tx, task, Output::default());
        }
        for (task, wait) in [("capture code", 1000), ("capture db", 2000)] {
            notebook.starts(&tx, task);
            notebook.wait(wait);
        }
        for (task, wait) in [("capture db", 500), ("capture code", 4000)] {
            notebook.add(&tx, Event::Succeeded { task: id(task), output: Output::default() });
            notebook.wait(wait);
        }
        let recorded = notebook.journal.events(&tx).unwrap();
        assert_eq!(spent(&recorded, |action| action == Action::Capture), Duration::from_millis(3500));
        assert_eq!(spent(&recorded, |action| action == Action::Prove), Duration::ZERO);
    }
}
