//! Strings with `${key}` in them, and the variables they are filled from.
use crate::error::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A string of the plan with variables in it; `$${` stands for a literal `${`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Var(String),
}
impl Template {
    /// Text without variables.
    pub fn literal(text: impl Into<String>) -> Template {
        Template { parts: vec![Part::Text(text.into())] }
    }
    /// Parses; `Err` says what is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Template, String> {
        let _ = text;
        todo!()
    }
    /// The names of its variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| match p {
            Part::Var(v) => Some(v.as_str()),
            Part::Text(_) => None,
        })
    }
    /// The string, filled in. A variable that is not known at this moment, or a secret one, is an error.
    pub fn expand(&self, scope: &Scope) -> Result<String> {
        let _ = scope;
        todo!()
    }
    /// As a path; a relative one is relative to the plan's directory.
    pub fn path(&self, scope: &Scope) -> Result<PathBuf> {
        let _ = scope;
        todo!()
    }
}

/// A regular expression with variables in it; their values are escaped.
#[derive(Debug, Clone)]
pub struct Pattern {
    template: Template,
}
impl Pattern {
    /// Parses, and compiles once with placeholders so that a wrong expression is a mistake of the plan.
    pub fn parse(text: &str) -> std::result::Result<Pattern, String> {
        let _ = text;
        todo!()
    }
    /// The expression.
    pub fn compile(&self, scope: &Scope) -> Result<regex::Regex> {
        let _ = (scope, &self.template);
        todo!()
    }
}

/// The variables that can be used at one moment, and where relative paths begin.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The plan's directory.
    pub dir: PathBuf,
    /// Plain values.
    pub values: BTreeMap<String, String>,
    /// Secret values: never expanded into text that is kept or shown or into an argument; commands get them as environment.
    pub secrets: BTreeMap<String, String>,
}
impl Scope {
    /// The same scope with one more value.
    pub fn with(&self, key: &str, value: &str) -> Scope {
        let mut s = self.clone();
        s.values.insert(key.into(), value.into());
        s
    }
}
