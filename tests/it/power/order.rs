//! The order of system calls, watched from outside: what has to be on disk is there before what relies on it.

use std::fs;
use std::path::Path;

use super::field::{Field, Layout};
use crate::disk::Kind;

/// A system call of any thread, or of a program that was started.
#[derive(Debug)]
struct Call {
    text: String,
    /// The line on which it begins, and that on which it has returned.
    begun: usize,
    ended: usize,
}

impl Call {
    fn is(&self, name: &str) -> bool {
        self.text.split('(').next() == Some(name)
    }

    /// Whether it syncs the file, directory or filesystem at `path`.
    fn syncs(&self, path: &str) -> bool {
        (self.is("fsync") || self.is("fdatasync")) && self.text.contains(&format!("<{path}>"))
    }

    fn writes(&self, path: &str) -> bool {
        (self.is("write") || self.is("pwrite64")) && self.text.contains(&format!("<{path}>,"))
    }

    fn renames(&self) -> bool {
        self.text.starts_with("rename")
    }
}

/// The calls of one command, in the order in which they begin.
struct Calls(Vec<Call>);

impl Calls {
    fn of(field: &Field, arguments: &[&str], status: i32) -> Calls {
        let out = field.elsewhere("order");
        let calls =
            "trace=rename,renameat,renameat2,mkdir,mkdirat,fsync,fdatasync,syncfs,write,pwrite64,utimensat,execve";
        let mut words = ["strace", "-f", "-y", "-qq", "-s", "20000", "-e", "signal=none", "-e", calls, "-o"]
            .map(str::to_owned)
            .to_vec();
        words.push(out.to_str().unwrap().to_owned());
        field.run_by(&words, arguments).ends(status);
        Calls::parse(&fs::read_to_string(out).unwrap())
    }

    fn parse(text: &str) -> Calls {
        let mut calls: Vec<Call> = Vec::new();
        let mut unfinished: Vec<(&str, usize)> = Vec::new();
        for (line, text) in text.lines().enumerate() {
            let (pid, text) = text.split_once(char::is_whitespace).unwrap();
            let text = text.trim_start();
            if text.starts_with("<... ") {
                let at = unfinished.iter().position(|(of, _)| *of == pid).unwrap();
                let (_, call) = unfinished.remove(at);
                calls[call].ended = line;
                calls[call].text.push_str(text.split_once("resumed>").unwrap().1);
            } else {
                if text.ends_with("<unfinished ...>") {
                    unfinished.push((pid, calls.len()));
                }
                calls.push(Call { text: text.to_owned(), begun: line, ended: line });
            }
        }
        Calls(calls)
    }

    fn first(&self, what: &str, is: impl Fn(&Call) -> bool) -> &Call {
        self.0.iter().find(|call| is(call)).unwrap_or_else(|| panic!("there is no call that is {what}"))
    }

    fn last_before(&self, line: usize, is: impl Fn(&Call) -> bool) -> Option<&Call> {
        self.0.iter().rev().find(|call| call.begun < line && is(call))
    }

    /// The first call of a kind that begins after a line.
    fn next(&self, line: usize, what: &str, is: impl Fn(&Call) -> bool) -> &Call {
        self.0.iter().find(|call| call.begun > line && is(call)).unwrap_or_else(|| panic!("no {what} follows"))
    }
}

/// The journal as it is written.
struct Journal<'c> {
    calls: &'c Calls,
    log: String,
}

