//! A test bed: a scratch directory with a state directory of its own, and the program that works in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A scratch directory for one test; removed when it is dropped.
pub struct Bed {
    root: tempfile::TempDir,
}

/// What a command ended with.
#[derive(Debug)]
pub struct Said {
    /// Its exit status; 128 + the signal when a signal ended it.
    pub status: i32,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::below(&std::env::temp_dir())
    }

    /// One in a directory of the caller's choice.
    pub fn below(dir: &Path) -> Bed {
        Bed { root: tempfile::Builder::new().prefix("txupgrade-it-").tempdir_in(dir).unwrap() }
    }

    /// A path in the bed.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file of the bed, its directories included. `@BED@` stands for the bed's path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text.replace("@BED@", self.path("").to_str().unwrap().trim_end_matches('/'))).unwrap();
        path
    }

    /// Writes an executable shell script.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write(name, &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// The program with this bed's state directory, ready to be given arguments.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_txupgrade"));
        command
            .arg("--state-dir")
            .arg(self.state())
            .args(arguments)
            .current_dir(self.path(""))
            .env_remove("TXUPGRADE_STATE_DIR")
            .env_remove("TXUPGRADE_TEST_BOOT_ID")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Runs it to its end as after a reboot: with another boot id.
    pub fn run_after_reboot<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        Said::of(self.command(arguments).env("TXUPGRADE_TEST_BOOT_ID", "another-boot").output().unwrap())
    }

    /// Starts it and goes on.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The archives of its store, in no order.
    pub fn archives(&self) -> Vec<PathBuf> {
        let files = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files(self.state().join("store/archives")).flat_map(files).collect()
    }

    /// The events of a transaction, by name, as the journal has them.
    pub fn events(&self, tx: &str) -> Vec<String> {
        let journal = rusqlite::Connection::open_with_flags(
            self.state().join("journal.db"),
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        )
        .unwrap();
        let mut rows = journal.prepare("select event from event where tx = ? order by seq").unwrap();
        let texts = rows.query_map([tx], |row| row.get::<_, String>(0)).unwrap();
        texts
            .map(|text| {
                let event: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
                let task = event["task"].as_str().map(|task| format!(" {task}")).unwrap_or_default();
                format!("{}{task}", event["event"].as_str().unwrap())
            })
            .collect()
    }
}

/// The same command in a mount table of its own, in which `mounts`, a line of shell, comes first.
pub fn behind(mounts: &str, command: &Command) -> Command {
    let mut behind = Command::new("unshare");
    behind.args(["-m", "sh", "-c", &format!("{mounts} && exec \"$@\""), "sh"]);
    behind.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        behind.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => behind.env(name, value),
            None => behind.env_remove(name),
        };
    }
    behind.stdin(Stdio::null());
    behind
}

impl Said {
    pub fn of(output: Output) -> Said {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
        Said {
            status,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, if it ended with `status`; else the test fails and shows what was said.
    #[track_caller]
    pub fn ends(self, status: i32) -> Said {
        assert_eq!(self.status, status, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// What was said to a person, with what differs from run to run masked: the bed's path, times, pids.
    pub fn told(&self, bed: &Bed) -> String {
        let path = bed.path("");
        let text = self.err.replace(path.to_str().unwrap().trim_end_matches('/'), "BED");
        let times = regex::Regex::new(r"\b\d+(\.\d+)? (ms|s|min|h)\b").unwrap();
        let pids = regex::Regex::new(r"process \d+").unwrap();
        pids.replace_all(&times.replace_all(&text, "TIME"), "process PID").into_owned()
    }
}
