//! Starting a program: everything that can be known to be wrong is said before the fork.
//!
//! Between fork and exec the child only makes system calls with what was prepared for it: it may not allocate,
//! since another thread could have held the allocator's lock.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};

use super::account::Account;
use super::cgroup::Group;
use super::ending::{Trace, group_prefix};
use super::records::{self, About, Record};
use super::{Log, Program, seen};
use crate::error::{Error, OrSay, Result};
use crate::sys::clock;

/// A program that runs.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) trace: Trace,
    pub(super) group: Option<Group>,
}

/// Starts `program`; its output goes to `log`.
pub(super) fn start(program: Program, log: &Log, account: Option<&Account>) -> Result<Started> {
    let name = program.argv.first().cloned().or_say(|| "the command is empty")?;
    let shown = name.display().to_string();
    let path = find(&name, &program)?;
    let dir = match &program.dir {
        Some(dir) => Some(directory(dir, &shown)?),
        None => None,
    };

    let token = records::hash(&log.mark);
    let id = next_id(token);
    let group = Group::make(&id);
    let say = || format!("cannot start `{shown}`");
    let (said, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).or_say(say)?;
    let boot = records::boot_hash();
    let record = Record { pid: 0, at: 0, about: About::Started, token, boot };
    let mut birth = Birth {
        group: group.as_ref().map(|group| group.join.as_raw_fd()),
        records: log.records.as_ref().map(AsRawFd::as_raw_fd),
        record,
        account: account.map(|account| (account.uid, account.gid, account.groups.clone())),
        dir,
        tell: tell.as_raw_fd(),
    };

    let mut command = Command::new(&path);
    command.arg0(&name).args(&program.argv[1..]).stdin(program.stdin).envs(&program.env);
    let out = |log: &Log| log.file.try_clone().or_say(say);
    command.stderr(out(log)?);
    match program.stdout {
        Some(stdout) => command.stdout(stdout),
        None => command.stdout(out(log)?),
    };
    if let Some(account) = account {
        let name = OsStr::new(&account.name);
        for (key, value) in [("HOME", account.home.as_os_str()), ("USER", name), ("LOGNAME", name)] {
            if !program.env.contains_key(OsStr::new(key)) {
                command.env(key, value);
            }
        }
    }
    if let Some(dir) = &program.dir {
        command.env("PWD", dir);
    }
    command.env("TXUPGRADE_TOKEN", &log.mark).env("TXUPGRADE_PROGRAM", &id);
    // SAFETY: `leave` makes system calls only; what it uses is owned by the closure or open until the fork is over.
    unsafe { command.pre_exec(move || birth.leave()) };

    let spawned = command.spawn();
    // Our copies of the child's pipes and of `tell` go, so that their readers see the end.
    drop(command);
    drop(tell);
    let child = spawned.map_err(|cause| refused(&shown, &program.dir, account, &cause, said))?;
    let variable = OsString::from(format!("TXUPGRADE_PROGRAM={id}"));
    // Not waited for yet, so that the pid is surely its own.
    let start = seen::look(child.id()).map_or(0, |seen| seen.start);
    let place = group.as_ref().map(|group| group.dir.clone());
    Ok(Started { trace: Trace { pid: child.id(), start, variable, group: id, place }, child, group })
}

fn next_id(token: u64) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}{}-{:x}-{next}", group_prefix(token), std::process::id(), clock::since_boot())
}

/// What the child does between fork and exec.
///
/// Until it execs it also holds the locks we hold. So if we are killed in that moment, nobody can take over the
/// transaction before the child is on record.
struct Birth {
    group: Option<RawFd>,
    records: Option<RawFd>,
    record: Record,
    account: Option<(u32, u32, Vec<u32>)>,
    dir: Option<CString>,
    tell: RawFd,
}

/// Where it can fail; told to the parent as one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Session = 1,
    Record = 2,
    Account = 3,
    Dir = 4,
}

impl Birth {
    fn leave(&mut self) -> std::io::Result<()> {
        self.stages().map_err(|(stage, cause)| {
            let byte = [stage as u8];
            // SAFETY: writes one byte of the stack to an open pipe.
            unsafe { libc::write(self.tell, byte.as_ptr().cast(), 1) };
            cause
        })
    }

    fn stages(&mut self) -> Result<(), (Stage, std::io::Error)> {
        let last = |stage| (stage, std::io::Error::last_os_error());
        // SAFETY: system calls only, with pointers to what `self` owns, all of them async-signal-safe.
        unsafe {
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            if libc::setsid() < 0 {
                return Err(last(Stage::Session));
            }
            if let Some(group) = self.group
                && libc::write(group, c"0".as_ptr().cast(), 1) == 1
            {
                self.record.about = About::Grouped;
            }
            if let Some(records) = self.records {
                let mut now: libc::timespec = std::mem::zeroed();
                libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now);
                self.record.at = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
                self.record.pid = libc::getpid() as u32;
                let bytes = self.record.bytes();
                if libc::write(records, bytes.as_ptr().cast(), bytes.len()) != bytes.len() as isize {
                    return Err(last(Stage::Record));
                }
            }
            if let Some((uid, gid, groups)) = &self.account
                && (libc::setgroups(groups.len(), groups.as_ptr()) != 0
                    || libc::setgid(*gid) != 0
                    || libc::setuid(*uid) != 0)
            {
                return Err(last(Stage::Account));
            }
            if let Some(dir) = &self.dir
                && libc::chdir(dir.as_ptr()) != 0
            {
                return Err(last(Stage::Dir));
            }
            // What we inherited without close-on-exec (a shell's `3>file`) is not the program's. Not on old kernels.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        }
        Ok(())
    }
}

