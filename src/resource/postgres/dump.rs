//! What goes out of a database and into it: its fingerprint, its dump, the load of a dump.

use std::io::{BufRead, Read, Seek, Write};

use super::print::{self, Seen};
use super::server::{Failure, Server, literal_value, one_line};
use super::words::{code, literal};
use crate::context::default_timeout;
use crate::error::{Error, OrSay, Result};
use crate::resource::fingerprint::Fingerprint;
use crate::resource::pipe;
use crate::store::ObjectId;
use crate::sys::mounts;

impl Server<'_> {
    /// Fingerprints a database; `also` runs while the snapshot that it is of is held, and is given its name.
    pub(super) fn look<T>(&self, database: &str, also: impl FnOnce(&str, Seen, Fingerprint) -> Result<T>) -> Result<T> {
        let address = self.at(database);
        let mut holder = self.client(&address, &[]);
        // It lasts as long as all that happens meanwhile.
        holder.timeout = Some(self.way.timeout.unwrap_or(default_timeout::STEP) * 3);
        let before = self.cx.said.borrow().len();
        let looked = pipe::beside(self.cx, &holder, |script: &mut dyn Write, answers: &mut dyn BufRead| {
            let asked = script.write_all(print::script().as_bytes()).and_then(|()| script.flush());
            asked.or_say(|| "cannot ask psql")?;
            let snapshot = print::snapshot(answers)?;
            let schema = self.dump(database, &snapshot, &["--schema-only", "--encoding=UTF8"], |source| {
                let mut text = Vec::new();
                source.read_to_end(&mut text).or_say(|| "cannot read what pg_dump says")?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            });
            // A failure that is not the session's own is kept apart.
            let schema = match schema {
                Ok(schema) => schema,
                Err(error) => return Ok(Err(error)),
            };
            let seen = print::seen(answers, &|| self.cx.go_on())?;
            let fingerprint = print::fingerprint(&seen, &schema)?;
            Ok(also(&snapshot, seen, fingerprint))
        });
        looked.unwrap_or_else(|error| {
            let failure = self.failure(error, before);
            Err(match failure.complaint.code == code::LOCKED {
                true => self.locked(database, failure),
                false => failure.about(format!("cannot read the database `{database}`")),
            })
        })
    }

    /// Runs `pg_dump` on a snapshot of a database.
    pub(super) fn dump<T: Send>(
        &self,
        database: &str,
        snapshot: &str,
        more: &[&str],
        work: impl FnOnce(&mut dyn Read) -> Result<T> + Send,
    ) -> Result<T> {
        let mut words = vec![
            self.dbname(&self.at(database)),
            format!("--snapshot={snapshot}"),
            format!("--lock-wait-timeout={}", print::PATIENCE),
            "--no-password".to_owned(),
            // A subscription that is restored would be a second one of the same slot.
            "--no-subscriptions".to_owned(),
        ];
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let command = self.command("pg_dump", self.bin.clone(), words);
        let before = self.cx.said.borrow().len();
        pipe::dump(self.cx, &command, work)
            .map_err(|error| self.in_words(error, before, format!("cannot dump the database `{database}`")))
    }

    /// Loads a dump into a database. `pg_restore` works on several tables at once, or builds several indexes, only from a
    /// file; where there is no room for one, or it does not pay, it is given a pipe.
    pub(super) fn load(&self, database: &str, manifest: ObjectId) -> Result<()> {
        const PAYS: u64 = 8 << 20;
        let cx = self.cx;
        let (bytes, _) = cx.store.size_of(manifest)?;
        let jobs = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
        let roomy = mounts::free(&cx.tmp).is_ok_and(|free| free / 2 > bytes);
        let parallel = jobs > 1 && bytes > PAYS && roomy;
        let mut words = ["--exit-on-error", "--no-password"].map(str::to_owned).to_vec();
        words.push(self.dbname(&self.at(database)));
        if parallel {
            words.extend([format!("--jobs={jobs}"), "/dev/stdin".to_owned()]);
        }
        let mut command = self.command("pg_restore", self.bin.clone(), words);
        // The rename that puts it in place waits for all of it to be on disk.
        command.env.insert("PGOPTIONS".to_owned(), literal_value("-c synchronous_commit=off"));
        let before = cx.said.borrow().len();
        let loaded = match parallel {
            true => self.laid_out(manifest).and_then(|file| pipe::load_file(cx, &command, file)),
            false => pipe::load(cx, &command, |sink| cx.store.restore_stream(manifest, sink)),
        };
        loaded.map_err(|error| self.in_words(error, before, format!("cannot load the dump of `{}`", self.database)))
    }

    /// The dump in a file without a name.
    fn laid_out(&self, manifest: ObjectId) -> Result<std::fs::File> {
        let path = self.cx.tmp.join(format!("{}.dump", blake3::hash(self.cx.subject.as_bytes()).to_hex()));
        let say = || format!("cannot write `{}`", path.display());
        let _ = std::fs::remove_file(&path);
        let made = std::fs::File::options().read(true).write(true).create_new(true).open(&path);
        let mut file = made.or_say(say)?;
        std::fs::remove_file(&path).or_say(say)?;
        self.cx.store.restore_stream(manifest, &mut file)?;
        file.rewind().or_say(say)?;
        Ok(file)
    }

    /// The failure of a tool: what it said, else what became of it.
    fn in_words(&self, error: Error, before: usize, statement: String) -> Error {
        // The full disk of the store is told first, and the dump's complaint about its pipe is none.
        if error.is_no_room() {
            return error.within(statement);
        }
        self.failure(error, before).about(statement)
    }

    /// Who holds the lock that was waited for.
    fn locked(&self, database: &str, failure: Failure) -> Error {
        let holders = format!(
            "SELECT DISTINCT ON (a.pid) json_build_array(a.pid, a.usename, a.application_name, left(a.query, 80))
             FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database
             WHERE d.datname = {} AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
               AND l.relation >= 16384;",
            literal(database)
        );
        let mut error = Error::new(format!("cannot read the database `{database}`: a table in it is locked"))
            .fault(failure.error.fault);
        for row in self.rows(&self.maintenance, &holders).unwrap_or_default() {
            let Ok((pid, user, application, query)) = serde_json::from_value::<(u32, String, String, String)>(row)
            else {
                continue;
            };
            error = error
                .because(self.cx.log.masked(&format!(
                    "session {pid} (role `{user}`, application `{application}`) holds it: {}",
                    one_line(&query)
                )))
                .hint(format!("stop what it belongs to, or end it: SELECT pg_terminate_backend({pid})"));
        }
        if error.causes.is_empty() { error.because(failure.complaint.text) } else { error }
    }
}
