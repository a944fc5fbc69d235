//! `plan`: the dry run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::ui::Paint;
use super::{Answer, Cx, exit, json, report, run::Set, words};
use crate::error::Result;
use crate::ops::{self, Forecast};

/// The dry run: check a plan and every requirement, show each task with its undo
///
/// Reads the plan, asks every requirement, and shows what would be done in which order, how each task is undone,
/// how many bytes would be captured and how long that takes. It changes nothing and leaves nothing behind. A step
/// that neither a resource nor an undo of its own takes back is marked irreversible.
#[derive(Debug, Args)]
#[command(after_long_help = exit::help(
    &[exit::DONE, exit::FAILED, exit::USAGE],
    &["txupgrade plan notes.toml", "txupgrade plan notes.toml --set home=/srv/notes"],
))]
pub(super) struct Plan {
    /// The plan's file
    plan: PathBuf,
    #[command(flatten)]
    set: Set,
}

impl Plan {
    pub(super) fn perform(self, cx: &Cx) -> Result<Answer> {
        let forecast = ops::plan(&cx.looking(), &self.plan, &self.set.values())?;
        Ok(answer(&forecast, cx.ui.out, cx.ui.err))
    }
}

pub(super) fn answer(forecast: &Forecast, out: Paint, err: Paint) -> Answer {
    let unmet: Vec<&str> =
        forecast.findings.iter().filter(|(_, finding)| !finding.passed()).map(|(check, _)| check.as_str()).collect();
    let exit = if unmet.is_empty() { exit::DONE } else { exit::FAILED };
    let mut talk = String::new();
    for warning in &forecast.warnings {
        talk.push_str(&format!("{} {}\n", err.warn("warning:"), words::clean(warning)));
    }
    if !unmet.is_empty() {
        let unmet: Vec<String> = unmet.iter().map(|check| format!("`{}`", words::clean(check))).collect();
        let verb = if unmet.len() == 1 { "does" } else { "do" };
        talk.push_str(&format!(
            "{} {} {verb} not pass; `run` would refuse to begin\n",
            err.bad("error:"),
            words::list(&unmet)
        ));
    }
    Answer { json: json::forecast(forecast, exit), data: render(forecast, out), talk, exit }
}

fn render(forecast: &Forecast, paint: Paint) -> String {
    let mut text = paint.bold(&words::clean(&forecast.name));
    if !forecast.summary.is_empty() {
        text.push_str(&format!(": {}", words::clean(&forecast.summary)));
    }
    if let Some(versions) = report::versions(forecast.from.as_deref(), forecast.to.as_deref()) {
        text.push_str(&format!(" ({versions})"));
    }
    text.push_str("\n\n");
    let rows: Vec<Vec<String>> = forecast
        .tasks
        .iter()
        .map(|task| {
            let undo = match task.undo.as_deref() {
                Some("irreversible") => paint.warn("irreversible"),
                Some(undo) => paint.dim(&format!("back: {}", words::clean(undo))),
                None => String::new(),
            };
            let limit = task.timeout.map(|limit| paint.dim(&format!("at most {}", words::span(limit))));
            vec![
                format!("{}{}", "  ".repeat(task.depth + 1), words::clean(&task.task)),
                words::clean(&task.does).into_owned(),
                limit.unwrap_or_default(),
                undo,
            ]
        })
        .collect();
    text.push_str(&words::table(&rows));
    if !forecast.findings.is_empty() {
        text.push('\n');
        let rows: Vec<Vec<String>> = forecast
            .findings
            .iter()
            .map(|(check, finding)| {
                let answer = if finding.passed() { paint.good("yes") } else { paint.bad("no") };
                vec![format!("  {answer}"), words::clean(check).into_owned(), words::clean(&finding.found).into_owned()]
            })
            .collect();
        text.push_str(&words::table(&rows));
    }
    for (name, notice) in &forecast.notices {
        let accept = paint.hint(&format!("--accept {}", words::clean(name)));
        text.push_str(&format!(
            "\nnotice {}: {}\n  {accept}\n",
            words::clean(name),
            notice.lines().map(words::clean).collect::<Vec<_>>().join("\n  ")
        ));
    }
    let time = |seconds: Option<f64>| match seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
        None => String::new(),
        Some(..1.0) => ", in less than a second".to_owned(),
        Some(seconds) => format!(", in about {}", words::span(Duration::from_secs_f64(seconds.min(1e9)))),
    };
    let proof = time(forecast.proof_seconds).replacen(',', ", and to prove", 1);
    text.push_str(&format!(
        "\n{} to capture{}{proof}; {} free for the store\n",
        words::bytes(forecast.bytes),
        time(forecast.seconds),
        words::bytes(forecast.free)
    ));
    text
}
