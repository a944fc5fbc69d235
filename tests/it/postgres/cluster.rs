//! A PostgreSQL server for one test, in a directory of its own, reached by a socket there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bed::{Bed, Said};

/// The tools of the distribution's version.
const BIN: &str = "/usr/lib/postgresql/15/bin";
const MISSING: &str = "Debian: apt-get install postgresql-15";

/// A running server; stopped when it is dropped.
pub struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    pub fn new() -> Cluster {
        let dir = tempfile::Builder::new().prefix("txupgrade-pg-").tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").arg("postgres:").arg(dir.path()).status().unwrap();
            assert!(owned.success(), "there is no account `postgres`: {MISSING}");
        }
        let cluster = Cluster { dir };
        let data = cluster.dir().join("data");
        let words = ["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8", "-D"];
        does(cluster.own("initdb").args(words).arg(&data));
        cluster.start();
        cluster
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One of the server's programs, as who may run it.
    pub fn own(&self, program: &str) -> Command {
        let program = PathBuf::from(BIN).join(program);
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    pub fn start(&self) {
        let options = format!(
            "-k {} -h '' -c fsync=off -c max_prepared_transactions=2 -c wal_level=logical -c log_statement=none",
            self.dir().display()
        );
        let log = self.dir().join("log");
        does(
            self.own("pg_ctl")
                .args(["-w", "-o", &options, "-D"])
                .arg(self.dir().join("data"))
                .arg("-l")
                .arg(log)
                .arg("start"),
        );
    }

    pub fn stop(&self) {
        does(self.own("pg_ctl").args(["-w", "-m", "immediate", "-D"]).arg(self.dir().join("data")).arg("stop"));
    }

    /// Whoever comes as `role` has to say a password.
    pub fn ask_for_passwords(&self, role: &str) {
        let path = self.dir().join("data/pg_hba.conf");
        let rules = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("local all {role} scram-sha-256\n{rules}")).unwrap();
        does(self.own("pg_ctl").arg("-D").arg(self.dir().join("data")).arg("reload"));
    }

    /// The address of a database, as `role`.
    pub fn url(&self, database: &str, role: &str) -> String {
        format!("postgresql://{role}@/{database}?host={}", self.dir().display())
    }

    /// A client's program on a database, as the superuser.
    pub fn client(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(PathBuf::from(BIN).join(program));
        command.args(["-h", self.dir().to_str().unwrap(), "-U", "postgres"]).arg(database).stdin(Stdio::null());
        command.env_remove("PGOPTIONS");
        command
    }

    /// Runs SQL as the superuser and returns what it says.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = self.client("psql", database);
        does(command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    /// Runs a file of SQL.
    #[track_caller]
    pub fn file(&self, database: &str, text: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script.sql");
        std::fs::write(&path, text).unwrap();
        does(self.client("psql", database).args(["-Xq", "-v", "ON_ERROR_STOP=1", "-f"]).arg(path));
    }

    /// Everything that `pg_dump` says of a database, without what differs each time: its token, and how the server writes
    /// `name IN ('a', 'b')` once it was loaded.
    #[track_caller]
    pub fn dump(&self, database: &str) -> String {
        let text = does(self.client("pg_dump", database).arg("--create"));
        let cast = regex::Regex::new(r"::(character varying|text)(\[\])?|[()]").unwrap();
        let same = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        let lines = text.lines().filter(same).map(|line| match line.contains("ANY (") {
            true => cast.replace_all(line, "").into_owned(),
            false => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The names of all databases.
    pub fn databases(&self) -> Vec<String> {
        self.sql("postgres", "SELECT datname FROM pg_database ORDER BY 1").lines().map(str::to_owned).collect()
    }

    /// What was said to a person, with what differs from run to run masked.
    pub fn told(&self, said: &Said, bed: &Bed) -> String {
        let text = said.told(bed).replace(self.dir().to_str().unwrap(), "PG");
        let text = regex::Regex::new(r"(session |pg_terminate_backend\()\d+").unwrap().replace_all(&text, "${1}PID");
        regex::Regex::new(r"txupgrade_[0-9a-f]{12}").unwrap().replace_all(&text, "txupgrade_HASH").into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.own("pg_ctl");
        let _ = stop.args(["-w", "-m", "immediate", "-D"]).arg(self.dir().join("data")).arg("stop").output();
    }
}

/// Runs a program that has to succeed, and returns its stdout.
#[track_caller]
pub fn does(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    // The server keeps what it is started with: nothing may wait for the end of a pipe.
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let status = command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap()).status();
    let status = status.unwrap_or_else(|error| panic!("{shown}: {error} ({MISSING})"));
    let read = |file: &mut std::fs::File| {
        let mut text = Vec::new();
        std::io::Seek::rewind(file).unwrap();
        std::io::Read::read_to_end(file, &mut text).unwrap();
        String::from_utf8_lossy(&text).trim_end().to_owned()
    };
    assert!(status.success(), "{shown} failed: {}", read(&mut err));
    read(&mut out)
}
