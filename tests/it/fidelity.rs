//! Fidelity (issue 2): whatever a tree holds and whatever is done to it, a rollback brings back the same tree. The
//! proof is `rsync`'s and not ours, in both directions; an inventory of our own adds what rsync does not look at.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use crate::bed::{Bed, Said};
use crate::tree::{Dice, Inventory, differences, inventory};

const ODD: &str = include_str!("fidelity/odd.sh");
const WRECK: &str = include_str!("fidelity/wreck.sh");

/// A bed with a live tree, a copy of it, and a directory elsewhere that nobody may touch.
struct Trees {
    bed: Bed,
    outside: Inventory,
}

impl Trees {
    fn new() -> Trees {
        let bed = Bed::new();
        bed.write("out/victim", "untouched\n");
        bed.write("out/dir/child", "untouched too\n");
        for dir in ["live", "tmp"] {
            fs::create_dir(bed.path(dir)).unwrap();
        }
        let outside = inventory(&bed.path("out"));
        Trees { bed, outside }
    }

    /// The live tree is everything that `odd.sh` makes.
    fn odd() -> Trees {
        let trees = Trees::new();
        trees.bash(ODD);
        trees.copy("live", "pristine");
        trees
    }

    /// Runs a script in the live tree.
    #[track_caller]
    fn bash(&self, script: &str) {
        let mut command = Command::new("bash");
        command.args(["-eu", "-c", script]).current_dir(self.bed.path("live"));
        command.env("OUT", self.bed.path("out")).env("TMP", self.bed.path("tmp")).env("LC_ALL", "C");
        succeeds(&mut command);
    }

    #[track_caller]
    fn copy(&self, from: &str, to: &str) {
        succeeds(Command::new("cp").arg("-a").arg(self.bed.path(from)).arg(self.bed.path(to)));
        self.same(from, to);
    }

    /// `live` and `other` are the same tree.
    #[track_caller]
    fn same(&self, live: &str, other: &str) {
        let (live, other) = (self.bed.path(live), self.bed.path(other));
        assert_eq!(rsync(&live, &other), "", "rsync {} -> {}", live.display(), other.display());
        assert_eq!(rsync(&other, &live), "", "rsync {} -> {}", other.display(), live.display());
        assert_eq!(differences(&inventory(&live), &inventory(&other)), "");
    }

    #[track_caller]
    fn differ(&self, live: &str, other: &str) -> usize {
        let told = rsync(&self.bed.path(live), &self.bed.path(other));
        assert_ne!(told, "");
        told.lines().count()
    }

    /// The live tree is what it was, nothing else was touched, and nothing was left behind.
    #[track_caller]
    fn came_back(&self) {
        self.same("live", "pristine");
        self.clean();
    }

    #[track_caller]
    fn clean(&self) {
        assert_eq!(differences(&inventory(&self.bed.path("out")), &self.outside), "");
        let names = self.bed.path("out/victim").symlink_metadata().unwrap().nlink();
        assert_eq!(names, 1, "the victim has a further name somewhere");
        for dir in ["", "live"] {
            for entry in fs::read_dir(self.bed.path(dir)).unwrap() {
                let name = entry.unwrap().file_name();
                assert!(!name.as_bytes().starts_with(b".txupgrade-"), "{} is left", name.display());
            }
        }
    }

    #[track_caller]
    fn begin(&self) {
        self.bed.run(&["begin", "--name", "odd", &format!("path={}", self.bed.path("live").display())]).ends(0);
    }
}

/// The command ends with 0; else the test fails with what it said.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = Said::of(output);
    assert_eq!(said.status, 0, "{command:?}\n{}{}", said.out, said.err);
    said.out
}

/// What rsync would do to make `to` the same as `from`.
#[track_caller]
fn rsync(from: &Path, to: &Path) -> String {
    let mut command = Command::new("rsync");
    command.args(["-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes"]);
    succeeds(command.arg(from.join("")).arg(to.join("")))
}

#[test]
fn a_tree_with_everything_comes_back_after_everything_was_done_to_it() {
    let trees = Trees::odd();
    trees.begin();
    trees.bash(WRECK);
    assert!(trees.differ("live", "pristine") > 80);
    trees.bed.run(&["rollback"]).ends(0);
    trees.came_back();

    // Again, on top of what the store has by now; and then nothing at all was done.
    trees.begin();
    trees.bash(WRECK);
    trees.bed.run(&["rollback"]).ends(0);
    trees.came_back();
    trees.begin();
    trees.bed.run(&["rollback"]).ends(0);
    trees.came_back();
}

