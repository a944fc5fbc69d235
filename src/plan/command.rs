//! A command, wherever one stands in a plan: a list or a table.
use super::Template;
use super::entry::Value;
use std::collections::BTreeMap;
use std::time::Duration;
/// What is run, and how.
#[derive(Debug, Clone)]
pub struct Command {
    pub program: Program,
    pub user: Option<Template>,
    pub dir: Option<Template>,
    pub env: BTreeMap<String, Value>,
    pub env_file: Option<Template>,
    pub timeout: Option<Duration>,
    /// Exit statuses that count as success; `[0]` by default.
    pub exit: Vec<i32>,
}
/// The two ways to say what is run.
#[derive(Debug, Clone)]
pub enum Program {
    /// A program and its arguments.
    Run(Vec<Template>),
    /// A line for `/bin/sh -c`, taken literally: variables reach it as environment, never spliced in.
    Shell(String),
}
/// `[command]`: defaults for every command of the plan. Already merged into each `Command` by the parser, so kinds never read it.
#[derive(Debug, Clone, Default)]
pub struct CommandDefaults {
    pub user: Option<Template>,
    pub timeout: Option<Duration>,
    pub dir: Option<Template>,
    pub env: BTreeMap<String, Value>,
    pub env_file: Option<Template>,
}
