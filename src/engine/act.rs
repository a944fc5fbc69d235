//! What each task of an itinerary does.
//!
//! A task reads what earlier ones returned from the folded state and from nothing else, so that a task of a recovered
//! transaction cannot be told from one of a live transaction.

use std::sync::{MutexGuard, PoisonError};

use super::bind::Instance;
use super::flatten::{ROOM, SNAPSHOT, VERSION, of_quiesce, of_resource, of_step};
use super::world::{Moment, World};
use crate::check::{Check, Finding};
use crate::context::{Context, Direction, default_timeout, run};
use crate::error::{Error, Fault, Result};
use crate::plan::{Expect, Prove};
use crate::quiesce::Quiesce;
use crate::resource::{Captured, Changes, Claim, Resource};
use crate::step::Step;
use crate::store::ObjectId;
use crate::sys::process::Log;
use crate::sys::signal::Stop;
use crate::tx::{Action, Extent, Heading, Output, State, TaskId};

/// What a task has at hand.
pub(super) struct Job<'j> {
    task: &'j TaskId,
    pub(super) state: &'j State,
    pub(super) moment: Moment,
    log: Log,
    stop: &'j Stop,
}

impl World<'_> {
    /// Does what `task` says.
    pub(super) fn act(&self, task: &TaskId, state: &State, stop: &Stop) -> Result<Output> {
        if let Some(why) = &self.lost {
            return Err(why.clone());
        }
        self.make_scratch()?;
        // What was seen of resources counts as long as nothing else has run.
        if !matches!(task.action, Action::Restore | Action::Reinstate) {
            self.ground.store.forget_compared();
        }
        let rechecked = task.action == Action::Recheck;
        self.lock_restored().take_if(|(name, _)| !rechecked || task.subject != of_resource(name));
        let job = Job { task, state, moment: self.moment(task, state), log: self.log(task, state)?, stop };
        let acted = self.act_on(&job).and_then(|output| {
            // The journal is about to say that it is done, and a power cut must not take it back.
            if task.action.changes_live() { self.sync().map(|()| output) } else { Ok(output) }
        });
        match acted {
            Ok(mut output) => {
                output.note = job.log.masked(&output.note);
                output.warnings.iter_mut().for_each(|warning| *warning = job.log.masked(warning));
                Ok(output)
            }
            Err(error) => Err(job.log.masked_error(error)),
        }
    }

    fn act_on(&self, job: &Job<'_>) -> Result<Output> {
        let Job { task, state, .. } = *job;
        let subject = task.subject.as_str();
        match task.action {
            Action::Require => self.require(job),
            Action::Prepare | Action::Apply | Action::Finish => self.run_step(job, self.step(subject)?),
            Action::Precapture => {
                let resource = self.resource(subject)?;
                self.capture(job, resource, self.bases.get(subject).copied())
            }
            Action::Capture => {
                let ahead = manifest_of(state, Action::Precapture, subject);
                self.capture(job, self.resource(subject)?, ahead.or(self.bases.get(subject).copied()))
            }
            Action::Prove => match state.heading() {
                Heading::Forward => self.prove_capture(job, self.resource(subject)?),
                Heading::Backward(_) => self.prove_way_back(job),
            },
            Action::Quiesce | Action::Resume => self.quiesce_or_resume(job),
            Action::Verify if subject == VERSION => self.verify_version(job),
            Action::Verify => self.ask(job, subject),
            Action::Diagnose => self.diagnose(job),
            Action::Undo => {
                let step = self.step(subject)?;
                self.refuse_replaced_elsewhere(step, &self.cx(job, subject, step.line.as_deref()))?;
                step.kind.undo(&self.cx(job, subject, step.line.as_deref()))
            }
            Action::Restore => {
                let resource = self.resource(subject)?;
                let manifest = manifest_of(state, Action::Capture, subject);
                let manifest = manifest.ok_or_else(|| Error::new(format!("`{subject}` was not captured")))?;
                self.restore(job, resource, manifest)
            }
            Action::Reinstate => self.restore(job, self.resource(subject)?, self.target_manifest(subject)?),
            Action::Recheck if subject == VERSION => self.recheck_version(job),
            Action::Recheck => match subject.strip_prefix(&of_resource("")) {
                Some(name) => self.recheck_resource(job, name),
                None => self.ask(job, subject),
            },
        }
    }

    fn lock_restored(&self) -> MutexGuard<'_, Option<(String, ObjectId)>> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cx<'c>(&'c self, job: &'c Job<'_>, subject: &str, line: Option<&str>) -> Context<'c> {
        self.context(&job.moment, subject, line, &job.log, job.stop)
    }

    fn step(&self, name: &str) -> Result<&Instance<dyn Step>> {
        let found = self.bound.steps.iter().find(|step| step.name == name);
        found.ok_or_else(|| Error::new(format!("the plan has no step `{name}`")))
    }

    pub(super) fn resource(&self, name: &str) -> Result<&Instance<dyn Resource>> {
        let found = self.bound.resources.iter().find(|resource| resource.name == name);
        found.ok_or_else(|| Error::new(format!("the plan has no resource `{name}`")))
    }

    fn quiesce(&self, name: &str) -> Result<&Instance<dyn Quiesce>> {
        let found = self.bound.quiesces.iter().find(|quiesce| quiesce.name == name);
        found.ok_or_else(|| Error::new(format!("the plan has no quiesce `{name}`")))
    }

    fn check(&self, name: &str) -> Result<&Instance<dyn Check>> {
        let found = self.bound.checks.iter().find(|check| check.name == name);
        found.ok_or_else(|| Error::new(format!("the plan has no check `{name}`")))
    }

    fn target_manifest(&self, name: &str) -> Result<ObjectId> {
        let manifest = self.target.manifests.get(name).copied();
        manifest.ok_or_else(|| Error::new(format!("the transaction to undo did not capture `{name}`")))
    }

    fn require(&self, job: &Job<'_>) -> Result<Output> {
        match job.task.subject.as_str() {
            VERSION => self.require_version(job),
            ROOM => self.require_room(job.state),
            SNAPSHOT => {
                let manifests: Vec<ObjectId> = self.target.manifests.values().copied().collect();
                let read = self.ground.store.prove(&manifests, &self.telling(job))?;
                Ok(Output::note(format!("{} read", bytes(read))))
            }
            subject => {
                if let Some(name) = subject.strip_prefix(&of_resource("")) {
                    let resource = self.resource(name)?;
                    let base = self.bases.get(name).copied().filter(|_| !self.measures);
                    let estimate = resource.kind.probe(&self.cx(job, name, resource.line.as_deref()), base)?;
                    let note = format!("{}, {} items", bytes(estimate.bytes), estimate.items);
                    let mut warnings = estimate.warnings;
                    warnings.extend(self.nothing_there(resource)?);
                    return Ok(Output { bytes: Some(estimate.bytes), note, warnings, ..Output::default() });
                }
                if let Some(name) = subject.strip_prefix(&of_step("")) {
                    let step = self.step(name)?;
                    let cx = self.cx(job, name, step.line.as_deref());
                    let warnings = self.refuse_to_drop(step, &cx)?;
                    let mut output = step.kind.require(&cx)?;
                    output.warnings.extend(warnings);
                    return Ok(output);
                }
                if let Some(name) = subject.strip_prefix(&of_quiesce("")) {
                    let quiesce = self.quiesce(name)?;
                    return quiesce.kind.remember(&self.cx(job, name, quiesce.line.as_deref()));
                }
                self.ask(job, subject)
            }
        }
    }

    /// Absent is a state, and more often a slip of the pen: it is said.
    fn nothing_there(&self, resource: &Instance<dyn Resource>) -> Result<Option<String>> {
        let paths = self.claims_of(resource)?.into_iter().filter_map(|claim| match claim {
            Claim::Path(path) => Some(path),
            Claim::Thing(_) => None,
        });
        let absent = paths.take(1).find(|path| path.symlink_metadata().is_err());
        Ok(absent.map(|path| {
            let (name, path) = (&resource.name, path.display());
            format!("`{name}`: there is nothing at `{path}`; a rollback removes what comes there")
        }))
    }

    fn ask(&self, job: &Job<'_>, name: &str) -> Result<Output> {
        let check = self.check(name)?;
        let finding = self.ask_patiently(check, &self.cx(job, name, check.line.as_deref()))?;
        answer(name, finding)
    }

    fn run_step(&self, job: &Job<'_>, step: &Instance<dyn Step>) -> Result<Output> {
        let mut cx = self.cx(job, &step.name, step.line.as_deref());
        cx.kept = self.kept(step, &cx)?;
        let cx = cx;
        let mut output = step.kind.run(&cx)?;
        if let Some(expect) = &step.common.expect {
            self.see(expect, &cx)?;
        }
        if !step.common.carry.is_empty() {
            output.warnings.extend(self.carry(step, &cx, job.state)?);
        }
        Ok(output)
    }

    /// Exit statuses lie: a step whose `expect` is not seen has failed.
    fn see(&self, expect: &Expect, cx: &Context<'_>) -> Result<()> {
        if let Some(why) = expect.reading.judge(&cx.said.borrow(), &cx.scope)? {
            let said = cx.said.borrow();
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
            return Err(
                Error::new(format!("its output {why}")).because(format!("its last line was: {}", cx.log.masked(last)))
            );
        }
        for reference in &expect.checks {
            let finding = crate::context::Peers::ask(self, reference, cx)?;
            if !finding.passed() {
                return Err(Error::new(format!("the check `{reference}` does not pass")).because(finding.found));
            }
        }
        Ok(())
    }

    fn capture(&self, job: &Job<'_>, resource: &Instance<dyn Resource>, base: Option<ObjectId>) -> Result<Output> {
        let captured: Captured =
            resource.kind.capture(&self.cx(job, &resource.name, resource.line.as_deref()), base)?;
        Ok(Output {
            manifest: Some(captured.manifest.to_string()),
            bytes: Some(captured.bytes),
            stored: Some(captured.stored),
            note: format!("{} in {} items, {} new", bytes(captured.bytes), captured.items, bytes(captured.stored)),
            warnings: captured.warnings,
            ..Output::default()
        })
    }

    fn prove_capture(&self, job: &Job<'_>, resource: &Instance<dyn Resource>) -> Result<Output> {
        let manifest = manifest_of(job.state, Action::Capture, &resource.name);
        let manifest = manifest.ok_or_else(|| Error::new(format!("`{}` was not captured", resource.name)))?;
        let read = self.ground.store.prove_written(&[manifest], &self.telling(job));
        let read = read.map_err(|error| match error.fault {
            Fault::Damage => error.hint("try again: the next capture stores anew what is damaged"),
            _ => error,
        })?;
        let mut note = format!("{} read back", bytes(read));
        if self.bound.policy.prove != Some(Prove::Read) {
            let cx = self.cx(job, &resource.name, resource.line.as_deref());
            if let Some(loaded) = resource.kind.prove(&cx, manifest)? {
                note = format!("{note}, {loaded}");
            }
        }
        Ok(Output::note(note))
    }

    /// Before anything is taken back: nothing of an interrupted task still runs, and all that a restore needs can be read.
    fn prove_way_back(&self, job: &Job<'_>) -> Result<Output> {
        for (task, progress) in job.state.forward() {
            let begun = matches!(task.id.action, Action::Prepare | Action::Apply | Action::Undo);
            if begun && progress != crate::tx::Progress::Done {
                crate::sys::process::end_all(&self.logs(), &self.token(&task.id))
                    .map_err(|error| error.within(format!("cannot end what `{}` has left running", task.id)))?;
            }
        }
        let manifest =
            |(name, output): (&str, &Output)| Some((name.to_owned(), output.manifest.as_ref()?.parse().ok()?));
        let manifests: Vec<(String, ObjectId)> = job.state.captured().filter_map(manifest).collect();
        // What an undo leaves to be restored is not known before it has run.
        let undoes = job.state.forward().any(|(task, _)| self.has_undo(&task.id));
        let (mut read, mut rest) = (0, Vec::new());
        for (name, manifest) in manifests {
            if undoes {
                rest.push(manifest);
                continue;
            }
            let resource = self.resource(&name)?;
            match resource.kind.foresee(&self.cx(job, &name, resource.line.as_deref()), manifest) {
                Ok(Some(bytes)) => read += bytes,
                Err(error) if error.fault == Fault::Damage => return Err(error),
                // It will be seen what is the matter when it is restored.
                Ok(None) | Err(_) => rest.push(manifest),
            }
        }
        read += self.ground.store.prove(&rest, &self.telling(job))?;
        let warnings = self.ground.store.index_astray().into_iter().collect();
        Ok(Output { note: format!("{} read", bytes(read)), warnings, ..Output::default() })
    }

    fn has_undo(&self, task: &TaskId) -> bool {
        matches!(task.action, Action::Prepare | Action::Apply)
            && self.step(&task.subject).is_ok_and(|step| step.kind.has_undo())
    }

    /// Tells the monitor how far a task is.
    fn telling(&self, job: &Job<'_>) -> impl Fn(u64, u64) {
        let what = job.task.to_string();
        move |done, total| self.ground.monitor.progress(&what, done, total)
    }

    fn quiesce_or_resume(&self, job: &Job<'_>) -> Result<Output> {
        let subject = job.task.subject.as_str();
        let quiesce = self.quiesce(subject)?;
        let mut cx = self.cx(job, subject, quiesce.line.as_deref());
        let remembered = job.state.output(&TaskId::new(Action::Require, of_quiesce(subject)));
        cx.units = remembered.map(|output| output.units.clone()).unwrap_or_default();
        let cx = cx;
        if job.task.action == Action::Resume {
            return quiesce.kind.resume(&cx);
        }
        let acted = quiesce.kind.quiesce(&cx);
        let Some(expect) = &quiesce.common.expect else { return acted };
        // With the application half changed its own word does not count any more; what it was to achieve does.
        let half_changed = job.moment.direction == Direction::Backward;
        let output = match acted {
            Err(error) if half_changed && !matches!(error.fault, Fault::Signal(_)) => {
                Output { warnings: vec![error.to_string()], ..Output::default() }
            }
            acted => acted?,
        };
        self.see(expect, &cx)?;
        Ok(output)
    }

    fn diagnose(&self, job: &Job<'_>) -> Result<Output> {
        let number = job.task.subject.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok());
        let command = number.and_then(|number| self.bound.policy.diagnose.get(number.checked_sub(1)?));
        let command = command.ok_or_else(|| Error::new("the plan has no such diagnosis"))?;
        let ran = run::command(&self.cx(job, "diagnose", None), command, default_timeout::QUIESCE)?;
        Ok(Output::note(ran.shown))
    }

    fn restore(&self, job: &Job<'_>, resource: &Instance<dyn Resource>, manifest: ObjectId) -> Result<Output> {
        let cx = self.cx(job, &resource.name, resource.line.as_deref());
        self.refuse_elsewhere(resource, job.state)?;
        let restored = match job.state.extent() {
            Extent::Whole => resource.kind.restore(&cx, manifest),
            Extent::Partial => resource.kind.salvage(&cx, manifest),
        };
        let mut warnings = Vec::new();
        let changes = match restored {
            Err(error) if error.is_no_room() => {
                warnings.push(format!(
                    "there is no room to restore `{}` beside what it replaces, which goes first",
                    resource.name
                ));
                self.restore_without_room(resource, manifest, &cx, job.state)
            }
            done => done,
        }?;
        if !resource.kind.is_files() {
            // Programs of its own may have run.
            self.ground.store.forget_compared();
        }
        *self.lock_restored() = Some((resource.name.to_string(), manifest));
        let note = match changes.items.len() {
            0 => "nothing differed".to_owned(),
            1 => "1 item put back".to_owned(),
            many => format!("{many} items put back"),
        };
        Ok(Output { note, warnings, ..Output::default() })
    }

    fn recheck_resource(&self, job: &Job<'_>, name: &str) -> Result<Output> {
        let resource = self.resource(name)?;
        let manifest = match job.state.heading() {
            Heading::Forward => self.target_manifest(name)?,
            Heading::Backward(_) => manifest_of(job.state, Action::Capture, name)
                .ok_or_else(|| Error::new(format!("`{name}` was not captured")))?,
        };
        // A restore ends with an empty diff.
        if self.lock_restored().take().is_some_and(|restored| restored == (name.to_owned(), manifest)) {
            return Ok(Output::note("as it was"));
        }
        let changes = resource.kind.diff(&self.cx(job, name, resource.line.as_deref()), manifest)?;
        if changes.is_empty() {
            return Ok(Output::note("as it was"));
        }
        Err(names(&changes).into_iter().fold(Error::new(format!("`{name}` is not as it was")), Error::because))
    }
}

