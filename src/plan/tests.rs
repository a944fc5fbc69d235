//! The language as a whole: the example of the design, every invalid plan, the schema.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::*;

pub(super) const SCHEMA: &str = include_str!("../../schemas/plan.schema.json");
const NOTES: &str = include_str!("../../fixtures/plans/notes.toml");

pub(super) fn parse_with(text: &str, set: &[(&str, &str)]) -> crate::error::Result<Plan> {
    let set: BTreeMap<String, String> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Plan::parse(text, Path::new("/plans/p.toml"), &set)
}

fn parse(text: &str) -> Plan {
    let plan = parse_with(&format!("format = 1\nname = \"p\"\n{text}"), &[]).unwrap();
    plan.verdict().unwrap_or_else(|e| panic!("{}", told(&e)));
    plan
}

pub(super) fn told(error: &crate::error::Error) -> String {
    let mut out = format!("error: {}\n", error.statement);
    for cause in &error.causes {
        out.push_str(cause);
        out.push('\n');
    }
    for hint in &error.hints {
        out.push_str(&format!("hint: {hint}\n"));
    }
    out
}

fn mistakes(text: &str) -> String {
    match parse_with(text, &[]).and_then(|p| p.verdict()) {
        Ok(()) => "no mistake\n".into(),
        Err(e) => told(&e),
    }
}

fn expand(template: &Template, plan: &Plan) -> String {
    template.expand(&plan.scope().unwrap()).unwrap()
}

/// Whatever is cut off, doubled or overwritten: mistakes are told, and nothing falls over.
#[test]
fn a_damaged_plan_is_refused_or_read_but_never_falls_over() {
    let text = include_str!("../../fixtures/plans/every-kind.toml");
    let judge = |text: &str| drop(parse_with(text, &[("home", "/x")]).and_then(|p| p.verdict()).map_err(|e| told(&e)));
    for (at, _) in text.char_indices().step_by(17) {
        judge(&text[..at]);
        judge(&text[at..]);
        for junk in ["\"", "[", "}", "= 5", "${", "\n", "é", "name = \"x\"\n", "\u{0}", "[[step]]\n"] {
            judge(&format!("{}{junk}{}", &text[..at], &text[at..]));
        }
    }
}

#[test]
fn numbers_are_read_as_toml_writes_them() {
    let plan = parse("[policy]\nkeep = 1_000\n");
    assert_eq!(plan.policy.keep, Some(1000));
    assert_eq!(parse("[policy]\nkeep = 0x10\n").policy.keep, Some(16));
}

#[test]
fn the_example_of_the_design_is_read() {
    let plan = parse_with(NOTES, &[("home", "/srv/notes")]).unwrap();
    plan.verdict().unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(plan.name.as_str(), "notes");
    assert_eq!(plan.summary, "Notes 1.4 to 2.0");
    assert_eq!(plan.scope().unwrap().values["home"], "/srv/notes");
    assert!(matches!(plan.vars["shards"], Var::Lines(_)));
    let entry = plan.version.as_ref().unwrap();
    let version = &entry.spec;
    assert_eq!((entry.kind.as_str(), version.target.as_deref()), ("command", Some("2.0.0")));
    assert!(version.from.as_ref().unwrap().holds("1.4.2").unwrap());
    assert!(version.latest.is_some());
    assert_eq!(plan.checks[0].check.at, CheckAt::Before);
    assert_eq!(plan.checks[1].check.within, Some(Duration::from_secs(60)));
    assert_eq!(plan.checks[1].check.steady, Some(Duration::from_secs(10)));
    assert_eq!(plan.notices[0].when, ["has-listen"]);
    assert_eq!(plan.quiesces[0].expect.as_ref().unwrap().checks, ["port-free"]);
    assert_eq!(plan.steps[0].step_at, StepAt::Prepare);
    assert_eq!(plan.steps[1].carry.len(), 2);
    let policy = &plan.policy;
    assert_eq!(policy.on_failure, crate::tx::OnFailure::Rollback);
    assert_eq!((policy.confirm_within, policy.prove), (Some(Duration::from_secs(600)), Some(Prove::Restore)));
    assert_eq!((policy.diagnose.len(), policy.snapshot_after, policy.keep), (1, true, Some(5)));
    assert_eq!(expand(policy.diagnose[0].user.as_ref().unwrap(), &plan), "notes");
}

