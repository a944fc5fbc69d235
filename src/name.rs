//! The identifiers people type: names of plans and entries, and transactions such as `notes-3`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The name of a plan or of an entry of one of its lists: `a-z`, `0-9` and `-`, not first or last a `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Name, Error> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || !text.chars().all(legal) || text.starts_with('-') || text.ends_with('-') {
            return Err(Error::new(format!("`{text}` is not a name"))
                .hint("a name has letters a-z, digits and dashes, and neither begins nor ends with a dash"));
        }
        if text.len() > 64 {
            return Err(Error::new(format!("the name `{text}` is longer than 64 characters")));
        }
        Ok(Name(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(text: String) -> Result<Name, Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A transaction: the plan's name and the number of the attempt, as in `notes-3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TxId {
    /// The plan's name.
    pub plan: Name,
    /// Which attempt, from 1.
    pub number: u32,
}

impl FromStr for TxId {
    type Err = Error;

    fn from_str(text: &str) -> Result<TxId, Error> {
        let wrong = || {
            Error::new(format!("`{text}` is not a transaction"))
                .hint("a transaction is a plan's name and a number, as in `notes-3`; `txupgrade history` lists them")
        };
        let (plan, number) = text.rsplit_once('-').ok_or_else(wrong)?;
        let plan = plan.parse().map_err(|_| wrong())?;
        let number = number.parse().map_err(|_| wrong())?;
        if number == 0 || text.ends_with(&format!("-0{number}")) {
            return Err(wrong());
        }
        Ok(TxId { plan, number })
    }
}

impl TryFrom<String> for TxId {
    type Error = Error;

    fn try_from(text: String) -> Result<TxId, Error> {
        text.parse()
    }
}

impl From<TxId> for String {
    fn from(tx: TxId) -> String {
        tx.to_string()
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.plan, self.number)
    }
}
