//! The address of one database: a libpq URI, without a password in it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};

/// A libpq URI in its parts, so that another database of the same server can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// `user@host:port`, as it is written.
    authority: String,
    /// The database, if the URI itself says it; a service file may.
    pub(super) database: Option<String>,
    /// `name=value`, as they are written, without `dbname`.
    parameters: Vec<String>,
}

/// Why something is no such address, and what to write.
pub(super) type Mistake = (String, &'static str);

impl Url {
    pub(super) fn parse(text: &str) -> std::result::Result<Url, Mistake> {
        let rest = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else {
            return Err(("`url` is not the address of a PostgreSQL database".to_owned(), EXAMPLE));
        };
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let account = authority.rsplit_once('@').map_or("", |(account, _)| account);
        let mut database = Some(decoded(path)).filter(|name| !name.is_empty());
        let mut kept = Vec::new();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("password" | "sslpassword", _)) => return Err(secret()),
                Some(("dbname", name)) => database = Some(decoded(name)),
                _ => kept.push(parameter.to_owned()),
            }
        }
        match account.contains(':') {
            true => Err(secret()),
            false => Ok(Url { authority: authority.to_owned(), database, parameters: kept }),
        }
    }

    /// The same server's database `name`.
    pub(super) fn of(&self, name: &str) -> String {
        let parameters = self.parameters.join("&");
        let question = if parameters.is_empty() { "" } else { "?" };
        format!("postgresql://{}/{}{question}{parameters}", self.authority, encoded(name))
    }

    /// As it was written: the database may be left to a service file.
    pub(super) fn itself(&self) -> String {
        self.of(self.database.as_deref().unwrap_or_default())
    }
}

impl From<Mistake> for Error {
    fn from((statement, hint): Mistake) -> Error {
        Error::new(statement).hint(hint)
    }
}

pub(super) const EXAMPLE: &str =
    "url = \"postgresql:///shop\" (or postgresql://user@host:5432/shop, postgresql:///?service=shop)";

fn secret() -> Mistake {
    const HINT: &str = "password_file = \"/etc/shop/pgpass\", mode 600, with a line host:port:*:user:password";
    ("`url` holds a password, which everybody could read in the list of processes".to_owned(), HINT)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn encoded(text: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, PLAIN).to_string()
}

/// The address that a text stands for at run time.
pub(super) fn url(text: &str) -> Result<Url> {
    Url::parse(text).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_of_the_same_server_can_be_named() {
        let of = |text: &str| {
            let url = url(text).unwrap();
            (url.database.clone(), url.of("a/b c"))
        };
        let cases = [
            ("postgresql:///shop", Some("shop"), "postgresql:///a%2Fb%20c"),
            ("postgres://app@db.example:5433/my%20shop", Some("my shop"), "postgresql://app@db.example:5433/a%2Fb%20c"),
            ("postgresql://%2Frun%2Fpg:5434/x", Some("x"), "postgresql://%2Frun%2Fpg:5434/a%2Fb%20c"),
            (
                "postgresql://a:1,b:2/x?target_session_attrs=any",
                Some("x"),
                "postgresql://a:1,b:2/a%2Fb%20c?target_session_attrs=any",
            ),
            ("postgresql://?service=shop", None, "postgresql:///a%2Fb%20c?service=shop"),
            ("postgresql://?host=/run/pg&dbname=x", Some("x"), "postgresql:///a%2Fb%20c?host=/run/pg"),
            ("postgresql://", None, "postgresql:///a%2Fb%20c"),
        ];
        for (text, database, other) in cases {
            assert_eq!(of(text), (database.map(str::to_owned), other.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_or_holds_a_password_is_refused() {
        for text in ["postgresql://u:secret@h/x", "postgresql:///x?user=u&password=secret", "postgres://u:@/x"] {
            assert!(Url::parse(text).unwrap_err().0.starts_with("`url` holds a password"), "{text}");
        }
        for text in ["host=/run dbname=x", "mysql://h/x", ""] {
            assert!(Url::parse(text).unwrap_err().0.starts_with("`url` is not the address"), "{text}");
        }
    }
}
