//! Versions under the four schemes, and ranges of them.
use crate::error::Result;
/// How versions compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    #[default]
    Semver,
    Pep440,
    Debian,
    Exact,
}
/// A range such as `>=1.4, <2.0`; clauses `= == != < <= > >= ~ ^ ~=` joined by commas.
#[derive(Debug, Clone)]
pub struct Range {
    text: String,
    scheme: Scheme,
}
impl Range {
    pub fn parse(text: &str, scheme: Scheme) -> std::result::Result<Range, String> {
        let _ = (text, scheme);
        todo!()
    }
    /// Whether `version` is in it; `Err` when it does not read as a version of the scheme.
    pub fn holds(&self, version: &str) -> Result<bool> {
        let _ = (version, self.scheme);
        todo!()
    }
    pub fn text(&self) -> &str {
        &self.text
    }
}
impl Scheme {
    /// The order of two versions.
    pub fn compare(self, a: &str, b: &str) -> Result<std::cmp::Ordering> {
        let _ = (a, b);
        todo!()
    }
    /// The first thing in `text` that reads as a version.
    pub fn find(self, text: &str) -> Option<String> {
        let _ = text;
        todo!()
    }
}
