//! What has happened to a transaction, in the past tense.
//!
//! Events are journaled as JSON (`schemas/event.schema.json`); nothing but them is the truth about a transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Itinerary, TaskId};
use crate::error::Error;

/// One thing that has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The transaction exists. Always the first event, and never again.
    Begun(Box<Begun>),
    /// It is now to go as far as `goal`.
    Aimed {
        /// How far.
        goal: Goal,
        /// Who carries it out from here.
        runner: Runner,
    },
    /// A task is about to act.
    Started {
        /// Which.
        task: TaskId,
        /// Who runs it.
        runner: Runner,
    },
    /// It ended well.
    Succeeded {
        /// Which.
        task: TaskId,
        /// What it returned; read back by later tasks.
        #[serde(default, skip_serializing_if = "Output::is_empty")]
        output: Output,
    },
    /// It failed.
    Failed {
        /// Which.
        task: TaskId,
        /// Why.
        failure: Error,
    },
    /// The process that carried it out is gone, and another has taken over.
    Interrupted {
        /// The task that was under way, if one was; of several the first, and with it all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<TaskId>,
        /// Whether the machine was started anew since: then what a quiesce stopped may be up again.
        boot: Boot,
        /// Who takes over.
        runner: Runner,
    },
    /// The operator says that he has done this step by hand.
    Skipped {
        /// Which step.
        task: TaskId,
    },
    /// All checks have passed; the commit waits for its confirmation.
    Awaiting {
        /// Until when (wall clock), RFC 3339.
        until: String,
        /// How long it waits, in seconds.
        seconds: u64,
        /// The monotonic clock (since boot, suspended time included) when it began to wait, in nanoseconds.
        since_boot: u64,
        /// Which boot that clock belongs to.
        boot_id: String,
    },
    /// The confirmation came in time.
    Confirmed,
    /// From here only the backward list runs.
    TurnedBack {
        /// Why.
        reason: Reason,
    },
    /// A task of the way back cannot be done; a person is needed.
    Stuck {
        /// The first that failed.
        task: TaskId,
    },
    /// What failed is to be tried again.
    Retried {
        /// Whether what is damaged is to be left out.
        #[serde(default)]
        extent: Extent,
    },
    /// The last event.
    Ended {
        /// In which world.
        outcome: Outcome,
    },
}

/// What `Begun` says once for the whole transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The plan's text, as an object of the store.
    pub plan: String,
    /// Where the plan file was (absolute); what it names relatively is relative to its directory.
    pub path: String,
    /// `--set key=value`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// The variables that are lists, as they were read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, Vec<String>>,
    /// Instances left out because a `when` did not hold: `step migrate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Notices that were accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// What no other open transaction may touch: `path /opt/notes`, `database …`, `unit …`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// The committed transactions that this one undoes, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undoes: Vec<String>,
    /// What will be done.
    pub itinerary: Itinerary,
    /// How far it is to go.
    pub goal: Goal,
    /// Who carries it out.
    pub runner: Runner,
}

/// How far a transaction is to go before it waits for its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Everything is captured and proved.
    Captured,
    /// Every step has run.
    Applied,
    /// Resumed, verified and ended.
    Committed,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The new world, verified.
    Committed,
    /// Nothing was changed.
    Aborted,
    /// The old world, restored.
    RolledBack,
    /// A person has settled it by hand.
    Released,
}

/// Why a transaction turned back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Reason {
    /// A task failed.
    Failed {
        /// Which.
        task: TaskId,
    },
    /// The process or the machine died while it was under way.
    Died,
    /// The operator asked for it.
    Asked,
    /// A signal asked for it.
    Signal {
        /// Its number.
        number: i32,
    },
    /// `confirm_within` was over.
    NotConfirmed,
}

/// Whether the machine was started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// It is the same boot.
    Same,
    /// It is another.
    Other,
}

/// How much a retry is to restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// Everything.
    #[default]
    Whole,
    /// What can be restored although some of what is needed is damaged.
    Partial,
}

/// The process that carries a transaction out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// Its process id.
    pub pid: u32,
    /// When it was started, in nanoseconds since boot.
    pub start: u64,
    /// Which boot that is.
    pub boot_id: String,
}

/// What a task returned. It travels through the journal, so that a recovered transaction reads what a live one reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Output {
    /// The manifest of what was captured: an object of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The version that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Bytes read or expected, whatever the task measures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes that the store grew by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// What a person would like to know, in a few words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What a person has to know though nothing failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Displaced and side copies that stay until the end of the transaction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Units of the service manager as they were found before anything was stopped, in the order of stopping.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
}

/// A unit of the service manager, as a quiesce found it and its resume brings it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `shop.service`.
    pub name: String,
    /// Whether it was up.
    pub active: bool,
    /// Whether it is started at boot, in the manager's own word: `enabled`, `disabled`, `static` …
    pub enabled: String,
}

impl Output {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Output::default()
    }

    /// An output that only tells something.
    pub fn note(note: impl Into<String>) -> Output {
        Output { note: note.into(), ..Output::default() }
    }
}
