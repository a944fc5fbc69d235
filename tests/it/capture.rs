//! What a capture does while nothing changes, and while everything does.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::bed::Bed;

fn bed() -> Bed {
    let bed = Bed::new();
    bed.write(
        "p.toml",
        "format = 1\nname = \"p\"\n\n[[resource]]\nname = \"tree\"\nkind = \"path\"\npath = \"tree\"\n",
    );
    bed
}

/// The calls of a snapshot that open one of the `file-…` of the tree.
fn opened(bed: &Bed) -> Vec<String> {
    let program = bed.command(&["snapshot", "p.toml"]);
    let log = bed.path("strace.log");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=open,openat,openat2", "-o"])
        .arg(&log)
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(bed.path(""))
        .stdin(Stdio::null())
        .output()
        .expect("strace is needed: apt-get install strace")
        .status;
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(&log).unwrap();
    text.lines().filter(|line| line.contains("file-")).map(str::to_owned).collect()
}

#[test]
fn a_capture_opens_what_has_changed_and_no_other_file() {
    let bed = bed();
    for number in 0..300 {
        bed.write(&format!("tree/{}/file-{number}", number % 7), &format!("content of {number}\n"));
    }
    std::fs::write(bed.path("tree/file-large"), vec![7; 3 << 20]).unwrap();
    // What was written in the same tick as the capture began might have been written after it was read.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(opened(&bed).len(), 301);
    assert_eq!(opened(&bed), Vec::<String>::new());
    bed.write("tree/3/file-3", "content of E\n");
    std::thread::sleep(Duration::from_millis(100));
    let again = opened(&bed);
    assert_eq!(again.len(), 1, "{again:#?}");
    assert!(again[0].contains("file-3\""), "{again:#?}");
}

/// While a snapshot is made over and over: files that always hold one letter only are written in place, a log grows,
/// files are exchanged, renamed, made and removed. Whatever a snapshot has of them, each file is what it was at one
/// moment, or it is said of it that it may not be.
#[test]
fn of_a_tree_that_changes_no_torn_file_is_kept_as_good() {
    const SNAPSHOTS: usize = 12;
    const LARGE: usize = 3 << 20;
    let bed = bed();
    bed.write("tree/log", "0\n");
    let rewritten = ["a", "b", "c"].map(|name| (name, if name == "a" { LARGE } else { 200_000 }));
    for (name, length) in rewritten {
        std::fs::write(bed.path(format!("tree/{name}")), vec![b'A'; length]).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (bed, done) = (&bed, &done);
        scope.spawn(move || {
            let log = File::options().append(true).open(bed.path("tree/log")).unwrap();
            for number in 1.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                std::io::Write::write_all(&mut &log, format!("{number}\n").as_bytes()).unwrap();
                let letter = b'A' + (number % 26) as u8;
                for (name, length) in rewritten {
                    // In place, in pieces, so that a reader can come in between. Now and then it rests.
                    if number % 8 < 5 || name == "c" {
                        let file = File::options().write(true).open(bed.path(format!("tree/{name}"))).unwrap();
                        for (at, piece) in vec![letter; length].chunks(50_000).enumerate() {
                            file.write_all_at(piece, at as u64 * 50_000).unwrap();
                        }
                    }
                }
                bed.write("new", &String::from(letter as char).repeat(5000));
                std::fs::rename(bed.path("new"), bed.path(format!("tree/moved-{}", number % 5))).unwrap();
                let (from, to) = (format!("tree/moved-{}", number % 5), format!("tree/moved-{}", number % 3));
                std::fs::rename(bed.path(from), bed.path(to)).unwrap();
                if number % 4 == 0 {
                    let _ = std::fs::remove_file(bed.path("tree/moved-1"));
                }
                std::thread::sleep(Duration::from_millis(if number % 8 < 5 { 0 } else { 10 }));
            }
        });
        let mut torn = 0;
        for number in 1..=SNAPSHOTS {
            let said = bed.run(&["--json", "snapshot", "p.toml"]);
            let told: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out));
            assert_eq!(told["exit"], 0, "{told:#}");
            let warnings = told["warnings"].to_string();
            for (name, content) in snapshot(bed, number) {
                if warnings.contains(&format!("tree/{name}` changed each time it was read")) {
                    torn += 1;
                } else if name == "log" {
                    let text = String::from_utf8(content).unwrap();
                    assert!(text.ends_with('\n'), "snapshot {number}");
                    assert!(text.lines().enumerate().all(|(at, line)| line == at.to_string()), "snapshot {number}");
                } else {
                    let first = content[0];
                    assert!(content.iter().all(|&byte| byte == first), "snapshot {number}: {name} is torn");
                    let length = rewritten.iter().find(|(known, _)| *known == name).map_or(5000, |(_, length)| *length);
                    assert_eq!(content.len(), length, "snapshot {number}: {name}");
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        eprintln!("{SNAPSHOTS} snapshots of a changing tree: {torn} times a file was named as torn");
    });
    bed.run(&["store", "verify"]).ends(0);
}

/// What a snapshot has, as GNU tar extracts it.
fn snapshot(bed: &Bed, number: usize) -> BTreeMap<String, Vec<u8>> {
    let tar = format!("out-{number}.tar.zst");
    bed.run(&["store", "export", &format!("p-{number}"), &tar]).ends(0);
    let out = bed.path(format!("out-{number}"));
    std::fs::create_dir(&out).unwrap();
    let status =
        Command::new("tar").arg("--zstd").arg("-xpf").arg(bed.path(&tar)).arg("-C").arg(&out).status().unwrap();
    assert!(status.success());
    let files = std::fs::read_dir(out.join("tree")).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}
