//! Where the things of a transaction are: nothing is put back anywhere else.

use super::bind::Instance;
use super::world::World;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::resource::{Claim, Resource};
use crate::step::Step;
use crate::tx::{Heading, State};

impl World<'_> {
    /// A directory above a resource may have become a symlink since: then its path leads to what is not the resource.
    pub(super) fn refuse_elsewhere(&self, resource: &Instance<dyn Resource>, state: &State) -> Result<()> {
        let captured = match state.heading() {
            Heading::Forward => &self.target.claims,
            Heading::Backward(_) => &state.begun().claims,
        };
        for claim in self.claims_of(resource)? {
            let Claim::Path(path) = claim else { continue };
            if !captured.iter().any(|claim| *claim == format!("path {}", path.display())) {
                return Err(Error::new(format!(
                    "`{}` is not where it was captured; nothing was changed",
                    resource.name
                ))
                .because(format!("its path leads to `{}` now", path.display()))
                .hint("see which directory above it has become a symlink, put it back, then try again"));
            }
        }
        Ok(())
    }

    /// The same for a tree that a step replaced: its side copies are beside where it was.
    pub(super) fn refuse_replaced_elsewhere(&self, step: &Instance<dyn Step>, cx: &Context<'_>) -> Result<()> {
        let replaced = step.kind.replaces(cx)?;
        match replaced.iter().find(|path| !self.homes.is_empty() && !self.homes.contains(path)) {
            None => Ok(()),
            Some(path) => Err(Error::new(format!("what `{}` replaced is not where it was", step.name))
                .because(format!("its path leads to `{}` now", path.display()))
                .hint("see which directory above it has become a symlink, put it back, then try again")),
        }
    }
}
