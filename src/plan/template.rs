//! Strings with `${key}` in them, and the variables they are filled from.
//!
//! Promise: a secret never comes out of [`Template::expand`] or a [`Pattern`]; only
//! [`Value::read`](super::Value::read) gives one, and says that it is one.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

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
        Template::parse_or_show(text).map_err(|(statement, _)| statement)
    }

    /// The same; `Err` has the part of the text that is wrong, too.
    pub(super) fn parse_or_show(text: &str) -> std::result::Result<Template, (String, &str)> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                plain.push_str(&rest[..at]);
                plain.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            plain.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let Some(end) = inner.find('}') else {
                return Err(("a `${` has no `}`".into(), &rest[at..]));
            };
            let name = &inner[..end];
            if !is_variable_name(name) {
                return Err((format!("`${{{name}}}` is not a variable"), &rest[at..at + end + 3]));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Var(name.to_owned()));
            rest = &inner[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { parts })
    }

    /// The names of its variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| match p {
            Part::Var(v) => Some(v.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Whether it is the empty string.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|p| matches!(p, Part::Text(text) if text.is_empty()))
    }

    /// The string, filled in. A variable that is not known at this moment, or a secret one, is an error.
    pub fn expand(&self, scope: &Scope) -> Result<String> {
        self.fill(|name| scope.get(name).map(str::to_owned))
    }

    /// As a path; a relative one is relative to the plan's directory. `.` and `..` are resolved by their letters alone.
    pub fn path(&self, scope: &Scope) -> Result<PathBuf> {
        let text = self.expand(scope)?;
        if text.is_empty() {
            return Err(Error::new("a path is empty").hint(format!("it is written `{self}` in the plan")));
        }
        if text.contains('\0') {
            return Err(Error::new(format!("the path `{}` holds a NUL", text.escape_debug())));
        }
        Ok(normal(&scope.dir.join(text)))
    }

    /// The string, each variable replaced by what `value` says.
    pub(super) fn fill(&self, value: impl Fn(&str) -> Result<String>) -> Result<String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Var(name) => out.push_str(&value(name)?),
            }
        }
        Ok(out)
    }
}

impl std::fmt::Display for Template {
    /// As it may be written in a plan.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(&text.replace("${", "$${"))?,
                Part::Var(name) => write!(f, "${{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// Variables are named like those of a shell, since a command gets them as environment.
pub(super) fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Without `.`, `..` and a trailing slash.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            // `..` above the root is the root; a relative path keeps what leads out of it.
            Component::ParentDir => match out.components().next_back() {
                Some(Component::Normal(_)) => {
                    out.pop();
                }
                Some(Component::RootDir) => {}
                _ => out.push(".."),
            },
            other => out.push(other),
        }
    }
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

/// A regular expression with variables in it; their values are escaped. `^` and `$` match at every line.
#[derive(Debug, Clone)]
pub struct Pattern {
    template: Template,
}

impl Pattern {
    /// Parses, and compiles once with placeholders so that a wrong expression is a mistake of the plan.
    pub fn parse(text: &str) -> std::result::Result<Pattern, String> {
        let template = Template::parse(text)?;
        let trial = template.fill(|_| Ok("0".to_owned())).map_err(|e| e.to_string())?;
        build(&trial).map_err(|e| reason(&e))?;
        Ok(Pattern { template })
    }

    /// The expression.
    pub fn compile(&self, scope: &Scope) -> Result<regex::Regex> {
        let text = self.expanded(scope)?;
        build(&text).map_err(|e| Error::new(format!("`{text}` is not a regular expression")).because(reason(&e)))
    }

    /// The expression as text, its variables filled in and escaped.
    pub fn expanded(&self, scope: &Scope) -> Result<String> {
        self.template.fill(|name| scope.get(name).map(regex::escape))
    }

    /// The names of its variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.template.variables()
    }
}

impl std::fmt::Display for Pattern {
    /// As it is written in the plan.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.template.fmt(f)
    }
}

fn build(text: &str) -> std::result::Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(text).multi_line(true).crlf(true).build()
}

