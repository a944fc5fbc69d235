//! What goes wrong ends with a message an operator can act on, the right exit status, and nothing lost.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use regex::Regex;

use crate::bed::{Bed, Said};

/// A small application in a bed, and a plan for it.
struct Shop {
    bed: Bed,
}

impl Shop {
    fn new() -> Shop {
        let bed = Bed::new();
        bed.write("app/version", "1.0.0\n");
        bed.write("app/config/shop.conf", "listen 80\n");
        bed.script("app/bin/shop", "echo shop $(cat @BED@/app/version)");
        std::os::unix::fs::symlink("config/shop.conf", bed.path("app/conf")).unwrap();
        Shop { bed }
    }

    /// `p.toml`: captures the application and does what `rest` says.
    fn plan(&self, rest: &str) {
        let head = "format = 1\nname = \"shop\"\n";
        let app = "[[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"@BED@/app\"\n";
        self.bed.write("p.toml", &format!("{head}{app}{rest}"));
    }

    /// A plan with one step, a line of shell.
    fn step(&self, shell: &str) {
        self.plan(&format!("[[step]]\nname = \"go\"\nkind = \"command\"\nshell = '''{shell}'''\n"));
    }

    /// A step that upgrades for as long as there is no file `go-on`.
    fn slow_step(&self) {
        self.step("echo 2.0.0 > @BED@/app/version; while ! test -e @BED@/go-on; do sleep 0.05; done");
    }

    fn version(&self) -> String {
        self.bed.read("app/version").trim().to_owned()
    }

    /// Everything that can be told about the application from outside.
    fn tree(&self) -> Vec<String> {
        tree(&self.bed.path("app"))
    }

    /// Runs a command that must end with `status` and leave the application exactly as it was; what it said in the end.
    #[track_caller]
    fn leaves_all_as_it_was(&self, arguments: &[&str], status: i32) -> String {
        let before = self.tree();
        let said = self.bed.run(arguments).ends(status);
        assert_eq!(self.tree(), before, "{}", said.err);
        self.nothing_is_left();
        in_the_end(&said, &self.bed)
    }

    /// No side copy beside the application, no scratch, a whole journal.
    #[track_caller]
    fn nothing_is_left(&self) {
        let beside: Vec<String> = names(&self.bed.path("")).chain(names(&self.bed.path("app"))).collect();
        assert!(!beside.iter().any(|name| name.contains(".txupgrade")), "{beside:?}");
        if self.bed.exists("state/journal.db") {
            let tmp: Vec<String> = names(&self.bed.path("state/tmp")).collect();
            assert!(tmp.is_empty(), "{tmp:?}");
            self.bed.run(&["history", "--verify"]).ends(0);
        }
    }

    /// A shell script in a mount namespace of its own: what it mounts is gone when it ends. `txupgrade` is in its PATH,
    /// and the bed is where it runs.
    fn in_own_mounts(&self, script: &str) -> Said {
        let binary = Path::new(env!("CARGO_BIN_EXE_txupgrade")).parent().unwrap();
        let mut path = OsString::from(binary);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-euc", script])
            .current_dir(self.bed.path(""))
            .env("PATH", path)
            .env("TXUPGRADE_STATE_DIR", self.bed.state())
            .env("NO_COLOR", "1")
            .output()
            .expect("`unshare` comes with util-linux");
        Said::of(output)
    }
}

fn names(dir: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap())
}

/// Every entry below `root` with its type, mode, owner, time and content, sorted.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        walkdir::WalkDir::new(root).into_iter().map(|entry| entry.unwrap().into_path()).collect();
    entries.sort();
    for path in entries {
        let facts = path.symlink_metadata().unwrap();
        let content = match facts.file_type() {
            kind if kind.is_file() => blake3::hash(&std::fs::read(&path).unwrap()).to_string(),
            kind if kind.is_symlink() => std::fs::read_link(&path).unwrap().display().to_string(),
            _ => String::new(),
        };
        found.push(format!(
            "{} {:o} {}:{} {}.{:09} {content}",
            path.display(),
            facts.mode(),
            facts.uid(),
            facts.gid(),
            facts.mtime(),
            facts.mtime_nsec()
        ));
    }
    found
}

/// What was said when all was over: without the tasks as they went by, and without what differs from run to run.
fn in_the_end(said: &Said, bed: &Bed) -> String {
    masked(&said.told(bed))
}

fn masked(text: &str) -> String {
    let task = Regex::new(
        r"(?m)^  (require|prepare|precapture|quiesce|capture|prove|apply|resume|verify|finish|reinstate|diagnose|undo|restore|recheck) .* TIME.*\n",
    )
    .unwrap();
    let course = Regex::new(r"(?m)^\S+-\d+: (begun|.*turning back.*|`.*` was interrupted|stuck at .*)\n").unwrap();
    let free = Regex::new(r"[\d.]+ [kMGT]i?B (free|are free)").unwrap();
    let since = Regex::new(r"\(since [^)]*\)").unwrap();
    let binary = Regex::new(r"/\S*/debug/txupgrade").unwrap();
    let hash = Regex::new(r"ending in [0-9a-f]{64}").unwrap();
    let text = task.replace_all(text, "");
    let text = course.replace_all(&text, "");
    let text = free.replace_all(&text, "SIZE $1");
    let text = hash.replace_all(&text, "ending in HASH");
    let text = since.replace_all(&text, "(since TIME)");
    binary.replace_all(&text, "txupgrade").into_owned()
}

/// Waits for what another process does.
#[track_caller]
fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < deadline, "it did not happen within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes whose command line has `part` in it.
fn processes(part: &str) -> Vec<u32> {
    let pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(part)
    })
    .collect()
}

