//! The `processes` file of a transaction: which programs were started, written by each of them before it execs.
//!
//! It is read by whoever recovers on the same boot, so it needs no fsync: what a killed process wrote, the kernel
//! still has. Records are of one size and begin with a magic, so that a torn one (full disk) costs only itself.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{OrSay, Result};
use crate::sys::clock;

pub(super) const SIZE: usize = 48;
const MAGIC: [u8; 4] = *b"txp1";

/// What a record says of its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// It was started, and nothing but its session shows what it starts.
    Started,
    /// It was started in a cgroup of its own.
    Grouped,
    /// It ended and left nothing running.
    Over,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) pid: u32,
    /// When it was written, nanoseconds since boot.
    pub(super) at: u64,
    pub(super) about: About,
    pub(super) token: u64,
    pub(super) boot: [u8; 16],
}

impl Record {
    /// As bytes; allocates nothing, since it is called between fork and exec.
    pub(super) fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.pid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.token.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.boot);
        bytes[40] = match self.about {
            About::Started => 0,
            About::Grouped => 1,
            About::Over => 2,
        };
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Record> {
        let bytes: &[u8; SIZE] = bytes.get(..SIZE)?.try_into().ok()?;
        let about = match bytes[40..] {
            [0, 0, 0, 0, 0, 0, 0, 0] => About::Started,
            [1, 0, 0, 0, 0, 0, 0, 0] => About::Grouped,
            [2, 0, 0, 0, 0, 0, 0, 0] => About::Over,
            _ => return None,
        };
        (bytes[..4] == MAGIC).then(|| Record {
            pid: u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")),
            at: u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes")),
            token: u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes")),
            boot: bytes[24..40].try_into().expect("sixteen bytes"),
            about,
        })
    }
}

/// The token of the log directory `dir`, made different from the same token of any other: two state directories
/// may both have a transaction `notes-3`.
pub(super) fn mark(dir: &Path, token: &str) -> String {
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let hash = blake3::hash(dir.as_os_str().as_bytes());
    format!("{token}@{}", &hash.to_hex()[..16])
}

/// A number that stands for a mark.
pub(super) fn hash(mark: &str) -> u64 {
    let hash = blake3::hash(mark.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
}

/// A number that stands for this boot.
pub(super) fn boot_hash() -> [u8; 16] {
    let hash = blake3::hash(clock::boot_id().as_bytes());
    hash.as_bytes()[..16].try_into().expect("sixteen bytes")
}

/// Opens the file in `dir` for appending, created when missing.
pub(super) fn open(dir: &Path) -> Result<File> {
    let path = dir.join("processes");
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .or_say(|| format!("cannot open `{}`", path.display()))
}

/// Notes that a program is over.
pub(super) fn over(mut file: &File, pid: u32, token: u64) {
    let record = Record { pid, at: clock::since_boot(), about: About::Over, token, boot: boot_hash() };
    // Without it `end_all` only looks a little longer.
    let _ = file.write_all(&record.bytes());
}

/// The programs of `token` that were started on this boot and are not known to be over.
pub(super) fn read(dir: &Path, token: u64) -> Result<Vec<Record>> {
    let path = dir.join("processes");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(cause).or_say(|| format!("cannot read `{}`", path.display())),
    };
    let boot = boot_hash();
    let mut running: Vec<Record> = Vec::new();
    for record in parse(&bytes).into_iter().filter(|record| record.boot == boot && record.token == token) {
        match record.about {
            About::Over => running.retain(|started| started.pid != record.pid),
            About::Started | About::Grouped => running.push(record),
        }
    }
    Ok(running)
}

fn parse(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while bytes.len() >= SIZE {
        match Record::read(bytes) {
            Some(record) => {
                records.push(record);
                bytes = &bytes[SIZE..];
            }
            None => bytes = &bytes[1..],
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pid: u32, token: u64, about: About) -> Record {
        Record { pid, at: 5, about, token, boot: boot_hash() }
    }

    #[test]
    fn a_torn_record_costs_only_itself() {
        let (one, two) = (record(1, 9, About::Started), record(2, 9, About::Grouped));
        let bytes = [&one.bytes()[..], &one.bytes()[..31], &two.bytes()[..]].concat();
        assert_eq!(parse(&bytes), [one, two]);
    }

    #[test]
    fn only_this_boot_and_this_token_count_and_what_is_over_does_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), 9).unwrap(), []);
        let mut file = open(dir.path()).unwrap();
        let old = Record { boot: [0; 16], ..record(3, 9, About::Started) };
        for one in [record(1, 9, About::Started), record(2, 9, About::Started), record(4, 8, About::Started), old] {
            file.write_all(&one.bytes()).unwrap();
        }
        over(&file, 1, 9);
        assert_eq!(read(dir.path(), 9).unwrap(), [record(2, 9, About::Started)]);
    }
}
