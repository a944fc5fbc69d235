//! The shape of the house (design.md §4), read from the sources: imports go downward only, kinds do not know each
//! other, no file grows without end, and there is no drawer for everything.
//!
//! Reads `crate::` paths (groups too) and `super::` chains that leave a room. Code for tests is exempt: whatever
//! follows the first `#[cfg(test)]` module of a file, and files that hold tests or fixtures only.

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use reading::{Use, bare, uses};

/// The rooms, each on its floor.
const FLOORS: [(&str, u8); 16] = [
    ("error", 0),
    ("name", 0),
    ("monitor", 0),
    ("sys", 0),
    ("plan", 1),
    ("tx", 1),
    ("context", 2),
    ("store", 2),
    ("journal", 2),
    ("resource", 2),
    ("step", 2),
    ("quiesce", 2),
    ("check", 2),
    ("engine", 3),
    ("ops", 4),
    ("cli", 5),
];
const KIND_FOLDERS: [&str; 4] = ["resource", "step", "quiesce", "check"];

/// Doors between rooms of one floor: from, to, and what may be carried through (nothing said: anything).
const DOORS: &[(&str, &str, &[&str])] = &[
    ("name", "error", &[]),
    ("monitor", "error", &[]),
    ("monitor", "name", &[]),
    ("sys", "error", &[]),
    ("sys", "name", &[]),
    ("sys", "monitor", &[]),
    ("plan", "tx", &["OnFailure"]),
    ("context", "resource", &[]),
    ("context", "check", &[]),
    ("context", "store", &[]),
    ("store", "resource", &[]),
    ("resource", "context", &[]),
    ("resource", "store", &[]),
    ("step", "context", &[]),
    ("step", "store", &[]),
    ("quiesce", "context", &[]),
    ("quiesce", "store", &[]),
    ("check", "context", &[]),
    ("check", "store", &[]),
];

/// Doors downstairs that are narrower than the rule.
const NARROW: &[(&str, &str, &[&str])] = &[
    ("tx", "sys", &[]),
    ("resource", "tx", &["Output"]),
    ("step", "tx", &["Output"]),
    ("quiesce", "tx", &["Output", "Unit"]),
    ("check", "tx", &["Output"]),
    ("cli", "engine", &[]),
];

const DRAWERS: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "misc", "shared"];

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Why code in room `from` may not name `path` (`["tx", "Output"]`).
fn refusal(from: &str, path: &[String]) -> Option<String> {
    let to = path.first()?.as_str();
    let (here, there) = (floor(from)?, floor(to)?);
    let carried = path.get(1).map_or("all of it", String::as_str);
    let narrow = NARROW.iter().find(|(a, b, _)| (*a, *b) == (from, to));
    let door = DOORS.iter().find(|(a, b, _)| (*a, *b) == (from, to));
    match (narrow, door) {
        _ if from == to => None,
        (Some((.., [])), _) => Some(format!("`{from}` never imports `{to}`")),
        (Some((.., only)), _) | (_, Some((.., only @ [_, ..]))) if !only.contains(&carried) => {
            Some(format!("`{from}` may take from `{to}` only {}, not {carried}", only.join(", ")))
        }
        (Some(_), _) | (_, Some(_)) => None,
        _ if there > here => Some(format!("`{to}` (L{there}) is above `{from}` (L{here})")),
        _ if there == here => Some(format!("`{from}` and `{to}` are both on L{here} and have no door")),
        _ => None,
    }
}

/// The files below `dir` that hold Rust, sorted.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_for_tests(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_string_lossy();
    let inside = path.components().any(|part| part.as_os_str() == "tests");
    inside || stem == "tests" || stem.ends_with("_tests") || stem.contains("fixture")
}

