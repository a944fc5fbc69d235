//! The plan's TOML as a tree that owns its data and knows where each part stands.
//!
//! Relies on the `toml` crate's spanned parser. Promise: every syntax error of the file is returned, not only the first.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Span;

/// A table, its keys in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// Its header, or the inline table as a whole.
    pub(super) span: Span,
    pub(super) items: Vec<Item>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) node: Node,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) data: Data,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Data {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Node>),
    Table(Table),
    /// What no key of a plan takes: a float, a date, an integer out of range; with its name.
    Other(&'static str),
}

impl Table {
    /// The item under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.key == key)
    }
}

impl Data {
    /// What it is called in a message.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Data::Text(_) => "a string",
            Data::Integer(_) => "an integer",
            Data::Flag(_) => "true or false",
            Data::List(_) => "a list",
            Data::Table(_) => "a table",
            Data::Other(noun) => noun,
        }
    }
}

/// The tree of `text`, and what is wrong with its syntax.
pub(super) fn parse(text: &str) -> (Table, Vec<(Span, String)>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let errors = errors
        .iter()
        .map(|e| {
            (e.span().unwrap_or(text.len()..text.len()), e.message().lines().next().unwrap_or_default().to_owned())
        })
        .collect();
    (table(root.get_ref(), 0..0), errors)
}

/// A syntax error in words, with a hint, where the parser's own would puzzle who does not know it.
pub(super) fn explain(text: &str, span: &Span, message: &str) -> (String, Option<String>) {
    let word = text.get(span.clone()).unwrap_or_default();
    let say = |statement: String, hint: String| (statement, Some(hint));
    if message.starts_with("duplicate key") {
        return say(
            format!("`{word}` stands twice"),
            "a key and a `[table]` stand once; each entry of a list begins with `[[…]]`".into(),
        );
    }
    if message.starts_with("invalid basic string") || message.starts_with("invalid literal string") {
        return say(
            "this string does not end".into(),
            "a string ends on its line, or begins and ends with three quotes".into(),
        );
    }
    let bare = message.starts_with("invalid") && word.starts_with(|c: char| c.is_alphabetic() || c == '/');
    if bare && !message.contains("key") {
        return say(format!("`{word}` is not a value"), format!("a string stands in quotes: `\"{word}\"`"));
    }
    (format!("this is not TOML: {message}"), None)
}

fn table(raw: &DeTable<'_>, span: Range<usize>) -> Table {
    let mut items: Vec<Item> = raw
        .iter()
        .map(|(key, value)| Item { key: key.get_ref().to_string(), key_span: key.span(), node: node(value) })
        .collect();
    items.sort_by_key(|item| item.key_span.start);
    Table { span, items }
}

fn node(raw: &Spanned<DeValue<'_>>) -> Node {
    let data = match raw.get_ref() {
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Data::Integer(number),
            Err(_) => Data::Other("a number out of range"),
        },
        DeValue::Boolean(flag) => Data::Flag(*flag),
        DeValue::Array(list) => Data::List(list.iter().map(node).collect()),
        DeValue::Table(inner) => Data::Table(table(inner, raw.span())),
        DeValue::Float(_) => Data::Other("a number with a point"),
        DeValue::Datetime(_) => Data::Other("a date"),
    };
    Node { span: raw.span(), data }
}
