//! `kind = "file"`: whether a file is there, has a checksum, and says what it must.
//!
//! Promises: never blocks on a FIFO or a device, reads at most [`TEXT_LIMIT`] of text; what cannot be read is a no.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::Digest;

use super::{Check, Finding, Kind, Reads};
use crate::context::Context;
use crate::error::{OrSay, Result};
use crate::plan::{Fields, Reading, Scope, Template};

/// Keys: `path`, `exists` (true by default), `blake3`, `sha256`, and those of a reading.
pub(super) const KIND: Kind = Kind { name: "file", read, reads: Reads::Text };

/// How much of a file is read as text, in bytes.
const TEXT_LIMIT: u64 = 32 << 20;

fn read(fields: &mut Fields) -> Box<dyn Check> {
    // Common to all checks; this one never waits.
    let _ = fields.time_limit("timeout");
    let check = Asked {
        path: fields.need_template("path"),
        exists: fields.flag("exists", true),
        blake3: fields.template("blake3"),
        sha256: fields.template("sha256"),
        reading: Reading::read(fields),
    };
    let asks_content = check.blake3.is_some() || check.sha256.is_some() || !check.reading.asks_nothing();
    if !check.exists && asks_content {
        fields.wrong("exists", "a file that must not exist has no content to ask for", None);
    }
    Box::new(check)
}

struct Asked {
    path: Template,
    exists: bool,
    blake3: Option<Template>,
    sha256: Option<Template>,
    reading: Reading,
}

impl Check for Asked {
    fn describe(&self, scope: &Scope) -> String {
        let path = self.path.path(scope).unwrap_or_default();
        match self.exists {
            true => format!("read {}", path.display()),
            false => format!("{} is not there", path.display()),
        }
    }

    fn ask(&self, cx: &Context<'_>) -> Result<Finding> {
        let path = self.path.path(&cx.scope)?;
        // A dangling symbolic link is something that is there.
        let there = match path.symlink_metadata() {
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Ok(Finding::no(format!("cannot look: {error}"))),
        };
        match (there, self.exists) {
            (true, false) => return Ok(Finding::no(format!("`{}` exists", path.display()))),
            (false, false) => return Ok(Finding::yes("not there")),
            (false, true) => return Ok(Finding::no(format!("`{}` does not exist", path.display()))),
            (true, true) => {}
        }
        let sums = [("BLAKE3", &self.blake3), ("SHA-256", &self.sha256)];
        let mut found = String::from("exists");
        for (name, wanted) in sums {
            let Some(wanted) = wanted else { continue };
            let wanted = wanted.expand(&cx.scope)?;
            let sum = match open_regular(&path).and_then(|file| checksum(name, file)) {
                Ok(sum) => sum,
                Err(error) => return Ok(Finding::no(error.to_string())),
            };
            if !sum.eq_ignore_ascii_case(wanted.trim()) {
                return Ok(Finding::no(format!("its {name} is {sum}")));
            }
            found = format!("{name} as expected");
        }
        if self.reading.asks_nothing() {
            return Ok(Finding::yes(found));
        }
        let text = match text_of(&path) {
            Ok(text) => text,
            Err(error) => return Ok(Finding::no(error.to_string())),
        };
        Ok(match self.reading.judge(&text, &cx.scope)? {
            Some(why) => Finding::no(why),
            None => Finding::yes("says what it must"),
        })
    }

    fn read_text(&self, cx: &Context<'_>) -> Result<String> {
        text_of(&self.path.path(&cx.scope)?)
    }
}

fn open_regular(path: &Path) -> Result<File> {
    let say = || format!("cannot read `{}`", path.display());
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).or_say(say)?;
    if !file.metadata().or_say(say)?.is_file() {
        return Err(crate::error::Error::new(format!("`{}` is not a regular file", path.display())));
    }
    Ok(file)
}

fn text_of(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    open_regular(path)?
        .take(TEXT_LIMIT + 1)
        .read_to_end(&mut bytes)
        .or_say(|| format!("cannot read `{}`", path.display()))?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(crate::error::Error::new(format!("`{}` is larger than 32 MiB", path.display())));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn checksum(name: &str, mut file: File) -> Result<String> {
    let say = || "cannot read the file".to_owned();
    if name == "BLAKE3" {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut file).or_say(say)?;
        return Ok(hasher.finalize().to_hex().to_string());
    }
    let mut hasher = sha2::Sha256::new();
    std::io::copy(&mut file, &mut hasher).or_say(say)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
