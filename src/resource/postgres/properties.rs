//! What belongs to a database as a whole and is in no dump of its content: owner, encoding, collation, tablespace,
//! grants, settings, comment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words::{ident, literal};

/// The properties of a database, as the server names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Properties {
    owner: String,
    encoding: String,
    collate: String,
    ctype: String,
    /// `c` (libc), `i` (ICU), `b` (built in); older servers have only the first and do not say it.
    provider: Option<String>,
    /// Of a provider that is not libc.
    locale: Option<String>,
    rules: Option<String>,
    tablespace: String,
    limit: i32,
    template: bool,
    comment: Option<String>,
    /// `None`: as the server gives them to a new database.
    grants: Option<Vec<Grant>>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    settings: Vec<Setting>,
}

/// Who may do what: grantor, grantee (empty: everybody), the privilege, whether it may be passed on.
type Grant = (String, String, String, bool);
/// The role (empty: all), and `name=value`.
type Setting = (String, String);

/// Asks a database for its own; one row of JSON.
pub(super) const QUERY: &str = "
SELECT json_build_array('database', json_build_object(
  'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
  'collate', d.datcollate, 'ctype', d.datctype, 'provider', j->>'datlocprovider',
  'locale', coalesce(j->>'datlocale', j->>'daticulocale'), 'rules', j->>'daticurules',
  'tablespace', (SELECT spcname FROM pg_tablespace WHERE oid = d.dattablespace),
  'limit', d.datconnlimit, 'template', d.datistemplate, 'comment', shobj_description(d.oid, 'pg_database'),
  'grants', CASE WHEN d.datacl IS NOT NULL THEN coalesce((SELECT json_agg(json_build_array(pg_get_userbyid(a.grantor),
      CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable)
      ORDER BY a.grantor <> d.datdba, pg_get_userbyid(a.grantor), a.grantee, a.privilege_type)
    FROM aclexplode(d.datacl) a), '[]') END,
  'settings', coalesce((SELECT json_agg(json_build_array(CASE s.setrole WHEN 0 THEN '' ELSE pg_get_userbyid(s.setrole) END,
      one) ORDER BY s.setrole, one)
    FROM pg_db_role_setting s, unnest(s.setconfig) one WHERE s.setdatabase = d.oid), '[]')))
FROM pg_database d, LATERAL to_jsonb(d) j WHERE d.datname = current_database();
";

impl Properties {
    /// For a fingerprint.
    pub(super) fn in_words(&self) -> BTreeMap<String, String> {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        let grants = match &self.grants {
            None => "default".to_owned(),
            Some(grants) => grants
                .iter()
                .map(|(_, to, what, option)| {
                    let to = if to.is_empty() { "everybody" } else { to };
                    format!("{what} to {to}{}", if *option { " with grant option" } else { "" })
                })
                .collect::<Vec<_>>()
                .join(", "),
        };
        let settings = self.settings.iter().map(|(role, setting)| match role.as_str() {
            "" => setting.clone(),
            role => format!("{role}: {setting}"),
        });
        let settings = settings.collect::<Vec<_>>().join(", ");
        let pairs = [
            ("owner", self.owner.clone()),
            ("encoding", self.encoding.clone()),
            ("collation", self.collate.clone()),
            ("character type", self.ctype.clone()),
            ("locale provider", or_none(&self.provider)),
            ("locale", or_none(&self.locale)),
            ("tablespace", self.tablespace.clone()),
            ("connection limit", self.limit.to_string()),
            ("template", self.template.to_string()),
            ("comment", or_none(&self.comment)),
            ("grants", grants),
            ("settings", if settings.is_empty() { "none".to_owned() } else { settings }),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Makes an empty database called `name`.
    pub(super) fn create(&self, name: &str) -> String {
        let mut sql = format!(
            "CREATE DATABASE {} TEMPLATE template0 OWNER {} ENCODING {} LC_COLLATE {} LC_CTYPE {} TABLESPACE {}",
            ident(name),
            ident(&self.owner),
            literal(&self.encoding),
            literal(&self.collate),
            literal(&self.ctype),
            ident(&self.tablespace),
        );
        let (provider, key) = match self.provider.as_deref() {
            Some("i") => ("icu", "ICU_LOCALE"),
            Some("b") => ("builtin", "BUILTIN_LOCALE"),
            Some(_) => ("libc", ""),
            None => return sql + ";",
        };
        sql += &format!(" LOCALE_PROVIDER {provider}");
        if let Some(locale) = self.locale.as_ref().filter(|_| !key.is_empty()) {
            sql += &format!(" {key} {}", literal(locale));
        }
        if let Some(rules) = &self.rules {
            sql += &format!(" ICU_RULES {}", literal(rules));
        }
        sql + ";"
    }

    /// Gives all the rest to the database called `name`, which is a new one.
    pub(super) fn give(&self, name: &str) -> String {
        let name = ident(name);
        let mut sql = String::new();
        if let Some(grants) = &self.grants {
            sql += &format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC, {};\n", ident(&self.owner));
            for (grantor, to, what, option) in grants {
                let to = if to.is_empty() { "PUBLIC".to_owned() } else { ident(to) };
                let option = if *option { " WITH GRANT OPTION" } else { "" };
                let grant = format!("GRANT {what} ON DATABASE {name} TO {to}{option};\n");
                match *grantor == self.owner {
                    true => sql += &grant,
                    false => sql += &format!("SET ROLE {};\n{grant}RESET ROLE;\n", ident(grantor)),
                }
            }
        }
        for (role, setting) in &self.settings {
            let (what, value) = setting.split_once('=').unwrap_or((setting, ""));
            let value = if LISTS.contains(&what) { elements(value) } else { vec![value.to_owned()] };
            let value = value.iter().map(|one| literal(one)).collect::<Vec<_>>().join(", ");
            let whose = match role.as_str() {
                "" => format!("DATABASE {name}"),
                role => format!("ROLE {} IN DATABASE {name}", ident(role)),
            };
            sql += &format!("ALTER {whose} SET {} TO {value};\n", ident(what));
        }
        if let Some(comment) = &self.comment {
            sql += &format!("COMMENT ON DATABASE {name} IS {};\n", literal(comment));
        }
        if self.limit != -1 || self.template {
            let (limit, template) = (self.limit, self.template);
            sql += &format!("ALTER DATABASE {name} CONNECTION LIMIT {limit} IS_TEMPLATE {template};\n");
        }
        sql
    }
}

/// Settings that are lists of names, each of which is quoted by itself.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// The elements of `"$user", public`.
fn elements(list: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut quoted = false;
    let mut chars = list.chars().peekable();
    while let Some(char) = chars.next() {
        let last = found.last_mut().expect("there is always one");
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => last.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => found.push(String::new()),
            ' ' if !quoted => {}
            char => last.push(char),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_taken_apart() {
        assert_eq!(elements("\"$user\", public"), ["$user", "public"]);
        assert_eq!(elements("\"\""), [""]);
        assert_eq!(elements("\"a,\"\"b\",c"), ["a,\"b", "c"]);
    }
}
