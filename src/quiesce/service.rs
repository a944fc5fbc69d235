//! `kind = "service"`: units of systemd are stopped, and exactly those that were up brought back, in reverse order.
//!
//! What was up and what is started at boot is asked before anything is touched, and journaled; from then on nothing
//! but that counts. A unit that is held is not started by anybody, at boot neither, until it is resumed (`sys::hold`).
//! Units that systemd stops together with a named one belong to it, and so do the sockets, timers and paths that
//! would start it again.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Kind, Quiesce};
use crate::context::{Context, default_timeout, run};
use crate::error::{Error, Result};
use crate::plan::{Command, Fields, Program, Scope, Template};
use crate::sys::hold::{FILES_UNIT, Hold, Known, REST_UNIT};
use crate::sys::process::command_line;
use crate::sys::units::{self, Seen};
use crate::tx::{Output, Unit};

/// Keys: `units` (names or patterns), `steady`, `timeout` (of each stop and each start).
pub(super) const KIND: Kind = Kind { name: "service", read };

/// How long a unit has to stay up to have come up, where the plan does not say.
const STEADY: Duration = Duration::from_secs(2);
/// How often systemd is asked meanwhile.
const LOOK: Duration = Duration::from_millis(100);

fn read(fields: &mut Fields) -> Box<dyn Quiesce> {
    let units = fields.templates("units");
    if !fields.has("units") {
        fields.missing("units");
    } else if units.is_empty() {
        fields.wrong("units", "`units` names no unit", Some("units = [\"shop.service\"]"));
    }
    let timeout = fields.time_limit("timeout").unwrap_or(default_timeout::QUIESCE);
    Box::new(Service { units, timeout, steady: fields.duration("steady").unwrap_or(STEADY) })
}

struct Service {
    units: Vec<Template>,
    timeout: Duration,
    steady: Duration,
}

impl Quiesce for Service {
    fn describe(&self, scope: &Scope) -> (String, String) {
        let names = self.units.iter().map(|unit| unit.expand(scope).unwrap_or_else(|_| unit.to_string()));
        let names: Vec<String> = names.collect();
        let back: Vec<&str> = names.iter().rev().map(String::as_str).collect();
        (format!("stop {}", names.join(", ")), format!("start what was up of {}", back.join(", ")))
    }

    fn time_limits(&self) -> (Option<Duration>, Option<Duration>) {
        (Some(self.timeout), Some(self.timeout))
    }

    fn remembers(&self) -> bool {
        true
    }

    fn remember(&self, cx: &Context<'_>) -> Result<Output> {
        let (units, mut warnings) = self.find(cx)?;
        let boot = units::look(&[FILES_UNIT.to_owned(), REST_UNIT.to_owned()])?;
        if boot.iter().any(|unit| unit.enabled() != "enabled") {
            warnings.push(format!(
                "after a reboot `{}` would stay down until somebody calls `txupgrade recover`; with `txupgrade recover \
                 --install` every boot does",
                cx.subject
            ));
        }
        let told = units.iter().map(|unit| format!("{} is {}", unit.name, if unit.active { "up" } else { "down" }));
        Ok(Output { note: told.collect::<Vec<_>>().join(", "), units, warnings, ..Output::default() })
    }

    fn quiesce(&self, cx: &Context<'_>) -> Result<Output> {
        let hold = Hold::new(&cx.state, &cx.tx);
        let mut known = Known::Already;
        for unit in &cx.units {
            if hold.put(&unit.name)? == Known::NotYet {
                known = Known::NotYet;
            }
        }
        if known == Known::NotYet {
            units::reload()?;
        }
        let mut output = Output::default();
        let mut stopped = Vec::new();
        for unit in &cx.units {
            // What is down is not stopped: that would also call off the start of what needs it, while the machine boots.
            if !look(&unit.name)?.is_down() {
                self.systemctl(cx, "stop", &unit.name)?;
                stopped.push(unit.name.as_str());
            }
            output.warnings.extend(self.wait_until_down(cx, &unit.name)?);
        }
        output.note =
            if stopped.is_empty() { "was down".to_owned() } else { format!("stopped {}", stopped.join(", ")) };
        Ok(output)
    }

