//! `man`: the manual pages.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use serde_json::json;

use super::{Answer, Cli, Cx, exit, json};
use crate::error::{OrSay, Result};

/// Write the manual pages into a directory
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE],
    &["txupgrade man /usr/local/share/man/man1"],
))]
pub(super) struct Man {
    /// Where to; made when it is not there
    dir: PathBuf,
}

impl Man {
    pub(super) fn perform(self, _: &Cx) -> Result<Answer> {
        let said = || format!("cannot write manual pages into `{}`", self.dir.display());
        fs::create_dir_all(&self.dir).or_say(said)?;
        let mut root = Cli::command();
        root.build();
        let shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
        let mut pages: Vec<(String, clap::Command)> = Vec::new();
        for command in root.get_subcommands().filter(shown) {
            let name = format!("txupgrade-{}", command.get_name());
            let verbs = command.get_subcommands().filter(shown);
            pages.extend(verbs.map(|verb| (format!("{name}-{}", verb.get_name()), verb.clone())));
            pages.push((name, command.clone()));
        }
        pages.insert(0, ("txupgrade".to_owned(), root));
        let mut written = Vec::new();
        for (name, command) in pages {
            let page = clap_mangen::Man::new(command).title(name.to_uppercase());
            let mut text = Vec::new();
            page.render(&mut text).or_say(said)?;
            let path = self.dir.join(format!("{name}.1"));
            fs::write(&path, text).or_say(|| format!("cannot write `{}`", path.display()))?;
            written.push(path.to_string_lossy().into_owned());
        }
        let data = written.join("\n") + "\n";
        let json = json::object("man", exit::DONE, json!({ "files": written }));
        Ok(Answer { json, data, talk: String::new(), exit: exit::DONE })
    }
}
