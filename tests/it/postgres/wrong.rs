//! What cannot work is said in words, with nothing changed and everything up again.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cluster::{Cluster, does};
use super::{left, plan};
use crate::bed::{Bed, Said};
use crate::disk::Disk;

/// An application with a database and a server of its own to stop.
struct Shop {
    bed: Bed,
    cluster: Cluster,
}

/// A session that waits until it is ended.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const QUIESCE: &str = "\n[[quiesce]]\nname = \"server\"\nkind = \"command\"\n\
     shell = \"rm up; sh ./while-down\"\nresume = { shell = \"touch up; rm -f small/fill\" }\n";

const STEP: &str =
    "\n[[step]]\nname = \"migrate\"\nkind = \"sql\"\nresource = \"db\"\nquery = \"INSERT INTO t VALUES (2)\"\n";
const BREAKS: &str = "\n[[step]]\nname = \"start\"\nkind = \"command\"\nrun = [\"sh\", \"./break\"]\n";

impl Shop {
    fn new() -> Shop {
        let (bed, cluster) = (Bed::new(), Cluster::new());
        cluster.sql("postgres", "CREATE ROLE app LOGIN CREATEDB");
        cluster.sql("postgres", "CREATE DATABASE shop OWNER app");
        cluster.file("shop", "SET ROLE app; CREATE TABLE t (x int); INSERT INTO t VALUES (1)");
        bed.write("up", "");
        bed.write("while-down", "true");
        bed.write("break", "false");
        Shop { bed, cluster }
    }

    /// Runs the plan as a role; `more` are keys of the database.
    fn run(&self, role: &str, more: &str) -> Said {
        let rest = format!("{more}{QUIESCE}{STEP}{BREAKS}");
        self.bed.write("plan.toml", &plan(&self.cluster, role, &rest));
        self.bed.run(&["run", "plan.toml"])
    }

    /// What was said at the end; everything is as it was, and up.
    #[track_caller]
    fn told(&self, said: &Said) -> String {
        assert!(self.bed.exists("up"), "{}", said.err);
        let told = self.cluster.told(said, &self.bed);
        told[told.find("error: ").unwrap_or_else(|| panic!("{told}"))..].to_owned()
    }

    /// A session of a role that begins with some SQL and then sleeps.
    fn session(&self, role: &str, sql: &str) -> Session {
        let mut command = self.cluster.client("psql", "shop");
        command.args(["-Xq", "-U", role, "-c", &format!("{sql}; SELECT pg_sleep(600)")]);
        let child = command.env("PGAPPNAME", "cron").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while self.cluster.sql("postgres", asleep) == "0" {
            assert!(began.elapsed() < Duration::from_secs(20), "the session does not begin");
        }
        Session(child)
    }
}

