//! A large file that changed in places comes back by what changed: on a filesystem that can share blocks the rest is
//! cloned, elsewhere it is copied from the file itself. It is the same file either way.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use crate::bed::Bed;
use crate::disk::{Disk, Kind, does};
use crate::tree::{differences, inventory, noise};

const SIZE: usize = 24 << 20;
/// What of the file may be written, if the rest is shared: the chunks that changed, and none of the others.
const FEW: u64 = 8 << 20;

/// What a rollback did with the large file, seen from outside.
struct Seen {
    /// What its clonings ended with.
    clones: Vec<String>,
    /// How many bytes were written to it.
    written: u64,
}

/// Takes a snapshot of a large file on a disk of its own, changes it, and brings it back.
fn brought_back(kind: Kind, change: impl Fn(&Path)) -> Seen {
    let bed = Bed::new();
    let disk = Disk::new(&bed, "disk", kind, 400, &[]);
    let (app, large) = (disk.path("app"), disk.path("app/large"));
    fs::create_dir(&app).unwrap();
    fs::write(&large, noise(1, SIZE)).unwrap();
    fs::write(disk.path("app/small"), "small\n").unwrap();
    let before = inventory(&app);
    bed.run(&["begin", "--name", "app", &format!("path={}", app.display())]).ends(0);
    change(&large);
    assert_ne!(differences(&before, &inventory(&app)), "");

    let command = bed.command(&["rollback"]);
    // A file for each thread: no call is interrupted by another.
    fs::create_dir(bed.path("trace")).unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-ff", "-y", "-qq", "-e", "signal=none", "-e", "trace=ioctl,write,pwrite64", "-o"]);
    strace.arg(bed.path("trace/of"));
    strace.arg(command.get_program()).args(command.get_args()).current_dir(bed.path(""));
    does(&mut strace);
    assert_eq!(differences(&before, &inventory(&app)), "");
    assert_eq!(large.metadata().unwrap().len(), SIZE as u64);
    bed.run(&["store", "verify"]).ends(0);

    let traces = fs::read_dir(bed.path("trace")).unwrap();
    let trace: String = traces.map(|trace| fs::read_to_string(trace.unwrap().path()).unwrap()).collect();
    let result = |line: &str| line.rsplit(" = ").next().unwrap().trim().to_owned();
    let clones = trace.lines().filter(|line| line.contains("FICLONE")).map(result).collect();
    let side = format!("<{}/.txupgrade-app-1", disk.path("").display().to_string().trim_end_matches('/'));
    let written = trace.lines().filter(|line| line.contains("write") && line.contains(&side));
    Seen { clones, written: written.filter_map(|line| result(line).parse::<u64>().ok()).sum() }
}

/// A few pages in the middle are others.
fn change_pages(large: &Path) {
    let file = fs::File::options().write(true).open(large).unwrap();
    for page in [3, 700, 701, 5000] {
        file.write_all_at(&noise(page, 4096), page * 4096).unwrap();
    }
}

#[test]
fn where_blocks_can_be_shared_only_what_changed_is_written() {
    let longer = |large: &Path| {
        change_pages(large);
        let file = fs::File::options().write(true).open(large).unwrap();
        file.write_all_at(&noise(2, 3 << 20), SIZE as u64).unwrap();
    };
    let shorter = |large: &Path| {
        change_pages(large);
        fs::File::options().write(true).open(large).unwrap().set_len(SIZE as u64 - (2 << 20)).unwrap();
    };
    let holed = |large: &Path| {
        let file = fs::File::options().write(true).open(large).unwrap();
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, 9 << 20, 1 << 20).unwrap();
        assert!(large.metadata().unwrap().blocks() * 512 < SIZE as u64);
    };
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [("longer", longer), ("shorter", shorter), ("holed", holed)];
    for (what, change) in changes {
        let seen = brought_back(Kind::Xfs, change);
        assert_eq!(seen.clones, ["0"], "{what}");
        println!("{what}: {} of {SIZE} bytes were written", seen.written);
        assert!(0 < seen.written && seen.written < FEW, "{what}: {} bytes were written", seen.written);
    }
}

#[test]
fn where_they_cannot_it_is_copied_from_the_file() {
    let seen = brought_back(Kind::Ext4, change_pages);
    assert_eq!(seen.clones, ["-1 EOPNOTSUPP (Operation not supported)"]);
    assert_eq!(seen.written, SIZE as u64);
}
