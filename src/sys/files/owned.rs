//! Whether others may write what we are about to trust.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, OrSay, Result};

/// How many symlinks a path may lead through, as in the kernel.
const LINKS: u32 = 40;

/// Refuses a file that others than its owner (root or the caller) may write, or that stands below a directory they
/// may write (a sticky directory counts as safe). Symlinks are followed, and each directory on the way is asked.
pub fn only_owner_writes(path: &Path) -> Result<()> {
    only_trusted_write(path, None)
}

/// The same, where the account `also` may own it too: it is what that account will run.
pub fn only_trusted_write(path: &Path, also: Option<u32>) -> Result<()> {
    let absolute = std::path::absolute(path).or_say(|| format!("cannot tell where `{}` is", path.display()))?;
    let mut ahead: VecDeque<OsString> = words(&absolute);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    judge(&here, &look(&here, path)?, path, also)?;
    while let Some(word) = ahead.pop_front() {
        if word == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&word);
        let meta = look(&next, path)?;
        judge(&next, &meta, path, also)?;
        if !meta.is_symlink() {
            here = next;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(Error::new(format!("`{}` leads through more than {LINKS} symlinks", path.display())));
        }
        let target = std::fs::read_link(&next).or_say(|| format!("cannot read the symlink `{}`", next.display()))?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for word in words(&target).into_iter().rev() {
            ahead.push_front(word);
        }
    }
    Ok(())
}

fn words(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(word) => Some(word.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn look(at: &Path, path: &Path) -> Result<Metadata> {
    std::fs::symlink_metadata(at).or_say(|| {
        if at == path {
            format!("cannot look at `{}`", path.display())
        } else {
            format!("cannot look at `{}`, on the way to `{}`", at.display(), path.display())
        }
    })
}

/// Whether `at`, the file at `path` itself or something on the way to it, can be changed by others.
fn judge(at: &Path, meta: &Metadata, path: &Path, also: Option<u32>) -> Result<()> {
    let refuse = |why: String, hint: String| {
        Err(Error::new(format!("others may write `{}`", path.display())).because(why).hint(hint))
    };
    let what = if meta.is_dir() { "the directory " } else { "" };
    let caller = rustix::process::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != caller && Some(meta.uid()) != also {
        let us = if caller == 0 { "root".to_owned() } else { format!("root nor to user {caller}") };
        let not = if caller == 0 { "not to" } else { "neither to" };
        return refuse(
            format!("{what}`{}` belongs to user {}, {not} {us}", at.display(), meta.uid()),
            format!("`chown --no-dereference {caller} {}`", at.display()),
        );
    }
    // A symlink has no mode of its own; who may replace it is said by its directory.
    let writable = !meta.is_symlink() && meta.mode() & 0o022 != 0;
    let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    if writable && !sticky {
        return refuse(
            format!("{what}`{}` has mode {:04o}", at.display(), meta.mode() & 0o7777),
            format!("`chmod go-w {}`", at.display()),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(path: &Path) -> Error {
        only_owner_writes(path).unwrap_err()
    }

    /// A private directory below the sticky `/tmp`, with a file in it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plan.toml");
        std::fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        (dir, file)
    }

    #[test]
    fn a_file_of_ours_below_a_sticky_directory_is_safe() {
        let (_dir, file) = place();
        only_owner_writes(&file).unwrap();
    }

    #[test]
    fn a_file_that_the_group_may_write_is_refused() {
        let (_dir, file) = place();
        mode(&file, 0o664);
        let error = refusal(&file);
        assert_eq!(error.statement, format!("others may write `{}`", file.display()));
        assert_eq!(error.causes, [format!("`{}` has mode 0664", file.display())]);
        assert_eq!(error.hints, [format!("`chmod go-w {}`", file.display())]);
    }

    #[test]
    fn a_file_below_a_directory_that_others_may_write_is_refused() {
        let (dir, file) = place();
        mode(dir.path(), 0o777);
        assert_eq!(refusal(&file).causes, [format!("the directory `{}` has mode 0777", dir.path().display())]);
        mode(dir.path(), 0o1777);
        only_owner_writes(&file).unwrap();
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let (_dir, file) = place();
        chown(&file, Some(1234), None).unwrap();
        let error = refusal(&file);
        assert_eq!(error.causes, [format!("`{}` belongs to user 1234, not to root", file.display())]);
        assert_eq!(error.hints, [format!("`chown --no-dereference 0 {}`", file.display())]);
    }

    #[test]
    fn a_symlink_is_asked_with_every_directory_it_leads_through() {
        let (dir, file) = place();
        let (other, _) = place();
        let link = other.path().join("link");
        symlink(&file, &link).unwrap();
        only_owner_writes(&link).unwrap();
        mode(dir.path(), 0o770);
        assert_eq!(refusal(&link).causes, [format!("the directory `{}` has mode 0770", dir.path().display())]);
        mode(dir.path(), 0o700);
        std::os::unix::fs::lchown(&link, Some(1234), None).unwrap();
        assert!(refusal(&link).causes[0].contains("belongs to user 1234"));
        let around = other.path().join("around");
        symlink("around", &around).unwrap();
        assert!(refusal(&around).statement.contains("more than 40 symlinks"));
    }
}
