//! `kind = "sqlite"`: one SQLite database file, with its log, captured whole and put back whole.
//!
//! Relies on SQLite's own locks, its online backup (for a database in use) and `integrity_check`. Promises: looking and
//! capturing leave the live files as they are (see `look`); what is stored is one complete database file that was
//! checked and fingerprinted, byte for byte the live one where nobody had it open; a restore is written beside, checked
//! and fingerprinted again before the live one is touched, and never pairs a database with another's log (see
//! `swap`).

mod compare;
mod copy;
mod file;
mod fingerprint;
mod look;
mod swap;
#[cfg(test)]
mod tests;
mod words;

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use self::compare::{Facts, Needed, SETTINGS, content_differs, differences, exactness, facts, has_journal};
use self::copy::{Exactly, Integrity, check, examined, hash, take};
use self::file::{Access, Attributes, Found, found, resolved};
use self::look::{Open, Scratch, holder, open, side, with_database};
use self::swap::Beside;
use self::words::{command_of, damaged, in_words, not_what_was_captured};
use super::fingerprint::Fingerprint;
use super::{Captured, Change, Changes, Claim, Estimate, Kind, Resource, Told, What};
use crate::context::Context;
use crate::error::{Error, OrSay, Result};
use crate::plan::{Fields, Template};
use crate::store::{Head, ObjectId, Replaced};
use crate::sys::{clock, files, mounts};

/// Keys: `path`.
pub(super) const KIND: Kind = Kind { name: "sqlite", read };

fn read(fields: &mut Fields) -> Box<dyn Resource> {
    Box::new(Sqlite { path: fields.need_template("path") })
}

struct Sqlite {
    path: Template,
}

impl Resource for Sqlite {
    fn claims(&self, cx: &Context<'_>) -> Result<Vec<Claim>> {
        let path = self.place(cx)?;
        Ok(["", "-wal", "-shm", "-journal"].iter().map(|suffix| Claim::Path(side(&path, suffix))).collect())
    }

    fn probe(&self, cx: &Context<'_>, _base: Option<ObjectId>) -> Result<Estimate> {
        let path = self.place(cx)?;
        if !usable(&path)? {
            return Ok(Estimate::default());
        }
        let size = |path: PathBuf| path.metadata().map_or(0, |meta| meta.len());
        let bytes = size(path.clone()) + size(side(&path, "-wal"));
        let (items, integrity) = with_database(&path, &cx.tmp, |looked| {
            let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
            let items = looked.connection.query_row(tables, [], |row| row.get::<_, i64>(0));
            let items = items.map_err(|error| in_words(error, &path))?;
            Ok((items, check(&looked.connection, "quick_check", &path)?))
        })?;
        let warnings = match integrity {
            Integrity::Good => Vec::new(),
            Integrity::Bad(why) => return Err(damaged(&path, &why)),
            Integrity::Unknown(why) => vec![format!("`{}` cannot be checked: {why}", path.display())],
        };
        Ok(Estimate { bytes, items: u64::try_from(items).unwrap_or(0), warnings })
    }

    fn capture(&self, cx: &Context<'_>, _base: Option<ObjectId>) -> Result<Captured> {
        let path = self.place(cx)?;
        let head = |facts: Facts| -> Result<Head> {
            Ok(Head {
                tx: cx.tx.clone(),
                resource: cx.subject.clone(),
                kind: KIND.name.to_owned(),
                place: path.display().to_string(),
                version: cx.version.clone(),
                at: clock::now(),
                facts: serde_json::to_value(facts).or_say(|| "cannot write down the fingerprint")?,
            })
        };
        if !usable(&path)? {
            let facts =
                Facts { absent: true, file: None, directory: None, fingerprint: None, exact: None, journal: false };
            return cx.store.capture_facts(head(facts)?);
        }
        let attributes = Attributes::of(&path)?;
        let directory = Access::of(path.parent().unwrap_or(Path::new("/")))?;
        let journal = has_journal(&path)?;
        let (copy, exactly) = with_database(&path, &cx.tmp, |looked| {
            let copy = Scratch::new(&cx.tmp);
            let exactly = take(looked, &path, copy.path(), cx)?;
            Ok((copy, exactly))
        })?;
        let (fingerprint, warnings) = examined(copy.path(), &path, cx)?;
        let items = fingerprint.tables.len() as u64;
        let exact = match exactly {
            Exactly::Yes => Some(hash(copy.path())?),
            Exactly::No => None,
        };
        let facts = Facts {
            absent: false,
            file: Some(attributes),
            directory: Some(directory),
            fingerprint: Some(fingerprint),
            exact,
            journal,
        };
        let source = File::open(copy.path()).or_say(|| format!("cannot read the copy of `{}`", path.display()))?;
        let size = source.metadata().map_or(0, |meta| meta.len());
        let mut source = Told::new(source, cx, size);
        let mut captured = cx.store.capture_stream(head(facts)?, &mut source)?;
        captured.items = items;
        captured.warnings.extend(warnings);
        Ok(captured)
    }

