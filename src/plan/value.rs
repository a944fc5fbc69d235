//! Reading values that may be secrets, and the variables of a plan.
//!
//! Promise: a value that came from a file, the environment or a credential is told as [`Secrecy::Secret`], and so is
//! one that has such a value in it; none of them is ever part of an error.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::language::Secrets;
use super::report::{hint_among, list};
use super::template::is_variable_name;
use super::tree::{Data, Item, Node};
use super::{Fields, Plan, Scope, Template, Value, Var};
use crate::error::{Error, OrSay, Result};

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// It may.
    Open,
    /// It is kept out of arguments, logs and reports.
    Secret,
}

impl Fields {
    /// A table of strings, values of which may be `{ file | env | credential = … }`.
    pub fn values(&mut self, key: &str) -> BTreeMap<String, Value> {
        let Some(node) = self.node(key) else { return BTreeMap::new() };
        let Data::Table(table) = &node.data else {
            self.mismatch(key, &node, "a table", Some(format!("write it as `{key} = {{ NAME = \"value\" }}`")));
            return BTreeMap::new();
        };
        let read = |item: &Item| Some((item.key.clone(), self.as_value(&item.key, &item.node, Secrets::Allowed)?));
        table.items.iter().filter_map(read).collect()
    }

    /// A string, or a table that says where a secret is.
    pub(super) fn as_value(&self, key: &str, node: &Node, secrets: Secrets) -> Option<Value> {
        let Data::Table(table) = &node.data else {
            if let Data::Integer(number) = node.data {
                return Some(Value::Plain(Template::literal(number.to_string())));
            }
            return self.as_template(key, node, secrets).map(Value::Plain);
        };
        const PLACES: &[&str] = &["file", "env", "credential"];
        let [item] = table.items.as_slice() else {
            let statement = format!("`{key}` has to say one place where it is");
            self.report().mistake(&node.span, statement, Some(format!("it can be {}", list(PLACES))));
            return None;
        };
        let legal_credential = |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        match item.key.as_str() {
            "file" => self.as_template("file", &item.node, Secrets::Refused).map(Value::File),
            "env" => {
                let name = self.as_text("env", &item.node)?;
                let named = if is_variable_name(&name) {
                    Ok(name)
                } else {
                    Err(format!("`{name}` is not the name of a variable"))
                };
                self.accept(&item.node.span, named, None).map(Value::Env)
            }
            "credential" => {
                let name = self.as_text("credential", &item.node)?;
                let named = if legal_credential(&name) {
                    Ok(name)
                } else {
                    Err(format!("`{name}` is not the name of a credential"))
                };
                self.accept(&item.node.span, named, None).map(Value::Credential)
            }
            other => {
                let hint = hint_among(other, PLACES.iter().copied());
                self.report().mistake(&item.key_span, format!("unknown key `{other}`"), hint);
                None
            }
        }
    }
}

impl Value {
    /// The value at this moment, and whether it may be shown.
    pub fn read(&self, scope: &Scope) -> Result<(String, Secrecy)> {
        let secret = |text: String| (text, Secrecy::Secret);
        match self {
            Value::Plain(template) => {
                let hidden = template.variables().any(|name| is_secret(scope, name));
                let text = template.fill(|name| match scope.secrets.get(name) {
                    Some(value) if is_secret(scope, name) => Ok(value.clone()),
                    _ => scope.get(name).map(str::to_owned),
                })?;
                Ok((text, if hidden { Secrecy::Secret } else { Secrecy::Open }))
            }
            Value::File(template) => secret_file(&template.path(scope)?).map(secret),
            Value::Env(name) => match std::env::var(name) {
                Ok(text) => Ok(secret(text)),
                Err(std::env::VarError::NotPresent) => {
                    Err(Error::new(format!("the environment variable `{name}` is not set"))
                        .hint(format!("the plan reads a secret from it: `export {name}=…`")))
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(Error::new(format!("the environment variable `{name}` is not UTF-8")))
                }
            },
            Value::Credential(name) => {
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY");
                credential(dir.as_deref().map(Path::new), name).map(secret)
            }
        }
    }
}

/// A plain value comes first, as it does in [`Scope::get`].
fn is_secret(scope: &Scope, name: &str) -> bool {
    scope.secrets.contains_key(name) && !scope.values.contains_key(name)
}

/// Much more than any password; a wrong path shall not fill the memory.
const LARGEST: u64 = 1 << 20;