#[test]
fn who_may_not_is_told_what_to_grant() {
    let shop = Shop::new();
    let mut told = String::new();
    let sql = |sql: &str| shop.cluster.sql("postgres", sql);
    sql("ALTER ROLE app NOCREATEDB");
    told += &shop.told(&shop.run("app", "").ends(1));
    sql("ALTER ROLE app CREATEDB; CREATE ROLE other LOGIN CREATEDB");
    told += &shop.told(&shop.run("other", "").ends(1));
    shop.cluster.sql("shop", "CREATE TABLE mine (x int)");
    told += &shop.told(&shop.run("app", "").ends(1));
    shop.cluster.sql("shop", "DROP TABLE mine; ALTER TABLE t OWNER TO postgres; GRANT SELECT ON t TO app");
    told += &shop.told(&shop.run("app", "").ends(1));
    shop.cluster.sql("shop", "ALTER TABLE t OWNER TO app");
    sql("ALTER DATABASE shop ALLOW_CONNECTIONS false");
    told += &shop.told(&shop.run("app", "").ends(1));
    sql("ALTER DATABASE shop ALLOW_CONNECTIONS true");
    told += &shop.told(&shop.run("nobody_is_called_so", "").ends(1));
    assert_eq!(left(&shop.cluster), Vec::<String>::new());
    assert_eq!(shop.cluster.sql("shop", "SELECT x FROM t"), "1");
    insta::assert_snapshot!(told, @r#"
    error: `require resource db` failed; nothing was changed
      cause: role `app` may not create and rename databases, which a rollback of `shop` needs
    hint: ALTER ROLE "app" CREATEDB
    hint: after a fix, `txupgrade run plan.toml` again
    error: `require resource db` failed; nothing was changed
      cause: the database `shop` belongs to `app`, and role `other` may not rename it, which a rollback needs
    hint: GRANT "app" TO "other"
    hint: after a fix, `txupgrade run plan.toml` again
    error: `require resource db` failed; nothing was changed
      cause: role `app` may not read `mine` in the database `shop`
    hint: GRANT pg_read_all_data TO "app", or use the role that everything in it belongs to
    hint: after a fix, `txupgrade run plan.toml` again
    error: proof of `db` failed; nothing was changed
      cause: cannot load the dump of `shop`
      cause: could not execute query: ERROR: must be member of role "postgres"
    hint: after a fix, `txupgrade run plan.toml` again
    error: `require resource db` failed; nothing was changed
      cause: the database `shop` allows no connections, so it cannot be captured
    hint: ALTER DATABASE "shop" ALLOW_CONNECTIONS true
    hint: after a fix, `txupgrade run plan.toml` again
    error: `require resource db` failed; nothing was changed
      cause: cannot reach the server of `postgresql://nobody_is_called_so@/shop?host=PG`
      cause: connection to server on socket "PG/.s.PGSQL.5432" failed: FATAL: role "nobody_is_called_so" does not exist
    hint: after a fix, `txupgrade run plan.toml` again
    "#);
}

#[test]
fn a_password_comes_from_its_file_and_nowhere_else() {
    let shop = Shop::new();
    shop.cluster.sql("postgres", "SET password_encryption = 'scram-sha-256'; ALTER ROLE app PASSWORD 'hunter2'");
    shop.cluster.ask_for_passwords("app");
    let mut told = shop.told(&shop.run("app", "").ends(1));
    let file = "password_file = \"pgpass\"\n";
    told += &shop.told(&shop.run("app", file).ends(1));
    shop.bed.write("pgpass", "*:*:*:app:wrong\n");
    does(Command::new("chmod").arg("644").arg(shop.bed.path("pgpass")));
    told += &shop.told(&shop.run("app", file).ends(1));
    does(Command::new("chmod").arg("600").arg(shop.bed.path("pgpass")));
    told += &shop.told(&shop.run("app", file).ends(1));
    insta::assert_snapshot!(told, @r#"
    error: `require resource db` failed; nothing was changed
      cause: cannot reach the server of `postgresql://app@/shop?host=PG`
      cause: connection to server on socket "PG/.s.PGSQL.5432" failed: fe_sendauth: no password supplied
    hint: password_file = "/etc/shop/pgpass", mode 600, with a line host:port:*:user:password
    hint: after a fix, `txupgrade run plan.toml` again
    error: `require resource db` failed; nothing was changed
      cause: cannot look at the password file `BED/pgpass`
      cause: No such file or directory (os error 2)
    hint: after a fix, `txupgrade run plan.toml` again
    error: `require resource db` failed; nothing was changed
      cause: the password file `BED/pgpass` is open to others: its mode is 644
    hint: chmod 600 BED/pgpass
    hint: after a fix, `txupgrade run plan.toml` again
    error: `require resource db` failed; nothing was changed
      cause: cannot reach the server of `postgresql://app@/shop?host=PG`
      cause: connection to server on socket "PG/.s.PGSQL.5432" failed: FATAL: password authentication failed for user "app"
    hint: the password is taken from the first line of `BED/pgpass` that fits, host:port:database:user:password; let its database be `*`, since other databases of the server are needed too
    hint: after a fix, `txupgrade run plan.toml` again
    "#);
    shop.bed.write("pgpass", "*:*:*:app:hunter2\n");
    shop.run("app", file).ends(3);
    let kept = Command::new("grep").args(["-r", "hunter2"]).arg(shop.bed.state()).output().unwrap();
    assert_eq!(kept.status.code(), Some(1), "{}", String::from_utf8_lossy(&kept.stdout));
}

#[test]
fn a_server_that_cannot_be_used_is_named() {
    let shop = Shop::new();
    // The tools of an old version: those of the machine are hidden from this one program.
    shop.bed.script("old/pg_dump", "echo 'pg_dump (PostgreSQL) 13.22'");
    shop.bed.write("plan.toml", &plan(&shop.cluster, "app", &format!("{QUIESCE}{STEP}{BREAKS}")));
    let hide = "cp /usr/lib/postgresql/15/bin/psql old/psql; mount -t tmpfs tmpfs /usr/lib/postgresql; \
                mkdir -p /usr/lib/postgresql/13/bin; cp old/* /usr/lib/postgresql/13/bin; PATH=$PWD/old:$PATH exec \"$@\"";
    let old = shop.bed.command(&["run", "plan.toml"]);
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-euc", hide, "sh"]).arg(old.get_program()).args(old.get_args());
    hidden.current_dir(shop.bed.path("")).env("NO_COLOR", "1").stdin(Stdio::null());
    let said = Said::of(hidden.output().expect("`unshare` comes with util-linux"));
    let mut told = shop.told(&said.ends(1));
    shop.cluster.stop();
    told += &shop.told(&shop.run("app", "").ends(1));
    shop.cluster.start();
    insta::assert_snapshot!(told, @r#"
    error: `require resource db` failed; nothing was changed
      cause: the server is PostgreSQL 15, and `pg_dump` here is of version 13, which is too old
    hint: apt-get install postgresql-client-15
    hint: after a fix, `txupgrade run plan.toml` again
    error: `require resource db` failed; nothing was changed
      cause: cannot reach the server of `postgresql://app@/shop?host=PG`
      cause: connection to server on socket "PG/.s.PGSQL.5432" failed: No such file or directory
    hint: is the server running? `pg_lsclusters` shows those of this machine
    hint: after a fix, `txupgrade run plan.toml` again
    "#);
}

#[test]
fn a_lock_that_is_held_for_ever_is_not_waited_for() {
    let shop = Shop::new();
    let _holder = shop.session("app", "BEGIN; LOCK TABLE t");
    let said = shop.run("app", "").ends(1);
    insta::assert_snapshot!(shop.told(&said), @r#"
    error: capture of `db` failed; nothing was changed
      cause: cannot read the database `shop`: a table in it is locked
      cause: session PID (role `app`, application `cron`) holds it: BEGIN; LOCK TABLE t; SELECT pg_sleep(600)
    hint: stop what it belongs to, or end it: SELECT pg_terminate_backend(PID)
    hint: after a fix, `txupgrade run plan.toml` again
    "#);
    assert_eq!(left(&shop.cluster), Vec::<String>::new());
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_dump_stops_nothing() {
    let shop = Shop::new();
    let _disk = Disk::in_memory(&shop.bed, "small", 40 << 20, 10_000);
    shop.cluster.sql("shop", "CREATE TABLE big AS SELECT i, string_agg(md5(random()::text), '') AS t FROM generate_series(1, 4000) i, generate_series(1, 120) GROUP BY i");
    // Somebody fills it while the server is down; nobody has done so when room is asked for.
    let room = "$(( $(df --output=avail --block-size=1 small | tail -1) - 2000000 ))";
    shop.bed.write("while-down", &format!("head -c {room} /dev/zero > small/fill"));
    shop.bed.write("plan.toml", &plan(&shop.cluster, "postgres", &format!("{QUIESCE}{STEP}{BREAKS}")));
    let mut command = Command::new(shop.bed.command(&[""]).get_program());
    command.args(["--state-dir", "small/state", "run", "plan.toml"]).current_dir(shop.bed.path(""));
    let said = Said::of(command.output().unwrap()).ends(1);
    let told = regex::Regex::new(r"tmp/\S+").unwrap().replace(&shop.told(&said), "tmp/…`").into_owned();
    let told = regex::Regex::new(r"--snapshot=\S+").unwrap().replace(&told, "--snapshot=…").into_owned();
    insta::assert_snapshot!(told, @r#"
    error: capture of `db` failed; nothing was changed
      cause: cannot dump the database `shop`
      cause: cannot write `BED/small/state/tmp/…`
      cause: No space left on device (os error 28)
      cause: `/usr/lib/postgresql/15/bin/pg_dump '--dbname=postgresql://postgres@/shop?host=PG&application_name=txupgrade_HASH' --snapshot=… --lock-wait-timeout=10s --no-password --no-subscriptions --format=custom --compress=0` was ended by PIPE
    hint: after a fix, `txupgrade run plan.toml` again
    "#);
}

#[test]
fn what_stands_in_the_way_of_a_restore_is_named_and_then_it_goes_on() {
    let shop = Shop::new();
    shop.cluster.sql("postgres", "CREATE ROLE reader");
    shop.cluster.sql("shop", "GRANT SELECT ON t TO reader");
    let mut told = String::new();
    let again = || shop.bed.run(&["rollback"]);
    let psql = format!("psql -Xqh {} -U postgres shop -c", shop.cluster.dir().display());
    // A role is gone.
    shop.bed.write("break", &format!("{psql} 'REVOKE ALL ON t FROM reader' -c 'DROP ROLE reader'; false"));
    let said = shop.run("postgres", "").ends(5);
    told += &said_last(&shop, &said);
    assert_eq!(shop.cluster.sql("shop", "SELECT count(*) FROM t"), "2", "nothing is changed");
    shop.cluster.sql("postgres", "CREATE ROLE reader");
    again().ends(0);
    assert_eq!(shop.cluster.sql("shop", "SELECT count(*) FROM t"), "1");
    // Somebody has a prepared transaction.
    shop.bed.write("break", &format!("{psql} \"BEGIN; INSERT INTO t VALUES (3); PREPARE TRANSACTION 'half'\"; false"));
    let said = shop.run("postgres", "").ends(5);
    told += &said_last(&shop, &said);
    shop.cluster.sql("shop", "ROLLBACK PREPARED 'half'");
    again().ends(0);
    assert_eq!(shop.cluster.sql("shop", "SELECT count(*) FROM t"), "1");
    // Whoever is connected may not be ended by this role.
    shop.bed.write("break", "false");
    shop.cluster.sql("shop", "REVOKE ALL ON t FROM reader");
    let other = shop.session("postgres", "SELECT 1");
    let said = shop.run("app", "").ends(5);
    assert!(said.err.contains("may not end the sessions of `postgres`"), "{}", said.err);
    told += &said_last(&shop, &said);
    assert_eq!(shop.cluster.sql("shop", "SELECT count(*) FROM t"), "2", "it is open as before");
    drop(other);
    shop.cluster
        .sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cron'");
    again().ends(0);
    assert_eq!(left(&shop.cluster), Vec::<String>::new());
    // Sessions that may be ended are.
    let _own = shop.session("app", "SELECT 1");
    shop.run("app", "").ends(3);
    insta::assert_snapshot!(told, @r#"
    error: step `start` failed, and shop-1 is stuck on its way back: restore of `db` failed
      cause: `sh ./break` ended with exit status 1
      also: restore of `db` failed: what was captured of `shop` belongs to roles that are gone: `reader`
      also: `recheck resource db` failed: `db` is not as it was: it differs in `public.t`, `grants on table public.t`
      restored: nothing
      not restored: `db`
    hint: CREATE ROLE "reader"; and then `txupgrade rollback` again
      kept down: `server`
    hint: remove the cause, then `txupgrade rollback shop-1` tries again
    hint: once it is restored by hand, `txupgrade release shop-1 --resume` (or `--leave-down`) closes it
    error: step `start` failed, and shop-2 is stuck on its way back: restore of `db` failed
      cause: `sh ./break` ended with exit status 1
      also: restore of `db` failed: cannot put the database `shop` back in its place: database "shop" is being accessed by other users: the prepared transaction `half` of `postgres`
      also: `recheck resource db` failed: `db` is not as it was: it differs in `public.t`
      restored: nothing
      not restored: `db`
    hint: ROLLBACK PREPARED 'its name', in that database; then `txupgrade rollback` again
      kept down: `server`
    hint: remove the cause, then `txupgrade rollback shop-2` tries again
    hint: once it is restored by hand, `txupgrade release shop-2 --resume` (or `--leave-down`) closes it
    error: step `start` failed, and shop-3 is stuck on its way back: restore of `db` failed
      cause: `sh ./break` ended with exit status 1
      also: restore of `db` failed: cannot put the database `shop` back in its place: must be a superuser to terminate superuser process: session PID (role `postgres`, application `cron`): <insufficient privilege>
      also: `recheck resource db` failed: `db` is not as it was: it differs in `public.t`
      restored: nothing
      not restored: `db`
    hint: stop them, or let the role end them: GRANT pg_signal_backend TO "app"
      kept down: `server`
    hint: remove the cause, then `txupgrade rollback shop-3` tries again
    hint: once it is restored by hand, `txupgrade release shop-3 --resume` (or `--leave-down`) closes it
    "#);
}

fn said_last(shop: &Shop, said: &Said) -> String {
    let told = shop.cluster.told(said, &shop.bed);
    told[told.find("error: ").unwrap()..].to_owned()
}
