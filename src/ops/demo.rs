//! The ground of `txupgrade demo`: a small real web application that runs on loopback and wants to be upgraded.
//!
//! [`lay_out`] writes Notes 1.4.2 into a directory of its own, fills its database, starts its server, and puts two
//! plans beside it: one to 2.0.0, which works, and one to 3.0.0, whose migration breaks half-way. What is upgraded
//! is real; only the upgrades themselves are left to the other verbs. It relies on `python3` and nothing else, and
//! promises that nothing outside the directory is touched and that [`Ground::tear_down`] ends what was started.
//!
//! ```text
//! DIR/notes/      the application: bin/ lib/ share/ config/ cache/
//! DIR/data/       its database          DIR/run/      its pid file and its log
//! DIR/releases/   notes-2.0.0.tar.gz and notes-3.0.0/
//! DIR/notes-2.0.toml, DIR/notes-3.0.toml, DIR/state/
//! ```

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::{Error, OrSay, Result};

/// A file of the application: where it lies, what is in it, its mode.
type Source = (&'static str, &'static str, u32);

macro_rules! source {
    ($from:literal, $at:literal, $mode:literal) => {
        ($at, include_str!(concat!("../../fixtures/demo/", $from, "/", $at)), $mode)
    };
}

const EVERY_RELEASE: &[Source] = &[
    source!("every-release", "bin/notes", 0o755),
    source!("every-release", "bin/notes-ctl", 0o755),
    source!("every-release", "lib/config.py", 0o644),
    source!("every-release", "lib/web.py", 0o644),
];
const NOTES_1: &[Source] = &[
    source!("1.4.2", "CHANGES", 0o644),
    source!("1.4.2", "lib/release.py", 0o644),
    source!("1.4.2", "share/page.html", 0o644),
    source!("1.4.2", "config/notes.conf", 0o644),
];
const NOTES_2: &[Source] = &[
    source!("2.0.0", "CHANGES", 0o644),
    source!("2.0.0", "lib/release.py", 0o644),
    source!("2.0.0", "share/page.html", 0o644),
    source!("2.0.0", "config/notes.conf", 0o644),
];
const NOTES_3: &[Source] = &[
    source!("3.0.0", "CHANGES", 0o644),
    source!("3.0.0", "lib/release.py", 0o644),
    source!("3.0.0", "share/page.html", 0o644),
    source!("3.0.0", "config/notes.conf", 0o644),
];
const SEED: &str = include_str!("../../fixtures/demo/seed.py");
const TO_2: &str = include_str!("../../fixtures/demo/notes-2.0.toml");
const TO_3: &str = include_str!("../../fixtures/demo/notes-3.0.toml");

/// The application, laid out and running.
#[derive(Debug)]
pub struct Ground {
    /// The directory that holds all of it; absolute, without symlinks.
    pub dir: PathBuf,
    /// The state directory for `txupgrade`; not yet there.
    pub state: PathBuf,
    /// The application itself.
    pub home: PathBuf,
    /// Where its server listens.
    pub address: SocketAddr,
    /// What can be run.
    pub plans: Plans,
}

/// The plan files of the ground.
#[derive(Debug)]
pub struct Plans {
    /// Notes 1.4 to 2.0: commits.
    pub works: PathBuf,
    /// Notes 2.0 to 3.0: breaks half-way, and is rolled back.
    pub breaks: PathBuf,
}

/// What the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
}

/// Lays Notes 1.4.2 out in `dir`, which is made when it is not there and must be empty, and starts it. When that
/// fails nothing is left running. Errors name what is missing: `python3`, a free port, an empty directory.
pub fn lay_out(dir: &Path) -> Result<Ground> {
    let python = python()?;
    make_dir(dir, 0o700)?;
    let dir = dir.canonicalize().or_say(|| format!("cannot resolve `{}`", dir.display()))?;
    if entries(&dir)? > 0 {
        return Err(Error::new(format!("`{}` is not empty", dir.display())).hint("name a directory that is not there"));
    }
    let root = dir.to_str().filter(|text| !text.chars().any(char::is_control)).or_say(|| {
        format!("`{}` cannot stand in a plan file: it is not UTF-8 or has control characters", dir.display())
    })?;
    let address = free_address()?;
    let ground = Ground {
        state: dir.join("state"),
        home: dir.join("notes"),
        address,
        plans: Plans { works: dir.join("notes-2.0.toml"), breaks: dir.join("notes-3.0.toml") },
        dir: dir.clone(),
    };

    for below in ["data", "run", "releases"] {
        make_dir(&dir.join(below), 0o755)?;
    }
    write_tree(&ground.home, NOTES_1)?;
    write_file(&ground.home.join("config/notes.conf"), settings(root, address).as_bytes(), 0o644)?;

    let archive = archive("notes-2.0.0", NOTES_2)?;
    write_file(&dir.join("releases/notes-2.0.0.tar.gz"), &archive, 0o644)?;
    write_tree(&dir.join("releases/notes-3.0.0"), NOTES_3)?;
    for (path, text) in [(&ground.plans.works, TO_2), (&ground.plans.breaks, TO_3)] {
        write_file(path, filled(text, root, address, &archive).as_bytes(), 0o644)?;
    }

    run(Command::new(ground.home.join("bin/notes")).arg("migrate"))?;
    run(Command::new(python).args(["-c", SEED]).arg(dir.join("data/notes.db")))?;
    if let Err(error) = ground.control(Verb::Start) {
        // The first failure is the one to tell; a server that did not start needs no stop that succeeds.
        let _ = ground.control(Verb::Stop);
        return Err(error);
    }
    Ok(ground)
}

