//! The user's file as data: parsed, validated where that needs no other room, with spans for every message.
//!
//! `plan` knows the language, not the kinds: an entry's own keys are left in its [`Fields`], from which the kind's
//! file reads them. All mistakes of a file are collected in one [`Report`].

mod command;
mod entry;
mod fields;
mod reading;
mod report;
mod template;
mod version;

pub use command::{Command, CommandDefaults, Program};
pub use entry::{CheckAt, Entry, Expect, List, Notice, Plan, Policy, Prove, StepAt, Value, Var, VersionSpec};
pub use fields::Fields;
pub use reading::Reading;
pub use report::{Report, Span};
pub use template::{Pattern, Scope, Template};
pub use version::{Range, Scheme};
