//! `kind = "postgres"`: one database of a PostgreSQL server, dumped, and put back as a whole.
//!
//! Relies on the server's own tools of its own version, or newer ones. Promises: what is stored is of one snapshot, and
//! so is its fingerprint (see `print`); a dump is loaded into a database beside, fingerprinted there and compared before
//! the live one is touched; then both change names in one transaction of the server (see `swap`).

mod dump;
mod print;
mod probe;
mod properties;
mod server;
mod swap;
mod tools;
mod url;
mod words;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use self::properties::Properties;
use self::server::{Server, Way};
use self::swap::Beside;
use self::url::Url;
use self::words::{code, ident, literal};
use super::fingerprint::Fingerprint;
use super::{Captured, Change, Changes, Claim, Estimate, Kind, Resource, What};
use crate::context::Context;
use crate::error::{Error, OrSay, Result};
use crate::plan::Fields;
use crate::store::{Head, ObjectId};
use crate::sys::clock;

/// Keys: `url`, `password_file`, `user`, `timeout`.
pub(super) const KIND: Kind = Kind { name: "postgres", read };

fn read(fields: &mut Fields) -> Box<dyn Resource> {
    let url = fields.need_template("url");
    let text = url.to_string();
    // What begins with a variable is looked at when that is known.
    if !text.is_empty()
        && !text.starts_with("${")
        && let Err((statement, hint)) = Url::parse(&text)
    {
        fields.wrong("url", statement, Some(hint));
    }
    let way = Way {
        url,
        password_file: fields.template("password_file"),
        user: fields.template("user"),
        timeout: fields.time_limit("timeout"),
    };
    Box::new(Postgres { way, claimed: Mutex::default() })
}

struct Postgres {
    way: Way,
    /// What each address turned out to be: it is asked for often.
    claimed: Mutex<BTreeMap<String, String>>,
}

/// What a manifest remembers.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    database: String,
    /// `None`: there was no such database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    present: Option<Present>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Present {
    /// Of the server: `150018`.
    version: u32,
    properties: Properties,
    /// The roles without which it cannot be put back.
    roles: Vec<String>,
    fingerprint: Fingerprint,
}

/// What a change of the database as a whole is called, beside changes of what is in it.
const WHOLE: &str = "the database";

/// Which differences count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// All that anybody can have done.
    Exactly,
    /// Those that a dump and a load do not bring about.
    Loosely,
}

impl Resource for Postgres {
    fn claims(&self, cx: &Context<'_>) -> Result<Vec<Claim>> {
        let address = self.way.url.expand(&cx.scope)?;
        let url = url::url(&address)?;
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let thing = claimed.entry(address).or_insert_with(|| match Server::find(cx, &self.way, None) {
            // Whichever way leads to it, this server and its database are called the same.
            Ok(server) => {
                format!("database postgres {}:{}/{}", server.about.cluster, server.about.port, server.database)
            }
            Err(_) => format!("database {}", url.itself()),
        });
        Ok(vec![Claim::Thing(thing.clone())])
    }

    fn probe(&self, cx: &Context<'_>, _base: Option<ObjectId>) -> Result<Estimate> {
        probe::probe(&Server::find(cx, &self.way, None)?)
    }

    fn capture(&self, cx: &Context<'_>, _base: Option<ObjectId>) -> Result<Captured> {
        let server = Server::find(cx, &self.way, None)?;
        let database = server.database.clone();
        let head = |present: Option<Present>| -> Result<Head> {
            let facts = Facts { database: database.clone(), present };
            Ok(Head {
                tx: cx.tx.clone(),
                resource: cx.subject.clone(),
                kind: KIND.name.to_owned(),
                place: server.at(&database),
                version: cx.version.clone(),
                at: clock::now(),
                facts: serde_json::to_value(facts).or_say(|| "cannot write down the fingerprint")?,
            })
        };
        if swap::is_open(&server, &database)?.is_none() {
            return cx.store.capture_facts(head(None)?);
        }
        server.look(&database, |snapshot, seen, fingerprint| {
            let items = fingerprint.tables.len() as u64;
            let properties = seen.properties.or_say(|| "the server does not say what the database is like")?;
            let version = server.about.version;
            let head = head(Some(Present { version, properties, roles: seen.roles, fingerprint }))?;
            let custom = ["--format=custom", "--compress=0"];
            let mut captured =
                server.dump(&database, snapshot, &custom, |source| cx.store.capture_stream(head, source))?;
            captured.items = items;
            Ok(captured)
        })
    }

