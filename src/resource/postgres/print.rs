//! What makes two PostgreSQL databases the same: every definition that `pg_dump` knows, the rows of every table, the
//! values of sequences, large objects, and the properties of the database as a whole.
//!
//! All of it is of one snapshot, which other programs can share: a session of psql holds it open, and a dump that is
//! taken meanwhile holds the very rows that were counted.
//!
//! Definitions are compared as `pg_dump --schema-only` writes them. The server writes some expressions differently after
//! they were loaded once (`(x)::text = ANY ((ARRAY['a'::varchar])::text[])`), so that each is kept twice: exactly, which
//! tells whether anything was done to it, and without casts and parentheses, which survives a load. The rows of a table
//! are a sum of hashes that does not depend on their order, computed by the server in one scan together with their number.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::properties::{self, Properties};
use crate::error::{Error, OrSay, Result};
use crate::resource::fingerprint::{Fingerprint, Table};

/// How long a lock of somebody else is waited for.
pub(super) const PATIENCE: &str = "10s";

/// What a session says of its database.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) properties: Option<Properties>,
    /// The roles that own something in it or may use something.
    pub(super) roles: Vec<String>,
    /// Name, rows and content of each table.
    tables: BTreeMap<String, (u64, String)>,
    settings: BTreeMap<String, String>,
    /// The version of each extension.
    extensions: BTreeMap<String, String>,
}

/// What is not the server's own, nor an extension's, as far as a dump has it.
const OWN: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
  AND (k.condition IS NOT NULL OR NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))";
/// Tables of extensions whose rows are the user's, and which rows.
const KEPT: &str = "LEFT JOIN LATERAL (SELECT max(y.condition) AS condition FROM pg_extension e,
    unnest(e.extconfig, e.extcondition) AS y(table_oid, condition) WHERE y.table_oid = c.oid) k ON true";

