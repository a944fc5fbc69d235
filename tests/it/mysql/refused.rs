//! What cannot be captured is refused with nothing changed and the services up; what cannot be put back is found out before.

use std::process::Command;

use super::server::Server;
use super::{PLAN, assert_same, in_the_way, shop};
use crate::bed::Said;
use crate::disk::{Disk, Kind};

/// Runs the plan with `with` in the place of `what`; it fails before its first step. What was said of why.
#[track_caller]
fn refused(server: &Server, what: &str, with: &str, path: Option<&str>) -> String {
    assert!(PLAN.contains(what), "{what}");
    server.bed.write("plan.toml", &PLAN.replace(what, with));
    let mut command = server.bed.command(&["run", "plan.toml"]);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let said = Said::of(command.output().unwrap()).ends(1);
    assert!(server.bed.exists("up"), "{}", said.err);
    why(&said, server)
}

/// The error and what follows it, the long command line of a tool cut short.
fn why(said: &Said, server: &Server) -> String {
    let told = said.told(&server.bed);
    let from = told.find("error: ").unwrap_or_else(|| panic!("{told}"));
    let command = regex::Regex::new(r"`(mariadb[a-z-]*) --defaults-file=[^`]*`").unwrap();
    let hint = regex::Regex::new(r"\nhint: after a fix.*").unwrap();
    let numbers = regex::Regex::new(r"connection \d+").unwrap();
    let told = command.replace_all(&told[from..], "`$1 …`");
    let told = hint.replace_all(&told, "");
    let archives = regex::Regex::new(r"tmp/\d+-\d+/archive-\d+-\d+").unwrap();
    let told = archives.replace_all(&told, "ARCHIVE");
    numbers.replace_all(&told, "connection N").trim_end().to_owned()
}

