//! What SQLite says, as an operator reads it.

use std::path::Path;

use rusqlite::ErrorCode;

use super::look::holder;
use crate::error::{Error, Fault};

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// What SQLite says, as an operator reads it.
pub(super) fn in_words(error: rusqlite::Error, path: &Path) -> Error {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::new(format!("`{shown}` is not an SQLite database")),
        Some(ErrorCode::DatabaseCorrupt) => damaged(path, &error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(format!("`{shown}` is locked{}", by_whom(path)))
        }
        _ => Error::new(error.to_string()),
    }
}

pub(super) fn damaged(path: &Path, why: &str) -> Error {
    Error::new(format!("the database `{}` is damaged", path.display())).because(why)
}

pub(super) fn not_what_was_captured(path: &Path) -> Error {
    Error::new(format!("what the store gives back of `{}` is not what was captured", path.display()))
        .fault(Fault::Damage)
}

pub(super) fn by_whom(path: &Path) -> String {
    match holder(path) {
        Ok(Some(pid)) => format!(" by process {pid}{}", command_of(pid)),
        _ => String::new(),
    }
}

/// What runs under that number, on one line.
pub(super) fn command_of(pid: u32) -> String {
    match crate::sys::process::command_line(pid) {
        Some(line) => {
            let line: String = line.chars().map(|char| if char.is_control() { ' ' } else { char }).take(60).collect();
            format!(" (`{}`)", line.trim())
        }
        None => String::new(),
    }
}
