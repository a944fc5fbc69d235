//! What `--json` prints: one object per command, each with its own `schema` (`schemas/output.schema.json`).
//!
//! Every key is always there; what is not known is `null`. Times are RFC 3339, durations seconds, sizes bytes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Fault};
use crate::ops::{Forecast, Happening, History, LogFile, Open, Past, Place, RollbackPreview, Shown, Standing};
use crate::resource::Changes;
use crate::tx::{Event, TaskId};

/// An object of `kind`, version 1, with the exit status that goes with it.
pub(crate) fn object(kind: &str, exit: u8, fields: Value) -> Value {
    let mut object = json!({ "schema": format!("txupgrade/{kind}/1"), "exit": exit });
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

/// An error that ended the command.
pub(crate) fn error(error: &Error, exit: u8) -> Value {
    object("error", exit, json!({ "error": failure(error) }))
}

/// Where one transaction stands after the command.
pub(crate) fn standing(standing: &Standing, exit: u8) -> Value {
    object("standing", exit, stands(standing))
}

/// An error as it stands inside other objects.
pub(crate) fn failure(error: &Error) -> Value {
    let fault = match error.fault {
        Fault::Failed => "failed",
        Fault::Usage => "usage",
        Fault::Overlap => "overlap",
        Fault::Locked => "locked",
        Fault::Damage => "damage",
        Fault::Left => "left",
        Fault::Signal(_) => "signal",
    };
    json!({ "statement": error.statement, "causes": error.causes, "hints": error.hints, "fault": fault })
}

/// The name of a place: of the outcome, where it has ended.
pub(crate) fn place(place: &Place) -> Value {
    match place {
        Place::Ended { outcome, .. } => json!(outcome),
        Place::Captured => json!("captured"),
        Place::Applied => json!("applied"),
        Place::OnHold { .. } => json!("on-hold"),
        Place::Unconfirmed { .. } => json!("unconfirmed"),
        Place::Stuck { .. } => json!("stuck"),
        Place::Abandoned => json!("abandoned"),
        Place::Running => json!("running"),
    }
}

/// A standing without the schema.
pub(crate) fn stands(standing: &Standing) -> Value {
    let failed = |(task, error): &(TaskId, Error)| json!({ "task": task, "error": failure(error) });
    let mut object = json!({
        "tx": standing.tx,
        "place": place(&standing.place),
        "reason": standing.reason,
        "failure": standing.failure.as_ref().map(failed),
        "others": standing.others.iter().map(failed).collect::<Vec<_>>(),
        "warnings": standing.warnings,
        "from": standing.from,
        "to": standing.to,
        "took": seconds(standing.took),
        "downtime": standing.downtime.map(seconds),
    });
    match &standing.place {
        Place::Ended { unsound, .. } => object["unsound"] = json!(unsound),
        Place::OnHold { task } => object["task"] = json!(task),
        Place::Unconfirmed { until, left } => {
            object["until"] = json!(until);
            object["left"] = json!(left.map(seconds));
        }
        Place::Stuck { task, restored, not_restored } => {
            object["task"] = json!(task);
            object["restored"] = json!(restored);
            object["not_restored"] = json!(not_restored);
        }
        Place::Captured | Place::Applied | Place::Abandoned | Place::Running => {}
    }
    object
}

/// What `plan` forecasts.
pub(crate) fn forecast(forecast: &Forecast, exit: u8) -> Value {
    let tasks: Vec<Value> = forecast
        .tasks
        .iter()
        .map(|task| {
            json!({
                "task": task.task, "does": task.does, "undo": task.undo, "depth": task.depth,
                "timeout": task.timeout.map(seconds),
            })
        })
        .collect();
    let findings: Vec<Value> = forecast
        .findings
        .iter()
        .map(|(check, finding)| json!({ "check": check, "passed": finding.passed(), "found": finding.found }))
        .collect();
    let notices: Vec<Value> =
        forecast.notices.iter().map(|(name, text)| json!({ "name": name, "text": text })).collect();
    let fields = json!({
        "name": forecast.name,
        "summary": forecast.summary,
        "from": forecast.from,
        "to": forecast.to,
        "tasks": tasks,
        "findings": findings,
        "bytes": forecast.bytes,
        "free": forecast.free,
        "seconds": forecast.seconds,
        "proof_seconds": forecast.proof_seconds,
        "notices": notices,
        "warnings": forecast.warnings,
    });
    object("forecast", exit, fields)
}

/// What a rollback would do.
pub(crate) fn preview(preview: &RollbackPreview, exit: u8) -> Value {
    let changes: Vec<Value> = preview
        .changes
        .iter()
        .map(|(resource, changes)| json!({ "resource": resource, "changes": items(changes) }))
        .collect();
    let fields = json!({
        "tx": preview.tx, "of": preview.of, "later": preview.later, "open": preview.open, "resources": changes,
    });
    object("rollback-preview", exit, fields)
}

/// Differing items.
pub(crate) fn items(changes: &Changes) -> Value {
    let items: Vec<Value> = changes
        .items
        .iter()
        .map(|item| json!({ "what": item.what, "name": item.name, "details": item.details, "secret": item.secret }))
        .collect();
    Value::Array(items)
}

/// The open transactions.
pub(crate) fn status(open: &[Open], exit: u8) -> Value {
    object("status", exit, json!({ "open": open.iter().map(self::open).collect::<Vec<_>>() }))
}

fn open(open: &Open) -> Value {
    let mut object = stands(&open.standing);
    let more = json!({
        "purpose": open.purpose,
        "plan": open.plan,
        "goal": open.goal,
        "began": open.began,
        "since": open.since,
        "under_way": open.task,
        "tasks_done": open.done.0,
        "tasks": open.done.1,
        "pid": open.pid,
        "kept_down": open.down.iter().map(|down| &down.quiesce).collect::<Vec<_>>(),
        "units_down": open.down.iter().flat_map(|down| &down.units).collect::<Vec<_>>(),
        "steps_missing": open.missing,
    });
    extend(&mut object, more);
    object
}

/// All transactions.
pub(crate) fn history(history: &History, exit: u8) -> Value {
    let unreadable: Vec<Value> =
        history.unreadable.iter().map(|(tx, error)| json!({ "tx": tx, "error": failure(error) })).collect();
    let verified = history.verified.as_ref().map(|verified| {
        json!({ "events": verified.events, "transactions": verified.transactions, "last": verified.last.to_string() })
    });
    let fields = json!({
        "transactions": history.transactions.iter().map(past).collect::<Vec<_>>(),
        "unreadable": unreadable,
        "verified": verified,
    });
    object("history", exit, fields)
}

fn past(past: &Past) -> Value {
    let mut object = stands(&past.standing);
    let more = json!({
        "purpose": past.purpose,
        "plan": past.plan,
        "began": past.began,
        "bytes": past.bytes,
        "stored": past.stored,
        "undoes": past.undoes,
        "undone_by": past.undone_by,
    });
    extend(&mut object, more);
    object
}

/// One transaction with its timeline.
pub(crate) fn shown(shown: &Shown, exit: u8) -> Value {
    let timeline: Vec<Value> = shown
        .timeline
        .iter()
        .map(|moment| {
            let mut line = match &moment.what {
                Happening::Did { task, took, output } => {
                    json!({ "what": "succeeded", "task": task, "took": seconds(*took), "output": output })
                }
                Happening::Failed { task, took, failure } => json!({
                    "what": "failed", "task": task, "took": seconds(*took), "error": self::failure(failure),
                }),
                Happening::Unended { task } => json!({ "what": "unended", "task": task }),
                Happening::Event(event) => json!({ "what": "event", "event": briefly(event) }),
            };
            line["at"] = json!(moment.at);
            line
        })
        .collect();
    let mut fields = past(&shown.past);
    let more = json!({
        "open": shown.open.as_ref().map(open),
        "set": shown.begun.set,
        "accepted": shown.begun.accepted,
        "left_out": shown.begun.left_out,
        "claims": shown.begun.claims,
        "timeline": timeline,
        "logs": logs(&shown.logs),
    });
    extend(&mut fields, more);
    object("show", exit, fields)
}

/// Log files.
pub(crate) fn logs(files: &[LogFile]) -> Value {
    Value::Array(files.iter().map(|file| json!({ "task": file.task, "path": file.path.to_string_lossy() })).collect())
}

/// An event as it is journaled; of `begun` only its name, for the rest of it stands elsewhere.
fn briefly(event: &Event) -> Value {
    match event {
        Event::Begun(_) => json!({ "event": "begun" }),
        event => json!(event),
    }
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// A duration in seconds, to the millisecond.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
