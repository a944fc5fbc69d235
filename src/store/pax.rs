//! Tar members as GNU tar, libarchive and Python read them: ustar headers, with pax records for what these cannot hold.
//!
//! Names are raw bytes. Times have nanoseconds, extended attributes and ACLs are `SCHILY` records, sparse files are
//! GNU.sparse 1.0.

use std::io::{self, Write};

use super::manifest::{Entry, Time, Type};

const BLOCK: usize = 512;
/// Bytes that a name may have in a header.
const NAME: usize = 100;

/// Writes members one after the other.
pub(super) struct PaxWriter<W: Write> {
    to: W,
    /// Bytes of the member at hand, for its padding.
    written: u64,
}

/// What a member is beside its entry.
pub(super) struct Member<'a> {
    /// Its name in the archive.
    pub(super) name: &'a [u8],
    /// The name of the member that it is a hard link to.
    pub(super) link: Option<&'a [u8]>,
}

impl<W: Write> PaxWriter<W> {
    pub(super) fn new(to: W) -> PaxWriter<W> {
        PaxWriter { to, written: 0 }
    }

    /// Begins a member; its stored content follows by [`PaxWriter::content`], then [`PaxWriter::end`].
    pub(super) fn begin(&mut self, member: &Member<'_>, entry: &Entry) -> io::Result<()> {
        let mut records = Vec::new();
        if entry.mtime.1 != 0 || entry.mtime.0 < 0 {
            record(&mut records, b"mtime", decimal(entry.mtime).as_bytes());
        }
        if member.link.is_none() {
            attributes(&mut records, entry);
        }
        let (map, size) = match (&entry.extents, member.link) {
            (Some(extents), None) => {
                let map = sparse_map(extents, entry.size);
                record(&mut records, b"GNU.sparse.major", b"1");
                record(&mut records, b"GNU.sparse.minor", b"0");
                record(&mut records, b"GNU.sparse.name", member.name);
                record(&mut records, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
                let size = map.len() as u64 + entry.stored_bytes();
                (map, size)
            }
            (None, None) => (Vec::new(), entry.stored_bytes()),
            (_, Some(_)) => (Vec::new(), 0),
        };
        let sparse = !map.is_empty();
        if !sparse {
            self.long(b'L', b"path", member.name, &mut records)?;
        }
        let target = member.link.or(entry.target.as_ref().map(|target| &target.0[..])).unwrap_or_default();
        self.long(b'K', b"linkpath", target, &mut records)?;
        if !records.is_empty() {
            let mut header = plain(b'x', b"./PaxHeaders/record", records.len() as u64);
            self.whole(&mut header, &records)?;
        }
        let kind = match (member.link, entry.kind) {
            (Some(_), _) => b'1',
            (None, Type::File | Type::Stream | Type::Socket) => b'0',
            (None, Type::Symlink) => b'2',
            (None, Type::Char) => b'3',
            (None, Type::Block) => b'4',
            (None, Type::Dir) => b'5',
            (None, Type::Fifo) => b'6',
        };
        let name = if sparse { &b"GNUSparseFile.0/sparse"[..] } else { member.name };
        let mut header = plain(kind, name, size);
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(u64::try_from(entry.mtime.0).unwrap_or(0));
        put(&mut header.as_old_mut().linkname, target);
        if let Some((major, minor)) = entry.device {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        self.written = 0;
        self.content(&map)
    }

    /// More of the content.
    pub(super) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends the member.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let over = (self.written % BLOCK as u64) as usize;
        if over > 0 {
            self.to.write_all(&[0; BLOCK][over..])?;
        }
        self.written = 0;
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }

    /// A name that does not fit in a header: as a pax record, or, as these have to be UTF-8, as a member of GNU's.
    fn long(&mut self, kind: u8, key: &[u8], name: &[u8], records: &mut Vec<u8>) -> io::Result<()> {
        if name.len() <= NAME {
            return Ok(());
        }
        if std::str::from_utf8(name).is_ok() {
            record(records, key, name);
            return Ok(());
        }
        let mut bytes = name.to_vec();
        bytes.push(0);
        let mut header = plain(kind, b"././@LongLink", bytes.len() as u64);
        self.whole(&mut header, &bytes)
    }

    fn whole(&mut self, header: &mut tar::Header, bytes: &[u8]) -> io::Result<()> {
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        self.content(bytes)?;
        self.end()
    }
}

fn plain(kind: u8, name: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    put(&mut header.as_old_mut().name, name);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn put(field: &mut [u8; NAME], name: &[u8]) {
    let length = name.len().min(NAME);
    field[..length].copy_from_slice(&name[..length]);
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds as a decimal number; before 1970 a negative one.
fn decimal(Time(seconds, nanos): Time) -> String {
    if seconds >= 0 || nanos == 0 {
        return format!("{seconds}.{nanos:09}");
    }
    format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos)
}

/// Where there is data, as GNU.sparse 1.0 has it before the data, padded to a block.
fn sparse_map(extents: &[(u64, u64)], size: u64) -> Vec<u8> {
    let mut pairs = extents.to_vec();
    if pairs.last().is_none_or(|(offset, length)| offset + length < size) {
        pairs.push((size, 0));
    }
    let mut map = format!("{}\n", pairs.len());
    for (offset, length) in pairs {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Extended attributes; ACLs also as the text that `tar --acls` reads.
fn attributes(records: &mut Vec<u8>, entry: &Entry) {
    for (name, value) in &entry.xattrs {
        let text = match &name.0[..] {
            b"system.posix_acl_access" => Some((&b"SCHILY.acl.access"[..], acl_text(&value.0))),
            b"system.posix_acl_default" => Some((&b"SCHILY.acl.default"[..], acl_text(&value.0))),
            _ => None,
        };
        if let Some((key, Some(text))) = text {
            record(records, key, text.as_bytes());
        }
        let mut key = b"SCHILY.xattr.".to_vec();
        for &byte in &name.0 {
            match byte {
                b'%' => key.extend_from_slice(b"%25"),
                b'=' => key.extend_from_slice(b"%3D"),
                byte => key.push(byte),
            }
        }
        record(records, &key, &value.0);
    }
}

/// An ACL as the kernel has it, as text with numeric owners. `None` for what is no such ACL.
fn acl_text(bytes: &[u8]) -> Option<String> {
    let entries = bytes.strip_prefix(&2u32.to_le_bytes())?;
    let mut lines = Vec::new();
    for entry in entries.chunks(8) {
        let &[tag, _, perm, _, a, b, c, d] = entry else { return None };
        let id = u32::from_le_bytes([a, b, c, d]);
        let who = match tag {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let bit = |bit: u8, letter: char| if perm & bit == 0 { '-' } else { letter };
        lines.push(format!("{who}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x')));
    }
    Some(lines.join(",") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_itself() {
        let of = |key: &[u8], value: &[u8]| {
            let mut records = Vec::new();
            record(&mut records, key, value);
            String::from_utf8(records).unwrap()
        };
        assert_eq!(of(b"path", b"x"), "9 path=x\n");
        assert_eq!(of(b"path", b""), "8 path=\n");
        for length in 0..300 {
            let text = of(b"k", &vec![b'v'; length]);
            assert_eq!(text.split_once(' ').unwrap().0.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times_before_1970_are_negative_numbers() {
        assert_eq!(decimal(Time(5, 7)), "5.000000007");
        assert_eq!(decimal(Time(-5, 0)), "-5.000000000");
        assert_eq!(decimal(Time(-5, 250_000_000)), "-4.750000000");
        assert_eq!(decimal(Time(-1, 250_000_000)), "-0.750000000");
    }
}
