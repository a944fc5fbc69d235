//! The keys of one table of the plan, read by whoever knows what they mean.
//!
//! Every reader records the key as known; `finish` reports each key that nobody asked for, with the nearest known one.
//! Promise: a reader never fails: it reports and returns nothing, or something harmless, so that all mistakes are found
//! in one go. A key may be read more than once; its mistakes are reported once.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use super::language::{Language, Moment, Reference, Secrets};
use super::report::hint_among;
use super::tree::{Data, Item, Node, Table};
use super::{List, Pattern, Range, Report, Scheme, Span, Template, measure};

/// A table of the plan whose keys are being read.
#[derive(Debug)]
pub struct Fields {
    language: Rc<Language>,
    table: Table,
    asked: BTreeSet<String>,
    moment: Moment,
}

impl Fields {
    pub(super) fn new(language: &Rc<Language>, table: Table, moment: Moment) -> Fields {
        Fields { language: Rc::clone(language), table, asked: BTreeSet::new(), moment }
    }

    /// A string with variables, if the key is there.
    pub fn template(&mut self, key: &str) -> Option<Template> {
        let node = self.node(key)?;
        self.as_template(key, &node, Secrets::Refused)
    }

    /// A string with variables; a mistake is recorded when it is missing (and an empty template returned).
    pub fn need_template(&mut self, key: &str) -> Template {
        if !self.has(key) {
            self.missing(key);
        }
        self.template(key).unwrap_or_else(|| Template::literal(""))
    }

    /// A list of strings with variables; a lone string counts as a list of one.
    pub fn templates(&mut self, key: &str) -> Vec<Template> {
        let Some(node) = self.node(key) else { return Vec::new() };
        self.elements(key, &node, "strings", |fields, node| fields.as_template(key, node, Secrets::Refused))
    }

    /// A plain string without variables.
    pub fn text(&mut self, key: &str) -> Option<String> {
        Some(self.spanned_text(key)?.0)
    }

