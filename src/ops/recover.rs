//! `recover` and `release`: what a dead process or a person has left is settled.

use std::path::PathBuf;

use super::carry_on::{finish, settle, settle_early};
use super::keep;
use super::keeper::watch_over;
use super::office::{Office, lock_tx, make_room_first, refuse_lost_journal, sweep, tell};
use super::reopen::reopen_anyhow;
use super::{AtBoot, Place, Services, Site, Standing, Wait};
use crate::engine::{Driver, clear_holds, lock_path};
use crate::error::{Error, Fault, OrSay, Result};
use crate::journal::Journal;
use crate::name::TxId;
use crate::sys::{files, hold};
use crate::tx::{Event, Outcome};

/// Settles every transaction that nobody is at work on any more. Those that wait for their operator stay open. While
/// the machine boots, only what is files is put back; the rest is for a recovery when all is up.
pub fn recover(site: &Site, at_boot: AtBoot) -> Result<Vec<Standing>> {
    let mut standings = Vec::new();
    let journal = site.dir.join("journal.db");
    refuse_lost_journal(&site.dir)?;
    // That it cannot be looked at is not that nothing is there.
    if !journal.try_exists().or_say(|| format!("cannot look for the journal `{}`", journal.display()))? {
        sweep(&site.dir);
        return Ok(standings);
    }
    let mut office = Office::open(site)?;
    clear_holds_of_ended(site, &office)?;
    let mut refused = None;
    for tx in office.journal.unfinished()? {
        // One that cannot be settled must not keep the others from it.
        match settle_one(site, &mut office, &tx, at_boot) {
            Ok(standing) => standings.extend(standing),
            Err(error) if matches!(error.fault, Fault::Signal(_)) => return Err(error),
            Err(error) => {
                let mut error = error.within(format!("cannot settle `{tx}`"));
                if error.is_no_room() && error.hints.is_empty() {
                    error = error.hint(make_room_first(&office.dir, "`txupgrade recover` again"));
                }
                match refused {
                    None => refused = Some(error),
                    // The first is the failure of the whole; it is not hidden by these.
                    Some(_) => site.monitor.warn(&error.to_string()),
                }
            }
        }
    }
    match refused {
        Some(error) => Err(error),
        None if at_boot == AtBoot::Yes => Ok(standings),
        None => {
            watch_over(site, &office.dir, &office.journal);
            sweep_ended(site, &mut office)?;
            for standing in &standings {
                keep::carry_out(site, &mut office, &standing.tx);
            }
            Ok(standings)
        }
    }
}

/// Settles one transaction; `None` when somebody else has done it meanwhile.
fn settle_one(site: &Site, office: &mut Office, tx: &TxId, at_boot: AtBoot) -> Result<Option<Standing>> {
    let lock = match lock_tx(&office.dir, tx) {
        Err(error) if error.fault == Fault::Locked => {
            let mut standing = Standing::of(&tell(&office.journal, tx)?);
            standing.place = Place::Running;
            return Ok(Some(standing));
        }
        taken => taken?,
    };
    let Office { dir, tmp, store, journal, .. } = office;
    let told = tell(journal, tx)?;
    if told.state.ended().is_some() {
        return Ok(None);
    }
    let world = reopen_anyhow(journal, &|| Office::ground(dir, tmp, store, site), tx, &told.state)?;
    let mut driver = Driver::new(journal, world, tx.clone(), told.state, site.stop.clone());
    driver.take_over()?;
    driver.turn_back_if_unconfirmed()?;
    match at_boot {
        AtBoot::Yes => settle_early(&mut driver)?,
        AtBoot::No => settle(&mut driver)?,
    }
    drop(driver);
    drop(lock);
    Ok(Some(Standing::of(&tell(journal, tx)?)))
}

/// What has ended holds no unit back, even if its process died before it had removed what held it.
fn clear_holds_of_ended(site: &Site, office: &Office) -> Result<()> {
    // In this order: who begins now is open before it holds anything.
    let holders = hold::holders(&office.dir);
    let open = office.journal.unfinished()?;
    for holder in holders {
        // What is no name of a transaction is not ours.
        let Ok(tx) = holder.parse::<TxId>() else { continue };
        if !open.contains(&tx)
            && let Err(error) = clear_holds(&office.dir, &tx)
        {
            site.monitor.warn(&error.to_string());
        }
    }
    Ok(())
}

/// A process may have died after the end was journaled and before the side copies were removed. That is tidying up
/// only: what cannot be done is told.
fn sweep_ended(site: &Site, office: &mut Office) -> Result<()> {
    for tx in office.journal.transactions()? {
        if lock_path(&office.dir, &tx).exists()
            && let Err(error) = sweep_one(site, office, &tx)
        {
            site.monitor.warn(&format!("cannot remove the side copies of `{tx}`: {error}"));
        }
    }
    Ok(())
}

fn sweep_one(site: &Site, office: &mut Office, tx: &TxId) -> Result<()> {
    let Office { dir, tmp, store, journal, .. } = office;
    let told = tell(journal, tx)?;
    if !told.state.ended().is_some_and(|outcome| outcome != Outcome::Released) {
        return Ok(());
    }
    let Ok(_lock) = lock_tx(dir, tx) else { return Ok(()) };
    let world = reopen_anyhow(journal, &|| Office::ground(dir, tmp, store, site), tx, &told.state)?;
    Driver::new(journal, world, tx.clone(), told.state, site.stop.clone()).sweep();
    Ok(())
}

/// Declares a stuck transaction settled by hand. Returns the displaced copies, none of which is deleted.
pub fn release(site: &Site, tx: &TxId, services: Services) -> Result<(Standing, Vec<PathBuf>)> {
    let mut office = Office::open(site)?;
    let lock = lock_tx(&office.dir, tx)?;
    let Office { dir, tmp, store, journal, .. } = &mut office;
    let told = tell(journal, tx)?;
    if told.state.stuck().is_none() {
        return Err(Error::new(format!("`{tx}` is not stuck"))
            .hint("only a stuck transaction is released; `txupgrade status` says where this one stands"));
    }
    let world = reopen_anyhow(journal, &|| Office::ground(dir, tmp, store, site), tx, &told.state)?;
    let scratch = world.scratch();
    let copies = world.leftovers().into_iter().filter(|path| *path != scratch).collect();
    let mut driver = Driver::new(journal, world, tx.clone(), told.state, site.stop.clone());
    if services == Services::Resume {
        driver.resume_released()?;
    }
    driver.append(Event::Ended { outcome: Outcome::Released })?;
    drop(driver);
    if let Err(error) = clear_holds(dir, tx) {
        site.monitor.warn(&error.to_string());
    }
    // Nothing was displaced into it; what cannot be removed is in nobody's way.
    let _ = files::remove_tree(&scratch);
    let _ = std::fs::remove_file(lock_path(dir, tx));
    drop(lock);
    Ok((finish(site, &mut office, tx, Wait::No)?, copies))
}
