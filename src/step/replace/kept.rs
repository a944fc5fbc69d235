//! What stays where it is although the tree around it is replaced: nothing captures it, so nothing could bring it back.
//!
//! It is moved by rename from the old tree into the new one once that is in place, and back before the old one is. The
//! list of it is on disk before the first rename, and each thing is in one tree or the other at any instant, so an undo
//! after a death finds it wherever it is. Relies on the unpacked tree having nothing under these names ([`make_way`]).

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::places::{Places, exists};
use crate::error::{OrSay, Result};
use crate::sys::files;

/// Removes from the unpacked tree what would be in the way of `kept` (paths below the replaced one), makes the
/// directories above, and writes the list down.
pub(super) fn make_way(places: &Places, kept: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let inside = kept.iter().filter_map(|path| path.strip_prefix(&places.path).ok());
    let inside: Vec<PathBuf> = inside.filter(|path| !path.as_os_str().is_empty()).map(Path::to_path_buf).collect();
    if inside.is_empty() {
        return Ok(inside);
    }
    let new = places.named("new");
    for path in &inside {
        files::remove_tree(&new.join(path))?;
        make_parents(&places.path, &new, path)?;
    }
    let list: Vec<Vec<u8>> = inside.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
    let list = serde_json::to_vec(&list).or_say(|| "cannot write down what is kept")?;
    let beside = places.named("kept.0");
    files::remove_tree(&beside)?;
    files::write_durably_through(&beside, &places.named("kept"), &list)?;
    Ok(inside)
}

/// The directories above `path` that the new tree does not have, like those of the old one.
fn make_parents(old: &Path, new: &Path, path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let mut below = PathBuf::new();
    for part in parent.components() {
        below.push(part);
        let (like, dir) = (old.join(&below), new.join(&below));
        let cannot = || format!("cannot make `{}`", dir.display());
        match dir.symlink_metadata() {
            Ok(there) if there.is_dir() => continue,
            // The new release has something else by that name, and below it there is nothing to keep things in.
            Ok(_) => files::remove_tree(&dir)?,
            Err(_) => {}
        }
        let meta = like.symlink_metadata().or_say(cannot)?;
        fs::create_dir(&dir).or_say(cannot)?;
        std::os::unix::fs::lchown(&dir, Some(meta.uid()), Some(meta.gid())).or_say(cannot)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(meta.mode() & 0o7777)).or_say(cannot)?;
    }
    Ok(())
}

/// Moves what is kept into the new tree, which is in place. After a repeated run it is in the tree of the run before.
pub(super) fn move_over(places: &Places, kept: &[PathBuf]) -> Result<()> {
    for path in kept {
        move_from(&[places.named("old").join(path), places.named("gone").join(path)], &places.path.join(path))?;
    }
    Ok(())
}

/// Moves what is kept back into the old tree, wherever both are now.
pub(super) fn move_back(places: &Places) -> Result<()> {
    let list = places.named("kept");
    if !exists(&list)? {
        return Ok(());
    }
    let cannot = || format!("cannot read `{}`", list.display());
    let kept: Vec<Vec<u8>> = serde_json::from_slice(&fs::read(&list).or_say(cannot)?).or_say(cannot)?;
    let (old, gone) = (places.named("old"), places.named("gone"));
    let (home, elsewhere) = match exists(&old)? {
        true => (old, [places.path.clone(), gone]),
        // It is in its place already.
        false => (places.path.clone(), [gone.clone(), gone]),
    };
    for path in kept {
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        move_from(&elsewhere.clone().map(|tree| tree.join(&path)), &home.join(&path))?;
    }
    Ok(())
}

/// Moves the first of `from` that is there to `to`, unless that is there already.
fn move_from(from: &[PathBuf], to: &Path) -> Result<()> {
    if exists(to)? {
        return Ok(());
    }
    for from in from {
        if exists(from)? {
            return files::rename_durably(from, to);
        }
    }
    Ok(())
}
