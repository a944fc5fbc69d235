//! `schema`: the JSON Schemas of what users and other programs hold on to, built into the program.

use crate::error::{Error, Fault, Result};

/// Every schema: its name, and its text.
pub const SCHEMAS: &[(&str, &str)] = &[
    ("output", include_str!("../../schemas/output.schema.json")),
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
