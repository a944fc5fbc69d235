//! Trees that are put in place, taken back, and archives that must not be believed.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::context_fixture::{Fixture, shown};
use crate::step::Step;

/// Everything below a directory that a replace has to keep: kind, mode, time, content.
fn tree(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let name = entry.path().strip_prefix(root).unwrap().display().to_string();
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(entry.path()).unwrap().display())
        } else if meta.is_dir() {
            format!("dir {:o}", meta.mode() & 0o7777)
        } else {
            format!("{:o} {} {}", meta.mode() & 0o7777, meta.mtime(), fs::read_to_string(entry.path()).unwrap())
        };
        lines.push(format!("{name}: {what}"));
    }
    lines
}

fn beside(f: &Fixture) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(f.place()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with('.'));
    names.sort();
    names
}

fn add(tar: &mut tar::Builder<impl Write>, kind: tar::EntryType, path: &str, mode: u32, content: &str, link: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_600_000_000);
    header.set_size(content.len() as u64);
    header.set_uid(4711);
    header.set_gid(4711);
    // The names of hostile archives are not those that the crate would write.
    let name = &mut header.as_old_mut().name;
    name[..path.len()].copy_from_slice(path.as_bytes());
    if !link.is_empty() {
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    tar.append(&header, content.as_bytes()).unwrap();
}

/// A release with what archives can hold.
fn release() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    use tar::EntryType as T;
    add(&mut tar, T::Directory, "notes-2.0/", 0o750, "", "");
    add(&mut tar, T::Directory, "notes-2.0/locked/", 0o555, "", "");
    add(&mut tar, T::Regular, "notes-2.0/locked/file", 0o444, "inside\n", "");
    add(&mut tar, T::Regular, "notes-2.0/bin/notes", 0o4755, "notes 2.0\n", "");
    add(&mut tar, T::Link, "notes-2.0/bin/again", 0o4755, "", "notes-2.0/bin/notes");
    add(&mut tar, T::Symlink, "notes-2.0/python", 0o777, "", "/usr/bin/python3");
    tar.into_inner().unwrap()
}

fn old_tree(f: &Fixture) {
    f.write("notes/bin/notes", "notes 1.4\n");
    f.write("notes/data/kept", "mine\n");
    fs::set_permissions(f.path("notes"), fs::Permissions::from_mode(0o711)).unwrap();
}

fn step(f: &Fixture, with: &str, keys: &str) -> Box<dyn Step> {
    f.step(&format!("kind = \"replace\"\npath = \"${{dir}}/notes\"\nwith = \"{with}\"\n{keys}"))
}

fn refused(f: &Fixture, it: &dyn Step) -> String {
    shown(&it.require(&f.context("it")).unwrap_err(), f)
}

#[test]
fn a_tree_is_exchanged_and_taken_back() {
    let f = Fixture::new();
    old_tree(&f);
    let before = tree(&f.path("notes"));
    f.write("notes-2.0.tar", release());
    let it = step(&f, "notes-2.0.tar", "strip = 1");
    let cx = f.context("unpack");
    let needed = it.require(&cx).unwrap().bytes.unwrap();
    assert!(needed >= 2 * 4096, "{needed}");
    assert_eq!(
        it.room(&cx).unwrap(),
        vec![crate::step::Room { path: f.place().canonicalize().unwrap(), bytes: needed, files: 6 }]
    );
    let output = it.run(&cx).unwrap();
    assert_eq!(output.note, "6 entries");
    assert_eq!(
        tree(&f.path("notes")),
        [
            ": dir 750",
            "bin: dir 755",
            "bin/again: 4755 1600000000 notes 2.0\n",
            "bin/notes: 4755 1600000000 notes 2.0\n",
            "locked: dir 555",
            "locked/file: 444 1600000000 inside\n",
            "python: -> /usr/bin/python3",
        ]
    );
    let of = |name: &str| f.path(name).metadata().unwrap();
    assert_eq!(of("notes/bin/again").ino(), of("notes/bin/notes").ino());
    assert_eq!(of("notes/bin/again").uid(), rustix::process::geteuid().as_raw(), "the archive's owners do not count");
    assert_eq!(beside(&f), [".txupgrade-t-1-old-unpack"]);
    let kept: Vec<PathBuf> = output.kept.iter().map(PathBuf::from).collect();
    assert_eq!(kept, it.leftovers(&cx).unwrap());
    assert_eq!(tree(&kept[0]), before, "what was displaced is kept whole");

    assert!(it.has_undo());
    assert_eq!(it.undo(&cx).unwrap().note, "the old tree is back");
    assert_eq!(tree(&f.path("notes")), before);
    assert_eq!(it.undo(&cx).unwrap().note, "", "again: nothing to do");
    assert_eq!(tree(&f.path("notes")), before);
    assert_eq!(beside(&f), [".txupgrade-t-1-gone-unpack"]);
    for leftover in it.leftovers(&cx).unwrap() {
        crate::sys::files::remove_tree(&leftover).unwrap();
    }
    assert!(beside(&f).is_empty() && it.leftovers(&cx).unwrap().is_empty());
}

