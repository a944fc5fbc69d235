//! The shapes of plans that are walked: what `engine::flatten` makes of a plan, made here by hand.

use std::collections::BTreeMap;

use crate::tx::{
    Action, Begun, Confirmation, Goal, Heading, Itinerary, OnFailure, Purpose, Runner, State, Task, TaskId, Tolerance,
};

/// A plan's tasks, and what each of them does to the world.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) begun: Begun,
    /// For each quiesce, outermost first, whether it stops anything (or only its resume does something).
    pub(super) stops: Vec<bool>,
    /// How many quiesces hold around each resource.
    pub(super) resources: Vec<usize>,
    pub(super) steps: Vec<Step>,
    forward: Vec<(Deed, u64)>,
    backward: Vec<(Deed, u64)>,
    names: Vec<TaskId>,
}

/// What a task does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Nothing,
    Step(usize),
    Quiesce(usize),
    Resume(usize),
    Capture(usize),
    ProveSnapshot,
    Undo(usize),
    Restore(usize),
}

/// A step, in the order they run.
#[derive(Debug, Clone)]
pub(super) struct Step {
    name: String,
    action: Action,
    depth: usize,
    /// The resource that it changes.
    pub(super) changes: Option<usize>,
    /// Whether it changes something that no resource covers.
    pub(super) outside: bool,
    /// Whether it has an undo of its own.
    pub(super) undo: bool,
}

impl Shape {
    /// The tasks under way, what they do, and their bits.
    pub(super) fn under_way(&self, state: &State) -> Vec<(&Task, Deed, u64)> {
        let (tasks, deeds) = match state.heading() {
            Heading::Forward => (&self.begun.itinerary.forward, &self.forward),
            Heading::Backward(_) => (&self.begun.itinerary.backward, &self.backward),
        };
        state.in_flight.iter().map(|&index| (&tasks[index], deeds[index].0, deeds[index].1)).collect()
    }

    /// A number for each task; the same in both lists for what is the same command.
    pub(super) fn bit(&self, task: &TaskId) -> u64 {
        1 << self.names.iter().position(|name| name == task).expect("a task of this shape")
    }

    /// The step that a forward task runs.
    pub(super) fn step(&self, task: &TaskId) -> usize {
        let named = |step: &Step| step.action == task.action && step.name == task.subject;
        self.steps.iter().position(named).expect("a step of this shape")
    }
}

/// A plan, before it is flattened.
#[derive(Clone)]
struct Draft {
    name: &'static str,
    purpose: Purpose,
    stops: Vec<bool>,
    /// What the failure of a quiesce on the way back means.
    again: Tolerance,
    resources: Vec<usize>,
    steps: Vec<Step>,
    /// Checks `before`, `after` and on the way back, by how deep they are asked.
    checks: Vec<usize>,
    finish: usize,
    diagnose: usize,
    precapture: bool,
    on_failure: OnFailure,
    confirm: Confirmation,
    goal: Goal,
}

fn draft(name: &'static str) -> Draft {
    Draft {
        name,
        purpose: Purpose::Upgrade,
        stops: Vec::new(),
        again: Tolerance::Noted,
        resources: Vec::new(),
        steps: Vec::new(),
        checks: vec![0],
        finish: 0,
        diagnose: 0,
        precapture: false,
        on_failure: OnFailure::Rollback,
        confirm: Confirmation::NotAsked,
        goal: Goal::Committed,
    }
}

/// A step that changes a resource.
fn step(depth: usize, resource: usize) -> Step {
    let (name, action) = (String::new(), Action::Apply);
    Step { name, action, depth, changes: Some(resource), outside: false, undo: false }
}

/// A step that changes what only its undo can take back.
fn outside(depth: usize) -> Step {
    Step { changes: None, outside: true, undo: true, ..step(depth, 0) }
}

/// A step that changes a resource and something besides.
fn both(depth: usize, resource: usize) -> Step {
    Step { outside: true, undo: true, ..step(depth, resource) }
}

fn prepare(step: Step) -> Step {
    Step { action: Action::Prepare, depth: 0, ..step }
}

impl Draft {
    fn quiesced(mut self, stops: &[bool], again: Tolerance) -> Draft {
        self.stops = stops.to_vec();
        self.again = again;
        self
    }

