//! INT and TERM as a flag that work asks; HUP and PIPE stop nothing.
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32};
/// Whether somebody wants the process to stop. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    signal: Arc<AtomicI32>,
    count: Arc<AtomicU32>,
}
impl Stop {
    /// A flag that nobody raises.
    pub fn never() -> Stop {
        Stop::default()
    }
    /// Installs the handlers (INT, TERM raise it; HUP and PIPE are ignored). Once per process.
    pub fn install() -> Stop {
        todo!()
    }
    /// The signal that was sent, if one was.
    pub fn signal(&self) -> Option<i32> {
        let _ = (&self.signal, &self.count);
        todo!()
    }
    /// How many were sent.
    pub fn count(&self) -> u32 {
        todo!()
    }
    /// Forgets what was sent until now (the way back only notes signals).
    pub fn reset(&self) {
        todo!()
    }
}
