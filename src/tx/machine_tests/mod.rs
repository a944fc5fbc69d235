//! The machine, exhaustively: every failure, every death and every pair of them, over many shapes of plans.
//!
//! A fake world is acted upon as the state says, while everything that can go wrong once or twice does: a task fails
//! before, half-way in or after what it does, once or until it is mended; a signal comes; the process or the machine
//! dies before a task is journaled, before it acts, half-way and after. Wherever the transaction waits for its
//! operator, he gives every word that he can give. Each of these histories has to end in the world before or the
//! world after, or stuck while something on the way back fails, and rolled back once it does not.
//!
//! `shapes` are the plans, `world` is what tasks act upon and what must hold when they do, `walk` goes through the
//! histories. Equal states in equal worlds have equal futures (the state is a pure fold): each such situation is
//! walked from once, however many histories come to it; two numbers are printed.

mod shapes;
mod walk;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use walk::{Tally, Walk};

use super::{Action, Boot, Event, Goal, Next, Output, Reason, Runner, State, TaskId};
use crate::error::Error;

/// How many things go wrong in one history, at most.
const TROUBLES: u8 = 2;

#[test]
fn every_history_ends_in_one_of_two_worlds() {
    let started = Instant::now();
    let shapes = shapes::all();
    let next = AtomicUsize::new(0);
    let walked = Mutex::new(Vec::new());
    thread::scope(|threads| {
        for _ in 0..2 {
            let work = || {
                while let Some(shape) = shapes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut walk = Walk::new(shape);
                    let tally = walk.all(TROUBLES);
                    walked.lock().unwrap_or_else(PoisonError::into_inner).push((shape.name, tally, walk.situations()));
                }
            };
            // What is walked is deep, and a debug build's frames are large.
            thread::Builder::new().stack_size(256 << 20).spawn_scoped(threads, work).unwrap();
        }
    });
    let mut walked = walked.into_inner().unwrap();
    walked.sort_by_key(|(name, ..)| *name);
    let mut total = Tally::default();
    let mut situations = 0;
    let mut wrong = Vec::new();
    for (name, tally, seen) in &walked {
        match tally {
            Ok(tally) => {
                println!("{:>12} histories, {seen:>7} situations: {name}", tally.histories());
                total += *tally;
                situations += seen;
            }
            Err(trail) => wrong.push(format!("{name}:\n  {}", trail.join("\n  "))),
        }
    }
    println!("{total}; {situations} situations in {:.1} s", started.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(walked.len(), shapes.len());
    assert!(total.histories() > 500_000 && shapes.len() >= 10, "{total}");
    // None of the ends is there only in theory.
    assert!(
        [total.committed, total.aborted, total.rolled_back, total.released, total.was_stuck].iter().all(|n| *n > 0)
    );
}

/// Carries on until it stands still; everything succeeds.
fn carried_on(mut state: State, runner: &Runner) -> State {
    while let Next::Run(task) = state.next() {
        state = state.after(&Event::Started { task: task.clone(), runner: runner.clone() }).unwrap();
        state = state.after(&Event::Succeeded { task, output: Output::default() }).unwrap();
    }
    assert_eq!(state.next(), Next::Wait);
    state
}

/// Three captures of one moment, and what stands around them.
fn several() -> (State, Runner, Vec<TaskId>) {
    let shape = shapes::all().into_iter().find(|shape| shape.name == "several captured together").unwrap();
    let runner = shape.begun.runner.clone();
    let mut state = State::begin(&shape.begun);
    loop {
        let Next::Run(task) = state.next() else { panic!("{:?}", state.next()) };
        let beside = state.beside(&task);
        if beside.len() == 2 {
            return (state, runner, [vec![task], beside].concat());
        }
        assert!(beside.is_empty(), "{task} and {beside:?}");
        state = state.after(&Event::Started { task: task.clone(), runner: runner.clone() }).unwrap();
        state = state.after(&Event::Succeeded { task, output: Output::default() }).unwrap();
    }
}

