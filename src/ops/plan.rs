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
use crate::journal::{Journal, MemoryJournal};
use crate::store::Store;
use crate::sys::scratch::Scratch;
use crate::tx::{Action, Event, Itinerary, Outcome};

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
    Ok(Forecast {
        from: state.output(&crate::tx::TaskId::new(Action::Require, "the version")).and_then(|o| o.version.clone()),
        to: version.and_then(|spec| Some(spec.target.clone()?).or_else(|| Some(spec.to.as_ref()?.text().to_owned()))),
        tasks: tasks(&world, &itinerary),
        findings,
        bytes,
        free: crate::sys::mounts::free(&site.dir)?,
        seconds: seconds(journal, &world, bytes)?,
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

/// How long captures will take: at the rate of the last committed transaction of the plan.
fn seconds(journal: &dyn Journal, world: &World<'_>, bytes: u64) -> Result<Option<f64>> {
    let mine = journal.transactions()?.into_iter().rev().filter(|tx| tx.plan == world.bound.name);
    for tx in mine.take(8) {
        let told = tell(journal, &tx)?;
        if told.state.ended() != Some(Outcome::Committed) {
            continue;
        }
        let mut spent = Duration::ZERO;
        let mut captured = 0;
        let mut started = None;
        for recorded in &told.recorded {
            match &recorded.event {
                Event::Started { task, .. } if captures(task.action) => started = Some(&recorded.at),
                Event::Succeeded { task, output } if captures(task.action) => {
                    captured += output.bytes.unwrap_or_default();
                    let took = started.take().and_then(|at| super::standing::seconds_between(at, &recorded.at));
                    spent += took.unwrap_or_default();
                }
                _ => {}
            }
        }
        if captured > 0 && !spent.is_zero() {
            return Ok(Some(spent.as_secs_f64() * bytes as f64 / captured as f64));
        }
    }
    Ok(Some(bytes as f64 / CAUTIOUS_RATE))
}

fn captures(action: Action) -> bool {
    matches!(action, Action::Precapture | Action::Capture)
}