    fn copies(&self) -> bool {
        true
    }

    fn prove(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Option<String>> {
        let path = self.place(cx)?;
        let facts = facts(cx, manifest)?;
        let Some(fingerprint) = facts.fingerprint else { return Ok(None) };
        let copy = Scratch::new(&cx.tmp);
        let mut sink = File::create(copy.path()).or_say(|| format!("cannot write `{}`", copy.path().display()))?;
        cx.store.restore_stream(manifest, &mut sink)?;
        drop(sink);
        let (restored, _) = examined(copy.path(), &path, cx)?;
        match restored == fingerprint {
            true => Ok(Some(fingerprint.in_words())),
            false => Err(not_what_was_captured(&path)),
        }
    }

    fn diff(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let path = self.place(cx)?;
        differences(&path, &facts(cx, manifest)?, cx)
    }

    fn restore(&self, cx: &Context<'_>, manifest: ObjectId) -> Result<Changes> {
        let path = self.place(cx)?;
        let facts = facts(cx, manifest)?;
        let changes = match differences(&path, &facts, cx) {
            // To look at it needs a copy of it.
            Err(error) if cx.replaced == Replaced::GoesFirst && error.is_no_room() => {
                let details = vec!["there was no room to compare it".to_owned()];
                let change = Change { what: What::Changed, name: SETTINGS.to_owned(), details, secret: false };
                Changes { items: vec![change] }
            }
            compared => compared?,
        };
        let needed = match content_differs(&changes, &path) {
            true => Needed::Replace,
            false => exactness(&path, &facts)?.unwrap_or(match changes.is_empty() {
                true => Needed::Nothing,
                false => Needed::Attributes,
            }),
        };
        if needed == Needed::Nothing {
            return Ok(changes);
        }
        // The directory may belong to another resource, which was restored before this one.
        let parent = path.parent().unwrap_or(Path::new("/"));
        make_directory(parent, &facts)?;
        // From here on everything happens in the directory that is open now, wherever its path leads meanwhile.
        let held = files::open_dir(parent).or_say(|| format!("cannot open `{}`", parent.display()))?;
        let held = held.or_say(|| format!("`{}` is not there any more", parent.display()))?;
        if !cx.homes.is_empty() && !cx.homes.contains(&path) {
            return Err(Error::new(format!("`{}` is not where it was captured", path.display())));
        }
        let dir = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held)));
        let at = dir.join(path.file_name().or_say(|| format!("`{}` is no file", path.display()))?);
        put_back(cx, manifest, (&path, &at), needed, &facts).map_err(|error| in_place_of(error, &dir, parent))?;
        let left = differences(&path, &facts, cx)?;
        match left.items.first() {
            None => Ok(changes),
            Some(first) => Err(Error::new(format!("`{}` is restored and still differs", path.display()))
                .because(format!("{}: {}", first.name, first.details.join(", ")))
                .hint("something else writes to it: stop it, then `txupgrade rollback` again")),
        }
    }

    fn is_files(&self) -> bool {
        true
    }

    fn leftovers(&self, cx: &Context<'_>) -> Result<Vec<PathBuf>> {
        Beside::new(&self.place(cx)?, &cx.tx, &cx.subject).everything()
    }

    fn query(&self, cx: &Context<'_>, sql: &str) -> Result<String> {
        let path = self.place(cx)?;
        if !usable(&path)? {
            return Err(Error::new(format!("`{}` does not exist", path.display())));
        }
        with_database(&path, &cx.tmp, |looked| {
            answer(&looked.connection, sql)
                .map_err(|error| in_words(error, &path).within(format!("cannot ask `{}`", path.display())))
        })
    }

    fn execute(&self, cx: &Context<'_>, sql: &str) -> Result<()> {
        let path = self.place(cx)?;
        if !usable(&path)? {
            return Err(Error::new(format!("`{}` does not exist", path.display())));
        }
        let say = |error: rusqlite::Error| in_words(error, &path).within(format!("cannot change `{}`", path.display()));
        let connection = open(&path, Open::ReadWrite).map_err(say)?;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(say)?;
        // On any failure closing the connection takes everything back.
        connection.execute_batch(sql).map_err(|error| {
            let error = say(error);
            match error.causes.iter().any(|cause| cause.contains("within a transaction")) {
                true => error.hint("the script runs in one transaction already: leave out BEGIN, COMMIT and VACUUM"),
                false => error,
            }
        })?;
        if connection.is_autocommit() {
            return Err(Error::new(format!("the script ended its transaction on `{}` by itself", path.display()))
                .hint("the script runs in one transaction already: leave out BEGIN, COMMIT and VACUUM"));
        }
        connection.execute_batch("COMMIT").map_err(say)?;
        connection.close().map_err(|(_, error)| say(error))
    }
}

impl Sqlite {
    fn place(&self, cx: &Context<'_>) -> Result<PathBuf> {
        Ok(resolved(&self.path.path(&cx.scope)?))
    }
}

