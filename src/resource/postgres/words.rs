//! What the server and its tools say, as an operator reads it.

/// What a program said when it failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The SQLSTATE, where there is one.
    pub(super) code: String,
    pub(super) text: String,
}

/// The SQLSTATEs that are known here.
pub(super) mod code {
    /// A lock was not to be had in time.
    pub(in super::super) const LOCKED: &str = "55P03";
    /// Somebody is connected to it.
    pub(in super::super) const IN_USE: &str = "55006";
    /// Not in a transaction.
    pub(in super::super) const ALONE: &str = "25001";
    /// Ours: the script has ended its transaction.
    pub(in super::super) const ENDED: &str = "TXU01";
}

/// The first complaint in what a tool wrote to stderr.
pub(super) fn complaint(said: &str) -> Option<Complaint> {
    let lines = || said.lines().map(str::trim_end);
    // psql, told to be verbose: `ERROR:  42P01: relation "x" does not exist`, whatever the word for error is.
    let coded = lines().find_map(|line| {
        let (_, rest) = line.split_once(":  ")?;
        let (code, text) = rest.split_once(": ")?;
        let is_code = code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        // Notices and warnings have some too.
        (is_code && !["00", "01", "02"].contains(&&code[..2]))
            .then(|| Complaint { code: code.to_owned(), text: text.to_owned() })
    });
    let tools = ["psql: error: ", "pg_dump: error: ", "pg_restore: error: "];
    let plain = lines().find_map(|line| {
        let text = tools.iter().find_map(|tool| line.strip_prefix(tool))?;
        Some(Complaint { code: String::new(), text: text.replace(":  ", ": ") })
    });
    coded.or(plain)
}

/// What can be done about a server that cannot be reached.
pub(super) fn hint(text: &str, password_file: Option<&str>) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&[
        "Connection refused",
        "No such file or directory",
        "could not translate",
        "timeout",
        "No route",
        "starting up",
        "shutting down",
    ]) {
        return Some("is the server running? `pg_lsclusters` shows those of this machine".to_owned());
    }
    if says(&["password authentication failed", "no password supplied", "empty password"]) {
        return Some(match password_file {
            None => "password_file = \"/etc/shop/pgpass\", mode 600, with a line host:port:*:user:password".to_owned(),
            Some(file) => format!(
                "the password is taken from the first line of `{file}` that fits, host:port:database:user:password; \
                 let its database be `*`, since other databases of the server are needed too"
            ),
        });
    }
    if says(&["Peer authentication failed", "Ident authentication failed"]) {
        return Some("user = \"postgres\": the account as which the tools are run has to be the role's".to_owned());
    }
    says(&["pg_hba.conf"]).then(|| {
        "the role has to be let into the databases `postgres` or `template1` too: from there a database is renamed"
            .to_owned()
    })
}

/// An identifier as SQL has it.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as SQL has it (`standard_conforming_strings` is on).
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_is_understood() {
        let found = |said: &str| complaint(said).map(|it| (it.code, it.text)).unwrap_or_default();
        let (code, text) = found("NOTICE:  00000: hm\nERROR:  42P01: relation \"nope\" does not exist\nLINE 1: x\n");
        assert_eq!((code.as_str(), text.as_str()), ("42P01", "relation \"nope\" does not exist"));
        let (code, text) = found("FEHLER:  55P03: Anfrage wird abgebrochen\nLOCATION:  x, y.c:1\n");
        assert_eq!((code.as_str(), text.as_str()), ("55P03", "Anfrage wird abgebrochen"));
        let (code, text) =
            found("psql: error: connection to server on socket \"/x\" failed: FATAL:  database \"a\" does not exist\n");
        assert_eq!(code, "");
        assert_eq!(text, "connection to server on socket \"/x\" failed: FATAL: database \"a\" does not exist");
        assert_eq!(complaint("nothing of the kind"), None);
    }
}
