//! A small application, its state directory, and the filesystem that is cut off.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bed::{Bed, Said};
use crate::disk::{Disk, Kind, Logged, does};
use crate::tree::{differences, inventory, noise};

/// System calls that change a filesystem, or see to it that changes last.
const CALLS: &str = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,syncfs,\
                     write,pwrite64,ftruncate,utimensat,fallocate";

/// What lies on the filesystem that is cut off; the rest lies on one that is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The state directory and the live tree.
    Both,
    /// The state directory.
    State,
    /// The live tree.
    Tree,
}

/// When the power goes.
#[derive(Debug)]
pub enum Moment {
    /// After the main thread has made this call (`fsync`) for the n-th time.
    Call(String, usize),
    /// So long after it was started.
    After(Duration),
    /// When the bed has a file of this name.
    Seen(&'static str),
    /// Right after it has ended.
    Ended,
}

impl Moment {
    /// After the call at `index` of all that a command makes.
    pub fn call(calls: &[String], index: usize) -> Moment {
        let of = |call: &String| call.split('(').next().unwrap().to_owned();
        let name = of(&calls[index.min(calls.len() - 1)]);
        let number = calls.iter().take(index + 1).filter(|call| of(call) == name).count();
        Moment::Call(name, number)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Call(name, number) => write!(f, "{name} {number}"),
            Moment::After(time) => write!(f, "{time:?}"),
            Moment::Seen(name) => write!(f, "`{name}`"),
            Moment::Ended => write!(f, "its end"),
        }
    }
}

/// What came of a command until the power went.
pub struct Heard {
    /// Its exit status, if it had ended.
    status: Option<i32>,
    said: String,
}

/// Which world it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Before,
    After,
}

/// All of the application that an upgrade may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    trees: BTreeMap<PathBuf, String>,
    database: String,
    up: bool,
}

impl World {
    /// What is known of one file.
    pub fn of(&self, name: &str) -> &str {
        &self.trees[Path::new(name)]
    }
}

/// An application in a bed, a part of which lies on a filesystem of its own.
pub struct Field {
    disk: Disk,
    bed: Bed,
    state: PathBuf,
    live: PathBuf,
    boots: u32,
}

const PLAN: &str = r#"format = 1
name   = "app"

[command]
timeout = "60s"

[version]
run  = ["cat", "@LIVE@/app/version"]
from = "<2.0.0"
to   = "=2.0.0"

[[check]]
name  = "up"
kind  = "command"
shell = "test -e @BED@/up"

[[check]]
name     = "rows"
kind     = "sql"
at       = "after"
resource = "db"
query    = "select count(*) from notes"
matches  = '^60$'

[[quiesce]]
name   = "server"
kind   = "command"
shell  = "rm -f @BED@/up"
resume = { shell = "touch @BED@/up" }

[[resource]]
name = "code"
kind = "path"
path = "@LIVE@/app"

[[resource]]
name = "data"
kind = "path"
path = "@LIVE@/data"

[[resource]]
name = "db"
kind = "sqlite"
path = "@LIVE@/db/notes.db"

[[step]]
name  = "unpack"
kind  = "replace"
path  = "@LIVE@/app"
with  = "new"
carry = ["config/"]

[[step]]
name  = "migrate"
kind  = "command"
shell = "@BED@/migrate"

[policy]
keep = 1
"#;

/// Writes as programs do: in place, beside, appending, with and without a sync of its own.
const MIGRATE: &str = r#"set -e
cd @LIVE@/data
printf second | dd of=fixed bs=6 conv=notrunc,fdatasync status=none
echo more >> appended
rm removed
mkdir -p added/deep
head -c 300000 /dev/zero > added/deep/large
ln added/deep/large added/hard
ln -s nowhere added/soft
mv moved added/moved
head -c 200000 /dev/urandom > noise
chmod 600 many/7
for n in 1 2 3; do echo new > many/$n; done
echo "update notes set text = 'new ' || id; insert into notes (text) select 'added' from notes limit 20;" \
    | sqlite3 ../db/notes.db
"#;

impl Field {
    pub fn new(kind: Kind, layout: Layout) -> Field {
        let bed = Bed::new();
        let (megabytes, more): (u64, &[&str]) = match kind {
            Kind::Ext4 => (64, &["-J", "size=8"]),
            Kind::Xfs => (320, &[]),
        };
        let disk = Disk::new(&bed, "disk", kind, megabytes, more);
        let on_disk = |wanted: Layout, name: &str| {
            if layout == Layout::Both || layout == wanted { disk.path(name) } else { bed.path(name) }
        };
        let (state, live) = (on_disk(Layout::State, "state"), on_disk(Layout::Tree, "live"));
        let field = Field { disk, bed, state, live, boots: 1 };
        field.lay_out();
        field
    }

