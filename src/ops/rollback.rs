//! `rollback`: an open transaction turns back; a committed one is undone by a new transaction.

use super::begin::{Extras, bases, begun, start_next};
use super::carry_on::{finish, if_left, settle};
use super::keep::refuse_pruned;
use super::office::{Office, Reading, Told, lock_begin, lock_tx, patiently, store_lock, tell};
use super::reopen::{reopen, reopen_anyhow, target};
use super::{Site, Standing, Through, Wait};
use crate::engine::{self, Driver};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::name::TxId;
use crate::resource::Changes;
use crate::store::{ObjectId, Store};
use crate::sys::lock::Lock;
use crate::tx::{Action, Event, Extent, Goal, Heading, Outcome, Progress, Purpose, Reason};

/// How a rollback is to be done.
#[derive(Debug, Clone, Copy)]
pub struct RollbackOptions {
    /// Whether what is damaged is left out.
    pub extent: Extent,
    /// Whether later transactions on the same resources are undone first.
    pub through: Through,
    /// Whether a committed one may be undone.
    pub undoing: Undoing,
}

/// Whether somebody has said that a committed transaction is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undoing {
    /// Somebody has.
    Agreed,
    /// It was open when that would have been asked.
    NotAsked,
}

/// What a rollback would do.
#[derive(Debug, Clone)]
pub struct RollbackPreview {
    /// The transaction it is about.
    pub tx: TxId,
    /// Whether that one is open and turns back, or committed and is undone by a new one.
    pub open: bool,
    /// What would be undone, in this order.
    pub of: Vec<TxId>,
    /// Later committed transactions that touch the same resources.
    pub later: Vec<TxId>,
    /// How the live resources differ from what they would go back to: what was written since would be lost.
    pub changes: Vec<(String, Changes)>,
}

/// Turns an open transaction back, or undoes a committed one.
pub fn rollback(site: &Site, tx: &TxId, options: RollbackOptions) -> Result<Standing> {
    let office = Office::open(site)?;
    let about = about(&office.journal, Some(tx))?;
    if about.told.state.ended().is_none() {
        return turn_back(site, office, &about.told.tx, options.extent);
    }
    if options.extent == Extent::Partial {
        let tx = &about.told.tx;
        return Err(Error::new(format!("`{tx}` has ended: only one that is open goes back in part"))
            .because("what is undone by a new transaction is put back whole, or the present stays")
            .hint(format!("`txupgrade rollback {tx}` says what of its snapshot is damaged"))
            .hint(format!("`txupgrade store export {tx} FILE --resource NAME` writes down a resource that is whole")));
    }
    if options.undoing == Undoing::NotAsked {
        return Err(ended_meanwhile(&about.told.tx));
    }
    if options.through == Through::OnlyThis {
        refuse_later(&about)?;
    }
    for tx in [&about.told.tx].into_iter().chain(&about.later) {
        refuse_pruned(&office.store, &tell(&office.journal, tx)?)?;
    }
    drop(office);
    // Each is undone by a transaction of its own, so that every intermediate world was once a good one.
    for tx in &about.later {
        let standing = undo_committed(site, tx)?;
        if !matches!(standing.place, super::Place::Ended { outcome: Outcome::Committed, .. }) {
            return Ok(standing);
        }
    }
    undo_committed(site, &about.told.tx)
}

/// Which transaction a rollback is about where `tx` was said, and whether that one is open.
pub fn rollback_of(site: &Site, tx: Option<&TxId>) -> Result<(TxId, bool)> {
    let told = about(&reading(site)?.journal, tx)?.told;
    Ok((told.tx, told.state.ended().is_none()))
}

fn reading(site: &Site) -> Result<Reading> {
    let reading = Reading::open(site)?.ok_or_else(|| Error::new("there is no transaction to roll back"))?;
    reading.journal.check_end()?;
    Ok(reading)
}

/// What a rollback would do, without doing it.
pub fn rollback_preview(site: &Site, tx: Option<&TxId>, through: Through) -> Result<RollbackPreview> {
    let reading = reading(site)?;
    let about = about(&reading.journal, tx)?;
    let open = about.told.state.ended().is_none();
    let mut of = vec![about.told.tx.clone()];
    if through == Through::Later {
        of.splice(0..0, about.later.iter().cloned());
    }
    let changes = super::diff::differences(site, &reading, &about.told)?;
    let changes = changes.into_iter().map(|difference| (difference.resource, difference.changes)).collect();
    Ok(RollbackPreview { tx: about.told.tx, open, of, later: about.later, changes })
}

