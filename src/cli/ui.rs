//! How a person is talked to: what may be coloured, what is shown, questions.
//!
//! Data goes to stdout, everything said to a person to stderr. Promise: a terminal that is closed, full or slow to
//! close is no reason to fail; nothing here panics or returns an error for it.

use std::collections::HashSet;
use std::env;
use std::io::{self, BufRead as _, ErrorKind, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;

use super::terminal::{Bars, Terminal};
use super::voice::Voice;
use crate::error::Error;
use crate::monitor::Monitor;

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// If it is a terminal, and NO_COLOR, CLICOLOR_FORCE and TERM allow it
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What of the environment decides on colour.
#[derive(Debug, Clone, Default)]
struct Wishes {
    no_color: bool,
    force: bool,
    dumb: bool,
}

impl Wishes {
    fn of_environment() -> Wishes {
        let set = |key| env::var_os(key).is_some_and(|value| !value.is_empty());
        Wishes {
            no_color: set("NO_COLOR"),
            force: env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0"),
            dumb: env::var_os("TERM").is_some_and(|term| term == "dumb"),
        }
    }

    fn colour(&self, when: When, terminal: bool) -> bool {
        match when {
            When::Always => true,
            When::Never => false,
            When::Auto if self.no_color => false,
            When::Auto => self.force || (terminal && !self.dumb),
        }
    }
}

/// Colours text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// With escape sequences.
    Colour,
    /// Without.
    Plain,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        match self {
            Paint::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Paint::Plain => text.to_owned(),
        }
    }

    /// What went wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// What went well.
    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What somebody should know.
    pub(crate) fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What to do next.
    pub(crate) fn hint(self, text: &str) -> String {
        self.with("36", text)
    }

    /// What stands out.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What stands back.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loudness {
    /// Only what went wrong or waits.
    Quiet,
    /// A line per task.
    Normal,
    /// The output of programs too.
    Verbose,
}

/// How to talk to who started us.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    /// For data.
    pub(crate) out: Paint,
    /// For talk.
    pub(crate) err: Paint,
    /// How much is said.
    pub(crate) loudness: Loudness,
    err_is_terminal: bool,
    can_ask: bool,
    unwritten: Arc<Mutex<Option<io::Error>>>,
    /// The warnings that the monitor has shown.
    warned: Arc<Mutex<HashSet<String>>>,
}

impl Ui {
    /// Looks at the terminal and the environment.
    pub(crate) fn new(when: When, loudness: Loudness) -> Ui {
        let wishes = Wishes::of_environment();
        let paint = |terminal| if wishes.colour(when, terminal) { Paint::Colour } else { Paint::Plain };
        let err_is_terminal = io::stderr().is_terminal();
        Ui {
            out: paint(io::stdout().is_terminal()),
            err: paint(err_is_terminal),
            loudness,
            err_is_terminal: err_is_terminal && !wishes.dumb,
            can_ask: err_is_terminal && io::stdin().is_terminal(),
            unwritten: Arc::default(),
            warned: Arc::default(),
        }
    }

    /// Writes data to stdout.
    pub(crate) fn data(&self, bytes: &[u8]) {
        Voice.heard();
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            lock(&self.unwritten).get_or_insert(error);
        }
    }

    /// Says something to a person.
    pub(crate) fn say(&self, text: &str) {
        let _ = Voice.write_all(text.as_bytes());
        Voice.heard();
    }

    /// What kept data from being written, unless it is only that nobody reads it any more.
    pub(crate) fn unwritten(&self) -> Option<Error> {
        let error = lock(&self.unwritten).take()?;
        let gone =
            error.kind() == ErrorKind::BrokenPipe || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        (!gone).then(|| Error::new("cannot write to stdout").because(error))
    }

    /// Whether nobody reads stdout any more.
    pub(crate) fn nobody_reads(&self) -> bool {
        lock(&self.unwritten).is_some()
    }

    /// Whether the monitor has shown this warning already.
    pub(crate) fn has_warned(&self, line: &str) -> bool {
        lock(&self.warned).contains(line)
    }

    /// Whether a question can be asked: stdin and stderr are terminals.
    pub(crate) fn can_ask(&self) -> bool {
        self.can_ask
    }

    /// Asks; only `y` and `yes` are a yes.
    pub(crate) fn ask(&self, question: &str) -> bool {
        if !self.can_ask {
            return false;
        }
        self.say(&format!("{} [y/N] ", self.err.bold(question)));
        let mut answer = String::new();
        match io::stdin().lock().read_line(&mut answer) {
            Ok(_) => matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"),
            Err(_) => false,
        }
    }

    /// The monitor that shows a transaction on stderr.
    pub(crate) fn monitor(&self) -> Arc<dyn Monitor> {
        let bars = if self.err_is_terminal && self.loudness != Loudness::Quiet { Bars::Drawn } else { Bars::None };
        let mut terminal = Terminal::new(Box::new(Voice), self.err, self.loudness, bars);
        terminal.warned = Arc::clone(&self.warned);
        Arc::new(terminal)
    }
}

/// What is behind it, whoever panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is only for show: a panic elsewhere leaves nothing half-done that matters.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_who_wants_it() {
        let auto = |no_color, force, dumb, terminal| Wishes { no_color, force, dumb }.colour(When::Auto, terminal);
        assert!(auto(false, false, false, true));
        assert!(!auto(false, false, false, false));
        assert!(!auto(true, false, false, true));
        assert!(!auto(true, true, false, true));
        assert!(auto(false, true, false, false));
        assert!(!auto(false, false, true, true));
        assert!(Wishes { no_color: true, ..Wishes::default() }.colour(When::Always, false));
        assert!(!Wishes { force: true, ..Wishes::default() }.colour(When::Never, true));
    }

    #[test]
    fn a_reader_that_left_is_no_failure_but_a_full_disk_is() {
        let ui = |error: io::Error| Ui {
            out: Paint::Plain,
            err: Paint::Plain,
            loudness: Loudness::Normal,
            err_is_terminal: false,
            can_ask: false,
            unwritten: Arc::new(Mutex::new(Some(error))),
            warned: Arc::default(),
        };
        assert_eq!(ui(io::Error::from(ErrorKind::BrokenPipe)).unwritten(), None);
        assert_eq!(ui(io::Error::from_raw_os_error(5)).unwritten(), None);
        let error = ui(io::Error::from_raw_os_error(28)).unwritten().unwrap();
        assert_eq!(error.statement, "cannot write to stdout");
    }

    #[test]
    fn without_a_terminal_the_answer_is_no() {
        let ui = Ui { can_ask: false, ..Ui::new(When::Never, Loudness::Normal) };
        assert!(!ui.ask("Go on?"));
    }
}
