//! Databases beside the live one, and how one takes its place.
//!
//! Promises: at every moment there is a whole database under the live name, or none where there was none: both renames
//! are one transaction of the server. What is displaced stays, closed to everybody, until the transaction's end.

use super::server::{Answer, Failure, Server, hashed, one_line};
use super::words::{code, ident, literal};
use crate::error::Result;

/// The names of databases beside the live one.
pub(super) struct Beside {
    /// What all of them begin with.
    prefix: String,
}

impl Beside {
    pub(super) fn of(server: &Server<'_>) -> Beside {
        let cx = server.cx;
        let parts = [cx.tx.as_str(), &cx.subject, &cx.state.display().to_string(), &server.database];
        Beside { prefix: format!("txupgrade_{}_", hashed(&parts)) }
    }

    /// Where a dump is loaded to be proved.
    pub(super) fn proof(&self) -> String {
        format!("{}proof", self.prefix)
    }

    /// Where it is loaded to be put in place.
    pub(super) fn incoming(&self) -> String {
        format!("{}incoming", self.prefix)
    }

    fn displaced(&self, number: usize) -> String {
        format!("{}displaced_{number}", self.prefix)
    }

    /// Those that are there.
    pub(super) fn all(&self, server: &Server<'_>) -> Result<Vec<String>> {
        let sql = format!("SELECT datname FROM pg_database WHERE starts_with(datname, {});", literal(&self.prefix));
        Ok(server.tell(&sql)?.lines().map(str::to_owned).collect())
    }

    /// Whether a live database was displaced already.
    pub(super) fn has_displaced(&self, server: &Server<'_>) -> Result<bool> {
        Ok(self.all(server)?.contains(&self.displaced(1)))
    }
}

/// Whether there is a database of that name, and whether it can be connected to.
pub(super) fn is_open(server: &Server<'_>, name: &str) -> Result<Option<bool>> {
    let sql = format!("SELECT datallowconn FROM pg_database WHERE datname = {};", literal(name));
    Ok(match server.tell(&sql)?.as_str() {
        "" => None,
        open => Some(open == "t"),
    })
}

/// Drops a database of ours, if it is there, and nobody creates it any more.
pub(super) fn drop_beside(server: &Server<'_>, name: &str) -> Result<()> {
    server.end_abandoned()?;
    if is_open(server, name)?.is_none() {
        return Ok(());
    }
    let say = |failure: Box<Failure>| failure.about(format!("cannot drop the database `{name}`"));
    // One that was half dropped, which the server marks so, can only be dropped.
    let close = format!(
        "SELECT format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS false IS_TEMPLATE false', datname)
         FROM pg_database WHERE datname = {} AND datconnlimit <> -2 \\gexec\n",
        literal(name)
    );
    server.tell(&close).map_err(say)?;
    patiently(server, name, &format!("DROP DATABASE IF EXISTS {};", ident(name))).map_err(say)
}

/// Puts `new` (or nothing) in the place of the live database, which is kept aside.
pub(super) fn put_in_place(server: &Server<'_>, beside: &Beside, new: Option<&str>) -> Result<()> {
    let live = &server.database;
    let say = |failure: Box<Failure>| failure.about(format!("cannot put the database `{live}` back in its place"));
    let mut renames = String::new();
    let is_there = is_open(server, live)?.is_some();
    if is_there {
        let taken = beside.all(server)?;
        let displaced = (1..).map(|number| beside.displaced(number)).find(|name| !taken.contains(name));
        let displaced = displaced.expect("there are more numbers than databases");
        renames += &format!("ALTER DATABASE {} RENAME TO {};\n", ident(live), ident(&displaced));
        let close = format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false;", ident(live));
        server.tell(&close).map_err(say)?;
    }
    if let Some(new) = new {
        renames += &format!("ALTER DATABASE {} RENAME TO {};\n", ident(new), ident(live));
    }
    patiently(server, live, &format!("BEGIN;\n{renames}COMMIT;")).map_err(|failure| {
        // Nothing was changed, and whoever uses it goes on.
        if is_there {
            let _ = server.tell(&format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true;", ident(live)));
        }
        say(failure)
    })
}

/// Ends whoever is connected to a closed database and runs `sql`, which needs it to be free.
fn patiently(server: &Server<'_>, name: &str, sql: &str) -> Answer<()> {
    const TRIES: u32 = 3;
    let mut tries = 0;
    loop {
        tries += 1;
        let ended = server.tell(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {};",
            literal(name)
        ));
        match ended.and_then(|_| server.tell(sql)) {
            Ok(_) => return Ok(()),
            Err(failure) if failure.complaint.code == code::IN_USE && tries < TRIES => {}
            Err(failure) => return Err(named(server, name, failure)),
        }
    }
}

/// Adds who is in the way.
fn named(server: &Server<'_>, name: &str, mut failure: Box<Failure>) -> Box<Failure> {
    let who = format!(
        "SELECT format('session %s (role `%s`, application `%s`): %s', pid, usename, application_name, translate(left(query, 80), E'\\n\\r', '  '))
         FROM pg_stat_activity WHERE datname = {0}
         UNION ALL SELECT format('the prepared transaction `%s` of `%s`', gid, owner) FROM pg_prepared_xacts WHERE database = {0};",
        literal(name)
    );
    let who = server.tell(&who).unwrap_or_default();
    let mut error = failure.error;
    for line in who.lines().filter(|line| !line.is_empty()) {
        error = error.because(server.cx.log.masked(&one_line(line)));
    }
    if who.contains("prepared transaction") {
        error = error.hint("ROLLBACK PREPARED 'its name', in that database; then `txupgrade rollback` again");
    } else if who.contains("session ") {
        error = error.hint(format!(
            "stop them, or let the role end them: GRANT pg_signal_backend TO {}",
            ident(&server.about.role)
        ));
    }
    failure.error = error;
    failure
}
