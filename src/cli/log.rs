//! `log`: the kept output of a transaction's programs.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use clap::Args;
use serde_json::json;

use super::apply::tx;
use super::{Answer, Cx, exit, json};
use crate::error::{Error, Fault, OrSay, Result};
use crate::name::TxId;
use crate::ops::{self, Listener, LogFile};

/// With `--json` no more than this is shown of a log: its end.
const SHOWN: u64 = 1 << 20;

/// Show the kept output of a transaction's programs
///
/// `log migrate` shows that task of the open transaction, or of the last one. With `--follow` it goes on until the
/// transaction no longer runs, also when the terminal that started it is gone.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE, exit::DAMAGE],
    &["txupgrade log", "txupgrade log notes-3 migrate", "txupgrade log --follow"],
))]
pub(super) struct Log {
    /// The transaction, such as notes-3 [default: the open one, else the last]
    tx: Option<String>,
    /// The task: its name, or as in `apply migrate`
    task: Option<String>,
    /// Go on until the transaction no longer runs
    #[arg(long, short)]
    follow: bool,
}

impl Log {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let (named, task) = meant(self.tx.as_deref(), self.task.as_deref(), &ops::look::all(&cx.looking())?)?;
        if self.follow {
            if cx.json {
                return Err(Error::new("`--follow` and `--json` do not go together").fault(Fault::Usage));
            }
            return follow(cx, named.as_ref(), task);
        }
        let logs = ops::log(&cx.looking(), named.as_ref(), task)?;
        if cx.json {
            return json_answer(&logs);
        }
        for (index, file) in logs.files.iter().enumerate() {
            if logs.files.len() > 1 {
                cx.ui.data(heading(&file.task, index > 0).as_bytes());
            }
            copy(cx, file)?;
        }
        let talk = if logs.files.is_empty() {
            format!("no program of {} has said anything\n", logs.tx)
        } else {
            String::new()
        };
        Ok(Answer { json: json!(null), data: String::new(), talk, exit: exit::DONE })
    }
}

/// What the two words mean: one word alone that is no transaction is a task.
fn meant<'a>(first: Option<&'a str>, second: Option<&'a str>, all: &[TxId]) -> Result<(Option<TxId>, Option<&'a str>)> {
    let Some(first) = first else { return Ok((None, None)) };
    match (tx(first), second) {
        // A task may read like a transaction (`copy-2`): it is one only if there is no such transaction.
        (Ok(tx), None) if all.contains(&tx) || all.iter().any(|other| other.plan == tx.plan) => Ok((Some(tx), None)),
        (_, None) => Ok((None, Some(first))),
        (Ok(tx), Some(task)) => Ok((Some(tx), Some(task))),
        (Err(why), Some(_)) => Err(Error::new(why).fault(Fault::Usage)),
    }
}

fn heading(task: &str, again: bool) -> String {
    format!("{}==> {task} <==\n", if again { "\n" } else { "" })
}

fn copy(cx: &Cx, log: &LogFile) -> Result<()> {
    let said = || format!("cannot read `{}`", log.path.display());
    let mut file = File::open(&log.path).or_say(said)?.take(log.shown);
    let mut chunk = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut chunk).or_say(said)?;
        if count == 0 || cx.ui.nobody_reads() {
            return Ok(());
        }
        cx.ui.data(&chunk[..count]);
    }
}

fn follow(cx: &Cx, named: Option<&TxId>, task: Option<&str>) -> Result<Answer> {
    let mut last = String::new();
    ops::follow(&cx.looking(), named, task, &mut |task, bytes| {
        if last != task {
            cx.ui.data(heading(task, !last.is_empty()).as_bytes());
            task.clone_into(&mut last);
        }
        cx.ui.data(bytes);
        if cx.ui.nobody_reads() { Listener::Gone } else { Listener::There }
    })?;
    Ok(Answer { json: json!(null), data: String::new(), talk: String::new(), exit: exit::DONE })
}

pub(super) fn json_answer(logs: &ops::Logs) -> Result<Answer> {
    let mut files = Vec::new();
    for file in &logs.files {
        let (text, bytes) = end_of(file)?;
        files.push(json!({
            "task": file.task, "path": file.path.to_string_lossy(), "bytes": bytes, "cut": bytes > SHOWN, "text": text,
        }));
    }
    let json = json::object("log", exit::DONE, json!({ "tx": logs.tx, "logs": files }));
    Ok(Answer { json, data: String::new(), talk: String::new(), exit: exit::DONE })
}

fn end_of(log: &LogFile) -> Result<(String, u64)> {
    let said = || format!("cannot read `{}`", log.path.display());
    let mut file = File::open(&log.path).or_say(said)?;
    let bytes = log.shown;
    file.seek(SeekFrom::Start(bytes.saturating_sub(SHOWN))).or_say(said)?;
    let mut end = Vec::new();
    file.take(SHOWN.min(bytes)).read_to_end(&mut end).or_say(said)?;
    Ok((String::from_utf8_lossy(&end).into_owned(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_task_unless_it_is_a_transaction() {
        let all: Vec<TxId> = vec!["notes-1".parse().unwrap()];
        let tx = |text: &str| Some(text.parse::<TxId>().unwrap());
        assert_eq!(meant(None, None, &all).unwrap(), (None, None));
        assert_eq!(meant(Some("notes-1"), None, &all).unwrap(), (tx("notes-1"), None));
        assert_eq!(meant(Some("notes-7"), None, &all).unwrap(), (tx("notes-7"), None));
        assert_eq!(meant(Some("migrate"), None, &all).unwrap(), (None, Some("migrate")));
        assert_eq!(meant(Some("copy-2"), None, &all).unwrap(), (None, Some("copy-2")));
        assert_eq!(meant(Some("notes-1"), Some("migrate"), &all).unwrap(), (tx("notes-1"), Some("migrate")));
        let error = meant(Some("notes"), Some("migrate"), &all).unwrap_err();
        assert_eq!(error.fault, Fault::Usage);
    }
}