#[test]
fn typos_in_a_plan_are_all_told_at_once_with_the_nearest_word() {
    let shop = Shop::new();
    shop.plan(
        "exlude = [\"cache/\"]\n[[step]]\nname = \"go\"\nkind = \"comand\"\nrun = [\"true\"]\nunder = \"sevrer\"\n",
    );
    let told = shop.leaves_all_as_it_was(&["run", "p.toml"], 2);
    insta::assert_snapshot!(told, @r#"
    error: the plan `BED/p.toml` has 3 mistakes
      cause: BED/p.toml:7:1: unknown key `exlude`
          7 | exlude = ["cache/"]
            | ^^^^^^
          hint: did you mean `exclude`?
      cause: BED/p.toml:10:8: there is no step of kind `comand`
          10 | kind = "comand"
             |        ^^^^^^^^
          hint: did you mean `command`?
      cause: BED/p.toml:12:9: there is no quiesce `sevrer`
          12 | under = "sevrer"
             |         ^^^^^^^^
          hint: the plan has no `[[quiesce]]` at all
    "#);
    assert!(!shop.bed.exists("state"), "a plan that is wrong leaves no state directory");
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let shop = Shop::new();
    shop.plan("[[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"/srv/shop\"\n");
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 2), @r#"
    error: the plan `BED/p.toml` has a mistake
      cause: BED/p.toml:8:8: two entries of `[[resource]]` are called `app`; the first is in line 4
          8 | name = "app"
            |        ^^^^^
          hint: names are unique in their list
    "#);
}

#[test]
fn a_resource_that_holds_the_state_directory_is_refused() {
    let shop = Shop::new();
    shop.bed.write(
        "p.toml",
        "format = 1\nname = \"shop\"\n[[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"@BED@\"\n",
    );
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 2), @r#"
    error: the resource `app` holds the state directory, or is inside it
      cause: it is `BED`, and the state directory is `BED/state`
    hint: choose another state directory with --state-dir or TXUPGRADE_STATE_DIR
    "#);
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["plan", "p.toml"], 2), @r#"
    error: the resource `app` holds the state directory, or is inside it
      cause: it is `BED`, and the state directory is `BED/state`
    hint: choose another state directory with --state-dir or TXUPGRADE_STATE_DIR
    "#);
    assert_eq!(shop.bed.run(&["history"]).ends(0).err.trim(), "no transaction yet");
}

#[test]
fn run_by_root_a_plan_that_others_may_write_is_refused() {
    assert!(rustix::process::geteuid().is_root(), "this test shows what root is protected from: run it as root");
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version");
    let chmod = |name: &str, mode| {
        std::fs::set_permissions(shop.bed.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod("p.toml", 0o666);
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 2), @r#"
    error: the plan `p.toml` is not safe to run
      cause: others may write `BED/p.toml`
      cause: `BED/p.toml` has mode 0666
    hint: `chmod go-w BED/p.toml`
    "#);
    chmod("p.toml", 0o644);
    // Who may write the directory may replace the file.
    chmod("", 0o777);
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["begin", "p.toml"], 2), @r#"
    error: the plan `p.toml` is not safe to run
      cause: others may write `BED/p.toml`
      cause: the directory `BED` has mode 0777
    hint: `chmod go-w BED`
    "#);
    chmod("", 0o1777);
    shop.bed.run(&["plan", "p.toml"]).ends(0);
    std::os::unix::fs::chown(shop.bed.path("p.toml"), Some(65534), None).unwrap();
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 2), @r#"
    error: the plan `p.toml` is not safe to run
      cause: others may write `BED/p.toml`
      cause: `BED/p.toml` belongs to user 65534, not to root
    hint: `chown --no-dereference 0 BED/p.toml`
    "#);
}

#[test]
fn run_by_root_a_script_that_others_may_write_is_refused() {
    let shop = Shop::new();
    shop.plan("[[step]]\nname = \"go\"\nkind = \"command\"\nrun = [\"sh\", \"@BED@/upgrade.sh\"]\n");
    let script = shop.bed.script("upgrade.sh", "echo 2.0.0 > @BED@/app/version");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o775)).unwrap();
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 2), @r#"
    error: the command word `BED/upgrade.sh` is not safe to run
      cause: others may write `BED/upgrade.sh`
      cause: `BED/upgrade.sh` has mode 0775
    hint: `chmod go-w BED/upgrade.sh`
    "#);
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["plan", "p.toml"], 2), @r#"
    error: the command word `BED/upgrade.sh` is not safe to run
      cause: others may write `BED/upgrade.sh`
      cause: `BED/upgrade.sh` has mode 0775
    hint: `chmod go-w BED/upgrade.sh`
    "#);
}

#[test]
fn a_plan_that_is_not_there_is_named() {
    let shop = Shop::new();
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 2), @r#"
    error: cannot read the plan `p.toml`
      cause: No such file or directory (os error 2)
    "#);
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["plan", "app"], 2), @r#"
    error: cannot read the plan `app`
      cause: Is a directory (os error 21)
    "#);
    assert!(!shop.bed.exists("state"));
}

#[test]
fn a_release_that_is_not_there_is_missed_before_anything_is_stopped() {
    let shop = Shop::new();
    shop.plan(
        "[[quiesce]]\nname = \"server\"\nkind = \"command\"\nrun = [\"touch\", \"@BED@/stopped\"]\nresume = [\"true\"]\n\
         [[step]]\nname = \"unpack\"\nkind = \"replace\"\npath = \"@BED@/app\"\nwith = \"shop-2.0.0.tar.gz\"\n",
    );
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 1), @r#"
    error: `require step unpack` failed; nothing was changed
      cause: cannot read `BED/shop-2.0.0.tar.gz`
      cause: No such file or directory (os error 2)
    hint: after a fix, `txupgrade run p.toml` again
    "#);
    assert!(!shop.bed.exists("stopped"));
}

