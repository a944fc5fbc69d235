//! The forms of the plan language, seen in what happens: `when`, `each`, `under`, `at`, notices.

use super::{App, NEW, OLD};

#[test]
fn brackets_close_inwards_and_open_outwards_with_everything_at_its_place() {
    let app = App::new();
    let word = |name: &str| format!("[\"@BED@/bin/note\", \"{name}\"]");
    app.bed.script("bin/note", "echo $1 >> @BED@/log");
    app.bed.script("bin/dump", "echo dump-$1 >> @BED@/log; echo rows");
    let mut plan = String::from("format = 1\nname = \"deep\"\n");
    for (name, at, under) in [("early", "before", ""), ("deep", "after", "under = \"web\"\n"), ("late", "after", "")] {
        plan +=
            &format!("[[check]]\nname = \"{name}\"\nkind = \"command\"\nat = \"{at}\"\n{under}run = {}\n", word(name));
    }
    for name in ["door", "web", "db"] {
        plan += &format!(
            "[[quiesce]]\nname = \"{name}\"\nkind = \"command\"\nrun = {}\nresume = {}\n",
            word(&format!("-{name}")),
            word(&format!("+{name}"))
        );
    }
    for (name, under) in [("all", ""), ("live", "under = \"\"\n"), ("half", "under = \"web\"\n")] {
        plan += &format!(
            "[[resource]]\nname = \"{name}\"\nkind = \"command\"\n{under}dump = [\"@BED@/bin/dump\", \"{name}\"]\nload = [\"cat\"]\n"
        );
    }
    for (name, more) in [
        ("fetch", "at = \"prepare\"\n"),
        ("inner", ""),
        ("outer", "under = \"web\"\n"),
        ("open", "under = \"\"\n"),
        ("tidy", "at = \"finish\"\n"),
    ] {
        plan += &format!("[[step]]\nname = \"{name}\"\nkind = \"command\"\n{more}run = {}\n", word(name));
    }
    app.bed.write("deep.toml", &plan);
    app.run("run deep.toml").ends(0);
    let log = app.log();
    let words: Vec<&str> = log.split(' ').collect();
    let at = |word: &str| words.iter().position(|other| *other == word).unwrap_or_else(|| panic!("{word} in {log}"));
    let order = [
        "early",
        "fetch",
        "dump-live",
        "-door",
        "-web",
        "dump-half",
        "-db",
        "dump-all",
        "inner",
        "+db",
        "outer",
        "deep",
        "+web",
        "+door",
        "open",
        "late",
        "tidy",
    ];
    for pair in order.windows(2) {
        assert!(at(pair[0]) < at(pair[1]), "{} before {}: {log}", pair[0], pair[1]);
    }
}

#[test]
fn when_leaves_out_what_it_does_not_hold_for_and_is_asked_once_at_begin() {
    let app = App::new()
        .edit("run  = [\"@BED@/bin/install\"]", "run  = [\"@BED@/bin/install\"]\nwhen = [\"never\"]")
        .edit("run  = [\"@BED@/bin/migrate\"]", "run  = [\"@BED@/bin/migrate\"]\nwhen = [\"always\"]")
        .edit(
            "[[quiesce]]",
            "[[check]]\nname = \"never\"\nkind = \"command\"\nat = \"named\"\nrun = [\"@BED@/bin/ask\", \"1\"]\n\n\
             [[check]]\nname = \"always\"\nkind = \"command\"\nat = \"named\"\nrun = [\"@BED@/bin/ask\", \"0\"]\n\n[[quiesce]]",
        )
        .script("ask", "echo ask-$1 >> @BED@/log; exit $1")
        .script("migrate", "echo migrate >> @BED@/log; echo new > @BED@/app/data; echo 2.0.0 > @BED@/app/version");
    app.run("begin plan.toml").ends(0);
    app.run("apply").ends(0);
    app.run("commit").ends(0);
    assert_eq!(app.world(), NEW);
    assert_eq!(app.log(), "ask-1 ask-0 stop migrate start");
}

#[test]
fn each_repeats_an_entry_for_every_line_as_it_was_at_begin() {
    let app = App::new()
        .edit("[command]\n", "[vars]\nshards = { run = [\"cat\", \"@BED@/shards\"] }\n\n[command]\n")
        .edit("run  = [\"@BED@/bin/migrate\"]", "run  = [\"@BED@/bin/migrate\", \"${each}\"]\neach = \"shards\"");
    app.bed.write("shards", "alpha\nbeta\n");
    let app = app.script("migrate", "echo migrate-$1 >> @BED@/log; echo new > @BED@/app/data");
    app.run("begin plan.toml").ends(0);
    app.bed.write("shards", "gamma\n");
    app.run("apply").ends(0);
    app.run("commit").ends(0);
    assert_eq!(app.log(), "stop install migrate-alpha migrate-beta start");
    assert!(app.bed.events("app-1").contains(&"succeeded apply migrate@beta".to_owned()));
}

fn with_a_notice() -> App {
    App::new().add("[[notice]]\nname = \"keys\"\ntext = \"2.0 renames listen to bind\"")
}

#[test]
fn a_notice_that_is_not_accepted_is_a_refusal_before_anything_is_touched() {
    let app = with_a_notice();
    let said = app.run("run plan.toml").ends(1);
    insta::assert_snapshot!(said.told(&app.bed), @r"
    error: the notice `keys` was not accepted
      cause: 2.0 renames listen to bind
    hint: read it, and say `--accept keys`
    ");
    assert_eq!((app.world().as_str(), app.log().as_str()), (OLD, ""));
    app.run("status").ends(0);
    app.run("run plan.toml --accept other").ends(2);
}

#[test]
fn accept_takes_a_name_or_all() {
    for accept in ["keys", "all"] {
        let app = with_a_notice();
        app.run(&format!("run plan.toml --accept {accept}")).ends(0);
        assert_eq!(app.world(), NEW);
    }
}

#[test]
fn a_failing_finish_step_and_a_failing_warn_check_are_warnings() {
    let app = App::new()
        .add("[[step]]\nname = \"tidy\"\nkind = \"command\"\nat = \"finish\"\nrun = [\"false\"]")
        .add("[[check]]\nname = \"pretty\"\nkind = \"command\"\nat = \"after\"\nwarn = true\nrun = [\"false\"]");
    let said = app.run("run plan.toml").ends(0);
    assert_eq!(app.world(), NEW);
    assert!(said.err.contains("warning: step `tidy` failed"), "{}", said.err);
    assert!(said.err.contains("warning: check `pretty` failed"), "{}", said.err);
}

#[test]
fn a_step_that_needs_another_base_version_names_the_required_stop() {
    let app = App::new();
    app.bed.write("app/version", "0.9.0\n");
    let said = app.run("run plan.toml").ends(1);
    assert!(
        said.err.contains("version 0.9.0 is installed, and this plan upgrades from `>=1.0.0, <2.0.0`"),
        "{}",
        said.err
    );
    assert!(said.err.contains("required stop"), "{}", said.err);
    assert_eq!(app.log(), "");
}
