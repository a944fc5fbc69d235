//! Goes through every history of a shape.

use std::collections::HashMap;
use std::fmt;
use std::ops::AddAssign;

use super::shapes::{Deed, Shape};
use super::world::{Much, World};
use crate::error::{Error, Fault};
use crate::tx::state::{Confirm, Halt};
use crate::tx::{Action, Boot, Event, Extent, Goal, Heading, Next, Outcome, Output, Progress, Purpose, Reason};
use crate::tx::{Runner, State, Task, TaskId, Tolerance};

/// What has led to a violation, the first last.
type Trail = Vec<String>;

/// How histories ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) committed: u64,
    pub(super) aborted: u64,
    pub(super) rolled_back: u64,
    pub(super) released: u64,
    /// How many of them were stuck for a while.
    pub(super) was_stuck: u64,
}

impl Tally {
    pub(super) fn histories(&self) -> u64 {
        self.committed + self.aborted + self.rolled_back + self.released
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.rolled_back += other.rolled_back;
        self.released += other.released;
        self.was_stuck += other.was_stuck;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { committed, aborted, rolled_back, released, was_stuck } = self;
        write!(
            f,
            "{} histories: {committed} committed, {aborted} aborted, {rolled_back} rolled back, {released} released; \
             {was_stuck} of them were stuck",
            self.histories()
        )
    }
}

/// Where a history stands.
#[derive(Clone)]
struct Moment {
    state: State,
    world: World,
    /// How many things may still go wrong.
    troubles: u8,
    /// Tasks (bits of the shape) that fail until they are mended.
    failing: u64,
    /// Somebody has taken over from a dead process, and no operator has given a word since.
    recovering: bool,
    /// The operator has once tried again without mending anything.
    tried_again: bool,
}

/// What two moments have in common that have the same future, as bytes.
type Situation = Vec<u8>;

/// A walk through all histories of one shape.
pub(super) struct Walk<'s> {
    shape: &'s Shape,
    seen: HashMap<Situation, Tally>,
    runner: Runner,
    failure: Error,
    signal: Error,
    depth: usize,
}

