//! Nothing outside: whatever a step puts in the place of a directory, and whoever swaps one while a rollback runs, nothing
//! is written through a symlink or a mount point. What must not change is a decoy of the test's own, down to its times.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use super::bed::{Bed, Said};

/// A bed with an application `in/home/app`, a decoy that looks like it, and a plan whose step runs `script`.
fn bed(script: &str) -> Bed {
    let bed = Bed::new();
    for (place, text) in [("in/home/app", "old\n"), ("decoy/home/app", "decoy\n"), ("decoy/app", "decoy\n")] {
        for name in ["a", "sub/b", "sub/deep/c"] {
            bed.write(&format!("{place}/{name}"), text);
        }
    }
    for name in ["sub", "b", "deep/c", ".txupgrade-app-1-aside/1/theirs"] {
        bed.write(&format!("decoy/{name}{}", if name == "sub" { "/b" } else { "" }), "decoy\n");
    }
    let db = rusqlite::Connection::open(bed.path("in/home/db")).unwrap();
    db.execute_batch("CREATE TABLE note (text); INSERT INTO note VALUES ('old');").unwrap();
    drop(db);
    std::fs::copy(bed.path("in/home/db"), bed.path("decoy/home/db")).unwrap();
    bed.write("new/a", "new\n");
    bed.write("new/sub/b", "new\n");
    let text = r#"format = 1
name = "app"
[[resource]]
name = "code"
kind = "path"
path = "@BED@/in/home/app"
[[resource]]
name = "db"
kind = "sqlite"
path = "@BED@/in/home/db"
[[step]]
name = "swap"
kind = "replace"
path = "@BED@/in/home/app"
with = "new"
[[step]]
name = "up"
kind = "command"
shell = '''
sqlite3 @BED@/in/home/db "UPDATE note SET text = 'new'"
SCRIPT
'''
"#;
    bed.write("app.toml", &text.replace("SCRIPT", script));
    bed
}

/// Everything below a directory: names, content, owners, modes, and all times but that of access.
fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let meta = dir.symlink_metadata().unwrap();
        let content =
            if meta.is_file() { blake3::hash(&std::fs::read(&dir).unwrap()).to_string() } else { String::new() };
        let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        found.push(format!(
            "{} {:o} {}:{} {} {mtime:?} {ctime:?} {content}",
            dir.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino()
        ));
        if meta.is_dir() {
            dirs.extend(std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// Runs an upgrade that is turned back after `script`; whether the decoy is as it was. Says how it ended.
#[track_caller]
fn turned_back(bed: &Bed, decoy: &[String], status: i32) -> Said {
    bed.run(&["begin", "app.toml"]).ends(0);
    bed.run(&["apply"]).ends(0);
    let said = bed.run(&["rollback"]);
    assert_eq!(listing(&bed.path("decoy")), decoy, "{}", said.err);
    said.ends(status)
}

#[track_caller]
fn is_back(bed: &Bed) {
    for name in ["a", "sub/b", "sub/deep/c"] {
        assert_eq!(bed.read(&format!("in/home/app/{name}")), "old\n", "{name}");
    }
    let db = rusqlite::Connection::open(bed.path("in/home/db")).unwrap();
    let text: String = db.query_row("SELECT text FROM note", [], |row| row.get(0)).unwrap();
    assert_eq!(text, "old");
}

#[test]
fn a_directory_that_became_a_symlink_is_replaced_and_not_followed() {
    for script in [
        "rm -rf @BED@/in/home/app/sub; ln -s @BED@/decoy @BED@/in/home/app/sub",
        "rm -rf @BED@/in/home/app; ln -s @BED@/decoy/app @BED@/in/home/app",
        "rm -rf @BED@/in/home/app; ln -s @BED@/decoy/app/a @BED@/in/home/app",
        "rm @BED@/in/home/app/a; ln @BED@/decoy/app/a @BED@/in/home/app/a 2>/dev/null || true; ln -sf @BED@/decoy/b @BED@/in/home/app/sub/b",
    ] {
        let bed = bed(script);
        // The hard link changes the decoy's own ctime when the step makes it; what comes after must not.
        let linked = script.contains("ln @BED@");
        bed.run(&["begin", "app.toml"]).ends(0);
        let before = listing(&bed.path("decoy"));
        bed.run(&["apply"]).ends(0);
        let applied = listing(&bed.path("decoy"));
        assert!(linked || applied == before);
        bed.run(&["rollback"]).ends(0);
        is_back(&bed);
        let after = listing(&bed.path("decoy"));
        let told = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| !(linked && line.contains("/decoy/app/a "))).cloned().collect()
        };
        assert_eq!(told(&after), told(&applied), "{script}");
        assert_eq!(bed.read("decoy/app/a"), "decoy\n");
    }
}

#[test]
fn a_parent_that_became_a_symlink_leads_nowhere() {
    for script in [
        "mv @BED@/in @BED@/was; ln -s @BED@/decoy @BED@/in",
        "mv @BED@/in/home @BED@/was; ln -s @BED@/decoy/home @BED@/in/home",
    ] {
        let bed = bed(script);
        let decoy = listing(&bed.path("decoy"));
        let said = turned_back(&bed, &decoy, 5);
        assert!(said.err.contains("is not where it was"), "{}", said.err);
        for verb in [&["rollback", "--partial"][..], &["recover"]] {
            let _ = bed.run(verb);
            assert_eq!(listing(&bed.path("decoy")), decoy, "{verb:?}");
        }
        // Put back by hand, it goes back like any other.
        if script.contains("/in/home ") {
            std::fs::remove_file(bed.path("in/home")).unwrap();
            std::fs::rename(bed.path("was"), bed.path("in/home")).unwrap();
        } else {
            std::fs::remove_file(bed.path("in")).unwrap();
            std::fs::rename(bed.path("was"), bed.path("in")).unwrap();
        }
        bed.run(&["rollback"]).ends(0);
        is_back(&bed);
        assert_eq!(listing(&bed.path("decoy")), decoy);
    }
}