/// The script of the session. Its answers are lines of JSON; the first is the snapshot's name, the last says `end`.
pub(super) fn script() -> String {
    let properties = properties::QUERY;
    format!(
        r#"SET lock_timeout = '{PATIENCE}'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET row_security = off; SET search_path = ''; SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmloption = 'content'; SET standard_conforming_strings = on;
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT 'LOCK TABLE ' || string_agg(format('ONLY %I.%I', n.nspname, c.relname), ', ') || ' IN ACCESS SHARE MODE'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace {KEPT}
  WHERE c.relkind IN ('r', 'p') AND {OWN} HAVING count(*) > 0 \gexec
SELECT json_build_array('snapshot', pg_export_snapshot());
{properties}
SELECT json_build_array('role', r.rolname) FROM pg_roles r WHERE r.oid IN (
  SELECT s.refobjid FROM pg_shdepend s JOIN pg_database d ON d.datname = current_database()
    WHERE s.refclassid = 'pg_authid'::regclass
      AND (s.dbid = d.oid OR s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = d.oid)
  UNION SELECT datdba FROM pg_database WHERE datname = current_database()
  UNION SELECT s.setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
    WHERE d.datname = current_database()) ORDER BY r.rolname;
SELECT json_build_array('extension', extname, extversion) FROM pg_extension;
SELECT format('SELECT json_build_array(''sequence'', %L, last_value || CASE WHEN is_called THEN '''' ELSE '' (next)'' END) FROM %I.%I',
    n.nspname || '.' || c.relname, n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace {KEPT} WHERE c.relkind = 'S' AND {OWN} \gexec
SELECT json_build_array('large', count(*)::text || coalesce(' ' || md5(string_agg(m.oid || ' ' || pg_get_userbyid(m.lomowner)
    || ' ' || coalesce((SELECT string_agg(a.grantee::regrole || ' ' || a.privilege_type || a.is_grantable, ','
      ORDER BY a.grantee::regrole::text, a.privilege_type) FROM aclexplode(m.lomacl) a), ''), ',' ORDER BY m.oid)), ''))
  FROM pg_largeobject_metadata m;
SELECT CASE WHEN has_table_privilege('pg_catalog.pg_largeobject', 'SELECT') THEN
  $$SELECT json_build_array('pages', coalesce(sum(hashtextextended(loid || ' ' || pageno || encode(btrim(data, '\x00'), 'hex'), 0)), 0)::text)
    FROM pg_largeobject WHERE btrim(data, '\x00') <> ''$$ ELSE
  $$SELECT json_build_array('pages', coalesce(sum(hashtextextended(oid || encode(lo_get(oid), 'hex'), 0)), 0)::text)
    FROM pg_largeobject_metadata$$ END \gexec
SELECT format('SELECT json_build_array(''table'', %L, count(*), coalesce(sum(hashtextextended("the row"::text, 0)), 0)::text) FROM ONLY %I.%I AS "the row" %s',
    n.nspname || '.' || c.relname, n.nspname, c.relname, k.condition)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace {KEPT} WHERE c.relkind IN ('r', 'p') AND {OWN}
  ORDER BY c.relpages DESC \gexec
SELECT json_build_array('end');
"#
    )
}

/// The name of the snapshot, which is the first answer.
pub(super) fn snapshot(answers: &mut dyn BufRead) -> Result<String> {
    match next(answers)?.as_slice() {
        [Value::String(what), Value::String(name)] if what == "snapshot" => Ok(name.clone()),
        _ => Err(strange()),
    }
}

/// Everything after it.
pub(super) fn seen(answers: &mut dyn BufRead, go_on: &dyn Fn() -> Result<()>) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut large = String::new();
    loop {
        go_on()?;
        match next(answers)?.as_mut_slice() {
            [Value::String(what), value] if what == "database" => {
                let properties: Properties = serde_json::from_value(value.take()).or_say(|| strange().statement)?;
                seen.settings.extend(properties.in_words());
                seen.properties = Some(properties);
            }
            [Value::String(what), Value::String(name)] if what == "role" => seen.roles.push(name.clone()),
            [Value::String(what), Value::String(text)] if what == "large" || what == "pages" => {
                large = format!("{large} {text}");
            }
            [Value::String(what), Value::String(name), Value::String(version)] if what == "extension" => {
                seen.extensions.insert(name.clone(), version.clone());
            }
            [Value::String(what), Value::String(name), Value::String(value)] if what == "sequence" => {
                seen.settings.insert(format!("sequence {name}"), value.clone());
            }
            [Value::String(what), Value::String(name), Value::Number(rows), Value::String(content)]
                if what == "table" =>
            {
                seen.tables.insert(name.clone(), (rows.as_u64().unwrap_or(0), content.clone()));
            }
            [Value::String(what)] if what == "end" => break,
            _ => return Err(strange()),
        }
    }
    let count = large.split_whitespace().next().unwrap_or("0").to_owned();
    seen.settings.insert("large objects".to_owned(), format!("{count} ({})", short(&large)));
    Ok(seen)
}

fn next(answers: &mut dyn BufRead) -> Result<Vec<Value>> {
    let mut line = String::new();
    answers.read_line(&mut line).or_say(|| "cannot read what psql says")?;
    serde_json::from_str(&line).map_err(|_| strange())
}

fn strange() -> Error {
    Error::new("psql ended before it had answered everything")
}

/// The fingerprint, together with what `pg_dump --schema-only` wrote of the same snapshot.
pub(super) fn fingerprint(seen: &Seen, schema: &str) -> Result<Fingerprint> {
    const END: &str = "\n-- PostgreSQL database dump complete\n";
    let whole = schema.split_once(END).or_say(|| "the definitions that `pg_dump` wrote are not complete")?.0;
    let mut print = Fingerprint { settings: seen.settings.clone(), ..Fingerprint::default() };
    let mut definitions: BTreeMap<(Sort, String), String> = BTreeMap::new();
    let mut method = String::new();
    for part in whole.split("\n--\n-- Name: ").skip(1) {
        let (head, text) = part.split_once("\n--\n").unwrap_or((part, ""));
        let Some((sort, name)) = named(head) else { continue };
        let (text, then) = without_defaults(text);
        let definition = definitions.entry((sort, name)).or_default();
        definition.push_str(head);
        definition.push_str(&method);
        definition.push('\n');
        definition.push_str(text);
        method = then.unwrap_or(method);
    }
    for ((sort, name), definition) in definitions {
        let extra = name.strip_prefix("extension ").and_then(|name| seen.extensions.get(name));
        let both = twice(&definition, extra.map_or("", String::as_str));
        match sort {
            Sort::Table => drop(print.tables.insert(name, Table { schema: both, rows: 0, content: String::new() })),
            Sort::Other => drop(print.objects.insert(name, both)),
        }
    }
    for (name, (rows, content)) in &seen.tables {
        let new = || Table { schema: String::new(), rows: 0, content: String::new() };
        let table = print.tables.entry(name.clone()).or_insert_with(new);
        (table.rows, table.content) = (*rows, content.clone());
    }
    Ok(print)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Table,
    Other,
}

/// What `notes notes_pkey; Type: CONSTRAINT; Schema: public; Owner: app` is about: `constraint public.notes notes_pkey`.
fn named(head: &str) -> Option<(Sort, String)> {
    let (name, rest) = head.split_once("; Type: ")?;
    let (kind, rest) = rest.split_once("; Schema: ")?;
    let schema = match rest.split_once(';').map_or(rest, |(schema, _)| schema) {
        "-" => String::new(),
        schema => format!("{schema}."),
    };
    if kind == "TABLE" {
        return Some((Sort::Table, format!("{schema}{name}")));
    }
    let of = match kind {
        "ACL" => "grants on",
        "COMMENT" => "comment on",
        "SECURITY LABEL" => "security label of",
        kind => return Some((Sort::Other, format!("{} {schema}{name}", kind.to_lowercase()))),
    };
    // `TABLE notes`, `TEXT SEARCH CONFIGURATION plain`
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let mut kind = Vec::new();
    let mut name = name;
    while let Some((word, rest)) = name.split_once(' ').filter(|(word, _)| is_word(word)) {
        kind.push(word.to_lowercase());
        name = rest;
    }
    Some((Sort::Other, format!("{of} {} {schema}{name}", kind.join(" "))))
}

/// A definition without what `pg_dump` sets for those after it, and the table access method it sets.
fn without_defaults(text: &str) -> (&str, Option<String>) {
    let mut text = text.trim_end();
    let mut method = None;
    while let Some((before, last)) = text.rsplit_once('\n').filter(|(_, last)| last.starts_with("SET default_table")) {
        if last.starts_with("SET default_table_access_method") {
            method = method.or(Some(last.to_owned()));
        }
        text = before.trim_end();
    }
    (text, method)
}

/// `LOOSE:EXACT`.
fn twice(definition: &str, extra: &str) -> String {
    static CAST: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"::("[^"]+"|[\w.]+)( varying| precision)?(\(\d+(,\d+)?\))?( with(out)? time zone)?(\[\])*"#)
            .expect("it is an expression")
    });
    let mut lines: Vec<String> = definition
        .lines()
        .map(|line| CAST.replace_all(line, "").chars().filter(|c| !"() \t".contains(*c)).collect())
        .collect();
    if definition.contains("; Type: ACL") || definition.contains("; Type: DEFAULT ACL") {
        lines.sort();
    }
    format!("{}:{}", short(&lines.join("\n")), short(&format!("{definition}{extra}")))
}

/// The fingerprint as it is after the database was dumped and loaded.
pub(super) fn loose(print: &Fingerprint) -> Fingerprint {
    let mut print = print.clone();
    let values = print.tables.values_mut().map(|table| &mut table.schema).chain(print.objects.values_mut());
    for value in values {
        if let Some((loose, _)) = value.split_once(':') {
            *value = loose.to_owned();
        }
    }
    print
}

fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}
