//! The lines of which a report is made: what leads them, and what of a transaction's standing they tell.

use super::report::{Answered, More, signal, subjects};
use super::ui::Paint;
use super::words;
use crate::context::run::quoted;
use crate::error::Error;
use crate::ops::{Place, Standing};
use crate::tx::{Action, Reason, TaskId};

/// The lines of a report.
pub(crate) struct Lines {
    paint: Paint,
    pub(crate) text: String,
}

impl Lines {
    pub(crate) fn new(paint: Paint) -> Lines {
        Lines { paint, text: String::new() }
    }

    pub(crate) fn plain(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(crate) fn good(&mut self, line: &str) {
        let line = self.paint.good(line);
        self.plain(&line);
    }

    pub(crate) fn lead(&mut self, indent: &str, lead: &str, rest: &str) {
        // Rendered mistakes of a plan span lines of their own; they keep their shape under the lead.
        let mut lines = rest.lines();
        let first = lines.next().unwrap_or_default();
        self.plain(format!("{indent}{lead} {}", words::clean(first)).trim_end());
        for line in lines {
            self.plain(format!("{indent}  {}", words::clean(line)).trim_end());
        }
    }

    pub(crate) fn error(&mut self, statement: &str) {
        let lead = self.paint.bad("error:");
        self.lead("", &lead, statement);
    }

    pub(crate) fn cause(&mut self, cause: &str) {
        self.lead("  ", "cause:", cause);
    }

    pub(crate) fn causes(&mut self, error: &Error) {
        const SHOWN: usize = 12;
        let (shown, more) = error.first_causes(SHOWN);
        shown.iter().for_each(|cause| self.cause(cause));
        if more > 0 {
            self.cause(&format!("and {more} more, which `--json` lists"));
        }
    }

    pub(crate) fn hint(&mut self, hint: &str) {
        let lead = self.paint.hint("hint:");
        self.lead("", &lead, hint);
    }

    pub(crate) fn next(&mut self, next: &str) {
        let lead = self.paint.hint("next:");
        self.lead("  ", &lead, next);
    }

    /// The later failures, each told once however often it was tried.
    pub(crate) fn others(&mut self, standing: &Standing) {
        let first = standing.failure.as_ref();
        for (index, other) in standing.others.iter().enumerate() {
            if Some(other) != first && !standing.others[..index].contains(other) {
                let (task, failure) = other;
                self.lead("  ", "also:", &format!("{} failed: {failure}", words::task(task)));
            }
        }
    }

    /// The first failure's causes, and what else failed.
    fn why(&mut self, standing: &Standing) {
        if let Some((_, failure)) = &standing.failure {
            self.cause(&failure.statement);
            self.causes(failure);
        }
        self.others(standing);
    }

    fn warnings(&mut self, standing: &Standing) {
        let lead = self.paint.warn("warning:");
        for warning in &standing.warnings {
            self.lead("", &lead, warning);
        }
    }

    /// Failures that stopped nothing, and warnings.
    pub(crate) fn noted(&mut self, standing: &Standing) {
        let lead = self.paint.warn("warning:");
        for (task, failure) in standing.failure.iter().chain(&standing.others) {
            self.lead("", &lead, &format!("{} failed: {failure}", words::task(task)));
        }
        self.warnings(standing);
    }

    /// The first failure's causes, what else failed, warnings, and the first failure's hints.
    pub(crate) fn failure(&mut self, standing: &Standing) {
        self.why(standing);
        self.warnings(standing);
        if let Some((task, failure)) = &standing.failure {
            for hint in &failure.hints {
                self.hint(hint);
            }
            if runs_programs(task) {
                self.hint(&format!("its output is in `{}`", log_command(standing, task)));
            }
        }
    }

    /// It is aborted or rolled back: why, and `how` it is now.
    pub(crate) fn went_back(&mut self, standing: &Standing, how: &str, more: More<'_>) {
        let plan = more.plan;
        let tx = &standing.tx;
        let sound = !matches!(&standing.place, Place::Ended { unsound, .. } if !unsound.is_empty());
        match &standing.reason {
            Some(Reason::Failed { .. } | Reason::NotConfirmed) if sound && more.asked == Answered::Done => {
                self.good(&format!("{tx} went back: {how}"));
                self.noted(standing);
                return;
            }
            Some(Reason::Asked) if sound => {
                self.good(&format!("{tx} is turned back: {how}"));
                self.noted(standing);
                return;
            }
            Some(Reason::Died) if sound => {
                self.plain(&format!("{tx} was interrupted; {how}"));
                self.noted(standing);
                return;
            }
            Some(Reason::Signal { number }) => self.error(&format!("interrupted by {}; {how}", signal(*number))),
            Some(Reason::NotConfirmed) => self.error(&format!("{tx} was not confirmed in time; {how}")),
            _ => match &standing.failure {
                Some((task, _)) => self.error(&format!("{} failed; {how}", words::task(task))),
                None => self.error(&format!("{tx} was turned back; {how}")),
            },
        }
        self.why(standing);
        self.warnings(standing);
        let Some((task, failure)) = &standing.failure else { return };
        for hint in &failure.hints {
            self.hint(hint);
        }
        let output = runs_programs(task).then(|| format!("its output is in `{}`", log_command(standing, task)));
        let again = plan.map(|plan| {
            format!("after a fix, `txupgrade run {}` again", words::clean(&quoted(&plan.to_string_lossy())))
        });
        let last: Vec<String> = output.into_iter().chain(again).collect();
        if !last.is_empty() {
            self.hint(&last.join("; "));
        }
    }

    pub(crate) fn stuck(&mut self, standing: &Standing, task: &TaskId, restored: &[TaskId], not_restored: &[TaskId]) {
        let tx = &standing.tx;
        match &standing.failure {
            Some((first, _)) if first != task => {
                self.error(&format!(
                    "{} failed, and {tx} is stuck on its way back: {} failed",
                    words::task(first),
                    words::task(task)
                ));
            }
            _ => self.error(&format!("{tx} is stuck: {} failed", words::task(task))),
        }
        self.why(standing);
        self.plain(&format!("  restored: {}", subjects(restored)));
        let missing = self.paint.bad(&subjects(not_restored));
        self.plain(&format!("  not restored: {missing}"));
        self.warnings(standing);
        let hints = || standing.failure.iter().chain(&standing.others).flat_map(|(_, failure)| &failure.hints);
        for (index, hint) in hints().enumerate() {
            if !hints().take(index).any(|before| before == hint) {
                self.hint(hint);
            }
        }
    }
}

/// Whether a task is about programs of the plan, whose output is then kept.
fn runs_programs(task: &TaskId) -> bool {
    matches!(
        task.action,
        Action::Prepare | Action::Quiesce | Action::Apply | Action::Resume | Action::Finish | Action::Undo
    )
}

fn log_command(standing: &Standing, task: &TaskId) -> String {
    let tx = &standing.tx;
    let subject = words::clean(&task.subject);
    if subject.contains(' ') {
        return format!("txupgrade log {tx} '{} {subject}'", task.action);
    }
    format!("txupgrade log {tx} {subject}")
}