#[test]
fn the_schema_takes_the_example_and_refuses_an_unknown_key() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let valid = |text: &str| validator.is_valid(&toml::from_str(text).unwrap());
    let example: serde_json::Value = toml::from_str(NOTES).unwrap();
    let errors: Vec<String> = validator.iter_errors(&example).map(|e| format!("{} {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(!valid(&format!("{NOTES}\nkeeep = 5\n")), "in [policy]");
    assert!(!valid(&NOTES.replace("free = ", "fre = ")), "in an entry");
    assert!(!valid(&format!("surprise = 1\n{NOTES}")), "at the top");
    assert!(!valid(&NOTES.replace("kind = \"sqlite\"", "kind = \"sqlight\"")), "a kind");
    assert!(!valid(&NOTES.replace("format  = 1", "format  = 2")), "a format");
}

/// One entry of each kind of the design's table, with all of its keys.
#[test]
fn the_schema_knows_every_kind() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let all: serde_json::Value = toml::from_str(include_str!("../../fixtures/plans/every-kind.toml")).unwrap();
    let errors: Vec<String> = validator.iter_errors(&all).map(|e| format!("{} {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let plan = parse_with(include_str!("../../fixtures/plans/every-kind.toml"), &[]).unwrap();
    plan.verdict().unwrap_or_else(|e| panic!("{}", told(&e)));
}

#[test]
fn defaults_and_the_entry_around_are_merged_into_a_command() {
    let mut plan = parse(
        r#"
[command]
user = "notes"
timeout = "10m"
env = { A = "1", B = "2" }
[[step]]
name = "s"
kind = "command"
run = ["a"]
undo = { shell = "b", env = { B = "4" }, timeout = "5s" }
user = "root"
dir = "/x"
env = { A = "3" }
exit = [0, 2]
"#,
    );
    let scope = plan.scope().unwrap();
    let body = &mut plan.steps[0].body;
    let env = |c: &Command| -> Vec<String> {
        c.env.iter().map(|(k, v)| format!("{k}={}", v.read(&scope).unwrap().0)).collect()
    };
    let run = body.need_own_command();
    assert_eq!(run.user.as_ref().unwrap().expand(&scope).unwrap(), "root");
    assert_eq!((run.timeout, &run.exit), (Some(Duration::from_secs(600)), &vec![0, 2]));
    assert_eq!(env(&run), ["A=3", "B=2"]);
    let undo = body.command("undo").unwrap();
    assert!(matches!(&undo.program, Program::Shell(line) if line == "b"));
    assert_eq!(undo.user.as_ref().unwrap().expand(&scope).unwrap(), "root");
    assert_eq!(undo.dir.as_ref().unwrap().expand(&scope).unwrap(), "/x");
    assert_eq!((undo.timeout, &undo.exit), (Some(Duration::from_secs(5)), &vec![0]));
    assert_eq!(env(&undo), ["A=3", "B=4"]);
    plan.steps[0].take_body().finish();
    assert!(plan.report.is_empty());
}

#[test]
fn variables_and_policies_are_not_taken_for_keys_of_a_command() {
    let plan = parse("[vars]\nuser = \"a\"\ndir = \"/b\"\nenv = \"c\"\nlines = { run = [\"d\"] }\n");
    let Var::Lines(command) = &plan.vars["lines"] else { panic!("it is a list") };
    assert!(command.user.is_none() && command.dir.is_none() && command.env.is_empty());
    let said = mistakes("format = 1\nname = \"p\"\n[policy]\ndiagnose = [[\"a\"]]\nuser = \"b\"\n");
    assert!(said.contains("unknown key `user`"), "{said}");
}

#[test]
fn variables_are_made_of_variables_in_any_order() {
    let plan = parse("[vars]\na = \"${b}/x\"\nb = \"${c}\"\nc = \"/opt\"\nport = 8080\n");
    let scope = plan.scope().unwrap();
    assert_eq!((scope.values["a"].as_str(), scope.values["port"].as_str()), ("/opt/x", "8080"));
    assert_eq!(scope.dir, Path::new("/plans"));
}

#[test]
fn the_range_of_a_version_may_be_set() {
    let text = "format = 1\nname = \"p\"\n[vars]\nnew = \"1.0.0\"\n[version]\nrun = [\"v\"]\nto = \"=${new}\"\n";
    let plan = parse_with(text, &[("new", "2.0.1")]).unwrap();
    assert_eq!(plan.version.as_ref().unwrap().spec.target.as_deref(), Some("2.0.1"));
    let error = parse_with(text, &[("new", "next")]).and_then(|p| p.verdict()).unwrap_err();
    insta::assert_snapshot!(told(&error), @r#"
    error: the plan `/plans/p.toml` has a mistake
    /plans/p.toml:7:6: `=${new}` is not a range of versions: `next` is not a version of the scheme `semver`: `next` is not a number
      7 | to = "=${new}"
        |      ^^^^^^^^^
    "#);
}

#[test]
fn what_cannot_be_set_is_told() {
    let text =
        "format = 1\nname = \"p\"\n[vars]\nhome = \"/x\"\npass = { env = \"P\" }\nshards = { glob = \"/s/*\" }\n";
    let set = [("hone", "1"), ("pass", "1"), ("shards", "1")];
    let error = parse_with(text, &set).and_then(|p| p.verdict()).unwrap_err();
    insta::assert_snapshot!(told(&error), @r#"
    error: the plan `/plans/p.toml` has 3 mistakes
    `--set hone`: the plan has no variable `hone`
      hint: did you mean `home`?
    `--set pass` would show a secret to everybody on this machine
      hint: put it where the plan's `[vars]` look for it
    `--set shards` cannot be: the variable is a list
      hint: its lines are read where the plan's `[vars]` say
    "#);
}

#[test]
fn a_kind_reads_its_keys_and_what_is_left_is_told() {
    let mut plan = parse(
        r#"
[[check]]
name = "c"
kind = "demo"
text = 5
word = "hose"
flag = "yes"
number = 70000
size = "2 G"
time = "soon"
list = [1, "a"]
pattern = "("
resource = "dp"
nested = { a = 1, bb = 2 }
timout = "5s"
[[resource]]
name = "db"
kind = "sqlite"
"#,
    );
    let mut body = plan.checks[0].take_body();
    assert_eq!(body.text("text"), None);
    assert_eq!(body.word("word", &["host", "port"]), None);
    assert!(!body.flag("flag", false));
    assert_eq!(body.integer("number", 1..=65535), None);
    assert_eq!(body.size("size"), None);
    assert_eq!(body.duration("time"), None);
    assert_eq!(body.integers("list"), Some(vec![1]));
    assert!(body.pattern("pattern").is_none());
    assert_eq!(body.reference(List::Resource, "resource").as_deref(), Some("dp"));
    body.need_template("url");
    let mut nested = body.table("nested").unwrap();
    nested.integer("aa", 0..=9);
    nested.finish();
    body.template("timeout");
    body.finish();
    plan.refuse_kind(List::Check, "demo", &plan.checks[0].kind_span, &["http", "tcp"]);
    insta::assert_snapshot!(told(&plan.verdict().unwrap_err()), @r#"
    error: the plan `/plans/p.toml` has 14 mistakes
    /plans/p.toml:4:1: the key `url` is missing
      4 | [[check]]
        | ^^^^^^^^^
    /plans/p.toml:6:8: there is no check of kind `demo`
      6 | kind = "demo"
        |        ^^^^^^
      hint: it can be `http` or `tcp`
    /plans/p.toml:7:8: `text` has to be a string, not an integer
      7 | text = 5
        |        ^
      hint: put it in quotes: `"5"`
    /plans/p.toml:8:8: `word` cannot be `hose`
      8 | word = "hose"
        |        ^^^^^^
      hint: did you mean `host`?
    /plans/p.toml:9:8: `flag` has to be true or false, not a string
      9 | flag = "yes"
        |        ^^^^^
    /plans/p.toml:10:10: `number` cannot be 70000
      10 | number = 70000
         |          ^^^^^
      hint: it is between 1 and 65535
    /plans/p.toml:11:8: `G` is not a unit of size
      11 | size = "2 G"
         |        ^^^^^
      hint: write it as `"2 GiB"`, `"500 MB"` or a number of bytes
    /plans/p.toml:12:8: `soon` is not a duration
      12 | time = "soon"
         |        ^^^^^^
      hint: write it as `"90s"`, `"10m"`, `"1h 30m"` or `"500ms"`
    /plans/p.toml:13:12: `list` has to be an integer, not a string
      13 | list = [1, "a"]
         |            ^^^
    /plans/p.toml:14:11: `pattern` is not a regular expression: unclosed group
      14 | pattern = "("
         |           ^^^
    /plans/p.toml:15:12: there is no resource `dp`
      15 | resource = "dp"
         |            ^^^^
      hint: did you mean `db`?
    /plans/p.toml:16:12: unknown key `a`
      16 | nested = { a = 1, bb = 2 }
         |            ^
      hint: did you mean `aa`?
    /plans/p.toml:16:19: unknown key `bb`
      16 | nested = { a = 1, bb = 2 }
         |                   ^^
      hint: it can only be `aa`
    /plans/p.toml:17:1: unknown key `timout`
      17 | timout = "5s"
         | ^^^^^^
      hint: did you mean `timeout`?
    "#);
}

#[test]
fn references_name_instances() {
    let text = |when: &str| {
        format!(
            "format = 1\nname = \"p\"\n[vars]\nl = {{ glob = \"*\" }}\n[[check]]\nname = \"one\"\nkind = \"tcp\"\n\
             [[check]]\nname = \"many\"\nkind = \"tcp\"\neach = \"l\"\n\
             [[step]]\nname = \"s\"\nkind = \"wait\"\neach = \"l\"\nwhen = [{when}]\n"
        )
    };
    assert_eq!(mistakes(&text("\"one\", \"many@*\", \"many@7\", \"many@${each}\"")), "no mistake\n");
    insta::assert_snapshot!(mistakes(&text("\"many\", \"one@*\", \"many@\", \"non\"")), @r#"
    error: the plan `/plans/p.toml` has 4 mistakes
    /plans/p.toml:16:9: the check `many` is repeated, and `many` is not one of them
      16 | when = ["many", "one@*", "many@", "non"]
         |         ^^^^^^
      hint: say `many@*` for all, or `many@${each}` for the one of the same line
    /plans/p.toml:16:17: the check `one` is not repeated, so there is no `one@*`
      16 | when = ["many", "one@*", "many@", "non"]
         |                 ^^^^^^^
      hint: say `one`, or give it `each`
    /plans/p.toml:16:26: `many@` does not say which
      16 | when = ["many", "one@*", "many@", "non"]
         |                          ^^^^^^^
      hint: say `many@*` for all
    /plans/p.toml:16:35: there is no check `non`
      16 | when = ["many", "one@*", "many@", "non"]
         |                                   ^^^^^
      hint: it can be `one` or `many`
    "#);
}

#[test]
fn depth_counts_the_quiesces_that_hold() {
    let plan = parse(
        "[[quiesce]]\nname = \"a\"\nkind = \"command\"\n[[quiesce]]\nname = \"b\"\nkind = \"command\"\n\
         [[step]]\nname = \"w\"\nkind = \"wait\"\n[[step]]\nname = \"x\"\nkind = \"wait\"\nunder = \"b\"\n\
         [[step]]\nname = \"y\"\nkind = \"wait\"\nunder = \"a\"\n[[step]]\nname = \"z\"\nkind = \"wait\"\nunder = \"\"\n",
    );
    let depths: Vec<_> = plan.steps.iter().map(|s| plan.depth(s).unwrap()).collect();
    assert_eq!(depths, [2, 2, 1, 0]);
}
