//! `kind = "wait"`: lets time pass, or waits until the named checks pass.
//!
//! Promises: a signal ends it within a fifth of a second (within one question, where checks are waited for).

use std::time::Duration;

use super::{Kind, Step};
use crate::context::{Context, default_timeout, run};
use crate::error::{Error, Result};
use crate::plan::{Fields, List, Scope};
use crate::sys::clock;
use crate::tx::Output;

/// Keys: `time`, or `checks` with `timeout` (how long to wait at most; 1 h).
pub(super) const KIND: Kind = Kind { name: "wait", read };

const PAUSE: Duration = Duration::from_millis(200);

fn read(fields: &mut Fields) -> Box<dyn Step> {
    let time = fields.duration("time");
    let checks = fields.references(List::Check, "checks");
    let timeout = fields.time_limit("timeout");
    match (fields.has("time"), fields.has("checks")) {
        (true, true) => fields.wrong("checks", "`time` and `checks` exclude each other", None),
        (false, false) => fields.wrong("time", "what to wait for is missing", Some("time = \"30s\", or checks")),
        (true, false) if timeout.is_some() => {
            fields.wrong("timeout", "`timeout` limits the waiting for checks, not for time", None);
        }
        _ => {}
    }
    Box::new(Wait { time: time.unwrap_or_default(), checks, timeout: timeout.unwrap_or(default_timeout::STEP) })
}

struct Wait {
    time: Duration,
    checks: Vec<String>,
    timeout: Duration,
}

impl Step for Wait {
    fn describe(&self, _scope: &Scope) -> String {
        match self.checks.is_empty() {
            true => format!("wait {}", run::in_words(self.time)),
            false => format!("wait until {}, at most {}", self.checks.join(", "), run::in_words(self.timeout)),
        }
    }

    fn run(&self, cx: &Context<'_>) -> Result<Output> {
        if self.checks.is_empty() {
            sleep(cx, clock::ran().saturating_add(self.time))?;
            return Ok(Output::default());
        }
        let began = clock::ran();
        for check in cx.references(&self.checks)? {
            loop {
                cx.go_on()?;
                let finding = cx.peers.ask(&check, cx)?;
                if finding.passed() {
                    break;
                }
                if clock::ran() - began >= self.timeout {
                    return Err(Error::new(format!(
                        "check `{check}` did not pass within {}",
                        run::in_words(self.timeout)
                    ))
                    .because(finding.found));
                }
                sleep(cx, (clock::ran() + Duration::from_secs(1)).min(began.saturating_add(self.timeout)))?;
            }
        }
        Ok(Output { note: format!("after {:.1} s", (clock::ran() - began).as_secs_f64()), ..Output::default() })
    }
}

fn sleep(cx: &Context<'_>, until: Duration) -> Result<()> {
    loop {
        cx.go_on()?;
        let left = until.saturating_sub(clock::ran());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(PAUSE));
    }
}