#[test]
fn captures_of_one_moment_go_together_and_nothing_else_does() {
    let (state, runner, tasks) = several();
    let start = |state: &State, task: &TaskId| {
        state.clone().after(&Event::Started { task: task.clone(), runner: runner.clone() })
    };
    assert_eq!(tasks, ["capture r0", "capture r1", "capture r2"].map(|task| task.parse().unwrap()));
    // The first of them has the turn; what is around them has not.
    assert!(start(&state, &tasks[1]).is_err());
    let one = start(&state, &tasks[0]).unwrap();
    for other in ["prove r0", "quiesce q0", "apply s0", "capture r0", "capture r3"] {
        assert!(start(&one, &other.parse().unwrap()).is_err(), "{other}");
    }
    let two = start(&one, &tasks[2]).unwrap();
    assert_eq!(two.under_way().collect::<Vec<_>>(), [&tasks[0], &tasks[2]]);
    assert_eq!(two.beside(&tasks[0]), [tasks[1].clone()]);
    assert!(two.clone().after(&Event::TurnedBack { reason: Reason::Asked }).is_err());
    // The first failure decides; what still is under way ends, and nothing more begins.
    let failed = |task: &TaskId| Event::Failed { task: task.clone(), failure: Error::new("no") };
    let one = two.after(&failed(&tasks[2])).unwrap();
    assert!(one.beside(&tasks[0]).is_empty() && start(&one, &tasks[1]).is_err());
    assert_eq!(one.next(), Next::Run(tasks[0].clone()));
    let none = one.after(&failed(&tasks[0])).unwrap();
    assert_eq!(none.next(), Next::TurnBack(Reason::Failed { task: tasks[2].clone() }));
}

#[test]
fn a_death_ends_all_that_was_under_way() {
    let (state, runner, tasks) = several();
    let start = |state: State, task: &TaskId| {
        state.after(&Event::Started { task: task.clone(), runner: runner.clone() }).unwrap()
    };
    let state = start(start(state, &tasks[0]), &tasks[1]);
    let interrupted =
        |task: &TaskId| Event::Interrupted { task: Some(task.clone()), boot: Boot::Same, runner: runner.clone() };
    assert!(state.clone().after(&interrupted(&tasks[1])).is_err());
    let state = state.after(&interrupted(&tasks[0])).unwrap();
    assert_eq!((state.in_flight(), state.next()), (None, Next::TurnBack(Reason::Died)));
}

/// A transaction that waits at its first goal and was just found so after a reboot, its quiesce under way again.
fn quiescing_again() -> (State, Runner, TaskId) {
    let shape = shapes::all().into_iter().find(|shape| shape.name == "begin, apply, commit").unwrap();
    let runner = shape.begun.runner.clone();
    let waits = carried_on(State::begin(&shape.begun), &runner);
    let interrupted = Event::Interrupted { task: None, boot: Boot::Other, runner: runner.clone() };
    let state = waits.after(&interrupted).unwrap();
    let Next::Run(task) = state.next() else { panic!("{:?}", state.next()) };
    assert_eq!(task.action, Action::Quiesce);
    let state = state.after(&Event::Started { task: task.clone(), runner: runner.clone() }).unwrap();
    (state, runner, task)
}

#[test]
fn a_quiesce_that_is_interrupted_while_it_waits_is_run_again() {
    let (state, runner, task) = quiescing_again();
    let interrupted = Event::Interrupted { task: Some(task.clone()), boot: Boot::Same, runner: runner.clone() };
    let state = state.after(&interrupted).unwrap();
    assert_eq!(state.next(), Next::Run(task));
    assert!(carried_on(state, &runner).is_settled());
}

#[test]
fn a_quiesce_that_fails_while_it_waits_takes_nothing_back() {
    let (state, runner, task) = quiescing_again();
    let failed = Event::Failed { task: task.clone(), failure: Error::new("it is still up") };
    let state = state.after(&failed).unwrap();
    assert_eq!(state.next(), Next::Wait);
    assert_eq!(state.kept_down(), [&task]);
    // Before anything else is done behind it, it has to hold.
    let state = state.after(&Event::Aimed { goal: Goal::Applied, runner }).unwrap();
    assert_eq!(state.next(), Next::Run(task));
}
