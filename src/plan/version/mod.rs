//! Versions under the four schemes, and ranges of them.
//!
//! Relies on `semver` and `pep440_rs` for two of the orders; Debian's is [`debian`]. Promise: what does not read as a
//! version of its scheme is an error, never quietly smaller or larger than something.

mod debian;
mod find;
mod range;
mod semver;

use std::cmp::Ordering;
use std::str::FromStr;

use crate::error::{Error, Result};

pub use range::Range;

/// How versions compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// semver.org, leniently: `1.4` is 1.4.0, a leading `v` and leading zeros are passed over.
    #[default]
    Semver,
    /// Python's, PEP 440.
    Pep440,
    /// Debian's, Policy 5.6.12.
    Debian,
    /// Text: equal or not.
    Exact,
}

impl Scheme {
    /// What `scheme = "…"` says.
    pub const WORDS: &'static [&'static str] = &["semver", "pep440", "debian", "exact"];

    /// The scheme that is called `word`.
    pub fn from_word(word: &str) -> Option<Scheme> {
        Some(match word {
            "semver" => Scheme::Semver,
            "pep440" => Scheme::Pep440,
            "debian" => Scheme::Debian,
            "exact" => Scheme::Exact,
            _ => return None,
        })
    }

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Scheme::Semver => "semver",
            Scheme::Pep440 => "pep440",
            Scheme::Debian => "debian",
            Scheme::Exact => "exact",
        }
    }

    /// The order of two versions. An error when one does not read as a version, and under `exact` when they differ.
    pub fn compare(self, a: &str, b: &str) -> Result<Ordering> {
        Ok(match self {
            Scheme::Semver => semver::Partial::version(a)?.cmp_precedence(&semver::Partial::version(b)?),
            Scheme::Pep440 => pep440(a)?.cmp(&pep440(b)?),
            Scheme::Debian => debian::Version::parse(a)?.cmp(&debian::Version::parse(b)?),
            Scheme::Exact if a.trim() == b.trim() => Ordering::Equal,
            Scheme::Exact => {
                return Err(Error::new(format!("`{a}` and `{b}` have no order"))
                    .because("under the scheme `exact` versions are equal or not"));
            }
        })
    }

    /// Whether the whole of `text` reads as a version.
    pub fn reads(self, text: &str) -> bool {
        match self {
            Scheme::Semver => semver::Partial::version(text).is_ok(),
            Scheme::Pep440 => pep440(text).is_ok(),
            Scheme::Debian => debian::Version::parse(text).is_ok(),
            Scheme::Exact => !text.trim().is_empty(),
        }
    }

    /// The first thing in `text` that reads as a version.
    pub fn find(self, text: &str) -> Option<String> {
        find::find(self, text)
    }
}

fn pep440(text: &str) -> Result<pep440_rs::Version> {
    pep440_rs::Version::from_str(text.trim())
        .map_err(|e| Error::new(format!("`{text}` is not a version of the scheme `pep440`")).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semver_orders_leniently() {
        let s = Scheme::Semver;
        assert_eq!(s.compare("1.4", "1.4.0").unwrap(), Ordering::Equal);
        assert_eq!(s.compare("v5.22.1", "5.33.2").unwrap(), Ordering::Less);
        assert_eq!(s.compare("2.0.0-rc.1", "2.0.0").unwrap(), Ordering::Less);
        assert_eq!(s.compare("2.0.0+a", "2.0.0+b").unwrap(), Ordering::Equal);
        assert_eq!(s.compare("2024.01.15", "2024.1.9").unwrap(), Ordering::Greater);
        assert_eq!(
            s.compare("1.2.3.4", "1").unwrap_err().to_string(),
            "`1.2.3.4` is not a version of the scheme `semver`: it has more than three numbers"
        );
    }

    #[test]
    fn pep440_orders_as_python_does() {
        let s = Scheme::Pep440;
        assert_eq!(s.compare("1.0rc1", "1.0").unwrap(), Ordering::Less);
        assert_eq!(s.compare("1.0.post1", "1.0").unwrap(), Ordering::Greater);
        assert!(
            s.compare("one", "1.0")
                .unwrap_err()
                .to_string()
                .starts_with("`one` is not a version of the scheme `pep440`")
        );
    }

    #[test]
    fn exact_versions_have_no_order() {
        assert_eq!(Scheme::Exact.compare("Abies", "Abies ").unwrap(), Ordering::Equal);
        assert_eq!(
            Scheme::Exact.compare("Abies", "Herrerasaurus").unwrap_err().to_string(),
            "`Abies` and `Herrerasaurus` have no order: under the scheme `exact` versions are equal or not"
        );
    }
}