/// Whether there is a database file; what is there and can never be one is an error.
fn usable(path: &Path) -> Result<bool> {
    let shown = path.display();
    match found(path)? {
        Found::Nothing => Ok(false),
        Found::Other("a symbolic link") => {
            let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            Err(Error::new(format!("`{shown}` is a symbolic link"))
                .hint(format!("name what it points to: path = \"{}\"", target.display())))
        }
        Found::Other(what) => Err(Error::new(format!("`{shown}` is {what}, not a database"))),
        Found::File if mounts::is_mount_point(path)? => {
            Err(Error::new(format!("`{shown}` is a mount point and could not be put back by a rename")))
        }
        Found::File => Ok(true),
    }
}

/// Whoever has it open would go on writing to what is displaced.
fn free_of_others(path: &Path) -> Result<()> {
    if found(path)? == Found::File
        && let Some(pid) = holder(path)?
    {
        return Err(Error::new(format!("`{}` is in use by process {pid}{}", path.display(), command_of(pid)))
            .hint("stop it; then `txupgrade rollback` again"));
    }
    Ok(())
}

/// Puts the database back; `at` is `path` in the directory that is held open.
fn put_back(
    cx: &Context<'_>,
    manifest: ObjectId,
    (path, at): (&Path, &Path),
    needed: Needed,
    facts: &Facts,
) -> Result<()> {
    let beside = Beside::new(at, &cx.tx, &cx.subject);
    let parent = at.parent().unwrap_or(Path::new("/"));
    let time = Attributes::of(&parent.join(".")).ok();
    match (needed, facts) {
        (Needed::Attributes, Facts { file: Some(attributes), .. }) => attributes.give(at)?,
        (_, Facts { file: Some(attributes), fingerprint: Some(fingerprint), .. }) => {
            free_of_others(path)?;
            let bring = || bring(cx, manifest, path, &beside, fingerprint);
            let new = match bring() {
                Err(error) if cx.replaced == Replaced::GoesFirst && error.is_no_room() => {
                    remove(at)?;
                    bring()?
                }
                brought => brought?,
            };
            attributes.give(&new)?;
            let synced = File::open(&new).and_then(|file| file.sync_all());
            synced.or_say(|| format!("cannot sync `{}`", new.display()))?;
            beside.put_in_place(&new, at)?;
        }
        _ => {
            free_of_others(path)?;
            beside.move_aside(at)?;
        }
    }
    match time {
        Some(time) => time.give_time(&parent.join(".")),
        None => Ok(()),
    }
}

/// The directory that somebody removed.
fn make_directory(parent: &Path, facts: &Facts) -> Result<()> {
    match &facts.directory {
        Some(directory) if found(parent)? == Found::Nothing => {
            std::fs::create_dir(parent).or_say(|| format!("cannot create `{}`", parent.display()))?;
            directory.give(parent)
        }
        _ => Ok(()),
    }
}

/// The same error in words that mean something to a person.
fn in_place_of(error: Error, held: &Path, dir: &Path) -> Error {
    let (held, dir) = (held.display().to_string(), dir.display().to_string());
    let named = |text: &String| text.replace(&held, &dir);
    Error {
        statement: named(&error.statement),
        causes: error.causes.iter().map(named).collect(),
        hints: error.hints.iter().map(named).collect(),
        fault: error.fault,
    }
}

/// Writes what was captured beside the live database and proves it.
fn bring(
    cx: &Context<'_>,
    manifest: ObjectId,
    path: &Path,
    beside: &Beside,
    fingerprint: &Fingerprint,
) -> Result<PathBuf> {
    let new = beside.incoming();
    if found(&new)? != Found::Nothing {
        crate::sys::files::remove_tree(&new)?;
    }
    let say = || format!("cannot write `{}`", new.display());
    let write = || -> Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut sink = File::options().write(true).create_new(true).mode(0o600).open(&new).or_say(say)?;
        cx.store.restore_stream(manifest, &mut sink)?;
        sink.sync_all().or_say(say)
    };
    if let Err(error) = write() {
        // A half of it only takes room.
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    let (restored, _) = examined(&new, path, cx)?;
    match restored == *fingerprint {
        true => Ok(new),
        false => Err(not_what_was_captured(path)),
    }
}

/// Removes the live database, for one that has been read and checked. What dies in between leaves no database, or one
/// without its log, which the next restore replaces.
fn remove(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        crate::sys::files::remove_tree(&side(path, suffix))?;
    }
    Ok(())
}

fn answer(connection: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut asked = connection.prepare(sql)?;
    let columns = asked.column_count();
    let mut rows = asked.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let mut cells = Vec::with_capacity(columns);
        for column in 0..columns {
            cells.push(match row.get_ref(column)? {
                ValueRef::Null => String::new(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            });
        }
        lines.push(cells.join("\t"));
    }
    Ok(lines.join("\n"))
}
