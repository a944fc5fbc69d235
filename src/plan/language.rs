//! What all readers of one plan share: its text, the variables that may stand in it, defaults, and references still to be verified.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::report::hint_among;
use super::{CommandDefaults, List, Report, Span};

/// What a variable of `[vars]` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Plain,
    Secret,
    Lines,
    /// Its own mistake is reported; its uses are not.
    Wrong,
}

/// Which variables are known where a string stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Outside of transactions: those of `[vars]`.
    Always,
    /// Those of the tool too.
    Transaction,
    /// `${each}` too.
    Each,
}

/// Whether a secret may be part of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Refused,
    Allowed,
}

/// A name of an entry that stands somewhere in the plan.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) list: List,
    pub(super) text: String,
    pub(super) span: Span,
    pub(super) moment: Moment,
}

/// The variables that the tool gives.
pub(super) const TOOL: &[&str] = &["from", "to", "version", "tx", "scratch"];

#[derive(Debug)]
pub(super) struct Language {
    pub(super) text: String,
    pub(super) report: Report,
    pub(super) vars: BTreeMap<String, Nature>,
    pub(super) has_version: bool,
    /// Whether `${to}` is known; taken to be until `[version]` has been read.
    pub(super) has_target: Cell<bool>,
    pub(super) defaults: RefCell<CommandDefaults>,
    pub(super) references: RefCell<Vec<Reference>>,
    /// Every command that was read.
    pub(super) commands: RefCell<Vec<super::Command>>,
}

impl Language {
    /// Reports every variable among `names` that is not known at `moment`. `span` is the string in which they stand.
    pub(super) fn check<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        span: &Span,
        moment: Moment,
        secrets: Secrets,
    ) {
        for name in names {
            let Some((statement, hint)) = self.objection(name, moment, secrets) else { continue };
            self.report.mistake(&self.inside(span, &format!("${{{name}}}")), statement, hint);
        }
    }

    fn objection(&self, name: &str, moment: Moment, secrets: Secrets) -> Option<(String, Option<String>)> {
        let say = |statement: String, hint: &str| Some((statement, Some(hint.to_owned())));
        match self.vars.get(name) {
            Some(Nature::Plain | Nature::Wrong) => return None,
            Some(Nature::Secret) if secrets == Secrets::Allowed => return None,
            Some(Nature::Secret) => {
                return say(
                    format!("the variable `{name}` is secret and cannot stand here"),
                    &format!("a program gets it as environment: `env = {{ NAME = \"${{{name}}}\" }}`"),
                );
            }
            Some(Nature::Lines) => {
                return say(
                    format!("the variable `{name}` is a list"),
                    &format!("`each = \"{name}\"` repeats the entry for every line; `${{each}}` is the line"),
                );
            }
            None => {}
        }
        let known = TOOL.contains(&name) || name == "each";
        if !known {
            return Some((format!("there is no variable `{name}`"), self.nearest_variable(name, moment)));
        }
        if name == "each" {
            return match moment {
                Moment::Each => None,
                _ => say(
                    "`${each}` is known only in an entry that has `each`".into(),
                    "say over which list: `each = \"…\"`",
                ),
            };
        }
        if moment == Moment::Always {
            return say(
                format!("`${{{name}}}` is not known here"),
                "what is asked outside of transactions can use only `[vars]`",
            );
        }
        match name {
            "from" | "version" | "to" if !self.has_version => say(
                format!("`${{{name}}}` is not known: the plan has no `[version]`"),
                "say how the version is read: `[version]`",
            ),
            "to" if !self.has_target.get() => say(
                "`${to}` is known only when `[version] to` names one version".into(),
                "name it in full, as in `to = \"=2.0.0\"`",
            ),
            _ => None,
        }
    }

    fn nearest_variable(&self, name: &str, moment: Moment) -> Option<String> {
        let mut words: Vec<&str> =
            self.vars.iter().filter(|(_, nature)| **nature != Nature::Lines).map(|(name, _)| name.as_str()).collect();
        if moment != Moment::Always {
            words.extend(TOOL);
        }
        if moment == Moment::Each {
            words.push("each");
        }
        match words.is_empty() {
            true => Some(format!("`[vars]` gives a variable: `{name} = \"…\"`")),
            false => hint_among(name, words),
        }
    }

    /// The place of `needle` in the text at `span`; all of `span` when it is not found there as it is.
    pub(super) fn inside(&self, span: &Span, needle: &str) -> Span {
        match self.text.get(span.clone()).and_then(|t| t.find(needle)) {
            Some(at) => span.start + at..span.start + at + needle.len(),
            None => span.clone(),
        }
    }
}