    /// A list of plain strings; a lone string counts as a list of one.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        let Some(node) = self.node(key) else { return Vec::new() };
        self.elements(key, &node, "strings", |fields, node| fields.as_text(key, node))
    }

    /// One of `words`.
    pub fn word(&mut self, key: &str, words: &[&'static str]) -> Option<&'static str> {
        let (text, span) = self.spanned_text(key)?;
        let found = words.iter().find(|w| **w == text).copied();
        if found.is_none() {
            let hint = hint_among(&text, words.iter().copied());
            self.report().mistake(&span, format!("`{key}` cannot be `{text}`"), hint);
        }
        found
    }

    /// True or false; `default` when the key is not there.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.node(key) {
            None => default,
            Some(Node { data: Data::Flag(flag), .. }) => flag,
            Some(node) => {
                self.mismatch(key, &node, "true or false", None);
                default
            }
        }
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let node = self.node(key)?;
        let number = self.as_integer(key, &node)?;
        if range.contains(&number) {
            return Some(number);
        }
        let hint = match (range.start(), range.end()) {
            (low, &i64::MAX) => format!("it is at least {low}"),
            (low, high) => format!("it is between {low} and {high}"),
        };
        self.report().mistake(&node.span, format!("`{key}` cannot be {number}"), Some(hint));
        None
    }

    /// A list of whole numbers; a lone one counts as a list of one.
    pub fn integers(&mut self, key: &str) -> Option<Vec<i64>> {
        let node = self.node(key)?;
        Some(self.elements(key, &node, "integers", |fields, node| fields.as_integer(key, node)))
    }

    /// `"10m"`, `"1h 30m"`, `"500ms"`.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        let node = self.node(key)?;
        let Data::Text(text) = &node.data else {
            self.mismatch(key, &node, "a duration", Some(measure::DURATION_HINT.into()));
            return None;
        };
        self.accept(&node.span, measure::duration(text), Some(measure::DURATION_HINT))
    }

    /// A duration that is not nothing.
    pub fn time_limit(&mut self, key: &str) -> Option<Duration> {
        let limit = self.duration(key)?;
        if limit.is_zero() {
            self.wrong(key, format!("`{key}` cannot be nothing"), Some(measure::DURATION_HINT));
            return None;
        }
        Some(limit)
    }

    /// `"2 GiB"`, `"500 MB"`, or a number of bytes.
    pub fn size(&mut self, key: &str) -> Option<u64> {
        let node = self.node(key)?;
        match &node.data {
            Data::Text(text) => self.accept(&node.span, measure::size(text), Some(measure::SIZE_HINT)),
            Data::Integer(number) => {
                let size = u64::try_from(*number).map_err(|_| format!("`{key}` cannot be {number}"));
                self.accept(&node.span, size, Some(measure::SIZE_HINT))
            }
            _ => {
                self.mismatch(key, &node, "a size", Some(measure::SIZE_HINT.into()));
                None
            }
        }
    }

    /// A regular expression; variables in it are escaped when they are filled in.
    pub fn pattern(&mut self, key: &str) -> Option<Pattern> {
        let (text, span) = self.spanned_text(key)?;
        let parsed = Pattern::parse(&text).map_err(|e| format!("`{key}` is not a regular expression: {e}"));
        let pattern = self.accept(&span, parsed, None)?;
        self.language.check(pattern.variables(), &span, self.moment, Secrets::Refused);
        Some(pattern)
    }

    /// A range of versions of `scheme`.
    pub fn range(&mut self, key: &str, scheme: Scheme) -> Option<Range> {
        let (text, span) = self.spanned_text(key)?;
        let parsed = Range::parse(&text, scheme).map_err(|e| format!("`{key}` is not a range of versions: {e}"));
        let range = self.accept(&span, parsed, Some("write it as `\">=1.4, <2.0\"` or `\"=2.0.0\"`"))?;
        self.language.check(range.variables(), &span, self.moment, Secrets::Refused);
        Some(range)
    }

    /// How versions compare; semver when the key is not there.
    pub fn scheme(&mut self, key: &str) -> Scheme {
        self.word(key, Scheme::WORDS).and_then(Scheme::from_word).unwrap_or_default()
    }

    /// Names of entries of another list (`name`, `name@line`, `name@*`); that they exist is checked later, with this span.
    pub fn references(&mut self, list: List, key: &str) -> Vec<String> {
        let Some(node) = self.node(key) else { return Vec::new() };
        self.elements(key, &node, "names", |fields, node| fields.as_reference(list, key, node))
    }

    /// One name, as [`references`](Fields::references) reads many.
    pub fn reference(&mut self, list: List, key: &str) -> Option<String> {
        let node = self.node(key)?;
        self.as_reference(list, key, &node)
    }

    /// The table under `key`.
    pub fn table(&mut self, key: &str) -> Option<Fields> {
        let node = self.node(key)?;
        match node.data {
            Data::Table(table) => Some(Fields::new(&self.language, table, self.moment)),
            _ => {
                self.mismatch(key, &node, "a table", None);
                None
            }
        }
    }

    /// Whether a table stands under `key`; records nothing.
    pub fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|item| matches!(item.node.data, Data::Table(_)))
    }

    /// Whether the key stands there (records it as known).
    pub fn has(&mut self, key: &str) -> bool {
        self.node(key).is_some()
    }

    /// Records a mistake at `key`'s value, or at the table's head when the key is not there.
    pub fn wrong(&mut self, key: &str, statement: impl Into<String>, hint: Option<&str>) {
        let span = self.span_of(key);
        self.report().mistake(&span, statement, hint.map(str::to_owned));
    }

    /// Records that `key` has to be there and is not.
    pub fn missing(&mut self, key: &str) {
        self.asked.insert(key.to_owned());
        self.report().mistake(&self.table.span, format!("the key `{key}` is missing"), None);
    }

    /// Where the table begins.
    pub fn span(&self) -> Span {
        self.table.span.clone()
    }

    /// Where `key`'s value stands; the table's head when it does not.
    pub fn span_of(&self, key: &str) -> Span {
        self.table.get(key).map_or_else(|| self.span(), |item| item.node.span.clone())
    }

    /// Reports every key that nobody asked for.
    pub fn finish(&self) {
        for item in &self.table.items {
            if self.asked.contains(&item.key) {
                continue;
            }
            let hint = hint_among(&item.key, self.asked.iter().map(String::as_str));
            self.report().mistake(&item.key_span, format!("unknown key `{}`", item.key), hint);
        }
    }

    /// All that is here; a table without keys is left behind.
    pub(super) fn take(&mut self) -> Fields {
        let left = Table { span: self.table.span.clone(), items: Vec::new() };
        let table = std::mem::replace(&mut self.table, left);
        let asked = std::mem::take(&mut self.asked);
        Fields { language: Rc::clone(&self.language), table, asked, moment: self.moment }
    }

    // What the other readers of this room need.

    pub(super) fn language(&self) -> &Rc<Language> {
        &self.language
    }

    pub(super) fn report(&self) -> &Report {
        &self.language.report
    }

    pub(super) fn moment(&self) -> Moment {
        self.moment
    }

    pub(super) fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    /// The value under `key`, which is known from now on.
    pub(super) fn node(&mut self, key: &str) -> Option<Node> {
        if !self.asked.contains(key) {
            self.asked.insert(key.to_owned());
        }
        self.peek(key)
    }

    /// The value under `key`, which is not known for that.
    pub(super) fn peek(&self, key: &str) -> Option<Node> {
        self.table.get(key).map(|item| item.node.clone())
    }

    /// Takes over the values under `keys` of `other`, which does not know of it.
    pub(super) fn adopt(&mut self, other: &Fields, keys: &[&str]) {
        self.table.items.extend(other.table.items.iter().filter(|item| keys.contains(&item.key.as_str())).cloned());
    }

    pub(super) fn items(&self) -> &[Item] {
        &self.table.items
    }

    pub(super) fn spanned_text(&mut self, key: &str) -> Option<(String, Span)> {
        let node = self.node(key)?;
        Some((self.as_text(key, &node)?, node.span))
    }

    /// What `read` makes of every element of a list, or of a lone one.
    fn elements<T>(
        &self,
        key: &str,
        node: &Node,
        noun: &str,
        mut read: impl FnMut(&Fields, &Node) -> Option<T>,
    ) -> Vec<T> {
        match &node.data {
            Data::List(nodes) => nodes.iter().filter_map(|n| read(self, n)).collect(),
            Data::Table(_) => {
                self.mismatch(key, node, &format!("a list of {noun}"), None);
                Vec::new()
            }
            _ => read(self, node).into_iter().collect(),
        }
    }

    pub(super) fn as_text(&self, key: &str, node: &Node) -> Option<String> {
        match &node.data {
            Data::Text(text) if text.contains('\0') => {
                self.report().mistake(&node.span, format!("`{key}` holds a NUL"), None);
                None
            }
            Data::Text(text) => Some(text.clone()),
            Data::Integer(number) => {
                self.mismatch(key, node, "a string", Some(format!("put it in quotes: `\"{number}\"`")));
                None
            }
            _ => {
                self.mismatch(key, node, "a string", None);
                None
            }
        }
    }

    pub(super) fn as_template(&self, key: &str, node: &Node, secrets: Secrets) -> Option<Template> {
        let text = self.as_text(key, node)?;
        match Template::parse_or_show(&text) {
            Ok(template) => {
                self.language.check(template.variables(), &node.span, self.moment, secrets);
                Some(template)
            }
            Err((statement, part)) => {
                let span = self.language.inside(&node.span, part);
                self.report().mistake(&span, statement, Some("a literal `${` is written `$${`".into()));
                None
            }
        }
    }

    fn as_integer(&self, key: &str, node: &Node) -> Option<i64> {
        match node.data {
            Data::Integer(number) => Some(number),
            _ => {
                self.mismatch(key, node, "an integer", None);
                None
            }
        }
    }

    fn as_reference(&self, list: List, key: &str, node: &Node) -> Option<String> {
        let text = self.as_text(key, node)?;
        let reference = Reference { list, text: text.clone(), span: node.span.clone(), moment: self.moment };
        self.language.references.borrow_mut().push(reference);
        Some(text)
    }

    pub(super) fn accept<T>(&self, span: &Span, parsed: Result<T, String>, hint: Option<&str>) -> Option<T> {
        parsed.map_err(|statement| self.report().mistake(span, statement, hint.map(str::to_owned))).ok()
    }

    pub(super) fn mismatch(&self, key: &str, node: &Node, wanted: &str, hint: Option<String>) {
        self.report().mistake(&node.span, format!("`{key}` has to be {wanted}, not {}", node.data.noun()), hint);
    }
}
