//! A filesystem of its own, in a file, mounted through a loop device: it can be cut off from power, and filled.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::bed::Bed;

/// A mounted filesystem in a bed; unmounted when it is dropped, whatever still uses it.
pub struct Disk {
    image: Option<PathBuf>,
    at: PathBuf,
}

/// What its filesystem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
}

/// What happens to what the filesystem has logged and not yet written when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// It is lost.
    Lost,
    /// It gets to the disk: names and sizes without the bytes.
    Flushed,
}

impl Disk {
    /// Makes a filesystem of so many megabytes and mounts it at `name` in the bed; `more` goes to `mkfs`.
    pub fn new(bed: &Bed, name: &str, kind: Kind, megabytes: u64, more: &[&str]) -> Disk {
        let image = bed.path(format!("{name}.image"));
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let mut make = match kind {
            Kind::Ext4 => Command::new("mkfs.ext4"),
            Kind::Xfs => Command::new("mkfs.xfs"),
        };
        if kind == Kind::Ext4 {
            make.args(["-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]);
        }
        does(make.arg("-q").args(more).arg(&image));
        let disk = Disk::at(bed, name, Some(image));
        disk.mount();
        disk
    }

    /// The same in memory, with so many bytes and inodes.
    pub fn in_memory(bed: &Bed, name: &str, bytes: u64, inodes: u64) -> Disk {
        let disk = Disk::at(bed, name, None);
        let limits = format!("size={bytes},nr_inodes={inodes},mode=0755");
        does(Command::new("mount").args(["-t", "tmpfs", "-o", &limits, "tmpfs"]).arg(&disk.at));
        disk
    }

    fn at(bed: &Bed, name: &str, image: Option<PathBuf>) -> Disk {
        assert!(rustix::process::geteuid().is_root(), "this test mounts a filesystem of its own: run it as root");
        mounts_of_our_own();
        let at = bed.path(name);
        std::fs::create_dir(&at).unwrap();
        Disk { image, at }
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.at.join(name)
    }

    fn mount(&self) {
        let image = self.image.as_ref().expect("what is in memory is mounted once");
        does(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&self.at));
    }

    /// Nothing gets to the disk any more.
    pub fn cut(&self, logged: Logged) {
        let how = match logged {
            Logged::Lost => "shutdown",
            Logged::Flushed => "shutdown -f",
        };
        does(Command::new("xfs_io").args(["-x", "-c", how]).arg(&self.at));
    }

    /// The power is back: what got to the disk is there, and nothing else. Nobody may use it any more.
    pub fn power_on(&self) {
        let patience = Instant::now() + Duration::from_secs(10);
        let wait = || {
            assert!(Instant::now() < patience, "something keeps `{}` busy", self.at.display());
            std::thread::sleep(Duration::from_millis(5));
        };
        while !Command::new("umount").arg(&self.at).stderr(Stdio::null()).status().unwrap().success() {
            wait();
        }
        // Other namespaces let go of it a little later; what is mounted before that is the one that was cut off.
        while self.is_attached() {
            wait();
        }
        self.mount();
    }

    fn is_attached(&self) -> bool {
        let image = self.image.as_ref().expect("what is in memory is never cut off");
        let output = Command::new("losetup").arg("-j").arg(image).output().unwrap();
        !output.stdout.is_empty()
    }
}

/// Fills the filesystem of `path`, which is a file, to the last block; other writers do that.
pub fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let mut piece = vec![b'x'; 64 << 10];
    while !piece.is_empty() {
        match std::io::Write::write(&mut file, &piece) {
            Ok(count) if count == piece.len() => {}
            _ => piece.truncate(piece.len() / 2),
        }
    }
    // What was only promised is there, too.
    let _ = file.sync_all();
}

/// From now on this thread, and what it starts, has a mount table of its own. Nobody who copies that of the machine
/// meanwhile keeps our mounts busy, and they go with the test however it ends.
fn mounts_of_our_own() {
    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    thread_local!(static DONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    if !DONE.replace(true) {
        // SAFETY: the thread's own working directory and mounts; no descriptors, no memory.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that fails may have left somebody in it. The loop device goes with the last of them.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).stderr(Stdio::null()).status();
    }
}

/// Runs a program that has to succeed.
#[track_caller]
pub fn does(command: &mut Command) {
    let shown = format!("{} {:?}", command.get_program().display(), command.get_args().collect::<Vec<&OsStr>>());
    let package = match command.get_program().to_str().unwrap() {
        "mkfs.ext4" => "e2fsprogs",
        "mkfs.xfs" | "xfs_io" => "xfsprogs",
        "strace" => "strace",
        "sqlite3" => "sqlite3",
        _ => "mount",
    };
    let output =
        command.output().unwrap_or_else(|error| panic!("{shown}: {error} (Debian: apt-get install {package})"));
    let said = String::from_utf8_lossy(&output.stderr);
    let hint = if shown.starts_with("mount") { "; this machine has to let root mount loop devices" } else { "" };
    assert!(output.status.success(), "{shown} failed{hint}: {said}");
}
