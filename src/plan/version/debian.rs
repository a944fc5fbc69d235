//! Debian's order of versions, from Policy 5.6.12: epoch, upstream version, revision; `~` before everything.

use std::cmp::Ordering;

use crate::error::{Error, Result};

/// A version of a Debian package.
#[derive(Debug, Clone)]
pub(super) struct Version {
    epoch: u32,
    upstream: String,
    revision: String,
}

impl Version {
    /// Parses; an error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Version> {
        let wrong = |why: &str| {
            Err(Error::new(format!("`{text}` is not a version of the scheme `debian`")).because(why.to_owned()))
        };
        let rest = text.trim();
        let (epoch, rest) = match rest.split_once(':') {
            None => (0, rest),
            Some((epoch, rest)) => match epoch.parse::<u32>() {
                Ok(number) if i32::try_from(number).is_ok() && epoch.bytes().all(|b| b.is_ascii_digit()) => {
                    (number, rest)
                }
                _ => return wrong("what stands before the `:` is not a number"),
            },
        };
        let (upstream, revision) = match rest.rsplit_once('-') {
            None => (rest, ""),
            Some((_, "")) => return wrong("nothing follows the `-`"),
            Some(parts) => parts,
        };
        if !upstream.starts_with(|c: char| c.is_ascii_digit()) {
            return wrong("it does not begin with a digit");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~');
        if !upstream.chars().all(|c| plain(c) || c == '-' || c == ':') || !revision.chars().all(plain) {
            return wrong("it has other characters than letters, digits and `.+~-:`");
        }
        Ok(Version { epoch, upstream: upstream.to_owned(), revision: revision.to_owned() })
    }

    /// The order.
    pub(super) fn cmp(&self, other: &Version) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| part(self.upstream.as_bytes(), other.upstream.as_bytes()))
            .then_with(|| part(self.revision.as_bytes(), other.revision.as_bytes()))
    }
}

/// Runs of non-digits and runs of digits by turns: the first by letters, the second by number.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        loop {
            let (x, y) = (letter(a), letter(b));
            match x.cmp(&y) {
                Ordering::Equal if x == END => break,
                Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
                unequal => return unequal,
            }
        }
        let (x, y) = (number(&mut a), number(&mut b));
        // Without leading zeros the longer number is the larger one.
        match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

/// The rank of the end of a run of non-digits: after `~` and before every letter.
const END: i32 = 0;

/// The rank of the first byte: `~`, then the end, then letters, then everything else.
fn letter(text: &[u8]) -> i32 {
    match text.first() {
        None | Some(b'0'..=b'9') => END,
        Some(b'~') => -1,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

/// Takes the digits off the front; returns them without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().position(|c| *c != b'0').unwrap_or(digits.len());
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::{Config, TestRunner};

    fn cmp(a: &str, b: &str) -> Ordering {
        Version::parse(a).unwrap().cmp(&Version::parse(b).unwrap())
    }

    #[test]
    fn the_examples_of_the_policy_hold() {
        let rising = ["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a"];
        for pair in rising.windows(2) {
            assert_eq!(cmp(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        assert_eq!(cmp("1:0.1", "99"), Ordering::Greater);
        assert_eq!(cmp("1.0-0", "1.0"), Ordering::Equal);
        assert_eq!(cmp("1.09", "1.9"), Ordering::Equal);
        assert_eq!(cmp("1.10", "1.9"), Ordering::Greater);
        assert_eq!(cmp("2.0-1+deb12u1", "2.0-1"), Ordering::Greater);
        assert_eq!(cmp("2.0-1~bpo12+1", "2.0-1"), Ordering::Less);
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let say = |t: &str| Version::parse(t).unwrap_err().causes.concat();
        assert_eq!(say("x1"), "it does not begin with a digit");
        assert_eq!(say("a:1"), "what stands before the `:` is not a number");
        assert_eq!(say("1.0-"), "nothing follows the `-`");
        assert_eq!(say("1_0"), "it has other characters than letters, digits and `.+~-:`");
    }

    /// One shell asks `dpkg` about many pairs: starting it is what takes the time.
    #[test]
    fn the_order_is_the_one_of_dpkg() {
        let version = "([0-2]:)?[0-9][0-9a-b.+~]{0,6}(-[0-9a-b.+~]{1,4})?";
        let mut runner = TestRunner::new_with_rng(
            Config::default(),
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let strategy = (version, version);
        let pairs: Vec<(String, String)> =
            (0..250).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        let mut script = String::new();
        for (a, b) in &pairs {
            script.push_str(&format!(
                "if dpkg --compare-versions '{a}' lt '{b}'; then echo Less; \
                 elif dpkg --compare-versions '{a}' eq '{b}'; then echo Equal; else echo Greater; fi\n"
            ));
        }
        let output = std::process::Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.lines().count(), pairs.len(), "dpkg is needed (package `dpkg`): {output:?}");
        for ((a, b), said) in pairs.iter().zip(said.lines()) {
            assert_eq!(format!("{:?}", cmp(a, b)), said, "{a} and {b}");
            assert_eq!(cmp(b, a), cmp(a, b).reverse(), "{a} and {b}");
        }
    }
}