    fn over(mut self, resources: &[usize], steps: Vec<Step>) -> Draft {
        self.resources = resources.to_vec();
        self.steps = steps;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Draft)) -> Draft {
        change(&mut self);
        self
    }

    fn shape(mut self) -> Shape {
        for (number, step) in self.steps.iter_mut().enumerate() {
            step.name = format!("s{number}");
        }
        if self.purpose == Purpose::Rollback {
            self.reinstate();
        }
        let mut forward = self.before();
        let mut backward = Vec::new();
        match self.purpose {
            Purpose::Upgrade => self.upgrade(&mut forward),
            Purpose::Snapshot => (0..self.stops.len()).rev().for_each(|bracket| forward.push(resume(bracket))),
            Purpose::Rollback => self.undo_all(&mut forward),
        }
        if self.purpose == Purpose::Snapshot {
            (0..self.stops.len()).rev().for_each(|bracket| backward.push(resume(bracket)));
        } else {
            self.back(&mut backward);
        }
        let mut names: Vec<TaskId> = forward.iter().chain(&backward).map(|(task, _)| task.id.clone()).collect();
        names.sort();
        names.dedup();
        assert!(names.len() <= 64 && self.steps.len() <= super::world::MOST, "the shape `{}` is too large", self.name);
        let bit = |task: &Task| 1 << names.binary_search(&task.id).expect("it is one of them");
        let numbered = |(task, deed): (Task, Deed)| (task.clone(), (deed, bit(&task)));
        let (forward_tasks, forward) = forward.into_iter().map(numbered).unzip();
        let (backward_tasks, backward) = backward.into_iter().map(numbered).unzip();
        let itinerary = Itinerary {
            purpose: self.purpose,
            on_failure: self.on_failure,
            confirm: self.confirm,
            forward: forward_tasks,
            backward: backward_tasks,
        };
        let begun = Begun {
            plan: String::new(),
            path: String::new(),
            set: BTreeMap::new(),
            lists: BTreeMap::new(),
            left_out: Vec::new(),
            accepted: Vec::new(),
            claims: Vec::new(),
            undoes: Vec::new(),
            itinerary,
            goal: self.goal,
            runner: Runner { pid: 1, start: 1, boot_id: "a".into() },
        };
        let Draft { name, stops, resources, steps, .. } = self;
        Shape { name, begun, stops, resources, steps, forward, backward, names }
    }

    /// Of a transaction that undoes another one: every resource is put back by a step of its own.
    fn reinstate(&mut self) {
        self.steps.iter_mut().for_each(|step| step.action = Action::Undo);
        for (resource, depth) in self.resources.iter().enumerate() {
            let name = format!("r{resource}");
            let reinstate = Step { name, action: Action::Reinstate, ..step(*depth, resource) };
            self.steps.push(reinstate);
        }
    }

    fn before(&self) -> Vec<(Task, Deed)> {
        let mut tasks = vec![(Task::new(Action::Require, "the version", 0), Deed::Nothing)];
        self.asked(&mut tasks, Action::Require, 0);
        self.run(&mut tasks, Action::Prepare, 0);
        for (resource, depth) in self.resources.iter().enumerate() {
            if self.precapture && *depth > 0 {
                tasks.push((Task::new(Action::Precapture, format!("r{resource}"), 0).noted(), Deed::Nothing));
            }
        }
        for depth in 0..=self.stops.len() {
            if depth > 0 {
                self.asked(&mut tasks, Action::Require, depth);
            }
            for resource in self.at(depth) {
                tasks.push((Task::new(Action::Capture, format!("r{resource}"), depth), Deed::Capture(resource)));
            }
            for resource in self.at(depth) {
                tasks.push((Task::new(Action::Prove, format!("r{resource}"), depth), Deed::Nothing));
            }
            if depth < self.stops.len() {
                tasks.push((Task::new(Action::Quiesce, format!("q{depth}"), depth), Deed::Quiesce(depth)));
            }
        }
        tasks
    }

    fn upgrade(&self, tasks: &mut Vec<(Task, Deed)>) {
        for depth in (0..=self.stops.len()).rev() {
            self.run(tasks, Action::Apply, depth);
            if depth == 0 {
                tasks.push((Task::new(Action::Verify, "the version", 0), Deed::Nothing));
            }
            self.asked(tasks, Action::Verify, depth);
            tasks.extend(depth.checked_sub(1).map(resume));
        }
        for number in 0..self.finish {
            tasks.push((Task::new(Action::Finish, format!("f{number}"), 0).noted(), Deed::Nothing));
        }
    }

    fn undo_all(&self, tasks: &mut Vec<(Task, Deed)>) {
        for depth in (0..=self.stops.len()).rev() {
            self.run(tasks, Action::Undo, depth);
            self.run(tasks, Action::Reinstate, depth);
            for resource in self.at(depth) {
                tasks.push((Task::new(Action::Recheck, format!("resource r{resource}"), depth), Deed::Nothing));
            }
            tasks.extend(depth.checked_sub(1).map(resume));
        }
        tasks.push((Task::new(Action::Recheck, "the version", 0), Deed::Nothing));
    }

    fn back(&self, tasks: &mut Vec<(Task, Deed)>) {
        tasks.push((Task::new(Action::Prove, "the snapshot", 0), Deed::ProveSnapshot));
        for number in 0..self.diagnose {
            tasks.push((Task::new(Action::Diagnose, format!("command {number}"), 0).noted(), Deed::Nothing));
        }
        for depth in 0..=self.stops.len() {
            for (number, step) in self.steps.iter().enumerate().rev() {
                if step.undo && step.action == Action::Apply && step.depth == depth {
                    tasks.push((Task::new(Action::Undo, &step.name, depth), Deed::Undo(number)));
                }
            }
            if depth < self.stops.len() {
                let task = Task::new(Action::Quiesce, format!("q{depth}"), depth);
                let task = if self.again == Tolerance::Noted { task.noted() } else { task };
                tasks.push((task, Deed::Quiesce(depth)));
            }
        }
        // What was prepared came before all else, so it is taken back after all else.
        for (number, step) in self.steps.iter().enumerate().rev() {
            if step.undo && step.action == Action::Prepare {
                tasks.push((Task::new(Action::Undo, &step.name, 0), Deed::Undo(number)));
            }
        }
        for depth in (0..=self.stops.len()).rev() {
            for resource in self.at(depth) {
                tasks.push((Task::new(Action::Restore, format!("r{resource}"), depth), Deed::Restore(resource)));
            }
            for resource in self.at(depth) {
                let task = Task::new(Action::Recheck, format!("resource r{resource}"), depth).noted();
                tasks.push((task, Deed::Nothing));
            }
            if depth > 0 {
                self.asked(tasks, Action::Recheck, depth);
                tasks.push(resume(depth - 1));
            }
        }
        self.asked(tasks, Action::Recheck, 0);
    }

    fn at(&self, depth: usize) -> impl Iterator<Item = usize> {
        (0..self.resources.len()).filter(move |resource| self.resources[*resource] == depth)
    }

    fn run(&self, tasks: &mut Vec<(Task, Deed)>, action: Action, depth: usize) {
        for (number, step) in self.steps.iter().enumerate() {
            if step.action == action && step.depth == depth {
                tasks.push((Task::new(action, &step.name, depth), Deed::Step(number)));
            }
        }
    }

    fn asked(&self, tasks: &mut Vec<(Task, Deed)>, action: Action, depth: usize) {
        for (number, at) in self.checks.iter().enumerate() {
            if *at == depth {
                let task = Task::new(action, format!("c{number}"), depth);
                tasks.push((if action == Action::Recheck { task.noted() } else { task }, Deed::Nothing));
            }
        }
    }
}

