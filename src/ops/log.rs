//! `log`: the kept output of a transaction's programs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Site;
use super::look::Found;
use crate::error::{Error, Fault, OrSay, Result};
use crate::journal::Recorded;
use crate::name::TxId;
use crate::sys::process;
use crate::tx::Event;

/// The kept output of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The task, as it reads: `apply migrate`.
    pub task: String,
    /// Its file.
    pub path: PathBuf,
    /// How much of it may be shown: what a program that knows secrets printed is, once they are masked.
    pub shown: u64,
}

impl LogFile {
    fn new(task: String, path: PathBuf) -> LogFile {
        let shown = fs::metadata(&path).map_or(0, |meta| process::shown(&path, meta.len()));
        LogFile { task, path, shown }
    }
}

/// The logs of a transaction that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Whose.
    pub tx: TxId,
    /// In the order in which the tasks were first started.
    pub files: Vec<LogFile>,
}

/// The logs of a transaction (the one named, else the open one, else the last), or those of the task called `task`:
/// `migrate`, `apply migrate` or `apply-migrate`.
pub fn log(site: &Site, named: Option<&TxId>, task: Option<&str>) -> Result<Logs> {
    let found = Found::find(site, named)?;
    let account = found.account()?;
    let tx = found.tx;
    let dir = site.dir.join("logs").join(tx.to_string());
    let mut all = files(&dir, account.events());
    if let Some(task) = task {
        let known: Vec<String> = all.iter().map(|file| file.task.clone()).collect();
        all.retain(|file| is_called(file, task));
        if all.is_empty() {
            return Err(no_log(&tx, task, &known));
        }
    }
    Ok(Logs { tx, files: all })
}

fn no_log(tx: &TxId, task: &str, known: &[String]) -> Error {
    let error = Error::new(format!("{tx} has no output of a task `{task}`")).fault(Fault::Usage);
    if known.is_empty() {
        return error.because("none of its tasks has run a program");
    }
    let known: Vec<String> = known.iter().map(|task| format!("`{task}`")).collect();
    error.because(format!("there is output of {}", known.join(", ")))
}

fn is_called(file: &LogFile, name: &str) -> bool {
    let stem = file.path.file_stem().is_some_and(|stem| stem == name);
    stem || file.task == name || file.task.split_once(' ').is_some_and(|(_, subject)| subject == name)
}

/// The log files of `dir` that have something in them, those of `events`' tasks in their order, then any others.
pub(super) fn files(dir: &Path, events: &[Recorded]) -> Vec<LogFile> {
    // No directory and no permission to list it mean the same here: there is nothing to show.
    let mut there: BTreeMap<String, PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter(|path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .collect();
    let mut found = Vec::new();
    for recorded in events {
        let Event::Started { task, .. } = &recorded.event else { continue };
        if let Some(path) = there.remove(&task.file_stem()) {
            found.push(LogFile::new(task.to_string(), path));
        }
    }
    found.extend(there.into_iter().map(|(stem, path)| LogFile::new(stem.replacen('-', " ", 1), path)));
    found
}

/// Calls `each` with everything that is or will be in the logs until the transaction no longer runs, or `each` says
/// that nobody listens any more. What a chunk belongs to is said with it.
pub fn follow(
    site: &Site,
    named: Option<&TxId>,
    task: Option<&str>,
    each: &mut dyn FnMut(&str, &[u8]) -> Listener,
) -> Result<TxId> {
    let found = Found::find(site, named)?;
    let dir = site.dir.join("logs").join(found.tx.to_string());
    let mut read: BTreeMap<PathBuf, u64> = BTreeMap::new();
    loop {
        // Read first, then look at the files: what was written before it ended is seen in the last round.
        let account = found.account()?;
        let running = account.is_running();
        let all = files(&dir, account.events());
        let wanted: Vec<&LogFile> = all.iter().filter(|file| task.is_none_or(|task| is_called(file, task))).collect();
        for file in &wanted {
            let from = read.entry(file.path.clone()).or_default();
            let (bytes, end) = read_from(&file.path, *from)?;
            *from = end;
            if !bytes.is_empty() && each(&file.task, &bytes) == Listener::Gone {
                return Ok(found.tx);
            }
        }
        if !running {
            if let (Some(task), true) = (task, wanted.is_empty()) {
                let known: Vec<String> = all.iter().map(|file| file.task.clone()).collect();
                return Err(no_log(&found.tx, task, &known));
            }
            return Ok(found.tx);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether somebody still listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Somebody does.
    There,
    /// Nobody does.
    Gone,
}

/// What may be shown of the file from `from` on, and where that ends. A file that became shorter (secrets are masked in it
/// after each program) is gone on with at its new end.
fn read_from(path: &Path, from: u64) -> Result<(Vec<u8>, u64)> {
    let said = || format!("cannot read `{}`", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), from)),
        Err(error) => return Err(error).or_say(said),
    };
    let length = file.metadata().or_say(said)?.len();
    if length <= from {
        return Ok((Vec::new(), length));
    }
    let length = process::shown(path, length);
    if length <= from {
        return Ok((Vec::new(), from));
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from)).or_say(said)?;
    file.take(length - from).read_to_end(&mut bytes).or_say(said)?;
    let end = from + bytes.len() as u64;
    Ok((bytes, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::Notebook;

    #[test]
    fn logs_come_in_the_order_of_their_tasks_and_empty_ones_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("apply-migrate.log", "x"),
            ("apply-unpack.log", "x"),
            ("quiesce-stop.log", ""),
            ("zz-later.log", "x"),
            ("processes", "x"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let mut notebook = Notebook::new();
        let tx = notebook.rolls_back("notes");
        let events = crate::journal::Journal::events(&notebook.journal, &tx).unwrap();
        let found: Vec<String> = files(dir.path(), &events).into_iter().map(|file| file.task).collect();
        assert_eq!(found, ["apply unpack", "apply migrate", "zz later"]);
        assert_eq!(files(&dir.path().join("missing"), &events), []);
    }

    #[test]
    fn a_log_is_called_by_its_task_its_subject_or_its_file() {
        let path = PathBuf::from("/s/logs/n-1/apply-migrate.log");
        let file = LogFile { task: "apply migrate".to_owned(), path, shown: 0 };
        for name in ["migrate", "apply migrate", "apply-migrate"] {
            assert!(is_called(&file, name), "{name}");
        }
        assert!(!is_called(&file, "apply"));
        let tx = "notes-1".parse().unwrap();
        assert_eq!(
            no_log(&tx, "migrat", &["apply migrate".to_owned()]).to_string(),
            "notes-1 has no output of a task `migrat`: there is output of `apply migrate`"
        );
        assert_eq!(
            no_log(&tx, "x", &[]).to_string(),
            "notes-1 has no output of a task `x`: none of its tasks has run a program"
        );
    }

    #[test]
    fn a_log_that_became_shorter_is_gone_on_with_at_its_new_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        assert_eq!(read_from(&path, 0).unwrap(), (Vec::new(), 0));
        fs::write(&path, "secret").unwrap();
        assert_eq!(read_from(&path, 0).unwrap(), (b"secret".to_vec(), 6));
        fs::write(&path, "***").unwrap();
        assert_eq!(read_from(&path, 6).unwrap(), (Vec::new(), 3));
        fs::write(&path, "***more").unwrap();
        assert_eq!(read_from(&path, 3).unwrap(), (b"more".to_vec(), 7));
    }
}
