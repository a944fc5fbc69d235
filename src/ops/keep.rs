//! Which transactions' snapshots the store keeps: `[policy] keep`, and what is never dropped.
//!
//! Open and stuck transactions, the last that committed and the last upgrade and snapshot in effect of each plan are never dropped.
//! `keep = N` keeps the last N committed upgrades and snapshots; the snapshot of a rollback goes with what it undid. Without `keep`
//! only what was aborted goes, and only when a person prunes. The texts of plans stay.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::Site;
use super::office::{Office, Told, tell};
use super::rollback::in_effect;
use crate::error::{Error, Fault, Result};
use crate::journal::Journal;
use crate::name::{Name, TxId};
use crate::plan::Plan;
use crate::store::{Keep, ManifestInfo, ObjectId, Pruned, Pruning, Store};
use crate::tx::{Action, Outcome, Purpose};

/// Who asks what is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// A person: what was aborted goes, too.
    Person,
    /// The end of a transaction: of a plan without `keep` nothing is dropped.
    Policy,
}

/// What the store has to keep.
pub(super) fn kept(journal: &dyn Journal, store: &Store, asks: Asks) -> Result<Keep> {
    let mut all = Vec::new();
    for tx in journal.transactions()? {
        all.push(tell(journal, &tx)?);
    }
    let mut keep = Keep::default();
    keep.manifests.extend(older(&all, store)?.iter().map(|info| info.id));
    let dropped = store.dropped()?;
    let fates = fates(&all, asks, &|told| policy(store, told));
    for (told, fate) in all.iter().zip(fates) {
        if let Ok(plan) = told.state.begun().plan.parse::<ObjectId>()
            && store.has(plan)?
        {
            keep.objects.push(plan);
        }
        for (task, output) in told.state.outputs() {
            let Some(manifest) = output.manifest.as_ref().and_then(|text| text.parse::<ObjectId>().ok()) else {
                continue;
            };
            let wanted = match fate {
                Fate::Whole => true,
                Fate::Kept | Fate::Wanted => task.action == Action::Capture,
                Fate::Dropped => false,
            };
            // What is gone already cannot be kept; of what must never go that is damage, which the prune will find.
            let there = !dropped.contains(&manifest) && (fate != Fate::Wanted || store.has(manifest)?);
            if !wanted {
                keep.not.push(manifest);
            } else if there {
                keep.manifests.push(manifest);
            }
        }
    }
    Ok(keep)
}

/// What was captured before the journal begins: another one told of it, which is gone. Nobody knows whether it is needed.
fn older(all: &[Told], store: &Store) -> Result<Vec<ManifestInfo>> {
    let Some(first) = all.iter().filter_map(|told| told.recorded.first()).min_by_key(|event| event.seq) else {
        return store.list_manifests();
    };
    Ok(store.list_manifests()?.into_iter().filter(|info| info.head.at < first.at).collect())
}

/// The transactions of which something was captured before the journal begins.
pub(super) fn unknown(journal: &dyn Journal, store: &Store) -> Result<Vec<String>> {
    let all = journal.transactions()?.iter().map(|tx| tell(journal, tx)).collect::<Result<Vec<Told>>>()?;
    let mut names: Vec<String> = older(&all, store)?.into_iter().map(|info| info.head.tx).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// What becomes of a transaction's snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Everything that was captured stays, precaptures included.
    Whole,
    /// It is never dropped.
    Kept,
    /// It is kept for now.
    Wanted,
    /// It goes.
    Dropped,
}

fn fates(all: &[Told], asks: Asks, policy: &dyn Fn(&Told) -> Option<usize>) -> Vec<Fate> {
    let in_effect = in_effect(all);
    let mut plans: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
    for (index, told) in all.iter().enumerate() {
        plans.entry(&told.tx.plan).or_default().push(index);
    }
    let mut fates = vec![Fate::Wanted; all.len()];
    for of_plan in plans.values() {
        let committed = |index: &&usize| all[**index].state.ended() == Some(Outcome::Committed);
        let returns = |index: &&usize| all[**index].state.itinerary().purpose != Purpose::Rollback;
        let counted: Vec<usize> = of_plan.iter().filter(committed).filter(returns).copied().collect();
        let last = of_plan.iter().rfind(committed).copied();
        let keep = last.or(of_plan.last().copied()).and_then(|index| policy(&all[index]));
        let mut never: HashSet<usize> = last.into_iter().collect();
        for purpose in [Purpose::Upgrade, Purpose::Snapshot] {
            let of_purpose = |index: &&usize| all[**index].state.itinerary().purpose == purpose;
            never.extend(counted.iter().rfind(of_purpose));
        }
        never.extend(counted.iter().rfind(|index| in_effect[**index]));
        let oldest = match keep {
            Some(keep) if counted.len() > keep => counted[counted.len() - keep],
            _ => 0,
        };
        for &index in of_plan {
            let state = &all[index].state;
            fates[index] = match state.ended() {
                None => Fate::Whole,
                Some(_) if keep.is_none() && asks == Asks::Policy => Fate::Whole,
                Some(_) if never.contains(&index) => Fate::Kept,
                Some(Outcome::Aborted) => Fate::Dropped,
                Some(Outcome::Committed) if state.itinerary().purpose == Purpose::Rollback => {
                    let undone = |other: &&usize| state.begun().undoes.contains(&all[**other].tx.to_string());
                    let with = of_plan.iter().find(undone);
                    // What it undid is older, so its fate is known.
                    with.map_or(
                        Fate::Wanted,
                        |with| if fates[*with] == Fate::Dropped { Fate::Dropped } else { Fate::Wanted },
                    )
                }
                Some(_) if index < oldest => Fate::Dropped,
                Some(_) => Fate::Wanted,
            };
        }
    }
    fates
}

