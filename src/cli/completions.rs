//! `completions`: for the shells.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde_json::json;

use super::{Answer, Cli, Cx, exit, json};
use crate::error::Result;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::USAGE],
    &["txupgrade completions bash > /etc/bash_completion.d/txupgrade"],
))]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn perform(self, _: &Cx) -> Result<Answer> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "txupgrade", &mut script);
        let data = String::from_utf8_lossy(&script).into_owned();
        let fields = json!({ "shell": self.shell.to_string(), "script": data });
        Ok(Answer {
            json: json::object("completions", exit::DONE, fields),
            data,
            talk: String::new(),
            exit: exit::DONE,
        })
    }
}
