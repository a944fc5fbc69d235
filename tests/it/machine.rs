//! What other programs hold on to: `plan` changes nothing, what is printed validates, the texts it writes work.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::bed::{Bed, Said};
use crate::wrong::tree;

pub fn validator(schema: &str) -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// The demo's application in a bed; stopped when it is dropped.
struct Demo {
    bed: Bed,
    ground: txupgrade::ops::demo::Ground,
}

impl Demo {
    fn new() -> Demo {
        let bed = Bed::new();
        let ground = txupgrade::ops::demo::lay_out(&bed.path("demo")).unwrap();
        Demo { bed, ground }
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.bed.command(arguments);
        Said::of(command.env("TXUPGRADE_STATE_DIR", self.bed.state()).output().unwrap())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.ground.tear_down();
    }
}

/// The rows of `plan`'s table of tasks: the task, and the rest of its line.
fn tasks(out: &str) -> Vec<(String, String)> {
    let action = regex::Regex::new(
        r"(?m)^ +((?:require|prepare|precapture|quiesce|capture|prove|apply|resume|verify|finish) \S+(?: \S+)*?)  +(.*)$",
    )
    .unwrap();
    action.captures_iter(out).map(|row| (row[1].to_owned(), row[2].to_owned())).collect()
}

#[test]
fn plan_shows_every_task_of_the_demo_with_its_undo_and_changes_nothing() {
    let demo = Demo::new();
    let works = demo.ground.plans.works.to_str().unwrap().to_owned();
    // The server logs that it was asked, and opens its database to answer; that nobody else does is the next test.
    let server = regex::Regex::new("/run/|/demo/data [0-9]+ |/demo/data/notes.db-(shm|wal) ").unwrap();
    let but_logs = |tree: Vec<String>| tree.into_iter().filter(|line| !server.is_match(line)).collect::<Vec<_>>();
    // Without a state directory, and with one.
    let before = but_logs(tree(&demo.bed.path("")));
    let planned = demo.run(&["plan", &works]).ends(0);
    assert_eq!(but_logs(tree(&demo.bed.path(""))), before);
    assert!(!demo.bed.exists("state"));
    demo.run(&["snapshot", &works]).ends(0);
    let before = but_logs(tree(&demo.bed.path("")));
    demo.run(&["plan", &works]).ends(0);
    demo.run(&["plan", &works, "--json"]).ends(0);
    assert_eq!(but_logs(tree(&demo.bed.path(""))), before);
    // What it shows is what is then done, in this order.
    demo.run(&["run", &works]).ends(0);
    let done = demo.bed.events("notes-2");
    let done: Vec<&str> = done.iter().filter_map(|event| event.strip_prefix("started ")).collect();
    let shown = tasks(&planned.out);
    let names: Vec<&str> = shown.iter().map(|(task, _)| task.as_str()).collect();
    assert_eq!(names, done, "{}", planned.out);
    for (task, line) in &shown {
        let changes = ["quiesce", "apply"].iter().any(|action| task.starts_with(action));
        assert_eq!(changes, line.contains("back: ") || line.contains("irreversible"), "{task}: {line}");
    }
}

#[test]
fn plan_leaves_no_trace_beside_a_database() {
    let bed = Bed::new();
    bed.write("data/readme", "");
    let db = rusqlite::Connection::open(bed.path("data/shop.db")).unwrap();
    db.execute_batch("pragma journal_mode = wal; create table orders(id); insert into orders values (1)").unwrap();
    drop(db);
    bed.write(
        "p.toml",
        "format = 1\nname = \"shop\"\n[[resource]]\nname = \"db\"\nkind = \"sqlite\"\npath = \"@BED@/data/shop.db\"\n\
         [[check]]\nname = \"orders\"\nkind = \"sql\"\nresource = \"db\"\nquery = \"select count(*) from orders\"\nmatches = \"1\"\n",
    );
    let before = tree(&bed.path(""));
    bed.run(&["plan", "p.toml"]).ends(0);
    assert_eq!(tree(&bed.path("")), before);
}

