//! The server and its own tools: which they are, how they are run, and what they say.
//!
//! Credentials stand in an option file or are not needed; no argument holds one. Every session begins with what makes its
//! answers the same whatever the server's defaults are, and ends when a lock is not given.

use std::path::{Path, PathBuf};

use super::super::pipe;
use super::names::{ident, literal};
use crate::context::{Context, default_timeout, run};
use crate::error::{Error, OrSay, Result};
use crate::plan::{Command, Program, Template};

/// Seconds that a session waits for a lock on a table.
const PATIENCE: u32 = 10;
/// What the server says when its disk is full.
const NO_ROOM: [&str; 4] = ["No space left on device", "ERROR 1114 ", "ERROR 1021 ", "ERROR 14 "];

/// What the plan says.
pub(super) struct Access {
    pub(super) option_file: Option<PathBuf>,
    pub(super) user: Option<Template>,
}

/// A server that answers.
pub(super) struct Server<'a> {
    access: &'a Access,
    cx: &'a Context<'a>,
    flavour: Flavour,
    /// `10.11.19-MariaDB-0+deb12u1`.
    pub(super) version: String,
    /// Which server it is, however it was reached.
    pub(super) identity: String,
    /// The account that the tools have there: `'root'@'localhost'`.
    pub(super) account: String,
    /// As the server spells it.
    pub(super) database: String,
    pub(super) exists: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    MariaDb,
    MySql,
}

impl Flavour {
    fn of(version: &str) -> Flavour {
        if version.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql }
    }

    fn name(self) -> &'static str {
        match self {
            Flavour::MariaDb => "MariaDB",
            Flavour::MySql => "MySQL",
        }
    }

    fn client(self) -> &'static str {
        match self {
            Flavour::MariaDb => "mariadb",
            Flavour::MySql => "mysql",
        }
    }

    fn dump(self) -> &'static str {
        match self {
            Flavour::MariaDb => "mariadb-dump",
            Flavour::MySql => "mysqldump",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Flavour::MariaDb => "mariadb-client",
            Flavour::MySql => "mysql-client",
        }
    }
}

impl<'a> Server<'a> {
    /// Asks who is there, and whether it has `database`.
    pub(super) fn reach(access: &'a Access, cx: &'a Context<'a>, database: &str) -> Result<Server<'a>> {
        if let Some(system) = ["mysql", "sys", "information_schema", "performance_schema"]
            .iter()
            .find(|system| system.eq_ignore_ascii_case(database))
        {
            return Err(Error::new(format!("`{system}` is the server's own and cannot be put back alone")));
        }
        let flavour = [Flavour::MariaDb, Flavour::MySql].into_iter().find(|it| found_in_path(it.client()));
        let Some(flavour) = flavour else {
            return Err(Error::new("neither `mariadb` nor `mysql` is installed")
                .hint("apt-get install mariadb-client, or the client package of your MySQL server"));
        };
        let mut server = Server {
            access,
            cx,
            flavour,
            version: String::new(),
            identity: String::new(),
            account: String::new(),
            database: database.to_owned(),
            exists: false,
        };
        let named = literal(database);
        let rows = server.ask(
            None,
            &format!(
                "SELECT 'server', VERSION(), @@hostname, @@datadir, CURRENT_USER();
                 SELECT 'schema', SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {named}
                   AND (@@lower_case_table_names <> 0 OR BINARY SCHEMA_NAME = BINARY {named});"
            ),
        )?;
        for row in rows {
            match row.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["server", version, host, datadir, account] => {
                    server.version = version.to_owned();
                    server.identity = format!("{host}:{datadir}");
                    let (user, host) = account.rsplit_once('@').unwrap_or((account, ""));
                    server.account = format!("{}@{}", literal(user), literal(host));
                }
                ["schema", name] => {
                    server.database = name.to_owned();
                    server.exists = true;
                }
                _ => return Err(not_understood(&row)),
            }
        }
        server.flavour = Flavour::of(&server.version);
        Ok(server)
    }

    /// Refuses tools that are missing, of the other make, or older than the server.
    pub(super) fn check_tools(&self) -> Result<()> {
        for tool in [self.flavour.dump(), self.flavour.client()] {
            let package = format!("apt-get install {}", self.flavour.package());
            let server = format!("the server is {} {}", self.flavour.name(), self.version);
            if !found_in_path(tool) {
                return Err(Error::new(format!("`{tool}` is not installed")).because(server).hint(package));
            }
            let said = run::command(self.cx, &self.command(&[tool, "--version"], None), default_timeout::CHECK)?.text;
            let Some(version) = of_tool(&said) else {
                return Err(Error::new(format!("cannot tell the version of `{tool}`")).because(said.trim()));
            };
            if Flavour::of(&said) != self.flavour {
                let make = Flavour::of(&said).name();
                return Err(Error::new(format!("`{tool}` is the one of {make}")).because(server).hint(package));
            }
            if version < numbers(&self.version).unwrap_or_default() {
                let (major, minor) = version;
                return Err(Error::new(format!("`{tool}` is of version {major}.{minor} and older than the server"))
                    .because(server)
                    .hint(package));
            }
        }
        Ok(())
    }

