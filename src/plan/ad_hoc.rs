//! Plans made from the command line: `begin --name shop path=/etc/shop sqlite=/var/lib/shop.db`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::report::hint_among;
use crate::error::{Error, Fault, Result};
use crate::name::Name;

/// What `KIND=VALUE` makes an entry of.
struct Kind {
    word: &'static str,
    list: &'static str,
    /// The key that takes the value.
    key: &'static str,
    /// Whether the value is several, joined by commas.
    shape: Shape,
    /// What is said of it in `--help` and hints.
    example: &'static str,
}

enum Shape {
    One,
    Many,
}

const KINDS: &[Kind] = &[
    Kind { word: "path", list: "resource", key: "path", shape: Shape::One, example: "path=/etc/shop" },
    Kind { word: "sqlite", list: "resource", key: "path", shape: Shape::One, example: "sqlite=/var/lib/shop.db" },
    Kind { word: "postgres", list: "resource", key: "url", shape: Shape::One, example: "postgres=postgresql:///shop" },
    Kind { word: "mysql", list: "resource", key: "database", shape: Shape::One, example: "mysql=shop" },
    Kind { word: "service", list: "quiesce", key: "units", shape: Shape::Many, example: "service=shop.service" },
    Kind { word: "packages", list: "resource", key: "names", shape: Shape::Many, example: "packages=shop" },
    Kind { word: "http", list: "check", key: "url", shape: Shape::One, example: "http=http://127.0.0.1/" },
];

/// The text of a plan called `name` that captures and checks `things`, each a `KIND=VALUE`.
///
/// All mistakes are told at once. Kinds that this build does not have are refused by who reads the plan.
pub fn ad_hoc(name: &Name, things: &[String]) -> Result<String> {
    let mut wrong: Vec<(String, Option<String>)> = Vec::new();
    let mut taken: BTreeMap<(&str, String), &str> = BTreeMap::new();
    let mut lists: BTreeMap<&str, String> = BTreeMap::new();
    for thing in things {
        let words = KINDS.iter().map(|k| k.word);
        let Some((word, value)) = thing.split_once('=') else {
            let example = "say what is to be captured, as in `path=/etc/shop`";
            wrong.push((format!("`{thing}` is not `KIND=VALUE`"), Some(example.into())));
            continue;
        };
        let Some(kind) = KINDS.iter().find(|k| k.word == word) else {
            wrong.push((format!("there is no kind `{word}` for `{thing}`"), hint_among(word, words)));
            continue;
        };
        let values: Vec<&str> = match kind.shape {
            Shape::One => vec![value.trim()],
            Shape::Many => value.split(',').map(str::trim).collect(),
        };
        if values.iter().any(|v| v.is_empty()) {
            wrong.push((format!("`{thing}` has no value"), Some(format!("as in `{}`", kind.example))));
            continue;
        }
        let called = unique(&mut taken, kind, &derived(kind.word, values[0]));
        let quoted: Vec<String> = values.iter().map(|v| quoted(v)).collect();
        let value = match kind.shape {
            Shape::One => quoted.concat(),
            Shape::Many => format!("[{}]", quoted.join(", ")),
        };
        let entry = lists.entry(kind.list).or_default();
        let _ = write!(
            entry,
            "\n[[{}]]\nname = \"{called}\"\nkind = \"{}\"\n{} = {value}\n",
            kind.list, kind.word, kind.key
        );
    }
    if let Some((first, _)) = wrong.first() {
        let mut error = Error::new(first).fault(Fault::Usage);
        for (statement, _) in &wrong[1..] {
            error = error.because(statement);
        }
        for hint in wrong.iter().filter_map(|(_, hint)| hint.as_ref()) {
            if !error.hints.contains(hint) {
                error = error.hint(hint);
            }
        }
        return Err(error);
    }
    let mut text = format!("format = 1\nname = \"{name}\"\nsummary = \"made on the command line\"\n");
    for list in ["check", "quiesce", "resource"] {
        text.push_str(lists.get(list).map_or("", String::as_str));
    }
    Ok(text)
}

/// A string of TOML, which is also a template: what is written is meant.
fn quoted(value: &str) -> String {
    toml::Value::String(value.replace("${", "$${")).to_string()
}

