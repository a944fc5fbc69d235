//! A plan made from `KIND=VALUE` words, written down where it can be found again.

use std::path::{Path, PathBuf};

use super::Site;
use crate::context::run::quoted;
use crate::error::{Error, OrSay, Result};
use crate::name::Name;
use crate::sys::files;

/// Makes the plan and writes it to `save`, which must not be there yet, or into the state directory, where it takes
/// the place of the last one of that name (a transaction keeps its own copy). Returns where it is.
pub fn write_ad_hoc(site: &Site, name: &Name, words: &[String], save: Option<&Path>) -> Result<PathBuf> {
    let words: Vec<String> = words.iter().map(|word| from_here(word)).collect();
    let text = crate::plan::ad_hoc(name, &words)?;
    let path = match save {
        Some(path) => {
            let path = std::path::absolute(path).or_say(|| format!("cannot write `{}`", path.display()))?;
            if path.symlink_metadata().is_ok() {
                return Err(Error::new(format!("`{}` is there already", path.display())).hint(format!(
                    "`txupgrade begin {}` begins the plan that is in it",
                    quoted(&path.to_string_lossy())
                )));
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

/// What is typed relative to the working directory would, in a plan, be relative to the plan.
fn from_here(word: &str) -> String {
    match word.split_once('=') {
        Some((kind @ ("path" | "sqlite"), value)) if !value.is_empty() => match std::path::absolute(value) {
            Ok(path) if path.to_str().is_some() => format!("{kind}={}", path.display()),
            _ => word.to_owned(),
        },
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::monitor::Silent;
    use crate::sys::signal::Stop;

    fn site(dir: &Path) -> Site {
        Site { dir: dir.join("state"), monitor: Arc::new(Silent), stop: Stop::never() }
    }

    #[test]
    fn what_is_typed_here_is_meant_here() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(from_here("path=etc"), format!("path={}/etc", here.display()));
        assert_eq!(from_here("path=/etc"), "path=/etc");
        assert_eq!(from_here("path="), "path=");
        assert_eq!(from_here("http=http://127.0.0.1/"), "http=http://127.0.0.1/");
    }

    #[test]
    fn the_plan_is_kept_or_saved_and_a_saved_one_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (site, words) = (site(dir.path()), ["path=/etc/shop".to_owned()]);
        let name: Name = "shop".parse().unwrap();
        let kept = write_ad_hoc(&site, &name, &words, None).unwrap();
        assert_eq!(kept, dir.path().join("state/plans/shop.toml"));
        assert_eq!(write_ad_hoc(&site, &name, &words, None).unwrap(), kept);
        let file = dir.path().join("shop.toml");
        assert_eq!(write_ad_hoc(&site, &name, &words, Some(&file)).unwrap(), file);
        let error = write_ad_hoc(&site, &name, &words, Some(&file)).unwrap_err();
        assert_eq!(error.statement, format!("`{}` is there already", file.display()));
    }
}
