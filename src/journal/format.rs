//! `FORMAT`: which version of the on-disk contract a state directory is written in.
//!
//! Promise: a directory written by a newer txupgrade is refused before anything in it is read or changed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Error, Fault, OrSay, Result};
use crate::sys::files;

/// The version that this txupgrade writes.
pub const FORMAT: u64 = 1;

/// Checks the format of the state directory `dir`: its number, or `None` where there is no `FORMAT` yet. Changes
/// nothing. A newer format is refused.
pub fn check(dir: &Path) -> Result<Option<u64>> {
    let path = dir.join("FORMAT");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error).or_say(|| format!("cannot read `{}`", path.display())),
    };
    let format = serde_json::from_slice::<serde_json::Value>(&text).ok().and_then(|value| value["format"].as_u64());
    match format {
        Some(FORMAT) => Ok(format),
        Some(newer) if newer > FORMAT => Err(too_old(&format!("state directory `{}`", dir.display()), newer, FORMAT)),
        _ => Err(Error::new(format!("`{}` does not name a format", path.display()))
            .because(format!("it should say {{\"format\":{FORMAT}}}"))
            .fault(Fault::Damage)),
    }
}

/// Checks the format of `dir`, and makes the directory and its `FORMAT` where they are new.
pub fn establish(dir: &Path) -> Result<()> {
    files::create_private_dir(dir)?;
    // In this order: another process that makes the directory right now writes FORMAT before the journal.
    let begun = dir.join("journal.db").exists();
    if check(dir)?.is_some() {
        return Ok(());
    }
    let path = dir.join("FORMAT");
    if begun {
        return Err(Error::new(format!("`{}` is missing", path.display()))
            .because("there is a journal beside it, so the state directory is not new")
            .hint(format!(
                "if the journal is of this version of txupgrade: echo '{{\"format\":{FORMAT}}}' > {}",
                path.display()
            ))
            .fault(Fault::Damage));
    }
    files::write_durably(&path, format!("{{\"format\":{FORMAT}}}\n").as_bytes())
}

/// Refuses `what`, which a newer txupgrade wrote.
pub(super) fn too_old(what: &str, found: impl std::fmt::Display, known: impl std::fmt::Display) -> Error {
    Error::new(format!("this txupgrade is too old for the {what}"))
        .because(format!("it has format {found}, and this txupgrade knows formats up to {known}"))
        .hint("use the txupgrade that wrote it, or a newer one")
}
