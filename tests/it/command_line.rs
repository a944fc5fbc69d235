//! The command line as scripts and terminals see it: one valid object per command, data and talk apart, readers that
//! leave, and nothing left behind by what only looks.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bed::{Bed, Said};

/// A bed with a small application: `app/version` says which version it is, one step changes that.
fn bed() -> Bed {
    let bed = Bed::new();
    bed.write("app/version", "app 1.0.0\n");
    bed.write("app/notes", "one\n");
    plan(&bed, "app.toml", "app", "=2.0.0", "echo app 2.0.0 > @BED@/app/version; echo upgraded");
    bed
}

fn plan(bed: &Bed, file: &str, name: &str, to: &str, step: &str) {
    let text = format!(
        r#"format = 1
name = "{name}"
[version]
run = ["cat", "@BED@/app/version"]
to = "{to}"
[[resource]]
name = "app"
kind = "path"
path = "@BED@/app"
[[quiesce]]
name = "stop"
kind = "command"
run = ["true"]
resume = ["true"]
[[step]]
name = "up"
kind = "command"
shell = '{step}'
"#
    );
    bed.write(file, &text);
}

/// The one object that a command printed, validated against the schema (which `schema output` prints).
fn object(bed: &Bed, arguments: &[&str], status: i32, kind: &str) -> Value {
    let said = bed.run(&[&["--json"], arguments].concat()).ends(status);
    let object: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out));
    let schema: Value = serde_json::from_str(include_str!("../../schemas/output.schema.json")).unwrap();
    let mut narrow = schema.clone();
    narrow["oneOf"] = serde_json::json!([{ "$ref": format!("#/$defs/{kind}") }]);
    let errors: Vec<String> = jsonschema::validator_for(&narrow)
        .unwrap()
        .iter_errors(&object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{arguments:?}: {errors:#?}\n{object:#}");
    assert!(jsonschema::is_valid(&schema, &object), "{object:#}");
    assert_eq!(object["schema"], format!("txupgrade/{kind}/1"));
    assert_eq!(object["exit"], status);
    object
}

#[test]
fn every_command_prints_one_valid_object() {
    let bed = bed();
    plan(&bed, "bad.toml", "bad", "=3.0.0", "echo no; exit 3");
    object(&bed, &["status"], 0, "status");
    object(&bed, &["show"], 1, "error");
    assert_eq!(object(&bed, &["plan", "app.toml"], 0, "forecast")["from"], "1.0.0");
    let ran = object(&bed, &["run", "app.toml"], 0, "standing");
    assert_eq!((&ran["tx"], &ran["place"], &ran["to"]), (&"app-1".into(), &"committed".into(), &"2.0.0".into()));
    let path = object(&bed, &["run", "bad.toml", "app.toml"], 3, "standings");
    assert_eq!((&path["standings"][0]["place"], &path["not_run"][0]), (&"rolled-back".into(), &"app.toml".into()));
    assert_eq!(path["standings"][0]["failure"]["task"], "apply up");
    assert_eq!(object(&bed, &["show", "bad-1"], 0, "show")["reason"]["why"], "failed");
    assert_eq!(object(&bed, &["log", "bad-1", "up"], 0, "log")["logs"][0]["task"], "apply up");
    assert_eq!(object(&bed, &["history", "--verify"], 0, "history")["transactions"][1]["tx"], "app-1");
    object(&bed, &["diff"], 0, "diff");
    bed.write("app/notes", "two\n");
    assert_eq!(object(&bed, &["diff", "--patch"], 9, "diff")["resources"][0]["resource"], "app");
    assert_eq!(object(&bed, &["rollback", "app-1", "--dry-run"], 0, "rollback-preview")["open"], false);
    assert_eq!(object(&bed, &["rollback", "app-1"], 2, "error")["error"]["fault"], "usage");
    assert_eq!(object(&bed, &["rollback", "app-1", "--yes"], 0, "standing")["to"], "1.0.0");
    object(&bed, &["begin", "app.toml"], 0, "standing");
    let open = object(&bed, &["status"], 10, "status");
    assert_eq!((&open["open"][0]["place"], &open["open"][0]["kept_down"][0]), (&"captured".into(), &"stop".into()));
    object(&bed, &["run", "app.toml"], 6, "error");
    object(&bed, &["commit"], 1, "error");
    object(&bed, &["apply"], 0, "standing");
    object(&bed, &["rollback"], 0, "standing");
    object(&bed, &["recover"], 0, "standings");
    object(&bed, &["snapshot", "app.toml"], 0, "standing");
    object(&bed, &["release", "app-1", "--resume"], 1, "error");
    object(&bed, &["run"], 2, "error");
    object(&bed, &["show", "app"], 2, "error");
}

#[test]
fn data_goes_to_stdout_and_talk_to_stderr() {
    let bed = bed();
    let ran = bed.run(&["run", "app.toml"]).ends(0);
    assert_eq!(ran.out, "");
    assert!(ran.told(&bed).ends_with("app-1 is committed: 1.0.0 -> 2.0.0 in TIME, down for TIME\n"), "{}", ran.err);
    let history = bed.run(&["history"]).ends(0);
    assert!(history.out.contains("app-1") && history.err.is_empty(), "{}", history.err);
    bed.write("app/version", "app 1.0.0\n");
    let quiet = bed.run(&["--quiet", "run", "app.toml"]).ends(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let verbose = bed.run(&["-v", "run", "app.toml"]).ends(0);
    assert!(verbose.err.contains("    | upgraded\n"), "{}", verbose.err);
}

#[test]
fn a_question_is_only_asked_on_a_terminal() {
    let bed = bed();
    let notice = "[[notice]]\nname = \"care\"\ntext = \"take care\"\n";
    bed.write("app.toml", &(bed.read("app.toml") + notice));
    let refused = bed.run(&["run", "app.toml"]).ends(1);
    assert!(refused.err.contains("`--accept care`"), "{}", refused.err);
    bed.run(&["run", "app.toml", "--accept", "care"]).ends(0);
    let refused = bed.run(&["rollback"]).ends(2);
    assert_eq!(
        refused.err,
        "error: app-1 is committed, and nobody can be asked whether to undo it\n\
         hint: `txupgrade rollback --dry-run` shows what that changes\n\
         hint: `txupgrade rollback --yes` does it\n"
    );
    assert_eq!(bed.read("app/version"), "app 2.0.0\n");
}

#[test]
fn who_stops_reading_fails_nothing() {
    let bed = bed();
    // Both ends of the terminal are gone before the first line.
    let mut run = bed.start(&["-v", "run", "app.toml"]);
    drop((run.stdout.take(), run.stderr.take()));
    assert!(run.wait().unwrap().success());
    assert_eq!(bed.events("app-1").last().unwrap(), "ended");
    let mut log = bed.start(&["log"]);
    drop(log.stdout.take());
    assert!(log.wait().unwrap().success());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let full = Said::of(bed.command(&["history"]).stdout(full).stderr(Stdio::piped()).output().unwrap()).ends(1);
    assert!(full.err.starts_with("error: cannot write to stdout\n  cause: No space left on device"), "{}", full.err);
}

#[test]
fn log_follows_until_the_transaction_no_longer_runs() {
    let bed = bed();
    plan(&bed, "slow.toml", "slow", "=2.0.0", "echo one; sleep 0.7; echo two; echo app 2.0.0 > @BED@/app/version");
    let mut run = bed.start(&["run", "slow.toml"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !bed.state().join("logs/slow-1/apply-up.log").exists() {
        assert!(Instant::now() < deadline, "the step did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let open = bed.run(&["status"]).ends(0);
    assert!(open.out.contains(&format!("slow-1: under way in process {}\n", run.id())), "{}", open.out);
    let followed = bed.run(&["log", "--follow", "up"]).ends(0);
    assert!(followed.out.contains("one\ntwo\n"), "{}", followed.out);
    let mut said = String::new();
    run.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(run.wait().unwrap().success(), "{said}");
}

/// Every path below `dir` with what a write would change of it.
fn inventory(dir: &Path) -> Vec<(std::path::PathBuf, u64, i64, i64, u64)> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(|entry| {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        (entry.path().to_owned(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len())
    });
    entries.collect()
}

#[test]
fn plan_status_history_show_log_and_diff_leave_nothing_behind() {
    let bed = bed();
    let looks: [&[&str]; 8] = [
        &["plan", "app.toml"],
        &["status"],
        &["history", "--verify"],
        &["show"],
        &["log"],
        &["log", "--follow"],
        &["diff", "--patch"],
        &["rollback", "--dry-run"],
    ];
    for arguments in looks {
        bed.run(arguments);
        assert!(!bed.exists("state"), "{arguments:?}");
    }
    bed.run(&["run", "app.toml"]).ends(0);
    let before = inventory(&bed.path(""));
    for arguments in looks {
        bed.run(arguments);
        assert_eq!(inventory(&bed.path("")), before, "{arguments:?}");
    }
}

#[test]
fn the_manual_and_the_completions_are_there() {
    let bed = Bed::new();
    let manual = bed.run(&["man", "man"]).ends(0);
    assert!(manual.out.contains("man/txupgrade-rollback.1\n"));
    assert!(bed.read("man/txupgrade-run.1").contains("Exit status"));
    assert_eq!(bed.run(&["schema", "output"]).ends(0).out, include_str!("../../schemas/output.schema.json"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(bed.run(&["completions", shell]).ends(0).out.contains("txupgrade"));
    }
    assert!(!bed.exists("state"));
}
