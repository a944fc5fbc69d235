//! Programs that write what the store keeps, and read what it gives back, through pipes.
//!
//! Promises: any bytes, any size; the program and whoever is at the other end of its pipe both have to succeed; what a
//! program leaves running holds up nothing.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Seek, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Told;
use crate::context::{Context, default_timeout, run};
use crate::error::{Error, OrSay, Result};
use crate::plan::Command;

/// Runs `command` and gives its stdout to `work`, in a thread of its own. The first thing that failed is told.
pub(super) fn dump<T: Send>(
    cx: &Context<'_>,
    command: &Command,
    work: impl FnOnce(&mut dyn Read) -> Result<T> + Send,
) -> Result<T> {
    dump_of(cx, command, Stdio::null(), work)
}

/// Runs `command` with `input` as its stdin and returns its stdout.
pub(super) fn ask(cx: &Context<'_>, command: &Command, input: &str) -> Result<String> {
    let written = || -> io::Result<std::fs::File> {
        let held = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(held);
        file.write_all(input.as_bytes())?;
        file.rewind()?;
        Ok(file)
    };
    let input = written().or_say(|| "cannot hold what the program is to read")?;
    dump_of(cx, command, Stdio::from(input), |source| {
        let mut text = Vec::new();
        source.read_to_end(&mut text).or_say(|| "cannot read what the program says")?;
        String::from_utf8(text).or_say(|| "what the program says is not UTF-8")
    })
}

fn dump_of<T: Send>(
    cx: &Context<'_>,
    command: &Command,
    input: Stdio,
    work: impl FnOnce(&mut dyn Read) -> Result<T> + Send,
) -> Result<T> {
    let (reader, writer) = io::pipe().or_say(|| "cannot make a pipe")?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let ended = &ended;
        // The reader goes with the thread: when the work fails the dump finds its pipe closed and ends.
        let mut source = Told::new(Drain { pipe: reader, ended }, cx, 0);
        let reading = threads.spawn(move || work(&mut source));
        let ran = run::piped(cx, command, default_timeout::STEP, input, Stdio::from(writer));
        ended.store(true, Ordering::Release);
        let done = reading.join().unwrap_or_else(|_| Err(Error::new("reading the dump ended unexpectedly")));
        match (ran, done) {
            (Ok(_), done) => done,
            (Err(failure), Ok(_)) => Err(failure),
            // A full disk makes the dump fail too; the disk is the cause.
            (Err(failure), Err(cause)) => Err(cause.because(failure)),
        }
    })
}

/// Runs `command` with its stdin from `work`.
pub(super) fn load(
    cx: &Context<'_>,
    command: &Command,
    work: impl FnOnce(&mut dyn Write) -> Result<u64> + Send,
) -> Result<()> {
    let (reader, writer) = io::pipe().or_say(|| "cannot make a pipe")?;
    rustix::io::ioctl_fionbio(&writer, true).or_say(|| "cannot make a pipe")?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let ended = &ended;
        let writing = threads.spawn(move || work(&mut Feed { pipe: writer, ended }));
        let ran = run::piped(cx, command, default_timeout::STEP, Stdio::from(reader), Stdio::null());
        ended.store(true, Ordering::Release);
        let done = writing.join().unwrap_or_else(|_| Err(Error::new("feeding the load ended unexpectedly")));
        match (ran, done) {
            (Ok(_), Ok(_)) => Ok(()),
            (Ok(ran), Err(cause)) => {
                Err(Error::new(format!("`{}` ended before it had read everything", ran.shown)).because(cause))
            }
            (Err(failure), _) => Err(failure),
        }
    })
}

/// Runs `command` while `work` writes to its stdin and reads its stdout, here, so that it can run other programs
/// meanwhile. The program has to end when its stdin does. The program's own failure is told first: it is why `work`
/// finds nothing more to read.
pub(super) fn beside<T>(
    cx: &Context<'_>,
    command: &Command,
    work: impl FnOnce(&mut dyn Write, &mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    let (input, mut to) = io::pipe().or_say(|| "cannot make a pipe")?;
    let (from, output) = io::pipe().or_say(|| "cannot make a pipe")?;
    let ends = (Stdio::from(input), Stdio::from(output));
    let (ran, done) =
        run::beside(cx, command, default_timeout::STEP, ends, move || work(&mut to, &mut BufReader::new(from)));
    match (ran, done) {
        (Ok(_), done) => done,
        (Err(failure), _) => Err(failure),
    }
}

/// The output of a program, which is over when the program is, even if what it left running still holds the pipe.
struct Drain<'a> {
    pipe: PipeReader,
    ended: &'a AtomicBool,
}

impl Read for Drain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let a_while = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            let ended = self.ended.load(Ordering::Acquire);
            let ready = poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&a_while));
            match ready {
                Ok(0) if ended => return Ok(0),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.pipe.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The input of a program, which nobody reads any more once the program is over, even if what it left running holds it.
struct Feed<'a> {
    /// Does not block.
    pipe: PipeWriter,
    ended: &'a AtomicBool,
}

impl Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let a_while = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            match self.pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.ended.load(Ordering::Acquire) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // Whatever it says, the next write finds out.
            let _ = poll(&mut [PollFd::new(&self.pipe, PollFlags::OUT)], Some(&a_while));
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
