//! The terminal: what may be coloured, what is shown, questions, and the monitor that a person watches.
//!
//! Data goes to stdout, everything said to a person to stderr. Promise: a terminal that is closed, full or slow to
//! close is no reason to fail; nothing here panics or returns an error for it.

use std::collections::{HashMap, HashSet};
use std::env;
use std::io::{self, BufRead as _, ErrorKind, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::voice::{Screen, Voice};
use super::words;
use crate::error::Error;
use crate::monitor::Monitor;
use crate::name::TxId;

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

/// Whether what is under way is drawn as a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bars {
    /// On the terminal.
    Drawn,
    /// There is no terminal, or it is to be quiet.
    None,
}

/// Shows what happens as lines, and on a terminal what is under way as a bar below them.
pub(crate) struct Terminal {
    inner: Mutex<Inner>,
    paint: Paint,
    loudness: Loudness,
    bars: Bars,
    warned: Arc<Mutex<HashSet<String>>>,
}

struct Inner {
    sink: Box<dyn Write + Send>,
    /// Of the task under way; there is none between tasks, so that a question has the terminal for itself.
    bar: Option<ProgressBar>,
    began: HashMap<(TxId, String), Instant>,
    about: String,
}

impl Terminal {
    /// Writes lines to `sink`.
    fn new(sink: Box<dyn Write + Send>, paint: Paint, loudness: Loudness, bars: Bars) -> Terminal {
        let inner = Inner { sink, bar: None, began: HashMap::new(), about: String::new() };
        Terminal { inner: Mutex::new(inner), paint, loudness, bars, warned: Arc::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is only for show: a panic elsewhere leaves nothing half-done that matters.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn line(&mut self, line: &str) {
        let Inner { sink, bar, .. } = self;
        let mut write = || {
            // In one piece: a bar may be drawn in between.
            let _ = sink.write_all(format!("{line}\n").as_bytes()).and_then(|()| sink.flush());
        };
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// How long the task took, in eight columns. Of others that are still under way one has the bar next.
    fn ended(&mut self, tx: &TxId, task: &str) -> String {
        let drawn = self.bar.take().inspect(ProgressBar::finish_and_clear).is_some();
        let began = self.began.remove(&(tx.clone(), task.to_owned()));
        let other = self.began.keys().map(|(_, task)| task).min().cloned();
        if let Some(other) = other.filter(|_| drawn) {
            self.draw(&words::clean(&other));
        }
        format!("{:>8}", began.map(|began| words::span(began.elapsed())).unwrap_or_default())
    }

    /// Draws a bar for a task.
    fn draw(&mut self, task: &str) {
        self.bar.take().inspect(ProgressBar::finish_and_clear);
        self.about = task.to_owned();
        let bar = ProgressBar::with_draw_target(None, screen());
        bar.set_style(spinner());
        bar.set_message(self.about.clone());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.bar = Some(bar);
    }
}

impl Monitor for Terminal {
    fn started(&self, tx: &TxId, task: &str) {
        let mut inner = self.inner();
        inner.began.insert((tx.clone(), task.to_owned()), Instant::now());
        inner.about = words::clean(task).into_owned();
        if self.bars == Bars::Drawn {
            inner.draw(&words::clean(task));
        }
    }

    fn succeeded(&self, tx: &TxId, task: &str, note: &str) {
        let mut inner = self.inner();
        let took = inner.ended(tx, task);
        if self.loudness == Loudness::Quiet {
            return;
        }
        let line = format!("  {:<24} {took}   {}", words::clean(task), words::clean(note));
        inner.line(line.trim_end());
    }

    fn failed(&self, tx: &TxId, task: &str, failure: &Error) {
        let mut inner = self.inner();
        let took = inner.ended(tx, task);
        if self.loudness == Loudness::Quiet {
            return;
        }
        let name = self.paint.bad(&format!("{:<24}", words::clean(task)));
        inner.line(&format!("  {name} {took}   failed: {}", words::clean(&failure.statement)));
    }

    fn said(&self, tx: &TxId, line: &str) {
        if self.loudness != Loudness::Quiet {
            self.inner().line(&format!("{}: {}", self.paint.bold(&tx.to_string()), words::clean(line)));
        }
    }

    fn warn(&self, line: &str) {
        lock(&self.warned).insert(line.to_owned());
        self.inner().line(&format!("{} {}", self.paint.warn("warning:"), words::clean(line)));
    }

    fn progress(&self, what: &str, done: u64, total: u64) {
        let mut inner = self.inner();
        if inner.bar.is_none() && inner.about.is_empty() && self.bars == Bars::Drawn {
            // Work outside of a transaction: upkeep of the store.
            inner.about = words::clean(what).into_owned();
            inner.bar = Some(ProgressBar::with_draw_target(None, screen()));
        }
        // Of several tasks under way, the one that the bar is about.
        let Some(bar) = inner.bar.as_ref().filter(|_| inner.began.len() < 2 || inner.about.contains(what)) else {
            return;
        };
        if total > 0 && bar.length() != Some(total) {
            bar.set_style(measured());
            bar.set_length(total);
        }
        let what = words::clean(what);
        let about = &inner.about;
        bar.set_message(if about.contains(&*what) { about.clone() } else { format!("{about}: {what}") });
        bar.set_position(done);
    }

    fn output(&self, line: &str) {
        if self.loudness == Loudness::Verbose {
            self.inner().line(&self.paint.dim(&format!("    | {}", words::clean(line))));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(bar) = self.inner().bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn screen() -> ProgressDrawTarget {
    ProgressDrawTarget::term_like_with_hz(Box::new(Screen::default()), 10)
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}").expect("the template is right")
}

fn measured() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg:<24} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {eta}")
        .expect("the template is right")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(ErrorKind::BrokenPipe))
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(5))
        }
    }

    fn play(monitor: &dyn Monitor) {
        let tx: TxId = "notes-3".parse().unwrap();
        monitor.started(&tx, "capture code");
        monitor.progress("code", 3, 10);
        monitor.succeeded(&tx, "capture code", "312 MB, 4.1 MB new");
        monitor.started(&tx, "apply migrate");
        monitor.output("migrating \u{1b}[2J…");
        monitor.failed(&tx, "apply migrate", &Error::new("`notes migrate` ended with exit status 3"));
        monitor.said(&tx, "turns back: step `migrate` failed");
        monitor.warn("`/opt/notes/cache` is a mount point; it is not captured");
    }

    fn shown(loudness: Loudness) -> String {
        let sink = Sink::default();
        play(&Terminal::new(Box::new(sink.clone()), Paint::Plain, loudness, Bars::None));
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_per_task_as_it_ends() {
        insta::assert_snapshot!(shown(Loudness::Normal), @r"
      capture code                0.0 s   312 MB, 4.1 MB new
      apply migrate               0.0 s   failed: `notes migrate` ended with exit status 3
    notes-3: turns back: step `migrate` failed
    warning: `/opt/notes/cache` is a mount point; it is not captured
    ");
    }

    #[test]
    fn verbose_shows_what_programs_say() {
        assert!(shown(Loudness::Verbose).contains("    | migrating \\u{1b}[2J…\n"));
    }

    #[test]
    fn quiet_shows_only_warnings() {
        assert_eq!(shown(Loudness::Quiet), "warning: `/opt/notes/cache` is a mount point; it is not captured\n");
    }

    #[test]
    fn a_closed_terminal_is_no_reason_to_stop() {
        play(&Terminal::new(Box::new(Gone), Paint::Colour, Loudness::Verbose, Bars::None));
    }

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
