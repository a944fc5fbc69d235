//! `kind = "mysql"`: one schema of a MariaDB or MySQL server, captured and put back with the server's own tools.
//!
//! Relies on `mariadb-dump` and `mariadb` (`mysqldump` and `mysql`) of the server's own version, which know sockets, option files
//! and TLS, and on `RENAME TABLE` (see `swap`). Promises: a dump that is stored is complete, of one moment, and was the same
//! before and after; it is loaded into a schema beside the live one and compared before anything live is touched; what the
//! upgrade added is gone afterwards, grants included; what was replaced is kept until the transaction's end.
//!
//! DDL on this server commits by itself: a script of a step is one transaction only as far as it has none.

mod dump;
mod look;
mod names;
mod rights;
mod server;
mod swap;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::dump::{Definitions, Lengths, Piece};
use self::look::{EVENT, GRANTS, Granted, Inventory, Kind as Sort, SEQUENCE, fingerprint};
use self::names::{Role, Sides, ident, literal};
use self::server::{Access, Server};
use self::swap::Tables;
use super::fingerprint::Fingerprint;
use super::{Captured, Change, Changes, Claim, Estimate, Kind, Resource, What};
use crate::context::Context;
use crate::error::{Error, Fault, OrSay, Result};
use crate::plan::{Fields, Template};
use crate::store::{Head, ObjectId};
use crate::sys::clock;

/// Keys: `database`, `option_file`, `user`.
pub(super) const KIND: Kind = Kind { name: "mysql", read };

fn read(fields: &mut Fields) -> Box<dyn Resource> {
    Box::new(MySql {
        database: fields.need_template("database"),
        option_file: fields.template("option_file"),
        user: fields.template("user"),
    })
}

struct MySql {
    database: Template,
    /// Read instead of every other option file; without it the tools read what they always read.
    option_file: Option<Template>,
    /// The account of this machine as which the tools run.
    user: Option<Template>,
}

/// What a manifest remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Facts {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    absent: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint>,
    /// Of the server, for people.
    #[serde(default)]
    server: String,
    /// Bytes of the dump's second piece, and of its third.
    #[serde(default)]
    definitions: u64,
    #[serde(default)]
    events: u64,
    /// Who was allowed what.
    #[serde(default)]
    grants: Vec<(Granted, BTreeSet<String>)>,
    /// The time, UTC, after which the server forgets an event by itself.
    #[serde(default)]
    expires: BTreeMap<String, String>,
}

impl Facts {
    fn lengths(&self) -> Lengths {
        Lengths { definitions: self.definitions, events: self.events }
    }
}

impl Resource for MySql {
    fn claims(&self, cx: &Context<'_>) -> Result<Vec<Claim>> {
        let access = self.access(cx)?;
        let claim = match self.server(&access, cx) {
            Ok(server) => format!("database mysql {}/{}", server.identity, server.database),
            // Before it is up, and in a plan that will be refused, it is known by how it is reached.
            Err(_) => {
                let way = access.option_file.map(|file| file.display().to_string()).unwrap_or_default();
                format!("database mysql {way}/{}", self.database.expand(&cx.scope)?)
            }
        };
        Ok(vec![Claim::Thing(claim)])
    }

    fn probe(&self, cx: &Context<'_>, _base: Option<ObjectId>) -> Result<Estimate> {
        let access = self.access(cx)?;
        let mut warnings: Vec<String> =
            access.option_file.as_deref().map(check_option_file).transpose()?.into_iter().flatten().collect();
        let server = self.server(&access, cx)?;
        server.check_tools()?;
        let database = &server.database;
        if !server.exists {
            rights::check(&server, &Inventory::default())?;
            warnings.push(format!("there is no database `{database}`; a rollback removes what comes there"));
            return Ok(Estimate { warnings, ..Estimate::default() });
        }
        let inventory = Inventory::of(&server, database)?;
        rights::check(&server, &inventory)?;
        refuse_keys_from_elsewhere(&server)?;
        warnings.extend(told(&inventory, database));
        Ok(Estimate { bytes: inventory.bytes(), items: inventory.tables.len() as u64, warnings })
    }

