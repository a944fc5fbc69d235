//! The live database against its manifest: what was remembered, what differs, and what a restore has to do about it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::copy::hash;
use super::file::{Access, Attributes, Found, found};
use super::fingerprint;
use super::look::{holder, is_needed_beside, side, with_database};
use super::words::{in_words, is_damage};
use crate::context::Context;
use crate::error::{OrSay, Result};
use crate::resource::fingerprint::Fingerprint;
use crate::resource::{Change, Changes, What};
use crate::store::ObjectId;

/// What a manifest remembers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) struct Facts {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) absent: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<Attributes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) directory: Option<Access>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint: Option<Fingerprint>,
    /// The BLAKE3 of the live file, where what is stored is that very file, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exact: Option<String>,
    /// Whether there was a journal beside it, such as one that is kept for the next transaction.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) journal: bool,
}

pub(super) fn facts(cx: &Context<'_>, manifest: ObjectId) -> Result<Facts> {
    let head = cx.store.head(manifest)?;
    serde_json::from_value(head.facts).or_say(|| format!("the manifest of `{}` is not that of a database", cx.subject))
}

pub(super) fn differences(path: &Path, facts: &Facts, cx: &Context<'_>) -> Result<Changes> {
    let place = path.display().to_string();
    let whole = |what: What, details: Vec<String>| Changes {
        items: vec![Change { what, name: place.clone(), details, secret: false }],
    };
    let (Some(attributes), Some(fingerprint)) = (&facts.file, &facts.fingerprint) else {
        return Ok(match found(path)? {
            Found::Nothing => Changes::default(),
            _ => whole(What::Added, Vec::new()),
        });
    };
    match found(path)? {
        Found::Nothing => return Ok(whole(What::Removed, Vec::new())),
        Found::Other(what) => return Ok(whole(What::Changed, vec![format!("{REPLACED}{what}")])),
        Found::File => {}
    }
    let live = with_database(path, &cx.tmp, |looked| {
        match fingerprint::of(&looked.connection, looked.log, &mut || cx.go_on()) {
            Ok(print) => Ok(Ok(print?)),
            Err(error) if is_damage(&error) => Ok(Err(error.to_string())),
            Err(error) => Err(in_words(error, path)),
        }
    })?;
    let mut items = Vec::new();
    let details = attributes.details(&Attributes::of(path)?);
    if !details.is_empty() {
        items.push(Change { what: What::Changed, name: place.clone(), details, secret: false });
    }
    match live {
        Ok(live) => items.extend(fingerprint.changes(&live, SETTINGS)),
        Err(why) => {
            items.push(Change { what: What::Changed, name: SETTINGS.to_owned(), details: vec![why], secret: false })
        }
    }
    Ok(Changes { items })
}

/// What a change of the database as a whole is called, beside changes of its tables and of its file.
pub(super) const SETTINGS: &str = "the database";
const REPLACED: &str = "now ";

/// Whether more than the attributes of the file differs.
pub(super) fn content_differs(changes: &Changes, path: &Path) -> bool {
    let place = path.display().to_string();
    !changes.items.iter().all(|change| {
        change.name == place
            && change.what == What::Changed
            && !change.details.iter().any(|detail| detail.starts_with(REPLACED))
    })
}

/// What a restore has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    Nothing,
    /// Owner, mode, time and the like.
    Attributes,
    Replace,
}

/// A database that says the same may still be another file: vacuumed, touched, or one that says it only together with
/// what a writer that died has left in a log. Where nobody has it open and the very file was stored, that very file is
/// put back; `None` where it was not.
pub(super) fn exactness(path: &Path, facts: &Facts) -> Result<Option<Needed>> {
    let (Some(attributes), Some(exact)) = (&facts.file, &facts.exact) else { return Ok(None) };
    if holder(path)?.is_some() {
        return Ok(None);
    }
    if is_needed_beside(path) || (has_journal(path)? && !facts.journal) {
        return Ok(Some(Needed::Replace));
    }
    if Attributes::of(path)? == *attributes {
        return Ok(None);
    }
    Ok(Some(if hash(path)? == *exact { Needed::Attributes } else { Needed::Replace }))
}

pub(super) fn has_journal(path: &Path) -> Result<bool> {
    Ok(found(&side(path, "-journal"))? != Found::Nothing)
}
