//! A small application with one of everything that can be captured, and a plan that does one of everything.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bed::{Bed, Said};
use crate::tree::{Inventory, inventory, noise};

use super::trace::{self, Fault, Point, Traced};

/// `keep = 2`: with two snapshots there already, each further transaction drops one.
const PLAN: &str = r#"format = 1
name   = "app"

[version]
run  = ["cat", "@BED@/live/app/version"]
from = ">=1.0.0, <2.0.0"
to   = "=2.0.0"

[[check]]
name = "up"
kind = "command"
run  = ["@BED@/bin/ctl", "status"]

[[quiesce]]
name   = "server"
kind   = "command"
run    = ["@BED@/bin/ctl", "stop"]
resume = ["@BED@/bin/ctl", "start"]

[[resource]]
name    = "code"
kind    = "path"
path    = "@BED@/live/app"
exclude = ["cache/"]

[[resource]]
name = "db"
kind = "sqlite"
path = "@BED@/live/data/app.db"

[[step]]
name  = "unpack"
kind  = "replace"
path  = "@BED@/live/app"
with  = "@BED@/new"
carry = ["config/"]

[[step]]
name = "enlist"
kind = "command"
run  = ["@BED@/bin/enlist"]
undo = ["@BED@/bin/enlist", "undo"]

[[step]]
name   = "migrate"
kind   = "command"
run    = ["@BED@/bin/migrate"]
expect = { matches = "done" }

[policy]
keep = 2
"#;

const PROGRAMS: &str = r#"format = 1
name   = "app"

[[quiesce]]
name   = "server"
kind   = "command"
run    = ["@BED@/bin/ctl", "stop"]
resume = ["@BED@/bin/ctl", "start"]

[[resource]]
name = "registry"
kind = "command"
dump = ["@BED@/bin/dump"]
load = ["@BED@/bin/load"]

[[resource]]
name = "db"
kind = "sqlite"
path = "@BED@/live/data/app.db"

[[step]]
name     = "rename"
kind     = "sql"
resource = "db"
query    = "alter table note add column at; update note set text = text || '!'"

[[step]]
name  = "register"
kind  = "command"
shell = "echo three >> @BED@/live/registry; test ! -e @BED@/broken"
"#;

/// The application in a bed of its own.
///
/// Files in the bed change how it behaves: `broken` (the migration writes half and fails), `no-stop` (the server does
/// not stop), `kill-in-migrate` and `kill-in-start` (the program that runs these is killed by them, once).
pub struct Ground {
    pub bed: Bed,
    /// Copies of the bed, to begin again from.
    copies: tempfile::TempDir,
}

/// All of the application that an upgrade may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Everything but the database's content.
    pub tree: Inventory,
    pub database: String,
    /// Whether the server runs, and whether it is enlisted elsewhere.
    pub services: String,
}

impl Ground {
    /// On a filesystem in memory where there is one: nothing here depends on what survives a loss of power.
    pub fn new() -> Ground {
        let memory = Path::new("/dev/shm");
        let bed = if memory.is_dir() { Bed::below(memory) } else { Bed::new() };
        let copies = tempfile::Builder::new().prefix("txupgrade-it-").tempdir_in(bed.path("").parent().unwrap());
        let ground = Ground { bed, copies: copies.unwrap() };
        ground.lay_out();
        ground
    }

