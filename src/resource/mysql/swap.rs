//! Puts what was captured in the place of the live schema.
//!
//! The server knows no way to rename a schema, but it renames tables across schemas, all of them in one statement and whatever
//! their size. So the rows are loaded into `txupgrade_incoming_…` and compared there while nothing of the live schema is touched. Then
//! what the upgrade defined is dropped (the server moves no view, and no table that has a trigger), one `RENAME TABLE`
//! moves the live tables to `txupgrade_displaced_…` and the loaded ones in their place, and the definitions of the snapshot
//! are loaded where they belong. What dies anywhere is done again from the start by the next restore; the names of displaced
//! schemas are never used twice, so nothing that was moved aside is lost before the transaction's end.

use std::fmt::Write as _;

use super::dump::{self, Piece};
use super::look::{EVENT, Inventory, SEQUENCE, fingerprint};
use super::names::{Role, SIDE, Sides, ident, literal};
use super::rights;
use super::server::Server;
use super::{Facts, not_what_was_captured, tables_of};
use crate::context::Context;
use crate::error::Result;
use crate::store::{ObjectId, Replaced};

/// Whether the tables have to be replaced, or only what is defined on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tables {
    Differ,
    Same,
}

/// Makes the live schema what was captured.
pub(super) fn put_back(
    server: &Server<'_>,
    cx: &Context<'_>,
    manifest: ObjectId,
    facts: &Facts,
    tables: Tables,
) -> Result<()> {
    let (live, sides) = (server.database.as_str(), Sides::new(cx, &server.database));
    let Some(print) = &facts.fingerprint else {
        remove(server, &sides)?;
        return put_back_grants(server, facts);
    };
    let setting = |name: &str| print.settings.get(name).map_or("", String::as_str);
    let looks = format!("CHARACTER SET {} COLLATE {}", setting("character set"), setting("collation"));
    let comment = match print.settings.get("comment") {
        Some(comment) => format!(" COMMENT {}", literal(comment)),
        None => String::new(),
    };
    let make = || server.ask(None, &format!("CREATE DATABASE IF NOT EXISTS {} {looks}{comment};", ident(live)));
    make()?;
    let incoming = sides.name(Role::Incoming);
    if tables == Tables::Differ {
        let bring = || bring(server, cx, manifest, facts, (&incoming, &looks));
        match bring() {
            Err(error) if cx.replaced == Replaced::GoesFirst && error.is_no_room() => {
                server.drop_database(&incoming)?;
                server.end_connections()?;
                server.drop_database(live)?;
                make()?;
                bring()?;
            }
            brought => brought?,
        }
    }
    server.end_connections()?;
    drop_definitions(server)?;
    if tables == Tables::Differ {
        swap(server, &sides, Some(&incoming))?;
        server.drop_database(&incoming)?;
    }
    server.ask(None, &format!("ALTER DATABASE {} {looks}{comment};", ident(live)))?;
    dump::load(server, cx, (manifest, facts.lengths()), Piece::Definitions, live)?;
    put_back_grants(server, facts)
}

/// Loads the events, which may run from then on and change what they are there to change. Returns one that is not what it was.
pub(super) fn put_back_events(
    server: &Server<'_>,
    cx: &Context<'_>,
    manifest: ObjectId,
    facts: &Facts,
) -> Result<Option<String>> {
    let live = server.database.as_str();
    dump::load(server, cx, (manifest, facts.lengths()), Piece::Events, live)?;
    let Inventory { events, now, .. } = Inventory::of(server, live)?;
    let loaded = fingerprint(server, live, &Inventory { events, ..Inventory::default() })?.objects;
    let was = facts.fingerprint.iter().flat_map(|print| &print.objects);
    let mut differing = was.filter(|(name, is)| match name.strip_prefix(EVENT) {
        Some(event) => facts.expires.get(event).is_none_or(|until| *until > now) && loaded.get(*name) != Some(is),
        None => false,
    });
    Ok(differing.next().map(|(name, _)| name.clone()))
}

