//! txupgrade.
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
