//! What a transaction would do, told without doing it.

use std::time::Duration;

use super::flatten::{ROOM, VERSION, of_quiesce, of_resource, of_step};
use super::world::World;
use crate::check::Finding;
use crate::error::Result;
use crate::plan::Prove;
use crate::sys::signal::Stop;
use crate::tx::{Action, Begun, Confirmation, Event, Goal, Itinerary, OnFailure, Purpose, State, TaskId};

impl World<'_> {
    /// Asks every requirement that can be asked while nothing is quiesced, whatever the others say. Returns what
    /// was found and a state that has their outputs.
    pub fn ask_requirements(&self, itinerary: &Itinerary, stop: &Stop) -> Result<(Vec<(String, Finding)>, State)> {
        let asked = itinerary.forward.iter().filter(|task| task.id.action == Action::Require && task.depth == 0);
        let only_these = Itinerary {
            purpose: Purpose::Upgrade,
            on_failure: OnFailure::Rollback,
            confirm: Confirmation::NotAsked,
            forward: asked.cloned().map(|task| task.noted()).collect(),
            backward: Vec::new(),
        };
        let runner = super::Driver::runner();
        let tasks: Vec<TaskId> = only_these.forward.iter().map(|task| task.id.clone()).collect();
        let begun = Begun {
            plan: String::new(),
            path: String::new(),
            set: Default::default(),
            lists: Default::default(),
            left_out: Vec::new(),
            accepted: Vec::new(),
            claims: Vec::new(),
            undoes: Vec::new(),
            itinerary: only_these,
            goal: Goal::Committed,
            runner: runner.clone(),
        };
        let mut state = State::begin(&begun);
        let mut findings = Vec::new();
        let prepared = self.bound.steps.iter().any(|step| step.common.step_at == crate::plan::StepAt::Prepare);
        for task in tasks {
            let started = Event::Started { task: task.clone(), runner: runner.clone() };
            state = state.after(&started).map_err(|illegal| crate::error::Error::new(illegal.why))?;
            let ended = match self.act(&task, &state, stop) {
                Ok(output) => {
                    findings.push((task.subject.clone(), Finding::yes(&output.note)));
                    Event::Succeeded { task, output }
                }
                Err(failure) if prepared && task.subject.starts_with(&of_step("")) => {
                    let found = format!("not yet: {failure}; a prepare step may bring it");
                    findings.push((task.subject.clone(), Finding::yes(found)));
                    Event::Failed { task, failure }
                }
                Err(failure) => {
                    findings.push((task.subject.clone(), Finding::no(failure.to_string())));
                    Event::Failed { task, failure }
                }
            };
            state = state.after(&ended).map_err(|illegal| crate::error::Error::new(illegal.why))?;
        }
        Ok((findings, state))
    }

    /// How long a task of the plan's own may take.
    pub fn time_limit(&self, task: &TaskId) -> Option<Duration> {
        let subject = task.subject.as_str();
        match task.action {
            Action::Prepare | Action::Apply | Action::Finish => {
                self.bound.steps.iter().find(|step| step.name == subject)?.kind.time_limit()
            }
            Action::Quiesce | Action::Resume => {
                let quiesce = self.bound.quiesces.iter().find(|quiesce| quiesce.name == subject)?;
                let (stopping, resuming) = quiesce.kind.time_limits();
                if task.action == Action::Quiesce { stopping } else { resuming }
            }
            Action::Require | Action::Verify | Action::Recheck => {
                self.bound.checks.iter().find(|check| check.name == subject)?.kind.time_limit()
            }
            _ => None,
        }
    }

    /// What a task does, and what takes it back; `None` for what changes nothing.
    pub fn describe(&self, task: &TaskId) -> (String, Option<String>) {
        let subject = task.subject.as_str();
        let restored = || {
            let names: Vec<&str> = self.bound.resources.iter().map(|resource| resource.name.as_str()).collect();
            if names.is_empty() { "irreversible".to_owned() } else { format!("restores {}", names.join(", ")) }
        };
        match task.action {
            Action::Require if subject == VERSION => {
                let from = self.bound.version.as_ref().and_then(|version| version.spec.from.as_ref());
                let does = match from {
                    Some(from) => format!("the installed version must be `{}`", from.text()),
                    None => "the installed version is noted".to_owned(),
                };
                (does, None)
            }
            Action::Require if subject == ROOM => ("there must be room for the snapshot and the way back".into(), None),
            Action::Require if subject.starts_with(&of_resource("")) => {
                ("it must be readable; its size is measured".into(), None)
            }
            Action::Require if subject.starts_with(&of_quiesce("")) => ("what is up now is noted".into(), None),
            Action::Require if subject.starts_with(&of_step("")) => {
                ("what it needs must be there, and nothing that is captured nowhere may be lost".into(), None)
            }
            Action::Prepare | Action::Apply | Action::Finish => {
                let step = self.bound.steps.iter().find(|step| step.name == subject);
                let Some(step) = step else { return (String::new(), None) };
                let scope = self.told_scope(step.line.as_deref());
                let undo = if step.kind.has_undo() { "its own undo".to_owned() } else { restored() };
                (step.kind.describe(&scope), Some(undo))
            }
            Action::Quiesce | Action::Resume => {
                let quiesce = self.bound.quiesces.iter().find(|quiesce| quiesce.name == subject);
                let Some(quiesce) = quiesce else { return (String::new(), None) };
                let (stops, starts) = quiesce.kind.describe(&self.told_scope(quiesce.line.as_deref()));
                if task.action == Action::Quiesce { (stops, Some(starts)) } else { (starts, None) }
            }
            Action::Require | Action::Verify | Action::Recheck => {
                let check = self.bound.checks.iter().find(|check| check.name == subject);
                match check {
                    Some(check) => (check.kind.describe(&self.told_scope(check.line.as_deref())), None),
                    None => {
                        let to = self.bound.version.as_ref().and_then(|version| version.spec.to.as_ref());
                        let does = match to {
                            Some(to) => format!("the installed version must be `{}`", to.text()),
                            None => "the installed version is noted".to_owned(),
                        };
                        (does, None)
                    }
                }
            }
            Action::Precapture => ("reads what it can while everything is still up".into(), None),
            Action::Capture => (self.place_of(subject), None),
            Action::Prove => {
                let loads = self.bound.policy.prove != Some(Prove::Read);
                let loads = loads && self.resource(subject).is_ok_and(|resource| resource.kind.loads());
                let beside = if loads { ", loads it beside and compares" } else { "" };
                (format!("reads back what was captured{beside}"), None)
            }
            _ => (String::new(), None),
        }
    }

    fn place_of(&self, resource: &str) -> String {
        let index = self.bound.resources.iter().position(|candidate| candidate.name == resource);
        let Some(index) = index else { return String::new() };
        match self.paths[index].first() {
            Some(path) => format!("{} {}", self.bound.resources[index].kind_name, path.display()),
            None => self.bound.resources[index].kind_name.to_owned(),
        }
    }

    /// Resources that lie in others, which leave them out.
    pub fn nested(&self) -> Vec<String> {
        let mut told = Vec::new();
        for (inner, paths) in self.paths.iter().enumerate() {
            for (outer, others) in self.paths.iter().enumerate() {
                let (Some(path), Some(around)) = (paths.first(), others.first()) else { continue };
                if inner != outer && path != around && path.starts_with(around) {
                    let (inner, outer) = (&self.bound.resources[inner].name, &self.bound.resources[outer].name);
                    told.push(format!("`{inner}` lies in `{outer}`, which leaves it out"));
                }
            }
        }
        told
    }

    /// The variables for a description: what is known only later stands for itself.
    fn told_scope(&self, line: Option<&str>) -> crate::plan::Scope {
        let mut scope = self.bound.scope.clone();
        for (key, value) in [("from", "FROM"), ("to", "TO"), ("version", "VERSION"), ("scratch", "SCRATCH")] {
            scope.values.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
        scope.values.insert("tx".to_owned(), self.tx.clone());
        if let Some(to) = self.bound.version.as_ref().and_then(|version| version.spec.target.as_ref()) {
            scope.values.insert("to".to_owned(), to.clone());
        }
        if let Some(line) = line {
            scope.values.insert("each".to_owned(), line.to_owned());
        }
        scope
    }
}