#[test]
fn every_format_gives_the_same_tree() {
    let plain = release();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let archives = [
        ("r.tar", plain.clone()),
        ("r.tar.gz", gz.finish().unwrap()),
        ("r.tar.xz", xz.finish().unwrap()),
        ("r.tar.zst", zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ];
    let mut first: Option<Vec<String>> = None;
    for (name, bytes) in archives {
        let f = Fixture::new();
        f.write(name, bytes);
        step(&f, name, "strip = 1").run(&f.context("it")).unwrap();
        let tree = tree(&f.path("notes"));
        assert_eq!(first.get_or_insert_with(|| tree.clone()), &tree, "{name}");
    }
}

#[test]
fn a_zip_keeps_modes_links_and_times() {
    let f = Fixture::new();
    let mut zip = zip::ZipWriter::new(File::create(f.path("r.zip")).unwrap());
    let time = zip::DateTime::from_date_and_time(2020, 9, 13, 12, 26, 40).unwrap();
    let options = zip::write::SimpleFileOptions::default().last_modified_time(time);
    zip.add_directory("bin/", options.unix_permissions(0o750)).unwrap();
    zip.start_file("bin/notes", options.unix_permissions(0o755)).unwrap();
    zip.write_all(b"notes 2.0\n").unwrap();
    zip.add_symlink("run", "bin/notes", options).unwrap();
    zip.finish().unwrap();
    step(&f, "r.zip", "").run(&f.context("it")).unwrap();
    assert_eq!(
        tree(&f.path("notes")),
        [": dir 755", "bin: dir 750", "bin/notes: 755 1600000000 notes 2.0\n", "run: -> bin/notes"]
    );
}

#[test]
fn a_directory_is_copied() {
    let f = Fixture::new();
    old_tree(&f);
    f.write("new/a/b", "b\n");
    fs::hard_link(f.path("new/a/b"), f.path("new/c")).unwrap();
    std::os::unix::fs::symlink("/etc", f.path("new/etc")).unwrap();
    fs::set_permissions(f.path("new/a"), fs::Permissions::from_mode(0o500)).unwrap();
    let expected = tree(&f.path("new"));
    let it = step(&f, "new", "");
    it.require(&f.context("it")).unwrap();
    it.run(&f.context("it")).unwrap();
    assert_eq!(tree(&f.path("notes")), expected);
    let inode = |name: &str| f.path(name).metadata().unwrap().ino();
    assert_eq!(inode("notes/a/b"), inode("notes/c"));
    assert_ne!(inode("notes/c"), inode("new/c"));
}

#[test]
fn where_there_was_nothing_nothing_is_left() {
    let f = Fixture::new();
    f.write("r.tar", release());
    let it = step(&f, "r.tar", "");
    let cx = f.context("it");
    it.require(&cx).unwrap();
    it.run(&cx).unwrap();
    assert!(f.path("notes/notes-2.0/bin/notes").exists());
    it.run(&cx).unwrap();
    it.undo(&cx).unwrap();
    assert!(!f.path("notes").exists());
    it.undo(&cx).unwrap();
    assert!(!f.path("notes").exists());
}

#[test]
fn run_again_it_still_knows_the_old_tree() {
    let f = Fixture::new();
    old_tree(&f);
    let before = tree(&f.path("notes"));
    f.write("r.tar", release());
    let it = step(&f, "r.tar", "");
    let cx = f.context("it");
    it.run(&cx).unwrap();
    it.run(&cx).unwrap();
    it.undo(&cx).unwrap();
    assert_eq!(tree(&f.path("notes")), before);
    it.run(&cx).unwrap();
    assert!(f.path("notes/notes-2.0").exists());
    it.undo(&cx).unwrap();
    assert_eq!(tree(&f.path("notes")), before);
}

/// The moments at which a death can leave the places, each made by hand.
#[test]
fn a_death_between_two_renames_loses_neither_tree() {
    let ino = |path: &Path| path.symlink_metadata().unwrap().ino();
    type Leave = fn(&Path, u64, u64);
    let deaths: [(&str, Leave); 5] = [
        ("while unpacking", |dir, _, _| fs::create_dir(dir.join(".txupgrade-t-1-new-it")).unwrap()),
        ("before the exchange", |dir, _, new| {
            fs::rename(dir.join("new"), dir.join(format!(".txupgrade-t-1-swap.{new}-it"))).unwrap();
        }),
        ("after the exchange", |dir, _, new| {
            fs::rename(dir.join("notes"), dir.join(format!(".txupgrade-t-1-swap.{new}-it"))).unwrap();
            fs::rename(dir.join("new"), dir.join("notes")).unwrap();
        }),
        ("before the exchange back", |dir, old, _| {
            fs::rename(dir.join("notes"), dir.join(format!(".txupgrade-t-1-back.{old}-it"))).unwrap();
            fs::rename(dir.join("new"), dir.join("notes")).unwrap();
        }),
        ("after the exchange back", |dir, old, _| {
            fs::rename(dir.join("new"), dir.join(format!(".txupgrade-t-1-back.{old}-it"))).unwrap();
        }),
    ];
    for (when, leave) in deaths {
        for then in ["undo", "run"] {
            let f = Fixture::new();
            old_tree(&f);
            let before = tree(&f.path("notes"));
            f.write("new/bin/notes", "notes 2.0\n");
            f.write("again/bin/notes", "notes 2.0\n");
            leave(&f.place(), ino(&f.path("notes")), ino(&f.path("new")));
            let it = step(&f, "again", "");
            let cx = f.context("it");
            if then == "run" {
                it.run(&cx).unwrap();
                assert_eq!(fs::read_to_string(f.path("notes/bin/notes")).unwrap(), "notes 2.0\n", "{when}, {then}");
            }
            it.undo(&cx).unwrap();
            assert_eq!(tree(&f.path("notes")), before, "death {when}, then {then}");
        }
    }
}

#[test]
fn a_checksum_that_does_not_match_is_refused_before_anything_is_touched() {
    let f = Fixture::new();
    old_tree(&f);
    let bytes = release();
    let sum = blake3::hash(&bytes).to_hex().to_string();
    f.write("r.tar", bytes);
    step(&f, "r.tar", &format!("blake3 = \"{sum}\"")).require(&f.context("it")).unwrap();
    let it = step(&f, "r.tar", "sha256 = \"00ff\"");
    let text = refused(&f, &*it);
    assert!(text.starts_with("`DIR/r.tar` is not what the plan expects\n  cause: its SHA-256 is "), "{text}");
    assert!(text.ends_with("\n  cause: the plan says 00ff"), "{text}");
    assert!(it.run(&f.context("it")).is_err());
    assert!(beside(&f).is_empty());
}

#[test]
fn hostile_archives_are_refused() {
    use tar::EntryType as T;
    let archive = |entries: &[(T, &str, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, path, link) in entries {
            add(&mut tar, *kind, path, 0o755, if *kind == T::Regular { "x" } else { "" }, link);
        }
        tar.into_inner().unwrap()
    };
    let cases: &[(&str, Vec<u8>)] = &[
        ("its entry `../out` leads out of it", archive(&[(T::Regular, "../out", "")])),
        ("its entry `a/../../out` leads out of it", archive(&[(T::Regular, "a/../../out", "")])),
        ("its entry `/etc/passwd` leads out of it", archive(&[(T::Regular, "/etc/passwd", "")])),
        (
            "its entry `l/x` goes through `l`, which is no directory",
            archive(&[(T::Symlink, "l", "/tmp"), (T::Regular, "l/x", "")]),
        ),
        ("its entry `l` comes twice", archive(&[(T::Symlink, "l", "/etc/passwd"), (T::Regular, "l", "")])),
        ("its entry `h` is a link to `etc/passwd`, which is no file of it", archive(&[(T::Link, "h", "etc/passwd")])),
        ("its entry `/etc/shadow` leads out of it", archive(&[(T::Link, "h", "/etc/shadow")])),
        (
            "its entry `h` is a link to `l`, which is no file of it",
            archive(&[(T::Symlink, "l", "/etc"), (T::Link, "h", "l")]),
        ),
        ("its entry `null` is a device or the like", archive(&[(T::Char, "null", "")])),
        ("its entry `pipe` is a device or the like", archive(&[(T::Fifo, "pipe", "")])),
        ("its root is not a directory", archive(&[(T::Symlink, ".", "/")])),
    ];
    for (why, bytes) in cases {
        let f = Fixture::new();
        old_tree(&f);
        let before = tree(&f.place());
        f.write("r.tar", bytes);
        let it = step(&f, "r.tar", "");
        assert_eq!(refused(&f, &*it), format!("cannot unpack `DIR/r.tar`\n  cause: {why}"));
        assert!(it.run(&f.context("it")).is_err());
        fs::remove_file(f.path("r.tar")).unwrap();
        for leftover in it.leftovers(&f.context("it")).unwrap() {
            crate::sys::files::remove_tree(&leftover).unwrap();
        }
        assert_eq!(tree(&f.place()), before, "{why}");
    }
}

#[test]
fn a_damaged_archive_is_refused() {
    let f = Fixture::new();
    let whole = zstd::encode_all(release().as_slice(), 1).unwrap();
    f.write("cut.tar.zst", &whole[..whole.len() - 20]);
    assert!(
        refused(&f, &*step(&f, "cut.tar.zst", ""))
            .starts_with("cannot unpack `DIR/cut.tar.zst`\n  cause: it is damaged")
    );
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&release()).unwrap();
    let mut bytes = gz.finish().unwrap();
    let last = bytes.len() - 6;
    bytes[last] ^= 1;
    f.write("crc.tgz", bytes);
    assert!(refused(&f, &*step(&f, "crc.tgz", "")).starts_with("cannot unpack `DIR/crc.tgz`\n  cause: it is damaged"));
    f.write("not.zip", "PK nothing");
    assert!(refused(&f, &*step(&f, "not.zip", "")).starts_with("cannot unpack `DIR/not.zip`\n  cause: it is damaged"));
}

