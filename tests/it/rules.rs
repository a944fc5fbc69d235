//! Each rule of design §6, "Rules that settle what the table leaves open", and each exit status, shown through the
//! command line on a small application of shell scripts that write down what is done to them.

mod back;
mod commands;
mod committed;
mod crash;
mod exits;
mod forms;
mod hold;
mod locks;
mod open;
mod sessions;
mod sharing;
mod signals;
mod unconfirmed;
mod writers;

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::bed::{Bed, Said};

/// The plan of the application: two steps, a server to stop, a health check, a version.
const PLAN: &str = r#"format = 1
name   = "app"

[command]
timeout = "60s"

[version]
run  = ["cat", "@BED@/app/version"]
from = ">=1.0.0, <2.0.0"
to   = "=2.0.0"

[[check]]
name = "page"
kind = "command"
run  = ["@BED@/bin/page"]

[[quiesce]]
name   = "server"
kind   = "command"
run    = ["@BED@/bin/ctl", "stop"]
resume = ["@BED@/bin/ctl", "start"]

[[resource]]
name = "code"
kind = "path"
path = "@BED@/app"

[[step]]
name = "install"
kind = "command"
run  = ["@BED@/bin/install"]

[[step]]
name = "migrate"
kind = "command"
run  = ["@BED@/bin/migrate"]
"#;

/// The world before an upgrade, as [`App::world`] tells it.
const OLD: &str = "1.0.0 old up";
/// The world after it.
const NEW: &str = "2.0.0 new up";

/// The application in a bed, and its plan `plan.toml`.
///
/// Files in the bed change how it behaves: `broken` (the migration writes half and fails), `ill` (the page's check
/// fails), `no-stop`, `no-start` (the server's control fails).
struct App {
    bed: Bed,
}

impl App {
    fn new() -> App {
        let app = App { bed: Bed::new() };
        app.bed.write("app/version", "1.0.0\n");
        app.bed.write("app/data", "old\n");
        app.bed.write("up", "");
        app.bed.write("log", "");
        app.bed.script(
            "bin/ctl",
            "echo $1 >> @BED@/log\n\
             if [ -e @BED@/no-$1 ]; then echo cannot $1; exit 1; fi\n\
             case $1 in start) touch @BED@/up;; stop) rm -f @BED@/up;; esac",
        );
        app.bed.script(
            "bin/page",
            "echo page >> @BED@/log\n\
             if [ -e @BED@/ill ]; then echo 500; exit 1; fi\n\
             if [ ! -e @BED@/up ]; then echo refused; exit 1; fi",
        );
        app.bed.script("bin/install", "echo install >> @BED@/log\necho 2.0.0 > @BED@/app/version");
        app.bed.script(
            "bin/migrate",
            "echo migrate >> @BED@/log\n\
             if [ -e @BED@/broken ]; then echo half > @BED@/app/data; echo no such table; exit 3; fi\n\
             echo new > @BED@/app/data",
        );
        app.bed.write("plan.toml", PLAN);
        app
    }

    /// The same with something else in the plan.
    #[track_caller]
    fn edit(self, from: &str, to: &str) -> App {
        let plan = self.bed.read("plan.toml");
        let from = from.replace("@BED@", self.root());
        assert!(plan.contains(&from), "the plan has `{from}`");
        self.bed.write("plan.toml", &plan.replace(&from, to));
        self
    }

    /// The same with more at the end of the plan.
    fn add(self, more: &str) -> App {
        let plan = self.bed.read("plan.toml");
        self.bed.write("plan.toml", &format!("{plan}\n{more}\n"));
        self
    }

    /// The same with another program at `bin/NAME`.
    fn script(self, name: &str, text: &str) -> App {
        self.bed.script(&format!("bin/{name}"), text);
        self
    }

    fn root(&self) -> &'static str {
        let root = self.bed.path("").to_str().unwrap().trim_end_matches('/').to_owned();
        root.leak()
    }

    fn run(&self, arguments: &str) -> Said {
        self.bed.run(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    fn run_after_reboot(&self, arguments: &str) -> Said {
        self.bed.run_after_reboot(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    fn start(&self, arguments: &str) -> Child {
        self.bed.start(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    fn touch(&self, name: &str) {
        self.bed.write(name, "");
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.bed.path(name)).unwrap();
    }

    /// Version, data, and whether the server is up.
    fn world(&self) -> String {
        let read = |name| self.bed.read(name).trim().to_owned();
        let up = if self.bed.exists("up") { "up" } else { "down" };
        format!("{} {} {up}", read("app/version"), read("app/data"))
    }

    /// What was done to the application, in order, without the questions of its health.
    fn log(&self) -> String {
        let log = self.bed.read("log");
        log.split_whitespace().filter(|word| *word != "page").collect::<Vec<_>>().join(" ")
    }

    /// The number of journaled events of all transactions.
    fn events(&self) -> usize {
        let journal = rusqlite::Connection::open(self.bed.state().join("journal.db")).unwrap();
        journal.query_row("select count(*) from event", [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
    }

    /// Side copies that were left in the bed outside of the state directory.
    fn side_copies(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.bed.path("")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name().to_string_lossy().starts_with(".txupgrade-") {
                    found.push(entry.path());
                }
                if entry.file_type().unwrap().is_dir() && entry.path() != self.bed.state() {
                    dirs.push(entry.path());
                }
            }
        }
        found
    }

    /// The processes whose command line names this bed.
    fn processes(&self) -> Vec<u32> {
        let root = self.root();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(root) && pid != std::process::id() {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Keepers, and programs of a test that failed half-way: whatever has this bed's path in its command line.
        for pid in self.processes() {
            send("KILL", pid);
        }
        // The scratch directories of transactions that a test left open.
        let place = blake3::hash(self.bed.state().as_os_str().as_encoded_bytes()).to_hex();
        for entry in std::fs::read_dir("/var/tmp").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("txupgrade-") && name.ends_with(&place[..8]) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Sends a signal to a process that this test started.
fn send(signal: &str, pid: u32) {
    let _ = std::process::Command::new("kill").args([&format!("-{signal}"), "--", &pid.to_string()]).output();
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// Waits until something is so, for as long as a loaded machine may need.
#[track_caller]
fn wait_until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !so() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How often something is tried: as the environment says, else `few` times.
fn times(variable: &str, few: u32) -> u32 {
    let asked = std::env::var(variable).ok();
    asked.map_or(few, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}

/// Waits for a program's end.
fn ended(child: Child) -> Said {
    Said::of(child.wait_with_output().unwrap())
}