    fn prove(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Option<String>> {
        let facts = facts(cx, manifest)?;
        let server = Server::find(cx, &self.way, Some(&facts.database))?;
        let Some(present) = facts.present else { return Ok(None) };
        let proof = Beside::of(&server).proof();
        let built = build(&server, manifest, &proof, &present);
        swap::drop_beside(&server, &proof)?;
        built.map(|()| Some(present.fingerprint.in_words()))
    }

    fn diff(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let facts = facts(cx, manifest)?;
        differences(&Server::find(cx, &self.way, Some(&facts.database))?, &facts, Compared::Loosely)
    }

    fn restore(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let facts = facts(cx, manifest)?;
        let server = Server::find(cx, &self.way, Some(&facts.database))?;
        let beside = Beside::of(&server);
        server.end_abandoned()?;
        // Who has been here in this transaction has put back what a load makes of it.
        let compared = match beside.has_displaced(&server)? {
            true => Compared::Loosely,
            false => Compared::Exactly,
        };
        // What cannot be compared, because a table is locked or broken, is replaced.
        let changes =
            differences(&server, &facts, compared).unwrap_or_else(|error| whole(What::Changed, &error.to_string()));
        if changes.is_empty() {
            return Ok(changes);
        }
        let Some(present) = &facts.present else {
            swap::put_in_place(&server, &beside, None)?;
            return Ok(changes);
        };
        has_roles(&server, &present.roles)?;
        let incoming = beside.incoming();
        if let Err(error) = build(&server, manifest, &incoming, present) {
            // A half of it only takes room.
            let _ = swap::drop_beside(&server, &incoming);
            return Err(error);
        }
        // What was just compared is what gets the name.
        swap::put_in_place(&server, &beside, Some(&incoming))?;
        Ok(changes)
    }

    fn sweep(&self, cx: &Context<'_>) -> Result<()> {
        let server = Server::find(cx, &self.way, None)?;
        server.end_abandoned()?;
        for name in Beside::of(&server).all(&server)? {
            swap::drop_beside(&server, &name)?;
        }
        Ok(())
    }

    fn query(&self, cx: &Context<'_>, sql: &str) -> Result<String> {
        let server = Server::find(cx, &self.way, None)?;
        // A command, not a script: what psql would make of a colon or a backslash stays SQL.
        let only_reads = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
        let said = server.psql(&server.at(&server.database), &["-F", "\t", "-c", only_reads, "-c", sql], "");
        said.map_err(|failure| failure.about(format!("cannot ask the database `{}`", server.database)))
    }

    fn execute(&self, cx: &Context<'_>, sql: &str) -> Result<()> {
        const HINT: &str =
            "the script runs in one transaction already: leave out BEGIN, COMMIT, VACUUM and CONCURRENTLY";
        let server = Server::find(cx, &self.way, None)?;
        // A setting that lasts as long as the transaction tells whether it is still the same one.
        let mark = "SELECT set_config('txupgrade.script', txid_current()::text, true)";
        let check = format!(
            "DO $$BEGIN IF current_setting('txupgrade.script', true) IS DISTINCT FROM txid_current()::text THEN
             RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = 'it ended its transaction by itself'; END IF; END$$",
            literal(code::ENDED)
        );
        let words = ["-1", "-c", mark, "-f", "-", "-c", &check];
        let said = server.psql(&server.at(&server.database), &words, sql);
        said.map(drop).map_err(|failure| {
            let hinted = [code::ENDED, code::ALONE].contains(&failure.complaint.code.as_str());
            let error = failure.about(format!("cannot change the database `{}`", server.database));
            if hinted { error.hint(HINT) } else { error }
        })
    }
}

fn facts(cx: &Context<'_>, manifest: ObjectId) -> Result<Facts> {
    let head = cx.store.head(manifest)?;
    serde_json::from_value(head.facts)
        .or_say(|| format!("the manifest of `{}` is not that of a PostgreSQL database", cx.subject))
}

fn whole(what: What, detail: &str) -> Changes {
    let details = if detail.is_empty() { Vec::new() } else { vec![detail.to_owned()] };
    Changes { items: vec![Change { what, name: WHOLE.to_owned(), details, secret: false }] }
}

fn differences(server: &Server<'_>, facts: &Facts, compared: Compared) -> Result<Changes> {
    let open = swap::is_open(server, &facts.database)?;
    match (&facts.present, open) {
        (None, None) => Ok(Changes::default()),
        (None, Some(_)) => Ok(whole(What::Added, "")),
        (Some(_), None) => Ok(whole(What::Removed, "")),
        (Some(_), Some(false)) => Ok(whole(What::Changed, "no connections are allowed")),
        (Some(present), Some(true)) => {
            let live = server.look(&facts.database, |_, _, fingerprint| Ok(fingerprint))?;
            Ok(between(&present.fingerprint, &live, compared))
        }
    }
}

fn between(was: &Fingerprint, is: &Fingerprint, compared: Compared) -> Changes {
    Changes {
        items: match compared {
            Compared::Exactly => was.changes(is, WHOLE),
            Compared::Loosely => print::loose(was).changes(&print::loose(is), WHOLE),
        },
    }
}

/// Loads what was captured into a new database `name` and proves that it is the same.
fn build(server: &Server<'_>, manifest: ObjectId, name: &str, present: &Present) -> Result<()> {
    swap::drop_beside(server, name)?;
    let say = |failure: Box<server::Failure>| failure.about(format!("cannot create the database `{name}`"));
    server.tell(&present.properties.create(name)).map_err(say)?;
    server.load(name, manifest)?;
    // Not before: they could stand in the way of the load.
    server.tell(&present.properties.give(name)).map_err(say)?;
    let loaded = server.look(name, |_, _, fingerprint| Ok(fingerprint))?;
    match between(&present.fingerprint, &loaded, Compared::Loosely).items.first() {
        None => Ok(()),
        Some(first) => {
            Err(Error::new(format!("the dump of `{}` was loaded and is not what was captured", server.database))
                .because(format!("{}: {}", first.name, first.details.join(", "))))
        }
    }
}

/// What is captured belongs to roles, which are the server's and not the database's.
fn has_roles(server: &Server<'_>, needed: &[String]) -> Result<()> {
    let list = needed.iter().map(|role| literal(role)).collect::<Vec<_>>().join(", ");
    let there = server.tell(&format!("SELECT rolname FROM pg_roles WHERE rolname IN ({list});"))?;
    let there: Vec<&str> = there.lines().collect();
    let gone: Vec<&String> = needed.iter().filter(|role| !there.contains(&role.as_str())).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let names = gone.iter().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(", ");
    let create = gone.iter().map(|role| format!("CREATE ROLE {};", ident(role))).collect::<Vec<_>>().join(" ");
    Err(Error::new(format!("what was captured of `{}` belongs to roles that are gone: {names}", server.database))
        .hint(format!("{create} and then `txupgrade rollback` again")))
}
