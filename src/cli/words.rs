//! How values read: sizes, durations, moments, tasks, text that is not ours.
//!
//! Pure functions; the time zone and the present moment are given to them, so that tests can pin what a person reads.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::tx::{Action, TaskId};

/// A number of bytes in decimal units: `512 B`, `4.1 MB`, `312 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// A duration to about three digits: `0.3 s`, `12 s`, `1 min 5 s`, `2 h 3 min`, `3 d 4 h`.
pub(crate) fn span(duration: Duration) -> String {
    let exact = duration.as_secs_f64();
    if exact < 9.95 {
        return format!("{exact:.1} s");
    }
    let seconds = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big} {big_unit}") } else { format!("{big} {big_unit} {small} {small_unit}") }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A journaled moment as a person's clock shows it: `2026-11-21 03:15:19`. What is not a moment is shown as it is.
pub(crate) fn moment(rfc3339: &str, zone: &TimeZone) -> String {
    match rfc3339.parse::<Timestamp>() {
        Ok(at) => at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => clean(rfc3339).into_owned(),
    }
}

/// A journaled moment as the time of day only, with milliseconds: `03:15:19.123`.
pub(crate) fn time_of_day(rfc3339: &str, zone: &TimeZone) -> String {
    match rfc3339.parse::<Timestamp>() {
        Ok(at) => at.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => clean(rfc3339).into_owned(),
    }
}

/// The time from `earlier` to `later`, zero if it is negative or either is not a moment.
pub(crate) fn between(earlier: &str, later: Timestamp) -> Duration {
    let Ok(earlier) = earlier.parse::<Timestamp>() else { return Duration::ZERO };
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}

/// A task as a noun: step `migrate`, check `page`, capture of `code`.
pub(crate) fn task(task: &TaskId) -> String {
    let subject = clean(&task.subject);
    if subject.contains(' ') {
        return format!("`{} {subject}`", task.action);
    }
    match task.action {
        Action::Prepare | Action::Apply | Action::Finish => format!("step `{subject}`"),
        Action::Require | Action::Verify => format!("check `{subject}`"),
        Action::Recheck => format!("recheck `{subject}`"),
        Action::Quiesce => format!("quiesce `{subject}`"),
        Action::Prove => format!("proof of `{subject}`"),
        Action::Reinstate => format!("restore of `{subject}`"),
        Action::Diagnose => format!("diagnosis `{subject}`"),
        Action::Precapture | Action::Capture | Action::Resume | Action::Undo | Action::Restore => {
            format!("{} of `{subject}`", task.action)
        }
    }
}

/// Names in a row: `a`, `a and b`, `a, b and c`.
pub(crate) fn list<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Text that is not ours, with every control character made visible, so that a program's output, a path or a
/// name cannot write to the terminal what it likes. Tabs stay.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| !c.is_control() || c == '\t') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() && c != '\t' { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// How many columns `text` needs, near enough for aligning names: characters, escape sequences left out.
pub(crate) fn columns(text: &str) -> usize {
    let mut count = 0;
    let mut escaped = false;
    for c in text.chars() {
        match (escaped, c) {
            (false, '\u{1b}') => escaped = true,
            (false, _) => count += 1,
            (true, c) if c.is_ascii_alphabetic() => escaped = false,
            (true, _) => {}
        }
    }
    count
}

/// A table without lines: columns padded to their widest cell and two spaces apart, the last one ragged.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest: Vec<usize> = (0..width)
        .map(|i| rows.iter().filter_map(|row| row.get(i)).map(|cell| columns(cell)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if i + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', widest[i] - columns(cell) + 2));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_in_decimal_units() {
        let shown: Vec<String> =
            [0, 999, 1000, 4_100_000, 9_949_999, 9_960_000, 312_000_000, 999_600_000, 5_000_000_000_000_000_000]
                .map(bytes)
                .to_vec();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "4.1 MB", "9.9 MB", "10 MB", "312 MB", "1.0 GB", "5000 PB"]);
    }

    #[test]
    fn durations_read_to_three_digits() {
        let shown: Vec<String> = [0.04, 0.3, 9.96, 12.4, 59.6, 60.0, 65.0, 7380.0, 273_600.0]
            .map(|seconds| span(Duration::from_secs_f64(seconds)))
            .to_vec();
        assert_eq!(shown, ["0.0 s", "0.3 s", "10 s", "12 s", "1 min", "1 min", "1 min 5 s", "2 h 3 min", "3 d 4 h"]);
    }

    #[test]
    fn moments_read_as_the_zones_clock() {
        assert_eq!(moment("2026-11-21T03:15:19.123456789Z", &TimeZone::UTC), "2026-11-21 03:15:19");
        assert_eq!(time_of_day("2026-11-21T03:15:19.123456789Z", &TimeZone::UTC), "03:15:19.123");
        assert_eq!(moment("soon\u{7}", &TimeZone::UTC), "soon\\u{7}");
    }

    #[test]
    fn foreign_text_cannot_write_to_the_terminal() {
        assert_eq!(clean("a\tb"), "a\tb");
        assert_eq!(clean("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }

    #[test]
    fn tables_align_on_what_is_seen() {
        let rows = [vec!["\u{1b}[1ma\u{1b}[0m".to_owned(), "x".to_owned()], vec!["long".to_owned(), "y".to_owned()]];
        assert_eq!(table(&rows), "\u{1b}[1ma\u{1b}[0m     x\nlong  y\n");
    }

    #[test]
    fn names_in_a_row_read_as_a_sentence() {
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(list(&["a", "b"]), "a and b");
        assert_eq!(list::<&str>(&[]), "");
    }
}