/// Reads what undoing these committed transactions needs: an error where it would be refused, for something is damaged.
pub fn prove_rollback(site: &Site, preview: &RollbackPreview) -> Result<()> {
    let (Some(reading), false) = (Reading::open(site)?, preview.open) else { return Ok(()) };
    let _sharing = patiently(site, || Lock::share_if_there(&store_lock(&reading.dir), "the store"))?;
    let Some(store) = Store::open_read_only(&reading.dir)? else { return Ok(()) };
    for tx in &preview.of {
        let told = tell(&reading.journal, tx)?;
        refuse_pruned(&store, &told)?;
        let captured = told.state.captured();
        let manifests: Vec<ObjectId> =
            captured.filter_map(|(_, output)| output.manifest.as_ref()?.parse().ok()).collect();
        let proved = store.prove(&manifests, &|done, total| site.monitor.progress("read the snapshot", done, total));
        proved.map_err(|error| error.within(format!("undoing `{tx}` would be refused")))?;
    }
    Ok(())
}

struct About {
    told: Told,
    /// Later committed transactions in effect that touch the same things, the latest first.
    later: Vec<TxId>,
}

/// Which transaction a rollback is about.
fn about(journal: &dyn Journal, tx: Option<&TxId>) -> Result<About> {
    if tx.is_none() && !journal.unfinished()?.is_empty() {
        let open = super::office::the_open_one(journal, None)?;
        return Ok(About { told: tell(journal, &open)?, later: Vec::new() });
    }
    let mut all = Vec::new();
    for tx in journal.transactions()? {
        all.push(tell(journal, &tx)?);
    }
    let in_effect = in_effect(&all);
    let found = match tx {
        Some(tx) => all.iter().position(|told| told.tx == *tx),
        None => (0..all.len())
            .rev()
            .find(|index| in_effect[*index] && all[*index].state.itinerary().purpose != Purpose::Rollback),
    };
    let Some(index) = found else {
        return Err(match tx {
            Some(tx) => {
                Error::new(format!("there is no transaction `{tx}`")).hint("`txupgrade history` lists all of them")
            }
            None => Error::new("there is no transaction to roll back")
                .because("none is open, and no committed upgrade or snapshot is still in effect")
                .hint("`txupgrade history` lists all of them; a rollback is undone by naming it"),
        });
    };
    let state = &all[index].state;
    if let Some(outcome) = state.ended() {
        let tx = &all[index].tx;
        if outcome != Outcome::Committed {
            return Err(Error::new(format!("`{tx}` did not commit: there is nothing to undo"))
                .hint(format!("txupgrade show {tx}")));
        }
        if !in_effect[index] && state.itinerary().purpose != Purpose::Snapshot {
            return Err(Error::new(format!("`{tx}` has been undone already"))
                .hint("`txupgrade history` shows by which; a rollback is undone by naming it"));
        }
    }
    let claims = &state.begun().claims;
    let later = (index + 1..all.len()).rev().filter(|later| {
        let other = &all[*later].state;
        let theirs = &other.begun().claims;
        // What only took back something later still is no change to what stood here.
        let undid = |name: &String| all[index + 1..].iter().any(|told| told.tx.to_string() == *name);
        in_effect[*later]
            && other.itinerary().purpose != Purpose::Snapshot
            && !other.begun().undoes.iter().any(undid)
            && claims.iter().any(|claim| theirs.iter().any(|their| crate::journal::claims_overlap(claim, their)))
    });
    let later = later.map(|later| all[later].tx.clone()).collect();
    let told = all.swap_remove(index);
    Ok(About { told, later })
}

fn refuse_later(about: &About) -> Result<()> {
    if about.later.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = about.later.iter().map(|tx| format!("`{tx}`")).collect();
    let tx = &about.told.tx;
    Err(Error::new(format!("later transactions touch what `{tx}` would put back"))
        .because(format!("they are {}", names.join(", ")))
        .hint(format!("`txupgrade rollback {tx} --through` undoes them first, the latest first")))
}

