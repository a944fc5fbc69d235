//! `run`: begin, apply, commit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::exit::Asked;
use super::ui::{Loudness, Ui};
use super::{Answer, Cx, exit, json, report, words};
use crate::error::Result;
use crate::ops::{self, Accept, BeginRequest, Place, Standing, Wait};
use crate::tx::{Goal, Outcome};

/// Begin, apply, commit; roll back by itself when anything fails
///
/// Asks the requirements, stops what writes, captures and proves every resource, runs the steps, starts everything
/// again, asks the checks, and commits. When anything fails on the way, everything is put back and rechecked.
/// Several plans are the required stops of one path: a transaction each, in order, up to the first that does not
/// commit.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[
        exit::DONE, exit::FAILED, exit::USAGE, exit::ROLLED_BACK, exit::UNSOUND, exit::STUCK, exit::OVERLAP,
        exit::LOCKED, exit::WAITING, exit::INTERRUPTED, exit::TERMINATED,
    ],
    &["txupgrade run notes.toml", "txupgrade run notes-1.9.toml notes-2.0.toml --accept all"],
))]
pub(super) struct Run {
    /// The plans' files
    #[arg(required = true, value_name = "PLAN")]
    pub(super) plans: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) set: Set,
    #[command(flatten)]
    pub(super) accept: Accepted,
    #[command(flatten)]
    pub(super) wait: Waiting,
}

/// `--set`
#[derive(Debug, Default, Args)]
pub(super) struct Set {
    /// Override a variable of the plan
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

impl Set {
    pub(super) fn values(&self) -> BTreeMap<String, String> {
        self.set.iter().cloned().collect()
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("this is not KEY=VALUE".to_owned()),
    }
}

/// `--accept`
#[derive(Debug, Default, Args)]
pub(super) struct Accepted {
    /// Accept a notice of the plan, or `all`; asked on a terminal when not given
    #[arg(long = "accept", value_name = "NAME")]
    accept: Vec<String>,
}

impl Accepted {
    /// What is accepted; on a terminal, what is not named is asked.
    pub(super) fn by(&self, ui: &Ui) -> Accept {
        if self.accept.iter().any(|name| name == "all") {
            return Accept::All;
        }
        if !ui.can_ask() {
            return Accept::Names(self.accept.clone());
        }
        let (named, ui) = (self.accept.clone(), ui.clone());
        Accept::Ask(Box::new(move |name, text| {
            named.iter().any(|accepted| accepted == name) || {
                let text = text.lines().map(words::clean).collect::<Vec<_>>().join("\n  ");
                ui.say(&format!("notice {}: {text}\n", words::clean(name)));
                ui.ask("Accept it?")
            }
        }))
    }
}

/// `--wait`
#[derive(Debug, Default, Args)]
pub(super) struct Waiting {
    /// Where the plan asks for a confirmation, block until it is confirmed or taken back
    #[arg(long)]
    wait: bool,
}

impl Waiting {
    pub(super) fn wait(&self) -> Wait {
        if self.wait { Wait::UntilSettled } else { Wait::No }
    }
}

impl Run {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let mut path = Path { cx, standings: Vec::new() };
        for (index, plan) in self.plans.iter().enumerate() {
            let request = BeginRequest {
                plan: plan.clone(),
                set: self.set.values(),
                accept: self.accept.by(&cx.ui),
                goal: Goal::Committed,
                wait: self.wait.wait(),
            };
            let left = &self.plans[index + 1..];
            match ops::run(&cx.acting(), request) {
                Ok(standing) if self.plans.len() == 1 => return Ok(cx.stands(Asked::Commit, &standing, Some(plan))),
                Ok(standing) => {
                    let exit = exit::of(Asked::Commit, &standing, cx.signal());
                    path.said(&cx.says(&standing, Some(plan), exit), exit);
                    let committed = matches!(standing.place, Place::Ended { outcome: Outcome::Committed, .. });
                    path.standings.push(standing);
                    if !committed {
                        return Ok(path.answer(left, exit));
                    }
                }
                Err(error) if path.standings.is_empty() => return Err(error),
                Err(error) => {
                    let exit = exit::of_error(&error);
                    path.said(&report::error(&error, cx.ui.err), exit);
                    let mut answer = path.answer(&self.plans[index..], exit);
                    answer.json["error"] = json::failure(&error);
                    return Ok(answer);
                }
            }
        }
        Ok(path.answer(&[], exit::DONE))
    }
}

/// A path of several plans, as far as it was walked.
struct Path<'a> {
    cx: &'a Cx,
    standings: Vec<Standing>,
}

impl Path<'_> {
    /// Said at once, not at the end: the next transaction may take long.
    fn said(&self, text: &str, exit: u8) {
        if self.cx.ui.loudness != Loudness::Quiet || exit != exit::DONE {
            self.cx.ui.say(text);
        }
    }

    fn answer(&self, left: &[PathBuf], exit: u8) -> Answer {
        let standings: Vec<_> = self.standings.iter().map(json::stands).collect();
        let left: Vec<String> = left.iter().map(|plan| plan.to_string_lossy().into_owned()).collect();
        let json = json::object("standings", exit, json!({ "standings": standings, "not_run": left, "error": null }));
        Answer { json, data: String::new(), talk: where_the_path_stands(&self.standings, &left), exit }
    }
}

/// How far a path of several plans has come.
pub(super) fn where_the_path_stands(standings: &[Standing], left: &[String]) -> String {
    let committed = |standing: &&Standing| matches!(standing.place, Place::Ended { outcome: Outcome::Committed, .. });
    let done: Vec<String> = standings.iter().filter(committed).map(|standing| standing.tx.to_string()).collect();
    let at = standings.iter().rfind(committed).and_then(|standing| standing.to.clone().or(standing.from.clone()));
    let at = at.map_or_else(String::new, |version| format!(", at {}", words::clean(&version)));
    let done = match done.as_slice() {
        [] => "none of the plans is committed".to_owned(),
        [one] => format!("{one} is committed{at}"),
        many => format!("{} are committed{at}", words::list(many)),
    };
    if left.is_empty() && standings.iter().all(|standing| committed(&standing)) {
        return format!("the path is done: {done}\n");
    }
    let left: Vec<String> = left.iter().map(|plan| format!("`{}`", words::clean(plan))).collect();
    let left = if left.is_empty() { String::new() } else { format!("; not run: {}", left.join(", ")) };
    format!("the path stops here: {done}{left}\n")
}
