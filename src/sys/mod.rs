//! The machine: the only place with raw writes, processes, signals, locks and the clock.

pub mod clock;
pub mod detached;
pub mod files;
pub mod hold;
pub mod lock;
pub mod memory;
pub mod mounts;
pub mod process;
pub mod reserve;
pub mod scratch;
pub mod signal;
pub mod units;
