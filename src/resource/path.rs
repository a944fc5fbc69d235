//! `kind = "path"`: a file or directory, with everything below it.
//!
//! The work is the store's ([`crate::store::Tree`]); here the plan's words become a tree. Promises: a path that does not
//! exist is captured as absent, and restored to that.

use std::path::{Path, PathBuf};

use super::{Captured, Changes, Claim, Estimate, Kind, Resource};
use crate::context::{Context, Direction};
use crate::error::{Error, Fault, OrSay, Result};
use crate::plan::{Fields, Template};
use crate::store::{Head, ObjectId, Tree, resolved, side_paths};
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
    fn tree(&self, cx: &Context<'_>) -> Result<Tree> {
        let texts = |list: &[Template]| list.iter().map(|text| text.expand(&cx.scope)).collect::<Result<Vec<_>>>();
        Ok(Tree {
            path: self.path.path(&cx.scope)?,
            exclude: texts(&self.exclude)?,
            left_out: cx.left_out.clone(),
            homes: cx.homes.clone(),
            secret: texts(&self.secret)?,
            stamps: cx.stamps,
            replaced: cx.replaced,
        })
    }
}

impl Resource for PathResource {
    fn claims(&self, cx: &Context<'_>) -> Result<Vec<Claim>> {
        let path = self.path.path(&cx.scope)?;
        Ok(vec![Claim::Path(resolved(&path))])
    }

    fn probe(&self, cx: &Context<'_>, base: Option<ObjectId>) -> Result<Estimate> {
        let tree = self.tree(cx)?;
        let parent = tree.path.parent().or_say(|| "`/` cannot be captured or restored as a whole")?;
        if !parent.is_dir() {
            return Err(Error::new(format!("`{}` cannot be a resource", tree.path.display()))
                .because(format!("`{}` is not a directory", parent.display()))
                .hint(format!("`mkdir -p {}` if it is to be made by the upgrade", parent.display())));
        }
        if let Some(base) = base
            && tree.path.symlink_metadata().is_ok()
            && let Ok((bytes, items)) = cx.store.size_of(base)
        {
            return Ok(Estimate { bytes, items, warnings: Vec::new() });
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

    fn foresee(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Option<u64>> {
        let tell = |done, total| cx.monitor.progress(&cx.subject, done, total);
        cx.store.foresee_tree(manifest, &self.tree(cx)?, &tell).map(Some)
    }

    fn excluded(&self, cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        let tree = self.tree(cx)?;
        let root = resolved(&tree.path);
        Ok(tree.excluded()?.into_iter().map(|path| root.join(path)).collect())
    }

    fn loads(&self) -> bool {
        false
    }

    fn fills_the_machine(&self) -> bool {
        true
    }

    fn precaptures(&self) -> bool {
        true
    }

    fn is_files(&self) -> bool {
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
        Ok(side_paths(&cx.tx, &self.path.path(&cx.scope)?))
    }

    fn restore(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let tree = self.tree(cx)?;
        cx.store.restore_tree(manifest, &tree, &cx.tx, &|done, total| cx.monitor.progress(&cx.subject, done, total))
    }

    /// File by file.
    fn salvage(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let tree = self.tree(cx)?;
        cx.store.salvage_tree(manifest, &tree, &cx.tx, &|done, total| cx.monitor.progress(&cx.subject, done, total))
    }
}

#[cfg(test)]
mod tests {
    use super::super::What;
    use super::*;
    use crate::context_fixture::Fixture;

    const KEYS: &str = r#"kind = "path"
path = "${dir}/app/"
exclude = ["cache/"]
secret = "*.key""#;

    #[test]
    fn mutated_restored_and_swept() {
        let f = Fixture::new();
        let (it, cx) = (f.resource(KEYS), f.context("code"));
        f.write("app/a", "old");
        f.write("app/a.key", "old");
        f.write("app/cache/x", "old");
        assert_eq!(it.claims(&cx).unwrap(), [Claim::Path(f.place().canonicalize().unwrap().join("app"))]);
        let estimate = it.probe(&cx, None).unwrap();
        assert_eq!((estimate.bytes, estimate.items, estimate.warnings.len()), (6, 3, 0));
        let captured = it.capture(&cx, None).unwrap();
        assert_eq!(f.store.head(captured.manifest).unwrap().place, f.path("app").display().to_string());
        f.write("app/a", "new!");
        f.write("app/a.key", "new!");
        f.write("app/cache/x", "new!");
        let changes = it.diff(&cx, captured.manifest).unwrap();
        let told: Vec<_> = changes.items.iter().map(|c| (c.what, c.name.as_str(), c.secret)).collect();
        assert_eq!(told, [(What::Changed, "a", false), (What::Changed, "a.key", true)]);
        assert_eq!(it.restore(&cx, captured.manifest).unwrap(), changes);
        assert_eq!(it.diff(&cx, captured.manifest).unwrap(), Changes::default());
        assert_eq!(std::fs::read_to_string(f.path("app/cache/x")).unwrap(), "new!");
        let left: Vec<_> = it.leftovers(&cx).unwrap().into_iter().filter(|path| path.exists()).collect();
        assert_eq!(left, [f.place().canonicalize().unwrap().join(".txupgrade-t-1-aside")]);
        left.iter().for_each(|path| crate::sys::files::remove_beside(path).unwrap());
        assert_eq!(it.diff(&cx, captured.manifest).unwrap(), Changes::default());
    }

    #[test]
    fn what_cannot_be_a_resource_is_said() {
        let f = Fixture::new();
        let said = |path: &str| {
            let it = f.resource(&format!("kind = \"path\"\npath = \"{path}\""));
            it.probe(&f.context("code"), None).unwrap_err().to_string().replace(&f.place().display().to_string(), "DIR")
        };
        f.write("file", "x");
        assert_eq!(said("${dir}/no/app"), "`DIR/no/app` cannot be a resource: `DIR/no` is not a directory");
        assert_eq!(said("${dir}/file/app"), "`DIR/file/app` cannot be a resource: `DIR/file` is not a directory");
        assert_eq!(said("/"), "`/` cannot be captured or restored as a whole");
    }

    #[test]
    fn what_is_not_there_is_no_mistake() {
        let f = Fixture::new();
        let (it, cx) = (f.resource(KEYS), f.context("code"));
        let estimate = it.probe(&cx, None).unwrap();
        assert_eq!((estimate.bytes, estimate.items), (0, 0));
        let captured = it.capture(&cx, None).unwrap();
        f.write("app/a", "new");
        it.restore(&cx, captured.manifest).unwrap();
        assert!(!f.path("app").exists());
    }
}
