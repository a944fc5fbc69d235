//! What is mounted where.
use crate::error::Result;
use std::path::{Path, PathBuf};
/// Mount points strictly below `path` (and `path` itself when asked for with `at`), from /proc/self/mountinfo (octal escapes decoded).
pub fn below(path: &Path) -> Result<Vec<PathBuf>> {
    let _ = path;
    todo!()
}
/// Whether something is mounted at exactly `path`.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    let _ = path;
    todo!()
}
/// Bytes that a user like us may still write on the filesystem that holds `path` (or its nearest existing parent).
pub fn free(path: &Path) -> Result<u64> {
    let _ = path;
    todo!()
}
