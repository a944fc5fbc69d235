//! Durable effects on files: write beside, fsync, rename, fsync the directory.
use crate::error::Result;
use std::fs::File;
use std::path::Path;
/// Puts `bytes` at `path` so that after a crash there is either the old content or the new: a temporary file beside it, fsync, rename, fsync of the directory. Mode 0600 for new files.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let _ = (path, bytes);
    todo!()
}
/// fsync of a directory.
pub fn sync_dir(path: &Path) -> Result<()> {
    let _ = path;
    todo!()
}
/// rename, then fsync of both directories.
pub fn rename_durably(from: &Path, to: &Path) -> Result<()> {
    let _ = (from, to);
    todo!()
}
/// Creates a directory and its parents with mode 0700.
pub fn create_private_dir(path: &Path) -> Result<()> {
    let _ = path;
    todo!()
}
/// Removes a tree: never follows a symlink, never crosses a mount point (which is an error that names it). Missing is fine.
pub fn remove_tree(path: &Path) -> Result<()> {
    let _ = path;
    todo!()
}
/// Opens for reading without following a symlink at the end.
pub fn open_nofollow(path: &Path) -> Result<File> {
    let _ = path;
    todo!()
}
/// Refuses a file that others than its owner (root or the caller) may write, or that stands below a directory they may write (a sticky directory counts as safe).
pub fn only_owner_writes(path: &Path) -> Result<()> {
    let _ = path;
    todo!()
}
