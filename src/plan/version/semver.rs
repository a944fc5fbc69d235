//! Semantic versions, written in full or in part: `2`, `1.4`, `v1.4.2-rc.1+build`.

use ::semver::{BuildMetadata, Prerelease, Version};

use crate::error::{Error, Result};

/// What was written: one to three numbers and perhaps a prerelease.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    /// The version, missing numbers being zero.
    pub(super) low: Version,
    /// How many numbers were written.
    pub(super) numbers: usize,
}

impl Partial {
    /// Parses; an error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Partial> {
        let wrong = |why: String| Error::new(format!("`{text}` is not a version of the scheme `semver`")).because(why);
        let rest = text.trim();
        let rest = rest.strip_prefix(['v', 'V']).unwrap_or(rest);
        let (rest, build) = rest.split_once('+').map_or((rest, None), |(a, b)| (a, Some(b)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
        let mut numbers = Vec::new();
        for part in core.split('.') {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong(if part.is_empty() {
                    "a number is missing".into()
                } else {
                    format!("`{part}` is not a number")
                }));
            }
            numbers.push(part.parse::<u64>().map_err(|_| wrong(format!("`{part}` is too large")))?);
        }
        if numbers.len() > 3 {
            return Err(wrong("it has more than three numbers".into()));
        }
        let at = |i: usize| numbers.get(i).copied().unwrap_or(0);
        let mut low = Version::new(at(0), at(1), at(2));
        if let Some(pre) = pre {
            low.pre = Prerelease::new(&without_zeros(pre)).map_err(|e| wrong(e.to_string()))?;
            if low.pre.is_empty() {
                return Err(wrong("nothing follows the `-`".into()));
            }
        }
        if let Some(build) = build {
            low.build = BuildMetadata::new(build).map_err(|e| wrong(e.to_string()))?;
        }
        Ok(Partial { low, numbers: numbers.len() })
    }

    /// The version that `text` names.
    pub(super) fn version(text: &str) -> Result<Version> {
        Ok(Partial::parse(text)?.low)
    }

    /// The first version after all those that begin like this one's first `numbers` numbers.
    pub(super) fn next(&self, numbers: usize) -> Version {
        let Version { major, minor, patch, .. } = self.low;
        match numbers {
            1 => Version::new(major.saturating_add(1), 0, 0),
            2 => Version::new(major, minor.saturating_add(1), 0),
            _ => Version::new(major, minor, patch.saturating_add(1)),
        }
    }
}

/// Numbers of a prerelease without their leading zeros, which the crate refuses: `rc.01` is `rc.1`.
fn without_zeros(pre: &str) -> String {
    let tidy = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        match part.trim_start_matches('0') {
            "" if digits => "0".to_owned(),
            rest if digits => rest.to_owned(),
            _ => part.to_owned(),
        }
    };
    pre.split('.').map(tidy).collect::<Vec<_>>().join(".")
}