/// Loads the rows beside the live schema and proves them.
fn bring(
    server: &Server<'_>,
    cx: &Context<'_>,
    manifest: ObjectId,
    facts: &Facts,
    (incoming, looks): (&str, &str),
) -> Result<()> {
    let Some(print) = &facts.fingerprint else { return Ok(()) };
    // A column may have the next number of a sequence as its default, named with its schema.
    let mut sql = String::new();
    for sequence in print.objects.keys().filter_map(|name| name.strip_prefix(SEQUENCE)) {
        let _ = writeln!(sql, "CREATE SEQUENCE IF NOT EXISTS {}.{};", ident(&server.database), ident(sequence));
    }
    server.ask(None, &sql)?;
    server.drop_database(incoming)?;
    server.ask(None, &format!("CREATE DATABASE {} {looks};", ident(incoming)))?;
    dump::load(server, cx, (manifest, facts.lengths()), Piece::Rows, incoming)?;
    let loaded = fingerprint(server, incoming, &Inventory::of(server, incoming)?)?;
    match tables_of(print, &loaded, |object| object.starts_with(SEQUENCE)) {
        Tables::Same => Ok(()),
        Tables::Differ => Err(not_what_was_captured(&server.database)),
    }
}

/// The schema was not there: what it has is moved aside, and it goes.
fn remove(server: &Server<'_>, sides: &Sides) -> Result<()> {
    if server.exists {
        server.end_connections()?;
        drop_definitions(server)?;
        swap(server, sides, None)?;
        server.drop_database(&server.database)?;
    }
    Ok(())
}

fn put_back_grants(server: &Server<'_>, facts: &Facts) -> Result<()> {
    let sql = rights::put_back(&facts.grants, &Inventory::of(server, &server.database)?);
    server.ask(None, &sql).map(drop)
}

/// Events first: nothing is to run while the rest goes.
fn drop_definitions(server: &Server<'_>) -> Result<()> {
    let inventory = Inventory::of(server, &server.database)?;
    let live = ident(&server.database);
    let mut sql = String::new();
    let mut gone = |kind: &str, name: &str| {
        let _ = writeln!(sql, "DROP {kind} IF EXISTS {live}.{};", ident(name));
    };
    inventory.events.keys().for_each(|name| gone("EVENT", name));
    inventory.triggers.keys().for_each(|name| gone("TRIGGER", name));
    inventory.views.iter().for_each(|name| gone("VIEW", name));
    // A package goes with its body.
    let routines = inventory.routines.iter().filter(|(kind, _)| kind != "PACKAGE BODY");
    routines.for_each(|(kind, name)| gone(kind, name));
    server.ask(None, &sql).map(drop)
}

/// Moves the live tables aside and those of `incoming` in their place, in one statement.
fn swap(server: &Server<'_>, sides: &Sides, incoming: Option<&str>) -> Result<()> {
    let live = server.database.as_str();
    let tables =
        |schema: &str| -> Result<Vec<String>> { Ok(Inventory::of(server, schema)?.tables.into_keys().collect()) };
    let old = tables(live)?;
    let new = incoming.map(tables).transpose()?.unwrap_or_default();
    let displaced = sides.free(&schemas(server)?);
    let mut moves = Vec::new();
    let mut sql = "SET SESSION foreign_key_checks = 0;\n".to_owned();
    if !old.is_empty() {
        let _ = writeln!(sql, "CREATE DATABASE {};", ident(&displaced));
    }
    let mut from_to = |from: &str, to: &str, table: &str| {
        let (from, to, table) = (ident(from), ident(to), ident(table));
        moves.push(format!("{from}.{table} TO {to}.{table}"));
    };
    old.iter().for_each(|table| from_to(live, &displaced, table));
    new.iter().for_each(|table| from_to(incoming.unwrap_or_default(), live, table));
    if !moves.is_empty() {
        let _ = writeln!(sql, "RENAME TABLE {};", moves.join(", "));
    }
    server.ask(None, &sql).map(drop)
}

/// Every schema that may be a side schema.
fn schemas(server: &Server<'_>) -> Result<Vec<String>> {
    let pattern = literal(&format!("{}%", SIDE.replace('_', "\\_")));
    let sql = format!("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE {pattern};");
    Ok(server.ask(None, &sql)?.into_iter().map(|row| row.concat()).collect())
}

/// Drops every side schema of this transaction.
pub(super) fn sweep(server: &Server<'_>, cx: &Context<'_>) -> Result<()> {
    let sides = Sides::new(cx, &server.database);
    schemas(server)?.iter().filter(|name| sides.has(name)).try_for_each(|name| server.drop_database(name))
}
