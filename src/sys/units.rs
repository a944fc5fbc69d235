//! Units of systemd, as `systemctl` tells of them.
//!
//! Looks only; a stop or a start is a command of a task and is run and logged as one. Relies on `systemctl show`, whose
//! properties are named, not shown to people, and never change their meaning.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::process::{self, How, Log, Program};
use super::signal::Stop;
use crate::error::{Error, Result};

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked of each unit.
const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,RequiredBy,\
                          BoundBy,ConsistsOf,TriggeredBy,InvocationID,Result,Type,ControlGroup";

/// A unit as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<String, String>);

impl Seen {
    fn get(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }

    fn list(&self, property: &str) -> impl Iterator<Item = String> {
        self.get(property).split_whitespace().map(str::to_owned)
    }

    /// Its own name, whatever alias it was asked by.
    pub fn name(&self) -> &str {
        self.get("Id")
    }

    /// Whether there is such a unit.
    pub fn is_there(&self) -> bool {
        !matches!(self.get("LoadState"), "" | "not-found")
    }

    /// Whether it is up, or will be without anybody's doing (it waits to be started again).
    pub fn is_up(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "reloading" | "activating" | "refreshing")
    }

    /// Whether it is up and nothing is under way.
    pub fn is_steady(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "reloading") || self.has_done_its_work()
    }

    /// Whether it runs once and ends: then it has come up when it has ended well.
    fn has_done_its_work(&self) -> bool {
        self.get("Type") == "oneshot" && self.get("ActiveState") == "inactive" && self.get("Result") == "success"
    }

    /// Whether it is down and stays so.
    pub fn is_down(&self) -> bool {
        matches!(self.get("ActiveState"), "inactive" | "failed")
    }

    /// How it is, in systemd's words: `failed (exit-code)`, `deactivating (stop-sigterm)`.
    pub fn state(&self) -> String {
        let more = if self.get("ActiveState") == "failed" { self.get("Result") } else { self.get("SubState") };
        format!("{} ({more})", self.get("ActiveState"))
    }

    /// Whether it is started at boot: `enabled`, `disabled`, `static` …
    pub fn enabled(&self) -> &str {
        self.get("UnitFileState")
    }

    /// Which of its runs this is.
    pub fn run(&self) -> &str {
        self.get("InvocationID")
    }

    /// Whether its files are others than those that systemd has read.
    pub fn needs_reload(&self) -> bool {
        self.get("NeedDaemonReload") == "yes"
    }

    /// The units that systemd stops when it stops this one.
    pub fn dependents(&self) -> Vec<String> {
        ["RequiredBy", "BoundBy", "ConsistsOf"].into_iter().flat_map(|property| self.list(property)).collect()
    }

    /// The sockets, timers and paths that start it.
    pub fn triggers(&self) -> Vec<String> {
        self.list("TriggeredBy").collect()
    }

    /// The processes that are in its cgroup.
    pub fn processes(&self) -> Vec<u32> {
        let group = self.get("ControlGroup").trim_start_matches('/');
        if group.is_empty() {
            return Vec::new();
        }
        let roots = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let read = |root: &str| std::fs::read_to_string(Path::new(root).join(group).join("cgroup.procs")).ok();
        let procs = roots.into_iter().find_map(read).unwrap_or_default();
        procs.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

/// The units of these names, in their order.
pub fn look(names: &[String]) -> Result<Vec<Seen>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut words = vec!["show", PROPERTIES, "--"];
    words.extend(names.iter().map(String::as_str));
    let seen = parse(&ask(&words)?);
    if seen.len() != names.len() {
        return Err(Error::new(format!("systemd told of {} units when asked for {}", seen.len(), names.len())));
    }
    Ok(seen)
}

/// The units that `pattern` matches, as a shell would: those that systemd has loaded, and those that have a file.
pub fn like(pattern: &str) -> Result<Vec<String>> {
    let listing = ["--all", "--full", "--plain", "--no-legend", "--no-pager", "--", pattern];
    let list = |verb| match answer(&[&[verb], &listing[..]].concat())? {
        // That there is none is a failure to some versions.
        (How::Status(1), text) if text.trim().is_empty() => Ok(text),
        (how, text) => well(verb, how, text),
    };
    let (loaded, files) = (list("list-units")?, list("list-unit-files")?);
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let mut names: Vec<String> = loaded.lines().chain(files.lines()).filter_map(first).collect();
    // A template is not a unit.
    names.retain(|name| !name.contains("@."));
    names.sort();
    names.dedup();
    Ok(names)
}

