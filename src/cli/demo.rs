//! `demo`: a real upgrade of a small application in a scratch directory.
//!
//! It types what a user would type: each command is shown and then carried out by the same code, in the same
//! process. Whatever happens, the application's server is not left running unless `--keep` asked for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser as _};
use serde_json::{Value, json};

use super::{Answer, Cli, Cx, emit, exit, json, words};
use crate::error::{Error, OrSay, Result};
use crate::ops::demo::{Ground, lay_out};
use crate::sys::files;

/// Upgrade a small real application in a scratch directory
///
/// A web application with a configuration file and a database is upgraded and committed; then a release whose
/// migration breaks half-way is tried, and rolled back. It needs Python 3 and nothing else.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(&[exit::DONE, exit::FAILED, exit::USAGE], &["txupgrade demo --keep"]))]
pub(super) struct Demo {
    /// Where to; an empty directory or one that is not there yet [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the directory and the running application there, to try commands on
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let dir = match self.dir {
            Some(dir) => dir,
            None => {
                let named = format!("txupgrade-demo-{}", std::process::id());
                let dir = std::env::temp_dir().join(named);
                files::create_private_dir(&dir)?;
                dir
            }
        };
        let ground = lay_out(&dir)?;
        let shown = show(cx, &ground);
        if self.keep {
            shown.map(|outcome| outcome.answer(&ground, Some(to_try(&ground))))
        } else {
            // What is torn down is told only if nothing worse is.
            let torn = ground.tear_down().and_then(|()| files::remove_tree(&ground.dir));
            let outcome = shown?;
            torn?;
            Ok(outcome.answer(&ground, None))
        }
    }
}

struct Outcome {
    works: u8,
    breaks: u8,
    history: Value,
}

/// Upgrades, fails to upgrade, and shows the history of both.
fn show(cx: &Cx, ground: &Ground) -> Result<Outcome> {
    let typist = Typist { cx: Cx { dir: ground.state.clone(), stop: Arc::clone(&cx.stop), ..cx.clone() }, ground };
    let page = || ground.page("/").map(|page| first_line(&page.text)).unwrap_or_else(|error| error.to_string());
    typist.looks(&page());
    typist.types(&["plan", &plan(&ground.plans.works)])?;
    let works = typist.types(&["run", &plan(&ground.plans.works)])?;
    typist.looks(&page());
    let breaks = typist.types(&["run", &plan(&ground.plans.breaks)])?;
    typist.looks(&page());
    typist.types(&["history"])?;
    let history = Cli::try_parse_from(["txupgrade", "history"])
        .or_say(|| "cannot type a command")?
        .command
        .perform(&typist.cx)?
        .json;
    if works != exit::DONE || breaks != exit::ROLLED_BACK {
        return Err(Error::new("the demo did not go as it should")
            .because(format!("the upgrade that works ended with exit status {works}, which should be 0"))
            .because(format!("the one that breaks ended with exit status {breaks}, which should be 3"))
            .hint("`txupgrade demo --keep` leaves everything there to be looked at"));
    }
    Ok(Outcome { works, breaks, history })
}

/// Types commands on the demo's ground.
struct Typist<'a> {
    cx: Cx,
    ground: &'a Ground,
}

impl Typist<'_> {
    /// Shows a command as it would be typed, and carries it out. Returns its exit status.
    fn types(&self, command: &[&str]) -> Result<u8> {
        let state = self.ground.state.to_string_lossy();
        let ui = &self.cx.ui;
        ui.say(&format!("\n{} txupgrade --state-dir {state} {}\n", ui.err.bold("$"), command.join(" ")));
        let words = ["txupgrade"].iter().chain(command);
        let cli = Cli::try_parse_from(words).or_say(|| "cannot type a command")?;
        if self.cx.json {
            let done = cli.command.perform(&self.cx);
            // One object is printed, at the end.
            return Ok(match done {
                Ok(answer) => {
                    ui.say(&answer.talk);
                    answer.exit
                }
                Err(error) => {
                    ui.say(&super::report::error(&error, ui.err));
                    exit::of_error(&error)
                }
            });
        }
        Ok(emit(ui, false, cli.command.perform(&self.cx)))
    }

    /// Shows what the application's page says.
    fn looks(&self, page: &str) {
        let ui = &self.cx.ui;
        let prompt = ui.err.bold("$");
        ui.say(&format!("\n{prompt} curl http://{}/ | head -n 1\n{}\n", self.ground.address, words::clean(page)));
    }
}

impl Outcome {
    fn answer(self, ground: &Ground, talk: Option<String>) -> Answer {
        let dir = talk.is_some().then(|| ground.dir.to_string_lossy().into_owned());
        let fields = json!({
            "dir": dir, "works": self.works, "breaks": self.breaks, "transactions": self.history["transactions"],
        });
        let json = json::object("demo", exit::DONE, fields);
        Answer { json, data: String::new(), talk: talk.unwrap_or_default(), exit: exit::DONE }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn plan(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What can be tried on the ground that is left.
fn to_try(ground: &Ground) -> String {
    let dir = ground.dir.display();
    let home = ground.home.display();
    format!(
        "\nThe application runs at http://{}/ and everything is in {dir}. Try:\n\
         \n  export TXUPGRADE_STATE_DIR={}\
         \n  txupgrade show\
         \n  txupgrade log migrate\
         \n  txupgrade rollback --dry-run\
         \n  txupgrade rollback\
         \n  txupgrade begin {}; rm -r {home}/share; txupgrade diff; txupgrade rollback\n\
         \nWhen you are done: {home}/bin/notes-ctl stop; rm -r {dir}\n",
        ground.address,
        ground.state.display(),
        ground.plans.works.display(),
    )
}
