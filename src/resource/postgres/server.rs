//! The server of a database: asked with its own client, from another database of it.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::print::{self, Seen};
use super::tools;
use super::url::{Url, url};
use super::words::{self, Complaint, code, literal};
use crate::context::{Context, default_timeout};
use crate::error::{Error, OrSay, Result};
use crate::plan::{self, Command, Program, Template};
use crate::resource::fingerprint::Fingerprint;
use crate::resource::pipe;

/// How the plan says to reach it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) url: Template,
    pub(super) password_file: Option<Template>,
    pub(super) user: Option<Template>,
    pub(super) timeout: Option<Duration>,
}

/// A server that answers.
pub(super) struct Server<'a> {
    pub(super) cx: &'a Context<'a>,
    way: &'a Way,
    url: Url,
    /// Where its tools are; empty: on the PATH.
    bin: PathBuf,
    /// The address of a database to rename others from.
    maintenance: String,
    pub(super) about: About,
    /// The database that this is all about.
    pub(super) database: String,
}

/// What the server says of itself and of who asks.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct About {
    /// `150018`
    pub(super) version: u32,
    /// The cluster's own number.
    pub(super) cluster: String,
    pub(super) port: String,
    pub(super) role: String,
    /// Whether the role may create and rename databases.
    pub(super) creates: bool,
    /// Whether it may end other roles' sessions.
    pub(super) ends: bool,
}

/// A failure with what the program said of it.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) complaint: Complaint,
}

impl Failure {
    /// The failure to do what `statement` says.
    pub(super) fn about(self, statement: impl Into<String>) -> Error {
        match self.complaint.text.is_empty() {
            true => self.error.within(statement),
            false => Error::new(statement).because(&self.complaint.text).fault(self.error.fault),
        }
    }
}

impl From<Box<Failure>> for Error {
    fn from(failure: Box<Failure>) -> Error {
        failure.error
    }
}

/// What the server answers, or why it does not.
pub(super) type Answer<T> = Result<T, Box<Failure>>;

const ABOUT: &str = "
SELECT json_build_object('version', current_setting('server_version_num')::int,
  'cluster', (SELECT system_identifier::text FROM pg_control_system()), 'port', current_setting('port'),
  'role', current_user, 'creates', r.rolsuper OR r.rolcreatedb,
  'ends', r.rolsuper OR pg_has_role('pg_signal_backend', 'MEMBER'))
FROM pg_roles r WHERE r.rolname = current_user;
";

