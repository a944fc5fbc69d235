//! `kill -9` of txupgrade alone, at moments that nobody chose, while it upgrades the demo's application (issue 2).
//! After `recover` the world is exactly the one before or exactly the one after, and the journal says which; the
//! server answers, and nothing of what was interrupted is left, neither processes nor files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use txupgrade::ops::demo::{self, Ground};

use crate::bed::{Bed, Said};
use crate::tree::{Dice, differences, inventory};

/// The demo's application in a bed; stopped when it is dropped.
struct Field {
    bed: Bed,
    ground: Ground,
}

/// All of the application that an upgrade may change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    code: BTreeMap<PathBuf, String>,
    database: String,
    front: String,
}

impl Drop for Field {
    fn drop(&mut self) {
        let _ = self.ground.tear_down();
    }
}

impl Field {
    fn new() -> Field {
        let bed = Bed::new();
        let ground = demo::lay_out(&bed.path("ground")).unwrap();
        Field { bed, ground }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bed.command(arguments);
        // A python that is found through a wrapper takes four times as long to start.
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = [OsStr::new("/usr/bin"), OsStr::new("/bin"), &paths].map(OsStr::as_bytes).join(&b':');
        command.env("PATH", OsStr::from_bytes(&paths));
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Runs it and kills it after a while; false when it had ended by itself.
    fn killed(&self, arguments: &[&str], after: Duration) -> bool {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        let running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        running
    }

    fn works(&self) -> String {
        self.ground.plans.works.display().to_string()
    }

    fn breaks(&self) -> String {
        self.ground.plans.breaks.display().to_string()
    }

    #[track_caller]
    fn world(&self) -> World {
        let mut code = inventory(&self.ground.home);
        code.retain(|path, _| !path.starts_with("cache"));
        let dump = Command::new("sqlite3").arg(self.ground.dir.join("data/notes.db")).arg(".dump").output().unwrap();
        assert!(dump.status.success());
        let page = self.ground.page("/").unwrap();
        assert_eq!(page.status, 200, "{}", page.text);
        World { code, database: String::from_utf8(dump.stdout).unwrap(), front: page.text }
    }

    /// Where each transaction is, the latest first, as the journal has it.
    #[track_caller]
    fn history(&self) -> Vec<String> {
        let said = self.run(&["history", "--verify", "--json"]);
        let said: serde_json::Value = serde_json::from_str(&said.ends(0).out).unwrap();
        let place = |past: &serde_json::Value| past["place"].as_str().unwrap().to_owned();
        said["transactions"].as_array().unwrap().iter().map(place).collect()
    }

    /// The processes that have to do with this bed, beside the server that is meant to run.
    fn strangers(&self) -> Vec<String> {
        let server = fs::read_to_string(self.ground.dir.join("run/notes.pid")).unwrap_or_default();
        let here = self.bed.path("");
        let here = here.as_os_str().as_bytes().strip_suffix(b"/").unwrap();
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let pid = process.file_name();
            let read = |what: &str| fs::read(process.path().join(what)).unwrap_or_default();
            let (words, variables) = (read("cmdline"), read("environ"));
            let ours = |bytes: &[u8]| bytes.windows(here.len()).any(|window| window == here);
            if pid.as_bytes()[0].is_ascii_digit()
                && server.trim().as_bytes() != pid.as_bytes()
                && (ours(&words) || ours(&variables))
            {
                found.push(format!("{} {}", pid.display(), String::from_utf8_lossy(&words).replace('\0', " ")));
            }
        }
        found
    }

    /// Files that a transaction makes for itself and has to remove.
    fn leftovers(&self) -> Vec<PathBuf> {
        let side = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".txupgrade-"));
        let ground = walkdir::WalkDir::new(&self.ground.dir).into_iter().map(|entry| entry.unwrap().into_path());
        let tmp = walkdir::WalkDir::new(self.bed.state().join("tmp")).min_depth(1).into_iter();
        ground.filter(|path| side(path)).chain(tmp.flatten().map(walkdir::DirEntry::into_path)).collect()
    }

    /// `recover` settles everything; what it leaves is one of two worlds, as the journal says of the transaction that
    /// was begun since there were `known`, if one was.
    #[track_caller]
    fn settles(&self, before: &World, after: Option<&World>, known: usize) -> Settled {
        let said = self.run(&["recover"]).ends(0);
        let history = self.history();
        assert!(history.len() - known <= 1);
        let outcome = if history.len() > known { history[0].as_str() } else { "not begun" };
        let world = self.world();
        let settled = match outcome {
            "committed" => Settled::After,
            "aborted" | "rolled-back" | "not begun" => Settled::Before,
            other => panic!("it is not settled but `{other}`; recover said:\n{}", said.err),
        };
        let told = format!("outcome `{outcome}`, recover said:\n{}{}", said.out, said.err);
        match (settled, after) {
            (Settled::After, Some(after)) => assert_eq!(alike(&world, after), "", "{told}"),
            (Settled::After, None) => panic!("it must not commit: {told}"),
            (Settled::Before, _) => assert_eq!(same(&world, before), "", "{told}"),
        }
        // What was killed is ended, not only asked to end; the kernel may need a moment to take it away.
        let patience = Instant::now() + Duration::from_secs(2);
        while !self.strangers().is_empty() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.strangers(), Vec::<String>::new(), "{told}");
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new(), "{told}");
        self.run(&["status"]).ends(0);
        settled
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Before,
    After,
}

