//! `recover`: settle what was under way.

use clap::Args;
use serde_json::json;

use super::exit::Asked;
use super::{Answer, Cx, exit, json};
use crate::error::Result;
use crate::ops::{self, AtBoot, Standing};

/// After a crash or a reboot: settle every transaction that was under way
///
/// Each ends in exactly one of two worlds, before or after, as its journal says: forward when every step had
/// succeeded, back otherwise. One that was waiting for its operator, on hold or stuck stays open; what it had
/// stopped is stopped again. Safe to call at any time; a systemd unit calls it at boot.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[
        exit::DONE, exit::FAILED, exit::UNSOUND, exit::STUCK, exit::LOCKED, exit::DAMAGE, exit::WAITING,
        exit::INTERRUPTED, exit::TERMINATED,
    ],
    &["txupgrade recover"],
))]
pub(super) struct Recover {
    /// Called while the system starts: files first, before the services that use them
    #[arg(long)]
    boot: bool,
}

impl Recover {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let standings = ops::recover(&cx.acting(), if self.boot { AtBoot::Yes } else { AtBoot::No })?;
        Ok(answer(cx, &standings))
    }
}

fn answer(cx: &Cx, standings: &[Standing]) -> Answer {
    let exit = exit::of_all(Asked::Settle, standings, cx.signal());
    let each: Vec<_> = standings.iter().map(json::stands).collect();
    let json = json::object("standings", exit, json!({ "standings": each, "not_run": [], "error": null }));
    let mut talk: String = standings
        .iter()
        .map(|standing| cx.says(standing, None, exit::of(Asked::Settle, standing, cx.signal())))
        .collect();
    if standings.is_empty() {
        talk.push_str("nothing to recover: no transaction was under way\n");
    }
    Answer { json, data: String::new(), talk, exit }
}
