//! What a transaction claims for itself, and which open one claims the same.
//!
//! Pure. A claim is a kind and a value, `path /opt/notes`; paths clash when they are equal or one lies in the other,
//! everything else when it is equal. Two open transactions of one plan always clash.

use std::path::Path;

use crate::error::{Error, Fault, Result};
use crate::name::{Name, TxId};
use crate::tx::Begun;

/// Refuses a transaction of `plan` that clashes with one of `open`.
pub(super) fn refuse_overlap(plan: &Name, begun: &Begun, open: &[(TxId, Begun)]) -> Result<()> {
    for (tx, theirs) in open {
        let why = begun.claims.iter().find_map(|ours| theirs.claims.iter().find_map(|their| clash(ours, their, tx)));
        let why = why.or_else(|| (tx.plan == *plan).then(|| "it is a transaction of the same plan".to_owned()));
        if let Some(why) = why {
            return Err(Error::new(format!("`{plan}` overlaps with `{tx}`, which is not finished"))
                .because(why)
                .hint(format!(
                    "`txupgrade show {tx}` says where it is; commit it, roll it back or `txupgrade recover` it first"
                ))
                .fault(Fault::Overlap));
        }
    }
    Ok(())
}

/// Whether two claims are of the same thing: equal or nested paths, otherwise equal.
pub fn claims_overlap(ours: &str, theirs: &str) -> bool {
    match (ours.strip_prefix("path "), theirs.strip_prefix("path ")) {
        (Some(ours), Some(theirs)) => Path::new(ours).starts_with(theirs) || Path::new(theirs).starts_with(ours),
        _ => ours == theirs,
    }
}

fn clash(ours: &str, theirs: &str, tx: &TxId) -> Option<String> {
    if !claims_overlap(ours, theirs) {
        return None;
    }
    let said = |claim: &str| match claim.split_once(' ') {
        Some(("path", value)) => format!("`{value}`"),
        Some((kind, value)) => format!("{kind} `{value}`"),
        None => format!("`{claim}`"),
    };
    if let (Some(our), Some(their)) = (ours.strip_prefix("path "), theirs.strip_prefix("path ")) {
        // By components: `/opt/notes-old` does not lie in `/opt/notes`, and `/opt/notes/` is `/opt/notes`.
        let (inner, outer) = (Path::new(our), Path::new(their));
        if inner == outer {
            return Some(format!("both have {}", said(theirs)));
        }
        if inner.starts_with(outer) {
            return Some(format!("{} lies in {} of `{tx}`", said(ours), said(theirs)));
        }
        return Some(format!("{} of `{tx}` lies in {}", said(theirs), said(ours)));
    }
    Some(format!("both have the {}", said(theirs)))
}