fn resume(bracket: usize) -> (Task, Deed) {
    (Task::new(Action::Resume, format!("q{bracket}"), bracket), Deed::Resume(bracket))
}

/// Every shape that is walked.
pub(super) fn all() -> Vec<Shape> {
    use Tolerance::{Fatal, Noted};
    let nested = |name| {
        draft(name)
            .quiesced(&[true, true], Fatal)
            .over(&[2, 1], vec![step(2, 0), step(1, 1), step(0, 0)])
            .with(|draft| draft.checks = vec![1, 0])
    };
    let drafts = [
        draft("plain").quiesced(&[true], Noted).over(&[1, 1], vec![step(1, 0), step(1, 1)]).with(|d| d.diagnose = 1),
        draft("plain, with a precapture and a proof that it is down")
            .quiesced(&[true], Fatal)
            .over(&[1], vec![step(1, 0), step(1, 0)])
            .with(|draft| draft.precapture = true),
        draft("several captured together").quiesced(&[true], Fatal).over(&[1, 1, 1, 0], vec![step(1, 0), step(1, 2)]),
        draft("no quiesce").over(&[0, 0], vec![step(0, 0), both(0, 1), step(0, 1)]),
        draft("nothing but steps").over(&[], vec![outside(0), outside(0), outside(0)]),
        draft("nothing but resources, done by hand")
            .quiesced(&[true], Fatal)
            .over(&[1, 0], vec![])
            .with(|draft| draft.goal = Goal::Captured),
        draft("begin, apply, commit")
            .quiesced(&[true], Fatal)
            .over(&[1], vec![step(1, 0), both(1, 0)])
            .with(|draft| draft.goal = Goal::Captured),
        draft("begin, apply, commit, nobody proves that it is down")
            .quiesced(&[true], Noted)
            .over(&[1], vec![step(1, 0), step(0, 0)])
            .with(|draft| draft.goal = Goal::Captured),
        draft("apply, commit").quiesced(&[true], Fatal).over(&[1], vec![outside(1)]).with(|d| d.goal = Goal::Applied),
        draft("hold")
            .quiesced(&[true], Fatal)
            .over(&[1], vec![step(1, 0), both(1, 0)])
            .with(|draft| draft.on_failure = OnFailure::Hold),
        draft("confirm, then finish").quiesced(&[true], Fatal).over(&[1], vec![step(1, 0)]).with(|draft| {
            draft.confirm = Confirmation::Asked;
            draft.finish = 2;
        }),
        draft("hold, confirm, begin, apply, commit").quiesced(&[true], Fatal).over(&[1], vec![step(1, 0)]).with(
            |draft| {
                draft.on_failure = OnFailure::Hold;
                draft.confirm = Confirmation::Asked;
                draft.goal = Goal::Captured;
            },
        ),
        nested("nested"),
        nested("nested, nobody proves that it is down").with(|draft| draft.again = Noted),
        nested("nested: begin, apply, commit").with(|draft| draft.goal = Goal::Captured),
        nested("nested: hold, with undos").with(|draft| {
            draft.on_failure = OnFailure::Hold;
            draft.steps = vec![both(2, 0), outside(1), step(0, 1)];
        }),
        draft("three deep")
            .quiesced(&[true, true, true], Fatal)
            .over(&[3, 2, 0], vec![step(3, 0), step(2, 1), step(0, 2)])
            .with(|draft| draft.checks = vec![2]),
        draft("prepare, apply, finish")
            .quiesced(&[true], Fatal)
            .over(&[1], vec![prepare(outside(0)), prepare(outside(0)), both(1, 0)])
            .with(|draft| draft.finish = 1),
        draft("a quiesce that only resumes").quiesced(&[false], Noted).over(&[1], vec![step(1, 0), outside(0)]),
        draft("a quiesce that only resumes, in one that stops")
            .quiesced(&[true, false], Fatal)
            .over(&[2, 1], vec![step(2, 0), step(1, 1)])
            .with(|draft| draft.goal = Goal::Captured),
        draft("snapshot")
            .quiesced(&[true, true], Fatal)
            .over(&[2, 1, 0], vec![])
            .with(|d| d.purpose = Purpose::Snapshot),
        draft("rollback").quiesced(&[true], Fatal).over(&[1, 1], vec![step(1, 0)]).with(|draft| {
            draft.purpose = Purpose::Rollback;
            draft.precapture = true;
        }),
        draft("rollback, nested")
            .quiesced(&[true, true], Noted)
            .over(&[2, 1], vec![step(1, 1)])
            .with(|draft| draft.purpose = Purpose::Rollback),
        draft("rollback, with an undo of what no resource holds")
            .quiesced(&[true], Fatal)
            .over(&[1], vec![outside(1), both(0, 0)])
            .with(|draft| draft.purpose = Purpose::Rollback),
        draft("rollback, nested, with undos of what no resource holds")
            .quiesced(&[true, true], Fatal)
            .over(&[2, 1], vec![outside(2), both(1, 1), outside(0)])
            .with(|draft| draft.purpose = Purpose::Rollback),
    ];
    drafts.into_iter().map(Draft::shape).collect()
}
