//! Carries transactions out.
//!
//! `bind` turns a plan into instances of kinds, `flatten` turns those into the tasks of a transaction, a
//! [`World`] does what one task says, and the [`Driver`] is the one loop that run, rollback and recovery share.

mod act;
mod bind;
mod cover;
mod driver;
mod flatten;
mod forecast;
mod home;
mod ledger;
mod together;
mod trust;
mod version;
mod world;

pub use act::manifest_of;
pub use bind::{Bound, Instance, Read, bind_on, read_plan};

pub use driver::{Driver, Drove, clear_holds, left_to_recover, lock_path, remaining, until};
pub use flatten::{Proof, flatten_rollback, flatten_snapshot, flatten_upgrade, of_quiesce};
pub use trust::refuse_if_others_write;
pub use world::{Ground, Logs, Target, World};