#[test]
fn a_program_that_is_not_there_fails_its_step_and_is_named() {
    let shop = Shop::new();
    shop.plan("[[step]]\nname = \"go\"\nkind = \"command\"\nrun = [\"@BED@/app/bin/migrate\", \"--all\"]\n");
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 3), @r#"
    error: step `go` failed; everything was rolled back and rechecked
      cause: there is no program `BED/app/bin/migrate`
    hint: its output is in `txupgrade log shop-1 go`; after a fix, `txupgrade run p.toml` again
    "#);
}

#[test]
fn an_upgrade_from_another_version_is_refused_and_names_the_stop() {
    let shop = Shop::new();
    shop.plan(
        "[version]\nrun = [\"@BED@/app/bin/shop\"]\nfrom = \">=1.4, <2.0\"\nto = \"=2.0.0\"\n\
         [[step]]\nname = \"go\"\nkind = \"command\"\nrun = [\"true\"]\n",
    );
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 1), @r#"
    error: `require the version` failed; nothing was changed
      cause: version 1.0.0 is installed, and this plan upgrades from `>=1.4, <2.0`
    hint: `>=1.4, <2.0` is a required stop: upgrade to a version in it first, with a plan that leads there
    hint: after a fix, `txupgrade run p.toml` again
    "#);
    shop.bed.write("app/version", "2.0.0\n");
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 1), @r#"
    error: `require the version` failed; nothing was changed
      cause: version 2.0.0 is installed, and this plan upgrades from `>=1.4, <2.0`
    hint: version 2.0.0 is what this plan upgrades to: there is nothing to do
    hint: after a fix, `txupgrade run p.toml` again
    "#);
    shop.bed.write("app/version", "3.1.0\n");
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 1), @r#"
    error: `require the version` failed; nothing was changed
      cause: version 3.1.0 is installed, and this plan upgrades from `>=1.4, <2.0`
    hint: version 3.1.0 is newer than 2.0.0, to which this plan leads; use a plan for 3.1.0
    hint: after a fix, `txupgrade run p.toml` again
    "#);
}

#[test]
fn a_step_that_does_not_lead_to_the_version_is_taken_back() {
    let shop = Shop::new();
    shop.plan(
        "[version]\nrun = [\"@BED@/app/bin/shop\"]\nfrom = \"<2.0\"\nto = \"=2.0.0\"\n\
         [[step]]\nname = \"go\"\nkind = \"command\"\nshell = \"echo 1.9.9 > @BED@/app/version\"\n",
    );
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 3), @r#"
    error: `verify the version` failed; everything was rolled back and rechecked
      cause: version 1.9.9 is installed, and the plan wants `=2.0.0`
    hint: after a fix, `txupgrade run p.toml` again
    "#);
}

#[test]
fn without_the_room_that_is_asked_for_nothing_begins() {
    let shop = Shop::new();
    shop.plan(
        "[[check]]\nname = \"room\"\nkind = \"space\"\nat = \"before\"\npath = \"@BED@\"\nfree = \"900 TiB\"\n\
         [[step]]\nname = \"go\"\nkind = \"command\"\nrun = [\"true\"]\n",
    );
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 1), @r#"
    error: check `room` failed; nothing was changed
      cause: the check `room` does not pass
      cause: SIZE free, 900.0 TiB needed
    hint: after a fix, `txupgrade run p.toml` again
    "#);
}

