//! The monitor that a person watches: a line for each task as it ends, and on a terminal a bar for what is under way.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ui::{Loudness, Paint, lock};
use super::voice::Screen;
use super::words;
use crate::error::Error;
use crate::monitor::Monitor;
use crate::name::TxId;

/// Whether what is under way is drawn as a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bars {
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
    /// The warnings that were shown.
    pub(crate) warned: Arc<Mutex<HashSet<String>>>,
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
    pub(crate) fn new(sink: Box<dyn Write + Send>, paint: Paint, loudness: Loudness, bars: Bars) -> Terminal {
        let inner = Inner { sink, bar: None, began: HashMap::new(), about: String::new() };
        Terminal { inner: Mutex::new(inner), paint, loudness, bars, warned: Arc::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
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
    use std::io::{self, ErrorKind};

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
}
