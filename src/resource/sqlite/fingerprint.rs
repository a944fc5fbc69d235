//! What makes two databases the same: schema, tables, row counts, every row's content, and the settings in the header.
//!
//! Not how the pages lie: a database that was vacuumed is the same. Virtual tables are covered by their shadow tables,
//! which are ordinary ones; a table whose rows cannot be read here (a function or a collation of the application's
//! own) says so in its content and is compared by that and by its schema.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};

use crate::resource::fingerprint::{Fingerprint, Table};

/// Which log the header of a database asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// A write-ahead log.
    Ahead,
    /// A rollback journal.
    Rollback,
}

/// Reads the whole database. `go_on` is asked now and then and can end it. The caller says what the header asks
/// for: SQLite reads an immutable WAL database as if it were none.
pub(super) fn of<E>(
    connection: &Connection,
    log: Log,
    go_on: &mut dyn FnMut() -> Result<(), E>,
) -> rusqlite::Result<Result<Fingerprint, E>> {
    let mut print = Fingerprint::default();
    // One moment for all that follows, while others may write.
    let at_once = connection.unchecked_transaction()?;
    for setting in ["user_version", "application_id", "encoding"] {
        let value = connection.query_row(&format!("PRAGMA main.{setting}"), [], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Integer(number) => number.to_string(),
                other => other.as_str().unwrap_or_default().to_owned(),
            })
        })?;
        print.settings.insert(setting.to_owned(), value);
    }
    let mode = if log == Log::Ahead { "wal" } else { "rollback" };
    print.settings.insert("journal_mode".to_owned(), mode.to_owned());
    let mut kinds = BTreeMap::new();
    let mut list = connection.prepare("SELECT name, type FROM pragma_table_list WHERE schema = 'main'")?;
    let mut rows = list.query([])?;
    while let Some(row) = rows.next()? {
        kinds.insert(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
    }
    let mut schema = connection.prepare("SELECT type, name, coalesce(sql, '') FROM main.sqlite_schema")?;
    let mut rows = schema.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let definition = short(blake3::hash(sql.as_bytes()));
        if kind != "table" {
            print.objects.insert(format!("{kind} {name}"), definition);
            continue;
        }
        let is_virtual = kinds.get(&name).is_some_and(|kind| kind == "virtual");
        let (rows, content) = match is_virtual {
            true => (0, "virtual".to_owned()),
            false => match content(connection, &name, go_on) {
                Ok(Ok(read)) => read,
                Ok(Err(ended)) => return Ok(Err(ended)),
                Err(error) if is_foreign(&error) => (0, format!("unreadable: {error}")),
                Err(error) => return Err(error),
            },
        };
        print.tables.insert(name, Table { schema: definition, rows, content });
    }
    drop(rows);
    at_once.finish()?;
    Ok(Ok(print))
}

/// Row count and hash of a table, in the order of its key.
fn content<E>(
    connection: &Connection,
    table: &str,
    go_on: &mut dyn FnMut() -> Result<(), E>,
) -> rusqlite::Result<Result<(u64, String), E>> {
    let quoted = table.replace('"', "\"\"");
    // Without an index a scan is in the order of the rowid, or of the primary key in a table that has none.
    let mut all = match connection.prepare(&format!("SELECT rowid, * FROM main.\"{quoted}\" NOT INDEXED")) {
        Ok(all) => all,
        Err(_) => connection.prepare(&format!("SELECT * FROM main.\"{quoted}\" NOT INDEXED"))?,
    };
    let columns = all.column_count();
    let mut rows = all.query([])?;
    let mut hasher = blake3::Hasher::new();
    let mut count = 0_u64;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            let (tag, bytes): (u8, &[u8]) = match row.get_ref(column)? {
                ValueRef::Null => (0, &[]),
                ValueRef::Integer(number) => {
                    hasher.update(&[1]).update(&number.to_le_bytes());
                    continue;
                }
                ValueRef::Real(number) => {
                    hasher.update(&[2]).update(&number.to_bits().to_le_bytes());
                    continue;
                }
                ValueRef::Text(text) => (3, text),
                ValueRef::Blob(bytes) => (4, bytes),
            };
            hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
        count += 1;
        if count.is_multiple_of(4096)
            && let Err(ended) = go_on()
        {
            return Ok(Err(ended));
        }
    }
    Ok(Ok((count, short(hasher.finalize()))))
}

/// Whether reading failed for want of something that only the application brings.
pub(super) fn is_foreign(error: &rusqlite::Error) -> bool {
    let text = error.to_string();
    error.sqlite_error_code() == Some(ErrorCode::Unknown)
        && ["no such collation", "no such function", "no such module", "unknown function"]
            .iter()
            .any(|foreign| text.contains(foreign))
}

fn short(hash: blake3::Hash) -> String {
    hash.to_hex()[..32].to_owned()
}
