//! The README tells the truth: what it says can be done without txupgrade works, and its tables are those of `--help`.

use std::process::Command;

use crate::bed::{Bed, Said};

fn readme() -> &'static str {
    include_str!("../../README.md")
}

/// The lines of a section.
fn section(title: &str) -> Vec<&'static str> {
    let lines = readme().lines().skip_while(|line| *line != format!("## {title}")).skip(1);
    lines.take_while(|line| !line.starts_with("## ")).collect()
}

/// The cells of the table whose head begins with `head`.
fn table(title: &str, head: &str) -> Vec<Vec<String>> {
    let rows = section(title).into_iter().skip_while(|line| !line.starts_with(&format!("| {head} |"))).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn help(arguments: &[&str]) -> String {
    let said = Said::of(Command::new(env!("CARGO_BIN_EXE_txupgrade")).args(arguments).output().unwrap());
    said.ends(0).out
}

#[test]
fn the_exit_statuses_are_those_of_the_help() {
    let help = help(&["--help"]);
    let statuses = help.lines().skip_while(|line| *line != "Exit status:").skip(1).take_while(|line| !line.is_empty());
    let told: Vec<(String, String)> = statuses
        .map(|line| line.trim().split_once("  ").unwrap())
        .map(|(status, meaning)| (status.to_owned(), meaning.to_owned()))
        .collect();
    let written: Vec<(String, String)> =
        table("Commands", "exit status").into_iter().map(|row| (row[0].clone(), row[1].replace('`', ""))).collect();
    assert_eq!(written, told);
}

#[test]
fn every_command_is_in_the_table_and_every_command_of_the_table_is_one() {
    let help = help(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let told: Vec<&str> =
        commands.filter_map(|line| line.trim().split(' ').next()).filter(|command| *command != "help").collect();
    let rows = table("Commands", "command");
    let names = regex::Regex::new(r"`([a-z]+)").unwrap();
    let mut written: Vec<String> = Vec::new();
    for row in &rows {
        written.extend(names.captures_iter(&row[0]).map(|found| found[1].to_owned()));
    }
    written.dedup();
    let mut told: Vec<String> = told.into_iter().map(str::to_owned).collect();
    told.sort();
    written.sort();
    assert_eq!(written, told);
}

/// Every kind of the plan language's table is known to the program, and the program knows no others.
#[test]
fn every_kind_is_in_the_table() {
    let mut list = String::new();
    for row in table("The plan language", "list") {
        if !row[0].is_empty() {
            list.clone_from(&row[0]);
        }
        let kind = row[1].trim_matches('`');
        let text = format!("format = 1\nname = \"x\"\n[[{list}]]\nname = \"x\"\nkind = \"{kind}\"\nnone = 1\n");
        let error = txupgrade::engine::read_plan(&text, "/p.toml".as_ref(), &Default::default()).err().unwrap();
        let told = error.causes.join("\n");
        assert!(told.contains("unknown key `none`") && !told.contains("of kind"), "{list} {kind}: {told}");
    }
}

/// Runs the commands of the section as they stand there, each in the state directory of a real snapshot.
#[test]
fn what_was_captured_is_read_without_txupgrade() {
    let bed = Bed::new();
    bed.write("app/version", "1.0.0\n");
    let big: Vec<u8> =
        (0..3_000_000u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..1].to_vec()).collect();
    std::fs::write(bed.path("app/big"), &big).unwrap();
    bed.write(
        "p.toml",
        "format = 1\nname = \"shop\"\n[[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"@BED@/app\"\n\
         [[step]]\nname = \"go\"\nkind = \"command\"\nrun = [\"rm\", \"@BED@/app/version\", \"@BED@/app/big\"]\n",
    );
    bed.run(&["run", "p.toml"]).ends(0);
    assert!(!bed.exists("app/version"));
    let sh = |line: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-o", "pipefail", "-c", line]).current_dir(bed.state());
        Said::of(bash.output().unwrap()).ends(0).out
    };
    let written: Vec<&str> = section("Without txupgrade")
        .into_iter()
        .skip_while(|line| *line != "```sh")
        .skip(1)
        .take_while(|line| *line != "```")
        .filter(|line| !line.starts_with('#'))
        .collect();
    let archives: Vec<String> = sh("ls store/archives/*/*.tar.zst").lines().map(str::to_owned).collect();
    assert!(!archives.is_empty());
    let version = blake3::hash(b"1.0.0\n").to_string();
    let mut ran = 0;
    let (mut found_version, mut found_big) = (false, false);
    for archive in &archives {
        let line = |n: usize| written[n].replace("store/archives/ab/ab….tar.zst", archive);
        let stem = archive.rsplit('/').next().unwrap().trim_end_matches(".tar.zst");
        // It is named by the BLAKE3 of its bytes.
        assert!(sh(&line(0)).starts_with(stem), "{}", line(0));
        // It is an ordinary tar, whose members are objects and manifests.
        let members: Vec<String> = sh(&line(1)).lines().map(str::to_owned).collect();
        for member in &members {
            let name = member.strip_suffix(".manifest").unwrap_or(member);
            assert!(name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit()), "{member}");
        }
        // Each member is named by its own BLAKE3.
        for member in &members {
            let told = sh(&line(2).replace("OBJECT", member));
            assert!(told.starts_with(member.trim_end_matches(".manifest")), "{member}: {told}");
        }
        found_version |= members.contains(&version) && sh(&format!("tar --zstd -xOf {archive} {version}")) == "1.0.0\n";
        // A manifest's head names the chunks of its entries; an entry names the objects of its content.
        for head in members.iter().filter(|member| member.ends_with(".manifest")) {
            let head: serde_json::Value =
                serde_json::from_str(&sh(&line(3).replace("HEAD", head.trim_end_matches(".manifest")))).unwrap();
            let chunks = head["chunks"].as_array().unwrap();
            let entries: String = chunks
                .iter()
                .map(|chunk| sh(&line(2).replace(" | b3sum", "").replace("OBJECT", chunk.as_str().unwrap())))
                .collect();
            for entry in entries.lines() {
                let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
                if entry["path"] == "big" {
                    let lists = entry["list"].as_array().unwrap();
                    let list: String = lists
                        .iter()
                        .map(|list| sh(&line(2).replace(" | b3sum", "").replace("OBJECT", list.as_str().unwrap())))
                        .collect();
                    let objects: Vec<&str> = list.lines().map(|line| line.split(' ').next().unwrap()).collect();
                    let mut whole = Vec::new();
                    for object in objects {
                        let tar = Command::new("tar")
                            .args(["--zstd", "-xOf", archive, object])
                            .current_dir(bed.state())
                            .output()
                            .unwrap();
                        whole.extend(tar.stdout);
                    }
                    assert!(whole == big, "the file is put together by hand");
                    found_big = true;
                }
            }
        }
        ran += 1;
    }
    assert!(ran > 0 && found_version && found_big);
    // The journal is an SQLite database.
    let events: usize = sh(written[4]).lines().count();
    assert_eq!(events, bed.events("shop-1").len());
    assert_eq!(written.len(), 5, "every command of the section is tried here");
}
