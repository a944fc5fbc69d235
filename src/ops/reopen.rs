//! A transaction that was begun earlier, made ready again from what it journaled: the plan as it was then.

use std::path::Path;

use super::office::{Told, tell};
use crate::engine::{self, Ground, Target, World};
use crate::error::{Error, Fault, Result};
use crate::journal::Journal;
use crate::name::TxId;
use crate::store::{ObjectId, Stamps};
use crate::sys::clock;
use crate::tx::{Action, State, TaskId};

/// Makes the world of a transaction again, from what it journaled when it began: the plan as it was then.
pub(super) fn reopen<'a>(journal: &dyn Journal, ground: Ground<'a>, tx: &TxId, state: &State) -> Result<World<'a>> {
    let begun = state.begun();
    let again = || -> Result<World<'a>> {
        let text = ground.store.get(begun.plan.parse()?)?;
        let text = String::from_utf8(text).map_err(|_| Error::new("the plan as it was kept is not text"))?;
        let read = engine::read_plan(&text, Path::new(&begun.path), &begun.set)?;
        let mut bound = engine::bind_on(&ground, read, Some(&begun.lists))?;
        bound.leave_out(&begun.left_out);
        let mut world = World::new(ground, bound, tx.to_string())?;
        if begun.runner.boot_id != clock::boot_id() {
            world.stamps = Stamps::SayNothing;
        }
        world.claims = begun.claims.clone();
        if let Some(undone) = begun.undoes.first() {
            world.target = target(&world, &tell(journal, &undone.parse()?)?)?;
        }
        Ok(world)
    };
    again().map_err(|error| error.within(format!("cannot read the plan of `{tx}` back")))
}

/// The same for what is done to a transaction in any case: where its plan is damaged the world is one in which each task
/// fails and says so.
pub(super) fn reopen_anyhow<'a>(
    journal: &dyn Journal,
    ground: &dyn Fn() -> Ground<'a>,
    tx: &TxId,
    state: &State,
) -> Result<World<'a>> {
    match reopen(journal, ground(), tx, state) {
        Err(why) if why.fault == Fault::Damage => {
            let mut world = World::of_lost_plan(ground(), tx, why)?;
            world.claims = state.begun().claims.clone();
            Ok(world)
        }
        reopened => reopened,
    }
}

/// What going back to before a committed transaction means: its manifests and its version stamp.
pub(super) fn target(world: &World<'_>, told: &Told) -> Result<Target> {
    let mut target = Target { claims: told.state.begun().claims.clone(), ..Target::default() };
    for resource in &world.bound.resources {
        let manifest = manifest_of(&told.state, &resource.name).ok_or_else(|| {
            Error::new(format!("`{}` did not capture `{}`", told.tx, resource.name)).fault(Fault::Damage)
        })?;
        target.manifests.insert(resource.name.clone(), manifest);
    }
    let stamp = told.state.output(&TaskId::new(Action::Require, "the version"));
    target.version = stamp.and_then(|output| output.version.clone());
    Ok(target)
}

/// The manifest that a transaction captured of a resource.
pub(super) fn manifest_of(state: &State, resource: &str) -> Option<ObjectId> {
    engine::manifest_of(state, Action::Capture, resource)
}
