//! Full disks (issue 4): under the state directory, under the live tree, under both; by bytes and by inodes. What
//! cannot fit is refused before anything is stopped; what runs out in the middle leaves everything up; and the way back
//! works on a disk that the failed upgrade has filled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bed::{Bed, Said};
use crate::disk::{Disk, Kind, fill};
use crate::tree::{Inventory, differences, inventory, noise};

/// What is on the small disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Store,
    Tree,
    Both,
}

const ALL: [On; 3] = [On::Store, On::Tree, On::Both];

/// What disk it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// 2 MB of ext4.
    Small,
    /// 60 MB of ext4.
    Large,
    /// Few inodes, in memory.
    Inodes(u64),
}

/// An application, a part of which is on a small disk.
struct App {
    disk: Disk,
    bed: Bed,
    state: PathBuf,
    live: PathBuf,
    /// How large the largest file is.
    unit: usize,
}

/// All that an upgrade may change.
#[derive(Debug, PartialEq, Eq)]
struct World {
    app: Inventory,
    database: String,
    up: bool,
}

const PLAN: &str = r#"format = 1
name   = "app"

[[quiesce]]
name   = "server"
kind   = "command"
run    = ["@BED@/bin/stop"]
resume = ["@BED@/bin/start"]

[[resource]]
name = "app"
kind = "path"
path = "@LIVE@/app"

[[resource]]
name = "db"
kind = "sqlite"
path = "@LIVE@/notes.db"

[[step]]
name  = "migrate"
kind  = "command"
run   = ["@BED@/bin/migrate"]
"#;

/// Changes most of it; what is to fill the disk comes after it.
const MIGRATE: &str = "cd @LIVE@
head -c @UNIT@ /dev/urandom > app/large
rm app/removed app/many/1*
echo 'new and longer than it was' > app/small
mkdir app/added
head -c 5000 /dev/urandom > app/added/file
chmod 700 app/many
printf 'pragma journal_mode = wal;\n.filectrl persist_wal 1\nupdate notes set text = 1;' | sqlite3 notes.db > /dev/null
";

/// Fills what holds the path `$at` with bytes, and with files. What was removed before is free only after a sync.
const FILL: &str = "sync -f $at
dd if=/dev/zero of=$at/ballast bs=64k 2>/dev/null
dd if=/dev/zero of=$at/ballast.last bs=512 2>/dev/null
n=0; while true > $at/ballast.$n; do n=$((n + 1)); [ $n -lt 20000 ] || break; done 2>/dev/null
";

impl App {
    fn new(on: On, size: Size) -> App {
        let bed = Bed::new();
        let (disk, unit) = match size {
            Size::Small => (Disk::new(&bed, "disk", Kind::Ext4, 2, &["-b", "1024", "-m", "0", "-N", "256"]), 150_000),
            Size::Large => (Disk::new(&bed, "disk", Kind::Ext4, 60, &["-m", "0", "-J", "size=4"]), 14_000_000),
            Size::Inodes(inodes) => (Disk::in_memory(&bed, "disk", 60 << 20, inodes), 100_000),
        };
        let at = |wanted: On, name: &str| if on == On::Both || on == wanted { disk.path(name) } else { bed.path(name) };
        let (state, live) = (at(On::Store, "state"), at(On::Tree, "live"));
        let app = App { disk, bed, state, live, unit };
        fs::create_dir_all(app.live.join("app/many")).unwrap();
        let bytes = noise(1, unit);
        fs::write(app.live.join("app/large"), &bytes).unwrap();
        fs::write(app.live.join("app/removed"), &bytes[..unit / 4]).unwrap();
        fs::write(app.live.join("app/small"), "old\n").unwrap();
        for number in 0..30 {
            fs::write(app.live.join(format!("app/many/{number}")), format!("{number}\n")).unwrap();
        }
        app.sql("create table notes (text); insert into notes values ('one'), (randomblob(20000));");
        app.script("stop", "echo stop >> @BED@/log; rm -f @BED@/up");
        app.script("start", "echo start >> @BED@/log; touch @BED@/up");
        app.script("migrate", MIGRATE);
        app.bed.write("up", "");
        app.bed.write("log", "");
        app.bed.write("plan.toml", &PLAN.replace("@LIVE@", app.live.to_str().unwrap()));
        app
    }

