//! The store and the restore of trees, on real trees.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::resource::{Captured, Changes};

mod damage;
mod flips;
mod forged;
mod odd;
mod shelf;
mod trees;
mod upkeep;

struct World {
    dir: tempfile::TempDir,
    store: Store,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state"), &dir.path().join("state/tmp/1")).unwrap();
        std::fs::create_dir(dir.path().join("live")).unwrap();
        World { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("live/app")
    }

    fn tree(&self) -> Tree {
        Tree { path: self.root(), ..Tree::default() }
    }

    fn capture(&self, tree: &Tree, base: Option<ObjectId>) -> Captured {
        self.store.capture_tree(head(), tree, base, &|_| Ok(())).unwrap()
    }

    fn diff(&self, manifest: ObjectId, tree: &Tree) -> Changes {
        self.store.diff_tree(manifest, tree).unwrap()
    }

    fn restore(&self, manifest: ObjectId, tree: &Tree) -> Changes {
        self.store.restore_tree(manifest, tree, "notes-1", &|_, _| ()).unwrap()
    }

    /// Removes what a restore has left beside the tree, as the engine does at the end.
    fn sweep(&self) {
        let there = side_paths("notes-1", &self.root()).into_iter().filter(|side| side.symlink_metadata().is_ok());
        there.for_each(|side| crate::sys::files::remove_beside(&side).unwrap());
    }
}

fn head() -> Head {
    Head {
        tx: "notes-1".into(),
        resource: "code".into(),
        kind: "path".into(),
        place: "/app".into(),
        version: Some("1.4".into()),
        at: "2026-11-21T04:00:00Z".into(),
        facts: serde_json::Value::Null,
    }
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Bytes that don't compress and differ with `seed`.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn run(program: &str, args: &[&OsStr]) -> String {
    let out = Command::new(program).args(args).output();
    let out = out.unwrap_or_else(|e| panic!("{program} is missing ({e}): apt-get install -y {program} acl attr"));
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn copy(from: &Path, to: &Path) {
    run("cp", &[OsStr::new("-a"), from.as_os_str(), to.as_os_str()]);
}

/// What rsync would change to make `b` equal to `a`.
fn rsync(a: &Path, b: &Path) -> String {
    let slash = |path: &Path| [path.as_os_str().as_bytes(), b"/"].concat();
    let (a, b) = (slash(a), slash(b));
    let flags = ["-aHAXn", "--delete", "--checksum", "--itemize-changes"].map(OsStr::new);
    run("rsync", &[&flags[..], &[OsStr::from_bytes(&a), OsStr::from_bytes(&b)]].concat())
}

fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos },
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// An ACL `user::rwx user:<uid>:r-x group::r-x mask::r-x other::---`.
fn acl(uid: u32) -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    let nobody = u32::MAX;
    for (tag, perm, id) in [(1u16, 7u16, nobody), (2, 5, uid), (4, 5, nobody), (16, 5, nobody), (32, 0, nobody)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

/// A tree with one of each oddity.
fn build(root: &Path) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    write(&root.join("config/app.toml"), "listen = 1\n");
    write(&root.join("bin/tool"), noise(1, 70_000));
    write(&root.join("empty"), "");
    write(&root.join("big"), noise(2, 3 << 20));
    write(&root.join("data/a"), "same");
    write(&root.join("data/b"), "same");
    std::fs::hard_link(root.join("data/a"), root.join("data/c")).unwrap();
    std::fs::hard_link(root.join("big"), root.join("data/big-too")).unwrap();
    std::fs::create_dir(root.join("empty-dir")).unwrap();
    symlink("config/app.toml", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    write(&root.join(OsStr::from_bytes(b"not utf-8 \xff\xfe")), "x");
    write(&root.join("new\nline \\ and\ttab"), "y");
    write(&root.join("n".repeat(255)), "long");
    write(&root.join("a/x"), "1");
    write(&root.join("a.b"), "sorts between a and a/x by bytes");
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    mknodat(CWD, root.join("loop"), FileType::BlockDevice, Mode::from_raw_mode(0o600), makedev(7, 99)).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(&noise(3, 5000), 1 << 20).unwrap();
    sparse.write_all_at(&noise(4, 2 << 20), 4 << 20).unwrap();
    std::fs::File::create(root.join("hole")).unwrap().set_len(1 << 20).unwrap();
    for (name, mode) in [("bin/tool", 0o4755), ("config/app.toml", 0o440), ("data/b", 0o2711), ("a.b", 0)] {
        if name == "bin/tool" {
            std::os::unix::fs::chown(root.join(name), Some(1), Some(2)).unwrap();
        }
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::lchown(root.join("link"), Some(33), Some(34)).unwrap();
    set_xattr(&root.join("empty"), "user.note", b"\x00\xffbinary");
    set_xattr(&root.join("dangling"), "trusted.note", b"on a link");
    set_xattr(&root.join("data"), "system.posix_acl_default", &acl(1000));
    set_xattr(&root.join("data/b"), "system.posix_acl_access", &acl(1001));
    // cap_net_bind_service+ep
    let cap = [0x01, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&root.join("a/x"), "security.capability", &cap);
    set_mtime(&root.join("empty"), -86_400 * 365, 5);
    set_mtime(&root.join("a/x"), 4_000_000_000, 123_456_789);
    set_mtime(&root.join("link"), 1_000_000_000, 1);
    std::fs::set_permissions(root.join("a"), std::fs::Permissions::from_mode(0o555)).unwrap();
    set_mtime(&root.join("a"), 1_234_567_890, 987_654_321);
    set_mtime(&root.join("empty-dir"), 1_111_111_111, 0);
    set_mtime(root, 1_500_000_000, 7);
    settle();
}

/// Waits until the times of what was written just now are safely past.
fn settle() {
    std::thread::sleep(Duration::from_millis(60));
}

fn wreck(root: &Path, outside: &Path) {
    std::fs::write(root.join("config/app.toml"), "broken\n").unwrap();
    std::fs::remove_file(root.join("bin/tool")).unwrap();
    std::fs::create_dir(root.join("bin/tool")).unwrap();
    write(&root.join("bin/tool/now a directory"), "z");
    std::fs::remove_dir_all(root.join("a")).unwrap();
    write(&root.join("a"), "now a file");
    std::fs::remove_dir_all(root.join("data")).unwrap();
    symlink(outside, root.join("data")).unwrap();
    write(&root.join("added/deep/er/file"), "new");
    std::fs::set_permissions(root.join("empty"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::chown(root.join("new\nline \\ and\ttab"), Some(5), Some(6)).unwrap();
    std::fs::remove_file(root.join("fifo")).unwrap();
    std::fs::remove_file(root.join("null")).unwrap();
    write(&root.join("null"), "not a device");
    std::fs::remove_file(root.join("link")).unwrap();
    symlink("elsewhere", root.join("link")).unwrap();
    std::fs::File::options().write(true).open(root.join("sparse")).unwrap().write_all_at(b"!", 3 << 20).unwrap();
    std::fs::File::options().write(true).open(root.join("big")).unwrap().write_all_at(b"!", 1 << 20).unwrap();
    std::fs::remove_dir(root.join("empty-dir")).unwrap();
    rustix::fs::lremovexattr(root.join("dangling"), "trusted.note").unwrap();
    set_xattr(&root.join("n".repeat(255)), "user.added", b"1");
}
