//! Plans whose mistakes only the kinds see: `fixtures/plans/invalid/kind-*.toml`, each with its exact message beside it.
//! `TXUPGRADE_BLESS=1` writes the messages down as they are now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use txupgrade::engine::read_plan;
use txupgrade::error::Error;

fn told(error: &Error) -> String {
    let mut out = format!("error: {}\n", error.statement);
    for cause in &error.causes {
        out.push_str(cause);
        out.push('\n');
    }
    for hint in &error.hints {
        out.push_str(&format!("hint: {hint}\n"));
    }
    out
}

#[test]
fn every_mistake_that_a_kind_sees_is_told() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plans/invalid");
    let mut plans: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    plans.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("kind-") && name.ends_with(".toml")
    });
    plans.sort();
    assert!(plans.len() >= 10);
    let mut wrong = String::new();
    for path in plans {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let got = match read_plan(&text, &Path::new("/plans").join(name), &BTreeMap::new()) {
            Ok(_) => "no mistake\n".to_owned(),
            Err(error) => told(&error),
        };
        let beside = path.with_extension("txt");
        if std::env::var_os("TXUPGRADE_BLESS").is_some() {
            std::fs::write(&beside, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        if got != expected {
            wrong.push_str(&format!("{name} gives\n{got}\ninstead of\n{expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
