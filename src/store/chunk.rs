//! Cutting: where a stream is cut into objects depends on its content only, so that a change in the middle costs the
//! chunks it touches and not all that follow.

use std::io::Read;

use fastcdc::v2020::{Normalization, cut, select_masks};

use super::object::ObjectId;
use super::pack::{Class, Packer};
use crate::error::Result;

/// A file up to this size is one object.
pub(crate) const WHOLE_BYTES: u64 = 1 << 20;
/// No chunk is smaller, except the last of a stream.
pub(crate) const MIN_CHUNK: usize = 8 << 10;
/// What chunks have on average: small, so that scattered pages of a database don't drag much along.
pub(crate) const AVERAGE_CHUNK: usize = 32 << 10;
/// No chunk is larger.
pub(crate) const MAX_CHUNK: usize = 128 << 10;

/// Where the first chunk of `bytes` ends; `bytes` holds at least [`MAX_CHUNK`] or all that is left.
fn first_cut(bytes: &[u8]) -> usize {
    let (strict, relaxed) = select_masks(AVERAGE_CHUNK, Normalization::Level1);
    cut(bytes, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK, strict, relaxed, strict << 1, relaxed << 1).1
}

/// Cuts a stream that is read from `source`; `each` gets every chunk. Returns the stream's length.
pub(crate) fn cut_stream<E>(
    source: &mut dyn Read,
    failed: impl Fn(std::io::Error) -> E,
    mut each: impl FnMut(&[u8]) -> std::result::Result<(), E>,
) -> std::result::Result<u64, E> {
    let mut buffer = vec![0; 1 << 20];
    let (mut from, mut to, mut total, mut ended) = (0, 0, 0u64, false);
    loop {
        while !ended && to - from < MAX_CHUNK {
            if buffer.len() - from < MAX_CHUNK {
                buffer.copy_within(from..to, 0);
                (from, to) = (0, to - from);
            }
            match source.read(&mut buffer[to..]) {
                Ok(0) => ended = true,
                Ok(n) => to += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        if from == to {
            return Ok(total);
        }
        let length = first_cut(&buffer[from..to]);
        each(&buffer[from..from + length])?;
        total += length as u64;
        from += length;
    }
}

/// Cuts what is written to it and adds the chunks to the store.
pub(crate) struct Cutter<'a> {
    packer: &'a Packer,
    class: Class,
    held: Vec<u8>,
    /// The chunks until now.
    pub(crate) chunks: Vec<ObjectId>,
    /// Bytes until now.
    pub(crate) bytes: u64,
}

impl<'a> Cutter<'a> {
    pub(crate) fn new(packer: &'a Packer, class: Class) -> Cutter<'a> {
        Cutter { packer, class, held: Vec::new(), chunks: Vec::new(), bytes: 0 }
    }

    /// Takes more of the stream.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.held.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        if self.held.len() >= 4 * MAX_CHUNK { self.cut(MAX_CHUNK) } else { Ok(()) }
    }

    /// Cuts while more than `spare` bytes are held.
    fn cut(&mut self, spare: usize) -> Result<()> {
        let mut from = 0;
        while self.held.len() - from > spare {
            let chunk = &self.held[from..];
            let chunk = &chunk[..first_cut(chunk)];
            let id = ObjectId::of(chunk);
            self.packer.add(id, self.class, chunk)?;
            self.chunks.push(id);
            from += chunk.len();
        }
        self.held.drain(..from);
        Ok(())
    }

    /// The stream is over.
    pub(crate) fn finish(mut self) -> Result<(Vec<ObjectId>, u64)> {
        self.cut(0)?;
        Ok((self.chunks, self.bytes))
    }
}
