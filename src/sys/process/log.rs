//! The log of one task: what its programs print, with secrets made unreadable.
//!
//! Programs append to the file themselves, so nothing is lost when we are killed and nobody has to drain a pipe.
//! Secrets are overwritten in place, since a program that was left running may still append to the same file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use super::secrets::Secrets;
use super::{ending::Trace, records};
use crate::error::{Error, OrSay, Result};
use crate::sys::{clock, files};

/// How much of a program's output is kept in memory, from its beginning and again from its end.
const KEPT: u64 = 32 << 20;
/// How much more of a program's output stays on disk. What is older than that, and not the beginning, is given back
/// to the filesystem: a program that asks the same question for ever must not fill the disk that the journal needs.
const FLOOD: u64 = if cfg!(test) { 16 << 20 } else { 1 << 30 };
/// How much is read at once.
const PIECE: usize = 1 << 20;
/// A line longer than this is shown in pieces.
const LINE: usize = 64 << 10;

/// A program that is over, and what it left running.
pub(super) type Left = (Trace, Vec<(u32, String)>);

/// What the file beside a log is called that says up to where secrets are masked in it.
const MASKED: &str = "masked";

/// How much may be shown of a log of `len` bytes.
pub fn shown(path: &Path, len: u64) -> u64 {
    match std::fs::read_to_string(path.with_extension(MASKED)) {
        Ok(text) => text.trim().parse().unwrap_or(0).min(len),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => len,
        Err(_) => 0,
    }
}

/// The log of one task, `logs/<tx>/<task>.log`, appended to; and the `processes` file beside it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// What all its programs have in their environment as `TXUPGRADE_TOKEN`.
    pub(super) mark: String,
    /// Appends, whoever writes; programs inherit it.
    pub(super) file: File,
    /// The same file, written at a place: in one opened for appending the kernel would append.
    patch: File,
    secrets: RwLock<Secrets>,
    pub(super) records: Option<File>,
    /// Programs that left something running, and what.
    pub(super) left: Mutex<Vec<Left>>,
    /// Up to where secrets are masked in it.
    masked_to: AtomicU64,
}