#[test]
fn a_step_that_nothing_takes_back_is_marked_irreversible() {
    let bed = Bed::new();
    bed.write(
        "p.toml",
        "format = 1\nname = \"shop\"\n[[step]]\nname = \"mail\"\nkind = \"command\"\nrun = [\"true\"]\n\
         [[step]]\nname = \"tag\"\nkind = \"command\"\nrun = [\"true\"]\nundo = [\"true\"]\n",
    );
    let said = bed.run(&["plan", "p.toml"]).ends(0);
    let shown = tasks(&said.out);
    let line = |task: &str| shown.iter().find(|(name, _)| name == task).map(|(_, line)| line.clone()).unwrap();
    assert!(line("apply mail").contains("irreversible") && line("apply tag").contains("back: "), "{}", said.out);
}

#[test]
fn what_every_command_prints_as_json_validates_errors_too() {
    let bed = Bed::new();
    let valid = validator(include_str!("../../schemas/output.schema.json"));
    bed.write("app/version", "1.0.0\n");
    let app = "format = 1\nname = \"shop\"\n[[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"@BED@/app\"\n";
    let step = |shell: &str| format!("{app}[[step]]\nname = \"go\"\nkind = \"command\"\nshell = \"{shell}\"\n");
    bed.write("p.toml", &step("echo 2.0.0 > @BED@/app/version; echo done"));
    bed.write("breaks.toml", &step("echo 3.0.0 > @BED@/app/version; exit 1"));
    bed.write("wrong.toml", "format = 1\nnaem = \"shop\"\n");
    bed.write("holds.toml", &format!("{}[policy]\non_failure = \"hold\"\n", step("echo half; exit 1")));
    bed.write(
        "stuck.toml",
        &step("echo 3.0.0 > @BED@/app/version; exit 1").replace("[[step]]", "[[step]]\nundo = [\"false\"]"),
    );
    bed.write("waits.toml", &format!("{}[policy]\nconfirm_within = \"1h\"\n", step("echo 4 > @BED@/app/version")));
    let man = bed.path("man").to_str().unwrap().to_owned();
    let commands: &[(&[&str], i32, &str)] = &[
        // What there is to say when there is nothing yet.
        (&["status"], 0, "status"),
        (&["history"], 0, "history"),
        (&["recover"], 0, "standings"),
        (&["show"], 1, "error"),
        (&["diff"], 1, "error"),
        (&["commit"], 1, "error"),
        (&["rollback"], 1, "error"),
        // A run from its plan to its undoing.
        (&["plan", "p.toml"], 0, "forecast"),
        (&["plan", "wrong.toml"], 2, "error"),
        (&["run", "wrong.toml"], 2, "error"),
        (&["run", "p.toml", "--no-such-flag"], 2, "error"),
        (&["begin", "p.toml"], 0, "standing"),
        (&["run", "p.toml"], 6, "error"),
        (&["status"], 10, "status"),
        (&["show"], 0, "show"),
        (&["commit"], 1, "error"),
        (&["confirm"], 1, "error"),
        (&["release", "shop-1", "--resume"], 1, "error"),
        (&["apply"], 0, "standing"),
        (&["diff", "--patch"], 9, "diff"),
        (&["rollback", "--dry-run"], 0, "rollback-preview"),
        (&["recover"], 10, "standings"),
        (&["commit"], 0, "standing"),
        (&["log", "shop-1"], 0, "log"),
        (&["log", "shop-1", "nothing"], 2, "error"),
        (&["show", "shop-1"], 0, "show"),
        (&["show", "shop-77"], 2, "error"),
        (&["rollback", "--yes"], 0, "standing"),
        (&["run", "breaks.toml"], 3, "standing"),
        (&["run", "p.toml", "breaks.toml"], 3, "standings"),
        (&["history", "--verify"], 0, "history"),
        // On hold, stuck, unconfirmed.
        (&["run", "holds.toml"], 10, "standing"),
        (&["status"], 10, "status"),
        (&["rollback"], 0, "standing"),
        (&["run", "stuck.toml"], 5, "standing"),
        (&["status"], 10, "status"),
        (&["show"], 0, "show"),
        (&["history"], 0, "history"),
        (&["TX"], 0, "released"),
        (&["run", "waits.toml"], 10, "standing"),
        (&["status"], 10, "status"),
        (&["confirm"], 0, "standing"),
        (&["snapshot", "p.toml"], 0, "standing"),
        (&["diff"], 0, "diff"),
        (&["schema", "plan"], 0, "schema"),
        (&["schema"], 0, "schema"),
        (&["schema", "plans"], 2, "error"),
        (&["completions", "bash"], 0, "completions"),
        (&["man", &man], 0, "man"),
    ];
    for (command, status, kind) in commands {
        let stuck = stuck_one(&bed);
        let release = ["release", &stuck, "--leave-down"];
        let command: &[&str] = if *command == ["TX"] { &release } else { command };
        let mut arguments = vec!["--json"];
        arguments.extend(command);
        let said = bed.run(&arguments);
        let shown = command.join(" ");
        assert_eq!(said.status, *status, "{shown}\n{}\n{}", said.out, said.err);
        let object: Value =
            serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{shown}: {error}: {}", said.out));
        assert_eq!(object["schema"], format!("txupgrade/{kind}/1"), "{shown}");
        assert_eq!(object["exit"], *status, "{shown}");
        let wrong: Vec<String> =
            valid.iter_errors(&object).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{shown}: {wrong:#?}\n{object:#}");
    }
    // And every event that was journaled meanwhile is as its schema says.
    events_validate(&bed.state());
}

/// The transaction that is stuck, or any name.
fn stuck_one(bed: &Bed) -> String {
    let said = bed.run(&["--json", "status"]);
    let status: Value = serde_json::from_str(&said.out).unwrap();
    status["open"][0]["tx"].as_str().unwrap_or("shop-1").to_owned()
}

fn events_validate(state: &Path) {
    let valid = validator(include_str!("../../schemas/event.schema.json"));
    let journal =
        rusqlite::Connection::open_with_flags(state.join("journal.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .unwrap();
    let mut rows = journal.prepare("select event from event order by seq").unwrap();
    let events: Vec<String> = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut kinds = std::collections::BTreeSet::new();
    for text in &events {
        let event: Value = serde_json::from_str(text).unwrap();
        kinds.insert(event["event"].as_str().unwrap().to_owned());
        let wrong: Vec<String> =
            valid.iter_errors(&event).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:#?}\n{event:#}");
    }
    for kind in
        ["begun", "aimed", "started", "succeeded", "failed", "turned_back", "stuck", "awaiting", "confirmed", "ended"]
    {
        assert!(kinds.contains(kind), "no `{kind}` in the journal: {kinds:?}");
    }
}

#[test]
fn schemas_completions_and_manual_pages_are_ones() {
    let bed = Bed::new();
    let names = bed.run(&["schema"]).ends(0).out;
    assert_eq!(names, "plan\nevent\nmanifest\noutput\njournal\n");
    for name in ["plan", "event", "manifest", "output"] {
        validator(&bed.run(&["schema", name]).ends(0).out);
    }
    let sql = bed.run(&["schema", "journal"]).ends(0).out;
    rusqlite::Connection::open_in_memory().unwrap().execute_batch(&sql).unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bed.run(&["completions", shell]).ends(0).out;
        assert!(script.contains("rollback"), "{shell}");
    }
    let bash = bed.write("completions.bash", &bed.run(&["completions", "bash"]).ends(0).out);
    let loaded =
        Command::new("bash").args(["-euc", "source \"$0\"; complete -p txupgrade"]).arg(bash).output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    let pages = bed.run(&["man", bed.path("man").to_str().unwrap()]).ends(0).out;
    let help = bed.run(&["--help"]).ends(0).out;
    for page in pages.lines() {
        let text = std::fs::read_to_string(page).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
    }
    for command in ["run", "begin", "recover", "history"] {
        assert!(help.contains(command) && pages.contains(&format!("txupgrade-{command}.1")), "{pages}");
    }
}

/// The demo's plans and the example of the design are valid by the plan's schema, too.
#[test]
fn plans_that_work_validate() {
    let valid = validator(include_str!("../../schemas/plan.schema.json"));
    for text in [
        include_str!("../../fixtures/demo/notes-2.0.toml"),
        include_str!("../../fixtures/demo/notes-3.0.toml"),
        include_str!("../../fixtures/plans/every-kind.toml"),
    ] {
        let text = text.replace("@BLAKE3@", &"0".repeat(64));
        let plan: Value = toml::from_str(&text).unwrap();
        let wrong: Vec<String> =
            valid.iter_errors(&plan).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
