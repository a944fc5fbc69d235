//! The server of a database: asked with its own client, from another database of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::tools;
use super::url::{Url, url};
use super::words::{self, Complaint};
use crate::context::Context;
use crate::error::{Error, OrSay, Result};
use crate::plan::{self, Command, Program, Template};
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
    pub(super) way: &'a Way,
    url: Url,
    /// Where its tools are; empty: on the PATH.
    pub(super) bin: PathBuf,
    /// What its sessions of ours are called, whichever process of ours they are of.
    session: String,
    /// The address of a database to rename others from.
    pub(super) maintenance: String,
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
            false => Error { statement: statement.into(), ..self.error },
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
        let address = way.url.expand(&cx.scope)?;
        let url = url(&address)?;
        way.passwords(cx)?;
        let parts = [cx.tx.as_str(), &cx.subject, &cx.state.display().to_string(), &address];
        let session = format!("txupgrade_{}", hashed(&parts));
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
        let database = known.clone().unwrap_or_default();
        let mut server = Server { cx, way, url, bin: psql, session, maintenance, about: nobody, database };
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

    /// The argument that names a database to a tool. What is said here goes before what a service file says.
    pub(super) fn dbname(&self, address: &str) -> String {
        let sign = if address.contains('?') { '&' } else { '?' };
        format!("--dbname={address}{sign}application_name={}", self.session)
    }

    /// Ends the sessions that a client which was killed has left: the server goes on with what it was told, and may
    /// create a database after it was looked for. What is interrupted in that, the server takes back itself.
    pub(super) fn end_abandoned(&self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let sql = format!(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = {} AND usename = session_user AND pid <> pg_backend_pid()
               AND backend_type = 'client backend';",
            words::literal(&self.session)
        );
        let began = Instant::now();
        loop {
            let said =
                self.tell(&sql).map_err(|failure| failure.about("cannot end a session that was left at work"))?;
            let Some((pid, _)) = said.split_once('|') else { return Ok(()) };
            if began.elapsed() > PATIENCE {
                return Err(Error::new(format!("session {pid} was left at work and does not end"))
                    .because(format!("it was asked to for {} s", PATIENCE.as_secs()))
                    .hint("see what holds it: SELECT * FROM pg_stat_activity"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
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
    pub(super) fn failure(&self, error: Error, before: usize) -> Failure {
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

    pub(super) fn client(&self, address: &str, more: &[&str]) -> Command {
        let fixed = ["-XqAtw", "-vON_ERROR_STOP=1", "-vVERBOSITY=verbose"];
        let address = self.dbname(address);
        let words = fixed.iter().chain(more).map(|word| (*word).to_owned()).chain([address]);
        let mut command = self.command("psql", self.bin.clone(), words.collect());
        command.env.insert("PGCLIENTENCODING".to_owned(), literal_value("UTF8"));
        command
    }

    pub(super) fn command(&self, name: &str, bin: PathBuf, words: Vec<String>) -> Command {
        let mut env: BTreeMap<String, plan::Value> = [
            // What the tools say themselves is judged.
            ("LC_ALL", "C"),
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

/// Twelve digits that stand for all the parts.
pub(super) fn hashed(parts: &[&str]) -> String {
    blake3::hash(parts.join("\0").as_bytes()).to_hex()[..12].to_owned()
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn literal_value(text: &str) -> plan::Value {
    plan::Value::Plain(Template::literal(text))
}
