//! What a text has to say: shared by checks, by `expect` and by `[version]`.

use super::{Fields, Pattern, Range, Scheme, Scope};
use crate::error::Result;

/// `matches`, `matches_not`, `is` with `pattern` and `scheme`.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// What has to be found in the text.
    pub matches: Option<Pattern>,
    /// What must not.
    pub matches_not: Option<Pattern>,
    /// The range in which the version in the text has to be.
    pub is: Option<Range>,
    /// Where the version stands in the text: its first group, or all of it when it has none.
    pub pattern: Option<Pattern>,
    /// How versions compare.
    pub scheme: Scheme,
}

impl Reading {
    /// Reads its keys from an entry.
    pub fn read(fields: &mut Fields) -> Reading {
        let scheme = fields.scheme("scheme");
        Reading {
            matches: fields.pattern("matches"),
            matches_not: fields.pattern("matches_not"),
            is: fields.range("is", scheme),
            pattern: fields.pattern("pattern"),
            scheme,
        }
    }

    /// Whether nothing is asked of the text.
    pub fn asks_nothing(&self) -> bool {
        self.matches.is_none() && self.matches_not.is_none() && self.is.is_none()
    }

    /// `Ok(None)` when the text says what it must; `Ok(Some(why))` when not, in words (``does not match `done` ``).
    pub fn judge(&self, text: &str, scope: &Scope) -> Result<Option<String>> {
        if let Some(pattern) = &self.matches
            && !pattern.compile(scope)?.is_match(text)
        {
            return Ok(Some(format!("does not match `{}`", pattern.expanded(scope)?)));
        }
        if let Some(pattern) = &self.matches_not
            && pattern.compile(scope)?.is_match(text)
        {
            return Ok(Some(format!("matches `{}`", pattern.expanded(scope)?)));
        }
        let Some(range) = &self.is else { return Ok(None) };
        let range = range.fill(scope)?;
        let Some(version) = self.version(text, scope)? else {
            return Ok(Some("no version was found in it".into()));
        };
        Ok(match range.holds(&version) {
            Ok(true) => None,
            Ok(false) => Some(format!("is `{version}`, not `{}`", range.text())),
            // What was found is no version: an answer, not a failure to ask.
            Err(e) => Some(e.to_string()),
        })
    }

    /// The version in the text: the first group of `pattern`, or the first thing that reads as one.
    pub fn version(&self, text: &str, scope: &Scope) -> Result<Option<String>> {
        let Some(pattern) = &self.pattern else {
            return Ok(self.scheme.find(text));
        };
        let Some(found) = pattern.compile(scope)?.captures(text) else {
            return Ok(None);
        };
        // The first group that took part; the whole when there is none.
        let version = found.iter().skip(1).flatten().next().or_else(|| found.get(0));
        Ok(version.map(|m| m.as_str().trim().to_owned()).filter(|v| !v.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(reading: &Reading, text: &str) -> String {
        let scope = Scope::default().with("version", "2.0.0");
        reading.judge(text, &scope).unwrap().unwrap_or_else(|| "yes".into())
    }

    #[test]
    fn every_question_has_its_answer_in_words() {
        let pattern = |t: &str| Some(Pattern::parse(t).unwrap());
        let r =
            Reading { matches: pattern("^done ${version}$"), matches_not: pattern("(?i)error"), ..Reading::default() };
        assert_eq!(judge(&r, "start\ndone 2.0.0\n"), "yes");
        assert_eq!(judge(&r, "done 2.0.0."), r"does not match `^done 2\.0\.0$`");
        assert_eq!(judge(&r, "an ERROR\ndone 2.0.0"), "matches `(?i)error`");
        let r = Reading { is: Some(Range::parse(">=${version}", Scheme::Semver).unwrap()), ..Reading::default() };
        assert_eq!(judge(&r, "notes 2.1.0"), "yes");
        assert_eq!(judge(&r, "notes 1.4.2"), "is `1.4.2`, not `>=2.0.0`");
        assert_eq!(judge(&r, "notes"), "no version was found in it");
        let r = Reading { pattern: pattern(r"build (\w+)"), ..r };
        assert_eq!(judge(&r, "build abc"), "`abc` is not a version of the scheme `semver`: `abc` is not a number");
    }

    #[test]
    fn the_version_is_the_first_group_that_took_part() {
        let version = |p: &str, t: &str| {
            let r = Reading { pattern: Some(Pattern::parse(p).unwrap()), ..Reading::default() };
            r.version(t, &Scope::default()).unwrap()
        };
        assert_eq!(version(r"notes (\d+\.\d+)", "notes 1.4"), Some("1.4".into()));
        assert_eq!(version(r"a(\d)|b(\d)", "b7"), Some("7".into()));
        assert_eq!(version(r"\d+", "r77"), Some("77".into()));
        assert_eq!(version(r"x(\d*)", "x"), None);
        assert_eq!(version(r"y", "x"), None);
        assert_eq!(Reading::default().version("notes 1.4.2", &Scope::default()).unwrap(), Some("1.4.2".into()));
    }
}
