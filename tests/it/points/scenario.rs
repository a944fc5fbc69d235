//! What is disturbed: a command, and the ground on which it begins.

use super::ground::{Ground, World};
use crate::tree::noise;

/// A command that is disturbed.
pub struct Scenario {
    pub name: &'static str,
    /// Makes the ground for it.
    pub prepare: fn(&Ground) -> Prepared,
    pub command: &'static [&'static str],
    /// Its exit status when nothing goes wrong.
    pub status: i32,
    /// How exactly the world *after* is the same each time.
    pub after: After,
    /// What is said to the transaction where it is open afterwards, so that it ends.
    pub word: &'static [&'static str],
}

/// The ground as it was prepared.
pub struct Prepared {
    /// What *before* means.
    pub before: World,
    /// The world to which a rollback has to lead when all is settled: that a snapshot which has to be kept is whole.
    pub back: Option<World>,
}

/// How exactly the world *after* is the same each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// But for the times at which things were made.
    AnyTime,
    /// In everything.
    Exactly,
}

/// One that begins on the ground as it is, and does what it is told.
const PLAIN: Scenario = Scenario {
    name: "",
    prepare: |ground| Prepared::at(ground.world()),
    command: &[],
    status: 0,
    after: After::Exactly,
    word: &[],
};

pub const ALL: &[Scenario] = &[
    Scenario { name: "the first run", command: &["run", "plan.toml"], after: After::AnyTime, ..PLAIN },
    Scenario {
        name: "a run that prunes",
        prepare: |ground| {
            for text in ["one", "two"] {
                ground.bed.write("live/app/note", text);
                ground.run(&["snapshot", "plan.toml"]).ends(0);
            }
            Prepared::at(ground.world())
        },
        command: &["run", "plan.toml"],
        after: After::AnyTime,
        ..PLAIN
    },
    Scenario {
        name: "a run that fails",
        prepare: |ground| {
            ground.run(&["snapshot", "plan.toml"]).ends(0);
            ground.bed.write("broken", "");
            Prepared::at(ground.world())
        },
        command: &["run", "plan.toml"],
        status: 3,
        ..PLAIN
    },
    Scenario {
        name: "the undoing of a run",
        prepare: |ground| {
            ground.run(&["run", "plan.toml"]).ends(0);
            Prepared::at(ground.world())
        },
        command: &["rollback", "--yes"],
        ..PLAIN
    },
    Scenario {
        name: "recover, back",
        prepare: |ground| {
            let before = ground.world();
            ground.bed.write("kill-in-migrate", "");
            ground.run(&["run", "plan.toml"]).ends(137);
            Prepared::at(before)
        },
        command: &["recover"],
        ..PLAIN
    },
    Scenario {
        name: "recover, forward",
        prepare: |ground| {
            let before = ground.world();
            ground.bed.write("kill-in-start", "");
            ground.run(&["run", "plan.toml"]).ends(137);
            Prepared::at(before)
        },
        command: &["recover"],
        ..PLAIN
    },
    Scenario { name: "begin", command: &["begin", "plan.toml"], word: &["rollback"], ..PLAIN },
    Scenario { name: "the commit of an open one", prepare: open, command: &["commit"], word: &["commit"], ..PLAIN },
    Scenario {
        name: "the turning back of an open one",
        prepare: open,
        command: &["rollback"],
        word: &["rollback"],
        ..PLAIN
    },
    Scenario {
        name: "a run over programs that fails",
        prepare: |ground| {
            ground.use_programs();
            ground.bed.write("broken", "");
            Prepared::at(ground.world())
        },
        command: &["run", "plan.toml"],
        status: 3,
        ..PLAIN
    },
    Scenario { name: "store prune", prepare: prunable, command: &["store", "prune"], ..PLAIN },
    Scenario { name: "store reindex", prepare: prunable, command: &["store", "reindex"], ..PLAIN },
    Scenario {
        name: "an index of another format",
        prepare: |ground| {
            let prepared = prunable(ground);
            let index = rusqlite::Connection::open(ground.bed.state().join("store/index.db")).unwrap();
            index.execute_batch("pragma user_version = 0").unwrap();
            Prepared { back: None, ..prepared }
        },
        command: &["snapshot", "plan.toml"],
        ..PLAIN
    },
];

impl Prepared {
    fn at(before: World) -> Prepared {
        Prepared { before, back: None }
    }
}

/// An open transaction, its steps done.
fn open(ground: &Ground) -> Prepared {
    let before = ground.world();
    ground.run(&["begin", "plan.toml"]).ends(0);
    ground.run(&["apply"]).ends(0);
    Prepared::at(before)
}

/// A store with an archive of which nothing is needed, one of which less than half is, and a snapshot that is needed.
fn prunable(ground: &Ground) -> Prepared {
    let plan = ground.bed.read("plan.toml");
    // What would be dropped at the end of each transaction stays.
    ground.bed.write("plan.toml", plan.split("[policy]").next().unwrap());
    let aborted = |command: &[&str], seed: u64, bytes: usize| {
        std::fs::write(ground.bed.path("live/app/junk"), noise(seed, bytes)).unwrap();
        ground.bed.write("no-stop", "");
        ground.run(command).ends(1);
        for name in ["live/app/junk", "no-stop"] {
            std::fs::remove_file(ground.bed.path(name)).unwrap();
        }
    };
    aborted(&["run", "plan.toml"], 1, 2_000_000);
    let back = ground.world();
    ground.run(&["run", "plan.toml"]).ends(0);
    aborted(&["snapshot", "plan.toml"], 2, 1000);
    Prepared { before: ground.world(), back: Some(back) }
}
