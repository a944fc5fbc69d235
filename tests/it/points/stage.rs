//! A scenario on its ground, disturbed again and again; and what has to hold afterwards.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::bed::Said;
use crate::tree::{Inventory, differences};

use super::ground::{self, Ground};
use super::scenario::{After, Prepared, Scenario};
use super::table::{Row, World};
use super::trace::{Fault, Point};

/// The copy of the ground that every fault begins with.
const START: &str = "start";
/// The exit status of who was killed.
const KILLED: i32 = 137;

pub const ERRORS: [(i32, &str); 3] = [(libc::ENOSPC, "ENOSPC"), (libc::EIO, "EIO"), (libc::EACCES, "EACCES")];

/// A scenario on its ground.
pub struct Stage<'a> {
    scenario: &'a Scenario,
    pub ground: Ground,
    prepared: Prepared,
    /// What comes out when nothing goes wrong, where that is another world.
    after: Option<ground::World>,
    /// The points that are passed then.
    pub points: Vec<Point>,
    /// The transactions that there are before the one that is disturbed.
    known: usize,
}

/// How it ended, when that is not otherwise.
struct Settled {
    world: World,
    /// Where `recover` alone did not settle it: at what it was stuck.
    stuck: Option<String>,
}

impl<'a> Stage<'a> {
    pub fn set(scenario: &'a Scenario) -> Stage<'a> {
        let ground = Ground::new();
        let prepared = (scenario.prepare)(&ground);
        ground.keep(START);
        // What is carried on was begun in the preparation.
        let ended = ["committed", "rolled-back", "aborted", "unsound"];
        let known = ground.history().unwrap().iter().filter(|place| ended.contains(&place.as_str())).count();
        let (said, points) = ground.traced(scenario.command, Fault::Nowhere);
        said.ends(scenario.status);
        if ground.run(&["status"]).status == 10 {
            ground.run(scenario.word).ends(0);
        }
        let world = ground.world();
        let after = (!same(&world, &prepared.before).is_empty()).then_some(world);
        assert_eq!(ground.leftovers(), Vec::<PathBuf>::new());
        Stage { scenario, ground, prepared, after, points, known }
    }

    /// Lets a fault happen, and a second one while it recovers from the first, and counts where that led to.
    pub fn disturb(&self, first: Fault, second: Fault, row: &mut Row) {
        let mut at = None;
        let run = |ground: &Ground| {
            let (said, points) = ground.traced(self.scenario.command, first);
            at = points.into_iter().last();
            if second != Fault::Nowhere {
                ground.traced(&["recover"], second);
            }
            said
        };
        let (world, stuck) = self.disturbed_by(run, &[0, 1, 3, 4, 5]);
        row.count(&Deed { scenario: self.scenario, first, at, second }, world, stuck);
    }

    /// Begins anew, lets `run` run the command in its way, and looks where that led to. `statuses` are those that it may
    /// end with where it is not killed.
    pub fn disturbed_by(&self, run: impl FnOnce(&Ground) -> Said, statuses: &[i32]) -> (World, Option<String>) {
        self.ground.reset(START);
        let said = run(&self.ground);
        let told = format!("it ended with {}, and said:\n{}{}", said.status, said.out, said.err);
        let settled = match said.status {
            KILLED => self.settle(&said),
            status if statuses.contains(&status) => self.settle(&said),
            _ => Err("that is no exit status for a failure".to_owned()),
        };
        match settled {
            Ok(settled) => (settled.world, settled.stuck),
            Err(why) => (World::Otherwise(format!("{why}\n{told}")), None),
        }
    }

    /// Recovers, and looks at everything.
    fn settle(&self, said: &Said) -> Result<Settled, String> {
        let ground = &self.ground;
        let recovered = ground.run(&["recover"]);
        let told = format!("recover ended with {}, and said:\n{}{}", recovered.status, recovered.out, recovered.err);
        let died = said.status == KILLED;
        let settle = || -> Result<Settled, String> {
            let mut known = self.known;
            let stuck = match recovered.status {
                0 => None,
                // What failed on the way back has to be tried again by a person.
                5 if !died => {
                    ends(ground, &["rollback"], &[0, 4])?;
                    ends(ground, &["recover"], &[0])?;
                    Some(recovered.err.replace('\n', "; "))
                }
                4 if !died => None,
                10 if !self.scenario.word.is_empty() => {
                    ends(ground, self.scenario.word, &[0])?;
                    None
                }
                _ => return Err("recover does not settle it".to_owned()),
            };
            let place = ground.history()?.first().cloned().unwrap_or_default();
            if self.scenario.command[0] == "rollback" && place == "unsound" && !died {
                // Some of what it had undone nobody does again; so it is undone whole, now that nothing fails.
                ends(ground, self.scenario.command, &[0])?;
                known += 1;
            }
            let world = self.look(known)?;
            // What it said of itself has to be true; what `recover` said is true of what it found.
            let claims = match (said.status, &world) {
                _ if self.scenario.command == ["recover"] || self.after.is_none() || recovered.status == 10 => None,
                (1 | 3, World::After) => Some("its exit status says that nothing was changed"),
                (0, World::Before) if self.scenario.status == 0 => Some("its exit status says that it was done"),
                _ => None,
            };
            claims.map_or(Ok(Settled { world, stuck }), |claims| Err(claims.to_owned()))
        };
        settle().map_err(|why| format!("{why}\n{told}"))
    }

    /// Whether everything is as it was before or as it is to be afterwards, as the journal says.
    fn look(&self, known: usize) -> Result<World, String> {
        let ground = &self.ground;
        let history = ground.history()?;
        if history.len() > known + 1 {
            return Err(format!("there are too many transactions: {history:?}"));
        }
        if ground.bed.exists("state/store") {
            ends(ground, &["store", "verify"], &[0])?;
        }
        let outcome = if history.len() > known { history[0].as_str() } else { "not begun" };
        let wanted = match (outcome, &self.after) {
            ("committed", Some(_)) => World::After,
            ("committed", None) if self.scenario.command[0] == "run" => return Err("it must not commit".to_owned()),
            ("committed" | "aborted" | "rolled-back" | "unsound" | "not begun", _) => World::Before,
            (other, _) => return Err(format!("it is not settled but `{other}`")),
        };
        let world = ground.world();
        let unlike = match (&wanted, &self.after) {
            (World::After, Some(after)) if self.scenario.after == After::AnyTime => {
                same(&timeless(&world), &timeless(after))
            }
            (World::After, Some(after)) => same(&world, after),
            _ => same(&world, &self.prepared.before),
        };
        if !unlike.is_empty() {
            return Err(format!("it is told to be `{outcome}`, and differs:\n{unlike}"));
        }
        let left: Vec<String> = ground.leftovers().iter().map(|path| path.display().to_string()).collect();
        let left = if left.is_empty() { ground.strangers() } else { left };
        if !left.is_empty() {
            return Err(format!("left behind: {left:?}"));
        }
        if let Some(back) = &self.prepared.back {
            ends(ground, &["rollback", "--yes"], &[0])?;
            let unlike = same(&ground.world(), back);
            if !unlike.is_empty() {
                return Err(format!("a snapshot that is kept is not what it was:\n{unlike}"));
            }
        }
        Ok(wanted)
    }

    /// How many points a recovery passes after this fault.
    pub fn points_of_recovery(&self, first: Fault) -> usize {
        self.ground.reset(START);
        self.ground.traced(self.scenario.command, first);
        self.ground.traced(&["recover"], Fault::Nowhere).1.len()
    }

    /// Some of the points: one of each kind, as far as there is room, and then more of them, spread over all.
    pub fn some(&self, wanted: usize, dice: &mut crate::tree::Dice) -> BTreeSet<usize> {
        let points = &self.points;
        if wanted >= points.len() {
            return (0..points.len()).collect();
        }
        let numbers = regex::Regex::new(r"[0-9a-f]*[0-9][0-9a-f]*").unwrap();
        let mut kinds = BTreeSet::new();
        let mut firsts: Vec<usize> = (0..points.len())
            .filter(|&at| kinds.insert((points[at].call, numbers.replace_all(&points[at].target, "#").into_owned())))
            .collect();
        while firsts.len() > wanted / 2 {
            firsts.remove(dice.below(firsts.len() as u64) as usize);
        }
        let parts = wanted - firsts.len();
        let spread = (0..parts).map(|part| (part as f64 + dice.part()) / parts as f64 * points.len() as f64);
        let spread: Vec<usize> = spread.map(|at| at as usize).collect();
        firsts.into_iter().chain(spread).collect()
    }
}

/// Runs a command that has to end with one of `statuses`.
fn ends(ground: &Ground, command: &[&str], statuses: &[i32]) -> Result<(), String> {
    let said = ground.run(command);
    if statuses.contains(&said.status) {
        return Ok(());
    }
    Err(format!("`{}` ends with {}:\n{}{}", command.join(" "), said.status, said.out, said.err))
}

/// How two worlds differ; empty when they do not.
fn same(left: &ground::World, right: &ground::World) -> String {
    let mut told = differences(&left.tree, &right.tree);
    for (left, right) in [(&left.database, &right.database), (&left.services, &right.services)] {
        if left != right {
            told.push_str(&format!("{left}\nis not\n{right}\n"));
        }
    }
    told
}

/// A world without the times at which things were made.
fn timeless(world: &ground::World) -> ground::World {
    let time = regex::Regex::new(r" \d+\.\d{9}").unwrap();
    let line = |(path, line): (&PathBuf, &String)| (path.clone(), time.replace(line, "").into_owned());
    ground::World { tree: world.tree.iter().map(line).collect::<Inventory>(), ..world.clone() }
}

/// What was done, for people.
struct Deed<'a> {
    scenario: &'a Scenario,
    first: Fault,
    /// The point at which the first happened.
    at: Option<Point>,
    second: Fault,
}

impl fmt::Display for Deed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.scenario.name, told(self.first))?;
        if let Some(Point { call, target }) = &self.at {
            write!(f, " ({call} {})", Path::new(target).display())?;
        }
        if self.second != Fault::Nowhere {
            write!(f, ", and its recovery {}", told(self.second))?;
        }
        Ok(())
    }
}

fn told(fault: Fault) -> String {
    let name = |error| ERRORS.iter().find(|(number, _)| *number == error).map_or("?", |(_, name)| name);
    match fault {
        Fault::Nowhere => "undisturbed".to_owned(),
        Fault::Kill(at) => format!("killed at {at}"),
        Fault::Fail(at, error) => format!("{} at {at}", name(error)),
        Fault::FailOn(from, error) => format!("{} from {from} on", name(error)),
    }
}
