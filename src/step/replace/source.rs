//! What a new tree is made of: a directory, or an archive that nobody has to trust.
//!
//! [`Source::each`] gives every entry once, in order, cleaned and checked: no name leads out (`..`, absolute), none goes
//! through a link or a file, none comes twice, and only files, directories and links are let through.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use sha2::Digest;

use super::archive::{tarball, zip, zstd_decoder};
use crate::context::Context;
use crate::error::{Error, OrSay, Result};
use crate::plan::Template;
use crate::sys::files;

/// What an archive's bytes must be.
#[derive(Debug)]
pub(super) enum Checksum {
    Blake3(Template),
    Sha256(Template),
}

/// Where the tree comes from.
#[derive(Debug)]
pub(super) enum Source {
    Directory(PathBuf),
    Archive(PathBuf, Format),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Tar,
    TarGz,
    TarXz,
    TarZst,
    Zip,
}

const FORMATS: [(&str, Format); 8] = [
    (".tar", Format::Tar),
    (".tar.gz", Format::TarGz),
    (".tgz", Format::TarGz),
    (".tar.xz", Format::TarXz),
    (".txz", Format::TarXz),
    (".tar.zst", Format::TarZst),
    (".tzst", Format::TarZst),
    (".zip", Format::Zip),
];

/// One entry.
#[derive(Debug)]
pub(super) struct Item {
    /// Where in the new tree; empty for its root.
    pub(super) path: PathBuf,
    pub(super) what: What,
    /// Permission bits, setuid and setgid as they are there.
    pub(super) mode: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
}

#[derive(Debug)]
pub(super) enum What {
    Directory,
    File(u64),
    Symlink(OsString),
    /// Another name of this file, which came before.
    Hardlink(PathBuf),
}

impl Item {
    pub(super) fn size(&self) -> u64 {
        match self.what {
            What::File(size) => size,
            _ => 0,
        }
    }
}

/// Gets each entry and its content.
pub(super) type Visit<'a> = dyn FnMut(&Item, &mut dyn Read) -> Result<()> + 'a;

impl Source {
    pub(super) fn find(path: &Path) -> Result<Source> {
        let meta = path.metadata().or_say(|| format!("cannot read `{}`", path.display()))?;
        if meta.is_dir() {
            let path = std::fs::canonicalize(path).or_say(|| format!("cannot read `{}`", path.display()))?;
            return Ok(Source::Directory(path));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        match FORMATS.iter().find(|(ending, _)| name.ends_with(ending)) {
            Some((_, format)) if meta.is_file() => Ok(Source::Archive(path.to_owned(), *format)),
            Some(_) => Err(Error::new(format!("`{}` is not a regular file", path.display()))),
            None => Err(Error::new(format!("`{}` is no archive of a known kind", path.display()))
                .hint("it can be a directory, .tar, .tar.gz, .tar.xz, .tar.zst or .zip")),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Source::Directory(path) | Source::Archive(path, _) => path,
        }
    }

    /// Root unpacks nothing that others may write.
    pub(super) fn trusted(&self) -> Result<()> {
        match rustix::process::geteuid().is_root() {
            true => files::only_owner_writes(self.path()),
            false => Ok(()),
        }
    }

    pub(super) fn verify(&self, checksum: Option<&Checksum>, cx: &Context<'_>) -> Result<()> {
        let (Some(checksum), Source::Archive(path, _)) = (checksum, self) else { return Ok(()) };
        let mut file = open(path)?;
        let say = || format!("cannot read `{}`", path.display());
        let (name, wanted, sum) = match checksum {
            Checksum::Blake3(wanted) => {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(&mut file).or_say(say)?;
                ("BLAKE3", wanted, hasher.finalize().to_hex().to_string())
            }
            Checksum::Sha256(wanted) => {
                let mut hasher = sha2::Sha256::new();
                io::copy(&mut file, &mut hasher).or_say(say)?;
                let sum = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
                ("SHA-256", wanted, sum)
            }
        };
        let wanted = wanted.expand(&cx.scope)?;
        match sum.eq_ignore_ascii_case(wanted.trim()) {
            true => Ok(()),
            false => Err(Error::new(format!("`{}` is not what the plan expects", path.display()))
                .because(format!("its {name} is {sum}"))
                .because(format!("the plan says {}", wanted.trim()))),
        }
    }

    /// Gives every entry to `visit`, `strip` leading components of the names taken off.
    pub(super) fn each(&self, strip: usize, visit: &mut Visit<'_>) -> Result<()> {
        let mut shape = Shape { strip, kinds: BTreeMap::new() };
        let within = |error: Error| error.within(format!("cannot unpack `{}`", self.path().display()));
        match self {
            Source::Directory(path) => directory(path, visit),
            Source::Archive(path, format) => {
                let file = BufReader::with_capacity(256 << 10, open(path)?);
                match format {
                    Format::Tar => tarball(file, &mut shape, visit),
                    Format::TarGz => tarball(flate2::bufread::MultiGzDecoder::new(file), &mut shape, visit),
                    Format::TarXz => tarball(liblzma::bufread::XzDecoder::new_multi_decoder(file), &mut shape, visit),
                    Format::TarZst => zstd_decoder(file).and_then(|file| tarball(file, &mut shape, visit)),
                    Format::Zip => zip(file, &mut shape, visit),
                }
                .map_err(within)
            }
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).or_say(|| format!("cannot read `{}`", path.display()))
}

/// What has come so far, and what may come next.
pub(super) struct Shape {
    strip: usize,
    kinds: BTreeMap<PathBuf, Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Symlink,
}

impl Shape {
    /// The name without its leading components; `None` for what is above the root of the new tree.
    pub(super) fn clean(&self, name: &Path) -> Result<Option<PathBuf>> {
        let mut clean = PathBuf::new();
        let mut left = self.strip;
        for component in name.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(_) if left > 0 => left -= 1,
                Component::Normal(part) => clean.push(part),
                _ => return Err(Error::new(format!("its entry `{}` leads out of it", name.display()))),
            }
        }
        Ok(if left > 0 { None } else { Some(clean) })
    }

