//! Ranges of versions: `>=1.4, <2.0`, `=2.0.0`, `>=${from}`.
//!
//! Promise: a range that was parsed and filled in always has an answer for what reads as a version.

use std::cmp::Ordering;
use std::str::FromStr;

use super::semver::Partial;
use super::{Scheme, debian, pep440};
use crate::error::{Error, Result};
use crate::plan::report::list;
use crate::plan::{Scope, Template};

/// A range such as `>=1.4, <2.0`; clauses `= == != < <= > >= ~ ^ ~=` joined by commas.
///
/// Under `semver` a clause may name a part of a version: `=1.4` is 1.4.0 up to, but without, 1.5.0; `<2.0` leaves
/// out 2.0.0's own prereleases, unless it names one.
#[derive(Debug, Clone)]
pub struct Range {
    text: String,
    scheme: Scheme,
    template: Template,
}

/// How a clause compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Tilde,
    Caret,
    Compatible,
}

/// In the order in which they are looked for: a longer one before its beginning.
const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("~=", Operator::Compatible),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

impl Scheme {
    fn operators(self) -> &'static [&'static str] {
        match self {
            Scheme::Semver => &["=", "==", "!=", "<", "<=", ">", ">=", "~", "^", "~="],
            Scheme::Pep440 => &["=", "==", "!=", "<", "<=", ">", ">=", "~="],
            Scheme::Debian => &["=", "==", "!=", "<", "<=", ">", ">="],
            Scheme::Exact => &["=", "==", "!="],
        }
    }
}

impl Range {
    /// Parses; `Err` says what is wrong. Variables may stand in it, see [`Range::fill`].
    pub fn parse(text: &str, scheme: Scheme) -> std::result::Result<Range, String> {
        let template = Template::parse(text)?;
        // A number stands for a variable while the form is tried.
        let trial = template.fill(|_| Ok("0".to_owned())).map_err(|e| e.to_string())?;
        for clause in clauses(&trial, scheme)? {
            clause.reads(scheme)?;
        }
        Ok(Range { text: text.to_owned(), scheme, template })
    }

    /// The same range with its variables filled in.
    pub fn fill(&self, scope: &Scope) -> Result<Range> {
        let text = self.template.expand(scope)?;
        let range = Range::parse(&text.replace("${", "$${"), self.scheme);
        range.map_err(|e| Error::new(format!("`{}` is not a range of versions", self.text)).because(e))
    }

    /// Whether `version` is in it; `Err` when it does not read as a version of the scheme.
    pub fn holds(&self, version: &str) -> Result<bool> {
        let text = self.template.expand(&Scope::default())?;
        for clause in clauses(&text, self.scheme).map_err(Error::new)? {
            if !clause.holds(version, self.scheme)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of its variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.template.variables()
    }

    /// The version, when the range names just one in full (`=2.0.0`).
    pub fn only(&self) -> Option<String> {
        let text = self.template.expand(&Scope::default()).ok()?;
        let clauses = clauses(&text, self.scheme).ok()?;
        let [Clause { operator: Operator::Equal, version }] = clauses.as_slice() else {
            return None;
        };
        let whole = match self.scheme {
            Scheme::Semver => Partial::parse(version).ok()?.numbers == 3,
            _ => !version.ends_with(".*"),
        };
        whole.then(|| version.clone())
    }
}

struct Clause {
    operator: Operator,
    version: String,
}

fn clauses(text: &str, scheme: Scheme) -> std::result::Result<Vec<Clause>, String> {
    text.split(',').map(|clause| Clause::parse(clause.trim(), scheme)).collect()
}

impl Clause {
    fn parse(text: &str, scheme: Scheme) -> std::result::Result<Clause, String> {
        if text.is_empty() {
            return Err("a clause of the range is empty".into());
        }
        let sign = text.find(|c| !"=!<>~^".contains(c)).unwrap_or(text.len());
        let (sign, version) = (&text[..sign], text[sign..].trim());
        if sign.is_empty() {
            return Err(format!("`{text}` does not say how to compare; did you mean `={text}` or `>={text}`?"));
        }
        let operator = OPERATORS.iter().find(|(s, _)| *s == sign).map(|(_, operator)| *operator);
        match operator.filter(|_| scheme.operators().contains(&sign)) {
            None => Err(format!("the scheme `{}` has no `{sign}`; it has {}", scheme.word(), list(scheme.operators()))),
            Some(_) if version.is_empty() => Err(format!("no version follows the `{sign}`")),
            Some(operator) => Ok(Clause { operator, version: version.to_owned() }),
        }
    }

