//! A bound plan as the tasks of a transaction.
//!
//! Quiesces nest like brackets: a task of depth `d` runs while the outermost `d` of them hold and the others do
//! not. Forward, captures go inwards and steps, checks and resumes come outwards again; backward, the quiesces that
//! were resumed are closed again from the outside, undos before the bracket that they were not in, and then restores
//! and resumes come outwards. The machine passes over what is not needed.

use std::path::PathBuf;

use super::bind::{Bound, Instance};
use crate::check::Check;
use crate::plan::{CheckAt, StepAt};
use crate::step::Step;
use crate::tx::{Action, Confirmation, Itinerary, Purpose, Task};

/// The subject of the tasks that ask for the version. Entries' names have no space.
pub(super) const VERSION: &str = "the version";
/// The subject of the task that forecasts the room that will be needed.
pub(super) const ROOM: &str = "the room";
/// The subject of the proof that everything a restore needs can be read.
pub(super) const SNAPSHOT: &str = "the snapshot";

/// Before the name of a resource or step where the task is not the entry's own.
pub(super) fn of_resource(name: &str) -> String {
    format!("resource {name}")
}

pub(super) fn of_step(name: &str) -> String {
    format!("step {name}")
}

/// The task that notes how things were before a quiesce stopped them.
pub fn of_quiesce(name: &str) -> String {
    format!("quiesce {name}")
}

/// The tasks of an upgrade.
pub fn flatten_upgrade(bound: &Bound, roots: &[Option<PathBuf>]) -> Itinerary {
    let deepest = bound.quiesces.len();
    let mut forward = requires(bound, Asked::All);
    forward.extend(steps(bound, StepAt::Prepare).map(|step| Task::new(Action::Prepare, &step.name, 0)));
    let acting = bound.steps.iter().filter(|step| step.common.step_at == StepAt::Apply);
    forward.extend(acting.map(|step| Task::new(Action::Require, of_step(&step.name), 0)));
    forward.extend(captures(bound));
    for depth in (0..=deepest).rev() {
        let here = |step: &&Instance<dyn Step>| step_depth(bound, step) == depth;
        forward
            .extend(steps(bound, StepAt::Apply).filter(here).map(|step| Task::new(Action::Apply, &step.name, depth)));
        if depth == 0 && bound.version.is_some() {
            forward.push(Task::new(Action::Verify, VERSION, 0));
        }
        forward.extend(checks(bound, &[CheckAt::After, CheckAt::Both], depth, Action::Verify));
        forward.extend(resume(bound, depth));
    }
    forward.extend(steps(bound, StepAt::Finish).map(|step| Task::new(Action::Finish, &step.name, 0).noted()));
    let confirm = match bound.policy.confirm_within {
        Some(_) => Confirmation::Asked,
        None => Confirmation::NotAsked,
    };
    let backward = backward(bound, roots, Undos::OfTheSteps);
    Itinerary { purpose: Purpose::Upgrade, on_failure: bound.policy.on_failure, confirm, forward, backward }
}

/// The tasks of a transaction that only captures. `loads` says whether what was captured is also loaded somewhere.
pub fn flatten_snapshot(bound: &Bound, prove: Proof) -> Itinerary {
    let mut forward = requires(bound, Asked::VersionStamp);
    forward.extend(captures(bound).into_iter().filter(|task| task.id.action != Action::Prove || prove == Proof::Asked));
    forward.extend((0..=bound.quiesces.len()).rev().flat_map(|depth| resume(bound, depth)));
    let backward = (0..=bound.quiesces.len()).rev().flat_map(|depth| resume(bound, depth)).collect();
    Itinerary {
        purpose: Purpose::Snapshot,
        on_failure: crate::tx::OnFailure::Rollback,
        confirm: Confirmation::NotAsked,
        forward,
        backward,
    }
}

/// Whether a snapshot is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It is read back, and databases are loaded.
    Asked,
    /// It is not.
    NotAsked,
}

