//! Streams: what a database's tools print, kept as the only entry of a manifest.

use std::io::{Read, Write};

use super::chunk::{Cutter, cut_stream};
use super::manifest::{Entry, ManifestWriter, Time, Type, chunks_of};
use super::object::ObjectId;
use super::pack::{Class, Packer};
use super::{Head, Store};
use crate::error::{Error, OrSay, Result};
use crate::resource::Captured;

impl Store {
    /// Keeps everything `source` gives as the only entry of a manifest: what databases are captured with.
    pub fn capture_stream(&self, head: Head, source: &mut dyn Read) -> Result<Captured> {
        let started = now();
        let packer = Packer::start(self)?;
        let mut list = Cutter::new(&packer, Class::Meta);
        let failed = |e| Error::new("cannot read what is to be kept").because(e);
        let size = cut_stream(source, failed, |chunk| {
            let id = ObjectId::of(chunk);
            packer.add(id, Class::Content, chunk)?;
            list.write(format!("{id} {}\n", chunk.len()).as_bytes())
        })?;
        let (list, _) = list.finish()?;
        let mut manifest = ManifestWriter::new(&packer);
        manifest.add(&Entry { kind: Type::Stream, size, list, ..Entry::default() })?;
        let head = manifest.finish(head, started)?;
        self.finish(packer, &head, size, Vec::new())
    }

    /// A manifest that only says something (`facts`): for a resource that does not exist.
    pub fn capture_facts(&self, head: Head) -> Result<Captured> {
        let packer = Packer::start(self)?;
        let head = ManifestWriter::new(&packer).finish(head, now())?;
        self.finish(packer, &head, 0, Vec::new())
    }

    /// Writes the head and ends the packing.
    pub(super) fn finish(
        &self,
        packer: Packer,
        head: &super::StoredHead,
        read: u64,
        warnings: Vec<String>,
    ) -> Result<Captured> {
        let bytes = serde_json::to_vec(head).or_say(|| "cannot write a manifest")?;
        let packed = packer.finish(Some(&bytes))?;
        Ok(Captured {
            manifest: ObjectId::of(&bytes),
            bytes: head.bytes,
            read,
            stored: packed.stored,
            items: head.entries,
            warnings,
        })
    }

    /// Gives back what `capture_stream` was given.
    pub fn restore_stream(&self, manifest: ObjectId, sink: &mut dyn Write) -> Result<u64> {
        let head = self.stored_head(manifest)?;
        let mut entries = self.entries(&head);
        let Some(entry) = entries.next()?.filter(|entry| entry.kind == Type::Stream) else {
            return Err(Error::new(format!("the manifest `{manifest}` holds no stream")));
        };
        let mut bytes = 0;
        chunks_of(self, &entry, &mut |id, _| {
            let chunk = self.get(id)?;
            bytes += chunk.len() as u64;
            sink.write_all(&chunk).or_say(|| "cannot write what was kept")
        })?;
        Ok(bytes)
    }

    /// What a file was when it was captured; `name` as in [`crate::resource::Change::name`]. `None` when the manifest has
    /// no such file.
    pub fn file_content(&self, manifest: ObjectId, name: &str) -> Result<Option<Vec<u8>>> {
        let path = if name == "." { Vec::new() } else { super::Bytes::from_text(name).unwrap_or_default().0 };
        let head = self.stored_head(manifest)?;
        let mut wanted = path;
        loop {
            let mut entries = self.entries(&head);
            let found = loop {
                match entries.next()? {
                    Some(entry) if entry.path.0 == wanted && entry.kind == Type::File => break entry,
                    Some(_) => {}
                    None => return Ok(None),
                }
            };
            match found.link {
                Some(first) => wanted = first.0,
                None => return self.content(&found).map(Some),
            }
        }
    }

    fn content(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        chunks_of(self, entry, &mut |id, _| self.append(id, &mut data))?;
        let Some(extents) = &entry.extents else { return Ok(data) };
        let mut whole = vec![0; entry.size as usize];
        let mut from = 0;
        for &(offset, length) in extents {
            let (offset, length) = (offset as usize, length as usize);
            whole[offset..offset + length].copy_from_slice(&data[from..from + length]);
            from += length;
        }
        Ok(whole)
    }
}

/// The wall clock.
pub(super) fn now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(now.as_secs() as i64, now.subsec_nanos())
}
