//! Names and texts in SQL, and the names of the schemas that one transaction uses beside the live one.

use std::sync::LazyLock;

use regex::Regex;

use crate::context::Context;

/// `` `shop` ``.
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `'it''s'`, where backslashes escape.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The schemas of one transaction and one database: `txupgrade_displaced_notes_3_shop`.
pub(super) struct Sides {
    tail: String,
}

/// What a side schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Where what was captured is loaded to prove that it can be.
    Proof,
    /// Where it is loaded to be put in place.
    Incoming,
    /// Where what it replaced is kept.
    Displaced,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Proof => "proof",
            Role::Incoming => "incoming",
            Role::Displaced => "displaced",
        }
    }
}

/// What all side schemas begin with; in a `GRANT` it is a pattern.
pub(super) const SIDE: &str = "txupgrade_";

impl Sides {
    pub(super) fn new(cx: &Context<'_>, database: &str) -> Sides {
        // With what every server takes in a name of 64 characters, whatever its filesystem makes of it.
        const MOST: usize = 42;
        let tail = format!("{}_{database}", cx.tx.replace('-', "_"));
        let simple = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let tail = match tail.len() <= MOST && tail.chars().all(simple) {
            true => tail,
            false => {
                let readable: String = tail.to_lowercase().chars().filter(|c| simple(*c)).take(MOST - 17).collect();
                format!("{readable}_{}", &blake3::hash(tail.as_bytes()).to_hex()[..16])
            }
        };
        Sides { tail }
    }

    pub(super) fn name(&self, role: Role) -> String {
        format!("{SIDE}{}_{}", role.word(), self.tail)
    }

    /// The first of its displaced ones that `taken` does not have.
    pub(super) fn free(&self, taken: &[String]) -> String {
        let first = self.name(Role::Displaced);
        let more = (2..).map(|number| format!("{SIDE}{}{number}_{}", Role::Displaced.word(), self.tail));
        let mut names = std::iter::once(first).chain(more);
        names.find(|name| !taken.contains(name)).expect("numbers do not end")
    }

    /// Whether `name` is one of them.
    pub(super) fn has(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(SIDE).and_then(|rest| rest.strip_suffix(&self.tail)) else { return false };
        let Some(role) = rest.strip_suffix('_') else { return false };
        let role = role.trim_end_matches(|c: char| c.is_ascii_digit());
        [Role::Proof, Role::Incoming, Role::Displaced].iter().any(|known| known.word() == role)
    }
}

/// A definition as it would be if it did not name the schema that it stands in. The server writes `` `shop`.`note` `` in a view that
/// looks at another schema too; a trigger keeps what its author wrote.
pub(super) fn without_schema(definition: &str, schema: &str) -> String {
    static TRIGGER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?is)(\b(?:before|after)\s+(?:insert|update|delete)\s+on\s+)(`(?:[^`]|``)+`|[\w$]+)\s*\.\s*")
            .expect("it is a regular expression")
    });
    let plain = definition.replace(&format!("{}.", ident(schema)), "");
    let own = |captures: &regex::Captures<'_>| match captures[2].trim_matches('`').eq_ignore_ascii_case(schema) {
        true => captures[1].to_owned(),
        false => captures[0].to_owned(),
    };
    TRIGGER.replace_all(&plain, own).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_freed_of_its_schema() {
        let plain = |text: &str| without_schema(text, "shop");
        assert_eq!(plain("select `shop`.`a`.`x`, `other`.`b` from `shop`.`a`"), "select `a`.`x`, `other`.`b` from `a`");
        assert_eq!(
            plain("TRIGGER t before\ninsert on Shop . note for each row"),
            "TRIGGER t before\ninsert on note for each row"
        );
        assert_eq!(plain("trigger t after update on other.note"), "trigger t after update on other.note");
    }

    #[test]
    fn side_schemas_are_named_after_their_transaction() {
        let f = crate::context_fixture::Fixture::new();
        let sides = Sides::new(&f.context("db"), "shop");
        assert_eq!(sides.name(Role::Incoming), "txupgrade_incoming_t_1_shop");
        assert_eq!(sides.free(&[sides.name(Role::Displaced)]), "txupgrade_displaced2_t_1_shop");
        assert!(sides.has("txupgrade_displaced12_t_1_shop") && sides.has("txupgrade_proof_t_1_shop"));
        assert!(!sides.has("txupgrade_proof_t_11_shop") && !sides.has("txupgrade_mine_t_1_shop") && !sides.has("shop"));
        let odd =
            Sides::new(&f.context("db"), "Shop'`s own\\ and very long name of a schema äöü").name(Role::Displaced);
        assert!(odd.len() <= 62 && odd.starts_with("txupgrade_displaced_t_1_shopsown"), "{odd}");
    }
}
