//! `apply`, `commit` and `confirm`: an open transaction is carried further.

use std::time::Duration;

use super::begin::snapshot_after;
use super::keep;
use super::keeper::{keep_watch, watch_over};
use super::office::{Office, Reading, lock_tx, make_room_first, tell, the_open_one};
use super::reopen::reopen;
use super::{Place, Site, Standing, StepsDone, Wait};
use crate::engine::{Driver, Drove, left_to_recover, remaining};
use crate::error::{Error, Fault, Result};
use crate::name::TxId;
use crate::tx::{Event, Extent, Goal, Heading, Outcome, Purpose, State};

/// Runs the steps of an open transaction; `skip` names steps that were done by hand.
pub fn apply(site: &Site, tx: Option<&TxId>, skip: &[String]) -> Result<Standing> {
    if skip.is_empty()
        && let Some(standing) = committed_already(site, tx)?
    {
        return Ok(standing);
    }
    on_the_way_forward(site, tx, Wait::No, |driver, tx| {
        for name in skip {
            let step = driver.state().steps_missing().into_iter().find(|step| step.subject == *name);
            let step = step.ok_or_else(|| {
                Error::new(format!("`{tx}` has no step `{name}` that has still to run")).fault(Fault::Usage)
            })?;
            driver.append(Event::Skipped { task: step })?;
        }
        if driver.state().steps_missing().is_empty() && driver.state().goal() >= Goal::Applied {
            return Ok(());
        }
        if driver.state().on_hold().is_some_and(|task| task.action.is_step()) {
            driver.append(Event::Retried { extent: Extent::Whole })?;
        }
        if driver.state().on_hold().is_none() { driver.aim(Goal::Applied) } else { Ok(()) }
    })
}

/// Resumes and verifies an open transaction, and commits it.
pub fn commit(site: &Site, tx: Option<&TxId>, steps: StepsDone, wait: Wait) -> Result<Standing> {
    if let Some(standing) = committed_already(site, tx)? {
        return Ok(standing);
    }
    on_the_way_forward(site, tx, wait, |driver, tx| {
        let missing = driver.state().steps_missing();
        if steps == StepsDone::AsJournaled && !missing.is_empty() {
            let names: Vec<String> = missing.iter().map(|step| format!("`{}`", step.subject)).collect();
            return Err(Error::new(format!("`{tx}` cannot be committed: its steps {} have not run", names.join(", ")))
                .hint(format!("`txupgrade apply {tx}` runs them"))
                .hint(format!("`txupgrade commit {tx} --steps-done` says that you have done them by hand")));
        }
        for step in missing {
            driver.append(Event::Skipped { task: step })?;
        }
        if driver.state().on_hold().is_some() {
            driver.append(Event::Retried { extent: Extent::Whole })?;
        }
        driver.aim(Goal::Committed)
    })
}

/// Keeps what `confirm_within` would take back.
pub fn confirm(site: &Site, tx: Option<&TxId>) -> Result<Standing> {
    on_the_way_forward(site, tx, Wait::No, |driver, tx| match driver.state().awaiting().map(remaining) {
        None => Err(Error::new(format!("`{tx}` does not wait for a confirmation"))
            .hint("`txupgrade status` says what it waits for")),
        Some(None) => {
            // Its keeper may be gone.
            let _ = keep_watch(site, tx, Duration::ZERO);
            Err(Error::new(format!("the time to confirm `{tx}` is over"))
                .hint("`txupgrade recover` takes it back now, if nothing has yet"))
        }
        Some(Some(_)) => driver.append(Event::Confirmed),
    })
}

/// Where a named transaction stands that has reached every goal already: then there is nothing to do.
fn committed_already(site: &Site, tx: Option<&TxId>) -> Result<Option<Standing>> {
    let Some((tx, reading)) = tx.zip(Reading::open(site)?) else { return Ok(None) };
    let told = tell(&reading.journal, tx)?;
    Ok((told.state.ended() == Some(Outcome::Committed)).then(|| Standing::of(&told)))
}

