//! `kind = "sql"`: a script runs on a database of the plan, in one transaction where the database can.

use std::path::{Path, PathBuf};

use super::{Kind, Step};
use crate::context::Context;
use crate::error::{OrSay, Result};
use crate::plan::{Fields, List, Scope, Template};
use crate::sys::files;
use crate::tx::Output;

/// Keys: `resource`, and `file` (relative to the plan) or `query`.
pub(super) const KIND: Kind = Kind { name: "sql", read };

fn read(fields: &mut Fields) -> Box<dyn Step> {
    let resource = fields.reference(List::Resource, "resource");
    if resource.is_none() && !fields.has("resource") {
        fields.missing("resource");
    }
    let file = fields.template("file");
    let query = fields.template("query");
    match (fields.has("file"), fields.has("query")) {
        (true, true) => fields.wrong("query", "`file` and `query` exclude each other", None),
        (false, false) => fields.wrong("query", "the script is missing", Some("query = \"…\", or file = \"…\"")),
        _ => {}
    }
    let script = match (file, query) {
        (Some(file), _) => Script::File(file),
        (None, query) => Script::Query(query.unwrap_or_else(|| Template::literal(""))),
    };
    Box::new(Sql { resource: resource.unwrap_or_default(), script })
}

struct Sql {
    resource: String,
    script: Script,
}

enum Script {
    File(Template),
    Query(Template),
}

impl Sql {
    fn resource(&self, cx: &Context<'_>) -> Result<String> {
        Ok(cx.references(std::slice::from_ref(&self.resource))?.remove(0))
    }

    fn script(&self, cx: &Context<'_>) -> Result<String> {
        match &self.script {
            Script::File(file) => {
                let path = file.path(&cx.scope)?;
                trusted(&path)?;
                std::fs::read_to_string(&path).or_say(|| format!("cannot read the script `{}`", path.display()))
            }
            Script::Query(query) => query.expand(&cx.scope),
        }
    }
}

impl Step for Sql {
    fn describe(&self, scope: &Scope) -> String {
        match &self.script {
            Script::File(file) => {
                format!("run {} on {}", file.path(scope).unwrap_or_else(|_| PathBuf::new()).display(), self.resource)
            }
            Script::Query(query) => {
                let line = query.expand(scope).unwrap_or_default();
                let line: Vec<&str> = line.split_whitespace().collect();
                format!("run `{}` on {}", line.join(" ").chars().take(80).collect::<String>(), self.resource)
            }
        }
    }

    fn require(&self, cx: &Context<'_>) -> Result<Output> {
        self.script(cx)?;
        cx.peers.resources(&self.resource(cx)?)?;
        Ok(Output::default())
    }

    fn run(&self, cx: &Context<'_>) -> Result<Output> {
        let script = self.script(cx)?;
        let resources = cx.peers.resources(&self.resource(cx)?)?;
        let mut names = Vec::new();
        for (name, scope, resource) in resources {
            cx.go_on()?;
            let mut cx = cx.with_scope(scope);
            cx.subject.clone_from(&name);
            resource.execute(&cx, &script).map_err(|error| error.within(format!("the script failed on `{name}`")))?;
            names.push(name);
        }
        Ok(Output { note: format!("on {}", names.join(", ")), ..Output::default() })
    }
}

/// Root carries out no script that others may write.
fn trusted(path: &Path) -> Result<()> {
    match rustix::process::geteuid().is_root() {
        true => files::only_owner_writes(path),
        false => Ok(()),
    }
}