/// The last line of the crate's message, which draws the expression above it.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
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

    /// A plain value; that it is secret or not known now is an error that names it and says when it is.
    pub fn get(&self, name: &str) -> Result<&str> {
        if let Some(value) = self.values.get(name) {
            return Ok(value);
        }
        if self.secrets.contains_key(name) {
            return Err(Error::new(format!("the variable `{name}` is secret and cannot stand here"))
                .hint(format!("a program gets it as environment: `env = {{ NAME = \"${{{name}}}\" }}`")));
        }
        let when = match name {
            "from" => "it is the version found at begin",
            "to" => "it is what `[version] to` names",
            "version" => "it is the version that must be there at that moment, known once begin has read it",
            "tx" => "it is known once the transaction has begun",
            "scratch" => "the directory exists only while a transaction is under way",
            "each" => "it is known only in an entry that has `each`",
            _ => "the plan's `[vars]` do not have it",
        };
        Err(Error::new(format!("the variable `{name}` is not known here")).because(when))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let mut s = Scope { dir: "/plans".into(), ..Scope::default() };
        s.values.insert("home".into(), "/opt/notes".into());
        s.values.insert("v".into(), "1.4+x".into());
        s.secrets.insert("pass".into(), "hunter2".into());
        s
    }

    fn expand(text: &str) -> String {
        match Template::parse(text) {
            Err(e) => format!("mistake: {e}"),
            Ok(t) => t.expand(&scope()).unwrap_or_else(|e| format!("error: {e}")),
        }
    }

    #[test]
    fn variables_are_filled_in_and_two_dollars_stand_for_themselves() {
        assert_eq!(expand("${home}/bin"), "/opt/notes/bin");
        assert_eq!(expand("a${v}b${v}"), "a1.4+xb1.4+x");
        assert_eq!(expand("$${home} costs 5$"), "${home} costs 5$");
        assert_eq!(expand(""), "");
        assert_eq!(expand("$home ^a$ }{"), "$home ^a$ }{");
        assert_eq!(expand("${home"), "mistake: a `${` has no `}`");
        assert_eq!(expand("${ho me}"), "mistake: `${ho me}` is not a variable");
        assert_eq!(expand("${}"), "mistake: `${}` is not a variable");
    }

    #[test]
    fn an_unknown_variable_says_when_it_is_known() {
        assert_eq!(
            expand("${tx}"),
            "error: the variable `tx` is not known here: it is known once the transaction has begun"
        );
        assert_eq!(expand("${x}"), "error: the variable `x` is not known here: the plan's `[vars]` do not have it");
    }

    #[test]
    fn a_secret_is_never_expanded() {
        assert_eq!(expand("${pass}"), "error: the variable `pass` is secret and cannot stand here");
        assert!(Pattern::parse("${pass}").unwrap().compile(&scope()).is_err());
    }

    #[test]
    fn paths_begin_at_the_plan_and_are_tidied() {
        let path = |t: &str| Template::parse(t).unwrap().path(&scope()).unwrap();
        assert_eq!(path("notes.tar"), Path::new("/plans/notes.tar"));
        assert_eq!(path("../x/./y/"), Path::new("/x/y"));
        assert_eq!(path("${home}/"), Path::new("/opt/notes"));
        assert_eq!(path("/../.."), Path::new("/"));
        assert_eq!(path("//a//b"), Path::new("/a/b"));
        assert_eq!(path("."), Path::new("/plans"));
        assert!(Template::literal("").path(&scope()).is_err());
    }

    #[test]
    fn in_patterns_a_variable_is_escaped_and_lines_are_matched() {
        let p = Pattern::parse(r"^v${v}$").unwrap();
        let r = p.compile(&scope()).unwrap();
        assert!(r.is_match("x\nv1.4+x\r\ny"));
        assert!(!r.is_match("v1x4+x"));
        assert_eq!(Pattern::parse("(a").unwrap_err(), "unclosed group");
    }

    #[test]
    fn a_template_shows_as_it_was_written() {
        for text in ["${home}/bin", "$${x}", "a$b", ""] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
    }
}
