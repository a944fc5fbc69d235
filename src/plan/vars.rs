//! `[vars]`: what each variable holds, and `--set`.

use std::collections::BTreeMap;

use super::language::{Language, Moment, Nature, Secrets, TOOL};
use super::report::hint_among;
use super::template::is_variable_name;
use super::tree::{Data, Item, Table};
use super::{CommandDefaults, Fields, Scope, Span, Template, Value, Var};

/// What every variable of the table holds, told by its form alone: the names must be known before any string is read.
pub(super) fn natures(table: &Table) -> BTreeMap<String, Nature> {
    table.items.iter().map(|item| (item.key.clone(), nature(item))).collect()
}

fn nature(item: &Item) -> Nature {
    match &item.node.data {
        Data::Text(_) | Data::Integer(_) => Nature::Plain,
        Data::Table(table) => {
            let has = |keys: &[&str]| keys.iter().any(|key| table.get(key).is_some());
            match () {
                () if has(&["run", "shell", "glob"]) => Nature::Lines,
                () if has(&["file", "env", "credential"]) => Nature::Secret,
                () => Nature::Wrong,
            }
        }
        _ => Nature::Wrong,
    }
}

/// The variables. Each string of `set` takes the place of a plain one.
pub(super) fn read(mut fields: Fields, set: &BTreeMap<String, String>) -> BTreeMap<String, Var> {
    fields.set_moment(Moment::Always);
    let items = fields.items().to_vec();
    let mut vars = BTreeMap::new();
    for item in &items {
        check_name(&fields, item);
        if let Some(var) = read_one(&mut fields, item) {
            vars.insert(item.key.clone(), var);
        }
    }
    check_circles(&fields, &items, &vars);
    for (key, text) in set {
        if let Some(Var::Value(Value::Plain(template))) = vars.get_mut(key) {
            *template = Template::literal(text);
        }
    }
    vars
}

fn check_name(fields: &Fields, item: &Item) {
    let key = item.key.as_str();
    let statement = if TOOL.contains(&key) || key == "each" {
        format!("`{key}` is a variable that the tool gives")
    } else if !is_variable_name(key) {
        format!("`{key}` is not the name of a variable")
    } else if ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "IFS"].contains(&key)
        || key.starts_with("LD_")
        || key.starts_with("TXUPGRADE_")
    {
        format!("`{key}` would change the environment of every command")
    } else {
        return;
    };
    let hint = "take another name, of letters, digits and `_`; commands get it as environment";
    fields.report().mistake(&item.key_span, statement, Some(hint.into()));
}

fn read_one(fields: &mut Fields, item: &Item) -> Option<Var> {
    let key = item.key.as_str();
    match (&item.node.data, nature(item)) {
        (Data::Table(table), Nature::Lines) if table.get("glob").is_some() => {
            let mut inner = fields.table(key)?;
            let glob = inner.template("glob").map(Var::Glob);
            inner.finish();
            glob
        }
        // The other keys are variables, whatever they are called.
        (Data::Table(_), Nature::Lines) => {
            let node = fields.node(key)?;
            fields.as_command(key, &node, &CommandDefaults::default()).map(Var::Lines)
        }
        (Data::Table(_), Nature::Wrong) => {
            let hint =
                "`{ file | env | credential = \"…\" }` is a secret, `{ run = […] }` or `{ glob = \"…\" }` a list";
            fields.report().mistake(
                &item.node.span,
                format!("`{key}` does not say where its value is"),
                Some(hint.into()),
            );
            None
        }
        (Data::List(_), _) => {
            let hint = "a list is what a command prints, `{ run = […] }`, or what a pattern finds, `{ glob = \"…\" }`";
            fields.mismatch(key, &item.node, "a string", Some(hint.into()));
            None
        }
        _ => fields.as_value(key, &item.node, Secrets::Refused).map(Var::Value),
    }
}

fn made_of(var: Option<&Var>) -> Vec<&str> {
    match var {
        Some(Var::Value(Value::Plain(template) | Value::File(template))) => template.variables().collect(),
        _ => Vec::new(),
    }
}

fn check_circles(fields: &Fields, items: &[Item], vars: &BTreeMap<String, Var>) {
    for item in items {
        let mut reached: Vec<&str> = made_of(vars.get(&item.key));
        let mut next = 0;
        while let Some(name) = reached.get(next).copied() {
            next += 1;
            for inner in made_of(vars.get(name)) {
                if !reached.contains(&inner) {
                    reached.push(inner);
                }
            }
        }
        if reached.contains(&item.key.as_str()) {
            fields.report().mistake(&item.node.span, format!("the variable `{}` is made of itself", item.key), None);
        }
    }
}

/// Reports what of `--set` cannot be.
pub(super) fn check_set(language: &Language, set: &BTreeMap<String, String>) {
    for (key, text) in set {
        let report = &language.report;
        match language.vars.get(key) {
            Some(Nature::Plain) if text.contains('\0') => {
                report.mistake_outside(format!("`--set {key}` holds a NUL"), None)
            }
            Some(Nature::Plain | Nature::Wrong) => {}
            Some(Nature::Secret) => report.mistake_outside(
                format!("`--set {key}` would show a secret to everybody on this machine"),
                Some("put it where the plan's `[vars]` look for it".into()),
            ),
            Some(Nature::Lines) => report.mistake_outside(
                format!("`--set {key}` cannot be: the variable is a list"),
                Some("its lines are read where the plan's `[vars]` say".into()),
            ),
            None => {
                let plain = language.vars.iter().filter(|(_, n)| **n == Nature::Plain).map(|(k, _)| k.as_str());
                report.mistake_outside(
                    format!("`--set {key}`: the plan has no variable `{key}`"),
                    hint_among(key, plain),
                );
            }
        }
    }
}

/// Whether `name`, the value of an `each`, is a list; reports when it is not.
pub(super) fn check_list_name(language: &Language, name: &str, span: &Span) -> bool {
    let hint = || {
        let lists: Vec<&str> =
            language.vars.iter().filter(|(_, n)| **n == Nature::Lines).map(|(k, _)| k.as_str()).collect();
        match lists.is_empty() {
            true => Some(format!("`[vars]` gives a list: `{name} = {{ run = […] }}` or `{{ glob = \"…\" }}`")),
            false => hint_among(name, lists),
        }
    };
    let statement = match language.vars.get(name) {
        Some(Nature::Lines) => return true,
        Some(Nature::Wrong) => return false,
        Some(_) => format!("the variable `{name}` is not a list"),
        None => format!("there is no variable `{name}`"),
    };
    language.report.mistake(span, statement, hint());
    false
}

/// The plain variables whose values need nothing from outside the plan.
pub(super) fn literal(vars: &BTreeMap<String, Var>) -> Scope {
    let mut scope = Scope::default();
    // Each round fills in what the rounds before have made possible.
    for _ in 0..vars.len() {
        for (name, var) in vars {
            if let Var::Value(Value::Plain(template)) = var
                && let Ok(text) = template.expand(&scope)
            {
                scope.values.insert(name.clone(), text);
            }
        }
    }
    scope
}