/// The tasks of a transaction that undoes a committed one: `undone` are the steps that one had run.
pub fn flatten_rollback(bound: &Bound, roots: &[Option<PathBuf>], undone: &[String]) -> Itinerary {
    let mut forward = requires(bound, Asked::VersionStamp);
    forward.push(Task::new(Action::Require, SNAPSHOT, 0));
    forward.extend(captures(bound));
    for depth in (0..=bound.quiesces.len()).rev() {
        let mine = |step: &&Instance<dyn Step>| step_depth(bound, step) == depth && undone.contains(&step.name);
        let undos = bound.steps.iter().rev().filter(mine).filter(|step| step.kind.undo_lasts());
        forward.extend(undos.map(|step| Task::new(Action::Undo, &step.name, depth)));
        for (name, at) in outer_first(bound, roots) {
            if at == depth {
                forward.push(Task::new(Action::Reinstate, name, depth));
            }
        }
        forward.extend(rechecks(bound, depth));
        forward.extend(resume(bound, depth));
    }
    forward.extend(rechecks_outside(bound));
    Itinerary {
        purpose: Purpose::Rollback,
        on_failure: crate::tx::OnFailure::Rollback,
        confirm: Confirmation::NotAsked,
        forward,
        backward: backward(bound, roots, Undos::None),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    All,
    VersionStamp,
}

/// What is asked before anything is touched. Checks `under` a quiesce have to wait for it and stand in `captures`.
fn requires(bound: &Bound, asked: Asked) -> Vec<Task> {
    let mut tasks = Vec::new();
    if bound.version.is_some() {
        let task = Task::new(Action::Require, VERSION, 0);
        // Undoing must be possible also when the version can no longer be read.
        tasks.push(if asked == Asked::All { task } else { task.noted() });
    }
    let remembering = bound.quiesces.iter().filter(|quiesce| quiesce.kind.remembers());
    tasks.extend(remembering.map(|quiesce| Task::new(Action::Require, of_quiesce(&quiesce.name), 0)));
    for resource in &bound.resources {
        tasks.push(Task::new(Action::Require, of_resource(&resource.name), 0));
    }
    if !bound.resources.is_empty() {
        tasks.push(Task::new(Action::Require, ROOM, 0));
    }
    if asked == Asked::All {
        tasks.extend(checks(bound, &[CheckAt::Before, CheckAt::Both], 0, Action::Require));
    }
    tasks
}

/// Precapture, and then inwards: capture and prove what belongs to each bracket, and close the next.
fn captures(bound: &Bound) -> Vec<Task> {
    let mut tasks = Vec::new();
    for resource in &bound.resources {
        if resource.kind.precaptures() && resource_depth(bound, resource) > 0 {
            tasks.push(Task::new(Action::Precapture, &resource.name, 0).noted());
        }
    }
    for depth in 0..=bound.quiesces.len() {
        if depth > 0 {
            tasks.extend(checks(bound, &[CheckAt::Before, CheckAt::Both], depth, Action::Require));
        }
        let here: Vec<_> = bound.resources.iter().filter(|resource| resource_depth(bound, resource) == depth).collect();
        tasks.extend(here.iter().map(|resource| Task::new(Action::Capture, &resource.name, depth)));
        tasks.extend(here.iter().map(|resource| Task::new(Action::Prove, &resource.name, depth)));
        tasks.extend(bound.quiesces.get(depth).map(|quiesce| Task::new(Action::Quiesce, &quiesce.name, depth)));
    }
    tasks
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Undos {
    OfTheSteps,
    None,
}

fn backward(bound: &Bound, roots: &[Option<PathBuf>], undos: Undos) -> Vec<Task> {
    let mut tasks = vec![Task::new(Action::Prove, SNAPSHOT, 0)];
    let diagnoses = (1..=bound.policy.diagnose.len()).map(|number| format!("command {number}"));
    tasks.extend(diagnoses.map(|subject| Task::new(Action::Diagnose, subject, 0).noted()));
    for depth in 0..=bound.quiesces.len() {
        if undos == Undos::OfTheSteps {
            let here = |step: &&Instance<dyn Step>| step_depth(bound, step) == depth;
            tasks.extend(
                undos_of(bound, StepAt::Apply).filter(here).map(|step| Task::new(Action::Undo, &step.name, depth)),
            );
        }
        if let Some(quiesce) = bound.quiesces.get(depth) {
            let task = Task::new(Action::Quiesce, &quiesce.name, depth);
            // It held before; without an `expect` nothing but its exit status speaks against it now.
            tasks.push(if quiesce.common.expect.is_none() { task.noted() } else { task });
        }
    }
    if undos == Undos::OfTheSteps {
        // What was prepared came before all else, so it is taken back after all else.
        tasks.extend(undos_of(bound, StepAt::Prepare).map(|step| Task::new(Action::Undo, &step.name, 0)));
    }
    for depth in (0..=bound.quiesces.len()).rev() {
        for (name, at) in outer_first(bound, roots) {
            if at == depth {
                tasks.push(Task::new(Action::Restore, name, depth));
            }
        }
        tasks.extend(rechecks(bound, depth).map(Task::noted));
        tasks.extend(resume(bound, depth));
    }
    tasks.extend(rechecks_outside(bound).map(Task::noted));
    tasks
}

/// The steps that can be undone, the last first.
fn undos_of(bound: &Bound, at: StepAt) -> impl Iterator<Item = &Instance<dyn Step>> {
    bound.steps.iter().rev().filter(move |step| step.common.step_at == at && step.kind.has_undo())
}

/// The resources, those that contain others first. `roots` are their paths, where they have one.
fn outer_first<'b>(bound: &'b Bound, roots: &[Option<PathBuf>]) -> Vec<(&'b str, usize)> {
    let mut order: Vec<usize> = (0..bound.resources.len()).collect();
    order.sort_by_key(|index| roots[*index].as_ref().map_or(usize::MAX, |root| root.components().count()));
    let named = |index: usize| {
        let resource = &bound.resources[index];
        (resource.name.as_str(), resource_depth(bound, resource))
    };
    order.into_iter().map(named).collect()
}

/// What must be true again of the old world inside a bracket: nothing may write to a resource while it is compared.
fn rechecks(bound: &Bound, depth: usize) -> impl Iterator<Item = Task> {
    let here = bound.resources.iter().filter(move |resource| resource_depth(bound, resource) == depth);
    let resources = here.map(move |resource| Task::new(Action::Recheck, of_resource(&resource.name), depth));
    let inside = checks(bound, &[CheckAt::Both], depth, Action::Recheck).filter(move |_| depth > 0);
    resources.chain(inside)
}

/// What must be true again of the old world once everything is resumed.
fn rechecks_outside(bound: &Bound) -> impl Iterator<Item = Task> {
    let version = bound.version.as_ref().map(|_| Task::new(Action::Recheck, VERSION, 0));
    version.into_iter().chain(checks(bound, &[CheckAt::Both], 0, Action::Recheck))
}

fn checks(bound: &Bound, at: &'static [CheckAt], depth: usize, action: Action) -> impl Iterator<Item = Task> {
    let here = bound.checks_at(at).filter(move |check| check_depth(bound, check) == depth);
    here.map(move |check| {
        let task = Task::new(action, &check.name, depth);
        if check.common.check.warn { task.noted() } else { task }
    })
}

fn steps(bound: &Bound, at: StepAt) -> impl Iterator<Item = &Instance<dyn Step>> {
    bound.steps.iter().filter(move |step| step.common.step_at == at)
}

/// The resume that ends the bracket of `depth`.
fn resume(bound: &Bound, depth: usize) -> Option<Task> {
    let quiesce = bound.quiesces.get(depth.checked_sub(1)?)?;
    Some(Task::new(Action::Resume, &quiesce.name, depth - 1))
}

fn step_depth(bound: &Bound, step: &Instance<dyn Step>) -> usize {
    match step.common.step_at {
        StepAt::Apply => bound.depth(step.common.under.as_ref(), bound.quiesces.len()),
        StepAt::Prepare | StepAt::Finish => 0,
    }
}

fn resource_depth(bound: &Bound, resource: &Instance<dyn crate::resource::Resource>) -> usize {
    bound.depth(resource.common.under.as_ref(), bound.quiesces.len())
}

fn check_depth(bound: &Bound, check: &Instance<dyn Check>) -> usize {
    bound.depth(check.common.under.as_ref(), 0)
}