    fn lay_out(&self) {
        let bed = &self.bed;
        let app = bed.path("live/app");
        for (name, text) in [
            ("version", "1.0.0\n"),
            ("bin/app", "#!/bin/sh\necho app\n"),
            ("config/settings", "port = 1\n"),
            ("config/deep/er/still", "as it was\n"),
            ("cache/blob", "never captured\n"),
            ("odd/first", "one file, two names\n"),
            ("odd/setuid", "x"),
        ] {
            bed.write(&format!("live/app/{name}"), text);
        }
        let mode = |name: &str, mode| {
            fs::set_permissions(app.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("bin/app", 0o755);
        mode("odd/setuid", 0o4711);
        fs::create_dir(app.join("odd/empty")).unwrap();
        mode("odd/empty", 0o1700);
        fs::hard_link(app.join("odd/first"), app.join("odd/second")).unwrap();
        symlink("../version", app.join("odd/link")).unwrap();
        symlink("nowhere", app.join("odd/dangling")).unwrap();
        fs::write(app.join("odd").join(std::ffi::OsStr::from_bytes(b"na\xffme\n")), "odd\n").unwrap();
        let fifo = rustix::fs::Mode::from_raw_mode(0o640);
        let fifo_path = app.join("odd/fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo_path, rustix::fs::FileType::Fifo, fifo, 0).unwrap();
        let sparse = fs::File::create(app.join("odd/sparse")).unwrap();
        sparse.set_len(3 << 20).unwrap();
        sparse.write_all_at(b"an island", 2 << 20).unwrap();
        xattr::set(app.join("version"), "user.origin", b"a mirror").unwrap();
        fs::write(app.join("large"), noise(0, 1_300_000)).unwrap();

        bed.write("live/data/readme", "");
        database(&bed.path("live/data/app.db"), "create table note(text); insert into note values ('old'), ('older');");
        bed.write("next/readme", "");
        database(&bed.path("next/app.db"), "create table note(text, at); insert into note values ('new', 1);");
        bed.write("new/version", "2.0.0\n");
        bed.write("new/bin/app", "#!/bin/sh\necho new app\n");
        bed.write("new/lib/one", "one\n");
        bed.write("new/config/settings", "port = 0\n");
        symlink("one", bed.path("new/lib/two")).unwrap();
        age(&bed.path("live"));
        age(&bed.path("new"));

        bed.write("run/up", "");
        bed.write("tmp/readme", "");
        fs::remove_file(bed.path("tmp/readme")).unwrap();
        let killed = "if [ -e @BED@/KILL ]; then rm @BED@/KILL; kill -9 $PPID; sleep 60; fi";
        bed.script(
            "bin/ctl",
            &format!(
                "case $1 in\n\
                 start) {}\n: > @BED@/run/up;;\n\
                 stop) [ ! -e @BED@/no-stop ] || exit 1; rm -f @BED@/run/up;;\n\
                 status) [ -e @BED@/run/up ] || exit 1;;\nesac",
                killed.replace("KILL", "kill-in-start")
            ),
        );
        bed.script(
            "bin/enlist",
            "if [ \"$1\" = undo ]; then rm -f @BED@/run/enlisted; else : > @BED@/run/enlisted; fi",
        );
        bed.script(
            "bin/migrate",
            &format!(
                "echo half > @BED@/live/app/half\n{}\n\
                 cp @BED@/next/app.db @BED@/live/data/app.db\n\
                 [ ! -e @BED@/broken ] || exit 3\n\
                 rm @BED@/live/app/half\necho done",
                killed.replace("KILL", "kill-in-migrate")
            ),
        );
        bed.write("plan.toml", PLAN);
    }

    /// Another plan: what programs dump and load, and a step in SQL.
    pub fn use_programs(&self) {
        self.bed.write("plan.toml", PROGRAMS);
        self.bed.write("live/registry", "one\ntwo\n");
        age(&self.bed.path("live/registry"));
        self.bed.script("bin/dump", "cat @BED@/live/registry");
        // Half of it first, so that it matters whether it is carried on.
        self.bed.script(
            "bin/load",
            "read first; echo $first > @BED@/live/registry; cat >> @BED@/live/registry\n\
             touch -d @1600000000.123456789 @BED@/live/registry",
        );
    }

    /// The program at work in it, started by the words before it. What it says goes to files, which [`Ground::said`] reads.
    fn command(&self, by: &[String], program: &Path, arguments: &[&str]) -> Command {
        let mut words = by.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        let file = |name: &str| Stdio::from(fs::File::create(self.bed.path(name)).unwrap());
        command
            .arg("--state-dir")
            .arg(self.bed.state())
            .args(arguments)
            .current_dir(self.bed.path(""))
            .env("TMPDIR", self.bed.path("tmp"))
            .env("NO_COLOR", "1")
            .env_remove("TXUPGRADE_STATE_DIR")
            .env_remove("TXUPGRADE_TEST_BOOT_ID")
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        command
    }

    fn said(&self, status: i32) -> Said {
        Said { status, out: self.bed.read("out"), err: self.bed.read("err") }
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_by(&[], program(), arguments)
    }

    /// Runs `program` to its end, started by the words before it.
    pub fn run_by(&self, by: &[String], program: &Path, arguments: &[&str]) -> Said {
        use std::os::unix::process::ExitStatusExt;
        let status = self.command(by, program, arguments).status();
        let status = status.unwrap_or_else(|error| panic!("{by:?} cannot be started: {error}"));
        self.said(status.code().unwrap_or_else(|| 128 + status.signal().unwrap()))
    }

    /// Runs it under the tracer.
    pub fn traced(&self, arguments: &[&str], fault: Fault) -> (Said, Vec<Point>) {
        let quiet = [self.bed.path("out"), self.bed.path("err")];
        let Traced { status, points } = trace::run(self.command(&[], program(), arguments), &quiet, fault).unwrap();
        (self.said(status), points)
    }

    /// Keeps all of the bed as it is now.
    pub fn keep(&self, name: &str) {
        copy(&self.bed.path(""), &self.copies.path().join(name));
    }

    /// All of the bed becomes what it was then.
    pub fn reset(&self, name: &str) {
        for entry in fs::read_dir(self.bed.path("")).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => fs::remove_dir_all(entry.path()).unwrap(),
                false => fs::remove_file(entry.path()).unwrap(),
            }
        }
        copy(&self.copies.path().join(name), &self.bed.path(""));
    }

    /// Where each transaction stands, the latest first, as the journal has it; its chain is whole. `unsound` is one that was
    /// rolled back with something that nothing takes back.
    pub fn history(&self) -> Result<Vec<String>, String> {
        let said = self.run(&["history", "--verify", "--json"]);
        if said.status != 0 {
            return Err(format!("`history --verify` ends with {}:\n{}{}", said.status, said.out, said.err));
        }
        let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let place = |past: &serde_json::Value| match past["unsound"].as_array().is_some_and(|tasks| !tasks.is_empty()) {
            true => "unsound".to_owned(),
            false => past["place"].as_str().unwrap().to_owned(),
        };
        Ok(told["transactions"].as_array().unwrap().iter().map(place).collect())
    }

    pub fn world(&self) -> World {
        let mut tree = inventory(&self.bed.path("live"));
        // What is in it is compared as text: one that was read while it had a log is another file with the same content.
        for name in ["data/app.db", "data/app.db-wal", "data/app.db-shm", "data/app.db-journal"] {
            if let Some(line) = tree.get_mut(Path::new(name)) {
                *line = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
            }
        }
        // These directories are no resources: what stands beside one comes and goes in them.
        for name in ["", "data"] {
            tree.entry(name.into()).and_modify(|line| *line = line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        }
        let services = ["run/up", "run/enlisted"].map(|name| format!("{name}: {}", self.bed.exists(name)));
        World { tree, database: dump(&self.bed.path("live/data/app.db")), services: services.join(", ") }
    }

    /// The programs of this bed that still run.
    pub fn strangers(&self) -> Vec<String> {
        let here = self.bed.path("");
        let here = here.to_str().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(here)).collect()
    }

    /// What a transaction makes for itself and has to remove.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let is_ours = |path: &Path| {
            let name = path.file_name().unwrap_or_default().as_bytes();
            name.starts_with(b".txupgrade-") || name.starts_with(b"txupgrade-")
        };
        let all = walkdir::WalkDir::new(self.bed.path("")).into_iter().map(|entry| entry.unwrap().into_path());
        let below = |name: &str| {
            let entries = walkdir::WalkDir::new(self.bed.path(name)).min_depth(1).into_iter();
            entries.flatten().map(walkdir::DirEntry::into_path).collect::<Vec<_>>()
        };
        let root = self.bed.path("");
        let inside = all.filter(|path| *path != root && is_ours(path));
        let place = blake3::hash(self.bed.state().as_os_str().as_bytes()).to_hex();
        let scratch = fs::read_dir("/var/tmp").unwrap().map(|entry| entry.unwrap().path());
        let scratch = scratch.filter(|path| is_ours(path) && path.to_string_lossy().ends_with(&place[..8]));
        let mut found: Vec<_> = inside.chain(scratch).chain(below("tmp")).chain(below("state/tmp")).collect();
        let locks = below("state/locks").into_iter();
        found.extend(locks.filter(|path| path.to_string_lossy().contains("app-")));
        found.sort();
        found.dedup();
        found
    }
}

