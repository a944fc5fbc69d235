//! Writes a new tree into a directory that nobody else may enter until it is complete.
//!
//! Relies on [`Source::each`] for names that stay inside. Owners, modes and times are set last, directories from the
//! innermost outwards, so that a read-only directory of the archive can be filled.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::source::{Item, Source, What};
use crate::context::Context;
use crate::error::{Error, OrSay, Result};

/// To whom the new tree belongs.
#[derive(Debug)]
pub(super) struct Owner {
    /// Account and group; `None`: to us.
    pub(super) ids: Option<(u32, u32)>,
    /// The mode of the root, where the source has no entry for it.
    pub(super) mode: u32,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    pub(super) bytes: u64,
    pub(super) items: u64,
}

type Times = Option<(i64, u32)>;

pub(super) fn unpack(source: &Source, strip: usize, root: &Path, owner: &Owner, cx: &Context<'_>) -> Result<Unpacked> {
    let mut done = Unpacked::default();
    let mut dirs: BTreeMap<PathBuf, (u32, Times)> = BTreeMap::new();
    make_dir(root)?;
    dirs.insert(PathBuf::new(), (owner.mode, None));
    source.each(strip, &mut |item, content| {
        cx.go_on()?;
        // Directories that the archive does not name.
        for above in item.path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            if !dirs.contains_key(above) {
                make_dir(&root.join(above))?;
                dirs.insert(above.to_owned(), (0o755, None));
            }
        }
        let place = root.join(&item.path);
        match &item.what {
            What::Directory => {
                if dirs.insert(item.path.clone(), (item.mode, item.mtime)).is_none() {
                    make_dir(&place)?;
                }
            }
            What::File(size) => {
                write_file(&place, item, *size, content)?;
                finish(&place, owner, Some(item.mode), item.mtime)?;
                done.bytes += size;
                cx.monitor.progress("unpack", done.bytes, 0);
            }
            What::Symlink(target) => {
                symlink(target, &place).or_say(|| format!("cannot write `{}`", place.display()))?;
                finish(&place, owner, None, item.mtime)?;
            }
            What::Hardlink(target) => {
                fs::hard_link(root.join(target), &place).or_say(|| format!("cannot write `{}`", place.display()))?;
            }
        }
        done.items += 1;
        Ok(())
    })?;
    if done.items == 0 {
        return Err(Error::new(format!("`{}` is empty", source.path().display())));
    }
    for (dir, (mode, times)) in dirs.iter().rev() {
        finish(&root.join(dir), owner, Some(*mode), *times)?;
    }
    Ok(done)
}

fn make_dir(path: &Path) -> Result<()> {
    let say = || format!("cannot create `{}`", path.display());
    fs::create_dir(path).or_say(say)?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).or_say(say)
}

fn write_file(place: &Path, item: &Item, size: u64, content: &mut dyn Read) -> Result<()> {
    let say = || format!("cannot write `{}`", place.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(place)
        .or_say(say)?;
    let written = io::copy(&mut content.take(size), &mut file).or_say(say)?;
    match written == size {
        true => Ok(()),
        false => Err(Error::new(format!("its entry `{}` is cut off", item.path.display()))),
    }
}

/// Owner, then mode (a change of owner drops setuid), then times.
fn finish(place: &Path, owner: &Owner, mode: Option<u32>, times: Times) -> Result<()> {
    let say = |what: &str| format!("cannot set the {what} of `{}`", place.display());
    if let Some((user, group)) = owner.ids {
        lchown(place, Some(user), Some(group)).or_say(|| say("owner"))?;
    }
    if let Some(mode) = mode {
        fs::set_permissions(place, Permissions::from_mode(mode)).or_say(|| say("mode"))?;
    }
    if let Some((seconds, nanos)) = times {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW).or_say(|| say("times"))?;
    }
    Ok(())
}
