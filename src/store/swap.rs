//! The moment of a restore: what was built beside the resource and what is in its place exchange their names.
//!
//! Every name is at any instant either the old thing or the new one; what was displaced is kept beside. Nothing here
//! follows a symlink, or goes to where something was mounted meanwhile.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::compare::Fix;
use super::live::{Anchor, Facts, Place, split};
use super::meta;
use super::side::Side;
use super::stage::Staged;
use crate::error::{OrSay, Result};

/// Puts what was built in place.
pub(super) struct Swap<'a> {
    anchor: &'a Anchor,
    side: &'a Side,
    /// The resource's device and mount.
    place: Place,
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// How many things were put aside without a replacement.
    aside: u64,
}

impl Swap<'_> {
    pub(super) fn at<'a>(anchor: &'a Anchor, side: &'a Side) -> Result<Swap<'a>> {
        let place = Facts::of(&anchor.dir, &anchor.name).or_else(|_| Facts::of(&anchor.dir, b""));
        let place = place.or_say(|| format!("cannot look at `{}`", anchor.shown(b"")))?.place;
        Ok(Swap { anchor, side, place, parent: None, aside: 0 })
    }

    /// Does what is to be done, in this order; after an error some of it is.
    pub(super) fn all(mut self, fixes: &[Fix], staged: &Staged) -> Result<()> {
        for fix in fixes {
            match fix {
                Fix::Build(entry) => {
                    // What is not there is part of something larger that is put in place as a whole.
                    if let Some(slot) = staged.slots.get(&entry.path.0) {
                        self.put(&entry.path.0, slot)?;
                    }
                }
                Fix::Displace(path) => self.displace(path)?,
                Fix::Mend(entry) | Fix::Settle(entry) => {
                    let path = &entry.path.0;
                    let done = self.anchor.open(path, OFlags::PATH).and_then(|fd| {
                        let facts = self.inside(&fd)?;
                        if facts.kind == entry.kind { meta::apply(&fd, entry) } else { Err(Errno::STALE) }
                    });
                    done.or_say(|| format!("cannot set the owner, mode and times of `{}`", self.anchor.shown(path)))?;
                }
            }
        }
        Ok(())
    }

    /// What is open, unless something was mounted there since it was compared.
    fn inside(&self, fd: &OwnedFd) -> rustix::io::Result<Facts> {
        let facts = Facts::of(fd, b"")?;
        if facts.lies_in(self.place) { Ok(facts) } else { Err(Errno::XDEV) }
    }

    fn parent(&mut self, path: &[u8]) -> rustix::io::Result<(&OwnedFd, Vec<u8>)> {
        if path.is_empty() {
            return Ok((&self.anchor.dir, self.anchor.name.clone()));
        }
        let (dir, name) = split(path);
        if self.parent.as_ref().is_none_or(|(path, _)| path != dir) {
            let fd = self.anchor.open(dir, OFlags::PATH | OFlags::DIRECTORY)?;
            let facts = self.inside(&fd)?;
            // Without this its owner could not change it; its mode is set at the end.
            if facts.mode & 0o300 != 0o300 && facts.uid == rustix::process::geteuid().as_raw() {
                let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
                rustix::fs::chmod(name, Mode::from_raw_mode(facts.mode | 0o700))?;
            }
            self.parent = Some((dir.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("it was set just now");
        Ok((fd, name.to_vec()))
    }

    fn put(&mut self, path: &[u8], slot: &[u8]) -> Result<()> {
        let shown = self.anchor.shown(path);
        let side = &self.side.dir;
        let mut work = || -> rustix::io::Result<()> {
            let (dir, name) = self.parent(path)?;
            match rustix::fs::renameat_with(side, slot, dir, &name, RenameFlags::EXCHANGE) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                // The filesystem cannot exchange names: put the old one aside first.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    let aside = [slot, b".displaced"].concat();
                    match rustix::fs::renameat(dir, &name, side, &aside) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => return Err(e),
            }
            match rustix::fs::renameat_with(side, slot, dir, &name, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(side, slot, dir, &name),
                done => done,
            }
        };
        work().or_say(|| format!("cannot put `{shown}` in place"))?;
        self.parent = self.parent.take().filter(|(dir, _)| dir != path && !dir.starts_with(path));
        Ok(())
    }

    fn displace(&mut self, path: &[u8]) -> Result<()> {
        let shown = self.anchor.shown(path);
        self.aside += 1;
        let aside = format!("extra-{}", self.aside);
        let side = &self.side.dir;
        let mut work = || -> rustix::io::Result<()> {
            let (dir, name) = self.parent(path)?;
            match rustix::fs::renameat(dir, &name, side, &aside) {
                // It is gone by itself.
                Err(Errno::NOENT) => Ok(()),
                done => done,
            }
        };
        work().or_say(|| format!("cannot put `{shown}` aside"))
    }
}