    fn resume(&self, cx: &Context<'_>) -> Result<Output> {
        let hold = Hold::new(&cx.state, &cx.tx);
        for unit in &cx.units {
            hold.lift(&unit.name)?;
        }
        if units::look(&names(&cx.units))?.iter().any(Seen::needs_reload) {
            units::reload()?;
        }
        let mut up = Vec::new();
        for unit in cx.units.iter().rev() {
            self.enable(cx, unit)?;
            if unit.active {
                self.systemctl(cx, "start", &unit.name)?;
                let seen = look(&unit.name)?;
                up.push((unit.name.clone(), seen.run().to_owned()));
            } else if look(&unit.name)?.is_up() {
                self.systemctl(cx, "stop", &unit.name)?;
            }
        }
        self.stay_up(cx, &up)?;
        let started: Vec<&str> = up.iter().map(|(name, _)| name.as_str()).collect();
        Ok(Output::note(if up.is_empty() {
            "nothing was up".to_owned()
        } else {
            format!("up: {}", started.join(", "))
        }))
    }

    fn claims(&self, cx: &Context<'_>) -> Result<Vec<String>> {
        Ok(self.find(cx)?.0.into_iter().map(|unit| format!("unit {}", unit.name)).collect())
    }
}

impl Service {
    /// The units in the order of stopping, as they are now, and what a person should know of them.
    fn find(&self, cx: &Context<'_>) -> Result<(Vec<Unit>, Vec<String>)> {
        if !units::is_here() {
            return Err(Error::new("no unit can be stopped: systemd does not run this machine")
                .hint("use a quiesce of kind `command`, with `run` and `resume`"));
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Error::new("only root can stop and start units"));
        }
        let mut wanted = Vec::new();
        for template in &self.units {
            wanted.extend(named(&units::full_name(&template.expand(&cx.scope)?)?)?);
        }
        let mut found: Vec<Seen> = Vec::new();
        let mut along = Vec::new();
        for unit in &wanted {
            add(&mut found, unit.clone(), &mut along)?;
        }
        along.retain(|(name, _)| !wanted.iter().any(|unit| unit.name() == name));
        let told = |(name, needed)| format!("`{name}` needs `{needed}`: it is stopped and started with it");
        let warnings = along.into_iter().map(told).collect();
        // What would start a unit again comes down after it, and so up before it: a socket is not taken over from a
        // service that listens already.
        let mut index = 0;
        while index < found.len() {
            for name in found[index].triggers() {
                let place = found.iter().position(|unit| unit.name() == name);
                let trigger = match place {
                    Some(place) if place < index => {
                        index -= 1;
                        found.remove(place)
                    }
                    Some(_) => continue,
                    None => look(&name)?,
                };
                if place.is_some() || trigger.is_up() {
                    found.insert(index + 1, trigger);
                }
            }
            index += 1;
        }
        let remembered = |unit: &Seen| Unit {
            name: unit.name().to_owned(),
            active: unit.is_up(),
            enabled: unit.enabled().to_owned(),
        };
        Ok((found.iter().map(remembered).collect(), warnings))
    }

    /// Whether the unit is started at boot, as it was; words of systemd's that say neither are left alone.
    fn enable(&self, cx: &Context<'_>, unit: &Unit) -> Result<()> {
        let now = look(&unit.name)?.enabled().to_owned();
        if now == unit.enabled {
            return Ok(());
        }
        if now == "masked" {
            self.systemctl(cx, "unmask", &unit.name)?;
        }
        match unit.enabled.as_str() {
            "enabled" => self.systemctl(cx, "enable", &unit.name),
            "disabled" => self.systemctl(cx, "disable", &unit.name),
            "masked" => self.systemctl(cx, "mask", &unit.name),
            _ => Ok(()),
        }
    }

    fn systemctl(&self, cx: &Context<'_>, verb: &str, unit: &str) -> Result<()> {
        let command = Command {
            program: Program::Run(["systemctl", verb, "--", unit].map(Template::literal).to_vec()),
            user: None,
            dir: Some(Template::literal("/")),
            env: std::collections::BTreeMap::new(),
            env_file: None,
            timeout: Some(self.timeout),
            exit: vec![0],
        };
        run::command(cx, &command, self.timeout).map(drop).map_err(|error| error.hint(journal_of(unit)))
    }

    /// systemd has said that it is stopped; it is when nothing is under way any more. Names what it left running.
    fn wait_until_down(&self, cx: &Context<'_>, unit: &str) -> Result<Option<String>> {
        let deadline = Instant::now() + self.timeout;
        let seen = loop {
            let seen = look(unit)?;
            if seen.is_down() {
                break seen;
            }
            if Instant::now() >= deadline {
                return Err(Error::new(format!("`{unit}` does not stop"))
                    .because(format!("it is {}", seen.state()))
                    .hint(journal_of(unit)));
            }
            cx.go_on()?;
            sleep(LOOK);
        };
        let left = seen.processes().into_iter().filter_map(|pid| Some(format!("{pid} {}", command_line(pid)?)));
        let left: Vec<String> = left.collect();
        Ok((!left.is_empty()).then(|| format!("`{unit}` is stopped and has left running: {}", left.join(", "))))
    }

    /// What was started has to stay up, in the same run: one that dies and is started again by systemd has died.
    fn stay_up(&self, cx: &Context<'_>, up: &[(String, String)]) -> Result<()> {
        let names: Vec<String> = up.iter().map(|(name, _)| name.clone()).collect();
        let until = Instant::now() + self.steady;
        loop {
            for (seen, (name, run)) in units::look(&names)?.iter().zip(up) {
                if !seen.is_steady() || seen.run() != run {
                    let how = if seen.is_steady() { "it is up again, in another run".to_owned() } else { seen.state() };
                    return Err(Error::new(format!("`{name}` came up and died within {}", run::in_words(self.steady)))
                        .because(how)
                        .hint(journal_of(name)));
                }
            }
            if Instant::now() >= until {
                return Ok(());
            }
            cx.go_on()?;
            sleep(LOOK);
        }
    }
}

