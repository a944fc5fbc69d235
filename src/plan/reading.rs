//! What a text has to say: shared by checks, by `expect` and by `[version]`.
use super::{Fields, Pattern, Range, Scheme, Scope};
use crate::error::Result;
/// `matches`, `matches_not`, `is` with `pattern` and `scheme`.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    pub matches: Option<Pattern>,
    pub matches_not: Option<Pattern>,
    pub is: Option<Range>,
    pub pattern: Option<Pattern>,
    pub scheme: Scheme,
}
impl Reading {
    /// Reads its keys from an entry.
    pub fn read(fields: &mut Fields) -> Reading {
        let _ = fields;
        todo!()
    }
    /// Whether anything is asked of the text.
    pub fn asks_nothing(&self) -> bool {
        self.matches.is_none() && self.matches_not.is_none() && self.is.is_none()
    }
    /// `Ok(None)` when the text says what it must; `Ok(Some(why))` when not, in words (`does not match `done``).
    pub fn judge(&self, text: &str, scope: &Scope) -> Result<Option<String>> {
        let _ = (text, scope);
        todo!()
    }
    /// The version in the text: the first group of `pattern`, or the first thing that reads as one.
    pub fn version(&self, text: &str, scope: &Scope) -> Result<Option<String>> {
        let _ = (text, scope);
        todo!()
    }
}
