//! The reserve: room that a state directory keeps for the way back.
//!
//! Files of a fixed size in `reserve/`, made before a transaction begins. When the disk is full they are given back one
//! by one, so that the journal and the logs can still be written; each is a little room and an inode. What is given is
//! made again before the next transaction begins.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::{files, mounts};
use crate::error::{Error, Result};

/// How many pieces there are.
const PIECES: u64 = 8;
/// How large one is, unless the disk is small: then all of them take an eighth of it.
const PIECE: u64 = 512 << 10;
/// With less than this there is no telling whether the next write succeeds.
const SCARCE: u64 = 128 << 10;
/// With fewer inodes than this.
const FEW: u64 = 4;

/// Makes what is missing of the reserve in the state directory `dir`.
pub fn keep(dir: &Path) -> Result<()> {
    let size = piece(dir)?;
    files::create_private_dir(&place(dir))?;
    for number in 1..=PIECES {
        let path = place(dir).join(number.to_string());
        if path.metadata().is_ok_and(|meta| meta.len() >= size) {
            continue;
        }
        if let Err(cause) = make(&path, size) {
            let _ = fs::remove_file(&path);
            return Err(Error::new(format!("there is not enough room for the reserve of `{}`", dir.display()))
                .because(cause)
                .hint(format!("make room on its filesystem: {} MB are enough", PIECE * PIECES / 1_000_000 + 1)));
        }
    }
    Ok(())
}

/// Gives a piece back to the filesystem; false when there is none any more.
pub fn give(dir: &Path) -> bool {
    let mut pieces = (1..=PIECES).map(|number| place(dir).join(number.to_string()));
    pieces.any(|piece| fs::remove_file(piece).is_ok())
}

/// The same where the filesystem has next to nothing left.
pub fn give_if_scarce(dir: &Path) {
    let enough = piece(dir).unwrap_or(SCARCE).min(SCARCE);
    while mounts::free(dir).is_ok_and(|bytes| bytes < enough)
        || mounts::free_inodes(dir).is_ok_and(|inodes| inodes.is_some_and(|inodes| inodes < FEW))
    {
        if !give(dir) {
            break;
        }
    }
}

/// How many bytes the whole of it takes.
pub fn size(dir: &Path) -> Result<u64> {
    Ok(piece(dir)? * PIECES)
}

fn place(dir: &Path) -> PathBuf {
    dir.join("reserve")
}

fn piece(dir: &Path) -> Result<u64> {
    Ok((mounts::size(dir)? / 8 / PIECES / 4096 * 4096).clamp(4096, PIECE))
}

fn make(path: &Path, size: u64) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, size) {
        // Where the filesystem cannot promise room, it is taken.
        Err(rustix::io::Errno::OPNOTSUPP) => file.write_all(&vec![0x5a; usize::try_from(size).unwrap_or(0)]),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_given_piece_by_piece_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let there = || fs::read_dir(place(dir.path())).unwrap().count() as u64;
        assert!(!give(dir.path()));
        keep(dir.path()).unwrap();
        assert_eq!(there(), PIECES);
        assert_eq!(place(dir.path()).join("1").metadata().unwrap().len() * PIECES, size(dir.path()).unwrap());
        give_if_scarce(dir.path());
        assert_eq!(there(), PIECES);
        for left in (0..PIECES).rev() {
            assert!(give(dir.path()));
            assert_eq!(there(), left);
        }
        assert!(!give(dir.path()));
        keep(dir.path()).unwrap();
        assert_eq!(there(), PIECES);
    }
}
