//! Who takes back what nobody confirms: a process of its own, and with systemd a timer as well.
//!
//! The process has the environment that the plan may read secrets from, and notices at once when a machine that was
//! suspended goes on. The timer outlives a session whose processes are ended, and whoever ends the process. Whichever
//! comes first acts: it holds the transaction's lock, and the journal tells the other what has been done. Where both
//! are gone, the next command starts them again, and `recover` acts itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Site;
use super::carry_on::settle;
use super::office::{Office, Reading, lock_tx, tell};
use super::reopen::reopen_anyhow;
use crate::engine::{Driver, remaining};
use crate::error::{Fault, Result};
use crate::journal::Journal;
use crate::name::TxId;
use crate::sys::detached;
use crate::sys::lock::{Lock, Mode};
use crate::tx::{Heading, Reason, State};

/// How long a keeper sleeps at most before it looks again.
const NAP: Duration = Duration::from_secs(1);

/// Sees to it that every transaction that waits for its confirmation has a keeper. One that cannot be started fails
/// nothing: `recover` takes back what has none.
pub(super) fn watch_over(site: &Site, dir: &Path, journal: &dyn Journal) {
    let watch = |tx: &TxId| -> Result<()> {
        match tell(journal, tx)?.state.awaiting() {
            Some(awaiting) if Lock::held(&keeper_path(dir, tx))?.is_none() => {
                keep_watch(site, tx, remaining(awaiting).unwrap_or_default())
            }
            _ => Ok(()),
        }
    };
    for tx in journal.unfinished().unwrap_or_default() {
        if let Err(error) = watch(&tx) {
            site.monitor.warn(&format!("nothing takes `{tx}` back in time; `txupgrade recover` does: {error}"));
        }
    }
}

/// Starts the keeper of a transaction whose time is over after `left`.
pub(super) fn keep_watch(site: &Site, tx: &TxId, left: Duration) -> Result<()> {
    let dir = site.dir.as_os_str().to_owned();
    let arguments = ["--state-dir".into(), dir, "keep-watch".into(), tx.to_string().into()];
    // Where there is no systemd the process is all there is.
    let _ = detached::start_self_after(left, &unit(site, tx), &arguments);
    detached::start_self(&arguments)
}

/// What the timer of a transaction is called: two state directories may both have a `notes-3`.
fn unit(site: &Site, tx: &TxId) -> String {
    let dir = std::fs::canonicalize(&site.dir).unwrap_or_else(|_| site.dir.clone());
    let place = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    format!("txupgrade-keep-{tx}-{}", &place[..8])
}

/// The file that is locked while a keeper of the transaction lives.
fn keeper_path(dir: &Path, tx: &TxId) -> PathBuf {
    dir.join("locks").join(format!("{tx}.keeper.lock"))
}

/// What a keeper does: waits until the time to confirm is over, and turns back what was not confirmed. A
/// transaction that was settled meanwhile is left alone. Of several keepers one acts; the others see to it that it
/// does not stop half-way.
pub fn keep_until_due(site: &Site, tx: &TxId) -> Result<()> {
    let mut watch = None;
    // Told to stop, it goes: the next command starts another.
    while site.stop.signal().is_none() {
        let nap = match look(site, tx, &mut watch) {
            Ok(Some(nap)) => nap,
            Ok(None) => break,
            Err(error) if error.fault == Fault::Damage => return Err(error),
            // A disk that is full now may have room later.
            Err(_) => NAP,
        };
        std::thread::sleep(nap.min(NAP));
    }
    Ok(())
}

/// Looks once, and acts when it is time; says after which time to look again, `None` when there is nothing to wait for.
fn look(site: &Site, tx: &TxId, watch: &mut Option<Lock>) -> Result<Option<Duration>> {
    const SOON: Duration = Duration::from_millis(200);
    let Some(reading) = Reading::open(site)? else { return Ok(None) };
    let state = tell(&reading.journal, tx)?.state;
    let left = match state.awaiting().map(remaining) {
        Some(left) => left,
        None if is_being_taken_back(&state) => None,
        None => {
            if watch.take().is_some() {
                let _ = std::fs::remove_file(keeper_path(&reading.dir, tx));
            }
            return Ok(None);
        }
    };
    if watch.is_none() {
        *watch = Lock::take(&keeper_path(&reading.dir, tx), Mode::Alone, &format!("the keeper of `{tx}`")).ok();
    }
    if left.is_none() {
        match take_back(site, tx) {
            Err(error) if error.fault == Fault::Locked => {}
            done => done?,
        }
    }
    Ok(Some(left.unwrap_or(SOON)))
}

fn is_being_taken_back(state: &State) -> bool {
    *state.heading() == Heading::Backward(Reason::NotConfirmed) && !state.is_settled()
}

fn take_back(site: &Site, tx: &TxId) -> Result<()> {
    let mut office = Office::open(site)?;
    let _lock = lock_tx(&office.dir, tx)?;
    let Office { dir, tmp, store, journal, .. } = &mut office;
    let told = tell(journal, tx)?;
    if told.state.awaiting().is_none() && !is_being_taken_back(&told.state) {
        return Ok(());
    }
    let world = reopen_anyhow(journal, &|| Office::ground(dir, tmp, store, site), tx, &told.state)?;
    let mut driver = Driver::new(journal, world, tx.clone(), told.state, site.stop.clone());
    driver.take_over()?;
    driver.turn_back_if_unconfirmed()?;
    settle(&mut driver)
}
