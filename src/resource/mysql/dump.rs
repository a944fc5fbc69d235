//! The dump: three pieces, each complete by the mark at its end, that one after the other are one script.
//!
//! First tables with their rows, then what is defined on them (triggers, routines, views), then events. None of it
//! names the schema unless its author did, so that it can be loaded into any. The pieces are loaded apart: rows beside the live
//! schema, definitions only where they belong, and events nowhere else, since an event that is loaded runs.

use std::io::{self, Read, Write};

use super::super::Captured;
use super::look::{Inventory, Kind};
use super::names::{ident, without_schema};
use super::server::Server;
use crate::context::Context;
use crate::error::{Error, OrSay, Result};
use crate::store::{Head, ObjectId};

/// How a piece that is complete ends.
const END: &[u8] = b"-- Dump completed\n";

/// The second and third piece.
#[derive(Default)]
pub(super) struct Definitions {
    pub(super) text: String,
    pub(super) events: String,
}

/// Which piece is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Rows,
    Definitions,
    Events,
}

/// How long the second and the third are; the first is what is before them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    pub(super) definitions: u64,
    pub(super) events: u64,
}

const NO_TABLES: [&str; 2] = ["--no-create-info", "--no-data"];

impl Definitions {
    /// Dumps them.
    pub(super) fn of(server: &Server<'_>, inventory: &Inventory) -> Result<Definitions> {
        let database = server.database.as_str();
        let mut all = Definitions::default();
        if !inventory.triggers.is_empty() || !inventory.routines.is_empty() {
            let words = [&NO_TABLES[..], &["--triggers", "--routines", "--skip-events", "--", database]].concat();
            all.text += &complete(server.dump_text(&words)?)?;
        }
        // What they look at is there by then, each other included.
        if !inventory.views.is_empty() {
            let views = inventory.views.iter().map(String::as_str);
            let words = ["--no-data", "--skip-triggers", "--skip-routines", "--skip-events", "--", database];
            all.text += &complete(server.dump_text(&words.into_iter().chain(views).collect::<Vec<_>>())?)?;
        }
        if !inventory.events.is_empty() {
            let words = [&NO_TABLES[..], &["--skip-triggers", "--skip-routines", "--events", "--", database]].concat();
            all.events = complete(server.dump_text(&words)?)?;
        }
        Ok(all)
    }

    pub(super) fn lengths(&self) -> Lengths {
        Lengths { definitions: self.text.len() as u64, events: self.events.len() as u64 }
    }
}

/// Dumps tables with their rows and keeps that with the definitions behind it.
pub(super) fn capture(
    server: &Server<'_>,
    cx: &Context<'_>,
    inventory: &Inventory,
    definitions: &Definitions,
    head: Head,
) -> Result<Captured> {
    let ignored: Vec<String> =
        inventory.views.iter().map(|view| format!("--ignore-table={}.{view}", server.database)).collect();
    let mut words = vec!["--skip-triggers", "--skip-routines", "--skip-events"];
    if server.is_mariadb() && inventory.tables.values().any(|table| table.kind == Kind::Versioned) {
        words.push("--dump-history");
    }
    words.extend(ignored.iter().map(String::as_str));
    words.extend(["--", &server.database]);
    let store = cx.store;
    server.dump(&words, |source| {
        let rows = Whole { source, tail: Vec::new() };
        let mut all = rows.chain(definitions.text.as_bytes()).chain(definitions.events.as_bytes());
        store.capture_stream(head, &mut all)
    })
}

/// Loads one piece into `schema` as it is.
pub(super) fn load(
    server: &Server<'_>,
    cx: &Context<'_>,
    (manifest, lengths): (ObjectId, Lengths),
    piece: Piece,
    schema: &str,
) -> Result<()> {
    let store = cx.store;
    let (skip, left) = lengths.range(piece, store.size_of(manifest)?.0);
    if left == 0 {
        return Ok(());
    }
    server.load(schema, |sink| store.restore_stream(manifest, &mut Part { sink, skip, left }))
}

