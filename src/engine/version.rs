//! What the tasks about the version do: it is read, and compared with what the plan wants or with what was before.

use super::act::Job;
use super::flatten::VERSION;
use super::world::World;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::tx::Output;

impl World<'_> {
    /// Reads the version with the check that `[version]` names.
    pub(super) fn read_version(&self, cx: &Context<'_>) -> Result<String> {
        let Some(version) = &self.bound.version else {
            return Err(Error::new("the plan does not say how to read the version"));
        };
        let text = version.check.read_text(cx).map_err(|error| error.within("cannot read the version"))?;
        let found = version.spec.reading.version(&text, &cx.scope)?;
        found.ok_or_else(|| {
            let said = text.lines().next().unwrap_or("nothing").to_owned();
            Error::new("cannot find a version in what was read").because(format!("it said: {said}"))
        })
    }

    pub(super) fn require_version(&self, job: &Job<'_>) -> Result<Output> {
        let found = self.read_version(&self.cx(job, VERSION, None))?;
        let spec = self.bound.version.as_ref().map(|version| &version.spec);
        let upgrade = job.state.itinerary().purpose == crate::tx::Purpose::Upgrade;
        if let Some(from) = spec.and_then(|spec| spec.from.as_ref()).filter(|_| upgrade)
            && !from.holds(&found)?
        {
            let error =
                Error::new(format!("version {found} is installed, and this plan upgrades from `{}`", from.text()));
            return Err(error.hint(self.way_to(&found, from.text())));
        }
        Ok(Output { version: Some(found.clone()), note: found, ..Output::default() })
    }

    /// What to do about an installed version that the plan does not upgrade from.
    fn way_to(&self, found: &str, from: &str) -> String {
        let spec = self.bound.version.as_ref().map(|version| &version.spec);
        if spec.and_then(|spec| spec.to.as_ref()).is_some_and(|to| to.holds(found).unwrap_or(false)) {
            return format!("version {found} is what this plan upgrades to: there is nothing to do");
        }
        let target = spec.and_then(|spec| spec.target.as_ref().map(|target| (target, spec.scheme)));
        if let Some((target, scheme)) = target
            && scheme.compare(found, target).is_ok_and(std::cmp::Ordering::is_gt)
        {
            return format!("version {found} is newer than {target}, to which this plan leads; use a plan for {found}");
        }
        format!("`{from}` is a required stop: upgrade to a version in it first, with a plan that leads there")
    }

    pub(super) fn verify_version(&self, job: &Job<'_>) -> Result<Output> {
        let found = self.read_version(&self.cx(job, VERSION, None))?;
        let to = self.bound.version.as_ref().and_then(|version| version.spec.to.as_ref());
        if let Some(to) = to
            && !to.holds(&found)?
        {
            return Err(Error::new(format!("version {found} is installed, and the plan wants `{}`", to.text())));
        }
        Ok(Output { version: Some(found.clone()), note: found, ..Output::default() })
    }

    pub(super) fn recheck_version(&self, job: &Job<'_>) -> Result<Output> {
        let Some(wanted) = job.moment.version.as_deref() else {
            return Ok(Output::note("it was not known before"));
        };
        let found = self.read_version(&self.cx(job, VERSION, None))?;
        if found != wanted {
            return Err(Error::new(format!("version {found} is installed, and {wanted} was before")));
        }
        Ok(Output { version: Some(found.clone()), note: found, ..Output::default() })
    }
}
