//! Puts a restored database in the place of the live one.
//!
//! A death between two renames must never leave a new database beside an old log: SQLite would play it into the new
//! pages. So the order is: the old database gets a second name, `.txupgrade-<TX>-displaced-<resource>`; its `-wal`, `-shm` and
//! `-journal` follow it to that name, where they still belong together; the directory is synced; only then is the new,
//! complete and synced database renamed over the old one, and the directory synced again. In between there is an old
//! database without its log, which may be damaged, and which the next restore replaces: nothing has been lost, since
//! all of the old one stands under its second name until the transaction's end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file::{Found, found};
use super::look::{SIDES, side};
use crate::error::{Error, OrSay, Result};
use crate::sys::{files, mounts};

/// The places beside one database that one transaction uses.
#[derive(Debug)]
pub(super) struct Beside {
    dir: PathBuf,
    prefix: String,
    resource: String,
}

impl Beside {
    pub(super) fn new(path: &Path, tx: &str, resource: &str) -> Beside {
        let mut name = String::new();
        for byte in resource.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'@' => name.push(char::from(byte)),
                _ => name.push_str(&format!("%{byte:02X}")),
            }
        }
        if name.len() > 100 {
            name.truncate(80);
            name.push_str(&blake3::hash(resource.as_bytes()).to_hex()[..16]);
        }
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        Beside { dir, prefix: format!(".txupgrade-{tx}-"), resource: name }
    }

    /// Where the new database is written.
    pub(super) fn incoming(&self) -> PathBuf {
        self.dir.join(format!("{}incoming-{}", self.prefix, self.resource))
    }

    fn displaced(&self, number: u32) -> PathBuf {
        let role = if number == 1 { "displaced".to_owned() } else { format!("displaced.{number}") };
        self.dir.join(format!("{}{role}-{}", self.prefix, self.resource))
    }

    /// A name under which nothing is kept yet; or the one that `path` already has, from an attempt that died.
    fn free(&self, path: &Path) -> Result<PathBuf> {
        let of = |path: &Path| path.symlink_metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        let live = of(path);
        for number in 1.. {
            let place = self.displaced(number);
            let taken = ["", SIDES[0], SIDES[1], SIDES[2]].iter().any(|suffix| of(&side(&place, suffix)).is_some());
            if !taken || (live.is_some() && of(&place) == live) {
                return Ok(place);
            }
        }
        Err(Error::new(format!("cannot keep `{}` aside", path.display())))
    }

    /// Every side copy, sorted.
    pub(super) fn everything(&self) -> Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        let Ok(entries) = fs::read_dir(&self.dir) else { return Ok(all) };
        for entry in entries {
            let entry = entry.or_say(|| format!("cannot list `{}`", self.dir.display()))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some((role, rest)) = name.strip_prefix(&self.prefix).and_then(|rest| rest.split_once('-')) else {
                continue;
            };
            let role = role.split_once('.').map_or(role, |(role, _)| role);
            let of_ours = rest.strip_prefix(&self.resource).is_some_and(|end| end.is_empty() || SIDES.contains(&end));
            if of_ours && matches!(role, "incoming" | "displaced") {
                all.push(entry.path());
            }
        }
        all.sort();
        Ok(all)
    }

    /// The database `new` becomes `path`, whatever stands there.
    pub(super) fn put_in_place(&self, new: &Path, path: &Path) -> Result<()> {
        let say = || format!("cannot put `{}` in the place of `{}`", new.display(), path.display());
        self.clear(path, Leave::Database)?;
        fs::rename(new, path).or_say(say)?;
        files::sync_dir(&self.dir)
    }

    /// Nothing stands at `path` afterwards.
    pub(super) fn move_aside(&self, path: &Path) -> Result<()> {
        self.clear(path, Leave::Nothing)
    }

    fn clear(&self, path: &Path, leave: Leave) -> Result<()> {
        if mounts::is_mount_point(path)? {
            return Err(Error::new(format!("`{}` is a mount point and cannot be replaced", path.display())));
        }
        let aside = self.free(path)?;
        let say = || format!("cannot keep `{}` as `{}`", path.display(), aside.display());
        let there = found(path)?;
        // The second name; what dies after it finds it again.
        let linked = match there {
            Found::File if found(&aside)? == Found::Nothing => fs::hard_link(path, &aside).is_ok(),
            Found::File => true,
            _ => false,
        };
        for suffix in SIDES {
            let from = side(path, suffix);
            if found(&from)? != Found::Nothing {
                fs::rename(&from, side(&aside, suffix)).or_say(say)?;
            }
        }
        files::sync_dir(&self.dir)?;
        match (there, leave) {
            (Found::Nothing, _) => Ok(()),
            // The rename of the new database over it takes the first name.
            (Found::File, Leave::Database) if linked => Ok(()),
            (Found::File, Leave::Nothing) if linked => {
                fs::remove_file(path).or_say(say)?;
                files::sync_dir(&self.dir)
            }
            // A directory, a link, or a filesystem that knows no second names.
            _ => files::rename_durably(path, &aside),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// An old database may stay: it will be renamed over.
    Database,
    Nothing,
}
