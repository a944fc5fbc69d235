//! The power is cut in the middle (issue 4): the filesystem under the state directory, the live tree or both is shut
//! down, and everything that ran is gone. When it is mounted again only what was synced is sure to be there. After
//! `recover` the world is exactly the one before or exactly the one after, the journal and the store are whole, and
//! what a command has promised still holds.
//!
//! A kill does not show a missing fsync, since the kernel still has what was written; this does.

mod field;
mod order;

use std::time::Duration;

use field::{Field, Heard, Layout, Moment, Settled, World, alike, same};

use crate::disk::{Kind, Logged};
use crate::tree::Dice;

/// How many cuts each filesystem gets, unless [`MORE`] says otherwise.
const CUTS: u64 = 24;
/// The environment variable that says how many each gets.
const MORE: &str = "TXUPGRADE_POWER_CUTS";

/// What is under way when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Under {
    /// An upgrade that works.
    Upgrade,
    /// An upgrade that fails and turns back.
    Failing,
    /// The prune at the end of an upgrade.
    Prune,
    /// The undoing of a committed upgrade.
    Undoing,
    /// The recovery from an earlier cut.
    Recovery,
}

const ALL: [Under; 10] = [
    Under::Upgrade,
    Under::Failing,
    Under::Undoing,
    Under::Upgrade,
    Under::Recovery,
    Under::Prune,
    Under::Upgrade,
    Under::Undoing,
    Under::Failing,
    Under::Recovery,
];

/// One command, as it runs when nothing happens.
struct Course {
    arguments: &'static [&'static str],
    /// Every system call of its main thread that changes files or syncs them.
    calls: Vec<String>,
    takes: Duration,
}

impl Course {
    fn of(field: &mut Field, arguments: &'static [&'static str], status: i32) -> Course {
        let (calls, takes) = field.traced(arguments, status);
        assert!(calls.len() > 50, "{calls:?}");
        Course { arguments, calls, takes }
    }

    /// A moment somewhere in the part of it that lies between `from` and `to`, of 1.
    fn somewhere(&self, dice: &mut Dice, from: f64, to: f64) -> Moment {
        let part = from + dice.part() * (to - from);
        match dice.below(8) {
            0 => Moment::Ended,
            1 | 2 => Moment::After(self.takes.mul_f64(part)),
            _ => Moment::call(&self.calls, (self.calls.len() as f64 * part) as usize),
        }
    }
}

/// A field, and how it looks and works when nothing happens.
struct Ground {
    field: Field,
    before: World,
    after: World,
    upgrade: Course,
    failing: Course,
    undoing: Course,
}

impl Ground {
    fn new(kind: Kind, layout: Layout) -> Ground {
        let mut field = Field::new(kind, layout);
        let before = field.world().unwrap();
        let failing = Course::of(&mut field, &["run", "breaks.toml"], 3);
        assert_eq!(same(&field.world().unwrap(), &before), "");
        let upgrade = Course::of(&mut field, &["run", "works.toml"], 0);
        let after = field.world().unwrap();
        let undoing = Course::of(&mut field, &["rollback", "--yes"], 0);
        assert_eq!(same(&field.world().unwrap(), &before), "");
        Ground { field, before, after, upgrade, failing, undoing }
    }

