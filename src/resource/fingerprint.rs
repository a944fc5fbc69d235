//! What a database says of itself, kind by kind in its own way: whether two of them hold the same, and how they differ.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Change, What};

/// The fingerprint of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// By name.
    pub(super) tables: BTreeMap<String, Table>,
    /// Indexes, triggers and views: `index by_day` and the hash of its definition.
    pub(super) objects: BTreeMap<String, String>,
    /// `user_version`, `application_id`, `encoding`, `journal_mode`.
    pub(super) settings: BTreeMap<String, String>,
}

/// The fingerprint of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// The hash of its definition.
    pub(super) schema: String,
    pub(super) rows: u64,
    /// The hash of all rows in their order, or why they cannot be read.
    pub(super) content: String,
}

impl Fingerprint {
    /// How `live` differs from this snapshot; `place` names the database as a whole.
    pub(super) fn changes(&self, live: &Fingerprint, place: &str) -> Vec<Change> {
        let mut items = Vec::new();
        let settings: Vec<String> = self
            .settings
            .iter()
            .filter_map(|(name, was)| {
                let is = live.settings.get(name).filter(|is| *is != was)?;
                Some(format!("{name} {was} -> {is}"))
            })
            .collect();
        if !settings.is_empty() {
            items.push(change(What::Changed, place, settings));
        }
        for (name, was) in &self.tables {
            match live.tables.get(name) {
                None => items.push(change(What::Removed, name, vec![more('-', was.rows)])),
                Some(is) if is != was => items.push(change(What::Changed, name, was.details(is))),
                Some(_) => {}
            }
        }
        for (name, is) in &live.tables {
            if !self.tables.contains_key(name) {
                items.push(change(What::Added, name, vec![more('+', is.rows)]));
            }
        }
        for (name, was) in &self.objects {
            match live.objects.get(name) {
                None => items.push(change(What::Removed, name, Vec::new())),
                Some(is) if is != was => items.push(change(What::Changed, name, vec!["definition".to_owned()])),
                Some(_) => {}
            }
        }
        for name in live.objects.keys().filter(|name| !self.objects.contains_key(*name)) {
            items.push(change(What::Added, name, Vec::new()));
        }
        items
    }

    /// `3 tables, 17 rows`.
    pub(super) fn in_words(&self) -> String {
        let rows: u64 = self.tables.values().map(|table| table.rows).sum();
        let plural = |count: u64, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        format!("{}, {}", plural(self.tables.len() as u64, "table"), plural(rows, "row"))
    }
}

impl Table {
    fn details(&self, live: &Table) -> Vec<String> {
        let mut details = Vec::new();
        if self.schema != live.schema {
            details.push("definition".to_owned());
        }
        match (self.rows, live.rows) {
            (was, is) if is > was => details.push(more('+', is - was)),
            (was, is) if is < was => details.push(more('-', was - is)),
            _ if self.content != live.content => details.push("content".to_owned()),
            _ => {}
        }
        details
    }
}

/// `+1 row`, `-12 rows`.
fn more(sign: char, rows: u64) -> String {
    format!("{sign}{rows} row{}", if rows == 1 { "" } else { "s" })
}

fn change(what: What, name: &str, details: Vec<String>) -> Change {
    Change { what, name: name.to_owned(), details, secret: false }
}