/// How two worlds differ in anything at all.
fn same(left: &World, right: &World) -> String {
    differences(&left.code, &right.code) + &unlike(left, right)
}

/// How two worlds differ that were made by the same upgrade at different times.
fn alike(left: &World, right: &World) -> String {
    let timeless = |world: &World| {
        let time = regex::Regex::new(r" \d+\.\d{9}").unwrap();
        world.code.iter().map(|(path, line)| (path.clone(), time.replace(line, "").into_owned())).collect()
    };
    differences(&timeless(left), &timeless(right)) + &unlike(left, right)
}

fn unlike(left: &World, right: &World) -> String {
    let mut told = String::new();
    for (what, left, right) in
        [("database", &left.database, &right.database), ("front page", &left.front, &right.front)]
    {
        if left != right {
            told.push_str(&format!("the {what} differs:\n{left}\nis not\n{right}\n"));
        }
    }
    told
}

/// Moments spread over a time: one somewhere in each of `count` equal parts.
fn moments(dice: &mut Dice, over: Duration, count: u32) -> Vec<Duration> {
    (0..count).map(|part| over.mul_f64((f64::from(part) + dice.part()) / f64::from(count))).collect()
}

/// The application before the upgrade, after it, and how long it takes there and back.
fn there_and_back(field: &Field) -> (World, World, Duration, Duration) {
    let before = field.world();
    let clock = Instant::now();
    field.run(&["run", &field.works()]).ends(0);
    let there = clock.elapsed();
    let after = field.world();
    assert!(before.front.contains("Notes 1.4.2") && after.front.contains("Notes 2.0.0"));
    let clock = Instant::now();
    field.run(&["rollback", "--yes"]).ends(0);
    let back = clock.elapsed();
    assert_eq!(same(&field.world(), &before), "");
    (before, after, there, back)
}

fn killed_upgrades(seed: u64, count: u32) {
    let field = Field::new();
    let (before, after, there, _) = there_and_back(&field);
    let mut worlds = Vec::new();
    for moment in moments(&mut Dice(seed), there, count) {
        println!("seed {seed}: kill after {moment:?} of {there:?}");
        let known = field.history().len();
        field.killed(&["run", &field.works()], moment);
        let settled = field.settles(&before, Some(&after), known);
        worlds.push(settled);
        if settled == Settled::After {
            field.run(&["rollback", "--yes"]).ends(0);
            assert_eq!(same(&field.world(), &before), "");
        }
    }
    println!("{worlds:?}");
    assert!(worlds.contains(&Settled::Before));
}

#[test]
fn an_upgrade_killed_at_ten_random_moments_is_before_or_after() {
    killed_upgrades(1, 10);
}

#[test]
fn an_upgrade_killed_at_ten_other_random_moments_is_before_or_after() {
    killed_upgrades(2, 10);
}

#[test]
fn a_failing_upgrade_killed_at_any_moment_is_before() {
    let field = Field::new();
    field.run(&["run", &field.works()]).ends(0);
    let before = field.world();
    let clock = Instant::now();
    field.run(&["run", &field.breaks()]).ends(3);
    let there = clock.elapsed();
    for moment in moments(&mut Dice(3), there, 6) {
        println!("kill after {moment:?} of {there:?}");
        let known = field.history().len();
        field.killed(&["run", &field.breaks()], moment);
        assert_eq!(field.settles(&before, None, known), Settled::Before);
    }
}

#[test]
fn a_rollback_and_a_recovery_killed_at_any_moment_are_carried_on() {
    let field = Field::new();
    let (before, after, there, back) = there_and_back(&field);
    let mut dice = Dice(4);

    // Of an open transaction, whose steps have run: killed on its way back, and again while recovering.
    for moment in moments(&mut dice, back.mul_f64(0.6), 3) {
        println!("kill the rollback after {moment:?}");
        let known = field.history().len();
        field.run(&["begin", &field.works()]).ends(0);
        field.run(&["apply"]).ends(0);
        if field.killed(&["rollback"], moment) {
            field.killed(&["recover"], back.mul_f64(dice.part() * 0.6));
        }
        if field.history()[0] == "applied" {
            // It was killed before it wrote down that it turns back: then it is open still.
            field.run(&["rollback"]).ends(0);
        }
        assert_eq!(field.settles(&before, None, known), Settled::Before);
    }

    // A recovery of an upgrade that was killed in the middle, killed itself again and again.
    let known = field.history().len();
    field.killed(&["run", &field.works()], there.mul_f64(0.6));
    for moment in moments(&mut dice, back.mul_f64(0.8), 4) {
        println!("kill the recovery after {moment:?}");
        field.killed(&["recover"], moment);
    }
    let mut stands = field.settles(&before, Some(&after), known);

    // Of a committed one: the undoing is a transaction of its own, to which before is the upgraded world.
    for moment in moments(&mut dice, back, 3) {
        if stands == Settled::Before {
            field.run(&["run", &field.works()]).ends(0);
        }
        let upgraded = field.world();
        assert_eq!(alike(&upgraded, &after), "");
        println!("kill the undoing after {moment:?}");
        let known = field.history().len();
        field.killed(&["rollback", "--yes"], moment);
        stands = match field.settles(&upgraded, Some(&before), known) {
            Settled::Before => Settled::After,
            Settled::After => {
                assert_eq!(same(&field.world(), &before), "");
                Settled::Before
            }
        };
    }
}
