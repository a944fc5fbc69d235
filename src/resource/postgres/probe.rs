//! Whether a database can be captured and put back: asked at begin, not found out on the way back.

use serde::Deserialize;

use super::server::{Server, one_line};
use super::swap;
use super::words::{ident, literal};
use crate::error::{Error, OrSay, Result};
use crate::resource::Estimate;

#[derive(Debug, Deserialize)]
struct Found {
    bytes: u64,
    tables: u64,
    owner: String,
    /// Whether who asks may do what the owner may.
    owns: bool,
    /// Tables and sequences that may not be read.
    closed: Vec<String>,
    tablespaces: Vec<String>,
    publications: Vec<String>,
    subscriptions: Vec<String>,
    slots: Vec<String>,
    prepared: Vec<String>,
    /// Those beside the owner that own something or may use something.
    roles: Vec<String>,
}

const QUERY: &str = "
SELECT json_build_object('bytes', pg_database_size(d.oid), 'owner', pg_get_userbyid(d.datdba),
  'tables', (SELECT count(*) FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384),
  'owns', pg_has_role(d.datdba, 'USAGE'),
  'closed', (SELECT coalesce(json_agg(c.oid::regclass::text), '[]') FROM pg_class c
    WHERE c.relkind IN ('r', 'p', 'S') AND c.oid >= 16384 AND c.relpersistence <> 't' AND NOT CASE c.relkind
      WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END),
  'tablespaces', (SELECT coalesce(json_agg(spcname ORDER BY spcname), '[]') FROM pg_tablespace t
    WHERE spcname <> 'pg_default' AND spcname <> 'pg_global'
      AND (t.oid = d.dattablespace OR t.oid IN (SELECT reltablespace FROM pg_class))),
  'publications', (SELECT coalesce(json_agg(pubname ORDER BY pubname), '[]') FROM pg_publication),
  'subscriptions', (SELECT coalesce(json_agg(subname ORDER BY subname), '[]') FROM pg_subscription WHERE subdbid = d.oid),
  'slots', (SELECT coalesce(json_agg(slot_name ORDER BY slot_name), '[]') FROM pg_replication_slots WHERE database = d.datname),
  'prepared', (SELECT coalesce(json_agg(gid ORDER BY gid), '[]') FROM pg_prepared_xacts WHERE database = d.datname),
  'roles', (SELECT coalesce(json_agg(DISTINCT r.rolname), '[]') FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
    WHERE s.refclassid = 'pg_authid'::regclass AND s.dbid = d.oid AND r.oid <> d.datdba AND r.rolname <> current_user))
FROM pg_database d WHERE d.datname = current_database();
";

pub(super) fn probe(server: &Server<'_>) -> Result<Estimate> {
    let (name, role) = (&server.database, &server.about.role);
    if !server.about.creates {
        return Err(Error::new(format!(
            "role `{role}` may not create and rename databases, which a rollback of `{name}` needs"
        ))
        .hint(format!("ALTER ROLE {} CREATEDB", ident(role))));
    }
    match swap::is_open(server, name)? {
        None => {
            let warning = format!("there is no database `{name}`; a rollback moves away what comes there");
            return Ok(Estimate { warnings: vec![warning], ..Estimate::default() });
        }
        Some(false) => {
            return Err(Error::new(format!("the database `{name}` allows no connections, so it cannot be captured"))
                .hint(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(name))));
        }
        Some(true) => {}
    }
    let found = server.ask(&server.at(name), QUERY)?;
    let found: Found = serde_json::from_str(&found).or_say(|| "cannot understand what psql says")?;
    if !found.owns {
        return Err(Error::new(format!(
            "the database `{name}` belongs to `{}`, and role `{role}` may not rename it, which a rollback needs",
            found.owner
        ))
        .hint(format!("GRANT {} TO {}", ident(&found.owner), ident(role))));
    }
    if let Some(first) = found.closed.first() {
        let more = match found.closed.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Err(Error::new(format!("role `{role}` may not read `{first}`{more} in the database `{name}`")).hint(
            format!("GRANT pg_read_all_data TO {}, or use the role that everything in it belongs to", ident(role)),
        ));
    }
    Ok(Estimate { bytes: found.bytes, items: found.tables, warnings: warnings(server, &found)? })
}

fn warnings(server: &Server<'_>, found: &Found) -> Result<Vec<String>> {
    let name = &server.database;
    let list = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut warnings = Vec::new();
    let mut warn = |names: &[String], text: &str| {
        if !names.is_empty() {
            warnings.push(format!("`{name}` {}", text.replace("{}", &list(names))));
        }
    };
    warn(&found.prepared, "has prepared transactions, which would stand in the way of a rollback: {}");
    warn(&found.subscriptions, "has subscriptions, which are not captured and not put back: {}");
    warn(&found.slots, "has replication slots, which do not follow it when it is put back: {}");
    warn(&found.publications, "has publications, whose subscribers have to begin anew after a rollback: {}");
    warn(&found.tablespaces, "lies in tablespaces that a rollback needs as they are: {}");
    warn(&found.roles, "belongs in parts to roles, or is open to them, that a rollback needs: {}");
    if !server.about.ends {
        let foreign = format!(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = {} AND usename <> current_user
               AND NOT pg_has_role(usesysid, 'USAGE');",
            literal(name)
        );
        let foreign: Vec<String> = server.tell(&foreign)?.lines().map(one_line).collect();
        if !foreign.is_empty() {
            warnings.push(format!(
                "role `{0}` may not end the sessions of {1}, which a rollback of `{name}` has to: GRANT pg_signal_backend TO {2}",
                server.about.role,
                list(&foreign),
                ident(&server.about.role)
            ));
        }
    }
    Ok(warnings)
}
