//! The entries of archives, as they are written there; [`super::source`] decides which are let through.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::source::{Shape, Visit, What, give};
use crate::error::{Error, OrSay, Result};

pub(super) fn zstd_decoder<'a>(file: BufReader<File>) -> Result<zstd::stream::read::Decoder<'a, BufReader<File>>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(file).or_say(|| "it is not readable")?;
    decoder.window_log_max(31).or_say(|| "it is not readable")?;
    Ok(decoder)
}

pub(super) fn tarball(reader: impl Read, shape: &mut Shape, visit: &mut Visit<'_>) -> Result<()> {
    let damaged = || "it is damaged".to_owned();
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().or_say(damaged)? {
        let mut entry = entry.or_say(damaged)?;
        if entry.header().entry_type().is_pax_global_extensions() {
            continue;
        }
        let name = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let slash = entry.path_bytes().ends_with(b"/");
        let mut mtime = entry.header().mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).map(|s| (s, 0));
        if let Some(extensions) = entry.pax_extensions().or_say(damaged)? {
            for extension in extensions {
                let extension = extension.or_say(damaged)?;
                if extension.key_bytes().starts_with(b"GNU.sparse.") {
                    return Err(Error::new(format!(
                        "its entry `{}` is sparse in a way not known here",
                        name.display()
                    ))
                    .hint("make the archive without --sparse"));
                }
                if extension.key_bytes() == b"mtime"
                    && let Some(time) = extension.value().ok().and_then(decimal_time)
                {
                    mtime = Some(time);
                }
            }
        }
        let target = entry.link_name_bytes().map(|bytes| OsString::from_vec(bytes.into_owned()));
        let size = entry.size();
        let kind = entry.header().entry_type();
        let what = match kind {
            _ if kind.is_dir() || (kind.is_file() && slash) => What::Directory,
            _ if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => What::File(size),
            _ if kind.is_symlink() => What::Symlink(target.unwrap_or_default()),
            _ if kind.is_hard_link() => {
                let target = PathBuf::from(target.unwrap_or_default());
                let outside = || Error::new(format!("its entry `{}` is a link to outside", name.display()));
                What::Hardlink(shape.clean(&target)?.ok_or_else(outside)?)
            }
            _ => return Err(Error::new(format!("its entry `{}` is a device or the like", name.display()))),
        };
        let mode = entry.header().mode().or_say(damaged)? & 0o7777;
        give(shape, visit, &name, what, mode, mtime, &mut entry)?;
    }
    // A checksum at the end of the compressed stream is only looked at by who reads that far.
    io::copy(&mut archive.into_inner(), &mut io::sink()).or_say(damaged)?;
    Ok(())
}

pub(super) fn zip(file: impl Read + Seek, shape: &mut Shape, visit: &mut Visit<'_>) -> Result<()> {
    let damaged = || "it is damaged".to_owned();
    let mut archive = zip::ZipArchive::new(file).or_say(damaged)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).or_say(damaged)?;
        let name = PathBuf::from(entry.entry().name().or_say(damaged)?.as_ref());
        let info = entry.entry();
        let mtime = info.last_modified().and_then(dos_time);
        let mode = info.unix_mode();
        let (is_dir, is_symlink, size) = (info.is_dir(), info.is_symlink(), info.size());
        let mtime = entry.extra_data_fields().find_map(unix_time).or(mtime);
        let what = if is_dir {
            What::Directory
        } else if is_symlink {
            let mut target = Vec::new();
            entry.by_ref().take(4097).read_to_end(&mut target).or_say(damaged)?;
            What::Symlink(OsString::from_vec(target))
        } else if mode.is_some_and(|mode| !matches!(mode & 0o170_000, 0 | 0o100_000)) {
            return Err(Error::new(format!("its entry `{}` is a device or the like", name.display())));
        } else {
            What::File(size)
        };
        let mode = mode.unwrap_or(if is_dir { 0o755 } else { 0o644 }) & 0o7777;
        give(shape, visit, &name, what, mode, mtime, &mut entry)?;
    }
    Ok(())
}

/// `1700000000.123456789`, also negative.
fn decimal_time(text: &str) -> Option<(i64, u32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    match seconds.starts_with('-') && nanos > 0 {
        true => Some((whole - 1, 1_000_000_000 - nanos)),
        false => Some((whole, nanos)),
    }
}

fn unix_time(field: &zip::ExtraField) -> Option<(i64, u32)> {
    match field {
        zip::ExtraField::ExtendedTimestamp(times) => Some((i64::from(times.mod_time()?), 0)),
        _ => None,
    }
}

/// The time of a zip entry, which knows no time zone, as if it were UTC.
fn dos_time(time: zip::DateTime) -> Option<(i64, u32)> {
    let part = |number: u8| i8::try_from(number).ok();
    let date = jiff::civil::DateTime::new(
        i16::try_from(time.year()).ok()?,
        part(time.month())?,
        part(time.day())?,
        part(time.hour())?,
        part(time.minute())?,
        part(time.second())?,
        0,
    )
    .ok()?;
    Some((date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second(), 0))
}