/// A name for an entry from its value: the last part of a path, the database of a URL, the host of a page.
fn derived(word: &str, value: &str) -> String {
    let value = value.split_once("://").map_or(value, |(_, rest)| rest);
    let value = value.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let value = if word == "http" { value } else { value.rsplit('/').next().unwrap_or(value) };
    let value = value.strip_suffix(".service").unwrap_or(value);
    let mut name = String::new();
    for c in value.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    // Room is left for what makes it unique.
    name.truncate(48);
    match name.trim_matches('-') {
        "" => word.to_owned(),
        name => name.to_owned(),
    }
}

/// `name`; from the second time on with the kind behind it, when another kind has it, or with a number.
fn unique<'a>(taken: &mut BTreeMap<(&'a str, String), &'a str>, kind: &'a Kind, name: &str) -> String {
    let mut candidate = name.to_owned();
    if taken.get(&(kind.list, candidate.clone())).is_some_and(|other| *other != kind.word) {
        candidate = format!("{name}-{}", kind.word);
    }
    let base = candidate.clone();
    let mut number = 1;
    while taken.contains_key(&(kind.list, candidate.clone())) {
        number += 1;
        candidate = format!("{base}-{number}");
    }
    taken.insert((kind.list, candidate.clone()), kind.word);
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests as language;

    #[test]
    fn an_ad_hoc_plan_is_a_plan() {
        let name = "shop".parse().unwrap();
        let things = [
            "path=/etc/shop",
            "path=/srv/shop/",
            "sqlite=/var/lib/Shop_1.db",
            "postgres=postgresql://db.example/shop?sslmode=require",
            "mysql=shop",
            "service=shop.service,shop-web.service",
            "packages=shop, shop-data",
            "http=http://127.0.0.1:8080/health",
            "path=/odd/${x}\"y",
        ]
        .map(str::to_owned);
        let text = ad_hoc(&name, &things).unwrap();
        insta::assert_snapshot!(text, @r#"
        format = 1
        name = "shop"
        summary = "made on the command line"

        [[check]]
        name = "127-0-0-1-8080-health"
        kind = "http"
        url = "http://127.0.0.1:8080/health"

        [[quiesce]]
        name = "shop"
        kind = "service"
        units = ["shop.service", "shop-web.service"]

        [[resource]]
        name = "shop"
        kind = "path"
        path = "/etc/shop"

        [[resource]]
        name = "shop-2"
        kind = "path"
        path = "/srv/shop/"

        [[resource]]
        name = "shop-1-db"
        kind = "sqlite"
        path = "/var/lib/Shop_1.db"

        [[resource]]
        name = "shop-postgres"
        kind = "postgres"
        url = "postgresql://db.example/shop?sslmode=require"

        [[resource]]
        name = "shop-mysql"
        kind = "mysql"
        database = "shop"

        [[resource]]
        name = "shop-packages"
        kind = "packages"
        names = ["shop", "shop-data"]

        [[resource]]
        name = "x-y"
        kind = "path"
        path = '/odd/$${x}"y'
        "#);
        let plan = language::parse_with(&text, &[]).unwrap();
        plan.verdict().unwrap();
        let schema: serde_json::Value = serde_json::from_str(language::SCHEMA).unwrap();
        assert!(jsonschema::draft202012::is_valid(&schema, &toml::from_str(&text).unwrap()));
    }

    #[test]
    fn the_mistakes_of_an_ad_hoc_plan_are_told_together() {
        let things = ["pth=/x", "/etc/shop", "path=", "service=a,,b"].map(str::to_owned);
        let error = ad_hoc(&"shop".parse().unwrap(), &things).unwrap_err();
        assert_eq!(error.fault, crate::error::Fault::Usage);
        insta::assert_snapshot!(language::told(&error), @r#"
        error: there is no kind `pth` for `pth=/x`
        `/etc/shop` is not `KIND=VALUE`
        `path=` has no value
        `service=a,,b` has no value
        hint: did you mean `path`?
        hint: say what is to be captured, as in `path=/etc/shop`
        hint: as in `path=/etc/shop`
        hint: as in `service=shop.service`
        "#);
    }
}
