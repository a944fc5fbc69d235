//! A manifest's entries for who has the live tree beside them: most are seen to be untouched from their line alone,
//! which is what a capture of the live tree would write now.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::judge::alone;
use super::live::Facts;
use super::manifest::{Entries, Entry, Time, Type, is_settled, read_entry};
use super::object::ObjectId;
use crate::error::Result;

/// Bytes of lines that are read ahead at once.
const BATCH: usize = 64 << 10;

const OPEN: &[u8] = b"{\"path\":\"";

/// An entry as the manifest has it.
#[derive(Debug, Clone)]
pub(crate) enum Recorded {
    /// The line, and where in it the path is.
    Line { text: Arc<Vec<u8>>, line: Range<usize>, path: Range<usize> },
    /// Read, since its path is not written as it is, or since it was changed.
    Entry(Box<Entry>),
}

/// What an entry has of content, as far as its line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Nothing,
    /// One object, and its length.
    Object(ObjectId, u32),
    /// There is more to it: the entry has to be read.
    More,
}

/// What the entry of a line has of content. A name cannot mislead it: a quote in a name is escaped.
pub(crate) fn content_of(line: &[u8]) -> Content {
    const HEX: usize = 64;
    let has = |key: &[u8]| memchr::memmem::find(line, key).is_some();
    if has(b",\"extents\":") {
        return Content::More;
    }
    if let Some(body) = line.strip_suffix(b"\"}")
        && let Some((before, hex)) = body.split_last_chunk::<HEX>()
        && let Some(before) = before.strip_suffix(b",\"object\":\"")
    {
        let id = std::str::from_utf8(hex).ok().and_then(|hex| hex.parse().ok());
        return id.zip(size(before)).map_or(Content::More, |(id, size)| Content::Object(id, size));
    }
    if has(b",\"object\":") || has(b",\"list\":") || has(b",\"size\":") { Content::More } else { Content::Nothing }
}