/// `keep` of the plan that a transaction was begun with; `None` as well where that plan cannot be read: then nothing of it goes.
fn policy(store: &Store, told: &Told) -> Option<usize> {
    let begun = told.state.begun();
    let text = String::from_utf8(store.get(begun.plan.parse().ok()?).ok()?).ok()?;
    let plan = Plan::parse(&text, Path::new(&begun.path), &begun.set).ok()?;
    plan.policy.keep.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX))
}

/// Carries `[policy] keep` out after a transaction has ended. Whatever goes wrong is only told.
pub(super) fn carry_out(site: &Site, office: &mut Office, tx: &TxId) {
    let mut prune = || -> Result<Option<Pruned>> {
        let told = tell(&office.journal, tx)?;
        if told.state.ended().is_none() || policy(&office.store, &told).is_none() {
            return Ok(None);
        }
        office.alone(site, |store, journal| {
            let keep = kept(journal, store, Asks::Policy)?;
            store.prune(&keep, Pruning::Done, &|_, _| Ok(())).map(Some)
        })
    };
    match prune() {
        Ok(Some(pruned)) if !pruned.manifests.is_empty() => {
            let mut names: Vec<String> = pruned.manifests.iter().map(|info| format!("`{}`", info.head.tx)).collect();
            names.dedup();
            site.monitor.said(tx, &format!("as `keep` says, the snapshots of {} were dropped", names.join(", ")));
        }
        Ok(_) => {}
        Err(error) if error.fault == Fault::Locked => {
            site.monitor.said(tx, "another process works in the store: what `keep` drops goes with the next upgrade");
        }
        Err(error) => site.monitor.warn(&format!("cannot drop what `keep` does not keep: {error}")),
    }
}

/// Refuses what needs a snapshot that was pruned.
pub(super) fn refuse_pruned(store: &Store, told: &Told) -> Result<()> {
    let dropped = store.dropped()?;
    let mut captured = told.state.captured();
    let gone = captured.any(|(_, output)| {
        output.manifest.as_ref().and_then(|text| text.parse().ok()).is_some_and(|id: ObjectId| dropped.contains(&id))
    });
    if !gone {
        return Ok(());
    }
    Err(Error::new(format!("the snapshot of `{}` was pruned: what it captured is no longer in the store", told.tx))
        .hint("`txupgrade store list` shows the snapshots that are there")
        .hint("`[policy] keep` of the plan says how many are kept"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::Notebook;

    fn all(notebook: &Notebook) -> Vec<Told> {
        let journal = &notebook.journal;
        journal.transactions().unwrap().iter().map(|tx| tell(journal, tx).unwrap()).collect()
    }

    fn of(notebook: &Notebook, asks: Asks, keep: Option<usize>) -> Vec<Fate> {
        fates(&all(notebook), asks, &|_| keep)
    }

    #[test]
    fn keep_counts_committed_upgrades_of_the_plan() {
        use Fate::{Dropped, Kept, Wanted, Whole};
        let mut notebook = Notebook::new();
        notebook.commits("notes");
        notebook.rolls_back("notes");
        notebook.commits("notes");
        notebook.rolls_back("notes");
        notebook.commits("notes");
        notebook.commits("shop");
        notebook.begin("notes");
        assert_eq!(of(&notebook, Asks::Policy, Some(1)), [Dropped, Dropped, Dropped, Dropped, Kept, Kept, Whole]);
        assert_eq!(of(&notebook, Asks::Policy, Some(2)), [Dropped, Dropped, Wanted, Wanted, Kept, Kept, Whole]);
        assert_eq!(of(&notebook, Asks::Person, Some(3)), [Wanted, Wanted, Wanted, Wanted, Kept, Kept, Whole]);
    }

    #[test]
    fn without_keep_nothing_that_came_to_an_end_is_dropped() {
        let mut notebook = Notebook::new();
        notebook.commits("notes");
        notebook.rolls_back("notes");
        notebook.commits("notes");
        assert_eq!(of(&notebook, Asks::Policy, None), [Fate::Whole; 3]);
        assert_eq!(of(&notebook, Asks::Person, None), [Fate::Wanted, Fate::Wanted, Fate::Kept]);
    }
}