#[test]
fn what_is_mounted_inside_is_named_and_not_written_to() {
    // In a mount namespace of its own, which goes with the shell.
    for (mount, hidden) in [
        ("mount --bind @BED@/decoy @BED@/in/home/app/sub", "in/home/app/sub"),
        ("mount --bind @BED@/decoy/app @BED@/in/home/app", "in/home/app"),
        ("mount -t tmpfs none @BED@/in/home/app/sub; echo mine > @BED@/in/home/app/sub/b", "in/home/app/sub"),
    ] {
        let bed = bed("echo new > @BED@/in/home/app/sub/b");
        // A replaced tree goes back with what is mounted in it, by one rename; here it is restored in place.
        let plan = bed.read("app.toml");
        let (head, rest) = plan.split_once("[[step]]\nname = \"swap\"").unwrap();
        bed.write("app.toml", &format!("{head}[[step]]{}", rest.split_once("[[step]]").unwrap().1));
        let decoy = listing(&bed.path("decoy"));
        bed.run(&["begin", "app.toml"]).ends(0);
        bed.run(&["apply"]).ends(0);
        let root = bed.path("");
        let root = root.to_str().unwrap().trim_end_matches('/');
        let program = bed.command(&["rollback"]);
        let arguments: Vec<String> =
            program.get_args().map(|argument| format!("'{}'", argument.to_str().unwrap())).collect();
        let script = format!(
            "{mount}; '{}' {}; status=$?; umount @BED@/{hidden}; exit $status",
            program.get_program().to_str().unwrap(),
            arguments.join(" ")
        )
        .replace("@BED@", root);
        let out = Command::new("unshare").args(["--mount", "sh", "-c", &script]).env("NO_COLOR", "1").output();
        let said = Said::of(out.expect("`unshare` is there (Debian: apt-get install util-linux)"));
        let said = said.ends(5);
        assert!(said.err.contains("mount"), "{}", said.err);
        assert_eq!(listing(&bed.path("decoy")), decoy, "{mount}");
        bed.run(&["rollback"]).ends(0);
        is_back(&bed);
        assert_eq!(listing(&bed.path("decoy")), decoy, "{mount}");
    }
}

/// A process that swaps a directory for a symlink and back, over and over, until its stdin is closed.
const SWAPPER: &str = "
import os, sys, select
real, link, aside = sys.argv[1:4]
os.symlink(sys.argv[4], link)
while not select.select([sys.stdin], [], [], 0)[0]:
    try: os.rename(real, aside)
    except OSError: continue
    os.rename(link, real)
    try: os.rename(real, link)
    except OSError: pass
    try: os.rename(aside, real)
    except OSError: pass
";

#[test]
fn whoever_swaps_directories_while_a_rollback_runs_leads_it_nowhere() {
    let repetitions: u32 = std::env::var("TXUPGRADE_RACES").ok().and_then(|number| number.parse().ok()).unwrap_or(12);
    let mut ends = std::collections::BTreeMap::new();
    for number in 0..repetitions {
        let bed = bed("true");
        for n in 0..150 {
            bed.write(&format!("in/home/app/sub/f{n}"), "old\n");
        }
        let decoy = listing(&bed.path("decoy"));
        bed.run(&["begin", "app.toml"]).ends(0);
        bed.run(&["apply"]).ends(0);
        // A directory in the resource, the one that holds it, and the one above that.
        let (real, to) =
            [("in/home/app/sub", "decoy"), ("in/home", "decoy/home"), ("in", "decoy")][number as usize % 3];
        let mut swapper = Command::new("python3")
            .args(["-c", SWAPPER])
            .args([bed.path(real), bed.path("swap-link"), bed.path("swap-aside"), bed.path(to)])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is there (Debian: apt-get install python3)");
        for _ in 0..3 {
            let status = bed.run(&["rollback", "app-1"]).status;
            *ends.entry(status).or_insert(0) += 1;
        }
        drop(swapper.stdin.take());
        swapper.wait().unwrap();
        assert_eq!(listing(&bed.path("decoy")), decoy, "{real} in repetition {number}");
    }
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!(
            "directories swapped during {} rollbacks: the decoy is unchanged in all; ends: {ends:?}\n",
            repetitions * 3
        )
        .as_bytes(),
    );
}

#[test]
fn upkeep_and_logs_do_not_follow_symlinks_out() {
    let bed = bed("echo hello");
    bed.write("decoy/victim", "decoy\n");
    bed.run(&["run", "app.toml"]).ends(0);
    let before = listing(&bed.path("decoy"));
    // An export to a name that is a symlink, even one that leads nowhere, is refused.
    symlink(bed.path("decoy/victim"), bed.path("export")).unwrap();
    symlink(bed.path("decoy/not-there"), bed.path("dangling")).unwrap();
    for name in ["export", "dangling"] {
        bed.run(&["store", "export", "app-1", name]).ends(1);
    }
    assert_eq!(listing(&bed.path("decoy")), before);
    // A step of the next transaction finds its log to be a symlink already.
    let logs = bed.state().join("logs/app-2");
    std::fs::create_dir(&logs).unwrap();
    for task in ["apply up", "apply swap", "apply-up", "apply-swap"] {
        symlink(bed.path("decoy/victim"), logs.join(format!("{task}.log"))).unwrap();
    }
    let said = bed.run(&["run", "app.toml"]);
    assert_ne!(said.status, 0, "{}", said.err);
    assert_eq!(listing(&bed.path("decoy")), before);
}