impl<'s> Walk<'s> {
    pub(super) fn new(shape: &'s Shape) -> Walk<'s> {
        Walk {
            shape,
            seen: HashMap::new(),
            runner: shape.begun.runner.clone(),
            failure: Error::new("it failed"),
            signal: Error::new("it was stopped").fault(Fault::Signal(15)),
            depth: 0,
        }
    }

    /// How many different situations were walked from.
    pub(super) fn situations(&self) -> usize {
        self.seen.len()
    }

    /// Every history with at most `troubles` troubles; or what led to the first that ends as it must not.
    pub(super) fn all(&mut self, troubles: u8) -> Result<Tally, Trail> {
        let state = State::begin(&self.shape.begun);
        let world = World::new();
        let first = Moment { state, world, troubles, failing: 0, recovering: false, tried_again: false };
        self.walk(first).map_err(|mut trail| {
            trail.reverse();
            trail
        })
    }

    fn walk(&mut self, now: Moment) -> Result<Tally, Trail> {
        let situation = situation(&now);
        if let Some(tally) = self.seen.get(&situation) {
            return Ok(*tally);
        }
        self.depth += 1;
        if self.depth > 2000 {
            return Err(vec!["it goes on for ever".into()]);
        }
        let tally = self.from(now)?;
        self.depth -= 1;
        self.seen.insert(situation, tally);
        Ok(tally)
    }

    fn from(&mut self, now: Moment) -> Result<Tally, Trail> {
        if now.state.in_flight().is_some() {
            return self.act(&now);
        }
        let mut tally = self.deaths(&now, now.world, "before the next event")?;
        let next = now.state.next();
        if now.troubles > 0 && next != Next::Wait && now.state.can_turn_back() {
            let reason = Reason::Signal { number: 15 };
            tally += self.then(&troubled(&now), Event::TurnedBack { reason })?;
        }
        match next {
            Next::Run(task) => tally += self.run(now, &task)?,
            Next::TurnBack(reason) => tally += self.then(&now, Event::TurnedBack { reason })?,
            Next::Await => tally += self.then(&now, awaiting())?,
            Next::GetStuck(task) => {
                let fails = now
                    .state
                    .backward()
                    .any(|(task, progress)| progress == Progress::Failed && task.tolerance == Tolerance::Fatal);
                if !fails {
                    return Err(vec!["it gets stuck though nothing on the way back failed".into()]);
                }
                tally += self.then(&now, Event::Stuck { task })?;
            }
            Next::End(outcome) => tally += self.end(&now, outcome)?,
            Next::Wait if now.state.stuck().is_some() => {
                let mut stuck = self.words_when_stuck(&now)?;
                stuck.was_stuck = stuck.histories();
                tally += stuck;
            }
            Next::Wait if now.state.resting() => tally += self.words(&now)?,
            Next::Wait => return Err(vec!["it stands still and nobody is asked".into()]),
        }
        Ok(tally)
    }

    /// Journals one event, and goes on from there.
    fn then(&mut self, now: &Moment, event: Event) -> Result<Tally, Trail> {
        self.then_in(now, now.world, event)
    }

    fn then_in(&mut self, now: &Moment, world: World, event: Event) -> Result<Tally, Trail> {
        let Moment { troubles, failing, recovering, tried_again, .. } = *now;
        let state = after(now.state.clone(), &event)?;
        let next = Moment { state, world, troubles, failing, recovering, tried_again };
        self.walk(next).map_err(|trail| label(trail, &event))
    }

    fn run(&mut self, now: Moment, task: &TaskId) -> Result<Tally, Trail> {
        self.then(&now, Event::Started { task: task.clone(), runner: self.runner.clone() })
    }

    /// Everything that can become of the tasks under way: each may end next, and where others go together with them,
    /// each of those may be started next.
    fn act(&mut self, now: &Moment) -> Result<Tally, Trail> {
        let shape = self.shape;
        let under_way = shape.under_way(&now.state);
        let mut worlds = vec![now.world];
        for (task, deed, _) in &under_way {
            let after =
                |world: World| [Much::None, Much::Half, Much::Full].map(|much| world.after(shape, task, *deed, much));
            worlds = worlds.into_iter().flat_map(after).collect();
            worlds.dedup();
        }
        let mut tally = Tally::default();
        for world in worlds {
            tally += self.deaths(now, world, "while it acts")?;
        }
        for (task, deed, bit) in &under_way {
            tally += self.end_of(now, task, *deed, *bit)?;
        }
        for task in now.state.in_flight().map(|task| now.state.beside(task)).unwrap_or_default() {
            tally += self.run(now.clone(), &task)?;
        }
        Ok(tally)
    }

    /// Everything that can become of one task under way.
    fn end_of(&mut self, now: &Moment, task: &Task, deed: Deed, bit: u64) -> Result<Tally, Trail> {
        let shape = self.shape;
        let mut tally = Tally::default();
        let forward = *now.state.heading() == Heading::Forward;
        now.world.judge(shape, &now.state, task, deed).map_err(|wrong| vec![wrong])?;
        let undoes = self.shape.begun.itinerary.purpose == Purpose::Rollback;
        if now.recovering && forward && task.id.action.is_step() && !undoes {
            return Err(vec![format!("recovery starts `{}`", task.id)]);
        }
        let mut worlds =
            [Much::None, Much::Half, Much::Full].map(|much| now.world.after(shape, task, deed, much)).to_vec();
        let full = worlds[2].tried(deed);
        worlds.dedup();
        // Where nobody proves that it is down, it is: its repeat fails because there is nothing left to stop.
        if !forward && matches!(deed, Deed::Quiesce(_)) && task.tolerance == Tolerance::Noted {
            worlds = vec![full];
        }
        worlds.iter_mut().for_each(|world| *world = world.tried(deed));
        if now.failing & bit != 0 {
            let half = worlds[worlds.len() / 2];
            return self.fail(now, half, task, &self.failure.clone());
        }
        if now.troubles > 0 {
            for world in &worlds {
                let now = troubled(now);
                tally += self.fail(&now, *world, task, &self.failure.clone())?;
                let lasting = Moment { failing: now.failing | bit, ..now.clone() };
                tally += self.fail(&lasting, *world, task, &self.failure.clone())?;
                if forward {
                    tally += self.fail(&now, *world, task, &self.signal.clone())?;
                }
            }
        }
        let succeeded = Event::Succeeded { task: task.id.clone(), output: Output::default() };
        tally += self.then_in(now, full, succeeded)?;
        Ok(tally)
    }

    fn fail(&mut self, now: &Moment, world: World, task: &Task, failure: &Error) -> Result<Tally, Trail> {
        let lasting = if now.failing == 0 { "" } else { ", and will until something is mended" };
        let failed = Event::Failed { task: task.id.clone(), failure: failure.clone() };
        self.then_in(now, world, failed).map_err(|mut trail| {
            trail.push(format!("(a failure{lasting}: {world:?})"));
            trail
        })
    }

    /// The process dies, or the whole machine; somebody takes over.
    fn deaths(&mut self, now: &Moment, world: World, place: &str) -> Result<Tally, Trail> {
        let mut tally = Tally::default();
        if now.troubles == 0 {
            return Ok(tally);
        }
        for boot in [Boot::Same, Boot::Other] {
            let idle = now.state.in_flight().is_none() && now.state.is_settled();
            if boot == Boot::Same && idle {
                continue;
            }
            let world = if boot == Boot::Other { world.rebooted(self.shape) } else { world };
            let task = now.state.in_flight().cloned();
            let interrupted = Event::Interrupted { task, boot, runner: self.runner.clone() };
            let next = Moment { recovering: true, ..troubled(now) };
            tally += self.then_in(&next, world, interrupted).map_err(|mut trail| {
                trail.push(format!("(a death {place})"));
                trail
            })?;
        }
        Ok(tally)
    }

    fn end(&mut self, now: &Moment, outcome: Outcome) -> Result<Tally, Trail> {
        let event = Event::Ended { outcome };
        let ended = after(now.state.clone(), &event)?;
        if ended.next() != Next::Wait || ended.clone().after(&Event::Confirmed).is_ok() {
            return Err(vec!["it goes on after its end".into()]);
        }
        now.world
            .judge_end(self.shape, &now.state, outcome)
            .map_err(|wrong| vec![format!("{wrong}: {:?}", now.world)])?;
        let mut tally = Tally::default();
        match outcome {
            Outcome::Committed => tally.committed = 1,
            Outcome::Aborted => tally.aborted = 1,
            Outcome::RolledBack => tally.rolled_back = 1,
            Outcome::Released => tally.released = 1,
        }
        Ok(tally)
    }

    /// Every word that the operator can give while it waits for him.
    fn words(&mut self, now: &Moment) -> Result<Tally, Trail> {
        let mut tally = Tally::default();
        let now = &Moment { world: now.world.open(self.shape), ..now.clone() };
        let word = &Moment { recovering: false, ..now.clone() };
        let mut reason = Reason::Asked;
        let mut skipped = now.state.steps_missing().into_iter().next();
        if let Some(task) = now.state.on_hold().cloned() {
            tally += self.retries(now, Extent::Whole)?;
            skipped = task.action.is_step().then_some(task);
        } else if now.state.awaiting().is_some() {
            tally += self.then(word, Event::Confirmed)?;
            skipped = None;
            reason = Reason::NotConfirmed;
        } else {
            for goal in [Goal::Applied, Goal::Committed] {
                if goal > now.state.goal() {
                    tally += self.then(word, Event::Aimed { goal, runner: self.runner.clone() })?;
                }
            }
        }
        if let Some(task) = skipped {
            let world = now.world.by_hand(self.shape, self.shape.step(&task));
            tally += self.then_in(word, world, Event::Skipped { task })?;
        }
        tally += self.then(now, Event::TurnedBack { reason })?;
        Ok(tally)
    }

    fn words_when_stuck(&mut self, now: &Moment) -> Result<Tally, Trail> {
        let now = &Moment { world: now.world.retried(), ..now.clone() };
        let mut tally = self.retries(now, Extent::Whole)?;
        if now.state.stuck().is_some_and(|task| task.action == Action::Prove) {
            tally += self.then(now, Event::Retried { extent: Extent::Partial })?;
        }
        tally += self.end(now, Outcome::Released)?;
        // `release --resume`: the innermost first, and each may go wrong like anything else.
        if let Some(quiesce) = now.state.kept_down().last() {
            let resume = TaskId::new(Action::Resume, quiesce.subject.clone());
            let fails = now.failing & self.shape.bit(&resume) != 0;
            if !fails || !now.tried_again {
                tally += self.run(Moment { tried_again: now.tried_again || fails, ..now.clone() }, &resume)?;
            }
        } else if !now.world.all_up() {
            return Err(vec!["it is stuck, and believes that everything is up".into()]);
        }
        Ok(tally)
    }

    /// Tries again, once with what fails still failing and once with everything mended.
    fn retries(&mut self, now: &Moment, extent: Extent) -> Result<Tally, Trail> {
        let mut tally = Tally::default();
        if now.failing != 0 && !now.tried_again {
            let next = Moment { tried_again: true, recovering: false, ..now.clone() };
            tally += self.then(&next, Event::Retried { extent })?;
        }
        let mended = Moment { failing: 0, recovering: false, ..now.clone() };
        tally += self.then(&mended, Event::Retried { extent })?;
        Ok(tally)
    }
}

fn awaiting() -> Event {
    Event::Awaiting { until: String::new(), seconds: 1, since_boot: 1, boot_id: "a".into() }
}

fn troubled(now: &Moment) -> Moment {
    Moment { troubles: now.troubles - 1, ..now.clone() }
}

fn after(state: State, event: &Event) -> Result<State, Trail> {
    state.after(event).map_err(|illegal| vec![format!("{event:?} is illegal: {illegal}")])
}

fn label(mut trail: Trail, event: &Event) -> Trail {
    let said = match event {
        Event::Started { task, .. } => format!("started {task}"),
        Event::Succeeded { task, .. } => format!("succeeded {task}"),
        Event::Failed { task, .. } => format!("failed {task}"),
        Event::Interrupted { task: Some(task), boot, .. } => format!("interrupted {task}, {boot:?} boot"),
        Event::Interrupted { boot, .. } => format!("interrupted, {boot:?} boot"),
        Event::Aimed { goal, .. } => format!("aimed {goal:?}"),
        other => format!("{other:?}"),
    };
    trail.push(said);
    trail
}

/// All that the future depends on. Every field is named, so that a new one cannot be forgotten here.
fn situation(now: &Moment) -> Situation {
    let State {
        begun: _,
        goal,
        heading,
        forward,
        backward,
        attempted,
        in_flight,
        halt,
        holds,
        touched,
        confirm,
        stuck,
        extent,
        ended,
        boot_id: _,
        forward_outputs: _,
        backward_outputs: _,
        failures,
    } = &now.state;
    let mut key = vec![
        *goal as u8,
        u8::from(matches!(heading, Heading::Backward(_))),
        in_flight.len() as u8,
        u8::from(*touched),
        match confirm {
            Confirm::No => 0,
            Confirm::Awaiting(_) => 1,
            Confirm::Yes => 2,
        },
        stuck.as_ref().map_or(u8::MAX, |task| task.action as u8),
        *extent as u8,
        u8::from(ended.is_some()),
    ];
    match halt {
        None => key.push(0),
        Some(Halt::Died) => key.push(1),
        Some(Halt::Failed(index)) => {
            let task = &now.state.itinerary().forward[*index].id;
            let failure = failures.iter().rev().find(|failure| failure.0 == *task);
            let signal = failure.is_some_and(|failure| matches!(failure.1.fault, Fault::Signal(_)));
            key.extend([2, *index as u8, u8::from(signal)]);
        }
    }
    key.extend(in_flight.iter().map(|index| *index as u8));
    key.extend(forward.iter().chain(backward).map(|progress| *progress as u8));
    key.extend(attempted.iter().map(|attempted| u8::from(*attempted)));
    key.extend(holds.iter().map(|hold| *hold as u8));
    let Moment { state: _, world, troubles, failing, recovering, tried_again } = now;
    key.extend([*troubles, u8::from(*recovering), u8::from(*tried_again)]);
    key.extend(failing.to_le_bytes());
    world.situation(&mut key);
    key
}