#[test]
fn what_cannot_be_captured_or_put_back_is_refused() {
    let mut server = shop();
    let before = server.world();
    server.sql("CREATE USER locked@localhost IDENTIFIED BY 'right'; GRANT SELECT ON shop.* TO locked@localhost;");
    server.option_file("wrong.cnf", "user=locked\npassword=wrong\n");
    server.option_file("poor.cnf", "user=locked\npassword=right\n");
    server.option_file("open.cnf", "user=root\n");
    server.bed.script("old/mariadb-dump", "echo 'mariadb-dump  Ver 10.19 Distrib 10.6.12-MariaDB, for Linux (x86_64)'");
    for program in ["rm", "touch", "sh", "mariadb"] {
        let found = ["/usr/bin/", "/bin/"].map(|dir| dir.to_owned() + program);
        let found = found.iter().find(|path| std::path::Path::new(path).exists()).unwrap();
        std::fs::create_dir_all(server.bed.path("few")).unwrap();
        std::os::unix::fs::symlink(found, server.bed.path("few").join(program)).unwrap();
    }
    let world = Command::new("chmod").arg("666").arg(server.bed.path("open.cnf")).status().unwrap();
    assert!(world.success());
    let (own, few) = (std::env::var("PATH").unwrap(), server.bed.path("few").display().to_string());
    let old = format!("{}:{own}", server.bed.path("old").display());
    let mut told = String::new();
    let mut tell = |name: &str, text: String| told += &format!("{name}:\n{text}\n\n");
    tell("wrong password", refused(&server, "my.cnf\"\ndatabase", "wrong.cnf\"\ndatabase", None));
    tell("no such option file", refused(&server, "my.cnf\"\ndatabase", "none.cnf\"\ndatabase", None));
    tell("open to all", refused(&server, "my.cnf\"\ndatabase", "open.cnf\"\ndatabase", None));
    tell("few rights", refused(&server, "my.cnf\"\ndatabase", "poor.cnf\"\ndatabase", None));
    tell("the server's own", refused(&server, "\"shop\"\n\n[[step]]", "\"mysql\"\n\n[[step]]", None));
    tell("an old tool", refused(&server, "shop", "shop", Some(&old)));
    tell("no tool", refused(&server, "shop", "shop", Some(&few)));
    std::fs::remove_file(server.bed.path("few/mariadb")).unwrap();
    tell("no client", refused(&server, "shop", "shop", Some(&few)));
    server
        .bed
        .script("old/mariadb-dump", "echo 'mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)'");
    tell("of the other make", refused(&server, "shop", "shop", Some(&old)));
    server.bed.script("old/mariadb-dump", "echo 'it dumps'");
    tell("no version", refused(&server, "shop", "shop", Some(&old)));
    server.bed.script("old/mariadb", "echo rubbish");
    tell("another client", refused(&server, "shop", "shop", Some(&old)));
    server.sql("GRANT ALL PRIVILEGES ON shop.* TO locked@localhost WITH GRANT OPTION;");
    tell("blind", refused(&server, "my.cnf\"\ndatabase", "poor.cnf\"\ndatabase", None));
    server.sql("CREATE TABLE other.r(id int PRIMARY KEY, FOREIGN KEY (id) REFERENCES shop.parent(id));");
    tell("a key from elsewhere", refused(&server, "shop", "shop", None));
    server.sql("DROP TABLE other.r; DROP USER locked@localhost;");
    assert_same(&server.world(), &before);
    server.stop();
    tell("server down", refused(&server, "shop", "shop", None));
    insta::assert_snapshot!(told, @r#"
    wrong password:
    error: `require resource db` failed; nothing was changed
      cause: the server of `shop` refuses the login
      cause: `mariadb …` ended with exit status 1
      cause: its last line was: ERROR 1045 (28000): Access denied for user 'locked'@'localhost' (using password: YES)
    hint: `option_file` names a file with user and password; `user` the account of this machine to be

    no such option file:
    error: `require resource db` failed; nothing was changed
      cause: cannot read the option file `BED/none.cnf`
      cause: No such file or directory (os error 2)

    open to all:
    error: `require resource db` failed; nothing was changed
      cause: the option file `BED/open.cnf` may be written by others
    hint: chmod 600 BED/open.cnf

    few rights:
    error: `require resource db` failed; nothing was changed
      cause: 'locked'@'localhost' could not put `shop` back
      cause: it lacks ALTER, ALTER ROUTINE, CREATE, CREATE ROUTINE, CREATE VIEW, DELETE, DROP, EVENT, EXECUTE, INDEX, INSERT, REFERENCES, SELECT, SHOW VIEW, TRIGGER on `shop`.* and `txupgrade_%`.*
      cause: it lacks GRANT OPTION on `shop`.*, to put back who was allowed what
      cause: it lacks SET USER (on MySQL SET_USER_ID), since some of it runs on behalf of ghost@%
    hint: as the server's administrator: GRANT ALL PRIVILEGES ON `shop`.* TO 'locked'@'localhost' WITH GRANT OPTION; GRANT ALL PRIVILEGES ON `txupgrade\_%`.* TO 'locked'@'localhost'; GRANT SELECT ON mysql.* TO 'locked'@'localhost'; GRANT SET USER ON *.* TO 'locked'@'localhost'

    the server's own:
    error: `require resource db` failed; nothing was changed
      cause: `mysql` is the server's own and cannot be put back alone

    an old tool:
    error: `require resource db` failed; nothing was changed
      cause: `mariadb-dump` is of version 10.6 and older than the server
      cause: the server is MariaDB 10.11.19-MariaDB-0+deb12u1
    hint: apt-get install mariadb-client

    no tool:
    error: `require resource db` failed; nothing was changed
      cause: `mariadb-dump` is not installed
      cause: the server is MariaDB 10.11.19-MariaDB-0+deb12u1
    hint: apt-get install mariadb-client

    no client:
    error: `require resource db` failed; nothing was changed
      cause: neither `mariadb` nor `mysql` is installed
    hint: apt-get install mariadb-client, or the client package of your MySQL server

    of the other make:
    error: `require resource db` failed; nothing was changed
      cause: `mariadb-dump` is the one of MySQL
      cause: the server is MariaDB 10.11.19-MariaDB-0+deb12u1
    hint: apt-get install mariadb-client

    no version:
    error: `require resource db` failed; nothing was changed
      cause: cannot tell the version of `mariadb-dump`
      cause: it dumps

    another client:
    error: `require resource db` failed; nothing was changed
      cause: cannot make sense of what the server says
      cause: it said: rubbish

    blind:
    error: `require resource db` failed; nothing was changed
      cause: 'locked'@'localhost' may not do that
      cause: `mariadb …` ended with exit status 1
      cause: its last line was: ERROR 1142 (42000) at line 2: SELECT command denied to user 'locked'@'localhost' for table `mysql`.`procs_priv`
    hint: as the server's administrator: GRANT ALL PRIVILEGES ON `shop`.* TO 'locked'@'localhost' WITH GRANT OPTION; GRANT ALL PRIVILEGES ON `txupgrade\_%`.* TO 'locked'@'localhost'; GRANT SELECT ON mysql.* TO 'locked'@'localhost'; GRANT SET USER ON *.* TO 'locked'@'localhost'

    a key from elsewhere:
    error: `require resource db` failed; nothing was changed
      cause: `shop` could not be put back by itself
      cause: the foreign key `r_ibfk_1` of `other`.`r` refers to its table `parent`
    hint: a foreign key between two databases has to be dropped for the upgrade

    server down:
    error: `require resource db` failed; nothing was changed
      cause: the server of `shop` does not answer
      cause: `mariadb …` ended with exit status 1
      cause: its last line was: ERROR 2002 (HY000): Can't connect to local server through socket 'BED/sock' (2)
    hint: start it, or see where `option_file` leads (socket, host, port)
    "#);
    server.start();
    assert_same(&server.world(), &before);
}

#[test]
fn a_dump_that_is_not_whole_is_no_dump() {
    let bed = crate::bed::Bed::new();
    // A state directory on a disk that the dump finds full.
    let disk = Disk::new(&bed, "state", Kind::Ext4, 24, &["-m", "0"]);
    let server = Server::in_bed(bed, Some(disk));
    server.sql(include_str!("shop.sql"));
    server.bed.write("migrate.sql", "DROP TABLE nothing");
    server.bed.write("up", "");
    server.sql(
        "USE shop; CREATE TABLE large AS SELECT seq, SHA2(seq, 512) AS noise, SHA2(-seq, 512) AS more FROM seq_1_to_40000;",
    );
    let before = server.world();
    let mut told = String::new();
    let mut tell = |name: &str, path: String| {
        told += &format!("{name}:\n{}\n\n", refused(&server, "shop", "shop", Some(&path)));
        assert_same(&server.world(), &before);
    };
    let tables = r#"case "$*" in *version) exec /usr/bin/mariadb-dump "$@";; esac
        case "$*" in *skip-routines*skip-events*ignore-table*) ;; *) exec /usr/bin/mariadb-dump "$@";; esac"#;
    let way = |rest: &str| in_the_way(&server, "mariadb-dump", &format!("{tables}\n{rest}"));
    tell("it ends early and says nothing", way(r#"/usr/bin/mariadb-dump "$@" | head -c 5000"#));
    tell("it is killed", way(r#"/usr/bin/mariadb-dump "$@" | head -c 5000; kill -9 $$"#));
    let fill = format!("dd if=/dev/zero of={} bs=64k 2>/dev/null", server.on_disk("filling").display());
    tell("the disk is full", way(&format!("{fill}\n/usr/bin/mariadb-dump \"$@\"")));
    std::fs::remove_file(server.on_disk("filling")).unwrap();
    std::fs::remove_file(server.bed.path("bin/mariadb-dump")).unwrap();
    let lossy = r#"case "$*" in *txupgrade_proof*) sed "/^(1,1)/s/.*/(1,2),/" | exec /usr/bin/mariadb "$@";; *) exec /usr/bin/mariadb "$@";; esac"#;
    tell("it is loaded as something else", in_the_way(&server, "mariadb", lossy));
    let short = r#"case "$*" in *=shop) /usr/bin/mariadb "$@" | head -n -1;; *) exec /usr/bin/mariadb "$@";; esac"#;
    tell("it changes", in_the_way(&server, "mariadb", short));
    std::fs::remove_file(server.bed.path("bin/mariadb")).unwrap();
    let write = "mariadb --defaults-file=@BED@/my.cnf -e 'UPDATE shop.hidden SET b = b + 1'";
    let back = "UPDATE shop.hidden SET b = 9";
    server.bed.write("plan.toml", PLAN);
    let writes = way(&format!("/usr/bin/mariadb-dump \"$@\"; {write}"));
    let said = server.bed.command(&["run", "plan.toml"]).env("PATH", writes).output().unwrap();
    let said = Said::of(said).ends(1);
    server.sql(back);
    told += &format!("something writes:\n{}\n", why(&said, &server));
    assert!(server.bed.exists("up"));
    assert_same(&server.world(), &before);
    insta::assert_snapshot!(told, @r#"
    it ends early and says nothing:
    error: capture of `db` failed; nothing was changed
      cause: cannot dump `shop`
      cause: cannot read what is to be kept
      cause: the dump is not complete: its last line is not `-- Dump completed`

    it is killed:
    error: capture of `db` failed; nothing was changed
      cause: cannot dump `shop`
      cause: cannot read what is to be kept
      cause: the dump is not complete: its last line is not `-- Dump completed`
      cause: `mariadb-dump …` was ended by KILL: its last line was: mariadb-dump: Got errno 32 on write

    the disk is full:
    error: capture of `db` failed; nothing was changed
      cause: cannot dump `shop`
      cause: cannot write `BED/state/ARCHIVE`
      cause: No space left on device (os error 28)
      cause: `mariadb-dump …` ended with exit status 5: its last line was: mariadb-dump: Got errno 32 on write

    it is loaded as something else:
    error: proof of `db` failed; nothing was changed
      cause: what the store gives back of `shop` is not what was captured

    it changes:
    error: capture of `db` failed; nothing was changed
      cause: cannot dump `shop`
      cause: `shop` changed while it was looked at
      cause: 42 answers came to 43 questions

    something writes:
    error: capture of `db` failed; nothing was changed
      cause: something still writes to `shop`
      cause: while it was dumped hidden changed: content
    hint: let a quiesce stop what uses it; its own events stop with SET GLOBAL event_scheduler = OFF
    "#);
}

#[test]
fn whoever_holds_a_lock_is_named() {
    let server = shop();
    let before = server.world();
    // What the quiesce leaves running holds the lock until it is ended by the test.
    let mut holder = server.client();
    let mut holder = holder.arg("shop").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let script = "LOCK TABLES parent WRITE;\n";
    std::io::Write::write_all(holder.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
    let told = refused(&server, "shop", "shop", None);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    insta::assert_snapshot!(told, @r#"
    error: capture of `db` failed; nothing was changed
      cause: cannot dump `shop`
      cause: a lock on a table of `shop` was not given within TIME
      cause: `mariadb …` ended with exit status 1
      cause: its last line was: ERROR 1205 (HY000) at line 23: Lock wait timeout exceeded; try restarting transaction
      cause: connection N of root@localhost has not said anything for TIME
    hint: end what uses `shop`, then try again
    "#);
    assert_same(&server.world(), &before);
}

#[test]
fn a_restore_that_is_disturbed_is_stuck_and_done_again() {
    let server = shop();
    server.bed.write("plan.toml", PLAN);
    let before = server.world();
    server.bed.run(&["begin", "plan.toml"]).ends(0);
    server.sql("USE shop; DELETE FROM parent WHERE id = 101; CREATE VIEW more AS SELECT 1;");
    // It is in no database, so that nobody can tell what it is there for.
    let mut holder = server.client().stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(holder.stdin.as_mut().unwrap(), b"LOCK TABLES shop.parent WRITE;\n").unwrap();
    let said = server.bed.run(&["rollback"]).ends(5);
    let mut told = format!("a lock:\n{}\n\n", why(&said, &server));
    drop(holder.stdin.take());
    holder.wait().unwrap();
    let write = r#"case "$*" in *=shop) /usr/bin/mariadb "$@"; exec /usr/bin/mariadb "$@" -e "UPDATE hidden SET b = b + 1";; *) exec /usr/bin/mariadb "$@";; esac"#;
    let path = in_the_way(&server, "mariadb", write);
    let said = Said::of(server.bed.command(&["rollback"]).env("PATH", path).output().unwrap()).ends(5);
    told += &format!("a writer:\n{}\n", why(&said, &server));
    insta::assert_snapshot!(told, @r#"
    a lock:
    error: shop-1 is stuck: restore of `db` failed
      cause: a lock on a table of `shop` was not given within TIME
      cause: `mariadb …` ended with exit status 1
      cause: its last line was: ERROR 1205 (HY000) at line 23: Lock wait timeout exceeded; try restarting transaction
      cause: connection N of root@localhost has not said anything for TIME
      also: `recheck resource db` failed: a lock on a table of `shop` was not given within TIME: `mariadb …` ended with exit status 1: its last line was: ERROR 1205 (HY000) at line 23: Lock wait timeout exceeded; try restarting transaction: connection N of root@localhost has not said anything for TIME
      restored: nothing
      not restored: `db`
    warning: `shop`: not of InnoDB, and so dumped as they are and not as of one moment: found, safe
    hint: end what uses `shop`, then try again
      kept down: `app`
    hint: remove the cause, then `txupgrade rollback shop-1` tries again
    hint: once it is restored by hand, `txupgrade release shop-1 --resume` (or `--leave-down`) closes it

    a writer:
    error: shop-1 is stuck: restore of `db` failed
      cause: a lock on a table of `shop` was not given within TIME
      cause: `mariadb …` ended with exit status 1
      cause: its last line was: ERROR 1205 (HY000) at line 23: Lock wait timeout exceeded; try restarting transaction
      cause: connection N of root@localhost has not said anything for TIME
      also: `recheck resource db` failed: a lock on a table of `shop` was not given within TIME: `mariadb …` ended with exit status 1: its last line was: ERROR 1205 (HY000) at line 23: Lock wait timeout exceeded; try restarting transaction: connection N of root@localhost has not said anything for TIME
      also: restore of `db` failed: `shop` is restored and still differs: hidden: content
      also: `recheck resource db` failed: `db` is not as it was: it differs in `hidden`, `event asleep`, `event daily`, `event once`
      restored: nothing
      not restored: `db`
    warning: `shop`: not of InnoDB, and so dumped as they are and not as of one moment: found, safe
    hint: end what uses `shop`, then try again
    hint: something else writes to it: stop it, then `txupgrade rollback` again
      kept down: `app`
    hint: remove the cause, then `txupgrade rollback shop-1` tries again
    hint: once it is restored by hand, `txupgrade release shop-1 --resume` (or `--leave-down`) closes it
    "#);
    server.bed.run(&["rollback"]).ends(0);
    assert_same(&server.world(), &before);
    assert!(server.bed.exists("up"));
}