    /// Lets an entry in.
    fn admit(&mut self, item: &Item) -> Result<()> {
        let shown = item.path.display();
        for above in item.path.ancestors().skip(1) {
            match self.kinds.get(above) {
                None | Some(Kind::Directory) => self.kinds.insert(above.to_owned(), Kind::Directory),
                Some(_) => {
                    let above = above.display();
                    return Err(Error::new(format!(
                        "its entry `{shown}` goes through `{above}`, which is no directory"
                    )));
                }
            };
        }
        let kind = match &item.what {
            What::Directory => Kind::Directory,
            What::File(_) => Kind::File,
            What::Symlink(_) => Kind::Symlink,
            What::Hardlink(target) => match self.kinds.get(target) {
                Some(Kind::File) => Kind::File,
                _ => {
                    let target = target.display();
                    return Err(Error::new(format!(
                        "its entry `{shown}` is a link to `{target}`, which is no file of it"
                    )));
                }
            },
        };
        if item.path.as_os_str().is_empty() && kind != Kind::Directory {
            return Err(Error::new("its root is not a directory"));
        }
        match self.kinds.insert(item.path.clone(), kind) {
            Some(before) if before != Kind::Directory || kind != Kind::Directory => {
                Err(Error::new(format!("its entry `{shown}` comes twice")))
            }
            _ => Ok(()),
        }
    }
}

/// Lets one entry through to `visit`.
pub(super) fn give(
    shape: &mut Shape,
    visit: &mut Visit<'_>,
    name: &Path,
    what: What,
    mode: u32,
    mtime: Option<(i64, u32)>,
    content: &mut dyn Read,
) -> Result<()> {
    let Some(path) = shape.clean(name)? else {
        return match what {
            What::Directory => Ok(()),
            _ => Err(Error::new(format!("its entry `{}` is above what `strip` leaves", name.display()))),
        };
    };
    let item = Item { path, what, mode, mtime };
    shape.admit(&item)?;
    visit(&item, content)
}

fn directory(root: &Path, visit: &mut Visit<'_>) -> Result<()> {
    let mut names: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let device = root.metadata().or_say(|| format!("cannot read `{}`", root.display()))?.dev();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.or_say(|| format!("cannot copy `{}`", root.display()))?;
        let say = || format!("cannot copy `{}`", entry.path().display());
        let meta = entry.path().symlink_metadata().or_say(say)?;
        let path = entry.path().strip_prefix(root).or_say(say)?.to_owned();
        if meta.dev() != device {
            return Err(Error::new(say()).because("it is on another filesystem"));
        }
        let key = (meta.dev(), meta.ino());
        let mut content: Box<dyn Read> = Box::new(io::empty());
        let what = if meta.is_dir() {
            What::Directory
        } else if meta.is_symlink() {
            What::Symlink(std::fs::read_link(entry.path()).or_say(say)?.into_os_string())
        } else if !meta.is_file() {
            return Err(Error::new(say()).because("it is a device or the like"));
        } else if let Some(first) = names.get(&key) {
            What::Hardlink(first.clone())
        } else {
            if meta.nlink() > 1 {
                names.insert(key, path.clone());
            }
            content = Box::new(files::open_nofollow(entry.path())?);
            What::File(meta.size())
        };
        let mtime = Some((meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap_or(0)));
        visit(&Item { path, what, mode: meta.mode() & 0o7777, mtime }, &mut content)?;
    }
    Ok(())
}
