//! `kind = "command"`: a program dumps the content to its stdout, another loads it from its stdin.
//!
//! Relies on the plan's programs: the dump is complete when its exit status says so, the load replaces what is there.
//! Promises: any bytes, any size, streamed through a pipe; the two ends of the pipe both have to succeed. Whether
//! something has changed is asked of `fingerprint`, a program that prints the same text for the same content; without
//! one, of another dump, which must then be the same byte for byte for the same content. That it is so is proved
//! before the first step, not found out on the way back.

use std::io;

use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};

use super::{Captured, Change, Changes, Claim, Estimate, Kind, Resource, What, pipe};
use crate::context::{Context, Direction, default_timeout, run};
use crate::error::{Error, OrSay, Result};
use crate::plan::{Command, Fields, Program};
use crate::store::{Head, ObjectId};
use crate::sys::clock;

/// Keys: `dump`, `load`, `fingerprint` (commands).
pub(super) const KIND: Kind = Kind { name: "command", read };

fn read(fields: &mut Fields) -> Box<dyn Resource> {
    let mut need = |key: &str| {
        if !fields.has(key) {
            fields.missing(key);
        }
        fields.command(key)
    };
    let (dump, load) = (need("dump"), need("load"));
    let fingerprint = fields.command("fingerprint");
    Box::new(Programs { dump, load, fingerprint })
}

struct Programs {
    /// `None` only in a plan that has mistakes.
    dump: Option<Command>,
    load: Option<Command>,
    fingerprint: Option<Command>,
}

/// What a manifest remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Facts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
}

impl Resource for Programs {
    fn claims(&self, cx: &Context<'_>) -> Result<Vec<Claim>> {
        Ok(vec![Claim::Thing(format!("command {}", run::shown(self.load()?, &cx.scope)))])
    }

    /// What a dump will be nobody knows before; as large as the last one is the best guess.
    fn probe(&self, cx: &Context<'_>, base: Option<ObjectId>) -> Result<Estimate> {
        for command in [Some(self.dump()?), Some(self.load()?), self.fingerprint.as_ref()].into_iter().flatten() {
            can_be_found(command, cx)?;
        }
        let (bytes, items) = base.and_then(|base| cx.store.size_of(base).ok()).unwrap_or_default();
        let half =
            [("dump", self.dump()?), ("load", self.load()?)].into_iter().filter(|(_, command)| hides_failures(command));
        let warnings = half.map(|(key, _)| {
            format!(
                "`{}`: of the pipe in `{key}` only the last program's exit status counts: what fails before it goes unseen",
                cx.subject
            )
        });
        Ok(Estimate { bytes, items, warnings: warnings.collect() })
    }

    fn capture(&self, cx: &Context<'_>, _base: Option<ObjectId>) -> Result<Captured> {
        let facts = Facts { fingerprint: self.fingerprint(cx)? };
        let head = Head {
            tx: cx.tx.clone(),
            resource: cx.subject.clone(),
            kind: KIND.name.to_owned(),
            place: run::shown(self.dump()?, &cx.scope),
            version: cx.version.clone(),
            at: clock::now(),
            facts: serde_json::to_value(facts).or_say(|| "cannot write down the fingerprint")?,
        };
        let mut captured = pipe::dump(cx, self.dump()?, |source| cx.store.capture_stream(head, source))?;
        if captured.bytes == 0 {
            captured.warnings.push(format!("the dump of `{}` is empty", cx.subject));
        }
        Ok(captured)
    }