/// The manifest that a task of the forward list returned.
pub fn manifest_of(state: &State, action: Action, subject: &str) -> Option<ObjectId> {
    state.output(&TaskId::new(action, subject))?.manifest.as_ref()?.parse().ok()
}

fn answer(name: &str, finding: Finding) -> Result<Output> {
    if finding.passed() {
        return Ok(Output::note(finding.found));
    }
    Err(Error::new(format!("the check `{name}` does not pass")).because(finding.found))
}

/// What differs: a few names in a line, many in a line each, of which a person is then shown the first.
fn names(changes: &Changes) -> Vec<String> {
    const IN_A_LINE: usize = 5;
    // What is journaled has to be read again each time.
    const NAMED: usize = 10_000;
    let names: Vec<String> = changes.items.iter().take(NAMED).map(|change| format!("`{}`", change.name)).collect();
    if names.len() <= IN_A_LINE {
        return vec![format!("it differs in {}", names.join(", "))];
    }
    let mut lines: Vec<String> = names.into_iter().map(|name| format!("it differs in {name}")).collect();
    if changes.items.len() > NAMED {
        lines.push(format!("and in {} more", changes.items.len() - NAMED));
    }
    lines
}

/// A number of bytes as people read it: `312 MB` (powers of ten).
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64 / 1000.0;
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}