fn ended_meanwhile(tx: &TxId) -> Error {
    Error::new(format!("`{tx}` has ended meanwhile"))
        .because("somebody else carried it on")
        .hint(format!("`txupgrade show {tx}` says how; `txupgrade rollback {tx}` undoes it if it was committed"))
}

/// For each transaction, whether it committed and no rollback that is itself in effect has undone it.
pub(super) fn in_effect(all: &[Told]) -> Vec<bool> {
    let mut in_effect = vec![false; all.len()];
    for index in (0..all.len()).rev() {
        let committed = all[index].state.ended() == Some(Outcome::Committed);
        let name = all[index].tx.to_string();
        let undone =
            (index + 1..all.len()).any(|later| in_effect[later] && all[later].state.begun().undoes.contains(&name));
        in_effect[index] = committed && !undone;
    }
    in_effect
}

fn turn_back(site: &Site, mut office: Office, tx: &TxId, extent: Extent) -> Result<Standing> {
    let lock = lock_tx(&office.dir, tx)?;
    let Office { dir, tmp, store, journal, .. } = &mut office;
    let told = tell(journal, tx)?;
    if told.state.ended().is_some() {
        return Err(ended_meanwhile(tx));
    }
    let world = reopen_anyhow(journal, &|| Office::ground(dir, tmp, store, site), tx, &told.state)?;
    let mut driver = Driver::new(journal, world, tx.clone(), told.state, site.stop.clone());
    head_back(&mut driver, extent).map_err(|error| if_left(&driver, error))?;
    settle(&mut driver)?;
    drop(driver);
    drop(lock);
    finish(site, &mut office, tx, Wait::No)
}

fn head_back(driver: &mut Driver<'_>, extent: Extent) -> Result<()> {
    driver.take_over()?;
    if driver.state().stuck().is_some() {
        driver.append(Event::Retried { extent })
    } else if *driver.state().heading() == Heading::Forward && driver.state().ended().is_none() {
        if !driver.state().can_turn_back() {
            let tx = driver.tx();
            return Err(Error::new(format!("`{tx}` is past its checks and cannot turn back"))
                .hint(format!("`txupgrade recover` commits it; `txupgrade rollback {tx}` then undoes it")));
        }
        driver.turn_back(Reason::Asked)
    } else {
        Ok(())
    }
}

/// Undoes one committed transaction by a new one.
fn undo_committed(site: &Site, tx: &TxId) -> Result<Standing> {
    let mut office = Office::open(site)?;
    let Office { dir, tmp, store, journal, .. } = &mut office;
    let told = tell(journal, tx)?;
    refuse_pruned(store, &told)?;
    let mut world = reopen(journal, Office::ground(dir, tmp, store, site), tx, &told.state)?;
    world.target = target(&world, &told)?;
    world.bases = bases(journal, world.ground.store, &world.bound)?;
    let undone: Vec<String> = match told.state.itinerary().purpose {
        Purpose::Upgrade => undone_steps(&told),
        Purpose::Snapshot | Purpose::Rollback => Vec::new(),
    };
    let itinerary = engine::flatten_rollback(&world.bound, &world.roots(), &undone);
    let before = told.state.begun();
    let extras = Extras { left_out: before.left_out.clone(), accepted: Vec::new(), undoes: vec![tx.to_string()] };
    let set = before.set.clone();
    let begun = begun(&world, &set, itinerary, Goal::Committed, extras)?;
    let beginning = lock_begin(dir)?;
    // While nothing else begins: somebody may have undone it, or upgraded again, since that was looked at.
    refuse_later(&about(journal, Some(tx))?)?;
    let undoing = start_next(site, journal, world, begun, beginning)?;
    finish(site, &mut office, &undoing, Wait::No)
}

/// Steps that ran, so that their undos have something to take back.
fn undone_steps(told: &Told) -> Vec<String> {
    let steps = told.state.forward().filter(|(task, progress)| {
        matches!(task.id.action, Action::Apply | Action::Prepare)
            && matches!(progress, Progress::Done | Progress::Skipped)
    });
    steps.map(|(task, _)| task.id.subject.clone()).collect()
}
