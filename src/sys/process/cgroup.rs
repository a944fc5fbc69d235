//! A cgroup for each program, where one can be made: the one membership that no program loses by accident.
//!
//! Everything here may fail, and then the program goes on without: session and environment show it as well.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The hierarchies that are tried, each with how `/proc/self/cgroup` names it.
const HIERARCHIES: [(&str, &str); 4] = [
    ("/sys/fs/cgroup", "0::"),
    ("/sys/fs/cgroup/unified", "0::"),
    ("/sys/fs/cgroup/pids", ":pids:"),
    ("/sys/fs/cgroup/freezer", ":freezer:"),
];

/// The cgroup of one program; its directory is removed with it when it is empty.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) dir: PathBuf,
    /// Open for writing: who writes `0` to it moves itself in.
    pub(super) join: File,
}

impl Group {
    /// Makes a cgroup called `name` below our own.
    pub(super) fn make(name: &str) -> Option<Group> {
        static FIRST: Once = Once::new();
        FIRST.call_once(|| remove(is_orphan));
        let ours = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        HIERARCHIES.iter().find_map(|(root, key)| {
            let path = ours.lines().find_map(|line| own_path(line, key))?;
            let dir = Path::new(root).join(path.trim_start_matches('/')).join(name);
            // Without `cgroup.procs` beside it, this is no cgroup filesystem (v2's root holds v1 mounts in hybrid setups).
            if !dir.parent()?.join("cgroup.procs").exists() {
                return None;
            }
            std::fs::create_dir(&dir).ok()?;
            match OpenOptions::new().write(true).open(dir.join("cgroup.procs")) {
                Ok(join) => Some(Group { dir, join }),
                Err(_) => {
                    let _ = std::fs::remove_dir(&dir);
                    None
                }
            }
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel refuses while somebody is in it.
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// The path in a line of `/proc/self/cgroup` when it is that of the hierarchy `key`.
fn own_path<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let path = match key {
        "0::" => line.strip_prefix(key)?,
        key => line.split_once(key)?.1,
    };
    // Outside of our own namespace: nothing that can be found below the mount.
    (!path.split('/').any(|part| part == "..")).then_some(path)
}

/// Removes the empty cgroups whose name begins with `prefix` beside our own programs'.
pub(super) fn sweep(prefix: &str) {
    remove(|name| name.starts_with(prefix));
}

/// The cgroups whose name begins with `prefix`, wherever they are: who ends what is in them may be in another session
/// than who made them.
pub(super) fn named(prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = HIERARCHIES.iter().map(|(root, _)| PathBuf::from(root)).collect();
    dirs.retain(|root| root.join("cgroup.procs").exists());
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
        }
    }
    found
}

/// Whether somebody is in it. Asked of the kernel and not of `/proc`, where a program that forks again and again can
/// be missed.
pub(super) fn is_populated(group: &Path) -> bool {
    match std::fs::read_to_string(group.join("cgroup.events")) {
        Ok(events) => events.lines().any(|line| line == "populated 1"),
        Err(_) => !pids(group).is_empty(),
    }
}

/// Kills all that is in it, however fast it forks.
pub(super) fn kill(group: &Path) {
    let set = |name: &str, value: &str| std::fs::write(group.join(name), value).is_ok();
    if set("cgroup.kill", "1") {
        return;
    }
    // Before Linux 5.14: nobody forks or runs while they are killed one by one.
    for (name, value) in [("pids.max", "0"), ("cgroup.freeze", "1"), ("freezer.state", "FROZEN")] {
        set(name, value);
    }
    for pid in pids(group) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    for (name, value) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
        set(name, value);
    }
}

fn pids(group: &Path) -> Vec<rustix::process::Pid> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Whether it was made by a process that is gone, for a program that left something running.
fn is_orphan(name: &str) -> bool {
    let maker = name.strip_prefix("txupgrade-").and_then(|rest| rest.split('-').nth(1)?.parse().ok());
    maker.is_some_and(|maker: u32| super::seen::look(maker).is_none())
}

/// Removes the cgroups whose name is `meant`, as far as they are empty: the kernel refuses the others.
fn remove(meant: impl Fn(&str) -> bool) {
    let ours = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for (root, key) in HIERARCHIES {
        let Some(path) = ours.lines().find_map(|line| own_path(line, key)) else { continue };
        let dir = Path::new(root).join(path.trim_start_matches('/'));
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if meant(&entry.file_name().to_string_lossy()) {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_path_is_read_in_each_hierarchy() {
        assert_eq!(own_path("0::/user.slice/a", "0::"), Some("/user.slice/a"));
        assert_eq!(own_path("8:pids:/x", ":pids:"), Some("/x"));
        assert_eq!(own_path("8:pids:/x", "0::"), None);
        assert_eq!(own_path("0::/../outside", "0::"), None);
    }

    #[test]
    fn only_a_group_whose_maker_is_gone_is_an_orphan() {
        assert!(!is_orphan(&format!("txupgrade-0123456789abcdef-{}-1f-0", std::process::id())));
        assert!(is_orphan("txupgrade-0123456789abcdef-4294967295-1f-0"));
        assert!(!is_orphan("txupgrade.service"));
        assert!(!is_orphan("user.slice"));
    }

    #[test]
    fn a_group_is_removed_with_its_program() {
        let name = format!("txupgrade-test-{}", std::process::id());
        if let Some(group) = Group::make(&name) {
            let dir = group.dir.clone();
            assert!(dir.exists());
            drop(group);
            assert!(!dir.exists());
        }
        assert!(Group::make("not/there/at-all").is_none());
    }
}