impl Journal<'_> {
    /// When the text of an event is first written, and when it is on disk.
    fn event(&self, kind: &str, of: &str) -> (usize, usize) {
        let text = format!(r#"{{\"event\":\"{kind}\",{of}"#);
        let written = self.calls.first(&text, |call| call.writes(&self.log) && call.text.contains(&text));
        let synced = self.calls.next(written.ended, "sync of the journal", |call| call.syncs(&self.log));
        (written.begun, synced.ended)
    }

    fn task(&self, kind: &str, task: &str) -> (usize, usize) {
        self.event(kind, &format!(r#"\"task\":\"{task}\""#))
    }
}

struct Watched {
    calls: Calls,
    log: String,
    live: String,
    archives: String,
}

impl Watched {
    fn run(field: &Field, arguments: &[&str], status: i32) -> Watched {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        Watched {
            calls: Calls::of(field, arguments, status),
            log: text(&field.state().join("journal.db-wal")),
            live: text(field.live()),
            archives: text(&field.state().join("store/archives")),
        }
    }

    fn journal(&self) -> Journal<'_> {
        Journal { calls: &self.calls, log: self.log.clone() }
    }

    /// Each archive is complete and synced before it has its name, and has its name for good before the capture that it is of
    /// is told to have succeeded: of several that are under way, before the last one. Where none is, before any event.
    fn archives_come_first(&self) {
        let named = |call: &&Call| call.renames() && call.text.contains(&format!(r#", "{}/"#, self.archives));
        let renames: Vec<&Call> = self.calls.0.iter().filter(named).collect();
        assert!(!renames.is_empty());
        for rename in renames {
            let names: Vec<&str> = rename.text.split('"').collect();
            let (from, to) = (names[1], Path::new(names[3]));
            let dir = to.parent().unwrap().to_str().unwrap();
            let synced = self.calls.last_before(rename.begun, |call| call.syncs(from)).expect("it is synced");
            let written = self.calls.last_before(usize::MAX, |call| call.writes(from)).expect("it is written");
            assert!(written.ended < synced.begun && synced.ended < rename.begun, "{}", rename.text);
            let of_dir = self.calls.next(rename.ended, "sync of its directory", |call| call.syncs(dir));
            let told = self.told_after(rename.ended);
            assert!(of_dir.ended < told, "{}", rename.text);
            let made = self.calls.0.iter().find(|call| call.is("mkdir") && call.text.contains(&format!("\"{dir}\"")));
            if let Some(made) = made {
                let above = self.calls.next(made.ended, "sync above it", |call| call.syncs(&self.archives));
                assert!(above.ended < rename.begun, "{}", made.text);
            }
        }
    }

    /// When the last of the captures that are under way is told to have succeeded; where none is, when anything is told.
    fn told_after(&self, line: usize) -> usize {
        let told = |kind: &str, task: &str| {
            let text = format!(r#"{{\"event\":\"{kind}\",\"task\":\"{task}\""#);
            self.calls.0.iter().find(|call| call.writes(&self.log) && call.text.contains(&text)).map(|call| call.begun)
        };
        let captures = ["precapture code", "precapture data", "capture code", "capture data", "capture db"];
        let ends = captures.iter().filter(|task| told("started", task).is_some_and(|begun| begun < line));
        let ends = ends.filter_map(|task| told("succeeded", task)).filter(|end| *end > line);
        ends.max().unwrap_or_else(|| self.calls.next(line, "event", |call| call.writes(&self.log)).begun)
    }

    fn in_live(&self, call: &Call) -> bool {
        call.renames() && call.text.contains(&self.live)
    }

    /// The program called so is not started before `task` is in the journal, and what it did is on disk before that
    /// says that it has succeeded.
    fn announced(&self, task: &str, program: &str) -> usize {
        let (_, announced) = self.journal().task("started", task);
        let started = self.calls.next(announced, program, |call| call.is("execve") && call.text.contains(program));
        let earlier = self.calls.last_before(announced, |call| call.is("execve") && call.text.contains(program));
        assert!(earlier.is_none(), "{task}");
        started.begun
    }

    fn synced_before_success(&self, task: &str, from: usize) {
        let (success, _) = self.journal().task("succeeded", task);
        let sync = self.calls.last_before(success, |call| call.is("syncfs")).expect("a sync of the filesystem");
        assert!(from < sync.begun && sync.ended < success, "{task}");
        let change = self.calls.last_before(success, |call| self.in_live(call)).expect("a change");
        assert!(change.ended < sync.begun, "{task}: {}", change.text);
    }
}

#[test]
fn what_is_relied_on_is_on_disk_first() {
    let field = Field::new(Kind::Ext4, Layout::Both);
    let works = Watched::run(&field, &["run", "works.toml"], 0);
    works.archives_come_first();
    works.announced("quiesce server", "rm -f");
    let (_, announced) = works.journal().task("started", "apply unpack");
    let exchange =
        works.calls.first("the exchange", |call| works.in_live(call) && call.text.contains("RENAME_EXCHANGE"));
    assert!(announced < exchange.begun);
    works.synced_before_success("apply unpack", exchange.begun);
    let started = works.announced("apply migrate", "/migrate");
    works.synced_before_success("apply migrate", started);
    let (_, committed) = works.journal().event("ended", r#"\"outcome\":\"committed\""#);
    let told = works.calls.first("the report", |call| call.is("write") && call.text.contains("is committed"));
    assert!(committed < told.begun);
    let swept = works.calls.last_before(committed, |call| call.text.contains("unlink"));
    assert!(swept.is_none());
}

#[test]
fn a_restore_is_on_disk_before_it_is_put_in_place_and_after() {
    let field = Field::new(Kind::Ext4, Layout::Both);
    let breaks = Watched::run(&field, &["run", "breaks.toml"], 3);
    breaks.archives_come_first();
    let (_, back) = breaks.journal().event("turned_back", "");
    let undone = breaks.calls.next(back, "undo", |call| breaks.in_live(call));
    let (_, announced) = breaks.journal().task("started", "undo unpack");
    assert!(announced < undone.begun);
    let (_, announced) = breaks.journal().task("started", "restore data");
    let aside = format!("{}/.txupgrade-app-1-aside/", breaks.live);
    let placed = |call: &Call| call.renames() && call.text.contains(&aside) && call.text.contains("EXCHANGE");
    let first = breaks.calls.next(announced, "exchange", placed);
    let built = breaks.calls.last_before(first.begun, |call| call.text.contains(&aside) && call.is("pwrite64"));
    let synced = breaks.calls.last_before(first.begun, |call| call.is("syncfs")).expect("a sync before");
    assert!(announced < built.expect("it is written").begun && built.unwrap().ended < synced.begun);
    breaks.synced_before_success("restore data", first.begun);
    let (_, announced) = breaks.journal().task("started", "restore db");
    let swapped = breaks.calls.first("the database", |call| call.renames() && call.text.contains("incoming-db"));
    let written = breaks.calls.last_before(swapped.begun, |call| call.is("write") && call.text.contains("incoming-db"));
    let synced = breaks.calls.last_before(swapped.begun, |call| call.is("fsync") && call.text.contains("incoming-db"));
    assert!(announced < written.expect("it is written").begun);
    assert!(written.unwrap().ended < synced.expect("it is synced").begun);
    breaks.synced_before_success("restore db", swapped.begun);
}
