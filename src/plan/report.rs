//! The mistakes of a plan file: each with its place, the offending text and the nearest right word.
//!
//! Promise: nothing that was reported is lost, nothing is said twice, and all is said in the order of the file.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::{Error, Fault};

/// A half-open range of bytes of the plan's text.
pub type Span = std::ops::Range<usize>;

/// Collects mistakes; cheap to clone (all clones share one list).
#[derive(Debug, Clone, Default)]
pub struct Report {
    mistakes: Rc<RefCell<Vec<Mistake>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mistake {
    /// `None`: it does not stand in the file (`--set`).
    span: Option<Span>,
    statement: String,
    hint: Option<String>,
}

impl Report {
    /// Adds a mistake at `span`.
    pub fn mistake(&self, span: &Span, statement: impl Into<String>, hint: Option<String>) {
        self.add(Mistake { span: Some(span.clone()), statement: statement.into(), hint });
    }

    /// Adds a mistake that does not stand in the file.
    pub fn mistake_outside(&self, statement: impl Into<String>, hint: Option<String>) {
        self.add(Mistake { span: None, statement: statement.into(), hint });
    }

    fn add(&self, mistake: Mistake) {
        let mut mistakes = self.mistakes.borrow_mut();
        // A key may be read by more than one reader; it is said once.
        if !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mistakes.borrow().is_empty()
    }

    /// All of them as one error (`Fault::Usage`), rendered with `path:line:column`, the line and a marker, in file order.
    pub fn into_error(self, path: &str, text: &str) -> Error {
        let mut mistakes = self.mistakes.borrow().clone();
        mistakes.sort_by_key(|m| m.span.as_ref().map_or(0, |s| s.start));
        let count = match mistakes.len() {
            1 => "a mistake".to_owned(),
            n => format!("{n} mistakes"),
        };
        let mut error = Error::new(format!("the plan `{path}` has {count}")).fault(Fault::Usage);
        for mistake in &mistakes {
            error = error.because(render(mistake, path, text));
        }
        error
    }
}

fn render(mistake: &Mistake, path: &str, text: &str) -> String {
    let mut block = match &mistake.span {
        None => mistake.statement.clone(),
        Some(span) => {
            let place = Place::of(span, text);
            let number = place.line.to_string();
            let gutter = " ".repeat(number.len());
            format!(
                "{path}:{}:{}: {}\n  {number} | {}\n  {gutter} | {}{}",
                place.line,
                place.column,
                mistake.statement,
                place.source.replace(|c: char| c.is_control() && c != '\t', "\u{b7}"),
                place.indent,
                "^".repeat(place.width)
            )
        }
    };
    if let Some(hint) = &mistake.hint {
        block.push_str("\n  hint: ");
        block.push_str(hint);
    }
    block
}

/// Where a span stands, as people count.
struct Place<'a> {
    line: usize,
    column: usize,
    source: &'a str,
    /// What stands before the marker: as wide as the text there.
    indent: String,
    width: usize,
}

impl Place<'_> {
    fn of<'a>(span: &Span, text: &'a str) -> Place<'a> {
        let start = floor(text, span.start);
        let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let source = text[begin..end].trim_end();
        // A mistake in a string of many lines is marked on its first.
        let stop = floor(text, span.end).clamp(start, begin + source.len().max(start - begin));
        let before = &text[begin..start];
        Place {
            line: line(text, start),
            column: before.chars().count() + 1,
            source,
            indent: before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect(),
            width: text[start..stop].chars().count().max(1),
        }
    }
}

/// The nearest boundary of a character at or before `index`.
fn floor(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// The number of the line in which `index` stands, from 1.
pub(super) fn line(text: &str, index: usize) -> usize {
    text[..floor(text, index)].matches('\n').count() + 1
}

/// The one of `words` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    words
        .into_iter()
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
            // A third of the letters may be wrong, and one in the shortest words.
            let limit = (length.max(candidate.chars().count()) / 3).max(1);
            let related = length >= 4 && (candidate.starts_with(&word) || word.starts_with(candidate));
            (distance <= limit || related).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint for a wrong word: the nearest right one, or else all there are.
pub fn hint_among<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let words: Vec<&str> = words.into_iter().collect();
    if let Some(near) = nearest(word, words.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    match words.as_slice() {
        [] => None,
        [only] => Some(format!("it can only be `{only}`")),
        _ => Some(format!("it can be {}", list(&words))),
    }
}

/// `` `a`, `b` or `c` ``.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|w| format!("`{w}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_stand_in_file_order_with_line_column_and_marker() {
        let text = "a = 1\n\tüb = \"x\"\nlast";
        let report = Report::default();
        report.mistake(&(17..19), "late", None);
        report.mistake(&(7..10), "early", Some("say it so".into()));
        report.mistake(&(7..10), "early", Some("say it so".into()));
        let error = report.into_error("p.toml", text);
        assert_eq!(error.fault, Fault::Usage);
        assert_eq!(error.statement, "the plan `p.toml` has 2 mistakes");
        assert_eq!(
            error.causes,
            [
                "p.toml:2:2: early\n  2 | \tüb = \"x\"\n    | \t^^\n  hint: say it so",
                "p.toml:3:1: late\n  3 | last\n    | ^^"
            ]
        );
    }

    #[test]
    fn a_span_beyond_the_text_or_over_lines_does_no_harm() {
        let report = Report::default();
        report.mistake(&(1..900), "wide", None);
        report.mistake(&(900..901), "beyond", None);
        let error = report.into_error("p", "abc\ndef\n");
        assert_eq!(error.causes, ["p:1:2: wide\n  1 | abc\n    |  ^^", "p:3:1: beyond\n  3 | \n    | ^"]);
    }

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("pth", ["path", "free"]), Some("path"));
        assert_eq!(nearest("exlude", ["exclude", "secret"]), Some("exclude"));
        assert_eq!(nearest("matchs_not", ["matches", "matches_not"]), Some("matches_not"));
        assert_eq!(nearest("Sqlite", ["sqlite"]), Some("sqlite"));
        assert_eq!(nearest("environment", ["env", "exit"]), Some("env"));
        assert_eq!(nearest("zzz", ["path", "free"]), None);
        assert_eq!(hint_among("zzz", ["a", "b", "c"]).unwrap(), "it can be `a`, `b` or `c`");
    }
}