/// The program under test: what cargo built, or the one that `TXUPGRADE_TEST_PROGRAM` names.
pub fn program() -> &'static Path {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(|| {
        std::env::var_os("TXUPGRADE_TEST_PROGRAM")
            .map_or_else(|| env!("CARGO_BIN_EXE_txupgrade").into(), |path| std::path::absolute(path).unwrap())
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    assert!(Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
}

fn database(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// A database as text. Of a copy, with its log: reading leaves traces.
fn dump(path: &Path) -> String {
    if !path.exists() {
        return "there is none".to_owned();
    }
    let dir = tempfile::tempdir_in(path.parent().unwrap().parent().unwrap().parent().unwrap()).unwrap();
    for suffix in ["", "-wal", "-journal"] {
        let from = PathBuf::from(format!("{}{suffix}", path.display()));
        if from.exists() {
            fs::copy(&from, dir.path().join(format!("db{suffix}"))).unwrap();
        }
    }
    let all = || -> rusqlite::Result<String> {
        let db = rusqlite::Connection::open(dir.path().join("db"))?;
        let texts = |sql: &str| -> rusqlite::Result<Vec<String>> {
            let mut rows = db.prepare(sql)?;
            rows.query_map([], |row| row.get::<_, String>(0))?.collect()
        };
        let mut told = texts("select coalesce(sql, name) from sqlite_schema order by name")?;
        told.extend(texts("select rowid || ' ' || text from note order by rowid")?);
        told.extend(texts("pragma integrity_check")?);
        Ok(told.join("\n"))
    };
    all().unwrap_or_else(|error| format!("it cannot be read: {error}"))
}

/// Gives everything below a directory the same old times, so that no two runs differ.
fn age(path: &Path) {
    let then = rustix::fs::Timespec { tv_sec: 1_600_000_000, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: then, last_modification: then };
    for entry in walkdir::WalkDir::new(path).contents_first(true) {
        let entry = entry.unwrap();
        rustix::fs::utimensat(rustix::fs::CWD, entry.path(), &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}
