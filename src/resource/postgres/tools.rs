//! Where the server's tools are: under the distribution's versioned directories, or on the PATH.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where the distributions put the tools of each major version.
const VERSIONED: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The directories of all installed major versions that have `program`, the newest first.
pub(super) fn installed(program: &str) -> Vec<(u32, PathBuf)> {
    let mut found = Vec::new();
    for (above, prefix) in VERSIONED {
        for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let major = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
            let bin = entry.path().join("bin");
            if let Some(major) = major.filter(|_| bin.join(program).exists()) {
                found.push((major, bin));
            }
        }
    }
    found.sort();
    found.reverse();
    found
}

/// The directory whose tools fit a server of version `major`: its own, else the oldest newer one. The tools on the
/// PATH are of version `on_path`, and are meant where the directory is empty.
pub(super) fn fitting(major: u32, installed: &[(u32, PathBuf)], on_path: Option<u32>) -> Result<PathBuf> {
    let fits = installed.iter().rev().find(|(theirs, _)| *theirs >= major);
    let path = PathBuf::new();
    let on_path = on_path.map(|theirs| (theirs, path));
    if let Some((_, bin)) = fits.or(on_path.as_ref().filter(|(theirs, _)| *theirs >= major)) {
        return Ok(bin.clone());
    }
    let newest = installed.first().or(on_path.as_ref()).map(|(theirs, _)| *theirs);
    let statement = match newest {
        Some(theirs) => {
            format!("the server is PostgreSQL {major}, and `pg_dump` here is of version {theirs}, which is too old")
        }
        None => format!("there is no `pg_dump` here, and the server is PostgreSQL {major}"),
    };
    Err(Error::new(statement).hint(format!("apt-get install postgresql-client-{major}")))
}

/// The program in that directory, or the one on the PATH.
pub(super) fn program(bin: &Path, name: &str) -> String {
    bin.join(name).display().to_string()
}

/// The major version in `pg_dump (PostgreSQL) 15.18 (Debian …)`.
pub(super) fn major(said: &str) -> Option<u32> {
    let (_, version) = said.split_once("(PostgreSQL) ")?;
    version.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_of_the_servers_version_are_taken_else_newer_ones() {
        let dirs = |majors: &[u32]| majors.iter().map(|m| (*m, PathBuf::from(format!("/{m}")))).collect::<Vec<_>>();
        let chosen = |major, found: &[u32], on_path| match fitting(major, &dirs(found), on_path) {
            Ok(bin) => bin.display().to_string(),
            Err(error) => format!("{}; {}", error.statement, error.hints.join("; ")),
        };
        assert_eq!(chosen(15, &[17, 16, 15, 13], None), "/15");
        assert_eq!(chosen(14, &[17, 16, 13], Some(14)), "/16");
        assert_eq!(chosen(16, &[15], Some(17)), "", "those on the PATH");
        insta::assert_snapshot!(chosen(16, &[15, 13], Some(14)), @"the server is PostgreSQL 16, and `pg_dump` here is of version 15, which is too old; apt-get install postgresql-client-16");
        insta::assert_snapshot!(chosen(16, &[], None), @"there is no `pg_dump` here, and the server is PostgreSQL 16; apt-get install postgresql-client-16");
        assert_eq!(major("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("pg_dump (PostgreSQL) 17devel"), Some(17));
        assert_eq!(major("?"), None);
    }
}
