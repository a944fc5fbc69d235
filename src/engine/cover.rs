//! What a step would lose, what it carries over, and whether there is room.

use std::path::{Path, PathBuf};

use super::act::{bytes, manifest_of};
use super::bind::Instance;
use super::world::World;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::resource::{Changes, Claim, Resource};
use crate::step::{Room, Step};
use crate::store::{ObjectId, Replaced};
use crate::sys::process::Log;
use crate::sys::signal::Stop;
use crate::sys::{files, mounts};
use crate::tx::{Action, Output, Purpose, State, TaskId};

impl World<'_> {
    /// Refuses a step that would drop what no resource captures and nothing carries, or that has a mount point inside.
    pub(super) fn refuse_to_drop(&self, step: &Instance<dyn Step>, cx: &Context<'_>) -> Result<Vec<String>> {
        for path in step.kind.replaces(cx)? {
            self.refuse_state_dir(&path, &format!("what the step `{}` replaces", step.name))?;
            if path.symlink_metadata().is_err() {
                continue;
            }
            if mounts::is_mount_point(&path)? {
                return Err(Error::new(format!("`{}` is a mount point and cannot be replaced", path.display()))
                    .hint("replace a directory below it, or unmount it first"));
            }
            if let Some(inside) = mounts::below(&path)?.first() {
                return Err(Error::new(format!(
                    "`{}` has a mount point inside and cannot be replaced",
                    path.display()
                ))
                .because(format!("something is mounted at `{}`", inside.display()))
                .hint(format!("umount {}", inside.display())));
            }
            let carried = self.carried(step, cx)?;
            self.refuse_uncaptured(step, &path, &carried)?;
        }
        Ok(Vec::new())
    }

    fn refuse_uncaptured(&self, step: &Instance<dyn Step>, path: &Path, carried: &[PathBuf]) -> Result<()> {
        let mut captured = self.paths.iter().flatten();
        if captured.any(|root| path.starts_with(root)) {
            return Ok(());
        }
        // Nothing captures the whole: then every entry of it has to be captured or carried by itself.
        let kept = |entry: &Path| {
            let mut keepers = self.paths.iter().flatten().chain(carried);
            keepers.any(|keeper| entry.starts_with(keeper))
        };
        let mut lost = Vec::new();
        if path.is_dir() {
            for entry in std::fs::read_dir(path)
                .map_err(|error| Error::new(format!("cannot read `{}`", path.display())).because(error))?
            {
                let entry =
                    entry.map_err(|error| Error::new(format!("cannot read `{}`", path.display())).because(error))?;
                if !kept(&entry.path()) {
                    lost.push(format!("`{}`", entry.path().display()));
                }
            }
            lost.sort();
        } else {
            lost.push(format!("`{}`", path.display()));
        }
        if lost.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!("the step `{}` would drop what is captured nowhere", step.name))
            .because(format!("no resource captures and no `carry` keeps {}", lost.join(", ")))
            .hint(format!("add a resource with path = \"{}\", or name what must stay in `carry`", path.display())))
    }

    /// The absolute paths that a step carries over.
    fn carried(&self, step: &Instance<dyn Step>, cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        let base = step.kind.replaces(cx)?.into_iter().next();
        let mut paths = Vec::new();
        for template in &step.common.carry {
            let text = template.expand(&cx.scope)?;
            let text = text.trim_end_matches('/');
            paths.push(match &base {
                Some(base) => base.join(text),
                None => template.path(&cx.scope)?,
            });
        }
        Ok(paths)
    }

    /// What a step leaves where it is: in what it replaces, what resources exclude and what it carries that no resource
    /// holds. It was captured nowhere, so it must not get lost.
    pub(super) fn kept(&self, step: &Instance<dyn Step>, cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        let replaced = step.kind.replaces(cx)?;
        if replaced.is_empty() {
            return Ok(Vec::new());
        }
        let mut kept = Vec::new();
        for resource in &self.bound.resources {
            let mut own = cx.with_scope(self.scope_of(cx, resource.line.as_deref()));
            own.subject.clone_from(&resource.name);
            own.left_out = self.inner_paths(&resource.name);
            kept.extend(resource.kind.excluded(&own)?);
        }
        let held =
            |path: &Path| self.paths.iter().flatten().any(|root| path.starts_with(root) || root.starts_with(path));
        kept.extend(self.carried(step, cx)?.into_iter().filter(|path| !held(path)));
        kept.retain(|path| path.symlink_metadata().is_ok() && replaced.iter().any(|root| path.starts_with(root)));
        // What lies in something that stays, stays with it.
        kept.sort();
        kept.dedup_by(|inner, outer| inner.starts_with(outer));
        Ok(kept)
    }

    /// The variables of another entry at this moment.
    fn scope_of(&self, cx: &Context<'_>, line: Option<&str>) -> crate::plan::Scope {
        let mut scope = cx.scope.clone();
        match line {
            Some(line) => scope.values.insert("each".to_owned(), line.to_owned()),
            None => scope.values.remove("each"),
        };
        scope
    }

    /// Puts the paths that a step carries back as they were captured, each by the resources that hold it.
    pub(super) fn carry(&self, step: &Instance<dyn Step>, cx: &Context<'_>, state: &State) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for path in self.carried(step, cx)? {
            let mut held = false;
            for (index, resource) in self.bound.resources.iter().enumerate() {
                let roots = &self.paths[index];
                let inside = roots.iter().any(|root| path.starts_with(root));
                let around = roots.first().is_some_and(|root| root.starts_with(&path));
                if !inside && !around {
                    continue;
                }
                let Some(manifest) = manifest_of(state, Action::Capture, &resource.name) else { continue };
                let mut own = cx.with_scope(self.scope_of(cx, resource.line.as_deref()));
                own.subject.clone_from(&resource.name);
                own.left_out = self.inner_paths(&resource.name);
                let part = if around { None } else { Some(path.as_path()) };
                resource.kind.carry(&own, manifest, part)?;
                held = true;
            }
            if !held && path.symlink_metadata().is_err() {
                warnings.push(format!("`{}` is carried and was not there", path.display()));
            }
        }
        Ok(warnings)
    }

    /// Whether the filesystems at hand can take what this transaction will write.
    pub(super) fn require_room(&self, state: &State) -> Result<Output> {
        let mut needs = Vec::new();
        let (mut store, mut aside) = (0, 0);
        for (index, resource) in self.bound.resources.iter().enumerate() {
            let probe = state.output(&TaskId::new(Action::Require, super::flatten::of_resource(&resource.name)));
            let size = probe.and_then(|output| output.bytes).unwrap_or_default();
            store += self.forecast(resource, size);
            if resource.kind.copies() {
                aside = aside.max(size);
            }
            // A restore writes beside: at most everything that was there, next to what the upgrade left.
            if let Some(root) = self.paths[index].first() {
                let room = Room { path: root.clone(), bytes: size / 4, files: 0 };
                needs.push((room, format!("a rollback of `{}`", resource.name)));
            }
        }
        let itinerary = state.itinerary();
        if itinerary.purpose == Purpose::Upgrade {
            needs.extend(self.rooms_of_steps()?);
        }
        // A log for each task, and some archives in folders of their own.
        let tasks = itinerary.forward.len() + itinerary.backward.len();
        let files = tasks as u64 + 16 + 2 * (store >> 28);
        needs.push((Room { path: self.ground.dir.to_path_buf(), bytes: store + aside, files }, SNAPSHOT.to_owned()));
        let room = enough(&needs, self.ground.dir)?;
        Ok(Output {
            bytes: Some(store),
            note: format!("{} needed for the snapshot, {} free", bytes(store + aside), bytes(room)),
            ..Output::default()
        })
    }

    fn rooms_of_steps(&self) -> Result<Vec<(Room, String)>> {
        let log = Log::transient()?;
        let stop = Stop::never();
        let mut needs = Vec::new();
        for step in &self.bound.steps {
            let cx = self.context(&self.before(None), &step.name, step.line.as_deref(), &log, &stop);
            let rooms = step.kind.room(&cx)?;
            needs.extend(rooms.into_iter().map(|room| (room, format!("the step `{}`", step.name))));
        }
        Ok(needs)
    }

    /// How many bytes a capture will add: all of it the first time (it is compressed, so this is cautious), a part
    /// of it when there is a snapshot already.
    pub(super) fn forecast(&self, resource: &Instance<dyn Resource>, size: u64) -> u64 {
        if self.bases.contains_key(&resource.name) { size / 4 } else { size }
    }

    /// Restores a resource where there is no room to build beside what it replaces: what the upgrade wrote goes first.
    pub(super) fn restore_without_room(
        &self,
        resource: &Instance<dyn Resource>,
        manifest: ObjectId,
        cx: &Context<'_>,
        state: &State,
    ) -> Result<Changes> {
        // Whatever goes now has to come back from the store.
        cx.store.prove(&[manifest], &|done, total| cx.monitor.progress(&cx.subject, done, total))?;
        let root = self.claims_of(resource)?.into_iter().find_map(|claim| match claim {
            Claim::Path(path) => Some(path),
            Claim::Thing(_) => None,
        });
        if let Some(root) = &root {
            self.make_room(state, root)?;
        }
        let mut cx = cx.with_scope(cx.scope.clone());
        cx.replaced = Replaced::GoesFirst;
        resource.kind.restore(&cx, manifest).map_err(|error| match root {
            Some(root) if error.is_no_room() => {
                error.hint(format!("make room on the filesystem of `{}`", root.display()))
            }
            _ => error,
        })
    }

    /// Removes what the upgrade wrote and the way back has already put aside, on the filesystem of `root`: all that has
    /// to come back is in the store, and was read and checked.
    fn make_room(&self, state: &State, root: &Path) -> Result<()> {
        let log = Log::transient()?;
        let stop = Stop::never();
        let mut spent = Vec::new();
        for step in &self.bound.steps {
            let undone = TaskId::new(Action::Undo, &step.name);
            if state.output(&undone).is_some() {
                let cx = self.context(&self.before(None), &step.name, step.line.as_deref(), &log, &stop);
                spent.extend(step.kind.spent(&cx)?);
            }
        }
        for resource in &self.bound.resources {
            let cx = self.context(&self.before(None), &resource.name, resource.line.as_deref(), &log, &stop);
            spent.extend(resource.kind.leftovers(&cx)?);
        }
        let device = mounts::device(root)?;
        spent.retain(|path| path.symlink_metadata().is_ok() && mounts::device(path).is_ok_and(|of| of == device));
        spent.iter().try_for_each(|path| files::remove_beside(path))
    }
}

