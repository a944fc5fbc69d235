//! A command, wherever one stands in a plan: a list or a table.
//!
//! Promise: `[command]` and what the entry around it says (`user`, `dir`, `env`, `env_file`) are already merged in.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::Value;
use super::fields::Fields;
use super::template::is_variable_name;
use super::tree::{Data, Node};
use super::{Span, Template};

/// What is run, and how.
#[derive(Debug, Clone)]
pub struct Command {
    /// What is run.
    pub program: Program,
    /// As which account; as the caller when there is none.
    pub user: Option<Template>,
    /// In which directory; in the plan's when there is none.
    pub dir: Option<Template>,
    /// Environment beside that of the tool.
    pub env: BTreeMap<String, Value>,
    /// A file of more environment, `KEY=VALUE` lines; all of it is taken to be secret.
    pub env_file: Option<Template>,
    /// How long it may take; the caller's default when there is none.
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
    /// As which account.
    pub user: Option<Template>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// In which directory.
    pub dir: Option<Template>,
    /// Environment; a command's own values come before it.
    pub env: BTreeMap<String, Value>,
    /// A file of more environment.
    pub env_file: Option<Template>,
}

impl CommandDefaults {
    /// Reads all of `[command]`.
    pub(super) fn read(mut fields: Fields) -> CommandDefaults {
        let defaults = CommandDefaults {
            user: fields.template("user"),
            timeout: fields.time_limit("timeout"),
            dir: fields.template("dir"),
            env: fields.environment(),
            env_file: fields.template("env_file"),
        };
        fields.finish();
        defaults
    }

    /// These, and where they say nothing, `others`.
    fn or(mut self, others: &CommandDefaults) -> CommandDefaults {
        self.user = self.user.or_else(|| others.user.clone());
        self.timeout = self.timeout.or(others.timeout);
        self.dir = self.dir.or_else(|| others.dir.clone());
        self.env_file = self.env_file.or_else(|| others.env_file.clone());
        for (key, value) in &others.env {
            self.env.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self
    }
}

const LIST_OR_TABLE: &str = "write it as `[\"program\", \"argument\"]` or `{ shell = \"…\" }`";

impl Fields {
    /// A command under `key`: list or table. What the table around it says of `user`, `dir`, `env` and `env_file` holds
    /// for it too.
    pub fn command(&mut self, key: &str) -> Option<Command> {
        let node = self.node(key)?;
        let around = self.around();
        self.as_command(key, &node, &around)
    }

    /// Commands under `key`: a list of lists or tables. What stands beside `key` does not concern them.
    pub fn commands(&mut self, key: &str) -> Vec<Command> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Data::List(nodes) = &node.data else {
            self.mismatch(key, &node, "a list of commands", Some("write it as `[[\"program\", \"argument\"]]`".into()));
            return Vec::new();
        };
        nodes.iter().filter_map(|n| self.as_command(key, n, &CommandDefaults::default())).collect()
    }

    /// A command whose keys (`run`, `shell`, `user`, `dir`, `env`, `env_file`, `timeout`, `exit`) are this table's own.
    pub fn own_command(&mut self) -> Option<Command> {
        self.read_command(&CommandDefaults::default())
    }

    /// The same; that it is missing is a mistake.
    pub fn need_own_command(&mut self) -> Command {
        if !self.has("run") && !self.has("shell") {
            let hint = Some("`run = [\"program\", \"argument\"]`, or `shell = \"…\"` for a line of shell".to_owned());
            self.report().mistake(&self.span(), "what to run is missing", hint);
        }
        self.own_command().unwrap_or_else(|| Command {
            program: Program::Run(vec![Template::literal("false")]),
            user: None,
            dir: None,
            env: BTreeMap::new(),
            env_file: None,
            timeout: None,
            exit: vec![0],
        })
    }

    fn read_command(&mut self, around: &CommandDefaults) -> Option<Command> {
        let run = self.node("run").map(|node| self.as_words("run", &node));
        let shell = self.text("shell");
        let own = CommandDefaults {
            user: self.template("user"),
            timeout: self.time_limit("timeout"),
            dir: self.template("dir"),
            env: self.environment(),
            env_file: self.template("env_file"),
        };
        let exit = self.exit_statuses();
        if let Some(shell) = &shell {
            if run.is_some() {
                self.wrong("shell", "`run` and `shell` stand side by side", Some("a command has one of them"));
            } else if shell.trim().is_empty() {
                self.wrong("shell", "`shell` is empty", None);
            }
        }
        let program = match (run, shell) {
            (Some(words), _) => Program::Run(words?),
            (None, Some(line)) => Program::Shell(line),
            (None, None) => return None,
        };
        let merged = own.or(around).or(&self.language().defaults.borrow());
        Some(self.noted(merged.into_command(program, exit)))
    }

