//! A plan made from `KIND=VALUE` words, written down where it can be found again.

use std::path::{Path, PathBuf};

use super::Site;
use crate::error::{Error, OrSay, Result};
use crate::name::Name;
use crate::sys::files;

/// Makes the plan and writes it to `save`, which must not be there yet, or into the state directory, where it takes
/// the place of the last one of that name (a transaction keeps its own copy). Returns where it is.
pub fn write_ad_hoc(site: &Site, name: &Name, words: &[String], save: Option<&Path>) -> Result<PathBuf> {
    let text = crate::plan::ad_hoc(name, words)?;
    let path = match save {
        Some(path) => {
            let path = std::path::absolute(path).or_say(|| format!("cannot write `{}`", path.display()))?;
            if path.symlink_metadata().is_ok() {
                return Err(Error::new(format!("`{}` is there already", path.display()))
                    .hint(format!("`txupgrade begin {}` begins the plan that is in it", path.display())));
            }
            path
        }
        None => {
            let plans = site.dir.join("plans");
            files::create_private_dir(&plans)?;
            plans.join(format!("{name}.toml"))
        }
    };
    files::write_durably(&path, text.as_bytes())?;
    Ok(path)
}
