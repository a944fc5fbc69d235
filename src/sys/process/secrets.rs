//! Secrets, found and made unreadable in bytes of any kind.

use regex::bytes::Regex;

/// What must not be read by people.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    pub(super) words: Vec<String>,
    pub(super) pattern: Option<Regex>,
    pub(super) longest: usize,
}

impl Secrets {
    /// Words and the lines of those that have several.
    pub(super) fn new(words: impl IntoIterator<Item = String>) -> Secrets {
        let mut all = Vec::new();
        for word in words {
            let word = word.trim_end_matches(['\n', '\r']);
            // A key of many lines is shown line by line, and its lines are secrets too.
            all.extend(word.lines().map(str::trim).filter(|line| line.len() >= 8 && *line != word).map(str::to_owned));
            all.push(word.to_owned());
        }
        all.retain(|word| !word.is_empty());
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        let longest = all.first().map_or(0, String::len);
        let either = all.iter().map(|word| regex::escape(word)).collect::<Vec<_>>().join("|");
        let pattern = (!all.is_empty()).then(|| {
            regex::bytes::RegexBuilder::new(&either)
                .size_limit(usize::MAX)
                .build()
                .expect("escaped text is a regular expression")
        });
        Secrets { words: all, pattern, longest }
    }

    /// Makes them unreadable, length kept.
    pub(super) fn mask(&self, bytes: &mut [u8]) {
        let Some(pattern) = &self.pattern else { return };
        let found: Vec<_> = pattern.find_iter(bytes).map(|found| found.range()).collect();
        for range in found {
            bytes[range].fill(b'*');
        }
    }
}