/// Refuses when needs on one filesystem add up to more than it has. Returns what is free on that of the state directory.
fn enough(needs: &[(Room, String)], dir: &Path) -> Result<u64> {
    struct Total<'n> {
        device: u64,
        bytes: u64,
        files: u64,
        whats: Vec<&'n str>,
        path: &'n Path,
    }
    let mut totals: Vec<Total<'_>> = Vec::new();
    for (Room { path, bytes, files }, what) in needs {
        let device = mounts::device(path)?;
        match totals.iter_mut().find(|total| total.device == device) {
            Some(total) => {
                total.bytes += bytes;
                total.files += files;
                total.whats.push(what);
            }
            None => totals.push(Total { device, bytes: *bytes, files: *files, whats: vec![what], path }),
        }
    }
    for Total { device, bytes: need, files, whats, path } in totals {
        let (free, inodes) = (mounts::free(path)?, mounts::free_inodes(path)?);
        let need = if need > 0 { need + margin(path)? } else { 0 };
        let (needed, are_free) = match inodes {
            _ if need > free => (bytes(need), bytes(free)),
            Some(inodes) if files > inodes => (format!("{files} inodes"), inodes.to_string()),
            _ => continue,
        };
        let mut error = Error::new(format!("there is not enough room for `{}`", path.display()))
            .because(format!("{needed} may be needed for {}, and {are_free} are free", whats.join(", ")))
            .hint(format!("make room on the filesystem of `{}`", path.display()));
        if mounts::device(dir)? == device {
            error = error.hint("or put the state directory on a larger one with --state-dir");
        }
        return Err(error);
    }
    mounts::free(dir)
}

/// What has to stay free beside what is forecast: for the journal, logs, and what others write meanwhile.
fn margin(path: &Path) -> Result<u64> {
    const MOST: u64 = 16 << 20;
    Ok(MOST.min(mounts::size(path)? / 16))
}

/// What the room in the state directory is for.
const SNAPSHOT: &str = "the snapshot";
