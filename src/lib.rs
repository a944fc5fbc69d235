//! txupgrade carries the upgrade of a self-hosted server application out as a journaled transaction: what the plan
//! names is captured, the steps run, versions and health are verified, and everything is put back when anything fails.
//!
//! # The map
//!
//! Imports go downward only; `tests/it/layers.rs` enforces it.
//!
//! | room | what it is for |
//! |---|---|
//! | [`cli`] | the command line: arguments in; sentences, JSON and exit statuses out. Nothing else prints |
//! | [`ops`] | one file per verb: opens the state directory, lets the engine work or looks, returns data |
//! | [`engine`] | binds a plan to kinds, flattens it into tasks, does what one task says, drives the machine |
//! | [`resource`], [`step`], [`quiesce`], [`check`] | the kinds: one file each, one line in that folder's list |
//! | [`context`] | what a kind is given to work with, and how commands of the plan are run |
//! | [`store`] | objects in immutable archives, manifests, capture, comparison, restore |
//! | [`journal`] | the append-only, hash-chained record of events |
//! | [`plan`] | the user's file as data, and every mistake in it |
//! | [`tx`] | the machine: events, itinerary, state; pure |
//! | [`sys`] | raw writes, processes, signals, locks, mounts, the clock |
//! | [`error`], [`name`], [`monitor`] | failures as people read them, identifiers, who is told |
//!
//! # The way of a transaction
//!
//! A plan file becomes a [`plan::Plan`], and with the kinds' help an [`engine::Bound`] one. That is flattened once
//! into a [`tx::Itinerary`], which is journaled with the first event. From there one loop, [`engine::Driver::drive`],
//! asks [`tx::State::next`] what to do, journals the intent, acts, and journals the end. `run`, `rollback` and
//! `recover` enter the same loop: they differ in the events they journal before it. A task reads what earlier tasks
//! returned from the folded state and from nowhere else, so a recovered task cannot be told from a live one.
//!
//! # What holds everything up
//!
//! - Never destroy before the replacement is complete and verified.
//! - Code, configuration and data are one set with one version stamp.
//! - Intent is on disk before the act.

pub mod check;
pub mod cli;
pub mod context;
#[cfg(test)]
pub(crate) mod context_fixture;
pub mod engine;
pub mod error;
pub mod journal;
pub mod monitor;
pub mod name;
pub mod ops;
pub mod plan;
pub mod quiesce;
pub mod resource;
pub mod step;
pub mod store;
pub mod sys;
pub mod tx;
