//! What the tools' account has to be allowed, asked before anything is touched, and who is allowed what on the schema.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::look::{Granted, Inventory};
use super::names::{SIDE, ident};
use super::server::Server;
use crate::error::{Error, Result};

/// On the schema, and on those beside it.
const NEEDED: [&str; 15] = [
    "SELECT",
    "INSERT",
    "DELETE",
    "CREATE",
    "DROP",
    "ALTER",
    "INDEX",
    "REFERENCES",
    "SHOW VIEW",
    "CREATE VIEW",
    "TRIGGER",
    "EVENT",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EXECUTE",
];
/// Any of these lets one make what runs on behalf of others.
const FOR_OTHERS: [&str; 4] = ["SET USER", "SUPER", "SET_USER_ID", "SET_ANY_DEFINER"];

/// Refuses an account that could capture and not put back.
pub(super) fn check(server: &Server<'_>, inventory: &Inventory) -> Result<()> {
    let grants = Grants::of(server)?;
    let live = &server.database;
    let side = format!("{SIDE}x");
    let lacking: BTreeSet<&str> =
        NEEDED.into_iter().filter(|right| !grants.have(right, live) || !grants.have(right, &side)).collect();
    let mut missing: Vec<String> = Vec::new();
    if !lacking.is_empty() {
        let rights: Vec<&str> = lacking.into_iter().collect();
        missing.push(format!("{} on `{live}`.* and `{SIDE}%`.*", rights.join(", ")));
    }
    if !inventory.grants.is_empty() && !grants.have("GRANT OPTION", live) {
        missing.push(format!("GRANT OPTION on `{live}`.*, to put back who was allowed what"));
    }
    if !inventory.routines.is_empty() && !grants.have("SELECT", "mysql") {
        missing.push("SELECT on mysql.*, to see who may run the routines".to_owned());
    }
    let account = server.account.replace('\'', "");
    let others: Vec<&str> = inventory.definers.iter().map(String::as_str).filter(|it| *it != account).collect();
    if let Some(other) = others.first()
        && !FOR_OTHERS.iter().any(|right| grants.have(right, "*"))
    {
        missing.push(format!("SET USER (on MySQL SET_USER_ID), since some of it runs on behalf of {other}"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let error = Error::new(format!("{} could not put `{live}` back", server.account));
    let error = missing.into_iter().fold(error, |error, what| error.because(format!("it lacks {what}")));
    Err(error.hint(all(&server.account, live)))
}

/// The statements that allow everything.
pub(super) fn all(account: &str, database: &str) -> String {
    let side = SIDE.replace('_', "\\_");
    format!(
        "as the server's administrator: GRANT ALL PRIVILEGES ON {}.* TO {account} WITH GRANT OPTION; \
         GRANT ALL PRIVILEGES ON `{side}%`.* TO {account}; GRANT SELECT ON mysql.* TO {account}; \
         GRANT SET USER ON *.* TO {account}",
        ident(database)
    )
}

/// What `SHOW GRANTS` says: privileges and the pattern of schemas that they are for.
struct Grants(Vec<(BTreeSet<String>, String)>);

impl Grants {
    fn of(server: &Server<'_>) -> Result<Grants> {
        let rows = server.ask(None, "SHOW GRANTS;")?;
        Ok(Grants(rows.iter().filter_map(|row| Grants::read(row.first()?)).collect()))
    }

    /// One line of it: ``GRANT SELECT, SHOW VIEW ON `shop`.* TO `app`@`%` ``. What is for one table only does not count.
    fn read(line: &str) -> Option<(BTreeSet<String>, String)> {
        let (privileges, rest) = line.strip_prefix("GRANT ")?.split_once(" ON ")?;
        let (schemas, _) = rest.split_once(".* TO ")?;
        let schemas = schemas.trim_matches('`').replace("``", "`");
        let mut privileges: BTreeSet<String> = privileges.split(", ").map(str::to_owned).collect();
        if rest.ends_with("WITH GRANT OPTION") {
            privileges.insert("GRANT OPTION".to_owned());
        }
        Some((privileges, schemas))
    }

    fn have(&self, privilege: &str, schema: &str) -> bool {
        self.0.iter().any(|(privileges, pattern)| {
            let all = privilege != "GRANT OPTION" && privileges.contains("ALL PRIVILEGES");
            (all || privileges.contains(privilege))
                && (pattern == "*" || is_like(schema.as_bytes(), pattern.as_bytes()))
        })
    }
}

/// As `LIKE` compares: `_` is any character, `%` any number of them.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    match (pattern, text) {
        ([], text) => text.is_empty(),
        ([b'%', rest @ ..], text) => (0..=text.len()).any(|from| is_like(&text[from..], rest)),
        ([b'\\', literal, rest @ ..], [first, text @ ..]) => literal == first && is_like(text, rest),
        ([any, rest @ ..], [first, text @ ..]) => (*any == b'_' || any == first) && is_like(text, rest),
        (_, []) => false,
    }
}

/// The statements that make `is` what was.
pub(super) fn put_back(was: &[(Granted, BTreeSet<String>)], is: &Inventory) -> String {
    let mut sql = String::new();
    for (Granted { on, to }, privileges) in &is.grants {
        let kept = was.iter().any(|(granted, had)| granted.on == *on && granted.to == *to && had == privileges);
        if !kept {
            let list: Vec<&str> = privileges.iter().map(String::as_str).collect();
            let _ = writeln!(sql, "REVOKE {} ON {on} FROM {to};", list.join(", "));
        }
    }
    for (granted, privileges) in was {
        if is.grants.get(granted) == Some(privileges) {
            continue;
        }
        let Granted { on, to } = granted;
        let list: Vec<&str> = privileges.iter().map(String::as_str).filter(|it| *it != "GRANT OPTION").collect();
        let list = if list.is_empty() { "USAGE".to_owned() } else { list.join(", ") };
        let grantable = if privileges.contains("GRANT OPTION") { " WITH GRANT OPTION" } else { "" };
        let _ = writeln!(sql, "GRANT {list} ON {on} TO {to}{grantable};");
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_account_may_is_read_from_its_grants() {
        let lines = [
            "GRANT USAGE ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*1'",
            "GRANT ALL PRIVILEGES ON `shop`.* TO `app`@`%` WITH GRANT OPTION",
            "GRANT SELECT, SHOW VIEW ON `txupgrade\\_%`.* TO `app`@`%`",
            "GRANT SELECT ON `mysql`.`procs_priv` TO `app`@`%`",
        ];
        let grants = Grants(lines.iter().filter_map(|line| Grants::read(line)).collect());
        assert!(grants.have("EVENT", "shop") && grants.have("GRANT OPTION", "shop"));
        assert!(grants.have("SHOW VIEW", "txupgrade_x") && !grants.have("EVENT", "txupgrade_x"));
        assert!(!grants.have("SHOW VIEW", "txupgradexx") && !grants.have("SELECT", "mysql"));
    }
}