    fn capture(&self, cx: &Context<'_>, _base: Option<ObjectId>) -> Result<Captured> {
        let access = self.access(cx)?;
        let server = self.server(&access, cx)?;
        let head = |facts: &Facts| -> Result<Head> {
            Ok(Head {
                tx: cx.tx.clone(),
                resource: cx.subject.clone(),
                kind: KIND.name.to_owned(),
                place: server.database.clone(),
                version: cx.version.clone(),
                at: clock::now(),
                facts: serde_json::to_value(facts).or_say(|| "cannot write down the fingerprint")?,
            })
        };
        let database = &server.database;
        let say = |error: Error| error.within(format!("cannot dump `{database}`"));
        let inventory = Inventory::of(&server, database).map_err(say)?;
        let grants = inventory.grants.iter().map(|(granted, what)| (granted.clone(), what.clone())).collect();
        if !server.exists {
            return cx.store.capture_facts(head(&Facts { absent: true, grants, ..Facts::default() })?);
        }
        server.check_tools()?;
        let before = fingerprint(&server, database, &inventory).map_err(say)?;
        let definitions = Definitions::of(&server, &inventory).map_err(say)?;
        let Lengths { definitions: length, events } = definitions.lengths();
        let expires = inventory.events.iter().filter(|(_, until)| !until.is_empty());
        let facts = Facts {
            absent: false,
            fingerprint: Some(before),
            server: server.version.clone(),
            definitions: length,
            events,
            grants,
            expires: expires.map(|(name, until)| (name.clone(), until.clone())).collect(),
        };
        let mut captured = dump::capture(&server, cx, &inventory, &definitions, head(&facts)?).map_err(say)?;
        if let Some(change) = compare(&server, &facts)?.changes.items.first() {
            return Err(Error::new(format!("something still writes to `{database}`"))
                .because(format!("while it was dumped {} changed: {}", change.name, change.details.join(", ")))
                .hint("let a quiesce stop what uses it; its own events stop with SET GLOBAL event_scheduler = OFF"));
        }
        captured.items = inventory.tables.len() as u64;
        Ok(captured)
    }

