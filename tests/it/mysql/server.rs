//! A MariaDB server of a test's own, in its own directory, on a socket; ended by its pid when it is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::disk::Disk;

/// What a server that nothing depends on is started with, so that it is quick.
const QUICK: [&str; 4] =
    ["--no-defaults", "--user=root", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"];

pub struct Server {
    /// What is mounted in the bed goes before it.
    disk: Option<Disk>,
    pub bed: Bed,
    child: Option<Child>,
}

impl Server {
    /// One that answers, in a bed where `my.cnf` lets root in.
    pub fn new() -> Server {
        let memory = Path::new("/dev/shm");
        Server::in_bed(if memory.is_dir() { Bed::below(memory) } else { Bed::new() }, None)
    }

    /// The same in a bed where a disk is mounted.
    pub fn in_bed(bed: Bed, disk: Option<Disk>) -> Server {
        let mut install = Command::new("mariadb-install-db");
        install.args(QUICK).args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
        install.arg(format!("--datadir={}", bed.path("data").display()));
        let made = install.arg(format!("--tmpdir={}", bed.path("").display())).output();
        let made = made.unwrap_or_else(|error| panic!("mariadb-install-db: {error}: apt-get install mariadb-server"));
        assert!(made.status.success(), "{made:?}");
        let mut server = Server { disk, bed, child: None };
        server.option_file("my.cnf", "user=root\n");
        server.start();
        server
    }

    /// An option file that leads to the server.
    pub fn option_file(&self, name: &str, more: &str) {
        let path = self.bed.write(name, &format!("[client]\nsocket=@BED@/sock\n{more}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn start(&mut self) {
        let path = |name: &str| self.bed.path(name).display().to_string();
        let child = Command::new("mariadbd")
            .args(QUICK)
            .args(["--skip-networking", "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=64M"])
            .arg("--event-scheduler=ON")
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--tmpdir={}", path("")))
            .arg(format!("--socket={}", path("sock")))
            .arg(format!("--pid-file={}", path("pid")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.bed.path("server.log")).unwrap())
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("mariadbd: {error}: apt-get install mariadb-server")));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.ask("SELECT 1").status.success() {
            assert!(Instant::now() < deadline, "{}", self.bed.read("server.log"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(20);
        while child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A path on its disk.
    pub fn on_disk(&self, name: &str) -> PathBuf {
        self.disk.as_ref().unwrap().path(name)
    }

    /// The client as root, its input from `script`.
    pub fn client(&self) -> Command {
        let mut command = Command::new("mariadb");
        command.arg(format!("--defaults-file={}", self.bed.path("my.cnf").display()));
        command.args(["--batch", "--skip-column-names", "--comments", "--binary-mode"]);
        command.arg("--default-character-set=utf8mb4");
        command
    }

    fn ask(&self, sql: &str) -> Output {
        self.bed.write("script.sql", sql);
        self.client().stdin(fs::File::open(self.bed.path("script.sql")).unwrap()).output().unwrap()
    }

    /// Runs `sql` and returns what it prints.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        let ran = self.ask(sql);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
    }

    /// All that an upgrade may change on the server, as its own tools tell it.
    pub fn world(&self) -> String {
        let dump = Command::new("mariadb-dump")
            .arg(format!("--defaults-file={}", self.bed.path("my.cnf").display()))
            .args([
                "--single-transaction",
                "--routines",
                "--events",
                "--triggers",
                "--dump-history",
                "--hex-blob",
                "--skip-dump-date",
            ])
            .args(["--default-character-set=utf8mb4", "--databases", "shop", "other"])
            .output()
            .unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let more = self.sql(
            "SHOW GRANTS FOR app@'%'; SHOW GRANTS FOR clerk;
             SELECT Db, User, Host, Routine_type, Routine_name, Proc_priv FROM mysql.procs_priv ORDER BY 1, 2, 3, 4, 5;
             SELECT * FROM information_schema.SCHEMATA ORDER BY 2;",
        );
        String::from_utf8(dump.stdout).unwrap() + &more
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
