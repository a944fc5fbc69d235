//! `demo`: a real upgrade of a small application in a scratch directory.
//!
//! It types what a user would type: each command is shown and then carried out by the same code, in the same
//! process. Whatever happens, the application's server is not left running unless `--keep` asked for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser as _};
use serde_json::{Value, json};

use super::ui::Loudness;
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
            let transactions =
                shown.map_err(|error| error.hint(format!("everything is left in `{}`", ground.dir.display())))?;
            return Ok(answer(&transactions, Some(&ground)));
        }
        // What goes wrong in tearing down is told only if nothing worse is.
        let torn = ground.tear_down().and_then(|()| files::remove_tree(&ground.dir));
        let transactions =
            shown.map_err(|error| error.hint("`txupgrade demo --keep` leaves everything to be looked at"))?;
        torn?;
        Ok(answer(&transactions, None))
    }
}

/// Upgrades, fails to upgrade, and shows the history of both, which it returns.
fn show(cx: &Cx, ground: &Ground) -> Result<Value> {
    let typist = Typist { cx: Cx { dir: ground.state.clone(), stop: Arc::clone(&cx.stop), ..cx.clone() }, ground };
    typist.looks()?;
    typist.types(&["plan", &plan(&ground.plans.works)], exit::DONE)?;
    typist.types(&["run", &plan(&ground.plans.works)], exit::DONE)?;
    typist.looks()?;
    typist.types(&["run", &plan(&ground.plans.breaks)], exit::ROLLED_BACK)?;
    typist.looks()?;
    typist.types(&["history"], exit::DONE)?;
    let history = typed(&["history"])?.perform(&typist.cx)?.json;
    Ok(history["transactions"].clone())
}

/// What a command line says.
fn typed(command: &[&str]) -> Result<super::Command> {
    let words = ["txupgrade"].iter().chain(command);
    Ok(Cli::try_parse_from(words).or_say(|| "cannot type a command")?.command)
}

/// Types commands on the demo's ground.
struct Typist<'a> {
    cx: Cx,
    ground: &'a Ground,
}

impl Typist<'_> {
    /// Shows a command as it would be typed, and carries it out; it has to end with `status`.
    fn types(&self, command: &[&str], status: u8) -> Result<()> {
        let ui = &self.cx.ui;
        let state = self.ground.state.display();
        self.shows(&format!("txupgrade --state-dir {state} {}", command.join(" ")), "");
        let mut done = typed(command)?.perform(&self.cx);
        if let (true, Ok(answer)) = (self.cx.json, &mut done) {
            // One object is printed, at the end.
            answer.data.clear();
        }
        let exit = emit(ui, false, done);
        if exit == status {
            return Ok(());
        }
        Err(Error::new(format!("`txupgrade {}` ended with exit status {exit}", command.join(" ")))
            .because(format!("in the demo it should end with {status}")))
    }

    /// Shows what the application's page says.
    fn looks(&self) -> Result<()> {
        let page = self.ground.page("/")?;
        let head = page.text.lines().find(|line| line.contains("<h1>")).unwrap_or("");
        self.shows(&format!("curl -s http://{}/ | grep h1", self.ground.address), &format!("{}\n", words::clean(head)));
        Ok(())
    }

    fn shows(&self, line: &str, output: &str) {
        let ui = &self.cx.ui;
        if ui.loudness != Loudness::Quiet {
            ui.say(&format!("\n{} {line}\n{output}", ui.err.bold("$")));
        }
    }
}

fn answer(transactions: &Value, left: Option<&Ground>) -> Answer {
    let dir = left.map(|ground| ground.dir.to_string_lossy());
    let fields = json!({ "dir": dir, "transactions": transactions });
    let json = json::object("demo", exit::DONE, fields);
    Answer { json, data: String::new(), talk: left.map(to_try).unwrap_or_default(), exit: exit::DONE }
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
         \n  txupgrade begin --name by-hand path={home}; rm -r {home}/share; txupgrade diff; txupgrade rollback\n\
         \nWhen you are done: {home}/bin/notes-ctl stop; rm -r {dir}\n",
        ground.address,
        ground.state.display(),
    )
}
