//! The user's file as data: parsed, validated where that needs no other room, with spans for every message.
//!
//! `plan` knows the language, not the kinds: an entry's own keys are left in its [`Fields`], from which the kind's
//! file reads them. All mistakes of a file are collected in one [`Report`]; [`Plan::verdict`] makes them an error.
//!
//! The way through: `tree` (TOML with places) → `parse` (what is common) with `vars`, `command`, [`Fields`] →
//! `rules` (what takes the whole plan to see) → the kinds.

mod ad_hoc;
mod command;
mod entry;
pub mod env_file;
mod fields;
mod language;
pub mod measure;
mod parse;
mod reading;
mod report;
mod rules;
mod template;
mod tree;
mod value;
mod vars;
mod version;

#[cfg(test)]
pub(crate) mod tests;

pub use ad_hoc::ad_hoc;
pub use command::{Command, CommandDefaults, Program};
pub use entry::{
    CheckAt, CheckSpec, Entry, Expect, List, Notice, Plan, Policy, Prove, StepAt, Value, Var, VersionEntry, VersionSpec,
};
pub use fields::Fields;
pub use reading::Reading;
pub use report::{Report, Span, hint_among, nearest};
pub use template::{Pattern, Scope, Template};
pub use value::Secrecy;
pub use version::{Range, Scheme};