/// Where something is going to be mounted at `path` or above it and is not yet: the machine still boots.
pub fn awaited_mount(path: &Path) -> Option<PathBuf> {
    // Without systemd nothing is known to come.
    let mounts = ask(&["show", "--property=Where,ActiveState,LoadState", "--", "*.mount"]).ok()?;
    let known = |unit: &Seen| unit.get("LoadState") == "loaded" && !unit.get("Where").is_empty();
    let waits = |unit: &Seen| known(unit) && unit.is_down() && path.starts_with(unit.get("Where"));
    parse(&mounts).into_iter().find(waits).map(|unit| PathBuf::from(unit.get("Where")))
}

/// Whether the machine is being shut down: then systemd starts nothing any more, and servers go as they like.
pub fn going_down() -> bool {
    is_here() && answer(&["is-system-running"]).is_ok_and(|(_, text)| text.trim() == "stopping")
}

/// Makes systemd read its files anew.
pub fn reload() -> Result<()> {
    ask(&["daemon-reload"]).map(drop)
}

/// Makes systemd start these units at boot; works also where it does not run yet.
pub fn enable(names: &[&str]) -> Result<()> {
    ask(&[&["enable", "--quiet", "--"], names].concat()).map(drop)
}

/// Whether systemd runs this machine.
pub fn is_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The name of a unit, `.service` where it has no suffix. An error when no unit can be called so.
pub fn full_name(text: &str) -> Result<String> {
    const SUFFIXES: [&str; 11] =
        ["service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice", "scope", "device"];
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@*?[]".contains(c);
    if text.is_empty() || text.starts_with('-') || text.len() > 255 || !text.chars().all(allowed) {
        return Err(Error::new(format!("`{text}` is not the name of a unit")).hint("it is written as `shop.service`"));
    }
    let known = text.rsplit_once('.').is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix));
    Ok(if known { text.to_owned() } else { format!("{text}.service") })
}

/// What `systemctl` answers.
fn ask(words: &[&str]) -> Result<String> {
    let (how, text) = answer(words)?;
    well(words.first().copied().unwrap_or_default(), how, text)
}

fn well(verb: &str, how: How, text: String) -> Result<String> {
    if how == How::Status(0) {
        return Ok(text);
    }
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    let why = last.map_or_else(|| format!("`systemctl {verb}` failed and said nothing"), str::to_owned);
    Err(Error::new("cannot ask systemd").because(why))
}

fn answer(words: &[&str]) -> Result<(How, String)> {
    let program = Program {
        argv: std::iter::once("systemctl").chain(words.iter().copied()).map(OsString::from).collect(),
        env: BTreeMap::new(),
        dir: None,
        user: None,
        timeout: PATIENCE,
        stdin: Stdio::null(),
        stdout: None,
    };
    let (exit, text) = process::run(program, &Log::transient()?, &Stop::never(), &mut |_| ())
        .map_err(|error| error.within("cannot ask systemd"))?;
    Ok((exit.how, text))
}

/// The blocks of `systemctl show`, one for each unit.
fn parse(text: &str) -> Vec<Seen> {
    let block = |block: &str| Seen(block.lines().filter_map(|line| line.split_once('=')).map(own).collect());
    text.split("\n\n").filter(|text| !text.trim().is_empty()).map(block).collect()
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_show_prints_is_read_unit_by_unit() {
        let text = "Type=simple\nResult=exit-code\nId=shop.service\nRequiredBy=web.service a.target\nLoadState=loaded\n\
                    ActiveState=failed\nSubState=failed\nUnitFileState=enabled\nNeedDaemonReload=no\n\n\
                    Type=oneshot\nResult=success\nId=once.service\nLoadState=loaded\nActiveState=inactive\n\n\
                    Id=gone.service\nLoadState=not-found\nActiveState=inactive\n";
        let seen = parse(text);
        assert_eq!(seen.iter().map(Seen::name).collect::<Vec<_>>(), ["shop.service", "once.service", "gone.service"]);
        let [shop, once, gone] = seen.as_slice() else { panic!("three") };
        assert!(shop.is_there() && shop.is_down() && !shop.is_up() && !shop.is_steady() && !shop.needs_reload());
        assert_eq!((shop.state().as_str(), shop.enabled()), ("failed (exit-code)", "enabled"));
        assert_eq!(shop.dependents(), ["web.service", "a.target"]);
        assert!(once.is_steady() && once.is_down());
        assert!(!gone.is_there() && gone.processes().is_empty());
    }

    #[test]
    fn a_name_gets_its_suffix_and_what_is_none_is_refused() {
        assert_eq!(full_name("shop").unwrap(), "shop.service");
        assert_eq!(full_name("shop.web").unwrap(), "shop.web.service");
        assert_eq!(full_name("shop.timer").unwrap(), "shop.timer");
        assert_eq!(full_name("ovs-arakoon-*").unwrap(), "ovs-arakoon-*.service");
        for wrong in ["", "-H", "../x", "a b", "a\nb"] {
            let error = full_name(wrong).unwrap_err();
            assert_eq!(error.statement, format!("`{wrong}` is not the name of a unit"));
        }
    }
}
