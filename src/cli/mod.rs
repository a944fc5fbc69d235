//! The command line: one file per command.
//!
//! A command reads its arguments, asks [`ops`] for the work and returns an answer: data for stdout,
//! talk for stderr, the same as JSON, and an exit status. Only this file, `ui` and the monitor in `terminal` write. The
//! exit statuses are in `exit`, sentences in `report` and `lines`, objects in `json`, how single values read in `words`.

mod differences;
mod exit;
mod json;
mod lines;
mod report;
mod terminal;
mod ui;
mod voice;
mod words;

mod apply;
mod begin;
mod commit;
mod completions;
mod confirm;
mod demo;
mod diff;
mod history;
mod keep_watch;
mod log;
mod man;
mod plan;
mod recover;
mod release;
mod rollback;
mod run;
mod schema;
mod show;
mod snapshot;
mod status;
mod store;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::{ArgAction, Args, Parser, Subcommand};
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::error::{Error, Fault, Result};
use crate::monitor::Silent;
use crate::ops::{self, Site, Standing};
use crate::sys::signal::Stop;
use exit::Asked;
use report::{Answered, More, Steps};
use ui::{Loudness, Ui, When};
use voice::Voice;

/// Upgrades self-hosted server applications as transactions
///
/// An upgrade is a plan: what to check, stop, capture and do. txupgrade captures config directories, databases and
/// source trees, runs the steps, verifies the result, and puts everything back by itself if anything fails, at any
/// instant. `txupgrade demo` shows a real one in a scratch directory.
#[derive(Debug, Parser)]
#[command(name = "txupgrade", version, max_term_width = 100, after_long_help = overview())]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Where the journal, the store and the logs are [default: /var/lib/txupgrade for root, else
    /// $XDG_STATE_HOME/txupgrade]
    #[arg(long, value_name = "DIR", global = true, env = "TXUPGRADE_STATE_DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,
    /// Print one JSON object on stdout (see `txupgrade schema output`)
    #[arg(long, global = true)]
    json: bool,
    /// Say only what went wrong or waits
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Show what programs say; twice: tracing, too
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Whether to colour
    #[arg(long, value_name = "WHEN", global = true, value_enum, default_value_t, hide_possible_values = false)]
    color: When,
}

#[derive(Debug, Subcommand)]
enum Command {
    Plan(plan::Plan),
    Run(run::Run),
    Begin(begin::Begin),
    Apply(apply::Apply),
    Commit(commit::Commit),
    Confirm(confirm::Confirm),
    Rollback(rollback::Rollback),
    Recover(recover::Recover),
    Release(release::Release),
    Snapshot(snapshot::Snapshot),
    Status(status::Status),
    History(history::History),
    Show(show::Show),
    Log(log::Log),
    Diff(diff::Diff),
    Store(store::Store),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Man(man::Man),
    Demo(demo::Demo),
    KeepWatch(keep_watch::KeepWatch),
}

impl Command {
    fn perform(self, cx: &Cx) -> Result<Answer> {
        match self {
            Command::Plan(command) => command.perform(cx),
            Command::Run(command) => command.perform(cx),
            Command::Begin(command) => command.perform(cx),
            Command::Apply(command) => command.perform(cx),
            Command::Commit(command) => command.perform(cx),
            Command::Confirm(command) => command.perform(cx),
            Command::Rollback(command) => command.perform(cx),
            Command::Recover(command) => command.perform(cx),
            Command::Release(command) => command.perform(cx),
            Command::Snapshot(command) => command.perform(cx),
            Command::Status(command) => command.perform(cx),
            Command::History(command) => command.perform(cx),
            Command::Show(command) => command.perform(cx),
            Command::Log(command) => command.perform(cx),
            Command::Diff(command) => command.perform(cx),
            Command::Store(command) => command.perform(cx),
            Command::Schema(command) => command.perform(cx),
            Command::Completions(command) => command.perform(cx),
            Command::Man(command) => command.perform(cx),
            Command::Demo(command) => command.perform(cx),
            Command::KeepWatch(command) => command.perform(cx),
        }
    }
}

/// What a command works with.
#[derive(Clone)]
struct Cx {
    ui: Ui,
    json: bool,
    /// The state directory, absolute.
    dir: PathBuf,
    zone: TimeZone,
    stop: Arc<OnceLock<Stop>>,
}

impl Cx {
    /// For commands that act: told to the terminal, and stopped by signals in an orderly way.
    fn acting(&self) -> Site {
        let stop = self.stop.get_or_init(Stop::install).clone();
        Site { dir: self.dir.clone(), monitor: self.ui.monitor(), stop }
    }

    /// For commands that look: silent, and a signal simply ends them.
    fn looking(&self) -> Site {
        Site { dir: self.dir.clone(), monitor: Arc::new(Silent), stop: Stop::never() }
    }

    /// For commands that look for long: shown on the terminal, and a signal simply ends them.
    fn watching(&self) -> Site {
        Site { monitor: self.ui.monitor(), ..self.looking() }
    }

    /// The signal that came while a command acted.
    fn signal(&self) -> Option<i32> {
        self.stop.get().and_then(Stop::signal)
    }

    /// The answer of a command that left one transaction at `standing`.
    fn stands(&self, asked: Asked, standing: &Standing, plan: Option<&Path>) -> Answer {
        let exit = exit::of(asked, standing, self.signal());
        let talk = self.says(standing, plan, exit);
        Answer { json: json::standing(standing, exit), data: String::new(), talk, exit }
    }