    fn script(&self, name: &str, text: &str) {
        let text = text.replace("@LIVE@", self.live.to_str().unwrap()).replace("@UNIT@", &self.unit.to_string());
        self.bed.script(&format!("bin/{name}"), &text.replace("@DISK@", self.disk.path("").to_str().unwrap()));
    }

    fn sql(&self, text: &str) -> String {
        let output = Command::new("sqlite3").arg(self.live.join("notes.db")).arg(text).output();
        let output = output.expect("`sqlite3` is there (Debian: apt-get install sqlite3)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_txupgrade"));
        command.arg("--state-dir").arg(&self.state).args(arguments).current_dir(self.bed.path(""));
        command.env_remove("TXUPGRADE_STATE_DIR").env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    fn log(&self) -> String {
        self.bed.read("log").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn world(&self) -> World {
        let database = self.sql(".dump");
        World { app: inventory(&self.live.join("app")), database, up: self.bed.exists("up") }
    }

    /// It is as it was, and txupgrade has nothing open and nothing wrong.
    #[track_caller]
    fn is_whole(&self, before: &World, told: &str) {
        let now = self.world();
        assert_eq!(differences(&now.app, &before.app), "", "{told}");
        assert_eq!(now.database, before.database, "{told}");
        assert!(now.up, "{told}");
        for arguments in [&["status"][..], &["history", "--verify"], &["store", "verify"]] {
            self.run(arguments).ends(0);
        }
        let side = |entry: &walkdir::DirEntry| entry.file_name().to_string_lossy().starts_with(".txupgrade-");
        let left: Vec<_> = walkdir::WalkDir::new(&self.live).into_iter().flatten().filter(side).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// What was said to a person, with what differs from run to run masked.
    fn told(&self, said: &Said) -> String {
        let text = said.told(&self.bed);
        let sizes = regex::Regex::new(r"\b\d+(\.\d+)? (B|kB|MB)\b").unwrap();
        let slots = regex::Regex::new(r"aside/1/\d+/\d+|archive-\d+-\d+|tmp/\d+-\d+").unwrap();
        let text = slots.replace_all(&sizes.replace_all(&text, "SIZE"), "PLACE").into_owned();
        // Only the end: what stands before it is how long each task took.
        text[text.find("error:").unwrap_or(0)..].to_owned()
    }
}

/// The forecast says before anything is stopped that it cannot fit.
#[test]
fn a_snapshot_that_cannot_fit_is_refused_before_anything_is_stopped() {
    for size in [Size::Small, Size::Large] {
        let app = App::new(On::Store, size);
        let more = if size == Size::Small { 2 << 20 } else { 50 << 20 };
        fs::File::create(app.live.join("app/more")).unwrap();
        fs::write(app.live.join("app/more"), vec![b'x'; more]).unwrap();
        let before = app.world();
        let said = app.run(&["run", "plan.toml"]).ends(1);
        assert_eq!(app.log(), "", "{size:?}");
        app.is_whole(&before, &said.err);
        insta::allow_duplicates! {
            insta::assert_snapshot!(app.told(&said), @r"
            error: `require the room` failed; nothing was changed
              cause: there is not enough room for `BED/disk/state`
              cause: SIZE may be needed for the snapshot, and SIZE are free
            hint: make room on the filesystem of `BED/disk/state`
            hint: or put the state directory on a larger one with --state-dir
            hint: after a fix, `txupgrade run plan.toml` again
            ");
        }
    }
}

#[test]
fn without_inodes_for_the_snapshot_nothing_is_stopped() {
    let app = App::new(On::Store, Size::Inodes(60));
    let before = app.world();
    let said = app.run(&["run", "plan.toml"]).ends(1);
    assert_eq!(app.log(), "");
    app.is_whole(&before, &said.err);
    insta::assert_snapshot!(app.told(&said), @r"
    error: `require the room` failed; nothing was changed
      cause: there is not enough room for `BED/disk/state`
      cause: 35 inodes may be needed for the snapshot, and 27 are free
    hint: make room on the filesystem of `BED/disk/state`
    hint: or put the state directory on a larger one with --state-dir
    hint: after a fix, `txupgrade run plan.toml` again
    ");
}

#[test]
fn a_disk_without_room_for_a_state_directory_is_said_to_be_so() {
    let app = App::new(On::Store, Size::Small);
    fill(&app.disk.path("ballast"));
    let before = app.world();
    let said = app.run(&["run", "plan.toml"]).ends(1);
    assert_eq!(app.log(), "");
    insta::assert_snapshot!(app.told(&said), @r"
    error: there is no room in the state directory `BED/disk/state`
      cause: cannot create the directory `BED/disk/state`
      cause: No space left on device (os error 28)
    hint: make some megabytes of room on the filesystem of `BED/disk/state`, then try again
    ");
    fs::remove_file(app.disk.path("ballast")).unwrap();
    app.run(&["run", "plan.toml"]).ends(0);
    app.run(&["rollback", "--yes"]).ends(0);
    app.is_whole(&before, "");
}

#[test]
fn without_room_for_the_reserve_nothing_begins() {
    let app = App::new(On::Store, Size::Large);
    app.run(&["snapshot", "plan.toml"]).ends(0);
    let before = app.world();
    fs::remove_dir_all(app.state.join("reserve")).unwrap();
    let ballast = app.disk.path("ballast");
    fill(&ballast);
    let file = fs::File::options().write(true).open(&ballast).unwrap();
    file.set_len(file.metadata().unwrap().len() - (1 << 20)).unwrap();
    let said = app.run(&["run", "plan.toml"]).ends(1);
    assert_eq!(app.log(), "stop start");
    app.is_whole(&before, &said.err);
    insta::assert_snapshot!(app.told(&said), @r"
    error: there is not enough room for the reserve of `BED/disk/state`
      cause: No space left on device (os error 28)
    hint: make room on its filesystem: SIZE are enough
    ");
}

/// What the application writes when it is stopped still fits; then somebody else fills the disk of the store.
#[test]
fn a_capture_that_runs_out_of_room_is_aborted_and_everything_is_up() {
    for size in [Size::Small, Size::Large, Size::Inodes(120)] {
        for on in [On::Store, On::Both] {
            let app = App::new(on, size);
            let flushed = app.bed.path("flushed");
            fs::write(&flushed, noise(2, app.unit)).unwrap();
            let mut before = app.world();
            before.app.insert("large".into(), inventory(&flushed)[Path::new("")].clone());
            app.script(
                "stop",
                &format!(
                    "echo stop >> @BED@/log; rm -f @BED@/up; cp -p @BED@/flushed @LIVE@/app/large; at=@DISK@\n{FILL}\ntrue"
                ),
            );
            let said = app.run(&["run", "plan.toml"]).ends(1);
            assert_eq!(app.log(), "stop start", "{on:?} {size:?}: {}", said.err);
            app.is_whole(&before, &said.err);
            let told = app.told(&said);
            // Both are under way; which of them finds out first is not said.
            let first = told.lines().next().unwrap();
            let ends = |name: &str| first == format!("error: capture of `{name}` failed; nothing was changed");
            assert!(ends("app") || ends("db"), "{told}");
            assert!(told.contains("No space left on device") || told.contains("database or disk is full"), "{told}");
        }
    }
}

/// The step fills the disk with what it adds to the application, and fails.
#[test]
fn a_rollback_on_a_disk_that_the_upgrade_filled_succeeds() {
    for size in [Size::Small, Size::Large, Size::Inodes(150)] {
        for on in ALL {
            let app = App::new(on, size);
            let before = app.world();
            let at = if on == On::Store { "@DISK@/state" } else { "@LIVE@/app" };
            app.script("migrate", &format!("{MIGRATE}\nat={at}\n{FILL}\nexit 3"));
            let said = app.run(&["run", "plan.toml"]).ends(3);
            assert_eq!(app.log(), "stop start", "{on:?} {size:?}: {}", said.err);
            app.is_whole(&before, &format!("{on:?} {size:?}: {}", said.err));
            if on != On::Tree || size != Size::Large {
                continue;
            }
            // Whether there was room in the end depends on when the filesystem gives back what the step removed.
            let beside = "warning: there is no room to restore `app` beside what it replaces, which goes first\n";
            insta::assert_snapshot!(app.told(&said).replace(beside, ""), @r"
            error: step `migrate` failed; everything was rolled back and rechecked
              cause: `BED/bin/migrate` ended with exit status 3
            hint: its output is in `txupgrade log app-1 migrate`; after a fix, `txupgrade run plan.toml` again
            ");
        }
    }
}

/// The operator finds both disks full.
#[test]
fn a_rollback_that_is_asked_for_on_a_full_disk_succeeds() {
    for size in [Size::Small, Size::Large, Size::Inodes(150)] {
        for on in ALL {
            let app = App::new(on, size);
            let before = app.world();
            app.run(&["begin", "plan.toml"]).ends(0);
            app.run(&["apply"]).ends(0);
            let at = if on == On::Store { app.disk.path("state") } else { app.live.join("app") };
            Command::new("sh").args(["-c", FILL]).env("at", &at).stderr(Stdio::null()).status().unwrap();
            let said = app.run(&["rollback"]).ends(0);
            assert_eq!(app.log(), "stop start", "{on:?} {size:?}: {}", said.err);
            app.is_whole(&before, &format!("{on:?} {size:?}: {}", said.err));
        }
    }
}

/// Killed while it frees and builds, `recover` carries on with what is left, on a disk that is as full as before.
#[test]
fn a_rollback_on_a_full_disk_is_carried_on_wherever_it_is_killed() {
    let calls = "unlink,unlinkat,rename,renameat,renameat2";
    let mut killed = 0;
    for number in (1..).step_by(4) {
        let app = App::new(On::Tree, Size::Small);
        let before = app.world();
        app.script("migrate", &format!("{MIGRATE}\nat=@LIVE@/app\n{FILL}\n"));
        app.run(&["begin", "plan.toml"]).ends(0);
        app.run(&["apply"]).ends(0);
        let program = app.command(&["rollback"]);
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o"]).arg(app.bed.path("calls")).args(["-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:signal=SIGKILL:when={number}")]).arg(program.get_program());
        strace.args(program.get_args()).current_dir(app.bed.path("")).stdin(Stdio::null());
        let said = Said::of(strace.output().expect("`strace` is there (Debian: apt-get install strace)"));
        if said.status == 0 {
            app.is_whole(&before, &said.err);
            assert!(said.err.contains("there is no room to restore `app`"), "{}", said.err);
            break;
        }
        assert_eq!(said.status, 137, "{}", said.err);
        killed += 1;
        let said = app.run(&["recover"]);
        if said.status == 10 {
            // It was killed before it wrote down that it turns back.
            app.run(&["rollback"]).ends(0);
        } else {
            assert_eq!(said.status, 0, "{number}: {}", said.err);
        }
        app.is_whole(&before, &format!("{number}: {}", said.err));
    }
    assert!(killed > 10, "{killed}");
    println!("killed on a full disk: {killed} times, otherwise: 0");
}