#[test]
fn without_room_for_the_snapshot_nothing_begins() {
    let shop = Shop::new();
    std::fs::write(shop.bed.path("app/big"), vec![b'x'; 12 << 20]).unwrap();
    shop.step("echo 2.0.0 > @BED@/app/version");
    let before = shop.tree();
    std::fs::create_dir(shop.bed.state()).unwrap();
    let said = shop.in_own_mounts("mount -t tmpfs -o size=12m none state; exec txupgrade run p.toml").ends(1);
    insta::assert_snapshot!(in_the_end(&said, &shop.bed), @r#"
    error: `require the room` failed; nothing was changed
      cause: there is not enough room for `BED/state`
      cause: 13 MB may be needed for the snapshot, and SIZE are free
    hint: make room on the filesystem of `BED/state`
    hint: or put the state directory on a larger one with --state-dir
    hint: after a fix, `txupgrade run p.toml` again
    "#);
    assert_eq!(shop.tree(), before);
}

/// On an overlay a file has the device of the layer it is in; it is part of the tree all the same.
#[test]
fn an_application_on_an_overlay_is_captured_and_restored() {
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version; echo new > @BED@/app/new; exit 3");
    for dir in ["layers", "lower"] {
        std::fs::create_dir(shop.bed.path(dir)).unwrap();
    }
    let script = "cp -a app/. lower
        mount -t tmpfs none layers
        mkdir layers/up layers/work
        mount -t overlay o -o lowerdir=lower,upperdir=layers/up,workdir=layers/work app
        before=$(find app -type f -exec sha256sum {} + | sort)
        test $(stat -c %d app) != $(stat -c %d app/version) || echo all layers have one device
        txupgrade run p.toml && exit 1 || echo status $?
        test \"$before\" = \"$(find app -type f -exec sha256sum {} + | sort)\"";
    let said = shop.in_own_mounts(script).ends(0);
    assert_eq!(said.out, "status 3\n", "{}", said.err);
    assert!(!said.err.contains("mount point"), "{}", said.err);
}

/// The step fills the disk that the journal is on, reserve included: nothing can be journaled any more, so nothing more
/// is done.
#[test]
fn a_journal_without_room_stops_everything_until_recover() {
    let shop = Shop::new();
    shop.step(
        "echo 2.0.0 > @BED@/app/version; rm -r @BED@/state/reserve; \
         dd if=/dev/zero of=@BED@/state/ballast bs=64k 2>/dev/null || true",
    );
    let before = shop.tree();
    std::fs::create_dir(shop.bed.state()).unwrap();
    let script = "mount -t tmpfs -o size=24m none state
        txupgrade run p.toml && exit 1 || echo status $? >&2
        txupgrade status >/dev/null && exit 1 || echo status $? >&2
        txupgrade recover && exit 1 || echo status $? >&2
        cat app/version
        rm state/ballast
        txupgrade recover
        txupgrade history --verify >/dev/null";
    let said = shop.in_own_mounts(script).ends(0);
    insta::assert_snapshot!(in_the_end(&said, &shop.bed), @r#"
    error: `shop-1` was left in the middle of `apply go`
      cause: cannot write to the journal `BED/state/journal.db`
      cause: database or disk is full
    hint: make some megabytes of room on the filesystem of `BED/state`, then `txupgrade recover` settles it
    status 5
    status 10
    error: cannot settle `shop-1`
      cause: cannot write to the journal `BED/state/journal.db`
      cause: database or disk is full
    hint: make some megabytes of room on the filesystem of `BED/state`, then `txupgrade recover` again
    status 5
    shop-1 was interrupted; everything was rolled back and rechecked
    the chain is whole: 21 events of 1 transaction, ending in HASH
    "#);
    assert_eq!(said.out, "2.0.0\n");
    assert_eq!(shop.tree(), before);
}

/// Somebody else fills the disk that the application is on: what was captured does not fit back until there is room.
#[test]
fn an_application_without_room_to_be_restored_is_stuck_and_can_be_tried_again() {
    let shop = Shop::new();
    shop.step(
        "echo 2.0.0 > @BED@/app/version; rm @BED@/app/big; dd if=/dev/zero of=@BED@/disk/ballast bs=64k 2>/dev/null",
    );
    let script = "cp -a app old
        head -c 12000000 /dev/urandom > old/big
        mkdir disk
        mount -t tmpfs -o size=40m none disk
        mkdir disk/app
        mount --bind disk/app app
        cp -a old/. app/
        txupgrade run p.toml && exit 1 || echo status $? >&2
        rm disk/ballast
        txupgrade rollback >&2
        diff -r --no-dereference old app
        ls -A app";
    let said = shop.in_own_mounts(script).ends(0);
    // Which file had no room any more is chance: several are written at once.
    let told =
        Regex::new(r"aside/1/\d+/\d+").unwrap().replace_all(&in_the_end(&said, &shop.bed), "aside/1/N").into_owned();
    insta::assert_snapshot!(told, @r#"
    error: step `go` failed, and shop-1 is stuck on its way back: restore of `app` failed
      cause: `echo 2.0.0 > BED/app/version; rm BED/app/big; dd if=/dev/zero of=BED/disk/ballast bs=64k 2>/dev/null` ended with exit status 1
      also: restore of `app` failed: cannot write `BED/app/.txupgrade-shop-1-aside/1/N`: No space left on device (os error 28)
      also: `recheck resource app` failed: `app` is not as it was: it differs in `.`, `big`, `version`
      restored: nothing
      not restored: `app`
    hint: make room on the filesystem of `BED/app`
    hint: remove the cause, then `txupgrade rollback shop-1` tries again
    hint: once it is restored by hand, `txupgrade release shop-1 --resume` (or `--leave-down`) closes it
    status 5
    shop-1 went back: everything was rolled back and rechecked
    warning: step `go` failed: `echo 2.0.0 > BED/app/version; rm BED/app/big; dd if=/dev/zero of=BED/disk/ballast bs=64k 2>/dev/null` ended with exit status 1
    warning: restore of `app` failed: cannot write `BED/app/.txupgrade-shop-1-aside/1/N`: No space left on device (os error 28)
    warning: `recheck resource app` failed: `app` is not as it was: it differs in `.`, `big`, `version`
    "#);
    assert_eq!(said.out, "big\nbin\nconf\nconfig\nversion\n");
}

#[test]
fn absent_is_a_state_and_a_rollback_makes_it_so_again() {
    let shop = Shop::new();
    shop.plan(
        "[[resource]]\nname = \"plugins\"\nkind = \"path\"\npath = \"@BED@/plugins\"\n\
         [[resource]]\nname = \"db\"\nkind = \"sqlite\"\npath = \"@BED@/data/shop.db\"\n\
         [[step]]\nname = \"go\"\nkind = \"command\"\nshell = '''mkdir @BED@/plugins; echo x > @BED@/plugins/search; \
         sqlite3 @BED@/data/shop.db 'create table orders(id)'; echo 2.0.0 > @BED@/app/version'''\n\
         [[check]]\nname = \"works\"\nkind = \"file\"\nat = \"after\"\npath = \"@BED@/app/version\"\nmatches = \"3\"\n",
    );
    std::fs::create_dir(shop.bed.path("data")).unwrap();
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 3), @r#"
    warning: `plugins`: there is nothing at `BED/plugins`; a rollback removes what comes there
    warning: `db`: there is nothing at `BED/data/shop.db`; a rollback removes what comes there
    error: check `works` failed; everything was rolled back and rechecked
      cause: the check `works` does not pass
      cause: does not match `3`
    hint: after a fix, `txupgrade run p.toml` again
    "#);
    assert!(!shop.bed.exists("plugins") && !shop.bed.exists("data/shop.db"));
    assert_eq!(names(&shop.bed.path("data")).count(), 0);
}

#[test]
fn a_step_that_hangs_is_ended_with_all_its_children() {
    let shop = Shop::new();
    let mark = format!("86399.{}", std::process::id());
    shop.plan(&format!(
        "[[step]]\nname = \"go\"\nkind = \"command\"\ntimeout = \"1s\"\nshell = '''echo 2.0.0 > @BED@/app/version; \
         sleep {mark} & echo waiting for a lock; sleep {mark}'''\n"
    ));
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 3).replace(&mark, "86399"), @r#"
    error: step `go` failed; everything was rolled back and rechecked
      cause: `echo 2.0.0 > BED/app/version; sleep 86399 & echo waiting for a lock; sleep 86399` was stopped after 1s: it did not end in time
      cause: its last line was: waiting for a lock
    hint: its output is in `txupgrade log shop-1 go`; after a fix, `txupgrade run p.toml` again
    "#);
    assert_eq!(processes(&format!("sleep {mark}")), Vec::<u32>::new());
}

#[test]
fn a_step_that_asks_a_question_reads_the_end_of_its_input() {
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version; echo 'drop all tables? [y/n]'; read answer && rm -r @BED@/app; exit 7");
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 3), @r#"
    error: step `go` failed; everything was rolled back and rechecked
      cause: `echo 2.0.0 > BED/app/version; echo 'drop all tables? [y/n]'; read answer && rm -r BED/app; exit 7` ended with exit status 7
      cause: its last line was: drop all tables? [y/n]
    hint: its output is in `txupgrade log shop-1 go`; after a fix, `txupgrade run p.toml` again
    "#);
    // Nor is there a terminal to ask on.
    shop.step("echo 'password:' > /dev/tty && read answer < /dev/tty");
    insta::assert_snapshot!(shop.leaves_all_as_it_was(&["run", "p.toml"], 3), @r#"
    error: step `go` failed; everything was rolled back and rechecked
      cause: `echo 'password:' > /dev/tty && read answer < /dev/tty` ended with exit status 2
      cause: its last line was: /bin/sh: 1: cannot create /dev/tty: No such device or address
    hint: its output is in `txupgrade log shop-2 go`; after a fix, `txupgrade run p.toml` again
    "#);
}

#[test]
fn a_step_that_prints_a_hundred_megabytes_is_kept_in_flat_memory() {
    let shop = Shop::new();
    let flood = "yes 'a line of the migration that tells nothing to nobody at all, over and over again' | \
                 head -c 100000000; echo; echo the end";
    shop.step(&format!("{flood}; echo 2.0.0 > @BED@/app/version"));
    let mut running = shop.bed.start(&["run", "p.toml"]);
    let mut most = 0;
    while running.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse().ok());
        most = most.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = Said::of(running.wait_with_output().unwrap()).ends(0);
    insta::assert_snapshot!(in_the_end(&said, &shop.bed), @"shop-1 is committed, in TIME");
    assert!((1..200_000).contains(&most), "its memory grew to {most} KiB");
    assert_eq!(shop.version(), "2.0.0");
    let log = std::fs::metadata(shop.bed.path("state/logs/shop-1/apply-go.log")).unwrap();
    assert!(log.len() > 100_000_000, "{}", log.len());
    let said = shop.bed.run(&["log", "shop-1", "go"]).ends(0);
    assert!(said.out.contains("the end\n"), "the end of a long output is shown");
    // What a step has to say is found at the end of it, too.
    let expect = "expect = { matches = \"the end\", matches_not = \"(?i)error\" }";
    shop.plan(&format!("[[step]]\nname = \"go\"\nkind = \"command\"\n{expect}\nshell = '''{flood}'''\n"));
    shop.bed.run(&["run", "p.toml"]).ends(0);
}

