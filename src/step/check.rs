//! `kind = "check"`: the named checks must pass before the next step.

use super::{Kind, Step};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::plan::{Fields, List, Scope};
use crate::tx::Output;

/// Keys: `checks`.
pub(super) const KIND: Kind = Kind { name: "check", read };

fn read(fields: &mut Fields) -> Box<dyn Step> {
    let checks = fields.references(List::Check, "checks");
    if checks.is_empty() && !fields.has("checks") {
        fields.missing("checks");
    }
    Box::new(Ask { checks })
}

struct Ask {
    checks: Vec<String>,
}

impl Step for Ask {
    fn describe(&self, _scope: &Scope) -> String {
        format!("ask {}", self.checks.join(", "))
    }

    fn run(&self, cx: &Context<'_>) -> Result<Output> {
        let mut found = Vec::new();
        for check in cx.references(&self.checks)? {
            let finding = cx.peers.ask(&check, cx)?;
            if !finding.passed() {
                return Err(Error::new(format!("check `{check}` does not pass")).because(finding.found));
            }
            found.push(format!("{check}: {}", finding.found));
        }
        Ok(Output { note: found.join(", "), ..Output::default() })
    }
}
