//! Carries transactions out: binds a plan to kinds, flattens it, and drives the machine.
