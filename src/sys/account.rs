//! The numbers behind the names of accounts and groups, as the system's name service knows them.

use std::ffi::CString;

use crate::error::{Error, OrSay, Result};

/// The number of the account `name`, which may be a number itself.
pub fn user_id(name: &str) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = CString::new(name).or_say(|| format!("`{name}` is not an account"))?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        // SAFETY: all zeros is a valid `passwd`, which the call fills in.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is valid for the call, and the length is the buffer's.
        let code =
            unsafe { libc::getpwnam_r(text.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        match code {
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            _ if found.is_null() => return Err(Error::new(format!("there is no account `{name}`"))),
            _ => return Ok(entry.pw_uid),
        }
    }
}

/// The number of the group `name`, which may be a number itself.
pub fn group_id(name: &str) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = CString::new(name).or_say(|| format!("`{name}` is not a group"))?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        // SAFETY: all zeros is a valid `group`, which the call fills in.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is valid for the call, and the length is the buffer's.
        let code =
            unsafe { libc::getgrnam_r(text.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        match code {
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            _ if found.is_null() => return Err(Error::new(format!("there is no group `{name}`"))),
            _ => return Ok(entry.gr_gid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_both_accounts() {
        assert_eq!(user_id("root"), Ok(0));
        assert_eq!(group_id("root"), Ok(0));
        assert_eq!(user_id("4711"), Ok(4711));
        assert_eq!(user_id("nobody-here").map_err(|e| e.to_string()), Err("there is no account `nobody-here`".into()));
        assert_eq!(group_id("none-here").map_err(|e| e.to_string()), Err("there is no group `none-here`".into()));
    }
}