    /// Events are not loaded: they would run.
    fn prove(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Option<String>> {
        let facts = facts(cx, manifest)?;
        let Some(print) = &facts.fingerprint else { return Ok(None) };
        let access = self.access(cx)?;
        let server = self.server(&access, cx)?;
        let scratch = Sides::new(cx, &server.database).name(Role::Proof);
        let setting = |name: &str| print.settings.get(name).map_or("", String::as_str);
        let load = || -> Result<Fingerprint> {
            server.drop_database(&scratch)?;
            let (charset, collation) = (setting("character set"), setting("collation"));
            let made = format!("CREATE DATABASE {} CHARACTER SET {charset} COLLATE {collation};", ident(&scratch));
            server.ask(None, &made)?;
            dump::load(&server, cx, (manifest, facts.lengths()), Piece::Rows, &scratch)?;
            dump::load_definitions_elsewhere(&server, cx, (manifest, facts.lengths()), &scratch)?;
            fingerprint(&server, &scratch, &Inventory::of(&server, &scratch)?)
        };
        let loaded = load();
        let dropped = server.drop_database(&scratch);
        let loaded =
            loaded.map_err(|error| error.within(format!("the dump of `{}` cannot be loaded", server.database)))?;
        dropped?;
        let counts = |object: &str| !object.starts_with(GRANTS) && !object.starts_with(EVENT);
        match tables_of(print, &loaded, counts) {
            Tables::Same => Ok(Some(print.in_words())),
            Tables::Differ => Err(not_what_was_captured(&server.database)),
        }
    }

    fn diff(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let access = self.access(cx)?;
        Ok(compare(&self.server(&access, cx)?, &facts(cx, manifest)?)?.changes)
    }

    fn restore(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let access = self.access(cx)?;
        let server = self.server(&access, cx)?;
        let facts = facts(cx, manifest)?;
        let Compared { changes, tables } = compare(&server, &facts)?;
        if changes.is_empty() {
            return Ok(changes);
        }
        let database = &server.database;
        let say = |error: Error| error.within(format!("cannot restore `{database}`"));
        swap::put_back(&server, cx, manifest, &facts, tables).map_err(say)?;
        let server = self.server(&access, cx)?;
        let left = compare(&server, &facts)?.changes.items;
        let left = left.iter().find(|change| !change.name.starts_with(EVENT));
        let left = left.map(|first| format!("{}: {}", first.name, first.details.join(", ")));
        let left = match (left, &facts.fingerprint) {
            (None, Some(_)) => swap::put_back_events(&server, cx, manifest, &facts).map_err(say)?,
            (left, _) => left,
        };
        match left {
            None => Ok(changes),
            Some(first) => Err(Error::new(format!("`{database}` is restored and still differs"))
                .because(first)
                .hint("something else writes to it: stop it, then `txupgrade rollback` again")),
        }
    }

    fn sweep(&self, cx: &Context<'_>) -> Result<()> {
        let access = self.access(cx)?;
        let server = self.server(&access, cx)?;
        swap::sweep(&server, cx)
            .map_err(|error| error.within(format!("cannot drop what was kept beside `{}`", server.database)))
    }

    /// A tab, line end or backslash in a cell is written `\t`, `\n`, `\\`; nothing is written `NULL`.
    fn query(&self, cx: &Context<'_>, sql: &str) -> Result<String> {
        let access = self.access(cx)?;
        let server = self.existing(&access, cx)?;
        let sql = format!("START TRANSACTION READ ONLY;\n{sql}\n;");
        let said = server.ask_text(Some(&server.database), &sql);
        let said = said.map_err(|error| error.within(format!("cannot ask `{}`", server.database)))?;
        Ok(said.trim_end_matches('\n').to_owned())
    }

    /// One transaction only as far as the script has no DDL: what this server creates, alters or drops it commits, with all
    /// that came before.
    fn execute(&self, cx: &Context<'_>, sql: &str) -> Result<()> {
        let access = self.access(cx)?;
        let server = self.existing(&access, cx)?;
        let sql = format!("START TRANSACTION;\n{sql}\n;\nCOMMIT;");
        let ran = server.ask_text(Some(&server.database), &sql);
        ran.map(drop).map_err(|error| error.within(format!("cannot change `{}`", server.database)))
    }
}

impl MySql {
    fn access(&self, cx: &Context<'_>) -> Result<Access> {
        let option_file = self.option_file.as_ref().map(|file| file.path(&cx.scope)).transpose()?;
        Ok(Access { option_file, user: self.user.clone() })
    }

    fn server<'a>(&self, access: &'a Access, cx: &'a Context<'_>) -> Result<Server<'a>> {
        Server::reach(access, cx, &self.database.expand(&cx.scope)?)
    }

    fn existing<'a>(&self, access: &'a Access, cx: &'a Context<'_>) -> Result<Server<'a>> {
        let server = self.server(access, cx)?;
        match server.exists {
            true => Ok(server),
            false => Err(Error::new(format!("there is no database `{}`", server.database))),
        }
    }
}

/// Refuses one that others may write, warns of one that others may read.
fn check_option_file(path: &Path) -> Result<Option<String>> {
    let shown = path.display();
    let meta = path.metadata().or_say(|| format!("cannot read the option file `{shown}`"))?;
    match meta.permissions().mode() {
        mode if mode & 0o022 != 0 => Err(Error::new(format!("the option file `{shown}` may be written by others"))
            .hint(format!("chmod 600 {shown}"))),
        mode if mode & 0o044 != 0 => {
            Ok(Some(format!("the option file `{shown}` may be read by others: chmod 600 {shown}")))
        }
        _ => Ok(None),
    }
}

/// A foreign key follows the table it refers to: one of another schema would follow what is moved aside.
fn refuse_keys_from_elsewhere(server: &Server<'_>) -> Result<()> {
    let (database, named) = (&server.database, literal(&server.database));
    let sql = format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, REFERENCED_TABLE_NAME
         FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE BINARY UNIQUE_CONSTRAINT_SCHEMA = BINARY {named}
         AND BINARY CONSTRAINT_SCHEMA <> BINARY {named} AND CONSTRAINT_SCHEMA NOT LIKE 'txupgrade\\_%' LIMIT 1;"
    );
    match server.ask(None, &sql)?.first().map(Vec::as_slice) {
        Some([schema, table, key, own]) => Err(Error::new(format!("`{database}` could not be put back by itself"))
            .because(format!("the foreign key `{key}` of `{schema}`.`{table}` refers to its table `{own}`"))
            .hint("a foreign key between two databases has to be dropped for the upgrade")),
        _ => Ok(()),
    }
}