impl Log {
    /// Opens (creates) the log of a task. `token` is unique for transaction and task. Secrets (longest first) are masked in the file after each program and wherever lines are shown. What a killed predecessor left unmasked is masked now.
    pub fn open(path: &Path, token: &str, secrets: Vec<String>) -> Result<Log> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files::create_private_dir(dir)?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .or_say(|| format!("cannot open the log `{}`", path.display()))?;
        let log = Log::over(file, path, records::mark(dir, token), Some(records::open(dir)?))?;
        log.also_secret(secrets);
        log.mask_rest()?;
        Ok(log)
    }

    /// A log that keeps nothing (commands that leave nothing behind): an unlinked temporary file.
    pub fn transient() -> Result<Log> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let token = format!("transient-{}-{}-{next}", std::process::id(), clock::since_boot());
        Log::over(unnamed()?, Path::new(""), token, None)
    }

    /// A log that keeps nothing of a task whose log would be in `dir`; its programs are known by the same token.
    pub fn not_kept(dir: &Path, token: &str, secrets: Vec<String>) -> Result<Log> {
        let log = Log::over(unnamed()?, Path::new(""), records::mark(dir, token), None)?;
        log.also_secret(secrets);
        Ok(log)
    }

    fn over(file: File, path: &Path, mark: String, records: Option<File>) -> Result<Log> {
        let say = || format!("cannot open the log `{}`", path.display());
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let patch = OpenOptions::new().read(true).write(true).open(again).or_say(say)?;
        let (secrets, left, masked_to) = (RwLock::default(), Mutex::default(), AtomicU64::default());
        Ok(Log { path: path.into(), mark, file, patch, secrets, records, left, masked_to })
    }

    /// The same log with secrets to mask from now on, such as those of an `env_file`.
    pub fn also_secret(&self, more: impl IntoIterator<Item = String>) {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = more.into_iter().filter(|word| !secrets.words.contains(word)).peekable();
        if new.peek().is_some() {
            let all: Vec<String> = secrets.words.iter().cloned().chain(new).collect();
            *secrets = Secrets::new(all);
        }
    }

    /// Where it is; empty for a transient one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line of our own (`$ notes-ctl stop`, `= exit status 0 after 0.3 s`), secrets masked. That it cannot be written stops nothing.
    pub fn line(&self, line: &str) {
        let mut text = String::new();
        // A program that ended without a newline would otherwise share its last line with us.
        let len = self.len();
        let mut last = [b'\n'];
        if len > 0 && self.patch.read_exact_at(&mut last, len - 1).is_ok() && last != [b'\n'] {
            text.push('\n');
        }
        text.push_str(&self.masked(line));
        text.push('\n');
        let _ = (&self.file).write_all(text.as_bytes());
        let _ = self.mask_rest();
    }

    /// `text` with every secret masked, byte for byte with `*`.
    pub fn masked(&self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).mask(&mut bytes);
        String::from_utf8(bytes).unwrap_or_else(|broken| String::from_utf8_lossy(broken.as_bytes()).into_owned())
    }

    /// An error with every secret in it masked.
    pub fn masked_error(&self, mut error: Error) -> Error {
        error.statement = self.masked(&error.statement);
        for text in error.causes.iter_mut().chain(&mut error.hints) {
            *text = self.masked(text);
        }
        error
    }

    /// How long it is.
    pub(super) fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    /// What stands between `from` and `to`, at most the first and last 32 MiB of it; not masked.
    pub(super) fn text(&self, from: u64, to: u64) -> Result<String> {
        let say = || format!("cannot read the log `{}`", self.path.display());
        let read = |from: u64, to: u64| {
            let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
            let count = self.fill(&mut bytes, from).or_say(say)?;
            bytes.truncate(count);
            Ok(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
            })
        };
        if to - from <= 2 * KEPT {
            return read(from, to);
        }
        let mut text = read(from, from + KEPT)?;
        text.push_str(&format!("\n… {} bytes left out …\n", to - from - 2 * KEPT));
        text.push_str(&read(to - KEPT, to)?);
        Ok(text)
    }

    /// Masks what was appended since that was done last, and says so to those who look.
    pub(super) fn mask_rest(&self) -> Result<()> {
        let to = self.len();
        // A program that truncated its output took the log's beginning along.
        let from = Some(self.masked_to.load(Ordering::Relaxed)).filter(|from| *from <= to).unwrap_or(0);
        self.mask(from, to)?;
        self.masked_to.store(to, Ordering::Relaxed);
        self.show_no_more();
        Ok(())
    }

    /// Writes beside the log how much of it may be shown: what a program that knows secrets prints is shown when they
    /// are masked in it. A log without secrets is shown as it is written.
    pub(super) fn show_no_more(&self) {
        let beside = self.path.with_extension(MASKED);
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        if self.path.as_os_str().is_empty() || (secrets.pattern.is_none() && !beside.exists()) {
            return;
        }
        // Of one length, so that nobody reads half of it.
        let text = format!("{:020}\n", self.masked_to.load(Ordering::Relaxed));
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside);
        let _ = open.and_then(|file| file.write_all_at(text.as_bytes(), 0));
    }

    /// Overwrites every secret between `from` and `to`.
    pub(super) fn mask(&self, from: u64, to: u64) -> Result<()> {
        let say = || format!("cannot mask secrets in the log `{}`", self.path.display());
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let Some(pattern) = &secrets.pattern else { return Ok(()) };
        let mut bytes = vec![0; PIECE.max(4 * secrets.longest)];
        let mut at = from;
        while at < to {
            match rustix::fs::seek(&self.patch, rustix::fs::SeekFrom::Data(at)) {
                // Nothing but holes from here on.
                Err(rustix::io::Errno::NXIO) => break,
                Ok(data) if data > at => at = data,
                Ok(_) | Err(_) => {}
            }
            if at >= to {
                break;
            }
            let count = bytes.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
            let piece = &mut bytes[..count];
            let got = self.fill(piece, at).or_say(say)?;
            for found in pattern.find_iter(&piece[..got]) {
                let stars = vec![b'*'; found.len()];
                self.patch.write_all_at(&stars, at + found.start() as u64).or_say(say)?;
            }
            let last = got < count || at + count as u64 >= to;
            // A secret may begin in this piece and end in the next.
            at += if last { to - at } else { (count - secrets.longest) as u64 };
        }
        Ok(())
    }

    /// Reads as much as there is: a program that was left running may cut the file short at any time.
    fn fill(&self, bytes: &mut [u8], from: u64) -> std::io::Result<usize> {
        let mut got = 0;
        while got < bytes.len() {
            match self.patch.read_at(&mut bytes[got..], from + got as u64) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(got)
    }

    /// Follows what is appended from `from` on.
    pub(super) fn tail(&self, from: u64) -> Tail<'_> {
        Tail { log: self, at: from, dry: from + KEPT, line: Vec::new() }
    }
}

/// The lines of a log as they are written.
pub(super) struct Tail<'a> {
    log: &'a Log,
    at: u64,
    /// From here on nothing was given back yet.
    dry: u64,
    line: Vec<u8>,
}

