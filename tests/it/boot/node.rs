//! A machine with a systemd of its own, made of this one: an overlay over `/` in memory, booted by systemd-nspawn, with
//! nothing but a loopback. It dies when its first process is killed, as by a cut of the power, and boots again from
//! what it had written.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::bed::Said;

/// Hierarchies of cgroups that a systemd wants for itself.
const HIERARCHIES: [&str; 7] = ["systemd", "unified", "memory", "pids", "cpu", "cpuacct", "cpu,cpuacct"];
/// What of this machine has no place in the node.
const MASKED: [&str; 9] = [
    "systemd-firstboot.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "docker.service",
    "postgresql@15-main.service",
];

pub struct Node {
    dir: PathBuf,
    name: String,
    nspawn: Option<Child>,
    boots: u32,
}

impl Node {
    pub fn new() -> Node {
        assert!(rustix::process::geteuid().is_root(), "a node is booted by root only");
        for (program, package) in [("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")] {
            assert!(has(program), "`{program}` is missing: apt-get install {package}");
        }
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("txupgrade-node-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir(&dir).unwrap();
        let node = Node { dir, name, nspawn: None, boots: 0 };
        mount(&["-t", "tmpfs", "-o", "size=1500m", "txupgrade-node"], &node.dir);
        for part in ["up", "work", "root"] {
            std::fs::create_dir(node.dir.join(part)).unwrap();
        }
        let (up, work) = (node.dir.join("up"), node.dir.join("work"));
        let layers = format!("lowerdir=/,upperdir={},workdir={}", up.display(), work.display());
        mount(&["-t", "overlay", "-o", &layers, "txupgrade-node"], &node.dir.join("root"));
        for unit in MASKED {
            let at = node.path("etc/systemd/system").join(unit);
            let _ = std::fs::remove_file(&at);
            std::os::unix::fs::symlink("/dev/null", at).unwrap();
        }
        node.write("etc/machine-id", &format!("{:030x}{number:02x}\n", std::process::id()));
        node
    }

    /// A path of the node, as seen from here.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.join("root").join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        std::fs::write(path, text).unwrap();
    }

    pub fn script(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(path, text);
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `/var/lab`, where everybody may write, and `witness` in it.
    pub fn lab(&self) {
        use std::os::unix::fs::PermissionsExt;
        let open = |path: &str, mode| {
            std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        self.write("var/lab/witness", "");
        open("var/lab", 0o777);
        open("var/lab/witness", 0o666);
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Switches it on, and goes on at once.
    pub fn switch_on(&mut self) {
        self.boots += 1;
        self.write("etc/boot", &format!("{}\n", self.boots));
        let mut join = String::new();
        for group in self.groups() {
            std::fs::create_dir_all(&group).unwrap();
            join.push_str(&format!("echo $$ > '{}'; ", group.join("cgroup.procs").display()));
        }
        let console = std::fs::File::create(self.dir.join(format!("console-{}", self.boots))).unwrap();
        let nspawn = format!(
            "{join} exec systemd-nspawn -q -D '{root}' --boot --machine={name} --private-network --register=no --keep-unit \
             --link-journal=no --resolv-conf=off --timezone=off --console=pipe --bind-ro='{program}':/usr/local/bin/txupgrade",
            root = self.dir.join("root").display(),
            name = self.name,
            program = env!("CARGO_BIN_EXE_txupgrade"),
        );
        let mut command = Command::new("sh");
        command.args(["-c", &nspawn]).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        let started = command.stdout(console.try_clone().unwrap()).stderr(console).spawn().unwrap();
        self.nspawn = Some(started);
    }

    /// Switches it on, and waits until everything that is started at boot has been.
    pub fn boot(&mut self) {
        self.switch_on();
        self.wait_for("systemd to answer", |node| {
            node.leader().is_some() && node.run("systemctl show-environment").status == 0
        });
        self.run("systemctl is-system-running --wait");
    }

    /// The node's first process.
    fn leader(&self) -> Option<u32> {
        let nspawn = self.nspawn.as_ref()?.id();
        let children = std::fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// A line of shell in the node.
    fn command(&self, shell: &str) -> Command {
        let leader = self.leader().expect("the node runs").to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &leader, "-m", "-u", "-i", "-p", "-n", "-C", "-r", "-w", "--", "sh", "-c", shell]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin").env("NO_COLOR", "1");
        command.env("HOME", "/root").env("LANG", "C.UTF-8").stdin(Stdio::null());
        command
    }

    pub fn run(&self, shell: &str) -> Said {
        Said::of(self.command(shell).output().unwrap())
    }

    /// Starts something that dies with the node.
    pub fn start(&self, shell: &str) -> Child {
        self.command(shell).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, seen: impl Fn(&Node) -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !seen(self) {
            assert!(
                Instant::now() < until,
                "waited in vain for {what}; the console of boot {}:\n{}",
                self.boots,
                self.console()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.dir.join(format!("console-{}", self.boots))).unwrap_or_default()
    }

    /// The power is cut.
    pub fn dies(&mut self) {
        if let Some(leader) = self.leader() {
            kill(leader);
        }
        if let Some(mut nspawn) = self.nspawn.take() {
            nspawn.wait().unwrap();
        }
    }

    /// It is shut down in an orderly way.
    pub fn shuts_down(&mut self) {
        self.run("systemctl poweroff");
        if let Some(mut nspawn) = self.nspawn.take() {
            nspawn.wait().unwrap();
        }
    }

    fn groups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let mut real: Vec<PathBuf> = Vec::new();
        for hierarchy in HIERARCHIES.map(|hierarchy| root.join(hierarchy)).into_iter().chain([root.to_path_buf()]) {
            let Ok(hierarchy) = hierarchy.canonicalize() else { continue };
            if hierarchy.join("cgroup.procs").exists() && !real.contains(&hierarchy) {
                real.push(hierarchy);
            }
        }
        real.iter().map(|hierarchy| hierarchy.join(&self.name)).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.dies();
        // What the kernel still lets go of is busy for a moment.
        let mut left = Vec::new();
        for _ in 0..100 {
            left.clear();
            for group in self.groups() {
                remove_groups(&group);
                left.extend(group.exists().then_some(group));
            }
            for mounted in [self.dir.join("root"), self.dir.clone()] {
                if std::fs::read_to_string("/proc/self/mounts").unwrap().contains(&format!(" {} ", mounted.display())) {
                    let _ = Command::new("umount").arg(&mounted).stderr(Stdio::null()).status();
                }
            }
            // Refused while something is mounted there, or is in it.
            let _ = std::fs::remove_dir(&self.dir);
            left.extend(self.dir.exists().then(|| self.dir.clone()));
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if !std::thread::panicking() {
            panic!("the node has left {left:?}");
        }
    }
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

fn mount(how: &[&str], at: &Path) {
    let said = Said::of(Command::new("mount").args(how).arg(at).output().unwrap());
    said.ends(0);
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Removes a cgroup and those in it, as far as they are empty.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