#[test]
fn a_committed_upgrade_is_undone_and_so_is_the_undoing() {
    let trees = Trees::odd();
    let wreck =
        trees.bed.script("wreck", &format!("cd @BED@/live && exec bash -eu -c '{}'", WRECK.replace('\'', "'\\''")));
    fs::set_permissions(wreck, fs::Permissions::from_mode(0o755)).unwrap();
    trees.bed.write("release/bin/program", "a release\n");
    symlink("bin/program", trees.bed.path("release/program")).unwrap();
    let plan = trees.bed.write(
        "odd.toml",
        r#"
format = 1
name = "odd"
[[resource]]
name = "all"
kind = "path"
path = "@BED@/live"
[[step]]
name = "wreck"
kind = "command"
run = ["@BED@/wreck"]
env = { OUT = "@BED@/out", TMP = "@BED@/tmp" }
"#,
    );
    let text = fs::read_to_string(&plan).unwrap();
    let and_replace = format!(
        "{text}[[step]]\nname = \"unpack\"\nkind = \"replace\"\npath = \"{}\"\nwith = \"release\"\ncarry = [\"closed/\", \"plain/\", \"owned/\", \"links/\"]\n",
        trees.bed.path("live").display()
    );
    fs::write(trees.bed.path("replaced.toml"), and_replace).unwrap();

    trees.bed.run(&["run", "odd.toml"]).ends(0);
    trees.copy("live", "upgraded");
    trees.bed.run(&["rollback", "--yes"]).ends(0);
    trees.same("live", "pristine");
    trees.bed.run(&["rollback", "odd-2", "--yes"]).ends(0);
    trees.same("live", "upgraded");
    trees.bed.run(&["rollback", "odd-3", "--yes"]).ends(0);
    trees.came_back();

    // By the step that puts another tree in place, with parts carried over.
    trees.bed.run(&["run", "replaced.toml"]).ends(0);
    assert_eq!(trees.bed.read("live/program"), "a release\n");
    let carried = |dir: &str| {
        let at = |tree: &str| inventory(&trees.bed.path(tree).join(dir));
        differences(&at("live"), &at("pristine"))
    };
    assert_eq!(carried("closed") + &carried("owned") + &carried("links"), "");
    trees.bed.run(&["rollback", "--yes"]).ends(0);
    trees.came_back();
}

#[test]
fn a_resource_that_is_gone_or_something_else_comes_back() {
    let trees = Trees::odd();
    for wreck in [
        "cd .. && rm -r live",
        "cd .. && rm -r live && printf 'a file now' >live",
        "cd .. && mv live tmp/moved && ln -s \"$OUT\" live",
        "cd .. && mv live tmp/moved-2 && mkfifo live",
        "cd .. && mv live tmp/moved-3 && mkdir -m 700 live && cp -a tmp/moved-3/plain live/",
    ] {
        trees.begin();
        trees.bash(wreck);
        trees.bed.run(&["rollback"]).ends(0);
        trees.came_back();
    }
}

#[test]
fn what_was_not_there_is_not_there_again() {
    let trees = Trees::new();
    fs::remove_dir(trees.bed.path("live")).unwrap();
    for wreck in ["mkdir live && cd live && eval \"$ODD\"", "ln -s \"$OUT\" live", "mknod live c 1 3", "printf x >live"]
    {
        trees.begin();
        let mut command = Command::new("bash");
        command.args(["-eu", "-c", wreck]).current_dir(trees.bed.path(""));
        succeeds(command.env("ODD", ODD).env("OUT", trees.bed.path("out")));
        trees.bed.run(&["rollback"]).ends(0);
        assert!(!trees.bed.exists("live"));
        assert_eq!(differences(&inventory(&trees.bed.path("out")), &trees.outside), "");
    }
}

