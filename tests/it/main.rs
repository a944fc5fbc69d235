//! The integration tests: one binary, a module for each thing that is shown.

// A test says what is wrong by panicking, and helpers are tests too.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

mod bed;
mod boot;
mod capture;
mod clones;
mod command_line;
mod damage;
mod databases;
mod disk;
mod fidelity;
mod full;
mod invalid;
mod kill;
mod layers;
mod losses;
mod machine;
mod mysql;
mod outside;
mod points;
mod postgres;
mod power;
mod readme;
mod rules;
mod together;
mod tree;
mod upkeep;
mod wrong;