/// Why the child did not become the program.
fn refused(
    shown: &str,
    dir: &Option<PathBuf>,
    account: Option<&Account>,
    cause: &std::io::Error,
    said: OwnedFd,
) -> Error {
    let mut stage = [0];
    let _ = File::from(said).read(&mut stage);
    let user = account.map_or("", |account| account.name.as_str());
    let cannot = if user.is_empty() {
        format!("cannot start `{shown}`")
    } else {
        format!("cannot start `{shown}` as user `{user}`")
    };
    let error = Error::new(cannot);
    let dir = dir.as_deref().unwrap_or(Path::new(".")).display().to_string();
    match stage[0] {
        byte if byte == Stage::Session as u8 => error.because(format!("it got no session of its own: {cause}")),
        byte if byte == Stage::Record as u8 => error.because(format!("it could not be recorded: {cause}")),
        byte if byte == Stage::Account as u8 => error.because(format!("its user could not be set: {cause}")),
        byte if byte == Stage::Dir as u8 => error.because(format!("it cannot work in `{dir}`: {cause}")),
        _ => match cause.kind() {
            ErrorKind::NotFound => error.because("its loader is missing: it may be made for another machine"),
            _ => error.because(cause),
        },
    }
}

/// The directory to work in.
fn directory(dir: &Path, shown: &str) -> Result<CString> {
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            return Err(Error::new(format!("cannot start `{shown}`"))
                .because(format!("`{}`, where it should work, is no directory", dir.display())));
        }
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Error::new(format!("cannot start `{shown}`"))
                .because(format!("there is no directory `{}` for it to work in", dir.display())));
        }
        _ => {}
    }
    CString::new(dir.as_os_str().as_bytes()).or_say(|| format!("cannot work in `{}`", dir.display()))
}

/// The file that a program's name stands for.
fn find(name: &OsStr, program: &Program) -> Result<PathBuf> {
    let path = if name.as_bytes().contains(&b'/') {
        match &program.dir {
            Some(dir) => dir.join(name),
            None => PathBuf::from(name),
        }
    } else {
        return search(name, program);
    };
    let meta = match std::fs::metadata(&path) {
        Ok(meta) => meta,
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Error::new(format!("there is no program `{}`", path.display())));
        }
        Err(cause) => return Err(cause).or_say(|| format!("cannot look at the program `{}`", path.display())),
    };
    if meta.is_dir() {
        return Err(Error::new(format!("`{}` is a directory, not a program", path.display())));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(Error::new(format!("`{}` is not executable", path.display()))
            .hint(format!("`chmod +x {}`", path.display())));
    }
    interpreter(&path)?;
    std::path::absolute(&path).or_say(|| format!("cannot tell where `{}` is", path.display()))
}

fn search(name: &OsStr, program: &Program) -> Result<PathBuf> {
    let own = std::env::var_os("PATH");
    let path = program.env.get(OsStr::new("PATH")).cloned().or(own).unwrap_or_else(|| "/usr/bin:/bin".into());
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    });
    let found = found.filter(|_| !name.is_empty()).ok_or_else(|| {
        Error::new(format!("there is no program `{}`", name.display()))
            .because(format!("it is in none of the directories of PATH, `{}`", path.display()))
    })?;
    interpreter(&found)?;
    std::path::absolute(&found).or_say(|| format!("cannot tell where `{}` is", found.display()))
}

/// Whether the interpreter that a script's first line names is there.
fn interpreter(script: &Path) -> Result<()> {
    let mut first = [0; 256];
    // One that may be executed and not read is no script that we could judge.
    let Ok(count) = File::open(script).and_then(|mut file| file.read(&mut first)) else { return Ok(()) };
    let Some(line) = first[..count].strip_prefix(b"#!") else { return Ok(()) };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let Some(word) = words.next() else { return Ok(()) };
    if Path::new(OsStr::from_bytes(word)).exists() {
        return Ok(());
    }
    let hint = "it was written on another system: its lines end with carriage returns (`sed -i 's/\\r$//'`)";
    let error = Error::new(format!("the interpreter of `{}` is missing", script.display()))
        .because(format!("its first line names `{}`", String::from_utf8_lossy(word).escape_debug()));
    Err(if word.ends_with(b"\r") { error.hint(hint) } else { error })
}
