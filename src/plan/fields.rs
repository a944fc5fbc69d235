//! The keys of one table of the plan, read by whoever knows what they mean.
//!
//! Every reader records the key as known; `finish` reports each key that nobody asked for, with the nearest known one.
use super::{Command, Pattern, Report, Scheme, Span, Template, Value};
use std::time::Duration;
/// A table of the plan whose keys are being read.
#[derive(Debug)]
pub struct Fields {
    _report: Report,
}
#[allow(unused_variables, clippy::todo)]
impl Fields {
    /// A string with variables, if the key is there.
    pub fn template(&mut self, key: &str) -> Option<Template> {
        todo!()
    }
    /// A string with variables; a mistake is recorded when it is missing (and an empty template returned).
    pub fn need_template(&mut self, key: &str) -> Template {
        todo!()
    }
    /// A list of strings with variables; a lone string counts as a list of one.
    pub fn templates(&mut self, key: &str) -> Vec<Template> {
        todo!()
    }
    /// A plain string without variables.
    pub fn text(&mut self, key: &str) -> Option<String> {
        todo!()
    }
    /// A list of plain strings.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        todo!()
    }
    /// One of `words`.
    pub fn word(&mut self, key: &str, words: &[&'static str]) -> Option<&'static str> {
        todo!()
    }
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        todo!()
    }
    pub fn integer(&mut self, key: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        todo!()
    }
    pub fn integers(&mut self, key: &str) -> Option<Vec<i64>> {
        todo!()
    }
    /// `"10m"`, `"1h 30m"`, `"500ms"`.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        todo!()
    }
    /// `"2 GiB"`, `"500 MB"`, or a number of bytes.
    pub fn size(&mut self, key: &str) -> Option<u64> {
        todo!()
    }
    pub fn pattern(&mut self, key: &str) -> Option<Pattern> {
        todo!()
    }
    pub fn scheme(&mut self, key: &str) -> Scheme {
        todo!()
    }
    /// A command under `key`: list or table.
    pub fn command(&mut self, key: &str) -> Option<Command> {
        todo!()
    }
    /// A command whose keys (`run`, `shell`, `user`, `dir`, `env`, `env_file`, `timeout`, `exit`) are this table's own.
    pub fn own_command(&mut self) -> Option<Command> {
        todo!()
    }
    pub fn need_own_command(&mut self) -> Command {
        todo!()
    }
    /// A table of strings, values of which may be `{ file | env | credential = … }`.
    pub fn values(&mut self, key: &str) -> std::collections::BTreeMap<String, Value> {
        todo!()
    }
    /// Names of entries of another list (`name`, `name@line`, `name@*`); that they exist is checked later, with this span.
    pub fn references(&mut self, list: super::List, key: &str) -> Vec<String> {
        todo!()
    }
    pub fn reference(&mut self, list: super::List, key: &str) -> Option<String> {
        todo!()
    }
    /// The table under `key`.
    pub fn table(&mut self, key: &str) -> Option<Fields> {
        todo!()
    }
    /// Whether a table stands under `key` (records nothing): a command written as a table says everything itself.
    pub fn is_table(&self, key: &str) -> bool {
        todo!()
    }
    /// Whether the key stands there (records it as known).
    pub fn has(&mut self, key: &str) -> bool {
        todo!()
    }
    /// Records a mistake at `key`'s value, or at the table's head when the key is not there.
    pub fn wrong(&mut self, key: &str, statement: impl Into<String>, hint: Option<&str>) {
        todo!()
    }
    /// Where the table begins.
    pub fn span(&self) -> Span {
        todo!()
    }
    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        todo!()
    }
}