    pub(super) fn as_command(&self, key: &str, node: &Node, around: &CommandDefaults) -> Option<Command> {
        match &node.data {
            Data::List(_) => {
                let program = Program::Run(self.as_words(key, node)?);
                let merged = around.clone().or(&self.language().defaults.borrow());
                Some(self.noted(merged.into_command(program, vec![0])))
            }
            Data::Table(table) => {
                let mut inner = Fields::new(self.language(), table.clone(), self.moment());
                if !inner.has("run") && !inner.has("shell") {
                    let statement = format!("the command `{key}` has neither `run` nor `shell`");
                    self.report().mistake(&node.span, statement, Some(LIST_OR_TABLE.into()));
                }
                let command = inner.read_command(around);
                inner.finish();
                command
            }
            _ => {
                self.mismatch(key, node, "a command", Some(LIST_OR_TABLE.into()));
                None
            }
        }
    }

    /// Whoever asks the plan for all its commands finds this one too.
    fn noted(&self, command: Command) -> Command {
        self.language().commands.borrow_mut().push(command.clone());
        command
    }

    /// A program and its arguments.
    fn as_words(&self, key: &str, node: &Node) -> Option<Vec<Template>> {
        let Data::List(nodes) = &node.data else {
            let hint = match key {
                "run" => "write it as `run = [\"program\", \"argument\"]`, or as `shell = \"…\"` for a line of shell",
                _ => LIST_OR_TABLE,
            };
            self.mismatch(key, node, "a list", Some(hint.into()));
            return None;
        };
        let words: Vec<Template> =
            nodes.iter().filter_map(|n| self.as_template(key, n, super::language::Secrets::Refused)).collect();
        match words.first() {
            _ if words.len() < nodes.len() => None,
            None => {
                self.report().mistake(&node.span, format!("the command `{key}` is empty"), Some(LIST_OR_TABLE.into()));
                None
            }
            Some(program) if program.is_empty() => {
                let span: &Span = nodes.first().map_or(&node.span, |n| &n.span);
                self.report().mistake(span, "the program has no name", None);
                None
            }
            Some(_) => Some(words),
        }
    }

    /// What this table says for the commands in it. `user` is a common key; the others count only for who reads them.
    fn around(&mut self) -> CommandDefaults {
        let user = self.template("user");
        let mut quiet = Fields::new(self.language(), super::tree::Table::default(), self.moment());
        quiet.adopt(self, &["dir", "env", "env_file"]);
        CommandDefaults {
            user,
            timeout: None,
            dir: quiet.template("dir"),
            env: quiet.environment(),
            env_file: quiet.template("env_file"),
        }
    }

    /// `env`, its names being those of variables.
    fn environment(&mut self) -> BTreeMap<String, Value> {
        let values = self.values("env");
        if let Some(Node { data: Data::Table(table), .. }) = self.peek("env") {
            for item in table.items.iter().filter(|item| !is_variable_name(&item.key)) {
                let statement = format!("`{}` is not the name of a variable", item.key);
                self.report().mistake(&item.key_span, statement, Some("it has letters, digits and `_`".into()));
            }
        }
        values
    }

    fn exit_statuses(&mut self) -> Vec<i32> {
        let Some(numbers) = self.integers("exit") else { return vec![0] };
        let statuses: Vec<i32> =
            numbers.iter().filter_map(|n| i32::try_from(*n).ok()).filter(|n| (0..=255).contains(n)).collect();
        if statuses.len() < numbers.len() {
            self.wrong("exit", "an exit status is between 0 and 255", None);
        } else if statuses.is_empty() {
            self.wrong("exit", "`exit` names no status that counts as success", Some("it is `[0]` when left out"));
        }
        statuses
    }
}

impl CommandDefaults {
    fn into_command(self, program: Program, exit: Vec<i32>) -> Command {
        let CommandDefaults { user, timeout, dir, env, env_file } = self;
        Command { program, user, dir, env, env_file, timeout, exit }
    }
}
