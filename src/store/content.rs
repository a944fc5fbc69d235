//! Whether a live file holds what a manifest says.

use std::fs::File;
use std::io::Read;

use super::Store;
use super::live::{Anchor, open_quietly};
use super::manifest::{Entry, chunks_of};
use super::object::ObjectId;
use super::patch;
use super::read::{Data, holes};
use crate::error::{OrSay, Result};

/// Reads the file and compares each chunk's BLAKE3; where the manifest has a hole, there may only be zeros.
pub(crate) fn is_same(store: &Store, anchor: &Anchor, entry: &Entry, buffer: &mut Vec<u8>) -> Result<bool> {
    let cannot = || "it cannot be read";
    if entry.extents.is_none() && !entry.list.is_empty() {
        return Ok(patch::missing(store, anchor, entry, None)?.is_empty());
    }
    let fd = open_quietly(&anchor.dir, &anchor.anchored(&entry.path.0)).or_say(cannot)?;
    let live_data = match &entry.extents {
        Some(_) => holes(&fd, entry.size).or_say(cannot)?,
        None => None,
    };
    let file = File::from(fd);
    let whole = vec![(0, entry.size)];
    let extents = entry.extents.as_ref().unwrap_or(&whole);
    if entry.extents.is_some() {
        let data = live_data.unwrap_or(whole.clone());
        for (offset, length) in outside(&data, extents) {
            if !is_zero(&mut Data { file: &file, extents: &[(offset, length)], at: 0, into: 0 }, buffer)
                .or_say(cannot)?
            {
                return Ok(false);
            }
        }
    }
    let mut source = Data { file: &file, extents, at: 0, into: 0 };
    let mut same = true;
    chunks_of(store, entry, &mut |id, length| {
        if same {
            buffer.resize(length as usize, 0);
            same = match source.read_exact(buffer) {
                Ok(()) => ObjectId::of(buffer) == id,
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => false,
                Err(e) => return Err(e).or_say(cannot),
            };
        }
        Ok(())
    })?;
    Ok(same)
}

fn is_zero(source: &mut Data<'_>, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    buffer.resize(64 << 10, 0);
    loop {
        match source.read(buffer)? {
            0 => return Ok(true),
            got if buffer[..got].iter().any(|&byte| byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

/// The parts of `a` that are not in `b`; both sorted.
fn outside(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    let mut others = b.iter().copied().peekable();
    for &(mut from, length) in a {
        let end = from + length;
        while from < end {
            while others.next_if(|&(offset, length)| offset + length <= from).is_some() {}
            match others.peek() {
                Some(&(offset, length)) if offset < end => {
                    if offset > from {
                        parts.push((from, offset - from));
                    }
                    from = offset + length;
                }
                _ => {
                    parts.push((from, end - from));
                    from = end;
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::outside;

    #[test]
    fn what_is_outside_of_extents() {
        assert_eq!(outside(&[(0, 10)], &[]), [(0, 10)]);
        assert_eq!(outside(&[(0, 10)], &[(2, 3), (8, 2)]), [(0, 2), (5, 3)]);
        assert_eq!(outside(&[(0, 4), (6, 4)], &[(3, 4)]), [(0, 3), (7, 3)]);
        assert_eq!(outside(&[(0, 4)], &[(0, 4)]), []);
    }
}
