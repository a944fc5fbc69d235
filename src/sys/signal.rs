//! INT and TERM as a flag that work asks; HUP and PIPE stop nothing.
//!
//! Handlers only touch atomics, so it does not matter which thread a signal lands on. A HUP (a lost SSH session)
//! is remembered, for whoever wants to know why the terminal is gone, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// Whether somebody wants the process to stop. Cheap to clone; all clones are one flag.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    signal: Arc<AtomicI32>,
    count: Arc<AtomicU32>,
    hung_up: Arc<AtomicBool>,
    /// What raises this one too.
    outer: Option<Arc<Stop>>,
}

impl Stop {
    /// A flag that nobody raises.
    pub fn never() -> Stop {
        Stop::default()
    }

    /// A flag of its own that is raised with this one too.
    pub fn inner(&self) -> Stop {
        Stop { outer: Some(Arc::new(self.clone())), ..Stop::default() }
    }

    /// Installs the handlers (INT, TERM raise it; HUP, PIPE and the like stop nothing). Once per process.
    pub fn install() -> Stop {
        let stop = Stop::default();
        for signal in [libc::SIGINT, libc::SIGTERM] {
            let raised = stop.clone();
            // SAFETY: the handler only stores to atomics.
            let installed = unsafe { signal_hook::low_level::register(signal, move || raised.raise(signal)) };
            installed.expect("INT and TERM can be caught");
        }
        let hung_up = Arc::clone(&stop.hung_up);
        // SAFETY: the handler only stores to an atomic.
        let installed =
            unsafe { signal_hook::low_level::register(libc::SIGHUP, move || hung_up.store(true, Ordering::SeqCst)) };
        installed.expect("HUP can be caught");
        // Writing to a closed pipe, past a limit on the size of files, or from the background to a terminal that does
        // not want that then fails, or succeeds; in no case it ends or stops us.
        for signal in [libc::SIGPIPE, libc::SIGXFSZ, libc::SIGTTOU] {
            // SAFETY: SIG_IGN is no handler of ours.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        // SAFETY: no handler of ours either. Who started us may have ignored it, and then nobody could tell us how a
        // program ended.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        stop
    }

    /// Raises the flag as `signal` would; what the handlers call.
    pub fn raise(&self, signal: i32) {
        self.signal.store(signal, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// The signal that was sent last, if one was.
    pub fn signal(&self) -> Option<i32> {
        let outer = || self.outer.as_ref()?.signal();
        Some(self.signal.load(Ordering::SeqCst)).filter(|signal| *signal != 0).or_else(outer)
    }

    /// How many were sent.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst) + self.outer.as_ref().map_or(0, |outer| outer.count())
    }

    /// Whether the terminal hung up; nothing stops because of it.
    pub fn hung_up(&self) -> bool {
        self.hung_up.load(Ordering::SeqCst)
    }

    /// Forgets what was sent until now (the way back only notes signals).
    pub fn reset(&self) {
        self.signal.store(0, Ordering::SeqCst);
        self.count.store(0, Ordering::SeqCst);
    }
}

/// How people call a signal: `TERM`, `INT`, `KILL`; `signal 37` for one without a common name.
pub fn name(signal: i32) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some(name) => name.trim_start_matches("SIG").to_owned(),
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_raises_never() {
        let stop = Stop::never();
        assert_eq!((stop.signal(), stop.count()), (None, 0));
    }

    #[test]
    fn an_inner_flag_is_raised_by_itself_and_by_what_is_around_it() {
        let outer = Stop::never();
        let (one, other) = (outer.inner(), outer.inner());
        one.raise(libc::SIGTERM);
        assert_eq!((one.signal(), other.signal(), outer.signal()), (Some(libc::SIGTERM), None, None));
        outer.raise(libc::SIGINT);
        assert_eq!((one.signal(), other.signal(), one.count()), (Some(libc::SIGTERM), Some(libc::SIGINT), 2));
    }

    #[test]
    fn term_raises_the_flag_and_hup_only_notes_itself() {
        let stop = Stop::install();
        for signal in [libc::SIGHUP, libc::SIGPIPE, libc::SIGTERM, libc::SIGTERM, libc::SIGINT] {
            // SAFETY: sends a signal for which a handler was just installed.
            unsafe { libc::raise(signal) };
        }
        assert!(stop.hung_up());
        assert_eq!((stop.signal(), stop.count()), (Some(libc::SIGINT), 3));
        let clone = stop.clone();
        clone.reset();
        assert_eq!((stop.signal(), stop.count()), (None, 0));
    }

    #[test]
    fn signals_have_the_names_people_use() {
        assert_eq!(name(15), "TERM");
        assert_eq!(name(9), "KILL");
        assert_eq!(name(37), "signal 37");
    }
}
