//! Stubs of the acting verbs; replaced by one file per verb.
#![allow(clippy::todo, missing_docs, clippy::needless_pass_by_value)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Site, Standing};
use crate::error::Result;
use crate::name::TxId;
use crate::resource::Changes;
use crate::tx::{Extent, Goal};

pub struct BeginRequest {
    pub plan: PathBuf,
    pub set: BTreeMap<String, String>,
    pub accept: Accept,
    pub goal: Goal,
    pub wait: Wait,
}
pub type AskNotice = dyn Fn(&str, &str) -> bool;
pub enum Accept {
    Names(Vec<String>),
    All,
    Ask(Box<AskNotice>),
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    No,
    UntilSettled,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepsDone {
    AsJournaled,
    ByHand,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    OnlyThis,
    Later,
}
#[derive(Debug, Clone)]
pub struct RollbackOptions {
    pub extent: Extent,
    pub through: Through,
}
#[derive(Debug, Clone)]
pub struct RollbackPreview {
    pub tx: TxId,
    pub of: Vec<TxId>,
    pub changes: Vec<(String, Changes)>,
    pub later: Vec<TxId>,
    pub open: bool,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtBoot {
    Yes,
    No,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    Resume,
    LeaveDown,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Asked,
    NotAsked,
}
#[derive(Debug, Clone)]
pub struct ForecastTask {
    pub task: String,
    pub does: String,
    pub undo: Option<String>,
    pub depth: usize,
    pub timeout: Option<Duration>,
}
#[derive(Debug, Clone)]
pub struct Forecast {
    pub name: String,
    pub summary: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub tasks: Vec<ForecastTask>,
    pub findings: Vec<(String, bool, String)>,
    pub bytes: u64,
    pub free: u64,
    pub seconds: Option<f64>,
    pub notices: Vec<(String, String)>,
    pub warnings: Vec<String>,
}
#[derive(Debug, Clone)]
pub struct ResourceDiff {
    pub resource: String,
    pub changes: Changes,
    pub patches: Vec<(String, String)>,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    NotShown,
    Shown,
}

pub fn run(_: &Site, _: BeginRequest) -> Result<Standing> {
    todo!()
}
pub fn apply(_: &Site, _: Option<&TxId>, _: &[String]) -> Result<Standing> {
    todo!()
}
pub fn commit(_: &Site, _: Option<&TxId>, _: StepsDone, _: Wait) -> Result<Standing> {
    todo!()
}
pub fn confirm(_: &Site, _: Option<&TxId>) -> Result<Standing> {
    todo!()
}
pub fn rollback(_: &Site, _: Option<&TxId>, _: RollbackOptions) -> Result<Standing> {
    todo!()
}
pub fn rollback_preview(_: &Site, _: Option<&TxId>, _: Through) -> Result<RollbackPreview> {
    todo!()
}
pub fn recover(_: &Site, _: AtBoot) -> Result<Vec<Standing>> {
    todo!()
}
pub fn release(_: &Site, _: &TxId, _: Services) -> Result<(Standing, Vec<PathBuf>)> {
    todo!()
}
pub fn snapshot(_: &Site, _: &Path, _: &BTreeMap<String, String>, _: Proof) -> Result<Standing> {
    todo!()
}
pub fn plan(_: &Site, _: &Path, _: &BTreeMap<String, String>) -> Result<Forecast> {
    todo!()
}
pub fn diff(_: &Site, _: Option<&TxId>, _: Patch) -> Result<Vec<ResourceDiff>> {
    todo!()
}
