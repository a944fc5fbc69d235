//! `kind = "sql"`: the answer of a query on one resource or on several, each of which must say what it must.
//!
//! Where the entry asks nothing of the text, a query that gives at least one row is a yes.

use super::{Check, Finding, Kind, Reads};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::plan::{Fields, List, Reading, Scope, Template};

/// Keys: `resource` or `resources`, `query`, and those of a reading.
pub(super) const KIND: Kind = Kind { name: "sql", read, reads: Reads::Text };

fn read(fields: &mut Fields) -> Box<dyn Check> {
    let both = fields.has("resource") && fields.has("resources");
    let one = fields.reference(List::Resource, "resource");
    let several = fields.references(List::Resource, "resources");
    if both {
        fields.wrong("resources", "`resource` and `resources` exclude each other", None);
    } else if one.is_none() && several.is_empty() {
        fields.wrong("resource", "the resource to ask is missing", Some("resource = \"…\""));
    }
    // Common to all checks; the answer of a database is waited for as long as it takes to get a lock.
    let _ = fields.time_limit("timeout");
    Box::new(Asked {
        resources: one.into_iter().chain(several).collect(),
        query: fields.need_template("query"),
        reading: Reading::read(fields),
    })
}

struct Asked {
    resources: Vec<String>,
    query: Template,
    reading: Reading,
}

impl Asked {
    /// What each resource answers, by its name; the inner error may get better by waiting.
    fn answers(&self, cx: &Context<'_>) -> Result<Vec<(String, Result<String>)>> {
        let mut answers = Vec::new();
        for reference in cx.references(&self.resources)? {
            for (name, scope, resource) in cx.peers.resources(&reference)? {
                let query = self.query.expand(&cx.scope)?;
                let mut cx = cx.with_scope(scope);
                cx.subject.clone_from(&name);
                answers.push((name, resource.query(&cx, &query)));
            }
        }
        Ok(answers)
    }
}

impl Check for Asked {
    fn describe(&self, scope: &Scope) -> String {
        format!("ask {}: {}", self.resources.join(", "), self.query.expand(scope).unwrap_or_default())
    }

    fn ask(&self, cx: &Context<'_>) -> Result<Finding> {
        let answers = self.answers(cx)?;
        let several = answers.len() > 1;
        let mut found = String::new();
        for (name, answer) in answers {
            let of = |what: String| if several { format!("{name}: {what}") } else { what };
            let text = match answer {
                Ok(text) => text,
                Err(error) => return Ok(Finding::no(of(error.to_string()))),
            };
            if self.reading.asks_nothing() && text.is_empty() {
                return Ok(Finding::no(of("no rows".to_owned())));
            }
            if let Some(why) = self.reading.judge(&text, &cx.scope)? {
                return Ok(Finding::no(of(why)));
            }
            found = text.lines().next().unwrap_or_default().chars().take(80).collect();
        }
        Ok(Finding::yes(if found.is_empty() { "no rows".to_owned() } else { found }))
    }

    fn read_text(&self, cx: &Context<'_>) -> Result<String> {
        let mut first: Option<(String, String)> = None;
        for (name, answer) in self.answers(cx)? {
            let text = answer?;
            match &first {
                None => first = Some((name, text)),
                Some((_, same)) if *same == text => {}
                Some((other, differs)) => {
                    return Err(Error::new("the databases do not give the same answer")
                        .because(format!("{other}: {}", differs.trim_end()))
                        .because(format!("{name}: {}", text.trim_end())));
                }
            }
        }
        Ok(first.map(|(_, text)| text).unwrap_or_default())
    }
}

/// For tests: a check on resources that no plan names.
#[cfg(test)]
pub(super) fn asked(resources: Vec<String>, query: &str) -> Box<dyn Check> {
    Box::new(Asked { resources, query: Template::literal(query), reading: Reading::default() })
}