/// The size that a line says.
fn size(line: &[u8]) -> Option<u32> {
    const KEY: &[u8] = b",\"size\":";
    let digits = &line[memchr::memmem::rfind(line, KEY)? + KEY.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Path and kind of a file or directory of one name, if its line tells them without being read.
pub(crate) fn plain(line: &[u8]) -> Option<(&[u8], Type)> {
    let path = plain_path(line)?;
    let rest = line[path.end..].strip_prefix(b"\",\"type\":\"")?;
    let kind = if rest.starts_with(b"file\"") {
        Type::File
    } else if rest.starts_with(b"dir\"") {
        Type::Dir
    } else {
        return None;
    };
    let has = |key: &[u8]| memchr::memmem::find(rest, key).is_some();
    let more = has(b",\"nlink\":") || has(b",\"link\":") || has(b",\"mount\":");
    (!more).then_some((&line[path], kind))
}

impl Recorded {
    pub(crate) fn path(&self) -> &[u8] {
        match self {
            Recorded::Line { text, path, .. } => &text[path.clone()],
            Recorded::Entry(entry) => &entry.path.0,
        }
    }

    /// The line, without its end.
    pub(crate) fn line(&self) -> Option<&[u8]> {
        match self {
            Recorded::Line { text, line, .. } => Some(&text[line.clone()]),
            Recorded::Entry(_) => None,
        }
    }

    pub(crate) fn into_entry(self) -> Result<Entry> {
        match self {
            Recorded::Line { text, line, .. } => alone(read_entry(&text[line])?),
            Recorded::Entry(entry) => Ok(*entry),
        }
    }

    /// Whether it is a file of one name, a directory or a symlink, the same inode, and nothing was done to it since
    /// the entry was recorded, for sure. `live` has the same path. A `false` says nothing.
    pub(crate) fn is_plainly_untouched(&self, live: &Facts, started: Time) -> bool {
        is_settled(live, started) && self.rest(live).is_some_and(|rest| !rest.ends_with(b"true}"))
    }

    /// What follows in the line after all that `live` says of an entry; `None` when that is not what stands there.
    fn rest(&self, live: &Facts) -> Option<&[u8]> {
        let Recorded::Line { text, line, path } = self else { return None };
        let (word, size) = match live.kind {
            Type::File => ("file", live.size),
            Type::Dir => ("dir", 0),
            Type::Symlink => ("symlink", 0),
            _ => return None,
        };
        if live.kind != Type::Dir && live.nlink > 1 {
            return None;
        }
        let mut buffer = [0u8; 256];
        let mut to = &mut buffer[..];
        let (mtime, ctime) = (live.mtime, live.ctime);
        write!(
            to,
            "\",\"type\":\"{word}\",\"mode\":{},\"uid\":{},\"gid\":{},\"mtime\":[{},{}],\"ctime\":[{},{}],\"ino\":{}",
            live.mode, live.uid, live.gid, mtime.0, mtime.1, ctime.0, ctime.1, live.ino
        )
        .ok()?;
        if size > 0 {
            write!(to, ",\"size\":{size}").ok()?;
        }
        let left = to.len();
        let expected = &buffer[..buffer.len() - left];
        let rest = text[path.end..line.end].strip_prefix(expected)?;
        let others = [&b",\"nlink\""[..], b",\"size\""];
        let ends = rest.starts_with(b",") || rest == b"}";
        (ends && !others.iter().any(|other| rest.starts_with(other))).then_some(rest)
    }
}

/// A manifest's entries, read by a thread of their own ahead of who uses them.
pub(crate) struct ReadAhead {
    batches: Receiver<Result<Vec<Recorded>>>,
    now: std::vec::IntoIter<Recorded>,
}

impl ReadAhead {
    /// Begins to read; the thread ends with the entries, or when this is dropped.
    pub(crate) fn start<'s, 'a: 's>(scope: &'s std::thread::Scope<'s, '_>, mut entries: Entries<'a>) -> ReadAhead {
        let (give, batches) = crossbeam_channel::bounded(16);
        scope.spawn(move || {
            loop {
                let batch = batch(&mut entries);
                let more = matches!(&batch, Ok(batch) if !batch.is_empty());
                // Who does not ask any more does not need the rest.
                if give.send(batch).is_err() || !more {
                    break;
                }
            }
        });
        ReadAhead { batches, now: Vec::new().into_iter() }
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Recorded>> {
        loop {
            if let Some(entry) = self.now.next() {
                return Ok(Some(entry));
            }
            match self.batches.recv() {
                Ok(batch) => self.now = batch?.into_iter(),
                Err(_) => return Ok(None),
            }
        }
    }
}

/// The next entries; none at the end.
fn batch(entries: &mut Entries<'_>) -> Result<Vec<Recorded>> {
    let mut text = Vec::with_capacity(BATCH + 4096);
    let mut lines = Vec::new();
    while text.len() < BATCH {
        let Some(line) = entries.next_line()? else { break };
        let from = text.len();
        text.extend_from_slice(line);
        lines.push((from..text.len(), plain_path(line).map(|path| from + path.start..from + path.end)));
    }
    let text = Arc::new(text);
    let recorded = |(line, path): (Range<usize>, Option<Range<usize>>)| match path {
        Some(path) => Ok(Recorded::Line { text: Arc::clone(&text), line, path }),
        None => read_entry(&text[line]).map(|entry| Recorded::Entry(Box::new(entry))),
    };
    lines.into_iter().map(recorded).collect()
}

/// Where in the line the path is, if nothing in it is escaped.
fn plain_path(line: &[u8]) -> Option<Range<usize>> {
    let rest = line.strip_prefix(OPEN)?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    (rest[end] == b'"').then_some(OPEN.len()..OPEN.len() + end)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::is_untouched;
    use super::super::meta;
    use super::super::object::Bytes;
    use super::*;

    fn facts() -> Facts {
        Facts {
            kind: Type::File,
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: Time(-3, 4),
            atime: Time(0, 0),
            ctime: Time(5, 6),
            ino: 7,
            nlink: 1,
            size: 8,
            blocks: 8,
            rdev: (0, 0),
            place: (1, 1, None),
        }
    }

    fn line(entry: &Entry) -> Recorded {
        let text = serde_json::to_vec(entry).unwrap();
        match plain_path(&text) {
            Some(path) => Recorded::Line { line: 0..text.len(), path, text: Arc::new(text) },
            None => Recorded::Entry(Box::new(read_entry(&text).unwrap())),
        }
    }

    const LATER: Time = Time(100, 0);

    /// What its line says of a file is what its entry says, whatever differs.
    #[test]
    fn the_line_alone_tells_what_the_entry_tells() {
        let object = ObjectId::of(b"x");
        let mut recorded = Entry { object: Some(object), ..meta::entry(b"a/b c".to_vec(), &facts()) };
        assert_eq!(line(&recorded).path(), b"a/b c");
        assert!(line(&recorded).is_plainly_untouched(&facts(), LATER));
        let content = |entry: &Entry| content_of(&serde_json::to_vec(entry).unwrap());
        assert_eq!(content(&recorded), Content::Object(object, 8));
        assert!(!line(&recorded).is_plainly_untouched(&facts(), Time(5, 7)), "racy");
        let changes: [&dyn Fn(&mut Facts); 12] = [
            &|f| f.kind = Type::Dir,
            &|f| f.kind = Type::Fifo,
            &|f| f.mode = 0o640,
            &|f| f.uid = 10,
            &|f| f.gid = 20,
            &|f| f.mtime = Time(-3, 5),
            &|f| f.ctime = Time(5, 7),
            &|f| f.ino = 71,
            &|f| f.ino = 0,
            &|f| f.size = 81,
            &|f| f.size = 0,
            &|f| f.nlink = 2,
        ];
        for change in changes {
            let mut live = facts();
            change(&mut live);
            assert!(!line(&recorded).is_plainly_untouched(&live, LATER), "{live:?}");
            assert!(live.nlink == 2 || !is_untouched(&recorded, &live, LATER), "{live:?}");
        }
        let entries: [&dyn Fn(&mut Entry); 4] =
            [&|e| e.nlink = 2, &|e| e.torn = true, &|e| e.mount = true, &|e| e.size = 88];
        for change in entries {
            let mut entry = recorded.clone();
            change(&mut entry);
            assert!(!line(&entry).is_plainly_untouched(&facts(), LATER), "{entry:?}");
        }
        recorded.xattrs = vec![(Bytes(b"user.a".to_vec()), Bytes(b"v".to_vec()))];
        assert!(line(&recorded).is_plainly_untouched(&facts(), LATER));
        assert_eq!(content(&recorded), Content::Object(object, 8));
        recorded.torn = true;
        assert_eq!(content(&recorded), Content::More);
        (recorded.torn, recorded.object, recorded.list) = (false, None, vec![object]);
        assert_eq!(content(&recorded), Content::More);
        let empty = Facts { size: 0, ..facts() };
        let recorded = meta::entry(b"".to_vec(), &empty);
        assert!(line(&recorded).is_plainly_untouched(&empty, LATER));
        assert_eq!(content(&recorded), Content::Nothing);
        assert_eq!(plain(&serde_json::to_vec(&recorded).unwrap()), Some((&b""[..], Type::File)));
        let named = meta::entry(b"\",\"object\":\"x\"}".to_vec(), &empty);
        assert_eq!(content(&named), Content::Nothing);
        assert!(!line(&recorded).is_plainly_untouched(&facts(), LATER));
    }

    #[test]
    fn escaped_paths_are_read() {
        for path in [&b"a\"b"[..], b"a\\b", b"a\nb", b"\xff"] {
            let entry = meta::entry(path.to_vec(), &facts());
            let recorded = line(&entry);
            assert!(recorded.line().is_none());
            assert_eq!(recorded.path(), path);
            assert_eq!(recorded.into_entry().unwrap(), entry);
        }
    }
}
