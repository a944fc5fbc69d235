//! What a schema holds: first its things by name, then, in one consistent view of it, how they are defined and what is in
//! them.
//!
//! A table's content is told by its row count and the sum, over all rows, of a hash of the row: whatever the order of
//! the rows is, and the same on every version of the server. `CHECKSUM TABLE` is three times faster and is neither: it
//! follows the engine and the row format. Numbers count as they are printed, as they are dumped: of a `FLOAT` that is six digits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::super::fingerprint::{Fingerprint, Table};
use super::names::{ident, literal, without_schema};
use super::server::{Server, not_understood};
use crate::error::{Error, Result};

/// The things of a schema, by name.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) settings: BTreeMap<String, String>,
    pub(super) tables: BTreeMap<String, Listed>,
    pub(super) views: Vec<String>,
    /// By name, with their table and their turn.
    pub(super) triggers: BTreeMap<String, String>,
    /// `PROCEDURE`, `FUNCTION` … and the name.
    pub(super) routines: BTreeSet<(String, String)>,
    /// With the time, UTC, after which the server forgets it, if there is one.
    pub(super) events: BTreeMap<String, String>,
    /// By what they are granted on and to whom: the privileges.
    pub(super) grants: BTreeMap<Granted, BTreeSet<String>>,
    /// On whose behalf views, triggers, routines and events run: `root@localhost`.
    pub(super) definers: BTreeSet<String>,
    /// The server's clock, UTC.
    pub(super) now: String,
}

/// A table as it is listed.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) kind: Kind,
    pub(super) engine: String,
    /// Of rows, roughly.
    pub(super) bytes: u64,
    pub(super) columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// It keeps what its rows were.
    Versioned,
    Sequence,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: String,
    extra: String,
    expression: String,
}

/// What something is granted on, as `GRANT` wants it, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Granted {
    pub(super) on: String,
    pub(super) to: String,
}

/// How grants are called among the objects of a fingerprint.
pub(super) const GRANTS: &str = "grants of ";
pub(super) const EVENT: &str = "event ";
pub(super) const SEQUENCE: &str = "sequence ";

impl Inventory {
    /// Lists `schema`.
    pub(super) fn of(server: &Server<'_>, schema: &str) -> Result<Inventory> {
        let mut it = Inventory::default();
        for row in server.ask(None, &listing(server, schema))? {
            it.add(&row, schema).ok_or_else(|| not_understood(&row))?;
        }
        if !it.routines.is_empty() {
            let sql = format!(
                "SELECT 'grant', CONCAT(QUOTE(User), '@', QUOTE(Host)), Routine_type, Routine_name, Proc_priv, ''
                 FROM mysql.procs_priv WHERE BINARY Db = BINARY {};",
                literal(schema)
            );
            for row in server.ask(None, &sql)? {
                it.add(&row, schema).ok_or_else(|| not_understood(&row))?;
            }
        }
        Ok(it)
    }