fn look(name: &str) -> Result<Seen> {
    Ok(units::look(&[name.to_owned()])?.remove(0))
}

fn names(units: &[Unit]) -> Vec<String> {
    units.iter().map(|unit| unit.name.clone()).collect()
}

fn journal_of(unit: &str) -> String {
    format!("`journalctl -u {unit}` says more")
}

/// The units of a name or a pattern. None is an error.
fn named(name: &str) -> Result<Vec<Seen>> {
    if !name.contains(['*', '?', '[']) {
        let unit = look(name)?;
        return match unit.is_there() {
            true => Ok(vec![unit]),
            false => {
                Err(Error::new(format!("there is no unit `{name}`")).hint("`systemctl list-units --all` lists them"))
            }
        };
    }
    match units::like(name)? {
        none if none.is_empty() => {
            Err(Error::new(format!("no unit matches `{name}`")).hint("`systemctl list-units --all` lists them"))
        }
        names => units::look(&names),
    }
}

/// Adds a unit, and before it those that systemd stops with it, because they need it. `along` names them.
fn add(found: &mut Vec<Seen>, unit: Seen, along: &mut Vec<(String, String)>) -> Result<()> {
    if found.iter().any(|other| other.name() == unit.name()) {
        return Ok(());
    }
    let name = unit.name().to_owned();
    let mut dependents = units::look(&unit.dependents())?;
    // A target does nothing by itself. Two that need each other find each other in the list.
    dependents.retain(|unit| unit.is_up() && !unit.name().ends_with(".target"));
    found.push(unit);
    for dependent in dependents {
        along.push((dependent.name().to_owned(), name.clone()));
        add(found, dependent, along)?;
    }
    if let Some(place) = found.iter().position(|unit| unit.name() == name) {
        let unit = found.remove(place);
        found.push(unit);
    }
    Ok(())
}