impl Tail<'_> {
    /// Hands out every line that is complete by now.
    pub(super) fn advance(&mut self, each_line: &mut dyn FnMut(&str)) {
        let mut piece = vec![0; LINE];
        // No further than now: a program that never stops printing must not keep us from looking at the clock.
        let to = self.log.len();
        // A program may truncate what it prints to (`> /dev/stderr`).
        self.at = self.at.min(to);
        while self.at < to {
            let Ok(count) = self.log.patch.read_at(&mut piece, self.at) else { return };
            if count == 0 {
                return;
            }
            self.at += count as u64;
            for part in piece[..count].split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(part);
                if part.ends_with(b"\n") {
                    self.show(self.line.len(), each_line);
                } else if self.line.len() > LINE {
                    // A secret may go on in what comes next, so the end of the piece is held back.
                    let secrets = self.log.secrets.read().unwrap_or_else(PoisonError::into_inner);
                    secrets.mask(&mut self.line);
                    let show = self.line.len().saturating_sub(secrets.longest);
                    drop(secrets);
                    self.show(show, each_line);
                }
            }
        }
        self.give_back();
    }

    /// Gives the middle of a flood back to the filesystem; it then reads as NULs. Not all filesystems can do that.
    fn give_back(&mut self) {
        use rustix::fs::{FallocateFlags, fallocate};
        let to = self.at.saturating_sub(KEPT);
        if to > self.dry && to - self.dry > FLOOD {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&self.log.patch, flags, self.dry, to - self.dry);
            self.dry = to;
        }
    }

    /// Hands out the rest, be the last line complete or not.
    pub(super) fn finish(mut self, each_line: &mut dyn FnMut(&str)) {
        self.advance(each_line);
        if !self.line.is_empty() {
            self.show(self.line.len(), each_line);
        }
    }

    fn show(&mut self, count: usize, each_line: &mut dyn FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.line[..count]).into_owned();
        self.line.drain(..count);
        each_line(&self.log.masked(text.trim_end_matches(['\n', '\r'])));
    }
}

/// A file without a name, in the directory for temporary files, else in memory.
fn unnamed() -> Result<File> {
    let dir = std::env::temp_dir();
    let in_dir = OpenOptions::new().read(true).append(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(&dir);
    if let Ok(file) = in_dir {
        return Ok(file);
    }
    let memory: OwnedFd = rustix::fs::memfd_create("txupgrade-log", rustix::fs::MemfdFlags::CLOEXEC)
        .or_say(|| format!("cannot make a temporary file in `{}`", dir.display()))?;
    rustix::fs::fcntl_setfl(&memory, rustix::fs::OFlags::APPEND).or_say(|| "cannot append to a temporary file")?;
    Ok(File::from(memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path, secrets: &[&str]) -> Log {
        Log::open(&dir.join("logs/x.log"), "notes-1/x", secrets.iter().map(|s| (*s).to_owned()).collect()).unwrap()
    }

    #[test]
    fn the_longest_secret_is_masked_first_and_lines_of_a_key_too() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), &["pass", "password", "", "first line of key\nsecond line of key\n"]);
        assert_eq!(log.masked("password pass ok"), "******** **** ok");
        assert_eq!(log.masked("second line of key."), "******************.");
        log.also_secret(["ok".to_owned()]);
        assert_eq!(log.masked("password pass ok"), "******** **** **");
    }

    #[test]
    fn an_error_is_masked_in_every_part() {
        let dir = tempfile::tempdir().unwrap();
        let error = Error::new("a hunter2 b").because("hunter2").hint("not hunter2");
        let masked = log(dir.path(), &["hunter2"]).masked_error(error);
        assert_eq!(masked, Error::new("a ******* b").because("*******").hint("not *******"));
    }

    #[test]
    fn a_secret_across_two_pieces_is_masked_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let open = log(dir.path(), &["hunter2"]);
        let mut text = vec![b'.'; PIECE - 3];
        text.extend_from_slice(b"hunter2, hunter2");
        (&open.file).write_all(&text).unwrap();
        open.mask(0, open.len()).unwrap();
        let text = std::fs::read(open.path()).unwrap();
        assert_eq!(&text[PIECE - 4..], b".*******, *******");
    }

    #[test]
    fn what_a_killed_predecessor_left_is_masked_when_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, "a hunter2\n").unwrap();
        Log::open(&path, "t", vec!["hunter2".into()]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a *******\n");
    }

    #[test]
    fn our_lines_begin_at_the_beginning_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), &["hunter2"]);
        log.line("$ one");
        (&log.file).write_all(b"no newline").unwrap();
        log.line("= hunter2");
        assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "$ one\nno newline\n= *******\n");
    }

    #[test]
    fn a_very_long_line_is_shown_in_pieces_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), &["hunter2"]);
        let mut text = vec![b'.'; LINE - 3];
        text.extend_from_slice(b"hunter2 and on");
        (&log.file).write_all(&text).unwrap();
        let mut shown = Vec::new();
        log.tail(0).finish(&mut |line| shown.push(line.to_owned()));
        assert_eq!(shown.concat().len(), text.len());
        assert!(shown.concat().ends_with(".******* and on"));
        assert!(shown.len() > 1);
    }

    #[test]
    fn a_transient_log_has_no_name() {
        let log = Log::transient().unwrap();
        log.line("something");
        assert_eq!((log.path(), log.len()), (Path::new(""), 10));
    }
}
