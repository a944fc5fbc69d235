//! `recover`: settle what was under way.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::exit::Asked;
use super::{Answer, Cx, exit, json};
use crate::error::Result;
use crate::ops::{self, AtBoot, Place, Standing};

/// After a crash or a reboot: settle every transaction that was under way
///
/// Each ends in exactly one of two worlds, before or after, as its journal says: forward when every step had
/// succeeded, back otherwise. One that was waiting for its operator, on hold or stuck stays open; what it had
/// stopped is stopped again. Safe to call at any time.
///
/// With `--install` it is called at every boot: by one unit before anything else is started, which puts back what is
/// files, and by another once all is up, which settles the rest.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[
        exit::DONE, exit::FAILED, exit::UNSOUND, exit::STUCK, exit::LOCKED, exit::DAMAGE, exit::WAITING,
        exit::INTERRUPTED, exit::TERMINATED,
    ],
    &["txupgrade recover", "txupgrade recover --install"],
))]
pub(super) struct Recover {
    /// Called while the machine boots: put back what is files, and leave the rest for later
    #[arg(long, conflicts_with = "install")]
    boot: bool,
    /// Write and enable the two systemd units that call it at boot
    #[arg(long)]
    install: bool,
}

impl Recover {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        if self.install {
            return Ok(installed(&ops::install(&cx.looking())?));
        }
        let at_boot = if self.boot { AtBoot::Yes } else { AtBoot::No };
        Ok(answer(cx, &ops::recover(&cx.acting(), at_boot)?, at_boot))
    }
}

fn answer(cx: &Cx, standings: &[Standing], at_boot: AtBoot) -> Answer {
    let exit = exit::of_all(Asked::Settle, standings, cx.signal());
    let each: Vec<_> = standings.iter().map(json::stands).collect();
    let json = json::object("standings", exit, json!({ "standings": each, "not_run": [], "error": null }));
    let says = |standing: &Standing| match (at_boot, &standing.place) {
        (AtBoot::Yes, Place::Abandoned) => {
            format!("{}: what could be done before anything is up is done; `txupgrade recover` goes on\n", standing.tx)
        }
        _ => cx.says(standing, None, exit::of(Asked::Settle, standing, cx.signal())),
    };
    let mut talk: String = standings.iter().map(says).collect();
    if standings.is_empty() {
        talk.push_str("nothing to recover: no transaction was under way\n");
    }
    Answer { json, data: String::new(), talk, exit }
}

fn installed(units: &[PathBuf]) -> Answer {
    let paths: Vec<_> = units.iter().map(|unit| unit.to_string_lossy()).collect();
    let json = json::object("installed", exit::DONE, json!({ "files": paths }));
    let talk = "enabled: at every boot they settle what a crash has left\n".to_owned();
    Answer { json, data: paths.join("\n") + "\n", talk, exit: exit::DONE }
}
