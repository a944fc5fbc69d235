//! The integration tests: one binary, a module for each thing that is shown.

mod layers;