    fn add(&mut self, row: &[String], schema: &str) -> Option<()> {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        match cells[..] {
            ["now", now] => now.clone_into(&mut self.now),
            ["setting", name, value] => drop(self.settings.insert(name.to_owned(), value.to_owned())),
            ["table", name, "VIEW" | "SYSTEM VIEW", ..] => self.views.push(name.to_owned()),
            ["table", name, kind, engine, bytes] => {
                let kind = match kind {
                    "SEQUENCE" => Kind::Sequence,
                    "SYSTEM VERSIONED" => Kind::Versioned,
                    _ => Kind::Plain,
                };
                let engine = engine.to_owned();
                let listed = Listed { kind, engine, bytes: bytes.parse().ok()?, columns: Vec::new() };
                self.tables.insert(name.to_owned(), listed);
            }
            ["column", table, name, kind, extra, expression] => {
                if let Some(table) = self.tables.get_mut(table) {
                    let [name, kind, extra, expression] = [name, kind, extra, expression].map(str::to_owned);
                    table.columns.push(Column { name, kind, extra, expression });
                }
            }
            ["trigger", name, table, turn] => {
                self.triggers.insert(name.to_owned(), format!("on {table}, turn {turn}"));
            }
            ["routine", kind, name] => drop(self.routines.insert((kind.to_owned(), name.to_owned()))),
            ["event", name, until] => drop(self.events.insert(name.to_owned(), until.to_owned())),
            ["definer", name] => drop(self.definers.insert(name.to_owned())),
            ["grant", to, "schema", pattern, privilege, grantable] => {
                self.grant(format!("{}.*", ident(pattern)), to, privilege, grantable);
            }
            ["grant", to, "table", table, privilege, grantable] => {
                self.grant(format!("{}.{}", ident(schema), ident(table)), to, privilege, grantable);
            }
            ["grant", to, kind, routine, privileges, grantable] => {
                for privilege in privileges.split(',').filter(|privilege| !privilege.is_empty()) {
                    let privilege = if privilege == "Grant" { "GRANT OPTION" } else { &privilege.to_uppercase() };
                    self.grant(format!("{kind} {}.{}", ident(schema), ident(routine)), to, privilege, grantable);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn grant(&mut self, on: String, to: &str, privilege: &str, grantable: &str) {
        // A role has no host, and may not be given one.
        let to = match to.rsplit_once('@') {
            Some((role, "''")) => role.to_owned(),
            _ => to.to_owned(),
        };
        let granted = self.grants.entry(Granted { on, to }).or_default();
        granted.insert(privilege.to_owned());
        if grantable == "YES" {
            granted.insert("GRANT OPTION".to_owned());
        }
    }

    /// Of rows, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.tables.values().map(|table| table.bytes).sum()
    }
}

fn listing(server: &Server<'_>, schema: &str) -> String {
    let named = literal(schema);
    // The first finds it quickly, the second tells `Shop` from `shop`.
    let of = |column: &str| format!("{column} = {named} AND BINARY {column} = BINARY {named}");
    let pattern = literal(&schema.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%"));
    let granted = format!("(BINARY TABLE_SCHEMA = BINARY {named} OR BINARY TABLE_SCHEMA = BINARY {pattern})");
    let definers = [("VIEWS", "TABLE_SCHEMA"), ("TRIGGERS", "TRIGGER_SCHEMA"), ("ROUTINES", "ROUTINE_SCHEMA")]
        .into_iter()
        .chain([("EVENTS", "EVENT_SCHEMA")])
        .map(|(table, column)| {
            format!("SELECT DISTINCT 'definer', DEFINER FROM information_schema.{table} WHERE {};\n", of(column))
        })
        .collect::<String>();
    let schemata = of("SCHEMA_NAME");
    let comment = match server.is_mariadb() {
        true => {
            format!("SELECT 'setting', 'comment', SCHEMA_COMMENT FROM information_schema.SCHEMATA WHERE {schemata};")
        }
        false => String::new(),
    };
    format!(
        "SELECT 'now', UTC_TIMESTAMP();
         SELECT 'setting', 'character set', DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE {schemata};
         SELECT 'setting', 'collation', DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE {schemata};
         {comment}
         SELECT 'table', TABLE_NAME, TABLE_TYPE, IFNULL(ENGINE, ''), IFNULL(DATA_LENGTH, 0)
           FROM information_schema.TABLES WHERE {tables};
         SELECT 'column', TABLE_NAME, COLUMN_NAME, DATA_TYPE, EXTRA, IFNULL(GENERATION_EXPRESSION, '')
           FROM information_schema.COLUMNS WHERE {tables} ORDER BY TABLE_NAME, ORDINAL_POSITION;
         SELECT 'trigger', TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_ORDER
           FROM information_schema.TRIGGERS WHERE {triggers};
         SELECT 'routine', ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE {routines};
         SELECT 'event', EVENT_NAME, IFNULL(CONVERT_TZ(IFNULL(EXECUTE_AT, ENDS), TIME_ZONE, '+00:00'), '')
           FROM information_schema.EVENTS WHERE {events};
         {definers}
         SELECT 'grant', GRANTEE, 'schema', TABLE_SCHEMA, PRIVILEGE_TYPE, IS_GRANTABLE
           FROM information_schema.SCHEMA_PRIVILEGES WHERE {granted} AND PRIVILEGE_TYPE <> 'USAGE';
         SELECT 'grant', GRANTEE, 'table', TABLE_NAME, PRIVILEGE_TYPE, IS_GRANTABLE
           FROM information_schema.TABLE_PRIVILEGES WHERE {tables} AND PRIVILEGE_TYPE <> 'USAGE';
         SELECT 'grant', GRANTEE, 'table', TABLE_NAME, CONCAT(PRIVILEGE_TYPE, ' (`', REPLACE(COLUMN_NAME, '`', '``'), '`)'),
           IS_GRANTABLE FROM information_schema.COLUMN_PRIVILEGES WHERE {tables};",
        tables = of("TABLE_SCHEMA"),
        triggers = of("TRIGGER_SCHEMA"),
        routines = of("ROUTINE_SCHEMA"),
        events = of("EVENT_SCHEMA"),
    )
}

/// The fingerprint of `schema`, grants included.
pub(super) fn fingerprint(server: &Server<'_>, schema: &str, inventory: &Inventory) -> Result<Fingerprint> {
    let questions = questions(inventory);
    let mut sql =
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;\nSTART TRANSACTION WITH CONSISTENT SNAPSHOT;\n"
            .to_owned();
    for question in &questions {
        let _ = writeln!(sql, "{};", question.sql);
    }
    let rows = server.ask(Some(schema), &sql)?;
    if rows.len() != questions.len() {
        return Err(Error::new(format!("`{schema}` changed while it was looked at")).because(format!(
            "{} answers came to {} questions",
            rows.len(),
            questions.len()
        )));
    }
    let mut print = Fingerprint { settings: inventory.settings.clone(), ..Fingerprint::default() };
    for (question, row) in questions.iter().zip(&rows) {
        question.answered(row, schema, &mut print).ok_or_else(|| not_understood(row))?;
    }
    print.objects.extend(granted(&inventory.grants).objects);
    for table in print.tables.values_mut() {
        table.schema = short(&table.schema);
    }
    Ok(print)
}

/// A fingerprint of nothing but grants.
pub(super) fn granted<'a>(grants: impl IntoIterator<Item = (&'a Granted, &'a BTreeSet<String>)>) -> Fingerprint {
    let told = grants.into_iter().map(|(Granted { on, to }, privileges)| {
        let privileges: Vec<&str> = privileges.iter().map(String::as_str).collect();
        (format!("{GRANTS}{to} on {on}"), privileges.join(", "))
    });
    Fingerprint { objects: told.collect(), ..Fingerprint::default() }
}

/// What gives exactly one row.
struct Question<'a> {
    about: About<'a>,
    sql: String,
}

enum About<'a> {
    Definition(&'a str),
    Rows(&'a str),
    /// How the object is called, which cell defines it and how many do, and what else belongs to it.
    Object {
        name: String,
        cells: std::ops::Range<usize>,
        more: &'a str,
    },
    /// What a sequence goes on with.
    Next(&'a str),
}

fn questions(inventory: &Inventory) -> Vec<Question<'_>> {
    let mut all = Vec::new();
    let mut ask = |about, sql: String| all.push(Question { about, sql });
    let object = |name: String, cells, more| About::Object { name, cells, more };
    for (name, table) in &inventory.tables {
        let quoted = ident(name);
        if table.kind == Kind::Sequence {
            ask(object(format!("{SEQUENCE}{name}"), 1..2, ""), format!("SHOW CREATE SEQUENCE {quoted}"));
            ask(About::Next(name), format!("SELECT next_not_cached_value, cycle_count FROM {quoted}"));
            continue;
        }
        ask(About::Definition(name), format!("SHOW CREATE TABLE {quoted}"));
        ask(About::Rows(name), rows_of(&quoted, table));
    }
    for name in &inventory.views {
        ask(object(format!("view {name}"), 1..4, ""), format!("SHOW CREATE VIEW {}", ident(name)));
    }
    // Without the last, which is when a trigger was made.
    for (name, turn) in &inventory.triggers {
        ask(object(format!("trigger {name}"), 1..6, turn), format!("SHOW CREATE TRIGGER {}", ident(name)));
    }
    for (kind, name) in &inventory.routines {
        let called = format!("{} {name}", kind.to_lowercase());
        ask(object(called, 1..6, ""), format!("SHOW CREATE {kind} {}", ident(name)));
    }
    for name in inventory.events.keys() {
        ask(object(format!("{EVENT}{name}"), 1..7, ""), format!("SHOW CREATE EVENT {}", ident(name)));
    }
    all
}

/// One scan that counts the rows and sums up their hashes.
///
/// CRC-32 of each value says whether it is another one, whatever its type and size; MD5 over these keeps values that
/// change places between two rows from cancelling out in the sum.
fn rows_of(quoted: &str, table: &Listed) -> String {
    let versioned = table.kind == Kind::Versioned;
    let named =
        table.columns.iter().filter(|column| !column.extra.contains("VIRTUAL")).map(|column| ident(&column.name));
    let implied = versioned && !table.columns.iter().any(|column| column.expression == "ROW START");
    let times = ["row_start", "row_end"].into_iter().filter(|_| implied).map(str::to_owned);
    let values: Vec<String> = named.chain(times).map(|name| format!("IFNULL(CRC32({name}), '-')")).collect();
    let values = if values.is_empty() { "''".to_owned() } else { values.join(", ") };
    let history = if versioned { " FOR SYSTEM_TIME ALL" } else { "" };
    format!(
        "SELECT COUNT(*), IFNULL(SUM(CAST(CONV(LEFT(MD5(CONCAT_WS(',', {values})), 16), 16, 10) AS UNSIGNED)), 0) \
         FROM {quoted}{history}"
    )
}

impl Question<'_> {
    fn answered(&self, row: &[String], schema: &str, print: &mut Fingerprint) -> Option<()> {
        match &self.about {
            About::Definition(name) => {
                let (definition, next) = without_next(row.get(1)?);
                let table = Table { schema: definition, rows: 0, content: next };
                print.tables.insert((*name).to_owned(), table);
            }
            About::Rows(name) => {
                let table = print.tables.get_mut(*name)?;
                table.rows = row.first()?.parse().ok()?;
                table.content = format!("{} {}", row.get(1)?, table.content).trim_end().to_owned();
            }
            About::Object { name, cells, more } => {
                // What may not be seen is told as nothing.
                let cells: Vec<&str> = row.get(cells.clone())?.iter().map(|cell| cell.trim()).collect();
                let definition = without_schema(&cells.join("\n"), schema);
                print.objects.insert(name.clone(), short(&format!("{definition}\n{more}")));
            }
            About::Next(name) => {
                let object = print.objects.get_mut(&format!("{SEQUENCE}{name}"))?;
                *object = format!("{object} {}", row.join(" "));
            }
        }
        Some(())
    }
}

/// A table's definition without the number that its next row gets, which is content; and that number.
fn without_next(definition: &str) -> (String, String) {
    static NEXT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?m)^(\) ENGINE=\S+) AUTO_INCREMENT=(\d+)").expect("it is a regular expression"));
    match NEXT.captures(definition) {
        Some(found) => (NEXT.replace(definition, "$1").into_owned(), found[2].to_owned()),
        None => (definition.to_owned(), String::new()),
    }
}

fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}