    /// Whether its own version is one.
    fn reads(&self, scheme: Scheme) -> std::result::Result<(), String> {
        match scheme {
            Scheme::Semver => {
                let partial = Partial::parse(&self.version).map_err(|e| e.to_string())?;
                if self.operator == Operator::Compatible && partial.numbers == 1 {
                    return Err(format!("`~={}` needs at least two numbers", self.version));
                }
            }
            Scheme::Pep440 => drop(self.specifier()?),
            Scheme::Debian => drop(debian::Version::parse(&self.version).map_err(|e| e.to_string())?),
            Scheme::Exact => {}
        }
        Ok(())
    }

    fn specifier(&self) -> std::result::Result<pep440_rs::VersionSpecifier, String> {
        let sign = match self.operator {
            Operator::Equal => "==",
            Operator::Unequal => "!=",
            Operator::Less => "<",
            Operator::AtMost => "<=",
            Operator::Greater => ">",
            Operator::AtLeast => ">=",
            _ => "~=",
        };
        pep440_rs::VersionSpecifier::from_str(&format!("{sign}{}", self.version)).map_err(|e| {
            format!("`{}` is not a version of the scheme `pep440`: {}", self.version, first_line(&e.to_string()))
        })
    }

    fn holds(&self, version: &str, scheme: Scheme) -> Result<bool> {
        let order = match scheme {
            Scheme::Semver => return self.holds_semver(version),
            Scheme::Pep440 => return Ok(self.specifier().map_err(Error::new)?.contains(&pep440(version)?)),
            Scheme::Debian => debian::Version::parse(version)?.cmp(&debian::Version::parse(&self.version)?),
            Scheme::Exact if version.trim() == self.version => Ordering::Equal,
            Scheme::Exact => Ordering::Less,
        };
        Ok(match self.operator {
            Operator::Equal => order.is_eq(),
            Operator::Unequal => order.is_ne(),
            Operator::Less => order.is_lt(),
            Operator::AtMost => order.is_le(),
            Operator::Greater => order.is_gt(),
            Operator::AtLeast => order.is_ge(),
            // The parser lets these through for schemes that have returned above.
            Operator::Tilde | Operator::Caret | Operator::Compatible => false,
        })
    }