/// Opens a transaction that goes forward and stands still, does what `act` says and drives it on.
fn on_the_way_forward(
    site: &Site,
    tx: Option<&TxId>,
    wait: Wait,
    act: impl FnOnce(&mut Driver<'_>, &TxId) -> Result<()>,
) -> Result<Standing> {
    let mut office = Office::open(site)?;
    let tx = the_open_one(&office.journal, tx)?;
    let lock = lock_tx(&office.dir, &tx)?;
    let Office { dir, tmp, store, journal, .. } = &mut office;
    let told = tell(journal, &tx)?;
    refuse_unless_forward(&tx, &told.state)?;
    let world = reopen(journal, Office::ground(dir, tmp, store, site), &tx, &told.state)?;
    let mut driver = Driver::new(journal, world, tx.clone(), told.state, site.stop.clone());
    let aimed = driver.take_over().and_then(|()| act(&mut driver, &tx));
    aimed.map_err(|error| if_left(&driver, error))?;
    settle(&mut driver)?;
    drop(driver);
    drop(lock);
    finish(site, &mut office, &tx, wait)
}

fn refuse_unless_forward(tx: &TxId, state: &State) -> Result<()> {
    if let Some(outcome) = state.ended() {
        let ended = match outcome {
            Outcome::Committed => "is committed",
            Outcome::Aborted => "was aborted",
            Outcome::RolledBack => "was rolled back",
            Outcome::Released => "was released",
        };
        return Err(Error::new(format!("`{tx}` {ended} already")).hint(format!("txupgrade show {tx}")));
    }
    if state.stuck().is_some() {
        return Err(Error::new(format!("`{tx}` is stuck on its way back"))
            .hint(format!("`txupgrade rollback {tx}` tries again"))
            .hint(format!("`txupgrade release {tx} --resume` declares it settled by hand")));
    }
    if !state.is_settled() || *state.heading() != Heading::Forward {
        return Err(Error::new(format!("`{tx}` was interrupted")).hint("`txupgrade recover` settles it first"));
    }
    Ok(())
}

/// Drives until it stands still.
pub(super) fn settle(driver: &mut Driver<'_>) -> Result<()> {
    let drove = driver.drive();
    settled(driver, drove)
}

/// Drives as far as can be come while the machine boots.
pub(super) fn settle_early(driver: &mut Driver<'_>) -> Result<()> {
    let drove = driver.drive_early();
    settled(driver, drove)
}

fn settled(driver: &Driver<'_>, drove: Result<Drove>) -> Result<()> {
    match drove {
        Ok(Drove::Settled) => Ok(()),
        Ok(Drove::LeftToRecover) => Err(left_to_recover(driver.tx(), driver.stop())),
        Err(error) => Err(left_half_way(driver, error)),
    }
}

/// An error from before the first task: where nothing could be journaled, it is told as one from the midst of them.
pub(super) fn if_left(driver: &Driver<'_>, error: Error) -> Error {
    if error.fault == Fault::Left { left_half_way(driver, error) } else { error }
}

/// Nothing can be journaled, so nothing may be done: neither forward nor back.
fn left_half_way(driver: &Driver<'_>, error: Error) -> Error {
    let tx = driver.tx();
    let left = match driver.state().in_flight() {
        Some(task) => format!("`{tx}` was left in the middle of `{task}`"),
        None => format!("`{tx}` was left half-way"),
    };
    let hint = match error.is_no_room() {
        true => make_room_first(driver.world().ground.dir, "`txupgrade recover` settles it"),
        false => "remove the cause, then `txupgrade recover` settles it".to_owned(),
    };
    error.within(left).hint(hint).fault(Fault::Left)
}

/// Tells where a transaction stands after a verb has acted on it; what waits for its confirmation has a keeper then.
pub(super) fn finish(site: &Site, office: &mut Office, tx: &TxId, wait: Wait) -> Result<Standing> {
    let told = tell(&office.journal, tx)?;
    let standing = Standing::of(&told);
    let upgrade = told.state.itinerary().purpose == Purpose::Upgrade;
    if upgrade && told.state.ended() == Some(Outcome::Committed) {
        snapshot_after(site, office, &told);
    }
    watch_over(site, &office.dir, &office.journal);
    if !matches!(standing.place, Place::Unconfirmed { .. }) {
        keep::carry_out(site, office, tx);
        return Ok(standing);
    }
    if wait == Wait::No {
        return Ok(standing);
    }
    while site.stop.signal().is_none() {
        std::thread::sleep(Duration::from_millis(200));
        let standing = Standing::of(&tell(&office.journal, tx)?);
        if matches!(standing.place, Place::Ended { .. } | Place::Stuck { .. }) {
            // Who confirmed it could not: this process still shared the store.
            keep::carry_out(site, office, tx);
            return Ok(standing);
        }
    }
    Ok(standing)
}
