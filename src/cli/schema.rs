//! `schema`: the JSON Schemas.

use clap::Args;
use serde_json::{Value, json};

use super::{Answer, Cx, exit, json};
use crate::error::Result;
use crate::ops;

/// Print a JSON Schema, or list them
///
/// They describe what users and other programs hold on to: the plan, the events of the journal, what `--json`
/// prints.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(&[exit::DONE, exit::USAGE], &["txupgrade schema plan > plan.schema.json"]))]
pub(super) struct Schema {
    /// Which one; without it their names are listed
    name: Option<String>,
}

impl Schema {
    pub(super) fn perform(self, _: &Cx) -> Result<Answer> {
        let (data, fields) = match &self.name {
            Some(name) => {
                let text = ops::schema(name)?;
                let content: Value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
                (text.to_owned(), json!({ "name": name, "content": content }))
            }
            None => {
                let names: Vec<&str> = ops::SCHEMAS.iter().map(|(name, _)| *name).collect();
                (names.join("\n") + "\n", json!({ "names": names }))
            }
        };
        Ok(Answer { json: json::object("schema", exit::DONE, fields), data, talk: String::new(), exit: exit::DONE })
    }
}