    fn holds_semver(&self, version: &str) -> Result<bool> {
        let version = Partial::version(version)?;
        let partial = Partial::parse(&self.version)?;
        let (low, numbers) = (&partial.low, partial.numbers);
        let from = |low: &::semver::Version| version.cmp_precedence(low).is_ge();
        // Prereleases of the bound itself are not before it, as in PEP 440, unless the bound is one.
        let before = |bound: &::semver::Version| {
            let same = (version.major, version.minor, version.patch) == (bound.major, bound.minor, bound.patch);
            version.cmp_precedence(bound).is_lt() && !(same && bound.pre.is_empty())
        };
        let equal = || match numbers {
            3 => version.cmp_precedence(low).is_eq(),
            _ => from(low) && before(&partial.next(numbers)),
        };
        Ok(match self.operator {
            Operator::Equal => equal(),
            Operator::Unequal => !equal(),
            Operator::Less => before(low),
            Operator::AtMost if numbers == 3 => version.cmp_precedence(low).is_le(),
            Operator::AtMost => before(&partial.next(numbers)),
            Operator::Greater if numbers == 3 => version.cmp_precedence(low).is_gt(),
            Operator::Greater => from(&partial.next(numbers)),
            Operator::AtLeast => from(low),
            Operator::Tilde => from(low) && before(&partial.next(numbers.min(2))),
            Operator::Compatible => from(low) && before(&partial.next(numbers - 1)),
            Operator::Caret => {
                // Up to the next change of the first number that is not zero.
                let significant = match (low.major, low.minor) {
                    (1.., _) => 1,
                    (0, 1..) => 2,
                    (0, 0) => 3,
                };
                from(low) && before(&partial.next(significant.min(numbers)))
            }
        })
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(scheme: Scheme, range: &str, version: &str) -> bool {
        Range::parse(range, scheme).unwrap().holds(version).unwrap()
    }

    fn semver(range: &str, inside: &[&str], outside: &[&str]) {
        for version in inside {
            assert!(holds(Scheme::Semver, range, version), "{version} is in {range}");
        }
        for version in outside {
            assert!(!holds(Scheme::Semver, range, version), "{version} is not in {range}");
        }
    }

    #[test]
    fn semver_ranges_hold_what_they_say() {
        semver(">=1.4, <2.0", &["1.4.0", "1.4", "1.99.7", "1.5.0-rc1"], &["1.3.9", "2.0.0", "2.0.0-rc1", "1.4.0-rc1"]);
        semver("=2.0.0", &["2.0.0", "v2.0.0", "2.0.0+build"], &["2.0.1", "2.0.0-rc1"]);
        semver("=1.4", &["1.4.0", "1.4.9"], &["1.5.0", "1.5.0-rc1", "1.3.0"]);
        semver("==5.22.1", &["5.22.1"], &["5.22.2"]);
        semver("!=1.4", &["1.5.0"], &["1.4.2"]);
        semver(">1.4", &["1.5.0"], &["1.4.2"]);
        semver(">1.4.2", &["1.4.3"], &["1.4.2"]);
        semver("<=1.4", &["1.4.9", "1.0.0"], &["1.5.0"]);
        semver("~1.4.2", &["1.4.2", "1.4.9"], &["1.5.0", "1.4.1"]);
        semver("~1", &["1.9.0"], &["2.0.0"]);
        semver("^1.4", &["1.4.0", "1.9.0"], &["2.0.0"]);
        semver("^0.4.1", &["0.4.9"], &["0.5.0"]);
        semver("^0.0.3", &["0.0.3"], &["0.0.4"]);
        semver("^0", &["0.9.0"], &["1.0.0"]);
        semver("~=1.4", &["1.9.0"], &["2.0.0", "1.3.0"]);
        semver("~=1.4.2", &["1.4.9"], &["1.5.0"]);
        semver(">=2.0.0-rc1, <2.0.0-rc9", &["2.0.0-rc2"], &["2.0.0"]);
    }

    #[test]
    fn the_other_schemes_hold_what_they_say() {
        assert!(holds(Scheme::Pep440, ">=1.4,<2", "1.9.post1"));
        assert!(holds(Scheme::Pep440, "=5.22.*", "5.22.7"));
        assert!(!holds(Scheme::Pep440, "~=1.4.2", "1.5"));
        assert!(holds(Scheme::Debian, ">=1:2.3-4, <1:3", "1:2.3-4+deb12u1"));
        assert!(!holds(Scheme::Debian, "!=1.0", "1.0-0"));
        assert!(holds(Scheme::Exact, "=Abies", "Abies\n"));
        assert!(holds(Scheme::Exact, "!=Abies", "Herrerasaurus"));
    }

    #[test]
    fn what_is_wrong_with_a_range_is_said() {
        let say = |t: &str, s: Scheme| Range::parse(t, s).unwrap_err();
        assert_eq!(say("1.4", Scheme::Semver), "`1.4` does not say how to compare; did you mean `=1.4` or `>=1.4`?");
        assert_eq!(say(">=1.4,", Scheme::Semver), "a clause of the range is empty");
        assert_eq!(say(">=", Scheme::Semver), "no version follows the `>=`");
        assert_eq!(say("=>1.4", Scheme::Exact), "the scheme `exact` has no `=>`; it has `=`, `==` or `!=`");
        assert_eq!(
            say("^1.4", Scheme::Debian),
            "the scheme `debian` has no `^`; it has `=`, `==`, `!=`, `<`, `<=`, `>` or `>=`"
        );
        assert_eq!(say("<x", Scheme::Semver), "`x` is not a version of the scheme `semver`: `x` is not a number");
        assert_eq!(say("~=1", Scheme::Semver), "`~=1` needs at least two numbers");
        assert!(say(">=x", Scheme::Pep440).starts_with("`x` is not a version of the scheme `pep440`"));
    }

    #[test]
    fn a_range_has_variables() {
        let range = Range::parse(">=${from}, <3", Scheme::Semver).unwrap();
        assert!(range.holds("2.0.0").is_err());
        let scope = Scope::default().with("from", "1.4.2");
        assert!(range.fill(&scope).unwrap().holds("1.5.0").unwrap());
        assert_eq!(
            range.fill(&Scope::default().with("from", "x")).unwrap_err().to_string(),
            "`>=${from}, <3` is not a range of versions: `x` is not a version of the scheme `semver`: `x` is not a number"
        );
    }

    #[test]
    fn a_range_may_name_just_one_version() {
        let only = |t: &str, s: Scheme| Range::parse(t, s).unwrap().only();
        assert_eq!(only("=2.0.0", Scheme::Semver), Some("2.0.0".into()));
        assert_eq!(only("== 2.0.0", Scheme::Semver), Some("2.0.0".into()));
        assert_eq!(only("=2.0", Scheme::Semver), None);
        assert_eq!(only("=2.0.0, !=1", Scheme::Semver), None);
        assert_eq!(only(">=2.0.0", Scheme::Semver), None);
        assert_eq!(only("=2.0", Scheme::Pep440), Some("2.0".into()));
        assert_eq!(only("=2.*", Scheme::Pep440), None);
        assert_eq!(only("=Abies", Scheme::Exact), Some("Abies".into()));
    }
}
