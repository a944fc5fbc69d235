//! `kind = "space"`: whether enough bytes are free on the filesystem of a path.

use super::{Check, Finding, Kind, Reads};
use crate::context::Context;
use crate::error::Result;
use crate::plan::{Fields, Scope, Template};
use crate::sys::mounts;

/// Keys: `path`, `free`.
pub(super) const KIND: Kind = Kind { name: "space", read, reads: Reads::Nothing };

fn read(fields: &mut Fields) -> Box<dyn Check> {
    // Common to all checks; this one never waits.
    let _ = fields.time_limit("timeout");
    let path = fields.need_template("path");
    let free = fields.size("free");
    if free.is_none() && !fields.has("free") {
        fields.missing("free");
    }
    Box::new(Asked { path, free: free.unwrap_or(0) })
}

struct Asked {
    path: Template,
    free: u64,
}

impl Check for Asked {
    fn describe(&self, scope: &Scope) -> String {
        let path = self.path.path(scope).unwrap_or_default();
        format!("{} free below {}", in_words(self.free), path.display())
    }

    fn ask(&self, cx: &Context<'_>) -> Result<Finding> {
        let path = self.path.path(&cx.scope)?;
        let free = match mounts::free(&path) {
            Ok(free) => free,
            Err(error) => return Ok(Finding::no(error.to_string())),
        };
        let found = format!("{} free", in_words(free));
        Ok(match free >= self.free {
            true => Finding::yes(found),
            false => Finding::no(format!("{found}, {} needed", in_words(self.free))),
        })
    }
}

fn in_words(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}
