//! Accounts of the machine: uid, gid, groups and home of a user.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, OrSay, Result};

/// What switching to a user takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(super) name: String,
    pub(crate) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: OsString,
}

impl Account {
    /// The account called `user`, by name or by number.
    pub(crate) fn find(user: &str) -> Result<Account> {
        let name = CString::new(user).or_say(|| format!("`{}` is no name of a user", user.escape_debug()))?;
        let entry = entry(|passwd, buffer, found| {
            // SAFETY: all pointers are valid for the call, the length is the buffer's.
            unsafe { libc::getpwnam_r(name.as_ptr(), passwd, buffer.as_mut_ptr(), buffer.len(), found) }
        });
        let by_number = || {
            let uid = user.parse().ok()?;
            entry_of(uid)
        };
        entry.or_else(by_number).ok_or_else(|| {
            Error::new(format!("there is no user `{user}`")).hint("`getent passwd` lists the users of this machine")
        })
    }

    /// Whether it may work in `dir`, by mode bits alone.
    pub(crate) fn may_enter(&self, dir: &Path) -> bool {
        self.uid == 0
            || dir.ancestors().all(|dir| {
                let Ok(meta) = std::fs::metadata(dir) else { return false };
                let bit = if meta.uid() == self.uid {
                    0o100
                } else if meta.gid() == self.gid || self.groups.contains(&meta.gid()) {
                    0o010
                } else {
                    0o001
                };
                meta.is_dir() && meta.mode() & bit != 0
            })
    }
}

/// The number of the group called `name`, which may be a number itself.
pub(crate) fn group_id(name: &str) -> Result<u32> {
    let text = CString::new(name).or_say(|| format!("`{}` is no name of a group", name.escape_debug()))?;
    let mut buffer: Vec<libc::c_char> = vec![0; 4096];
    loop {
        // SAFETY: a group is plain data; the call fills it.
        let mut group: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call, the length is the buffer's.
        let code =
            unsafe { libc::getgrnam_r(text.as_ptr(), &mut group, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        match code {
            libc::ERANGE if buffer.len() < 1 << 24 => buffer.resize(buffer.len() * 2, 0),
            libc::EINTR => {}
            _ if !found.is_null() => return Ok(group.gr_gid),
            _ => return name.parse().ok().or_say(|| format!("there is no group `{name}`")),
        }
    }
}

fn entry_of(uid: u32) -> Option<Account> {
    entry(|passwd, buffer, found| {
        // SAFETY: all pointers are valid for the call, the length is the buffer's.
        unsafe { libc::getpwuid_r(uid, passwd, buffer.as_mut_ptr(), buffer.len(), found) }
    })
}

fn entry(
    ask: impl Fn(*mut libc::passwd, &mut [libc::c_char], *mut *mut libc::passwd) -> libc::c_int,
) -> Option<Account> {
    let mut buffer: Vec<libc::c_char> = vec![0; 4096];
    loop {
        // SAFETY: a passwd is plain data; the call fills it.
        let mut passwd: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        match ask(&mut passwd, &mut buffer, &mut found) {
            libc::ERANGE if buffer.len() < 1 << 24 => buffer.resize(buffer.len() * 2, 0),
            libc::EINTR => {}
            _ if found.is_null() => return None,
            _ => {
                // SAFETY: the entry was found, so its strings are set and live as long as the buffer.
                let (name, home) = unsafe { (CStr::from_ptr(passwd.pw_name), CStr::from_ptr(passwd.pw_dir)) };
                return Some(Account {
                    groups: groups(name, passwd.pw_gid),
                    name: name.to_string_lossy().into_owned(),
                    uid: passwd.pw_uid,
                    gid: passwd.pw_gid,
                    home: OsString::from_vec(home.to_bytes().to_vec()),
                });
            }
        }
    }
}

fn groups(name: &CStr, gid: u32) -> Vec<u32> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the list has room for `count` groups.
        let done = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if done >= 0 {
            groups.truncate(count);
            return groups;
        }
        if groups.len() > 1 << 17 {
            return vec![gid];
        }
        groups.resize(count.max(groups.len() * 2), 0);
    }
}

/// The uid of an account, by name or by number; `None` when there is none.
pub fn uid_of(user: &str) -> Option<u32> {
    Account::find(user).ok().map(|account| account.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let root = Account::find("root").unwrap();
        assert_eq!((root.uid, root.gid, root.home.to_str()), (0, 0, Some("/root")));
        assert!(root.groups.contains(&0));
        assert_eq!(Account::find("0").unwrap(), root);
    }

    #[test]
    fn groups_are_found_by_name_and_by_number() {
        assert_eq!(group_id("root"), Ok(0));
        assert_eq!(group_id("4711"), Ok(4711));
        assert_eq!(group_id("no-such-group").unwrap_err().to_string(), "there is no group `no-such-group`");
    }

    #[test]
    fn an_unknown_user_is_an_error() {
        let error = Account::find("no-such-user").unwrap_err();
        assert_eq!(error.to_string(), "there is no user `no-such-user`");
        assert_eq!(error.hints, ["`getent passwd` lists the users of this machine"]);
    }

    #[test]
    fn nobody_may_not_enter_what_is_private_to_root() {
        let nobody = Account::find("nobody").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        assert!(nobody.may_enter(Path::new("/")));
        assert!(!nobody.may_enter(dir.path()));
        assert!(Account::find("root").unwrap().may_enter(dir.path()));
    }
}