    /// The rows that `sql` gives, cell by cell.
    pub(super) fn ask(&self, database: Option<&str>, sql: &str) -> Result<Vec<Vec<String>>> {
        let text = self.ask_text(database, sql)?;
        Ok(text.lines().map(|line| line.split('\t').map(unescaped).collect()).collect())
    }

    /// What it prints for `sql`: a line for each row, tabs between cells; a tab, line end or backslash in one is escaped.
    pub(super) fn ask_text(&self, database: Option<&str>, sql: &str) -> Result<String> {
        let asked = pipe::ask(self.cx, &self.client(database), &format!("{}{sql}\n", self.prelude()));
        asked.map_err(|error| self.in_words(error))
    }

    /// Runs `command`, which dumps, and lets `work` read what it prints.
    pub(super) fn dump<T: Send>(
        &self,
        arguments: &[&str],
        work: impl FnOnce(&mut dyn std::io::Read) -> Result<T> + Send,
    ) -> Result<T> {
        pipe::dump(self.cx, &self.dump_command(arguments), work).map_err(|error| self.in_words(error))
    }

    /// The same, for what is small.
    pub(super) fn dump_text(&self, arguments: &[&str]) -> Result<String> {
        pipe::ask(self.cx, &self.dump_command(arguments), "").map_err(|error| self.in_words(error))
    }

    /// Runs in `database` what `work` writes.
    pub(super) fn load(
        &self,
        database: &str,
        work: impl FnOnce(&mut dyn std::io::Write) -> Result<u64> + Send,
    ) -> Result<()> {
        let prelude = self.prelude();
        pipe::load(self.cx, &self.client(Some(database)), |sink| {
            sink.write_all(prelude.as_bytes()).or_say(|| "cannot write what is to be loaded")?;
            work(sink)
        })
        .map_err(|error| self.in_words(error))
    }

    /// What every session begins with.
    fn prelude(&self) -> String {
        let forever = match self.flavour {
            Flavour::MariaDb => ", max_statement_time = 0",
            Flavour::MySql => "",
        };
        format!(
            "SET SESSION lock_wait_timeout = {PATIENCE}, sql_mode = '', time_zone = '+00:00', \
             sql_quote_show_create = 1{forever};\n"
        )
    }

    fn client(&self, database: Option<&str>) -> Command {
        // The last of them: a failing statement, which may be rows of a table, does not go to the log.
        const OPTIONS: [&str; 9] = [
            "--connect-timeout=10",
            "--batch",
            "--skip-column-names",
            "--skip-reconnect",
            "--binary-mode",
            "--comments",
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
            "--loose-skip-print-query-on-error",
        ];
        self.command(&[&[self.flavour.client()], &OPTIONS[..]].concat(), database)
    }

    fn dump_command(&self, arguments: &[&str]) -> Command {
        const OPTIONS: [&str; 14] = [
            "--single-transaction",
            "--quick",
            "--skip-lock-tables",
            "--skip-add-locks",
            "--hex-blob",
            "--tz-utc",
            "--comments",
            "--skip-dump-date",
            "--skip-compact",
            "--no-tablespaces",
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
            "--loose-set-gtid-purged=OFF",
            "--loose-column-statistics=0",
        ];
        self.command(&[&[self.flavour.dump()], &OPTIONS[..], arguments].concat(), None)
    }

    fn command(&self, words: &[&str], database: Option<&str>) -> Command {
        let option_file = self.access.option_file.as_ref().map(|file| format!("--defaults-file={}", file.display()));
        let database = database.map(|name| format!("--database={name}"));
        let (program, rest) = words.split_first().expect("a program is named");
        let words =
            [*program].into_iter().chain(option_file.as_deref()).chain(rest.iter().copied()).chain(database.as_deref());
        Command {
            program: Program::Run(words.map(Template::literal).collect()),
            user: self.access.user.clone(),
            dir: None,
            env: Default::default(),
            env_file: None,
            timeout: None,
            exit: vec![0],
        }
    }

