//! `kind = "path"`: a file or directory, with everything below it.
//!
//! The work is the store's ([`crate::store::Tree`]); here the plan's words become a tree. Promises: a path that does not
//! exist is captured as absent, and restored to that.

use std::path::{Path, PathBuf};

use super::{Captured, Changes, Claim, Estimate, Kind, Resource};
use crate::context::{Context, Direction};
use crate::error::{Error, Fault, OrSay, Result};
use crate::plan::{Fields, Scope, Template};
use crate::store::{Head, ObjectId, Tree, side_paths};
use crate::sys::clock;

/// `kind = "path"`.
pub(super) const KIND: Kind = Kind { name: "path", read };

fn read(fields: &mut Fields) -> Box<dyn Resource> {
    Box::new(PathResource {
        path: fields.need_template("path"),
        exclude: fields.templates("exclude"),
        secret: fields.templates("secret"),
    })
}

/// A file or directory.
#[derive(Debug)]
struct PathResource {
    path: Template,
    exclude: Vec<Template>,
    secret: Vec<Template>,
}

impl PathResource {
    fn path(&self, scope: &Scope) -> Result<PathBuf> {
        let path = self.path.path(scope)?;
        if !path.is_absolute() {
            return Err(Error::new(format!("`{}` is not an absolute path", path.display())));
        }
        // `/opt/notes/` and `/opt/./notes` are `/opt/notes`; `..` would have to be looked up.
        let plain: PathBuf = path.components().collect();
        if plain.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(
                Error::new(format!("the path `{}` has `..` in it", path.display())).hint("write the path without `..`")
            );
        }
        Ok(plain)
    }

    fn tree(&self, cx: &Context<'_>) -> Result<Tree> {
        let texts = |list: &[Template]| list.iter().map(|text| text.expand(&cx.scope)).collect::<Result<Vec<_>>>();
        Ok(Tree {
            path: self.path(&cx.scope)?,
            exclude: texts(&self.exclude)?,
            left_out: cx.left_out.clone(),
            secret: texts(&self.secret)?,
        })
    }
}

impl Resource for PathResource {
    fn claims(&self, cx: &Context<'_>) -> Result<Vec<Claim>> {
        let path = self.path(&cx.scope)?;
        Ok(vec![Claim::Path(resolved(&path))])
    }

    fn probe(&self, cx: &Context<'_>) -> Result<Estimate> {
        let tree = self.tree(cx)?;
        let parent = tree.path.parent().or_say(|| "`/` cannot be captured or restored as a whole")?;
        if !parent.is_dir() {
            return Err(Error::new(format!("`{}` cannot be a resource", tree.path.display()))
                .because(format!("`{}` is not a directory", parent.display()))
                .hint(format!("`mkdir -p {}` if it is to be made by the upgrade", parent.display())));
        }
        let (bytes, items, warnings) = tree.measure()?;
        Ok(Estimate { bytes, items, warnings })
    }

    fn capture(&self, cx: &Context<'_>, base: Option<ObjectId>) -> Result<Captured> {
        let tree = self.tree(cx)?;
        let head = Head {
            tx: cx.tx.clone(),
            resource: cx.subject.clone(),
            kind: KIND.name.into(),
            place: tree.path.display().to_string(),
            version: cx.version.clone(),
            at: clock::now(),
            facts: serde_json::Value::Null,
        };
        cx.store.capture_tree(head, &tree, base, &|read| {
            cx.monitor.progress(&cx.subject, read, 0);
            match cx.stop.signal() {
                // On the way back a signal is only noted.
                Some(signal) if cx.direction == Direction::Forward => {
                    Err(Error::new(format!("the capture of `{}` was interrupted", tree.path.display()))
                        .fault(Fault::Signal(signal)))
                }
                _ => Ok(()),
            }
        })
    }

    fn diff(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        cx.store.diff_tree(manifest, &self.tree(cx)?)
    }

    fn precaptures(&self) -> bool {
        true
    }

    fn carry(&self, cx: &Context<'_>, manifest: ObjectId, part: Option<&Path>) -> Result<()> {
        let tree = self.tree(cx)?;
        let tell = |done, total| cx.monitor.progress(&cx.subject, done, total);
        match part {
            None => cx.store.restore_tree(manifest, &tree, &cx.tx, &tell),
            Some(part) => cx.store.restore_part(manifest, &tree, part, &cx.tx, &tell),
        }
        .map(drop)
    }

    fn leftovers(&self, cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        Ok(side_paths(&cx.tx, &self.path(&cx.scope)?))
    }

    fn restore(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let tree = self.tree(cx)?;
        cx.store.restore_tree(manifest, &tree, &cx.tx, &|done, total| cx.monitor.progress(&cx.subject, done, total))
    }
}

/// The path with the symlinks of its parents resolved, as far as they exist.
fn resolved(path: &Path) -> PathBuf {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return path.to_owned() };
    match parent.canonicalize() {
        Ok(parent) => parent.join(name),
        Err(_) => resolved(parent).join(name),
    }
}