/// Loads the definitions into a schema that is not their own, in which they must not reach for the live one.
pub(super) fn load_definitions_elsewhere(
    server: &Server<'_>,
    cx: &Context<'_>,
    (manifest, lengths): (ObjectId, Lengths),
    schema: &str,
) -> Result<()> {
    let (skip, left) = lengths.range(Piece::Definitions, cx.store.size_of(manifest)?.0);
    let mut text = Vec::new();
    cx.store.restore_stream(manifest, &mut Part { sink: &mut text, skip, left })?;
    let text = String::from_utf8(text).or_say(|| "the definitions of the dump are not UTF-8")?;
    let live = ident(&server.database);
    // Where a routine was made under another collation the dump changes that of the schema for it, by name.
    let there = text.replace(&format!("ALTER DATABASE {live} "), &format!("ALTER DATABASE {} ", ident(schema)));
    let there = without_schema(&there, &server.database);
    server.load(schema, |sink| {
        sink.write_all(there.as_bytes()).or_say(|| "cannot write the definitions")?;
        Ok(there.len() as u64)
    })
}

impl Lengths {
    /// Where a piece begins, and how long it is.
    fn range(self, piece: Piece, all: u64) -> (u64, u64) {
        let rows = all.saturating_sub(self.definitions + self.events);
        match piece {
            Piece::Rows => (0, rows),
            Piece::Definitions => (rows, self.definitions),
            Piece::Events => (rows + self.definitions, self.events),
        }
    }
}

fn complete(text: String) -> Result<String> {
    if text.as_bytes().ends_with(END) { Ok(text) } else { Err(Error::new(INCOMPLETE)) }
}

const INCOMPLETE: &str = "the dump is not complete: its last line is not `-- Dump completed`";

/// A dump that is read to its end has one.
struct Whole<R> {
    source: R,
    tail: Vec<u8>,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.tail.ends_with(END) {
            return Err(io::Error::other(INCOMPLETE));
        }
        self.tail.extend_from_slice(&buffer[read.saturating_sub(END.len())..read]);
        let surplus = self.tail.len().saturating_sub(END.len());
        self.tail.drain(..surplus);
        Ok(read)
    }
}

/// Passes on some of what is written to it.
struct Part<'a> {
    sink: &'a mut dyn Write,
    skip: u64,
    left: u64,
}

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let from = self.skip.min(bytes.len() as u64);
        let to = from + self.left.min(bytes.len() as u64 - from);
        self.sink.write_all(&bytes[from as usize..to as usize])?;
        self.skip -= from;
        self.left -= to - from;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_where_they_end() {
        let lengths = Lengths { definitions: 3, events: 2 };
        let cut = |piece| {
            let (mut out, (skip, left)) = (Vec::new(), lengths.range(piece, 10));
            let mut part = Part { sink: &mut out, skip, left };
            ["rows", "r", "def", "ev"].iter().for_each(|bytes| part.write_all(bytes.as_bytes()).unwrap());
            String::from_utf8(out).unwrap()
        };
        assert_eq!([Piece::Rows, Piece::Definitions, Piece::Events].map(cut), ["rowsr", "def", "ev"]);
    }

    #[test]
    fn a_dump_without_its_end_is_no_dump() {
        let read = |text: &str| {
            let mut out = Vec::new();
            // Byte by byte, so that the mark is read in pieces.
            io::copy(
                &mut Whole { source: text.as_bytes().take(1).chain(&text.as_bytes()[1..]), tail: Vec::new() },
                &mut out,
            )
            .map(|read| read as usize == text.len())
            .map_err(|error| error.to_string())
        };
        assert_eq!(read("INSERT\n-- Dump completed\n"), Ok(true));
        assert_eq!(read("INSERT\n"), Err(INCOMPLETE.to_owned()));
        assert_eq!(read("-- Dump completed\nINSERT\n"), Err(INCOMPLETE.to_owned()));
    }
}