#[test]
fn what_cannot_be_replaced_is_said() {
    let f = Fixture::new();
    f.write("r.tar", release());
    f.write("r.rar", "");
    f.write("empty.tar", tar::Builder::new(Vec::new()).into_inner().unwrap());
    f.write("file", "");
    fs::create_dir(f.path("dir")).unwrap();
    std::os::unix::fs::symlink("dir", f.path("link")).unwrap();
    let it = |path: &str, keys: &str| f.step(&format!("kind = \"replace\"\npath = \"{path}\"\n{keys}"));
    insta::assert_snapshot!(
        [
            refused(&f, &*it("link", "with = \"r.tar\"")),
            refused(&f, &*it("file", "with = \"r.tar\"")),
            refused(&f, &*it("gone/notes", "with = \"r.tar\"")),
            refused(&f, &*it("/proc", "with = \"r.tar\"")),
            refused(&f, &*it("notes", "with = \"gone.tar\"")),
            refused(&f, &*it("notes", "with = \"r.rar\"")),
            refused(&f, &*it("notes", "with = \"dir\"\nblake3 = \"00\"")),
            refused(&f, &*it("notes", "with = \"dir\"\nstrip = 1")),
            refused(&f, &*it("notes", "with = \"${dir}\"")),
            refused(&f, &*it("notes", "with = \"r.tar\"\nstrip = 3")),
            refused(&f, &*it("notes", "with = \"r.tar\"\nowner = \"nobody-here\"")),
            shown(&it("notes", "with = \"empty.tar\"").run(&f.context("it")).unwrap_err(), &f),
        ]
        .join("\n\n"),
        @r#"
        `DIR/link` is a symbolic link
        hint: name what it points to: path = "DIR/dir"

        `DIR/file` is not a directory

        cannot replace `DIR/gone/notes`: its directory is not there
          cause: No such file or directory (os error 2)

        `/proc` is a mount point and cannot be replaced by a rename

        cannot read `DIR/gone.tar`
          cause: No such file or directory (os error 2)

        `DIR/r.rar` is no archive of a known kind
        hint: it can be a directory, .tar, .tar.gz, .tar.xz, .tar.zst or .zip

        `DIR/dir` is a directory, and only a file has a checksum

        `DIR/dir` is a directory: nothing to `strip`
        hint: name the directory below it instead

        `DIR` holds the place it would be copied to

        cannot unpack `DIR/r.tar`
          cause: its root is not a directory

        there is no user `nobody-here`
        hint: `getent passwd` lists the users of this machine

        `DIR/empty.tar` is empty
        "#
    );
}