/// What a person should know before it is captured.
fn told(inventory: &Inventory, database: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let tables = || inventory.tables.iter().filter(|(_, table)| table.kind != Sort::Sequence);
    let loose: Vec<&str> =
        tables().filter(|(_, table)| table.engine != "InnoDB").map(|(name, _)| name.as_str()).collect();
    if !loose.is_empty() {
        warnings.push(format!(
            "`{database}`: not of InnoDB, and so dumped as they are and not as of one moment: {}",
            named(&loose)
        ));
    }
    let rounded: Vec<String> = tables()
        .flat_map(|(name, table)| table.columns.iter().filter(|it| it.kind == "float").map(move |it| (name, it)))
        .map(|(name, column)| format!("{name}.{}", column.name))
        .collect();
    if !rounded.is_empty() {
        let rounded: Vec<&str> = rounded.iter().map(String::as_str).collect();
        warnings.push(format!("`{database}`: a dump keeps six digits of a FLOAT: {}", named(&rounded)));
    }
    warnings
}

/// The first few of them.
fn named(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    match names.get(SHOWN..).unwrap_or_default().len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

fn facts(cx: &Context<'_>, manifest: ObjectId) -> Result<Facts> {
    let head = cx.store.head(manifest)?;
    serde_json::from_value(head.facts).or_say(|| format!("the manifest of `{}` is not that of a database", cx.subject))
}

/// What a change of the database as a whole is called, beside changes of its tables.
const SETTINGS: &str = "the database";

/// How the live schema is beside what was captured.
struct Compared {
    changes: Changes,
    tables: Tables,
}

fn compare(server: &Server<'_>, facts: &Facts) -> Result<Compared> {
    let whole = |what: What| Compared {
        changes: Changes {
            items: vec![Change { what, name: server.database.clone(), details: Vec::new(), secret: false }],
        },
        tables: Tables::Differ,
    };
    let was = match (&facts.fingerprint, server.exists) {
        // What is granted on it may be there without it.
        (None, false) => {
            let was = look::granted(facts.grants.iter().map(|(granted, what)| (granted, what)));
            let is = look::granted(&Inventory::of(server, &server.database)?.grants);
            return Ok(Compared { changes: Changes { items: was.changes(&is, SETTINGS) }, tables: Tables::Same });
        }
        (None, true) => return Ok(whole(What::Added)),
        (Some(_), false) => return Ok(whole(What::Removed)),
        (Some(was), true) => was,
    };
    let inventory = Inventory::of(server, &server.database)?;
    let mut live = fingerprint(server, &server.database, &inventory)?;
    let mut was = was.clone();
    // The server drops an event whose time is over, and would not take it back.
    for (event, until) in &facts.expires {
        if *until <= inventory.now {
            let event = format!("{EVENT}{event}");
            was.objects.remove(&event);
            live.objects.remove(&event);
        }
    }
    let tables = tables_of(&was, &live, |object| object.starts_with(SEQUENCE));
    Ok(Compared { changes: Changes { items: was.changes(&live, SETTINGS) }, tables })
}

/// Whether two have the same tables, and the same of those objects that count.
fn tables_of(was: &Fingerprint, is: &Fingerprint, counts: impl Fn(&str) -> bool) -> Tables {
    let objects = |print: &Fingerprint| -> BTreeMap<String, String> {
        print.objects.iter().filter(|(name, _)| counts(name)).map(|(name, is)| (name.clone(), is.clone())).collect()
    };
    match was.tables == is.tables && objects(was) == objects(is) {
        true => Tables::Same,
        false => Tables::Differ,
    }
}

fn not_what_was_captured(database: &str) -> Error {
    Error::new(format!("what the store gives back of `{database}` is not what was captured")).fault(Fault::Damage)
}