/// What `notes-ctl` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Returns when the server answers.
    Start,
    /// Returns when it is gone; fine when it was not there.
    Stop,
}

impl Ground {
    /// Runs the application's own `notes-ctl`, and returns what it said.
    pub fn control(&self, verb: Verb) -> Result<String> {
        let word = match verb {
            Verb::Start => "start",
            Verb::Stop => "stop",
        };
        run(Command::new(self.home.join("bin/notes-ctl")).arg(word))
    }

    /// Asks the server for a page, such as `/`.
    pub fn page(&self, path: &str) -> Result<Page> {
        let say = || format!("cannot get `http://{}{path}`", self.address);
        let patience = Duration::from_secs(10);
        let mut link = TcpStream::connect_timeout(&self.address, patience).or_say(say)?;
        link.set_read_timeout(Some(patience)).or_say(say)?;
        link.write_all(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).as_bytes()).or_say(say)?;
        let mut answer = String::new();
        link.read_to_string(&mut answer).or_say(say)?;
        let (head, text) = answer.split_once("\r\n\r\n").or_say(say)?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).or_say(say)?;
        Ok(Page { status, text: text.to_owned() })
    }

    /// Stops the server. The directory stays: it is the caller's to remove or to keep.
    pub fn tear_down(&self) -> Result<()> {
        self.control(Verb::Stop).map(drop)
    }
}

/// The path of `python3`, of a version that the application runs on.
fn python() -> Result<PathBuf> {
    python_on(&std::env::var_os("PATH").unwrap_or_default())
}

fn python_on(path: &std::ffi::OsStr) -> Result<PathBuf> {
    let hint = "on Debian and Ubuntu: `apt-get install python3`";
    let found = std::env::split_paths(path)
        .map(|dir| dir.join("python3"))
        .find(|file| file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0));
    let python = found.ok_or_else(|| {
        Error::new("cannot find `python3` on the PATH, which the demo's application is written in").hint(hint)
    })?;
    let test = "import sys, sqlite3, http.server; sys.exit(sys.version_info < (3, 9))";
    run(Command::new(&python).args(["-c", test])).map_err(|error| {
        error.within(format!("`{}` is not Python 3.9 or newer with its sqlite3 module", python.display())).hint(hint)
    })?;
    Ok(python)
}

/// A loopback address that nobody listens on. It is bound again whenever the server is started, so ports that the
/// system hands out by itself come last; and demos that run at the same time look in different places.
fn free_address() -> Result<SocketAddr> {
    static LOOKED: AtomicU32 = AtomicU32::new(0);
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|socket| socket.local_addr());
    for _ in 0..100 {
        let place = std::process::id().wrapping_mul(97).wrapping_add(LOOKED.fetch_add(1, Ordering::Relaxed));
        if let Ok(address) = free(20_000 + (place % 10_000) as u16) {
            return Ok(address);
        }
    }
    free(0).or_say(|| "cannot find a free port on 127.0.0.1")
}

/// `config/notes.conf` of the installation.
fn settings(root: &str, address: SocketAddr) -> String {
    format!(
        "# Notes of the harbour office.\ntitle     = Harbour office\nlisten    = {address}\n\
         database  = {root}/data/notes.db\nrun       = {root}/run\npage_size = 12\n"
    )
}

/// A plan for this place.
fn filled(plan: &str, root: &str, address: SocketAddr, archive: &[u8]) -> String {
    // Inside a TOML string, and there inside a string of the plan language.
    let root = root.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${");
    plan.replace("@ROOT@", &root)
        .replace("@ADDRESS@", &address.to_string())
        .replace("@BLAKE3@", &blake3::hash(archive).to_hex())
}

fn write_tree(dir: &Path, release: &[Source]) -> Result<()> {
    make_dir(dir, 0o755)?;
    for (at, text, mode) in EVERY_RELEASE.iter().chain(release) {
        let path = dir.join(at);
        make_dir(path.parent().expect("it was joined to a directory"), 0o755)?;
        write_file(&path, text.as_bytes(), *mode)?;
    }
    Ok(())
}

/// The release as it would be downloaded: `NAME/…` in a `.tar.gz`, always the same bytes.
fn archive(name: &str, release: &[Source]) -> Result<Vec<u8>> {
    let say = || format!("cannot pack `{name}.tar.gz`");
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()));
    for (at, text, mode) in EVERY_RELEASE.iter().chain(release) {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(1_767_225_600);
        tar.append_data(&mut header, format!("{name}/{at}"), text.as_bytes()).or_say(say)?;
    }
    tar.into_inner().and_then(|gz| gz.finish()).or_say(say)
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().mode(mode).create(path);
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        // The caller's umask must not decide who may read the application.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) => Err(error),
    }
    .or_say(|| format!("cannot make the directory `{}`", path.display()))
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(mode))
        })
        .or_say(|| format!("cannot write `{}`", path.display()))
}

fn entries(dir: &Path) -> Result<usize> {
    Ok(fs::read_dir(dir).or_say(|| format!("cannot read the directory `{}`", dir.display()))?.count())
}

/// Runs a program of the application to its end and returns what it said; an end that is no success is an error that
/// quotes its last line.
fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().or_say(|| format!("cannot start `{program}`"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    let end = match output.status.code() {
        Some(code) => format!("exit status {code}"),
        None => output.status.to_string(),
    };
    let error = Error::new(format!("`{program}` ended with {end}"));
    Err(match said.lines().last() {
        Some(line) => error.because(format!("its last line was: {line}")),
        None => error,
    })
}

#[cfg(test)]
mod tests;
