//! `KEY=VALUE` files, as services and `docker` read them: one assignment per line, `#` comments, optional quotes.

use std::path::Path;

use crate::error::{Error, OrSay, Result};

/// The assignments of `text`, in its order. A line that is none is an error that names it by number, never by content.
pub fn parse(text: &str) -> Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (key, value) = line
            .split_once('=')
            .map(|(key, value)| (key.trim_end(), value.trim_start()))
            .ok_or_else(|| Error::new(format!("line {number} is not `KEY=VALUE`")))?;
        let legal = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !legal {
            return Err(Error::new(format!("line {number} does not begin with the name of a variable")));
        }
        let value = unquoted(value).or_say(|| format!("line {number} has a quote that does not end"))?;
        if value.contains('\0') {
            return Err(Error::new(format!("line {number} holds a NUL")));
        }
        out.push((key.to_owned(), value));
    }
    Ok(out)
}

/// The assignments of the file at `path`.
pub fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).or_say(|| format!("cannot read `{}`", path.display()))?;
    parse(&text).map_err(|e| e.within(format!("cannot read `{}`", path.display())))
}

/// The value without its quotes; within double ones a backslash escapes. `None` when a quote does not end.
fn unquoted(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.strip_suffix('\'').filter(|v| !v.contains('\'')).map(str::to_owned);
    }
    let Some(rest) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut out = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(out),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                c @ ('"' | '\\' | '$' | '`') => out.push(c),
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_comments_and_quotes_are_read() {
        let text = "# db\nA=1\n\n export B = two words \nC='x # y'\r\nD=\"a\\\"b\\n\"\nE=\nF=a=b\n";
        let read = parse(text).unwrap();
        let expected = [("A", "1"), ("B", "two words"), ("C", "x # y"), ("D", "a\"b\n"), ("E", ""), ("F", "a=b")];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_without_its_content() {
        assert_eq!(parse("A=1\nsecret").unwrap_err().to_string(), "line 2 is not `KEY=VALUE`");
        assert_eq!(parse("1A=x").unwrap_err().to_string(), "line 1 does not begin with the name of a variable");
        assert_eq!(parse("A=\"x").unwrap_err().to_string(), "line 1 has a quote that does not end");
        assert_eq!(parse("A='x' y").unwrap_err().to_string(), "line 1 has a quote that does not end");
    }
}