#[test]
fn the_new_tree_belongs_to_the_owner_of_the_old_one() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let f = Fixture::new();
    old_tree(&f);
    std::os::unix::fs::chown(f.path("notes"), Some(1234), Some(1235)).unwrap();
    f.write("r.tar", release());
    step(&f, "r.tar", "strip = 1").run(&f.context("it")).unwrap();
    for name in ["notes", "notes/bin", "notes/bin/notes"] {
        let meta = f.path(name).metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 1235), "{name}");
    }
    assert_eq!(f.path("notes/bin/notes").metadata().unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(f.path("notes/python").symlink_metadata().unwrap().uid(), 1234);
    step(&f, "r.tar", "strip = 1\nowner = \"nobody:root\"").run(&f.context("it")).unwrap();
    let meta = f.path("notes/bin/notes").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid()), (65534, 0));
}

#[test]
fn a_signal_leaves_the_old_tree_in_place() {
    let f = Fixture::new();
    old_tree(&f);
    let before = tree(&f.path("notes"));
    f.write("r.tar", release());
    let it = step(&f, "r.tar", "");
    f.stop.raise(15);
    let cx: Context<'_> = f.context("it");
    assert_eq!(
        it.run(&cx).unwrap_err().to_string(),
        "cannot unpack `DIR/r.tar`: interrupted by signal 15".replace("DIR", &f.place().display().to_string())
    );
    it.undo(&cx).unwrap();
    assert_eq!(tree(&f.path("notes")), before);
}

#[test]
fn instances_of_one_step_have_their_own_places() {
    let f = Fixture::new();
    f.write("r.tar", release());
    let it = step(&f, "r.tar", "");
    it.run(&f.context("unpack@/srv/a b")).unwrap();
    assert_eq!(beside(&f), [".txupgrade-t-1-none-unpack@%2Fsrv%2Fa%20b"]);
    assert!(it.leftovers(&f.context("unpack")).unwrap().is_empty());
    assert_eq!(it.leftovers(&f.context("unpack@/srv/a b")).unwrap().len(), 1);
}