fn secret_file(path: &Path) -> Result<String> {
    let shown = path.display();
    let cannot = || format!("cannot read the secret `{shown}`");
    let meta = std::fs::metadata(path).or_say(cannot)?;
    if meta.is_dir() || meta.len() > LARGEST {
        let what = if meta.is_dir() { "it is a directory" } else { "it is larger than 1 MiB" };
        return Err(Error::new(cannot()).because(what));
    }
    if meta.is_file() && meta.mode() & 0o007 != 0 {
        return Err(Error::new(format!("the secret `{shown}` is open to everybody"))
            .because(format!("its mode is {:03o}", meta.mode() & 0o777))
            .hint(format!("chmod 600 {shown}")));
    }
    let text = std::fs::read_to_string(path).or_say(cannot)?;
    trimmed(&text).or_say(cannot)
}

fn credential(dir: Option<&Path>, name: &str) -> Result<String> {
    let Some(dir) = dir else {
        return Err(Error::new(format!("the credential `{name}` is not there"))
            .because("`CREDENTIALS_DIRECTORY` is not set: systemd sets it for units that have credentials")
            .hint(format!("systemd-run --pipe --wait -p LoadCredential={name}:/path/of/the/secret txupgrade …")));
    };
    let cannot = || format!("cannot read the credential `{name}`");
    let text = std::fs::read_to_string(dir.join(name)).or_say(cannot)?;
    trimmed(&text).or_say(cannot)
}

/// Without its last newline; what no environment can carry is refused.
fn trimmed(text: &str) -> Result<String, &'static str> {
    if text.contains('\0') {
        return Err("it holds a NUL");
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

impl Plan {
    /// The variables that are known always: those of `[vars]` that are one string, secrets read now. Lists are left to
    /// the caller, who runs their commands.
    pub fn scope(&self) -> Result<Scope> {
        let dir = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut scope = Scope { dir, ..Scope::default() };
        for name in self.in_order() {
            let Some(Var::Value(value)) = self.vars.get(name) else { continue };
            let (text, secrecy) =
                value.read(&scope).map_err(|e| e.within(format!("the variable `{name}` has no value")))?;
            match secrecy {
                Secrecy::Open => scope.values.insert(name.to_owned(), text),
                Secrecy::Secret => scope.secrets.insert(name.to_owned(), text),
            };
        }
        Ok(scope)
    }

    /// The names of `[vars]`, each after those it is made of. The parser has refused circles.
    fn in_order(&self) -> Vec<&str> {
        fn visit<'a>(plan: &'a Plan, name: &'a str, done: &mut Vec<&'a str>, open: &mut Vec<&'a str>) {
            if done.contains(&name) || open.contains(&name) {
                return;
            }
            open.push(name);
            if let Some(Var::Value(Value::Plain(template) | Value::File(template))) = plan.vars.get(name) {
                template.variables().for_each(|inner| visit(plan, inner, done, open));
            }
            open.pop();
            done.push(name);
        }
        let mut done = Vec::new();
        self.vars.keys().for_each(|name| visit(self, name, &mut done, &mut Vec::new()));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_file_is_read_without_its_newline_and_refused_when_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        std::fs::write(&path, "hunter2\n").unwrap();
        let scope = Scope { dir: dir.path().into(), ..Scope::default() };
        let value = Value::File(Template::literal("pass"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(value.read(&scope).unwrap(), ("hunter2".into(), Secrecy::Secret));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let error = value.read(&scope).unwrap_err();
        assert_eq!(error.to_string(), format!("the secret `{}` is open to everybody: its mode is 644", path.display()));
        assert_eq!(error.hints, [format!("chmod 600 {}", path.display())]);
        std::fs::remove_file(&path).unwrap();
        let error = value.read(&scope).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot read the secret `{}`: No such file or directory (os error 2)", path.display())
        );
    }

    #[test]
    fn a_missing_environment_variable_or_credential_says_how_to_give_it() {
        let error = Value::Env("TXUPGRADE_TEST_NOT_THERE".into()).read(&Scope::default()).unwrap_err();
        assert_eq!(error.statement, "the environment variable `TXUPGRADE_TEST_NOT_THERE` is not set");
        let error = credential(None, "db").unwrap_err();
        assert_eq!(error.statement, "the credential `db` is not there");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("db"), "x\r\n").unwrap();
        assert_eq!(credential(Some(dir.path()), "db").unwrap(), "x");
        assert!(credential(Some(dir.path()), "other").is_err());
    }

    #[test]
    fn what_has_a_secret_in_it_is_a_secret() {
        let mut scope = Scope::default().with("user", "notes");
        scope.secrets.insert("pass".into(), "hunter2".into());
        let read = |t: &str| Value::Plain(Template::parse(t).unwrap()).read(&scope).unwrap();
        assert_eq!(read("${user}:${pass}"), ("notes:hunter2".into(), Secrecy::Secret));
        assert_eq!(read("${user}"), ("notes".into(), Secrecy::Open));
    }
}