    /// Loading it is for the program alone to do, and it knows only one place; what can be proved is that asking
    /// again gives the same answer, without which no restore could ever be proved.
    fn prove(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Option<String>> {
        if cx.direction == Direction::Backward {
            return Ok(None);
        }
        let changes = self.diff(cx, manifest)?;
        let Some(change) = changes.items.first() else {
            return Ok(Some(match self.fingerprint {
                Some(_) => "its fingerprint is stable".to_owned(),
                None => "two dumps are the same".to_owned(),
            }));
        };
        Err(match self.fingerprint {
            Some(_) => Error::new(format!("the fingerprint of `{}` changes though nothing was done", cx.subject))
                .because(change.details.join("; "))
                .hint("something still writes to it, or `fingerprint` prints more than the content"),
            None => Error::new(format!("two dumps of `{}` differ though nothing was done", cx.subject))
                .hint("give a `fingerprint`: a program that prints the same for the same content"),
        })
    }

    fn loads(&self) -> bool {
        false
    }

    fn diff(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let facts: Facts = serde_json::from_value(cx.store.head(manifest)?.facts)
            .or_say(|| format!("the manifest of `{}` is not that of a dump", cx.subject))?;
        let details = match (&facts.fingerprint, self.fingerprint(cx)?) {
            (Some(was), Some(is)) if *was == is => return Ok(Changes::default()),
            (Some(was), Some(is)) => lines_that_differ(was, &is),
            _ => {
                let (mut was, mut is) = (blake3::Hasher::new(), blake3::Hasher::new());
                let had = cx.store.restore_stream(manifest, &mut was)?;
                let has =
                    pipe::dump(cx, self.dump()?, |source| io::copy(source, &mut is).or_say(|| "cannot read the dump"))?;
                if was.finalize() == is.finalize() {
                    return Ok(Changes::default());
                }
                vec![if had == has { "content".to_owned() } else { format!("{had} -> {has} bytes") }]
            }
        };
        Ok(Changes { items: vec![Change { what: What::Changed, name: cx.subject.clone(), details, secret: false }] })
    }

    fn restore(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let changes = self.diff(cx, manifest)?;
        if changes.is_empty() {
            return Ok(changes);
        }
        pipe::load(cx, self.load()?, |sink| cx.store.restore_stream(manifest, sink))?;
        match self.diff(cx, manifest)?.items.first() {
            None => Ok(changes),
            Some(left) => Err(Error::new(format!("`{}` was loaded and still differs", cx.subject))
                .because(left.details.join("; "))
                .because(format!("the program was: {}", run::shown(self.load()?, &cx.scope)))),
        }
    }
}

impl Programs {
    fn dump(&self) -> Result<&Command> {
        self.dump.as_ref().or_say(|| "the key `dump` is missing")
    }

    fn load(&self) -> Result<&Command> {
        self.load.as_ref().or_say(|| "the key `load` is missing")
    }

    fn fingerprint(&self, cx: &Context<'_>) -> Result<Option<String>> {
        match &self.fingerprint {
            Some(command) => Ok(Some(run::command(cx, command, default_timeout::STEP)?.text)),
            None => Ok(None),
        }
    }
}

/// Whether the program of a command is there, as far as that can be told without running it.
fn can_be_found(command: &Command, cx: &Context<'_>) -> Result<()> {
    let Program::Run(words) = &command.program else { return Ok(()) };
    let Some(program) = words.first() else { return Ok(()) };
    let program = program.expand(&cx.scope)?;
    match program.starts_with('/') && !std::path::Path::new(&program).exists() {
        true => Err(Error::new(format!("the program `{program}` does not exist"))),
        false => Ok(()),
    }
}

/// Whether it is a line of shell with a pipe, of which a plain shell only tells how the last program ended: half a dump
/// would be taken for a whole one.
fn hides_failures(command: &Command) -> bool {
    match &command.program {
        Program::Shell(text) => text.replace("||", "").contains('|') && !text.contains("pipefail"),
        Program::Run(_) => false,
    }
}

/// The lines of a fingerprint that came and went, a dozen of them.
fn lines_that_differ(was: &str, is: &str) -> Vec<String> {
    const MOST: usize = 12;
    let diff = TextDiff::from_lines(was, is);
    let mut lines: Vec<String> = diff
        .iter_all_changes()
        .filter_map(|change| match change.tag() {
            ChangeTag::Delete => Some(format!("-{}", change.value().trim_end())),
            ChangeTag::Insert => Some(format!("+{}", change.value().trim_end())),
            ChangeTag::Equal => None,
        })
        .collect();
    if lines.len() > MOST {
        let more = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("and {more} more lines"));
    }
    lines
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