impl<'a> Server<'a> {
    /// Finds the server. `database` is the name that was captured; at the beginning it is told by the address.
    pub(super) fn find(cx: &'a Context<'_>, way: &'a Way, database: Option<&str>) -> Result<Server<'a>> {
        let url = url(&way.url.expand(&cx.scope)?)?;
        way.passwords(cx)?;
        let psql = match tools::installed("psql").first() {
            Some((_, bin)) => bin.clone(),
            None => PathBuf::new(),
        };
        let nobody = About {
            version: 0,
            cluster: String::new(),
            port: String::new(),
            role: String::new(),
            creates: false,
            ends: false,
        };
        let known = database.map(str::to_owned).or_else(|| url.database.clone());
        let maintenance = url.of("postgres");
        let mut server =
            Server { cx, way, url, bin: psql, maintenance, about: nobody, database: known.clone().unwrap_or_default() };
        let others = ["postgres", "template1"].map(str::to_owned);
        let mut first = None;
        for name in others.into_iter().filter(|name| known.as_ref() != Some(name)) {
            let maintenance = server.url.of(&name);
            match server.ask(&maintenance, ABOUT) {
                Ok(said) => {
                    let about: About = serde_json::from_str(&said).or_say(|| "cannot understand what psql says")?;
                    (server.maintenance, server.about) = (maintenance, about);
                    first = None;
                    break;
                }
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        if let Some(failure) = first {
            return Err(server.unreachable(*failure));
        }
        if server.about.version < 110_000 {
            return Err(Error::new(format!("the server is PostgreSQL {}, which is too old", server.major()))
                .because("PostgreSQL 11 and newer can be captured"));
        }
        if known.is_none() {
            let address = server.url.itself();
            let name = server.ask(&address, "SELECT current_database();");
            server.database = name.map_err(|failure| {
                failure.error.hint("name the database in the `url`: postgresql:///shop?service=shop")
            })?;
        }
        server.bin = server.fitting_tools()?;
        Ok(server)
    }

    /// The address of a database of this server.
    pub(super) fn at(&self, database: &str) -> String {
        self.url.of(database)
    }

    fn major(&self) -> u32 {
        self.about.version / 10_000
    }

    fn fitting_tools(&self) -> Result<PathBuf> {
        let installed = tools::installed("pg_dump");
        let major = self.major();
        let fitting = tools::fitting(major, &installed, None);
        if fitting.is_ok() {
            return fitting;
        }
        let on_path = self.command("pg_dump", PathBuf::new(), vec!["--version".to_owned()]);
        let said = pipe::ask(self.cx, &on_path, "").ok();
        tools::fitting(major, &installed, said.as_deref().and_then(tools::major))
    }

    fn unreachable(&self, failure: Failure) -> Error {
        let file = self.way.password_file.as_ref().and_then(|file| file.path(&self.cx.scope).ok());
        let file = file.map(|file| file.display().to_string());
        let hint = words::hint(&failure.complaint.text, file.as_deref());
        let mut error = failure.about(format!("cannot reach the server of `{}`", self.url.itself()));
        error.hints.extend(hint);
        error
    }

    /// Asks through another database than the one this is about.
    pub(super) fn tell(&self, sql: &str) -> Answer<String> {
        self.ask(&self.maintenance, sql)
    }

    /// Runs a script with psql; its answers are lines.
    pub(super) fn ask(&self, address: &str, sql: &str) -> Answer<String> {
        self.psql(address, &[], sql)
    }

    /// The same with more arguments.
    pub(super) fn psql(&self, address: &str, more: &[&str], sql: &str) -> Answer<String> {
        let before = self.cx.said.borrow().len();
        let said = pipe::ask(self.cx, &self.client(address, more), sql);
        match said {
            Ok(said) => Ok(said.trim_end_matches('\n').to_owned()),
            Err(error) => Err(Box::new(self.failure(error, before))),
        }
    }

    /// The answers, each a line of JSON.
    pub(super) fn rows(&self, address: &str, sql: &str) -> Answer<Vec<Value>> {
        let said = self.ask(address, sql)?;
        Ok(said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// What a program that failed has said since `before`.
    fn failure(&self, error: Error, before: usize) -> Failure {
        let said = self.cx.said.borrow();
        let complaint = words::complaint(self.cx.log.masked(said.get(before..).unwrap_or_default()).as_str());
        let complaint = complaint.unwrap_or_default();
        match complaint.text.is_empty() || matches!(error.fault, crate::error::Fault::Signal(_)) {
            true => Failure { error, complaint: Complaint::default() },
            false => {
                let statement = format!("PostgreSQL does not do what is asked of `{}`", self.database);
                Failure { error: Error::new(statement).because(&complaint.text).fault(error.fault), complaint }
            }
        }
    }

    fn client(&self, address: &str, more: &[&str]) -> Command {
        let fixed = ["-XqAtw", "-vON_ERROR_STOP=1", "-vVERBOSITY=verbose"];
        let address = format!("--dbname={address}");
        let words = fixed.iter().chain(more).map(|word| (*word).to_owned()).chain([address]);
        let mut command = self.command("psql", self.bin.clone(), words.collect());
        command.env.insert("PGCLIENTENCODING".to_owned(), literal_value("UTF8"));
        command
    }

    fn command(&self, name: &str, bin: PathBuf, words: Vec<String>) -> Command {
        let mut env: BTreeMap<String, plan::Value> = [
            // What the tools say themselves is judged.
            ("LC_ALL", "C"),
            ("PGAPPNAME", "txupgrade"),
            ("PGCONNECT_TIMEOUT", "15"),
            ("PGOPTIONS", ""),
            ("PGCLIENTENCODING", ""),
        ]
        .map(|(name, value)| (name.to_owned(), literal_value(value)))
        .into();
        if let Some(file) = self.way.password_file.as_ref().and_then(|file| file.path(&self.cx.scope).ok()) {
            env.insert("PGPASSFILE".to_owned(), literal_value(&file.display().to_string()));
        }
        let argv = std::iter::once(tools::program(&bin, name)).chain(words);
        Command {
            program: Program::Run(argv.map(Template::literal).collect()),
            user: self.way.user.clone(),
            dir: None,
            env,
            env_file: None,
            timeout: self.way.timeout,
            exit: vec![0],
        }
    }

    /// Fingerprints a database; `also` runs while the snapshot that it is of is held, and is given its name.
    pub(super) fn look<T>(&self, database: &str, also: impl FnOnce(&str, Seen, Fingerprint) -> Result<T>) -> Result<T> {
        let address = self.at(database);
        let mut holder = self.client(&address, &[]);
        // It lasts as long as all that happens meanwhile.
        holder.timeout = Some(self.way.timeout.unwrap_or(default_timeout::STEP) * 3);
        let before = self.cx.said.borrow().len();
        let looked = pipe::beside(self.cx, &holder, |script: &mut dyn Write, answers: &mut dyn BufRead| {
            let asked = script.write_all(print::script().as_bytes()).and_then(|()| script.flush());
            asked.or_say(|| "cannot ask psql")?;
            let snapshot = print::snapshot(answers)?;
            let schema = self.dump(database, &snapshot, &["--schema-only", "--encoding=UTF8"], |source| {
                let mut text = Vec::new();
                source.read_to_end(&mut text).or_say(|| "cannot read what pg_dump says")?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            });
            // A failure that is not the session's own is kept apart.
            let schema = match schema {
                Ok(schema) => schema,
                Err(error) => return Ok(Err(error)),
            };
            let seen = print::seen(answers, &|| self.cx.go_on())?;
            let fingerprint = print::fingerprint(&seen, &schema)?;
            Ok(also(&snapshot, seen, fingerprint))
        });
        looked.unwrap_or_else(|error| {
            let failure = self.failure(error, before);
            Err(match failure.complaint.code == code::LOCKED {
                true => self.locked(database, failure),
                false => failure.about(format!("cannot read the database `{database}`")),
            })
        })
    }

    /// Runs `pg_dump` on a snapshot of a database.
    pub(super) fn dump<T: Send>(
        &self,
        database: &str,
        snapshot: &str,
        more: &[&str],
        work: impl FnOnce(&mut dyn Read) -> Result<T> + Send,
    ) -> Result<T> {
        let mut words = vec![
            format!("--dbname={}", self.at(database)),
            format!("--snapshot={snapshot}"),
            format!("--lock-wait-timeout={}", print::PATIENCE),
            "--no-password".to_owned(),
            // A subscription that is restored would be a second one of the same slot.
            "--no-subscriptions".to_owned(),
        ];
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let command = self.command("pg_dump", self.bin.clone(), words);
        let before = self.cx.said.borrow().len();
        pipe::dump(self.cx, &command, work)
            .map_err(|error| self.in_words(error, before, format!("cannot dump the database `{database}`")))
    }

    /// Loads a dump into a database.
    pub(super) fn load(&self, database: &str, work: impl FnOnce(&mut dyn Write) -> Result<u64> + Send) -> Result<()> {
        let words = ["--exit-on-error", "--no-password"].map(str::to_owned).into_iter();
        let words = words.chain([format!("--dbname={}", self.at(database))]).collect();
        let mut command = self.command("pg_restore", self.bin.clone(), words);
        // The rename that puts it in place waits for all of it to be on disk.
        command.env.insert("PGOPTIONS".to_owned(), literal_value("-c synchronous_commit=off"));
        let before = self.cx.said.borrow().len();
        pipe::load(self.cx, &command, work)
            .map_err(|error| self.in_words(error, before, format!("cannot load the dump of `{}`", self.database)))
    }

    /// The failure of a tool: what it said, else what became of it.
    fn in_words(&self, error: Error, before: usize, statement: String) -> Error {
        // The full disk of the store is told first, and the dump's complaint about its pipe is none.
        if error.is_no_room() {
            return error.within(statement);
        }
        self.failure(error, before).about(statement)
    }

    /// Who holds the lock that was waited for.
    fn locked(&self, database: &str, failure: Failure) -> Error {
        let holders = format!(
            "SELECT DISTINCT ON (a.pid) json_build_array(a.pid, a.usename, a.application_name, left(a.query, 80))
             FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database
             WHERE d.datname = {} AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
               AND l.relation >= 16384;",
            literal(database)
        );
        let mut error = Error::new(format!("cannot read the database `{database}`: a table in it is locked"))
            .fault(failure.error.fault);
        for row in self.rows(&self.maintenance, &holders).unwrap_or_default() {
            let Ok((pid, user, application, query)) = serde_json::from_value::<(u32, String, String, String)>(row)
            else {
                continue;
            };
            error = error
                .because(self.cx.log.masked(&format!(
                    "session {pid} (role `{user}`, application `{application}`) holds it: {}",
                    one_line(&query)
                )))
                .hint(format!("stop what it belongs to, or end it: SELECT pg_terminate_backend({pid})"));
        }
        if error.causes.is_empty() { error.because(failure.complaint.text) } else { error }
    }
}

impl Way {
    /// libpq says nothing of a password file that it does not heed.
    fn passwords(&self, cx: &Context<'_>) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let Some(file) = &self.password_file else { return Ok(()) };
        let path = file.path(&cx.scope)?;
        let meta = path.metadata().or_say(|| format!("cannot look at the password file `{}`", path.display()))?;
        if !meta.is_file() {
            return Err(Error::new(format!("the password file `{}` is no file", path.display())));
        }
        match meta.mode() & 0o077 {
            0 => Ok(()),
            _ => Err(Error::new(format!(
                "the password file `{}` is open to others: its mode is {:o}",
                path.display(),
                meta.mode() & 0o777
            ))
            .hint(format!("chmod 600 {}", path.display()))),
        }
    }
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn literal_value(text: &str) -> plan::Value {
    plan::Value::Plain(Template::literal(text))
}