    /// What the server said, as an operator reads it.
    fn in_words(&self, error: Error) -> Error {
        let database = &self.database;
        let said =
            |cause: &String| cause.starts_with("its last line was") && NO_ROOM.iter().any(|no| cause.contains(no));
        if error.causes.iter().any(said) {
            let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
            return error.within(format!("the server of `{database}` has no room left")).because(full);
        }
        let account = if self.account.is_empty() { "the account" } else { &self.account };
        match number_of(&error) {
            Some(1045 | 1698) => error
                .within(format!("the server of `{database}` refuses the login"))
                .hint("`option_file` names a file with user and password; `user` the account of this machine to be"),
            Some(2002 | 2003 | 2005 | 2006 | 2013) => error
                .within(format!("the server of `{database}` does not answer"))
                .hint("start it, or see where `option_file` leads (socket, host, port)"),
            Some(1044 | 1142 | 1143 | 1227 | 1370 | 1419) => {
                error.within(format!("{account} may not do that")).hint(super::rights::all(account, database))
            }
            Some(1205) => {
                let seconds = format!("a lock on a table of `{database}` was not given within {PATIENCE} s");
                let holders = self.connections().unwrap_or_default();
                let named = holders.iter().fold(error.within(seconds), |error, holder| error.because(holder));
                named.hint(format!("end what uses `{database}`, then try again"))
            }
            _ => error,
        }
    }

    /// Who else is connected to the database, or to none, longest first, in words.
    fn connections(&self) -> Result<Vec<String>> {
        // Through `pipe`, so that what fails here does not ask again.
        let sql = format!(
            "SELECT ID, USER, HOST, TIME, COMMAND, IFNULL(LEFT(REPLACE(INFO, '\\n', ' '), 60), '')
             FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND (DB = {named} OR DB IS NULL)
             AND COMMAND NOT IN ('Daemon', 'Binlog Dump') AND USER <> 'system user'
             ORDER BY DB IS NULL, TIME DESC LIMIT 5;",
            named = literal(&self.database)
        );
        let text = pipe::ask(self.cx, &self.client(None), &sql)?;
        let told = text.lines().filter_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [id, user, host, time, "Sleep", _] => {
                Some(format!("connection {id} of {user}@{host} has not said anything for {time} s"))
            }
            [id, user, host, time, _, info] => {
                Some(format!("connection {id} of {user}@{host} has been busy for {time} s: {info}"))
            }
            _ => None,
        });
        Ok(told.collect())
    }

    /// Ends who else is connected to the database, as far as that is allowed.
    pub(super) fn end_connections(&self) -> Result<()> {
        let sql = format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND DB = {}
             AND COMMAND NOT IN ('Daemon', 'Binlog Dump');",
            literal(&self.database)
        );
        for row in self.ask(None, &sql)? {
            // One that has gone by itself, or that may not be ended, is not the end of it: locks are waited for.
            let _ = pipe::ask(self.cx, &self.client(None), &format!("KILL {};", row.concat()));
        }
        Ok(())
    }

    pub(super) fn is_mariadb(&self) -> bool {
        self.flavour == Flavour::MariaDb
    }

    pub(super) fn drop_database(&self, name: &str) -> Result<()> {
        let sql = format!("SET foreign_key_checks = 0; DROP DATABASE IF EXISTS {};", ident(name));
        self.ask(None, &sql).map(drop)
    }
}

/// What the server answered is not what was asked.
pub(super) fn not_understood(row: &[String]) -> Error {
    Error::new("cannot make sense of what the server says").because(format!("it said: {}", row.join(" ")))
}

/// The number in `ERROR 1045 (28000): …`, or in `Got error: 1045: …`.
fn number_of(error: &Error) -> Option<u32> {
    error.causes.iter().chain([&error.statement]).find_map(|line| {
        let rest = ["ERROR ", "Got error: ", "Error "].iter().find_map(|word| Some(line.split_once(word)?.1))?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

fn found_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| is_file(&dir.join(program)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file())
}

/// The version in `mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, …`, or `mariadb-dump from 11.4.2-MariaDB, …`, or `mysqldump
/// Ver 8.0.36 for Linux …`.
fn of_tool(said: &str) -> Option<(u32, u32)> {
    let after = ["Distrib ", "from ", "Ver "].iter().find_map(|word| Some(said.split_once(word)?.1))?;
    numbers(after)
}

/// `10.11.19-MariaDB` is (10, 11).
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A cell as it was before the client wrote it on one line.
fn unescaped(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    let mut chars = cell.chars();
    while let Some(char) = chars.next() {
        match (char, char == '\\') {
            (_, true) => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('0') => text.push('\0'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            (char, false) => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_tool_is_that_of_its_server() {
        let said = "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)";
        assert_eq!(of_tool(said), Some((10, 11)));
        assert_eq!(of_tool("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)"), Some((11, 4)));
        assert_eq!(of_tool("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)"), Some((8, 0)));
        assert_eq!(of_tool("nothing of the kind"), None);
    }

    #[test]
    fn what_the_client_wrote_on_one_line_is_read_back() {
        assert_eq!(unescaped("a\\nb\\tc\\\\n\\0"), "a\nb\tc\\n\0");
    }
}
