//! The machine: what a transaction is and what it does next, as pure functions of its events.
//!
//! No clock, no files, no processes. [`State`] is a fold over [`Event`]s; [`State::after`] alone judges what is
//! legal and [`State::next`] alone decides what to do. Everything else in the crate carries out what it says.

mod action;
mod after;
mod event;
mod itinerary;
#[cfg(test)]
mod machine_tests;
mod state;

pub use action::{Action, TaskId};
pub use after::IllegalEvent;
pub use event::{Begun, Boot, Event, Extent, Goal, Outcome, Output, Reason, Runner, Unit};
pub use itinerary::{Confirmation, Itinerary, OnFailure, Purpose, Task, Tolerance};
pub use state::{Heading, Next, Progress, State};