#[test]
fn children_that_outlive_a_step_are_left_alone_and_named() {
    let shop = Shop::new();
    let mark = format!("86398.{}", std::process::id());
    shop.step(&format!("setsid sleep {mark} & sleep 0.2; echo 2.0.0 > @BED@/app/version"));
    let said = shop.bed.run(&["run", "p.toml"]).ends(0);
    let left = processes(&format!("sleep {mark}"));
    assert_eq!(left.len(), 1, "{}", said.err);
    Command::new("kill").arg(left[0].to_string()).status().unwrap();
    assert!(said.err.contains(&format!("left running: {} sleep {mark}", left[0])), "{}", said.err);
    assert_eq!(shop.version(), "2.0.0");
    shop.nothing_is_left();
}

#[test]
fn children_that_outlive_a_failed_step_are_ended_before_anything_is_restored() {
    let shop = Shop::new();
    let mark = format!("86397.{}", std::process::id());
    shop.step(&format!(
        "setsid sh -c 'while :; do echo 6.6.6 > @BED@/app/version; sleep 0.01; done; : {mark}' & \
         sleep 0.2; exit 4"
    ));
    let told = shop.leaves_all_as_it_was(&["run", "p.toml"], 3).replace(&mark, "MARK");
    // Whether its own child was asleep at that moment, or was still called as it is, is chance.
    let mut told: Vec<&str> = told.lines().filter(|line| !line.contains("`sleep 0.01`, which")).collect();
    told.dedup();
    insta::assert_snapshot!(told.join("\n"), @r#"
    error: step `go` failed; everything was rolled back and rechecked
      cause: `setsid sh -c 'while :; do echo 6.6.6 > BED/app/version; sleep 0.01; done; : MARK' & sleep 0.2; exit 4` ended with exit status 4
      cause: process PID `sh -c while :; do echo 6.6.6 > BED/app/version; sleep 0.01; done; : MARK`, which it left running, was ended
    hint: its output is in `txupgrade log shop-1 go`; after a fix, `txupgrade run p.toml` again
    "#);
    assert_eq!(processes(&mark), Vec::<u32>::new());
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(shop.version(), "1.0.0");
}

#[test]
fn a_step_that_kills_txupgrade_is_ended_by_recover_and_taken_back() {
    let shop = Shop::new();
    let mark = format!("86396.{}", std::process::id());
    shop.step(&format!("echo 2.0.0 > @BED@/app/version; kill -9 $PPID; sleep {mark}; echo 3.0.0 > @BED@/app/version"));
    let before = shop.tree();
    assert_eq!(shop.bed.run(&["run", "p.toml"]).status, 128 + 9);
    assert_eq!(shop.version(), "2.0.0");
    let said = shop.bed.run(&["status"]).ends(10);
    insta::assert_snapshot!(masked(&mask_status(&said, &shop.bed)), @r#"
    shop-1: interrupted: its process is gone
      purpose:      upgrade by BED/p.toml
      begun:        MOMENT
      died in:      step `go`, TIME ago
      next: `txupgrade recover` settles it
    "#);
    // Nothing else may begin there, and nobody has to know more than `recover`.
    let said = shop.bed.run(&["run", "p.toml"]).ends(6);
    insta::assert_snapshot!(in_the_end(&said, &shop.bed), @r#"
    error: `shop` overlaps with `shop-1`, which is not finished
      cause: both have `BED/app`
    hint: `txupgrade show shop-1` says where it is; commit it, roll it back or `txupgrade recover` it first
    "#);
    let said = shop.bed.run(&["recover"]).ends(0);
    insta::assert_snapshot!(in_the_end(&said, &shop.bed).replace(&mark, "86396"), @r#"
    warning: ended process PID of `apply go`: /bin/sh -c echo 2.0.0 > BED/app/version; kill -9 $PPID; sleep 86396; echo 3.0.0 > BED/app/version
    warning: ended process PID of `apply go`: sleep 86396
    shop-1 was interrupted; everything was rolled back and rechecked
    "#);
    assert_eq!(shop.tree(), before);
    assert_eq!(processes(&format!("sleep {mark}")), Vec::<u32>::new());
    shop.nothing_is_left();
    shop.bed.run(&["recover"]).ends(0);
}

/// `status` on stdout, with times masked.
fn mask_status(said: &Said, bed: &Bed) -> String {
    let begun = Regex::new(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d").unwrap();
    let both = Said { status: said.status, out: String::new(), err: format!("{}{}", said.out, said.err) };
    begun.replace_all(&both.told(bed), "MOMENT").into_owned()
}

#[test]
fn a_second_txupgrade_is_refused_by_name_and_disturbs_nothing() {
    let shop = Shop::new();
    shop.slow_step();
    let first = shop.bed.start(&["run", "p.toml"]);
    until(|| shop.version() == "2.0.0");
    let journaled = shop.bed.events("shop-1");
    let said = shop.bed.run(&["run", "p.toml"]).ends(6);
    insta::assert_snapshot!(in_the_end(&said, &shop.bed), @r#"
    error: `shop` overlaps with `shop-1`, which is not finished
      cause: both have `BED/app`
      cause: process PID is at work on it: txupgrade --state-dir BED/state run p.toml
    hint: wait until it has ended; `txupgrade log --follow` shows what it does
    "#);
    for verb in ["rollback", "commit", "apply"] {
        let said = shop.bed.run(&[verb]).ends(7);
        let told = in_the_end(&said, &shop.bed);
        assert!(said.err.contains(&format!("process {}: ", first.id())), "{}", said.err);
        insta::allow_duplicates! { insta::assert_snapshot!(told, @r#"
        error: transaction `shop-1` is locked by another process
          cause: process PID: txupgrade --state-dir BED/state run p.toml (since TIME)
        hint: wait until it has ended; `txupgrade log --follow` shows what it does
        "#); }
    }
    // Looking is always possible, and what is alive is not recovered.
    let said = shop.bed.run(&["status"]).ends(0);
    insta::assert_snapshot!(masked(&mask_status(&said, &shop.bed)), @r#"
    shop-1: under way in process PID
      purpose:      upgrade by BED/p.toml
      begun:        MOMENT
      now:          step `go` for TIME (5 of 6 tasks done)
      next: `txupgrade log shop-1 --follow` shows what it does
    "#);
    let said = shop.bed.run(&["recover"]).ends(10);
    insta::assert_snapshot!(in_the_end(&said, &shop.bed), @r#"
    shop-1 is under way in another process
      next: `txupgrade log shop-1 --follow` shows what it does
    "#);
    for verb in ["show", "history", "log"] {
        shop.bed.run(&[verb]).ends(0);
    }
    assert_eq!(shop.bed.events("shop-1"), journaled, "nobody else writes about it");
    shop.bed.write("go-on", "");
    Said::of(first.wait_with_output().unwrap()).ends(0);
    assert_eq!(shop.version(), "2.0.0");
    shop.nothing_is_left();
}

#[test]
fn a_plan_of_something_else_runs_meanwhile() {
    let shop = Shop::new();
    shop.slow_step();
    shop.bed.write("blog/page", "1\n");
    shop.bed.write(
        "q.toml",
        "format = 1\nname = \"blog\"\n[[resource]]\nname = \"pages\"\nkind = \"path\"\npath = \"@BED@/blog\"\n\
         [[step]]\nname = \"go\"\nkind = \"command\"\nshell = \"echo 2 > @BED@/blog/page\"\n",
    );
    let first = shop.bed.start(&["run", "p.toml"]);
    until(|| shop.version() == "2.0.0");
    shop.bed.run(&["run", "q.toml"]).ends(0);
    shop.bed.run(&["rollback", "blog-1", "--yes"]).ends(0);
    assert_eq!(shop.bed.read("blog/page"), "1\n");
    shop.bed.write("go-on", "");
    Said::of(first.wait_with_output().unwrap()).ends(0);
    shop.nothing_is_left();
}

/// Every command that opens a state directory.
const COMMANDS: &[&[&str]] = &[
    &["run", "p.toml"],
    &["begin", "p.toml"],
    &["plan", "p.toml"],
    &["snapshot", "p.toml"],
    &["apply"],
    &["commit"],
    &["confirm"],
    &["rollback"],
    &["rollback", "--dry-run"],
    &["recover"],
    &["release", "shop-1", "--resume"],
    &["status"],
    &["history"],
    &["history", "--verify"],
    &["show"],
    &["log"],
    &["diff"],
];

/// Has every command refused with the same last cause, and nothing changed in the bed.
#[track_caller]
fn all_refuse(shop: &Shop, status: i32) -> String {
    let before = tree(&shop.bed.path(""));
    let mut told = std::collections::BTreeMap::<String, Vec<String>>::new();
    for command in COMMANDS {
        let said = shop.bed.run(command).ends(status);
        told.entry(in_the_end(&said, &shop.bed)).or_default().push(command.join(" "));
        let (before, now) = (before.join("\n"), tree(&shop.bed.path("")).join("\n"));
        assert_eq!(now, before, "`{}` has changed something", command.join(" "));
    }
    told.into_iter().map(|(told, commands)| format!("{}\n{told}", commands.join(", "))).collect()
}

#[test]
fn a_state_directory_of_a_newer_version_is_not_touched() {
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version");
    shop.bed.run(&["begin", "p.toml"]).ends(0);
    shop.bed.write("state/FORMAT", "{\"format\":2}\n");
    insta::assert_snapshot!(all_refuse(&shop, 1), @r#"
    run p.toml, begin p.toml, snapshot p.toml, confirm, recover, release shop-1 --resume
    error: cannot work in the state directory `BED/state`
      cause: this txupgrade is too old for the state directory `BED/state`
      cause: it has format 2, and this txupgrade knows formats up to 1
    hint: use the txupgrade that wrote it, or a newer one
    plan p.toml, apply, commit, rollback, rollback --dry-run, status, history, history --verify, show, log, diff
    error: this txupgrade is too old for the state directory `BED/state`
      cause: it has format 2, and this txupgrade knows formats up to 1
    hint: use the txupgrade that wrote it, or a newer one
    "#);
    shop.bed.write("state/FORMAT", "{\"format\":1}\n");
    shop.bed.run(&["rollback"]).ends(0);
    shop.nothing_is_left();
}

#[test]
fn a_journal_of_a_newer_version_is_not_touched() {
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version");
    shop.bed.run(&["begin", "p.toml"]).ends(0);
    let pragma = |version: u32| {
        let journal = rusqlite::Connection::open(shop.bed.path("state/journal.db")).unwrap();
        journal.pragma_update(None, "user_version", version).unwrap();
    };
    pragma(2);
    let told: Vec<String> = COMMANDS
        .iter()
        .map(|command| {
            let said = shop.bed.run(command).ends(1);
            let told = in_the_end(&said, &shop.bed);
            told.replace("error: cannot work in the state directory `BED/state`\n  cause:", "error:")
        })
        .collect();
    assert!(told.iter().all(|one| *one == told[0]), "{told:#?}");
    insta::assert_snapshot!(told[0], @r#"
    error: this txupgrade is too old for the journal `BED/state/journal.db`
      cause: it has format 2, and this txupgrade knows formats up to 1
    hint: use the txupgrade that wrote it, or a newer one
    "#);
    pragma(1);
    shop.bed.run(&["rollback"]).ends(0);
    shop.nothing_is_left();
}

/// A newer version may have journaled what this one does not know. The chain is as the design writes it down.
#[test]
fn an_event_that_is_not_known_is_not_guessed_at() {
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version");
    shop.bed.run(&["begin", "p.toml"]).ends(0);
    let journal = rusqlite::Connection::open(shop.bed.path("state/journal.db")).unwrap();
    let (seq, previous): (i64, Vec<u8>) = journal
        .query_row("select seq, hash from event order by seq desc limit 1", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let (at, event) = ("2026-01-01T00:00:00.000000000Z", r#"{"event":"postponed","until":"monday"}"#);
    let mut hasher = blake3::Hasher::new();
    for field in [&previous, (seq + 1).to_le_bytes().as_slice(), b"shop-1", at.as_bytes(), event.as_bytes()] {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let hash = hasher.finalize();
    journal
        .execute(
            "insert into event (seq, tx, at, event, previous, hash) values (?, 'shop-1', ?, ?, ?, ?)",
            (seq + 1, at, event, &previous, hash.as_bytes()),
        )
        .unwrap();
    drop(journal);
    std::fs::write(shop.bed.path("state/journal.head"), format!("{} {hash}\n", seq + 1)).unwrap();
    let before = shop.tree();
    let mut told = std::collections::BTreeMap::<String, Vec<String>>::new();
    for command in COMMANDS {
        let said = shop.bed.run(command);
        assert_ne!((command[0], said.status), ("run", 0));
        let text = format!("exit status {}\n{}", said.status, in_the_end(&said, &shop.bed));
        told.entry(text).or_default().push(command.join(" "));
    }
    let told: String = told.into_iter().map(|(told, commands)| format!("{}: {told}", commands.join(", "))).collect();
    insta::assert_snapshot!(told, @r#"
    run p.toml, begin p.toml, plan p.toml, snapshot p.toml, apply, commit, confirm, rollback, rollback --dry-run, release shop-1 --resume, status, history, history --verify, show, log, diff: exit status 1
    error: cannot read event 12 of `shop-1`
      cause: this txupgrade is too old: it does not know the event `postponed`
    hint: use the txupgrade that began this transaction, or a newer one
    recover: exit status 1
    error: cannot settle `shop-1`
      cause: cannot read event 12 of `shop-1`
      cause: this txupgrade is too old: it does not know the event `postponed`
    hint: use the txupgrade that began this transaction, or a newer one
    "#);
    assert_eq!(shop.tree(), before);
    // The chain itself is whole: nothing is damaged, this txupgrade is too old.
}

#[test]
fn a_state_directory_that_is_read_only_can_still_be_looked_at() {
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version");
    shop.bed.run(&["begin", "p.toml"]).ends(0);
    let before = tree(&shop.bed.path(""));
    let script = "mount --bind state state; mount -o remount,bind,ro state
        for verb in 'run p.toml' 'begin p.toml' 'snapshot p.toml' apply commit rollback recover 'release shop-1 --resume'; do
            status=0; txupgrade $verb 2> told || status=$?; echo \"$verb: $status\"; sort -u told all > both || cp told both; cat both > all
        done
        cat all >&2; rm -f told both all
        for verb in status history 'history --verify' show log diff 'plan p.toml' 'rollback --dry-run'; do
            status=0; txupgrade $verb >/dev/null 2>&1 || status=$?; echo \"$verb: $status\"
        done";
    std::fs::write(shop.bed.path("all"), "").unwrap();
    let said = shop.in_own_mounts(script).ends(0);
    insta::assert_snapshot!(said.out, @r#"
    run p.toml: 1
    begin p.toml: 1
    snapshot p.toml: 1
    apply: 1
    commit: 1
    rollback: 1
    recover: 1
    release shop-1 --resume: 1
    status: 10
    history: 0
    history --verify: 0
    show: 0
    log: 0
    diff: 0
    plan p.toml: 0
    rollback --dry-run: 0
    "#);
    insta::assert_snapshot!(in_the_end(&said, &shop.bed), @r#"
      cause: Read-only file system (os error 30)
      cause: cannot open the lock `BED/state/locks/store.lock`
    error: cannot work in the state directory `BED/state`
    "#);
    let but_the_bed = |tree: Vec<String>| tree.into_iter().skip(1).collect::<Vec<_>>();
    assert_eq!(but_the_bed(tree(&shop.bed.path(""))), but_the_bed(before));
    shop.bed.run(&["rollback"]).ends(0);
}

#[test]
fn who_may_not_read_the_state_directory_is_told_so_and_never_that_all_is_well() {
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version");
    std::fs::set_permissions(shop.bed.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = shop.bed.path("txupgrade");
    std::fs::copy(env!("CARGO_BIN_EXE_txupgrade"), &binary).unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&binary);
        command.arg("--state-dir").arg(shop.bed.state()).args(arguments).current_dir(shop.bed.path(""));
        Said::of(command.env("NO_COLOR", "1").output().expect("`setpriv` comes with util-linux"))
    };
    insta::assert_snapshot!(in_the_end(&nobody(&["run", "p.toml"]).ends(1), &shop.bed), @r#"
    error: cannot work in the state directory `BED/state`
      cause: cannot create the directory `BED/state`
      cause: Permission denied (os error 13)
    "#);
    assert!(!shop.bed.exists("state"));
    shop.bed.run(&["begin", "p.toml"]).ends(0);
    let before = tree(&shop.bed.path(""));
    let mut told = std::collections::BTreeMap::<String, Vec<String>>::new();
    for command in COMMANDS {
        let said = nobody(command).ends(1);
        told.entry(in_the_end(&said, &shop.bed)).or_default().push(command.join(" "));
    }
    let told: String = told.into_iter().map(|(told, commands)| format!("{}\n{told}", commands.join(", "))).collect();
    insta::assert_snapshot!(told, @r#"
    recover
    error: cannot look for the journal `BED/state/journal.db`
      cause: Permission denied (os error 13)
    plan p.toml, apply, commit, rollback, rollback --dry-run, status, history, history --verify, show, log, diff
    error: cannot read `BED/state/FORMAT`
      cause: Permission denied (os error 13)
    run p.toml, begin p.toml, snapshot p.toml, confirm, release shop-1 --resume
    error: cannot work in the state directory `BED/state`
      cause: cannot read `BED/state/FORMAT`
      cause: Permission denied (os error 13)
    "#);
    assert_eq!(tree(&shop.bed.path("")), before);
    // Nor is it "nothing" where the directory around it cannot be searched.
    std::fs::set_permissions(shop.bed.path(""), std::fs::Permissions::from_mode(0o711)).unwrap();
    shop.bed.write("around/x", "");
    std::fs::set_permissions(shop.bed.path("around"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(shop.bed.state(), shop.bed.path("around/state")).unwrap();
    for verb in ["status", "history", "recover", "show"] {
        let around = shop.bed.path("around/state");
        let said = nobody(&["--state-dir", around.to_str().unwrap(), verb]);
        assert_eq!(said.status, if said.err.contains("cannot be used multiple times") { 2 } else { 1 }, "{}", said.err);
    }
}

#[test]
fn a_plan_that_is_edited_or_deleted_while_its_transaction_is_open_changes_nothing() {
    let shop = Shop::new();
    shop.step("echo 2.0.0 > @BED@/app/version");
    let before = shop.tree();
    shop.bed.run(&["begin", "p.toml"]).ends(0);
    shop.step("echo 6.6.6 > @BED@/app/version; rm -r @BED@/app/config");
    shop.bed.run(&["apply"]).ends(0);
    assert_eq!(shop.version(), "2.0.0", "what was begun is what is done");
    shop.bed.write("p.toml", "this is no plan any more");
    shop.bed.run(&["status"]).ends(10);
    shop.bed.run(&["diff"]).ends(9);
    std::fs::remove_file(shop.bed.path("p.toml")).unwrap();
    shop.bed.run(&["rollback"]).ends(0);
    assert_eq!(shop.tree(), before);
    shop.step("echo 2.0.0 > @BED@/app/version");
    shop.bed.run(&["run", "p.toml"]).ends(0);
    std::fs::remove_file(shop.bed.path("p.toml")).unwrap();
    shop.bed.run(&["rollback", "--yes"]).ends(0);
    assert_eq!(shop.tree(), before);
    shop.nothing_is_left();
}

#[test]
fn what_a_plan_names_may_be_gone_when_it_is_taken_back() {
    let shop = Shop::new();
    shop.bed.write("release/version", "2.0.0\n");
    shop.plan("[[step]]\nname = \"unpack\"\nkind = \"replace\"\npath = \"@BED@/app\"\nwith = \"release\"\n");
    let before = shop.tree();
    shop.bed.run(&["run", "p.toml"]).ends(0);
    assert_eq!(shop.version(), "2.0.0");
    std::fs::remove_dir_all(shop.bed.path("release")).unwrap();
    shop.bed.run(&["rollback", "--yes"]).ends(0);
    assert_eq!(shop.tree(), before);
    shop.nothing_is_left();
}
