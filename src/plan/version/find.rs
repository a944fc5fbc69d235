//! Finding the version in what a program says: `notes 1.4.2 (build 77)`.

use super::Scheme;

/// The first thing in `text` that reads as a version of `scheme`.
pub(super) fn find(scheme: Scheme, text: &str) -> Option<String> {
    if scheme == Scheme::Exact {
        return exact(text);
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(offset) = bytes[at..].iter().position(u8::is_ascii_digit) {
        let start = at + offset;
        let end = bytes[start..].iter().position(|b| !belongs(*b)).map_or(bytes.len(), |i| start + i);
        if begins_a_word(text, start)
            && let Some(found) = longest(scheme, &text[start..end])
        {
            return Some(found.to_owned());
        }
        // On with the next run of digits, not with the middle of this one: 192.168.0.1 has no version in it.
        at = bytes[start..].iter().position(|b| !(b.is_ascii_digit() || *b == b'.')).map_or(bytes.len(), |i| start + i);
    }
    // A lone number is a version only when there is nothing else: `16`, as a schema's version is.
    let whole = text.trim();
    (scheme.reads(whole) && !whole.contains(char::is_whitespace)).then(|| whole.to_owned())
}

/// Whether a byte may stand in a version of any scheme.
fn belongs(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b'~' | b':' | b'!')
}

/// Not in the middle of a word or number; a lone `v` may stand before.
fn begins_a_word(text: &str, start: usize) -> bool {
    let mut before = text[..start].chars().rev();
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '.');
    match before.next() {
        Some('v' | 'V') => !inside(before.next()),
        other => !inside(other),
    }
}

/// The longest beginning of `run` that has a point in its numbers and reads as a version.
fn longest(scheme: Scheme, run: &str) -> Option<&str> {
    let mut candidate = run;
    loop {
        candidate = candidate.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let pointed = match candidate.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ':' && c != '!').next() {
            Some(numbers) => numbers.trim_end_matches('.').contains('.'),
            None => false,
        };
        if !pointed {
            return None;
        }
        if scheme.reads(candidate) {
            return Some(candidate);
        }
        let cut = candidate.rfind(|c: char| !c.is_ascii_alphanumeric())?;
        let behind = &candidate[cut + 1..];
        // `.tar` is something behind a version; `.4` of an address, `.1w`, `.dev5` or `~rc` are a part of what is none.
        let separate = match candidate.as_bytes()[cut] {
            b'.' => behind.bytes().all(|b| b.is_ascii_alphabetic()),
            b'~' => false,
            _ => behind.starts_with(|c: char| c.is_ascii_alphabetic()),
        };
        if !separate {
            return None;
        }
        candidate = &candidate[..cut];
    }
}

/// The first word that begins with a digit, else the first that has one, else the first line.
fn exact(text: &str) -> Option<String> {
    let words = || {
        text.split_whitespace().map(|w| {
            w.trim_matches(|c: char| matches!(c, ',' | ';' | ':' | '(' | ')' | '"' | '\'' | '`')).trim_end_matches('.')
        })
    };
    let number = |w: &str| {
        let w = w.strip_prefix(['v', 'V']).unwrap_or(w);
        w.starts_with(|c: char| c.is_ascii_digit())
    };
    words()
        .find(|w| number(w))
        .or_else(|| words().find(|w| w.contains(|c: char| c.is_ascii_digit())))
        .or_else(|| text.lines().map(str::trim).find(|l| !l.is_empty()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn semver(text: &str) -> Option<String> {
        find(Scheme::Semver, text)
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
        #[test]
        fn what_is_found_reads_as_a_version(text in "[ -~é]{0,12}|[v ]?[0-9a-c.+~:!_-]{0,14}") {
            for scheme in [Scheme::Semver, Scheme::Pep440, Scheme::Debian, Scheme::Exact] {
                if let Some(found) = find(scheme, &text) {
                    assert!(scheme.reads(&found) && text.contains(&found), "{found:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_thing_that_reads_as_a_version_is_found() {
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(semver("notes 1.4.2 (build 77)"), some("1.4.2"));
        assert_eq!(semver("Python 3.11, pip 24.0"), some("3.11"));
        assert_eq!(semver("app v2.0.0-rc.1."), some("2.0.0-rc.1"));
        assert_eq!(semver("omero-web-5.22.1.tar.gz"), some("5.22.1"));
        assert_eq!(semver("<link href=\"a.css?_5.22.1\">"), some("5.22.1"));
        assert_eq!(semver("{\"version\":\"0.2.13\",\"build\":\"7\"}"), some("0.2.13"));
        assert_eq!(semver("listening on 192.168.0.1:80, notes 1.5.0"), some("1.5.0"));
        assert_eq!(semver("in 3 tries: 1.0\n"), some("1.0"));
        assert_eq!(semver(" 16\n"), some("16"));
        assert_eq!(semver("schema 16"), None);
        assert_eq!(semver("openssl 1.1.1w"), None);
        assert_eq!(semver("notes 3.0.0~rc1"), None);
        assert_eq!(semver("notes 1.4.2.dev5"), None);
        assert_eq!(semver("Größe 7 → ünotes 1.4.2·x"), some("1.4.2"));
        assert_eq!(semver("none"), None);
        assert_eq!(semver(""), None);
    }

    #[test]
    fn each_scheme_finds_its_own() {
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(find(Scheme::Pep440, "Name: x\nVersion: 2.0rc1.post2\n"), some("2.0rc1.post2"));
        assert_eq!(find(Scheme::Pep440, "omero_web-5.22.1-py3-none-any.whl"), some("5.22.1"));
        assert_eq!(find(Scheme::Debian, "ii  notes  1:2.3-4+deb12u1 amd64"), some("1:2.3-4+deb12u1"));
        assert_eq!(find(Scheme::Debian, "2:1.9~rc2-1"), some("2:1.9~rc2-1"));
        assert_eq!(find(Scheme::Exact, "Phraseanet version 3.8.8 Herrerasaurus"), some("3.8.8"));
        assert_eq!(find(Scheme::Exact, "release r77,"), some("r77"));
        assert_eq!(find(Scheme::Exact, "\n Herrerasaurus\n"), some("Herrerasaurus"));
        assert_eq!(find(Scheme::Exact, " \n"), None);
    }
}