    fn lay_out(&self) {
        let write = |name: &str, bytes: &[u8]| {
            let path = self.live.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("app/version", b"1.0.0\n");
        write("app/lib/program", b"the old program\n");
        write("app/config/app.conf", b"listen = 1\n");
        for name in ["fixed", "appended", "removed", "moved"] {
            write(&format!("data/{name}"), b"first \n");
        }
        for number in 0..40 {
            write(&format!("data/many/{number}"), format!("{number}\n").as_bytes());
        }
        write("data/noise", &noise(0, 1_500_000));
        fs::create_dir(self.live.join("db")).unwrap();
        self.sql(
            "pragma journal_mode = wal; create table notes (id integer primary key, text); \
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 40) \
             insert into notes (text) select 'note ' || i from n;",
        )
        .unwrap();
        self.bed.write("new/version", "2.0.0\n");
        self.bed.write("new/lib/program", "the new program\n");
        self.bed.write("new/lib/more", &"x".repeat(50_000));
        self.bed.write("new/config/app.conf", "listen = 0\n");
        self.bed.write("up", "");
        let live = self.live.to_str().unwrap();
        self.migrate_by(MIGRATE);
        self.bed.write("works.toml", &PLAN.replace("@LIVE@", live));
        let breaks = PLAN.replace("@LIVE@", live).replace("@BED@/migrate", "@BED@/migrate; exit 3");
        self.bed.write("breaks.toml", &breaks);
        does(Command::new("sync").arg("-f").arg(&self.live));
    }

    /// The step `migrate` is another script now.
    pub fn migrate_by(&self, script: &str) {
        self.bed.script("migrate", &script.replace("@LIVE@", self.live.to_str().unwrap()));
    }

    fn sql(&self, text: &str) -> Result<String, String> {
        let output = Command::new("sqlite3").arg(self.live.join("db/notes.db")).arg(text).output();
        let output = output.expect("`sqlite3` is there (Debian: apt-get install sqlite3)");
        if !output.status.success() {
            return Err(format!("the database cannot be read: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8(output.stdout).unwrap())
    }

    /// The words of a command line, and the variables that it needs.
    fn words(&self, arguments: &[&str]) -> Vec<String> {
        let mut words = vec![env!("CARGO_BIN_EXE_txupgrade").to_owned(), "--state-dir".to_owned()];
        words.push(self.state.to_str().unwrap().to_owned());
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        words
    }

    fn started(&self, program: &str, words: &[String]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(self.bed.path(""))
            .env_remove("TXUPGRADE_STATE_DIR")
            .env("TXUPGRADE_TEST_BOOT_ID", format!("boot-{}", self.boots))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        let words = self.words(arguments);
        Said::of(self.started(&words[0], &words[1..]).output().unwrap())
    }

    /// Runs it to its end by another program, whose words these are.
    pub fn run_by(&self, words: &[String], arguments: &[&str]) -> Said {
        let words = [words.to_vec(), self.words(arguments)].concat();
        Said::of(self.started(&words[0], &words[1..]).output().unwrap())
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    pub fn live(&self) -> &Path {
        &self.live
    }

    /// A path that is not on the filesystem that is cut off.
    pub fn elsewhere(&self, name: &str) -> PathBuf {
        self.bed.path(name)
    }

    fn strace(&self, inject: &[String]) -> Vec<String> {
        let out = self.bed.path("calls").to_str().unwrap().to_owned();
        let mut words = vec!["strace".to_owned(), "-qq".to_owned(), "-o".to_owned(), out];
        words.extend(["-e".to_owned(), format!("trace={CALLS}")]);
        words.extend_from_slice(inject);
        words
    }

    /// Runs it to its end; the calls of its main thread, and how long it takes without being watched, about.
    pub fn traced(&mut self, arguments: &[&str], status: i32) -> (Vec<String>, Duration) {
        let words = [self.strace(&[]), self.words(arguments)].concat();
        let clock = Instant::now();
        let output = self.started(&words[0], &words[1..]).output();
        Said::of(output.expect("`strace` is there (Debian: apt-get install strace)")).ends(status);
        let calls = self.bed.read("calls");
        let calls = calls.lines().filter(|line| !line.starts_with(['-', '+'])).map(str::to_owned);
        (calls.collect(), clock.elapsed().mul_f64(0.7))
    }

    /// Runs it until the power goes. Whatever ran is gone then.
    pub fn cut(&mut self, arguments: &[&str], moment: &Moment, logged: Logged) -> Heard {
        // In a process namespace of its own, so that all that it has started goes with it.
        let mut words: Vec<String> =
            ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", "\"$@\"; exit $?", "sh"]
                .map(str::to_owned)
                .to_vec();
        if let Moment::Call(name, number) = moment {
            words.extend(self.strace(&["-e".to_owned(), format!("inject={name}:signal=SIGSTOP:when={number}")]));
        }
        words.extend(self.words(arguments));
        let said = self.bed.path("said");
        let out = fs::File::create(&said).unwrap();
        let _ = fs::remove_file(self.bed.path("calls"));
        let mut command = self.started("unshare", &words);
        let mut child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        let status = self.wait(&mut child, moment);
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        for pid in children.split_whitespace() {
            // The first process of the namespace: the kernel kills all the others before it goes.
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        child.wait().unwrap();
        // Who is gone cannot write down elsewhere that this disk failed, as no program can when the power goes.
        self.disk.cut(logged);
        let said = fs::read_to_string(said).unwrap();
        Heard { status, said }
    }

    /// Waits for the moment; the exit status, if it has ended before.
    fn wait(&self, child: &mut Child, moment: &Moment) -> Option<i32> {
        let clock = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            let over = match moment {
                Moment::Call(..) => {
                    fs::read_to_string(self.bed.path("calls")).is_ok_and(|calls| calls.contains("stopped by SIGSTOP"))
                }
                Moment::After(time) => clock.elapsed() >= *time,
                Moment::Seen(name) => self.bed.exists(name),
                Moment::Ended => false,
            };
            if over {
                return None;
            }
            assert!(clock.elapsed() < Duration::from_secs(60), "it hangs: {}", self.bed.read("said"));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The machine is started anew, and its server with it.
    pub fn power_on(&mut self) {
        self.disk.power_on();
        self.boots += 1;
        self.bed.write("up", "");
    }

    pub fn world(&self) -> Result<World, String> {
        if !self.live.join("app").is_dir() {
            return Err("the application is gone".to_owned());
        }
        let mut trees = BTreeMap::new();
        for name in ["app", "data"] {
            let tree = inventory(&self.live.join(name));
            trees.extend(tree.into_iter().map(|(path, line)| (Path::new(name).join(path), line)));
        }
        Ok(World {
            trees,
            database: self.sql("pragma integrity_check")? + &self.sql(".dump")?,
            up: self.bed.exists("up"),
        })
    }

    /// The power is back, and `recover` settles everything. What it leaves must be one of two worlds, as the journal
    /// says, and what was promised before the cut must hold.
    pub fn settle(&mut self, heard: &Heard, before: &World, after: Option<&World>) -> Result<Settled, String> {
        self.power_on();
        let recovered = self.run(&["recover"]);
        let mut wrong = Vec::new();
        let told = format!("recover ended with {} and said:\n{}{}", recovered.status, recovered.out, recovered.err);
        if recovered.status != 0 {
            wrong.push("it is not settled".to_owned());
        }
        for arguments in [&["status"][..], &["history", "--verify"], &["store", "verify"]] {
            let said = self.run(arguments);
            if said.status != 0 {
                wrong.push(format!("{arguments:?} ends with {}: {}{}", said.status, said.out, said.err));
            }
        }
        let world = self.world()?;
        let committed = heard.status == Some(0) || heard.said.contains("is committed");
        let is_before = same(&world, before);
        let settled = match after {
            _ if is_before.is_empty() => Settled::Before,
            Some(after) if alike(&world, after).is_empty() => Settled::After,
            Some(after) => {
                wrong.push(format!("not as before:\n{is_before}\nand not as after:\n{}", alike(&world, after)));
                Settled::After
            }
            None => {
                wrong.push(format!("not as before:\n{is_before}"));
                Settled::After
            }
        };
        if committed && settled == Settled::Before {
            wrong.push(format!("it was promised: status {:?}, {}", heard.status, heard.said));
        }
        let leftovers = self.leftovers();
        if !leftovers.is_empty() {
            wrong.push(format!("left behind: {leftovers:?}"));
        }
        if wrong.is_empty() { Ok(settled) } else { Err(format!("{}\n{told}", wrong.join("\n"))) }
    }

    /// Files that a transaction makes for itself and has to remove.
    fn leftovers(&self) -> Vec<PathBuf> {
        let side = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".txupgrade-"));
        let live = walkdir::WalkDir::new(&self.live).into_iter().map(|entry| entry.unwrap().into_path());
        let tmp = walkdir::WalkDir::new(self.state.join("tmp")).min_depth(1).into_iter();
        live.filter(|path| side(path)).chain(tmp.flatten().map(walkdir::DirEntry::into_path)).collect()
    }
}

/// How two worlds differ in anything at all.
pub fn same(left: &World, right: &World) -> String {
    differences(&left.trees, &right.trees) + &unlike(left, right)
}

/// How two worlds differ that were made by the same upgrade at different times: one file of it holds chance.
pub fn alike(left: &World, right: &World) -> String {
    let timeless = |world: &World| {
        let time = regex::Regex::new(r" \d+\.\d{9}").unwrap();
        let mut trees: BTreeMap<PathBuf, String> =
            world.trees.iter().map(|(path, line)| (path.clone(), time.replace(line, "").into_owned())).collect();
        if let Some(noise) = trees.get_mut(Path::new("data/noise"))
            && noise.contains(" 200000 ")
        {
            noise.truncate(noise.find(" 200000 ").unwrap() + 8);
        }
        trees
    };
    differences(&timeless(left), &timeless(right)) + &unlike(left, right)
}

fn unlike(left: &World, right: &World) -> String {
    let mut told = String::new();
    if left.database != right.database {
        let only = |this: &str, other: &str| {
            this.lines().filter(|line| !other.contains(line)).take(3).collect::<Vec<_>>().join("\n")
        };
        let (left, right) = (&left.database, &right.database);
        told.push_str(&format!("the database differs:\n{}\nis not\n{}\n", only(left, right), only(right, left)));
    }
    if left.up != right.up {
        told.push_str("one of them is up\n");
    }
    told
}
