//! The rules that take the whole plan to see: unique names, references, the order of steps.

use super::language::{Moment, Reference};
use super::report::{hint_among, line};
use super::{Entry, List, Plan, Span, StepAt};

impl Plan {
    /// Reports every reference to an entry that is not there. The parser calls it for the common keys; to be called
    /// again (or [`Plan::verdict`]) when the kinds have read theirs.
    pub fn check_references(&self) {
        let references = std::mem::take(&mut *self.language.references.borrow_mut());
        for reference in &references {
            if let Some((statement, hint)) = self.objection(reference) {
                self.report.mistake(&reference.span, statement, hint);
            }
        }
    }

    /// The entries of a list that has kinds; notices are none.
    pub fn entries(&self, list: List) -> &[Entry] {
        match list {
            List::Check => &self.checks,
            List::Quiesce => &self.quiesces,
            List::Resource => &self.resources,
            List::Step => &self.steps,
            List::Notice => &[],
        }
    }

    fn objection(&self, Reference { list, text, moment, .. }: &Reference) -> Option<(String, Option<String>)> {
        let (name, instance) = text.split_once('@').map_or((text.as_str(), None), |(n, i)| (n, Some(i)));
        let entries = self.entries(*list);
        let Some(entry) = entries.iter().find(|e| e.name.as_str() == name) else {
            let names = entries.iter().map(|e| e.name.as_str());
            let hint = match entries.is_empty() {
                true => Some(format!("the plan has no `[[{list}]]` at all")),
                false => hint_among(name, names),
            };
            return Some((format!("there is no {list} `{name}`"), hint));
        };
        match (&entry.each, instance) {
            (None, Some(_)) => Some((
                format!("the {list} `{name}` is not repeated, so there is no `{text}`"),
                Some(format!("say `{name}`, or give it `each`")),
            )),
            (Some(_), None) => Some((
                format!("the {list} `{name}` is repeated, and `{name}` is not one of them"),
                Some(match moment {
                    Moment::Each => {
                        format!("say `{name}@*` for all, or `{name}@${{each}}` for the one of the same line")
                    }
                    _ => format!("say `{name}@*` for all"),
                }),
            )),
            (Some(_), Some("")) => {
                Some((format!("`{text}` does not say which"), Some(format!("say `{name}@*` for all"))))
            }
            (Some(_), Some("${each}")) if *moment != Moment::Each => Some((
                "`${each}` is known only in an entry that has `each`".to_owned(),
                Some(format!("say `{name}@*` for all")),
            )),
            _ => None,
        }
    }

    /// Reports names that two entries of a list share.
    pub(super) fn check_names(&self) {
        for list in [List::Check, List::Quiesce, List::Resource, List::Step] {
            self.check_unique(
                list,
                self.entries(list).iter().map(|e| (e.name.as_str(), e.body.span_of("name"), &e.span)),
            );
        }
        self.check_unique(List::Notice, self.notices.iter().map(|n| (n.name.as_str(), n.name_span.clone(), &n.span)));
    }

    fn check_unique<'a>(&self, list: List, names: impl Iterator<Item = (&'a str, Span, &'a Span)>) {
        let mut seen: Vec<(&str, Span)> = Vec::new();
        for (name, at, head) in names {
            // A name that is missing or wrong has a stand-in, and is reported already.
            if self.text.get(at.clone()).is_none_or(|text| !text.contains(name)) || at == *head {
                continue;
            }
            match seen.iter().find(|(other, _)| *other == name) {
                None => seen.push((name, at)),
                Some((_, first)) => {
                    let first = line(&self.text, first.start);
                    self.report.mistake(
                        &at,
                        format!("two entries of `[[{list}]]` are called `{name}`; the first is in line {first}"),
                        Some("names are unique in their list".into()),
                    );
                }
            }
        }
    }

    /// Reports every `under` that names no quiesce, and steps that go back in.
    pub(super) fn check_order(&self) {
        for entry in [&self.resources, &self.steps, &self.checks].into_iter().flatten() {
            if let Some(Some(name)) = &entry.under
                && !self.quiesces.iter().any(|q| q.name == *name)
            {
                let hint = match self.quiesces.is_empty() {
                    true => Some("the plan has no `[[quiesce]]` at all".to_owned()),
                    false => hint_among(name.as_str(), self.quiesces.iter().map(|q| q.name.as_str())),
                };
                self.report.mistake(&entry.body.span_of("under"), format!("there is no quiesce `{name}`"), hint);
            }
        }
        let mut before: Option<(&Entry, usize)> = None;
        for step in self.steps.iter().filter(|s| s.step_at == StepAt::Apply) {
            let Some(depth) = self.depth(step) else { continue };
            if let Some((outer, held)) = before
                && depth > held
            {
                let inner = &self.quiesces[depth - 1].name;
                let place = line(&self.text, outer.span.start);
                self.report.mistake(
                    &step.body.span_of("under"),
                    format!(
                        "the step `{}` goes back in under `{inner}`, out of which the step `{}` in line {place} has gone",
                        step.name, outer.name
                    ),
                    Some(format!("steps go from inner to outer: put it before `{}`", outer.name)),
                );
                continue;
            }
            before = Some((step, depth));
        }
    }

    /// How many quiesces hold, counted from the outermost, while a step or a resource is at work: all, unless `under`
    /// says otherwise. `None` when it names none that exists.
    pub fn depth(&self, entry: &Entry) -> Option<usize> {
        match &entry.under {
            None => Some(self.quiesces.len()),
            Some(None) => Some(0),
            Some(Some(name)) => self.quiesces.iter().position(|q| q.name == *name).map(|i| i + 1),
        }
    }
}
