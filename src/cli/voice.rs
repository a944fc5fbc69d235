//! stderr, as a transaction may use it: saying something does not wait for who listens.
//!
//! A terminal on hold (Ctrl-S), a pager, a connection that is dead and not yet closed: writing to one of them can take
//! for ever, and for as long the application would be down. So a thread writes, and what it does not get rid of in
//! time is left out; journal and logs have it all.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::TermLike;

/// How many pieces wait to be written.
const WAITING: usize = 256;
/// How long who speaks waits for somebody who does not listen, once.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be written, or who wants to know that all before it was.
enum Said {
    Bytes(Vec<u8>),
    All(SyncSender<()>),
}

static SAID: OnceLock<SyncSender<Said>> = OnceLock::new();
/// Nobody has listened for [`PATIENCE`]; until somebody does, nothing waits.
static UNHEARD: AtomicBool = AtomicBool::new(false);

/// Speaks on stderr.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voice;

impl Voice {
    /// Waits until all that was said is written, or it is clear that nobody listens.
    pub(super) fn heard(self) {
        let (tell, told) = sync_channel(1);
        if SAID.get().is_some() && send(Said::All(tell), PATIENCE) {
            let _ = told.recv_timeout(PATIENCE);
        }
    }
}

impl Write for Voice {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send(Said::Bytes(bytes.to_vec()), PATIENCE);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send(said: Said, patience: Duration) -> bool {
    let queue = SAID.get_or_init(|| {
        let (queue, said) = sync_channel(WAITING);
        // Without it nothing is said, which is no reason to fail either.
        let _ = std::thread::Builder::new().name("voice".to_owned()).spawn(move || speak(&said));
        queue
    });
    let (began, mut said) = (Instant::now(), said);
    loop {
        match queue.try_send(said) {
            Ok(()) => {
                UNHEARD.store(false, Ordering::Relaxed);
                return true;
            }
            Err(TrySendError::Full(again)) if !UNHEARD.load(Ordering::Relaxed) && began.elapsed() < patience => {
                said = again;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TrySendError::Full(_)) => {
                UNHEARD.fetch_or(!patience.is_zero(), Ordering::Relaxed);
                return false;
            }
            Err(TrySendError::Disconnected(_)) => return false,
        }
    }
}

fn speak(said: &Receiver<Said>) {
    for said in said {
        match said {
            // A terminal that is gone is no reason to stop.
            Said::Bytes(bytes) => drop(io::stderr().write_all(&bytes)),
            Said::All(tell) => drop(tell.send(())),
        }
    }
}

/// The terminal as a bar draws on it: what is drawn at once is written at once, and left out if that would wait.
#[derive(Debug, Default)]
pub(super) struct Screen {
    drawn: Mutex<String>,
}

impl Screen {
    fn drawn(&self) -> MutexGuard<'_, String> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, text: &str) -> io::Result<()> {
        self.drawn().push_str(text);
        Ok(())
    }

    fn move_by(&self, count: usize, way: char) -> io::Result<()> {
        if count > 0 {
            let _ = write!(self.drawn(), "\u{1b}[{count}{way}");
        }
        Ok(())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        let columns = rustix::termios::tcgetwinsize(io::stderr()).map(|size| size.ws_col);
        columns.ok().filter(|columns| *columns > 0).unwrap_or(80)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(text)?;
        self.draw("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let drawn = std::mem::take(&mut *self.drawn());
        if !drawn.is_empty() {
            send(Said::Bytes(drawn.into_bytes()), Duration::ZERO);
        }
        Ok(())
    }
}
