//! `journal.head`: the number and the hash of the last event, in a file of its own, so that a journal that was cut
//! off at the end is noticed.
//!
//! One line, `<seq> <hash in hex>`, replaced as a whole.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::chain::{Hash, Row, damaged};
use crate::error::{OrSay, Result};
use crate::sys::files;

/// The name of the file in the state directory.
pub(super) const FILE: &str = "journal.head";

/// How a person who knows that no event is missing makes it again.
pub(super) const MEND: &str = "if `txupgrade history` shows all there was: sqlite3 journal.db \"select seq || ' ' || lower(hex(hash)) from event order by seq desc limit 1\" > journal.head";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl From<&Row> for Head {
    fn from(row: &Row) -> Head {
        Head { seq: row.seq, hash: row.hash }
    }
}

/// Reads the head of the journal in `dir`; `None` if there is none.
pub(super) fn read(dir: &Path) -> Result<Option<Head>> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(garbled()),
        Err(error) => return Err(error).or_say(|| format!("cannot read `{}`", path.display())),
    };
    let head = text.strip_suffix('\n').and_then(|line| line.split_once(' ')).and_then(|(seq, hash)| {
        Some(Head { seq: seq.parse().ok().filter(|seq| *seq > 0)?, hash: Hash::from_hex(hash)? })
    });
    head.map(Some).ok_or_else(garbled)
}

fn garbled() -> crate::error::Error {
    damaged(format!("the file `{FILE}` is not a number and a hash")).hint(MEND)
}

/// Writes it durably.
pub(super) fn write(dir: &Path, head: Head) -> Result<()> {
    files::write_durably(&dir.join(FILE), format!("{} {}\n", head.seq, head.hash).as_bytes())
}
