//! `schema`: the JSON Schemas of what users and other programs hold on to, built into the program.

use crate::error::{Error, Fault, Result};

/// Every schema: its name, and its text.
pub const SCHEMAS: &[(&str, &str)] = &[
    ("plan", include_str!("../../schemas/plan.schema.json")),
    ("event", include_str!("../../schemas/event.schema.json")),
    ("manifest", include_str!("../../schemas/manifest.schema.json")),
    ("output", include_str!("../../schemas/output.schema.json")),
    ("journal", include_str!("../../schemas/journal.sql")),
];

/// The schema called `name`.
pub fn schema(name: &str) -> Result<&'static str> {
    SCHEMAS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).ok_or_else(|| {
        let known: Vec<String> = SCHEMAS.iter().map(|(name, _)| format!("`{name}`")).collect();
        Error::new(format!("there is no schema `{name}`"))
            .because(format!("there are {}", known.join(", ")))
            .fault(Fault::Usage)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_is_one() {
        for (name, text) in SCHEMAS.iter().filter(|(name, _)| *name != "journal") {
            let schema: serde_json::Value = serde_json::from_str(text).unwrap();
            jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn a_schema_that_is_not_there_is_named() {
        let error = schema("plans").unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no schema `plans`: there are `plan`, `event`, `manifest`, `output`, `journal`"
        );
    }
}
