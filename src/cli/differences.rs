//! How the differences between a live resource and its snapshot read.

use super::ui::Paint;
use super::words;
use crate::resource::{Changes, What};

/// From which side differences are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    /// What has happened since the snapshot.
    Since,
    /// What restoring it would do.
    ToRestore,
}

/// A resource's name and a line per item below it.
pub(super) fn render(resource: &str, changes: &Changes, sense: Sense, paint: Paint) -> String {
    let rows: Vec<Vec<String>> = changes
        .items
        .iter()
        .map(|item| {
            let what = match (sense, item.what) {
                (Sense::Since, What::Added) => paint.good("added"),
                (Sense::Since, What::Removed) => paint.bad("removed"),
                (Sense::Since, What::Changed) => paint.warn("changed"),
                (Sense::ToRestore, What::Added) => paint.bad("removes"),
                (Sense::ToRestore, What::Removed) => paint.good("brings back"),
                (Sense::ToRestore, What::Changed) => paint.warn("puts back"),
            };
            let mut details: Vec<String> =
                item.details.iter().map(|detail| in_sense(sense, &words::clean(detail))).collect();
            if item.secret {
                details.push("secret".to_owned());
            }
            vec![format!("  {what}"), words::clean(&item.name).into_owned(), paint.dim(&details.join(", "))]
        })
        .map(|mut row| {
            // Without details there is nothing to pad for.
            if row[2] == paint.dim("") {
                row.pop();
            }
            row
        })
        .collect();
    format!("{}\n{}", paint.bold(&words::clean(resource)), words::table(&rows))
}

/// Rows that came since the snapshot are lost when it is restored, which is what somebody who is about to do that has to
/// know.
fn in_sense(sense: Sense, detail: &str) -> String {
    let rows = |sign: char| {
        let count =
            detail.strip_prefix(sign)?.strip_suffix(" rows").or(detail.strip_prefix(sign)?.strip_suffix(" row"))?;
        count.parse::<u64>().ok()
    };
    match (sense, rows('+'), rows('-')) {
        (Sense::ToRestore, Some(1), _) => "1 row that came since is lost".to_owned(),
        (Sense::ToRestore, Some(count), _) => format!("{count} rows that came since are lost"),
        (Sense::ToRestore, _, Some(1)) => "1 row comes back".to_owned(),
        (Sense::ToRestore, _, Some(count)) => format!("{count} rows come back"),
        _ => detail.to_owned(),
    }
}

/// A unified patch, its lines coloured.
pub(super) fn patch(path: &str, text: &str, paint: Paint) -> String {
    let mut shown = format!("\n{}\n", paint.bold(&words::clean(path)));
    for line in text.lines() {
        let clean = words::clean(line);
        let line = match line.bytes().next() {
            _ if line.starts_with("+++") || line.starts_with("---") => paint.bold(&clean),
            Some(b'+') => paint.good(&clean),
            Some(b'-') => paint.bad(&clean),
            Some(b'@') => paint.hint(&clean),
            _ => clean.into_owned(),
        };
        shown.push_str(&line);
        shown.push('\n');
    }
    shown
}