/// `src/check/http.rs` is `["check", "http"]`, `src/check/mod.rs` is `["check"]`.
fn module(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        path.with_extension("").components().skip(1).map(|part| part.as_os_str().to_string_lossy().into()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The kinds that a folder lists in its `KINDS`.
fn kinds(source: &str) -> BTreeSet<String> {
    let list = source.split_once("KINDS: &[Kind] = &[").and_then(|(_, rest)| rest.split_once("];"));
    let list = list.map_or("", |(list, _)| list);
    list.split(',').filter_map(|item| item.trim().split_once("::").map(|(kind, _)| kind.to_owned())).collect()
}

/// What is wrong with one file: `src/tx/state.rs:7: …`.
fn complaints(path: &Path, source: &str, kinds: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let module = module(path);
    let room = match module.first().map(String::as_str) {
        Some("lib") | None => return Vec::new(),
        Some("main") => "cli",
        Some(room) => room,
    };
    let mut found = Vec::new();
    if floor(room).is_none() {
        found.push(format!(
            "{}: the room `{room}` is on no floor; add it to FLOORS in tests/it/layers.rs",
            path.display()
        ));
    }
    for Use { line, path: used } in uses(source, &module) {
        let mut why = refusal(room, &used);
        if let (Some(kinds), Some(own), Some(other)) = (kinds.get(room), module.get(1), used.get(1))
            && used[0] == room
            && own != other
            && kinds.contains(own)
            && kinds.contains(other)
        {
            why = Some(format!("the kind `{own}` imports the kind `{other}`"));
        }
        if let Some(why) = why {
            found.push(format!("{}:{line}: {why}: crate::{}", path.display(), used.join("::")));
        }
    }
    for drawer in DRAWERS {
        let inline = bare(source).lines().any(|line| {
            let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            line.strip_prefix("mod ").is_some_and(|rest| rest.trim_end_matches([' ', '{', ';']) == drawer)
        });
        if inline || module.iter().any(|part| part == drawer) {
            found.push(format!("{}: no module is called `{drawer}`; name it after what it is for", path.display()));
        }
    }
    found
}

fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = sources(&root.join("src")).into_iter().chain(sources(&root.join("tests")));
    files.map(|path| (path.strip_prefix(root).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn imports_go_downward_only() {
    let files: Vec<_> = all().into_iter().filter(|(path, _)| path.starts_with("src") && !is_for_tests(path)).collect();
    assert!(files.len() > 10, "the sources are not where they are looked for");
    let kinds = KIND_FOLDERS.map(|folder| {
        let head = Path::new("src").join(folder).join("mod.rs");
        let source = files.iter().find(|(path, _)| *path == head).map_or("", |(_, source)| source);
        (folder.to_owned(), kinds(source))
    });
    let kinds = BTreeMap::from(kinds);
    let found: Vec<_> = files.iter().flat_map(|(path, source)| complaints(path, source, &kinds)).collect();
    assert!(found.is_empty(), "{} imports that are not allowed:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let (mut over, mut asks) = (String::new(), String::new());
    for (path, source) in all() {
        let lines = source.lines().count();
        if lines > 500 && !is_for_tests(&path) {
            writeln!(over, "{}: {lines} lines", path.display()).unwrap();
        } else if lines > 400 {
            writeln!(asks, "{}: {lines} lines", path.display()).unwrap();
        }
    }
    if !asks.is_empty() {
        println!("these ask to be split (past 400 lines):\n{asks}");
    }
    assert!(over.is_empty(), "these are past 500 lines and have to be split:\n{over}");
}

#[test]
fn each_rule_refuses_what_it_is_there_for() {
    let kinds = BTreeMap::from([("check".to_owned(), kinds("pub const KINDS: &[Kind] = &[http::KIND, tcp::KIND];"))]);
    let told = |path: &str, source: &str| complaints(Path::new(path), source, &kinds).join("\n");
    let cases = [
        ("src/tx/state.rs", "use crate::sys::clock;", "`tx` never imports `sys`: crate::sys::clock"),
        (
            "src/tx/state.rs",
            "use crate::plan::Plan;",
            "`tx` and `plan` are both on L1 and have no door: crate::plan::Plan",
        ),
        (
            "src/plan/entry.rs",
            "use crate::tx::Event;",
            "`plan` may take from `tx` only OnFailure, not Event: crate::tx::Event",
        ),
        ("src/check/http.rs", "use crate::tx;", "`check` may take from `tx` only Output, not all of it: crate::tx"),
        (
            "src/check/http.rs",
            "use crate::step::Step;",
            "`check` and `step` are both on L2 and have no door: crate::step::Step",
        ),
        ("src/check/http.rs", "use super::tcp::X;", "the kind `http` imports the kind `tcp`: crate::check::tcp::X"),
        (
            "src/step/sql.rs",
            "use crate::journal::J;",
            "`step` and `journal` are both on L2 and have no door: crate::journal::J",
        ),
        (
            "src/store/mod.rs",
            "use crate::engine::Driver;",
            "`engine` (L3) is above `store` (L2): crate::engine::Driver",
        ),
        ("src/cli/run.rs", "use crate::engine::Driver;", "`cli` never imports `engine`: crate::engine::Driver"),
        ("src/main.rs", "use txupgrade::engine::Driver;", "`cli` never imports `engine`: crate::engine::Driver"),
    ];
    for (path, source, why) in cases {
        assert_eq!(told(path, source), format!("{path}:1: {why}"));
    }
    let drawer = "no module is called `util`; name it after what it is for";
    assert_eq!(told("src/sys/util.rs", ""), format!("src/sys/util.rs: {drawer}"));
    assert_eq!(told("src/sys/mod.rs", "pub mod util;"), format!("src/sys/mod.rs: {drawer}"));
    let fine = [
        ("src/check/http.rs", "use crate::{context::Context, tx::Output}; use super::Kind;"),
        ("src/plan/entry.rs", "x: crate::tx::OnFailure"),
        ("src/ops/run.rs", "use crate::engine::Driver; use crate::journal::Journal;"),
        ("src/engine/driver.rs", "use crate::{tx, step, check::KINDS};"),
    ];
    for (path, source) in fine {
        assert_eq!(told(path, source), "");
    }
}