    /// Cuts the power while `under` is under way, and settles what is left. The world is `before` again at the end.
    fn cut(&mut self, under: Under, dice: &mut Dice) -> Result<(Settled, String), String> {
        let Ground { field, before, after, upgrade, failing, undoing } = self;
        let logged = if dice.below(4) == 0 { Logged::Flushed } else { Logged::Lost };
        let mut told = String::new();
        let mut cut = |field: &mut Field, course: &Course, moment: Moment| -> Heard {
            told.push_str(&format!("{:?} cut at {moment}, logged {logged:?}; ", course.arguments));
            field.cut(course.arguments, &moment, logged)
        };
        let settled = match under {
            Under::Upgrade => {
                let heard = cut(field, upgrade, upgrade.somewhere(dice, 0.0, 1.0));
                field.settle(&heard, before, Some(after))
            }
            Under::Failing => {
                let heard = cut(field, failing, failing.somewhere(dice, 0.4, 1.0));
                field.settle(&heard, before, None)
            }
            Under::Prune => {
                let dropped = upgrade.calls.iter().position(|call| call.contains("/dropped"));
                let first = dropped.expect("an upgrade prunes what it does not keep");
                let from = first as f64 / upgrade.calls.len() as f64;
                let heard = cut(field, upgrade, upgrade.somewhere(dice, from, 1.0));
                field.settle(&heard, before, Some(after))
            }
            Under::Undoing => {
                field.run(upgrade.arguments).ends(0);
                let upgraded = field.world()?;
                let heard = cut(field, undoing, undoing.somewhere(dice, 0.0, 1.0));
                match field.settle(&heard, &upgraded, Some(before)) {
                    Ok(Settled::Before) => Ok(Settled::After),
                    Ok(Settled::After) => Ok(Settled::Before),
                    error => error,
                }
            }
            Under::Recovery => {
                // In the middle of the steps, and then in what follows it.
                let first = cut(field, upgrade, Moment::call(&upgrade.calls, upgrade.calls.len() * 6 / 10));
                field.power_on();
                let recovery = Course { arguments: &["recover"], calls: undoing.calls.clone(), takes: undoing.takes };
                cut(field, &recovery, recovery.somewhere(dice, 0.0, 0.8));
                field.settle(&first, before, Some(after))
            }
        };
        let settled = settled.map_err(|why| format!("{told}\n{why}"))?;
        if settled == Settled::After {
            let world = field.world()?;
            let differs = alike(&world, after);
            if !differs.is_empty() {
                return Err(format!("{told}\nit is not the world after an upgrade:\n{differs}"));
            }
            field.run(&["rollback", "--yes"]).ends(0);
        }
        let differs = same(&field.world()?, before);
        if !differs.is_empty() {
            return Err(format!("{told}\nit is not the world before:\n{differs}"));
        }
        Ok((settled, told))
    }
}

fn cuts(kind: Kind) {
    let asked = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let count = asked(MORE).unwrap_or(CUTS);
    let seed = asked("TXUPGRADE_SEED").unwrap_or_else(|| std::process::id().into());
    println!("TXUPGRADE_SEED={seed}");
    let mut dice = Dice(seed);
    let (mut before, mut after, mut otherwise) = (0, 0, Vec::new());
    let layouts = [Layout::Both, Layout::State, Layout::Tree];
    for (part, layout) in layouts.into_iter().enumerate() {
        let mut ground = Ground::new(kind, layout);
        for number in (part as u64..count).step_by(layouts.len()) {
            let under = ALL[usize::try_from(number).unwrap() / layouts.len() % ALL.len()];
            match ground.cut(under, &mut dice) {
                Ok((settled, told)) => {
                    println!("{kind:?} {layout:?} {number} {under:?}: {settled:?}; {told}");
                    if settled == Settled::Before { before += 1 } else { after += 1 }
                }
                Err(why) => {
                    println!("{kind:?} {layout:?} {number} {under:?}: OTHERWISE; {why}");
                    otherwise.push(why);
                    ground = Ground::new(kind, layout);
                }
            }
        }
    }
    println!(
        "power cuts on {kind:?}: {count}; before: {before}, after: {after}, otherwise: {} (seed {seed})",
        otherwise.len()
    );
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n\n"));
    assert!(before > 0);
}

/// Databases write in place and sync the bytes alone. The power cut takes the new times back and leaves the bytes.
fn in_place(kind: Kind) {
    let mut field = Field::new(kind, Layout::Both);
    let before = field.world().unwrap();
    field.migrate_by(
        "printf second | dd of=@LIVE@/data/fixed bs=6 conv=notrunc,fdatasync status=none; touch @BED@/now; sleep 60",
    );
    let heard = field.cut(&["run", "works.toml"], &Moment::Seen("now"), Logged::Lost);
    field.power_on();
    let torn = field.world().unwrap();
    let stamp = |world: &World| world.of("data/fixed").split(' ').take(3).collect::<Vec<_>>().join(" ");
    assert_eq!(stamp(&torn), stamp(&before));
    assert_ne!(torn.of("data/fixed"), before.of("data/fixed"), "the bytes are new");
    assert_eq!(field.settle(&heard, &before, None).unwrap(), Settled::Before);
}

#[test]
fn bytes_that_are_new_under_old_times_are_put_back_on_ext4() {
    in_place(Kind::Ext4);
}

#[test]
fn bytes_that_are_new_under_old_times_are_put_back_on_xfs() {
    in_place(Kind::Xfs);
}

#[test]
fn whenever_the_power_goes_on_ext4_it_is_before_or_after() {
    cuts(Kind::Ext4);
}

#[test]
fn whenever_the_power_goes_on_xfs_it_is_before_or_after() {
    cuts(Kind::Xfs);
}