#[test]
fn a_restore_never_crosses_a_mount_point() {
    let trees = Trees::odd();
    trees.begin();
    let live = trees.bed.path("live");
    // In a mount namespace of its own, which ends with the script: no mount can be left behind.
    let script = r#"
        mount -t tmpfs none "$LIVE/plain/deep" && printf 'precious\n' >"$LIVE/plain/deep/precious"
        printf 'changed\n' >"$LIVE/plain/one"; rm -r "$LIVE/empty"
        ls -lR --time-style=full-iso "$LIVE" >"$TMP/before"
        status=0; "$@" || status=$?; printf 'rollback ended with %d\n' $status >&2
        ls -lR --time-style=full-iso "$LIVE" | diff "$TMP/before" - >&2
        cat "$LIVE/plain/deep/precious"
        status=0; "$@" || status=$?; printf 'again it ended with %d\n' $status >&2
        umount "$LIVE/plain/deep"
        "$@"; printf 'after umount it ended with %d\n' $? >&2
    "#;
    let rollback = trees.bed.command(&["rollback"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-u", "-c", script, "bash"]);
    command.arg(rollback.get_program()).args(rollback.get_args()).stdin(Stdio::null());
    command.env("LIVE", &live).env("TMP", trees.bed.path("tmp")).env("NO_COLOR", "1");
    let said = Said::of(command.output().unwrap()).ends(0);
    assert_eq!(said.out, "precious\n");
    // Columns are as wide as times and sizes are.
    let told = regex::Regex::new(r"(?m)^ +|[\d.]+ [kMG]?B\b").unwrap();
    let told = told
        .replace_all(
            &said.told(&trees.bed),
            |found: &regex::Captures<'_>| {
                if found[0].starts_with(' ') { "" } else { "SIZE" }
            },
        )
        .into_owned();
    let told = regex::Regex::new(" +").unwrap().replace_all(&told, " ").into_owned();
    insta::assert_snapshot!(told, @"
    odd-1: turning back, as asked
    prove the snapshot TIME SIZE read
    restore live TIME failed: cannot restore `BED/live`; nothing was changed
    recheck resource live TIME failed: `live` is not as it was
    odd-1: stuck at `restore live`
    error: odd-1 is stuck: restore of `live` failed
    cause: cannot restore `BED/live`; nothing was changed
    cause: something is mounted at `BED/live/plain/deep` that was not when it was captured
    also: `recheck resource live` failed: `live` is not as it was: it differs in `.`, `empty`, `plain/deep`, `plain/one`
    restored: nothing
    not restored: `live`
    hint: `umount BED/live/plain/deep`, then try again
    hint: remove the cause, then `txupgrade rollback odd-1` tries again
    hint: once it is restored by hand, `txupgrade release odd-1 --resume` (or `--leave-down`) closes it
    rollback ended with 5
    prove the snapshot TIME SIZE read
    restore live TIME failed: cannot restore `BED/live`; nothing was changed
    recheck resource live TIME failed: `live` is not as it was
    odd-1: stuck at `restore live`
    error: odd-1 is stuck: restore of `live` failed
    cause: cannot restore `BED/live`; nothing was changed
    cause: something is mounted at `BED/live/plain/deep` that was not when it was captured
    also: `recheck resource live` failed: `live` is not as it was: it differs in `.`, `empty`, `plain/deep`, `plain/one`
    restored: nothing
    not restored: `live`
    hint: `umount BED/live/plain/deep`, then try again
    hint: remove the cause, then `txupgrade rollback odd-1` tries again
    hint: once it is restored by hand, `txupgrade release odd-1 --resume` (or `--leave-down`) closes it
    again it ended with 5
    prove the snapshot TIME SIZE read
    restore live TIME 3 items put back
    recheck resource live TIME as it was
    odd-1 is turned back: everything was rolled back and rechecked
    warning: restore of `live` failed: cannot restore `BED/live`; nothing was changed: something is mounted at `BED/live/plain/deep` that was not when it was captured
    warning: `recheck resource live` failed: `live` is not as it was: it differs in `.`, `empty`, `plain/deep`, `plain/one`
    after umount it ended with 0
    ");
    trees.came_back();
}

#[test]
fn a_part_of_usr_share_comes_back() {
    some_of_usr_share(10_000);
}

/// `TXUPGRADE_TEST_WHOLE=1 cargo test --release --test it all_of_usr_share -- --nocapture` prints how long it took.
#[test]
fn all_of_usr_share_comes_back_where_it_is_asked_for() {
    if std::env::var_os("TXUPGRADE_TEST_WHOLE").is_some() {
        some_of_usr_share(u64::MAX);
    }
}

/// Copies about so many entries of `/usr/share`, of all its parts alike, wrecks the copy, and rolls it back.
fn some_of_usr_share(entries: u64) {
    let trees = Trees::new();
    let all: Vec<_> = walkdir::WalkDir::new("/usr/share").sort_by_file_name().into_iter().map(Result::unwrap).collect();
    let every = (all.len() as u64).div_ceil(entries);
    let room = if every == 1 { u64::MAX } else { 256 << 10 };
    let mut rsync = Command::new("rsync");
    rsync.args(["-aHAX", "--from0", "--files-from=-", "/usr/share/"]).arg(trees.bed.path("live/"));
    let mut rsync = rsync.stdin(Stdio::piped()).spawn().unwrap();
    let mut names = Vec::new();
    for (number, entry) in all.iter().enumerate() {
        if (number as u64).is_multiple_of(every) && entry.metadata().unwrap().len() <= room {
            names.extend_from_slice(entry.path().strip_prefix("/usr/share").unwrap().as_os_str().as_bytes());
            names.push(0);
        }
    }
    // An empty name would be the directory itself.
    let start = names.iter().position(|&byte| byte != 0).unwrap();
    rsync.stdin.take().unwrap().write_all(&names[start..]).unwrap();
    assert!(rsync.wait().unwrap().success());
    trees.copy("live", "pristine");

    let timed = |what: &str, arguments: &[&str]| {
        let clock = Instant::now();
        trees.bed.run(arguments).ends(0);
        println!("{what}: {:.1} s", clock.elapsed().as_secs_f64());
    };
    let path = format!("path={}", trees.bed.path("live").display());
    timed("begin", &["begin", "--name", "odd", &path]);
    let wrecked = wreck_at_random(&trees.bed.path("live"), &trees.bed.path("out"));
    let entries = inventory(&trees.bed.path("pristine")).len();
    println!("{wrecked} of {entries} entries wrecked, {} lines of rsync", trees.differ("live", "pristine"));
    timed("rollback", &["rollback"]);
    trees.came_back();
}

/// Does something bad to about one entry in eight.
fn wreck_at_random(root: &Path, outside: &Path) -> usize {
    let mut dice = Dice(4);
    let mut wrecked = 0;
    let paths: Vec<PathBuf> = walkdir::WalkDir::new(root)
        .min_depth(1)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .collect();
    let times = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    for path in &paths {
        // What stands in a directory that was moved or replaced is no longer there, or is elsewhere.
        let inside = path.parent().unwrap().canonicalize().is_ok_and(|parent| parent.starts_with(root));
        let (true, 0, Ok(data)) = (inside, dice.below(8), path.symlink_metadata()) else { continue };
        let beside = path.with_file_name(format!("added-{wrecked}"));
        wrecked += 1;
        if data.is_symlink() {
            fs::remove_file(path).unwrap();
            match dice.below(4) {
                0 => fs::create_dir_all(path.join("in/it")).unwrap(),
                1 => fs::write(path, "a file now").unwrap(),
                2 => symlink(outside, path).unwrap(),
                _ => {}
            }
        } else if data.is_dir() {
            match dice.below(40) {
                0 => fs::remove_dir_all(path).unwrap(),
                1 => {
                    fs::remove_dir_all(path).unwrap();
                    symlink(outside, path).unwrap();
                }
                2 => {
                    fs::remove_dir_all(path).unwrap();
                    fs::write(path, "a file now").unwrap();
                }
                3 | 4 => fs::rename(path, beside).unwrap(),
                5..10 => fs::set_permissions(path, fs::Permissions::from_mode(0o1777)).unwrap(),
                10..15 => chown(path, Some(1234), Some(4321)).unwrap(),
                15..20 => xattr::set(path, "user.added", b"1").unwrap(),
                20..30 => fs::write(path.join("added"), "more").unwrap(),
                _ => fs::File::open(path).unwrap().set_times(times).unwrap(),
            }
        } else {
            let content = fs::read(path).unwrap();
            let same_time = |bytes: &[u8]| {
                fs::write(path, bytes).unwrap();
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_times(fs::FileTimes::new().set_modified(data.modified().unwrap())).unwrap();
            };
            match dice.below(12) {
                0 => same_time(&content.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>()),
                1 => same_time(&[content.as_slice(), b"more"].concat()),
                2 => same_time(&content[..content.len() / 2]),
                3 => fs::remove_file(path).unwrap(),
                4 => {
                    fs::remove_file(path).unwrap();
                    fs::create_dir_all(path.join("in/it")).unwrap();
                }
                5 => {
                    fs::remove_file(path).unwrap();
                    symlink(outside.join("victim"), path).unwrap();
                }
                6 => fs::rename(path, beside).unwrap(),
                7 => fs::hard_link(path, beside).unwrap(),
                8 => fs::set_permissions(path, fs::Permissions::from_mode(0o4777)).unwrap(),
                9 => chown(path, Some(1234), Some(4321)).unwrap(),
                10 => xattr::set(path, "user.added", b"1").unwrap(),
                _ => fs::File::options().write(true).open(path).unwrap().set_times(times).unwrap(),
            }
        }
    }
    wrecked
}
