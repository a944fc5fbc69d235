//! Which paths of the crate a source file names. Reads what `rustfmt` writes; macros that build paths escape it.

/// A path of the code, from the crate's root, and where it stands.
#[derive(Debug, PartialEq)]
pub(super) struct Use {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
}

/// The code with comments, strings and character literals blanked; every byte keeps its place.
pub(super) fn bare(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let ends_at = |from: usize, end: &str| source[from..].find(end).map_or(bytes.len(), |at| from + at + end.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let end = if rest.starts_with("//") {
            ends_at(at, "\n")
        } else if rest.starts_with("/*") {
            ends_at(at, "*/")
        } else if let Some(hashes) = (!word_before).then(|| raw_string(rest)).flatten() {
            let open = at + rest.find('"').expect("a raw string was found") + 1;
            ends_at(open, &format!("\"{}", "#".repeat(hashes)))
        } else if rest.starts_with('"') {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            end + 1
        } else if let Some(length) = character(rest) {
            at + length
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let end = end.min(bytes.len());
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

/// How many `#` the raw string that begins here has.
fn raw_string(rest: &str) -> Option<usize> {
    let rest = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// The length of the character literal that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        let first = escape.chars().next()?.len_utf8();
        return escape[first..].find('\'').map(|at| 2 + first + at + 1);
    }
    let first = inside.chars().next()?.len_utf8();
    inside[first..].starts_with('\'').then_some(1 + first + 1)
}

/// All paths from the crate's root that `source` names, its tests left out. `module` is where the file stands.
pub(super) fn uses(source: &str, module: &[String]) -> Vec<Use> {
    let code = bare(source.split("#[cfg(test)]\nmod ").next().unwrap_or(source));
    let mut found = Vec::new();
    for head in ["crate", "super", "txupgrade"] {
        for (at, _) in code.match_indices(&format!("{head}::")) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || code[..at].ends_with("super::") {
                continue;
            }
            let mut base: Vec<String> = if head == "super" { module.to_vec() } else { Vec::new() };
            let mut rest = &code[at..];
            while head == "super" && rest.starts_with("super::") {
                base.pop();
                rest = &rest["super::".len()..];
            }
            let rest = rest.strip_prefix(&format!("{head}::")).unwrap_or(rest);
            let line = code[..at].matches('\n').count() + 1;
            let mut paths = Vec::new();
            read_tree(rest, base, line, &mut paths);
            found.extend(paths);
        }
    }
    found
}

/// Reads `a::b`, `a::{b, c::d}` or `*` and returns what follows it.
fn read_tree<'a>(text: &'a str, mut path: Vec<String>, line: usize, found: &mut Vec<Use>) -> &'a str {
    let mut rest = text;
    loop {
        let skipped = rest.trim_start();
        let line = line + text[..text.len() - skipped.len()].matches('\n').count();
        rest = skipped;
        if let Some(mut inside) = rest.strip_prefix('{') {
            loop {
                inside = inside.trim_start_matches([',', ' ', '\n']);
                if inside.is_empty() {
                    return inside;
                }
                if let Some(after) = inside.strip_prefix('}') {
                    return after;
                }
                let line = line + rest[..rest.len() - inside.len()].matches('\n').count();
                let before = inside.len();
                inside = read_tree(inside, path.clone(), line, found);
                inside = match inside.trim_start().strip_prefix("as ") {
                    Some(renamed) => renamed.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
                    None => inside,
                };
                assert!(inside.len() < before, "cannot read the path at `{}`", &inside[..inside.len().min(40)]);
            }
        }
        let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '*').collect();
        rest = &rest[word.len()..];
        if !word.is_empty() && word != "self" {
            path.push(word);
        }
        match rest.strip_prefix("::") {
            Some(after) if !after.starts_with('<') => rest = after,
            _ => {
                found.push(Use { line, path });
                return rest;
            }
        }
    }
}

#[test]
fn the_reader_sees_groups_lines_and_chains_but_no_comments() {
    let source = "//! crate::cli\nuse crate::{\n    error::Result,\n    tx::{Output, state::State as S},\n};\n\
                  fn f(c: char) -> crate::sys::clock::T { let s = \"crate::ops\"; c == '\"'; super::super::step::KINDS }\n\
                  /* crate::cli */ fn g<'a>(_: &'a str) { r#\"crate::ops \"x\"#; super::tcp::ask::<u8>() }\n\
                  #[cfg(test)]\nmod tests { use crate::cli::X; }\n";
    let mut found: Vec<_> = uses(source, &["check".into(), "http".into()])
        .into_iter()
        .map(|found| format!("{} {}", found.line, found.path.join("::")))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "3 error::Result",
            "4 tx::Output",
            "4 tx::state::State",
            "6 step::KINDS",
            "6 sys::clock::T",
            "7 check::tcp::ask"
        ]
    );
}