    /// The sentences about where a transaction stands.
    fn says(&self, standing: &Standing, plan: Option<&Path>, exit: u8) -> String {
        // What is only for a better hint must not fail the command.
        let missing = ops::look::steps_missing(&self.looking(), &standing.tx).unwrap_or_default();
        let steps = if missing.is_empty() { Steps::Done } else { Steps::Missing };
        let asked = if exit == exit::DONE { Answered::Done } else { Answered::NotDone };
        // What was shown as it came is not told twice.
        let mut standing = standing.clone();
        standing.warnings.retain(|warning| !self.ui.has_warned(warning));
        report::standing(&standing, More { plan, steps, asked }, &self.zone, self.ui.err)
    }
}

/// What a command has to say for itself.
#[derive(Debug)]
struct Answer {
    /// With `--json`, all that goes to stdout.
    json: Value,
    /// Without it, what goes to stdout.
    data: String,
    /// What a person is told on stderr.
    talk: String,
    /// The exit status.
    exit: u8,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    crate::sys::memory::give_back_large_buffers();
    let arguments: Vec<OsString> = env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(not_parsed(&error, &arguments)),
    };
    let Global { state_dir, json, quiet, verbose, color } = cli.global;
    let loudness = match (quiet, verbose) {
        (true, _) => Loudness::Quiet,
        (false, 0) => Loudness::Normal,
        (false, _) => Loudness::Verbose,
    };
    trace(verbose);
    let ui = Ui::new(color, loudness);
    let done = self::state_dir(state_dir).and_then(|dir| {
        let cx = Cx { ui: ui.clone(), json, dir, zone: TimeZone::system(), stop: Arc::default() };
        cli.command.perform(&cx)
    });
    let exit = emit(&ui, json, done);
    ExitCode::from(exit)
}

/// Prints an answer or an error; returns the exit status.
fn emit(ui: &Ui, json: bool, done: Result<Answer>) -> u8 {
    let answer = done.unwrap_or_else(|error| {
        let exit = exit::of_error(&error);
        let talk = report::error(&error, ui.err);
        Answer { json: json::error(&error, exit), data: String::new(), talk, exit }
    });
    if json {
        ui.data(format!("{:#}\n", answer.json).as_bytes());
    } else if !answer.data.is_empty() {
        ui.data(answer.data.as_bytes());
    }
    if ui.loudness != Loudness::Quiet || answer.exit != exit::DONE {
        ui.say(&answer.talk);
    }
    Voice.heard();
    match ui.unwritten() {
        Some(error) => {
            ui.say(&report::error(&error, ui.err));
            exit::worse(answer.exit, exit::FAILED)
        }
        None => answer.exit,
    }
}

/// A command line that is wrong, or asks for help or the version.
fn not_parsed(error: &clap::Error, arguments: &[OsString]) -> u8 {
    if !error.use_stderr() {
        // Help and the version; who has stopped reading wants no more of it.
        let _ = error.print();
        return exit::DONE;
    }
    if arguments.iter().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Usage:"));
        let statement = lines.next().unwrap_or("the command line is wrong").trim_start_matches("error: ");
        let mut usage = Error::new(statement).fault(Fault::Usage);
        usage.hints = lines.map(str::to_owned).collect();
        let ui = Ui::new(When::Never, Loudness::Normal);
        ui.data(format!("{:#}\n", json::error(&usage, exit::USAGE)).as_bytes());
    }
    let _ = error.print();
    exit::USAGE
}

/// The state directory: as it was given, or by default, made absolute.
fn state_dir(given: Option<PathBuf>) -> Result<PathBuf> {
    let dir = match given {
        Some(dir) if dir.as_os_str().is_empty() => {
            return Err(Error::new("the state directory must not be empty").fault(Fault::Usage));
        }
        Some(dir) => dir,
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/txupgrade"),
        None => {
            let absolute = |key| env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
            absolute("XDG_STATE_HOME")
                .or_else(|| Some(absolute("HOME")?.join(".local/state")))
                .map(|state| state.join("txupgrade"))
                .ok_or_else(|| {
                    Error::new("it is not known where the state directory is: neither XDG_STATE_HOME nor HOME is set")
                        .hint("say so with `--state-dir DIR`")
                        .fault(Fault::Usage)
                })?
        }
    };
    std::path::absolute(&dir)
        .map_err(|error| Error::new(format!("cannot make `{}` absolute", dir.display())).because(error))
}

/// Tracing to stderr: what TXUPGRADE_LOG asks for, or everything of ours with `-vv`.
fn trace(verbose: u8) {
    let filter = match (env::var("TXUPGRADE_LOG"), verbose) {
        (Ok(wanted), _) => wanted,
        (Err(_), 0..=1) => return,
        (Err(_), 2) => "txupgrade=debug".to_owned(),
        (Err(_), _) => "txupgrade=trace".to_owned(),
    };
    let set = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(|| Voice)
        .log_internal_errors(false)
        .try_init();
    // Only a second subscriber could be refused, and nobody has set a first.
    let _ = set;
}

/// The end of the long help of `txupgrade` itself.
fn overview() -> String {
    let statuses = [
        exit::DONE,
        exit::FAILED,
        exit::USAGE,
        exit::ROLLED_BACK,
        exit::UNSOUND,
        exit::STUCK,
        exit::OVERLAP,
        exit::LOCKED,
        exit::DAMAGE,
        exit::DIFFERENT,
        exit::WAITING,
        exit::INTERRUPTED,
        exit::TERMINATED,
    ];
    exit::help(&statuses, &["txupgrade plan notes.toml", "txupgrade run notes.toml", "txupgrade rollback"])
}

#[cfg(test)]
mod tests;
