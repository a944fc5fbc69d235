//! A machine with a real systemd, a small application with units, files and a PostgreSQL database; its power is cut in
//! the middle of upgrades, and it boots again.
//!
//! The units witness what they find when they are started: files have to be back before anything starts, the database
//! after its server answers and before the application starts.

mod node;
mod timer;

use node::Node;

use crate::bed::Said;

const PLAN: &str = include_str!("boot/shop.toml");

/// Notes what a unit finds when it is started; the database only where somebody asks for it.
const WITNESS: &str = r#"#!/bin/sh
line="boot $(cat /etc/boot): $1 finds files $(cat /srv/shop/VERSION)"
[ -z "$2" ] || line="$line, database $(psql -h /var/run/postgresql -p 5499 -U postgres -Atc 'select version from shop' shop)"
echo "$line" >> /var/lab/witness
"#;

/// Stops for ever where the test wants it to, once.
const HANG: &str = r#"#!/bin/sh
[ -e "/var/lab/hang-$1" ] || exit 0
rm "/var/lab/hang-$1"; sync -f /var/lab
touch "/var/lab/hangs-$1"
exec sleep 1000
"#;

const LOAD: &str = r#"#!/bin/sh
/usr/local/bin/hang load || exit
echo "boot $(cat /etc/boot): the load finds database $(psql -p 5499 -Atc 'select version from shop' shop)" >> /var/lab/witness
exec psql -p 5499 -q -v ON_ERROR_STOP=1 --single-transaction shop
"#;

const SERVER: &str = r#"
import http.server, subprocess

class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ask = ["psql", "-h", "/var/run/postgresql", "-p", "5499", "-U", "postgres", "-Atc", "select version from shop", "shop"]
        database = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
        files = open("/srv/shop/VERSION").read().strip()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"files {files}, database {database}\n".encode())

http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Shop).serve_forever()
"#;

const UNITS: [(&str, &str); 6] = [
    (
        "shop.service",
        "[Unit]\nAfter=postgresql.service\n[Service]\nExecStartPre=/usr/local/bin/witness shop database\n\
         ExecStart=/usr/bin/python3 /usr/local/lib/shop.py\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "shop-web.service",
        "[Unit]\nRequires=shop.service\nAfter=shop.service\n[Service]\nExecStart=/bin/sleep infinity\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    ("shop-worker@.service", "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"),
    ("shop-tick.service", "[Service]\nType=oneshot\nExecStart=/usr/local/bin/witness tick\n"),
    (
        "shop-tick.timer",
        "[Timer]\nOnBootSec=1\nOnUnitInactiveSec=1h\nAccuracySec=1ms\n[Install]\nWantedBy=timers.target\n",
    ),
    ("postgresql@15-shop.service.d/witness.conf", "[Service]\nExecStartPre=+/usr/local/bin/witness postgresql\n"),
];

/// The node with the application at 1.0.0, up.
fn shop() -> Node {
    let mut node = Node::new();
    node.lab();
    for (name, text) in [("witness", WITNESS), ("hang", HANG), ("load", LOAD)] {
        node.script(&format!("usr/local/bin/{name}"), text);
    }
    node.write("usr/local/lib/shop.py", SERVER);
    node.write("srv/shop/VERSION", "1.0.0\n");
    for (name, text) in UNITS {
        node.write(&format!("etc/systemd/system/{name}"), text);
    }
    node.write("etc/shop.toml", PLAN);
    node.boot();
    let cluster = "pg_createcluster 15 shop -p 5499 -- --no-sync -A trust && systemctl daemon-reload && \
                   systemctl start postgresql@15-shop";
    let said = node.run(cluster);
    assert_eq!(said.status, 0, "{}{}: apt-get install postgresql-15", said.out, said.err);
    let table = "create table shop (version text); insert into shop values ('1.0.0')";
    node.run(&format!("cd / && createdb -h /var/run/postgresql -p 5499 -U postgres shop && {}", sql(table))).ends(0);
    node.run("systemctl enable --now shop.service shop-web.service shop-tick.timer shop-worker@2.service").ends(0);
    node.run("systemctl disable -q shop-worker@2.service; systemctl start shop-worker@1.service").ends(0);
    node
}

fn sql(statement: &str) -> String {
    format!("psql -h /var/run/postgresql -p 5499 -U postgres -qAtc \"{statement}\" shop")
}

/// Which of the application's units are up, and which are started at boot.
fn units(node: &Node) -> String {
    let mut told = String::new();
    for unit in ["shop", "shop-web", "shop-worker@1", "shop-worker@2", "shop-tick.timer"] {
        let ask = |verb: &str| node.run(&format!("systemctl {verb} {unit}")).out.trim().to_owned();
        told.push_str(&format!("{unit}: {}, {}\n", ask("is-active"), ask("is-enabled")));
    }
    told
}

const ALL_UP: &str = "shop: active, enabled\nshop-web: active, enabled\nshop-worker@1: active, disabled\n\
                      shop-worker@2: active, disabled\nshop-tick.timer: active, enabled\n";
const ALL_DOWN: &str = "shop: inactive, enabled\nshop-web: inactive, enabled\nshop-worker@1: inactive, disabled\n\
                        shop-worker@2: inactive, disabled\nshop-tick.timer: inactive, enabled\n";

/// What the application answers, once it does.
fn page(node: &Node) -> String {
    let ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8099/').read().decode(), end='')";
    node.run(&format!("for i in $(seq 50); do python3 -c \"{ask}\" 2>/dev/null && exit; sleep 0.2; done")).out
}

/// What the units of this boot have found, one line each; the timer's comes when it wants to.
fn witnessed(node: &Node, boot: u32) -> String {
    let told = node.read("var/lab/witness");
    let lines = told.lines().filter_map(|line| line.strip_prefix(&format!("boot {boot}: ")));
    lines.filter(|line| !line.starts_with("tick")).map(|line| format!("{line}\n")).collect()
}

/// Everything is as before the transaction, and nothing is left of it.
fn assert_old_world(node: &Node) {
    assert_eq!(page(node), "files 1.0.0, database 1.0.0\n");
    assert_eq!(units(node), ALL_UP);
    assert_nothing_held(node);
}

fn assert_nothing_held(node: &Node) {
    assert_eq!(node.run("ls /var/lib/txupgrade/held; ls -d /etc/systemd/system/*.d/txupgrade*").out, "");
    assert_eq!(node.run("systemctl show --property=NeedDaemonReload shop.service").out, "NeedDaemonReload=no\n");
}

/// With times and sizes masked, and the room that a table gives them.
fn told(text: &str) -> String {
    let times = regex::Regex::new(r"\b\d+(\.\d+)? (ms|s|min)\b *").unwrap().replace_all(text, "TIME ").into_owned();
    let dates = regex::Regex::new(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d *").unwrap();
    let sizes = regex::Regex::new(r"\b\d+(\.\d+)? k?B\b").unwrap();
    let times = sizes.replace_all(&times, "SIZE").into_owned();
    let heads = regex::Regex::new(r"(BEGUN|TOOK|DOWN) +").unwrap();
    heads.replace_all(&dates.replace_all(&times, "DATE "), "$1 ").into_owned()
}

#[test]
fn a_machine_that_dies_in_an_upgrade_and_in_its_recovery_boots_into_the_old_world() {
    let mut node = shop();
    node.run("txupgrade recover --install").ends(0);
    assert_eq!((page(&node), units(&node)), ("files 1.0.0, database 1.0.0\n".to_owned(), ALL_UP.to_owned()));
    let plan = node.run("txupgrade plan /etc/shop.toml").ends(0);
    let found = plan.out.lines().find(|line| line.contains("yes  quiesce units")).unwrap();
    assert_eq!(
        found.trim(),
        "yes  quiesce units   shop-tick.service is down, shop-tick.timer is up, shop-worker@1.service is up, \
         shop-worker@2.service is up, shop-web.service is up, shop.service is up"
    );
    assert_eq!(plan.err, "warning: `shop-web.service` needs `shop.service`: it is stopped and started with it\n");

    for stop in ["last", "early", "load"] {
        node.write(&format!("var/lab/hang-{stop}"), "");
    }
    let mut run = node.start("txupgrade run /etc/shop.toml");
    node.wait_for("the last step", |node| node.exists("var/lab/hangs-last"));
    assert_eq!(node.run(&sql("select version from shop")).out, "2.0.0\n");
    assert!(!node.exists("etc/systemd/system/multi-user.target.wants/shop.service"), "a step has disabled it");
    // Whatever wants to start it while the upgrade is under way: systemd does not.
    node.run("systemctl start shop.service").ends(0);
    assert_eq!(node.run("systemctl is-active shop.service").out, "inactive\n");
    node.dies();
    run.wait().unwrap();

    node.switch_on();
    node.wait_for("the recovery before anything is up", |node| node.exists("var/lab/hangs-early"));
    assert_eq!(node.read("srv/shop/VERSION"), "2.0.0\n");
    node.dies();
    assert_eq!(witnessed(&node, 2), "", "nothing is started before the files are back");

    node.switch_on();
    node.wait_for("the recovery when all is up", |node| node.exists("var/lab/hangs-load"));
    assert_eq!(witnessed(&node, 3), "postgresql finds files 1.0.0\n", "and shop is not, before its database is back");
    node.dies();

    node.boot();
    assert_old_world(&node);
    assert_eq!(
        witnessed(&node, 4),
        "postgresql finds files 1.0.0\nthe load finds database 2.0.0\nshop finds files 1.0.0, database 1.0.0\n"
    );
    assert_eq!(node.run("systemctl is-system-running").out, "running\n");
    assert_eq!(node.run("systemctl is-active txupgrade-recover-files txupgrade-recover").out, "active\nactive\n");
    insta::assert_snapshot!(told(&node.run("txupgrade history --verify").ends(0).out), @r"
    TX      BEGUN VERSION  OUTCOME      TOOK DOWN SNAPSHOT            PLAN
    shop-1  DATE 1.0.0    rolled back  TIME TIME SIZE, SIZE new  /etc/shop.toml
    ");
    let said = |unit: &str| told(&node.run(&format!("journalctl -b -o cat -t txupgrade -u {unit}")).out);
    insta::assert_snapshot!(said("txupgrade-recover-files.service"), @r"
    shop-1: `restore db` was interrupted
      quiesce units               TIME was down
      restore files               TIME nothing differed
    shop-1: what could be done before anything is up is done; `txupgrade recover` goes on
    ");
    insta::assert_snapshot!(said("txupgrade-recover.service"), @r"
      restore db                  TIME 1 item put back
      recheck resource files      TIME as it was
      recheck resource db         TIME as it was
      resume units                TIME up: shop.service, shop-web.service, shop-worker@2.service, shop-worker@1.service, shop-tick.timer
      recheck the version         TIME 1.0.0
      recheck page                TIME status 200
    shop-1 was interrupted; everything was rolled back and rechecked
    warning: `shop-web.service` needs `shop.service`: it is stopped and started with it
    ");
    let shown = node.run("txupgrade show").ends(0).out;
    assert_eq!(shown.matches("interrupted by a reboot").count(), 3, "{shown}");

    // Shut down by somebody who does not know of the upgrade: it is left as by a crash, since nothing can be started.
    node.write("var/lab/hang-last", "");
    let _ = std::fs::remove_file(node.path("var/lab/hangs-last"));
    let service = "systemd-run --unit=upgrade -p StandardError=file:/var/lab/said";
    node.run(&format!("{service} txupgrade --quiet run /etc/shop.toml")).ends(0);
    node.wait_for("the last step", |node| node.exists("var/lab/hangs-last"));
    node.shuts_down();
    node.boot();
    assert_old_world(&node);
    assert_eq!(witnessed(&node, 5), witnessed(&node, 4));
    // systemd sends TERM to all of the unit: whether the program or txupgrade notices first is open.
    let said = node.read("var/lab/said").replace("was ended by TERM", "was stopped, since TERM was sent");
    insta::assert_snapshot!(said, @r"
    warning: `shop-web.service` needs `shop.service`: it is stopped and started with it
    error: `shop-2` was left in the middle of `apply last`
      cause: the machine is being shut down
      cause: `/usr/local/bin/hang last` was stopped, since TERM was sent
    hint: remove the cause, then `txupgrade recover` settles it
    ");
    let shown = node.run("txupgrade show shop-2").ends(0).out;
    assert!(shown.contains("interrupted by a reboot") && !shown.contains("stuck"), "{shown}");

    // And in peace the same upgrade commits.
    node.run("txupgrade run /etc/shop.toml").ends(0);
    assert_eq!((page(&node), units(&node)), ("files 2.0.0, database 2.0.0\n".to_owned(), ALL_UP.to_owned()));
    assert_nothing_held(&node);
    node.run("txupgrade rollback --yes").ends(0);
    assert_old_world(&node);
}

#[test]
fn a_machine_that_dies_while_an_upgrade_waits_boots_with_it_waiting_or_turns_it_back() {
    let mut node = shop();
    node.run("txupgrade recover --install").ends(0);
    let hold = PLAN.replace("/usr/local/bin/hang last", "false").replace("[policy]", "[policy]\non_failure = \"hold\"");
    node.write("etc/hold.toml", &hold);
    node.run("txupgrade run /etc/hold.toml").ends(10);
    node.dies();
    node.boot();
    // The step that disables it was in vain: it is not what a boot would do that counts, but what was.
    assert_eq!(units(&node), ALL_DOWN.replace("shop: inactive, enabled", "shop: inactive, disabled"));
    assert_eq!(witnessed(&node, 2), "postgresql finds files 2.0.0\n");
    assert_eq!(node.run("systemctl is-system-running").out, "running\n", "what waits is no failure");
    let status = node.run("txupgrade status").ends(10).out;
    let kept = status.lines().find(|line| line.contains("kept down")).unwrap();
    assert_eq!(
        kept.trim(),
        "kept down:    `units` (shop-tick.timer, shop-worker@1.service, shop-worker@2.service, shop-web.service, \
         shop.service)"
    );
    let object = node.run("txupgrade --json status").ends(10).out;
    let valid = crate::machine::validator(include_str!("../../schemas/output.schema.json"));
    assert!(valid.is_valid(&serde_json::from_str(&object).unwrap()), "{object}");
    insta::assert_snapshot!(node.run("txupgrade recover").ends(10).err, @r"
    error: step `last` failed; shop-1 is on hold
      cause: `false` ended with exit status 1
    warning: `shop-web.service` needs `shop.service`: it is stopped and started with it
    hint: its output is in `txupgrade log shop-1 last`
      kept down: `units` (shop-tick.timer, shop-worker@1.service, shop-worker@2.service, shop-web.service, shop.service)
      next: `txupgrade apply shop-1` runs it again (`--skip last`: it is done by hand)
      next: `txupgrade rollback shop-1` puts everything back
    ");
    node.run("txupgrade rollback").ends(0);
    assert_old_world(&node);

    // Confirmed by nobody, and the time is over while the machine is off.
    node.write("etc/confirm.toml", &PLAN.replace("[policy]", "[policy]\nconfirm_within = \"4s\""));
    node.run("txupgrade run /etc/confirm.toml").ends(10);
    assert_eq!((page(&node), units(&node)), ("files 2.0.0, database 2.0.0\n".to_owned(), ALL_UP.to_owned()));
    node.dies();
    std::thread::sleep(std::time::Duration::from_secs(4));
    node.boot();
    assert_old_world(&node);
    assert_eq!(
        witnessed(&node, 3),
        "postgresql finds files 1.0.0\nthe load finds database 2.0.0\nshop finds files 1.0.0, database 1.0.0\n",
        "it is not started on what is taken back"
    );

    // And one that still has time.
    node.write("etc/confirm.toml", &PLAN.replace("[policy]", "[policy]\nconfirm_within = \"10m\""));
    node.run("txupgrade run /etc/confirm.toml").ends(10);
    node.dies();
    node.boot();
    // As after any boot: nobody starts what is not enabled.
    let booted = ALL_UP.replace("@1: active", "@1: inactive").replace("@2: active", "@2: inactive");
    assert_eq!((page(&node), units(&node)), ("files 2.0.0, database 2.0.0\n".to_owned(), booted));
    node.run("txupgrade confirm").ends(0);
    assert_nothing_held(&node);
    insta::assert_snapshot!(told(&node.run("txupgrade history").ends(0).out), @r"
    TX      BEGUN VERSION         OUTCOME      TOOK DOWN SNAPSHOT            PLAN
    shop-3  DATE 1.0.0 -> 2.0.0  committed    TIME TIME SIZE, SIZE new  /etc/confirm.toml
    shop-2  DATE 1.0.0 -> 2.0.0  rolled back  TIME TIME SIZE, SIZE new  /etc/confirm.toml
    shop-1  DATE 1.0.0           rolled back  TIME TIME SIZE, SIZE new  /etc/hold.toml
    ");
}

/// One unit of each sort that a service may be.
const ODD_UNITS: [(&str, &str); 7] = [
    // It comes up in any case, and dies where it does not find what it needs.
    (
        "flaps.service",
        "[Service]\nRestart=always\nRestartSec=100ms\nStartLimitBurst=1000\n\
         ExecStart=/bin/sh -c 'test -e /srv/app/good && exec sleep infinity; sleep 0.2; exit 3'\n",
    ),
    // It does not listen to TERM, and is killed after a while.
    (
        "hangs.service",
        "[Service]\nTimeoutStopSec=4s\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'\n",
    ),
    ("leaves.service", "[Service]\nKillMode=process\nExecStart=/bin/sh -c 'sleep 1234 & exec sleep infinity'\n"),
    ("listens.socket", "[Socket]\nListenStream=/run/listens\n[Install]\nWantedBy=sockets.target\n"),
    ("listens.service", "[Service]\nExecStart=/bin/sleep infinity\n"),
    ("once.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"),
    ("idle.service", "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"),
];

/// A plan that stops `units` and then does `step`.
fn odd(units: &str, step: &str) -> String {
    format!(
        "format = 1\nname = \"odd\"\n[[quiesce]]\nname = \"units\"\nkind = \"service\"\nunits = {units}\n\
         timeout = \"3s\"\nsteady = \"1s\"\n[[resource]]\nname = \"app\"\nkind = \"path\"\npath = \"/srv/app\"\n\
         [[step]]\nname = \"change\"\nkind = \"command\"\nshell = \"{step}\"\n"
    )
}

#[test]
fn units_of_every_sort_are_stopped_and_brought_back_as_they_were() {
    let mut node = Node::new();
    node.write("srv/app/good", "");
    for (name, text) in ODD_UNITS {
        node.write(&format!("etc/systemd/system/{name}"), text);
    }
    node.boot();
    node.run("systemctl start flaps hangs leaves once listens.socket listens.service").ends(0);
    let active = |node: &Node| {
        node.run("systemctl is-active flaps hangs leaves once listens.socket listens.service idle")
            .out
            .replace('\n', " ")
    };
    let before = active(&node);
    assert_eq!(before, "active active active active active active inactive ");
    let attempt = |units: &str, step: &str| {
        node.write("etc/odd.toml", &odd(units, step));
        node.run("txupgrade run /etc/odd.toml")
    };
    let of_units = |said: Said| {
        let wanted = |line: &&str| ["units", "service"].iter().any(|word| line.contains(word));
        let text = told(&said.err.lines().filter(wanted).map(|line| format!("{line}\n")).collect::<String>());
        regex::Regex::new(r"running: \d+").unwrap().replace_all(&text, "running: PID").into_owned()
    };

    // What there is not is refused before anything is touched, and so is who may not.
    node.write("etc/odd.toml", &odd("['once']", "true"));
    let nobody =
        "setpriv --reuid nobody --regid nogroup --clear-groups txupgrade --state-dir /tmp/none plan /etc/odd.toml";
    let refused = node.run(nobody).ends(1);
    assert!(refused.out.contains("only root can stop and start units"), "{}{}", refused.out, refused.err);
    insta::assert_snapshot!(attempt("['nothing']", "true").ends(1).err, @r"
    error: there is no unit `nothing.service`
    hint: `systemctl list-units --all` lists them
    ");
    insta::assert_snapshot!(attempt("['nothing-*']", "true").ends(1).err, @r"
    error: no unit matches `nothing-*.service`
    hint: `systemctl list-units --all` lists them
    ");
    insta::assert_snapshot!(attempt("['a b']", "true").ends(1).err, @r"
    error: `a b` is not the name of a unit
    hint: it is written as `shop.service`
    ");

    // The socket goes after its service and comes before it; what was down stays down, and what is left is named.
    insta::assert_snapshot!(of_units(attempt("['leaves', 'once', 'listens', 'idle']", "true").ends(0)), @r"
      require quiesce units       TIME leaves.service is up, once.service is up, listens.service is up, listens.socket is up, idle.service is down
    warning: after a reboot `units` would stay down until somebody calls `txupgrade recover`; with `txupgrade recover --install` every boot does
      quiesce units               TIME stopped leaves.service, once.service, listens.service, listens.socket
    warning: `leaves.service` is stopped and has left running: PID sleep 1234
      resume units                TIME up: listens.socket, listens.service, once.service, leaves.service
    ");
    assert_eq!(active(&node), before);
    assert_nothing_held(&node);

    // One that comes up and dies has failed: it is turned back, and stays up there. Where it dies just when it is held,
    // nothing is left to stop.
    let flapped = of_units(attempt("['flaps']", "rm /srv/app/good").ends(3));
    let (there, back) = flapped.split_once("turning back").unwrap();
    let back =
        regex::Regex::new("TIME (stopped flaps.service|was down)").unwrap().replace(back, "TIME stopped or was down");
    insta::assert_snapshot!(format!("{there}turning back{back}"), @r"
      require quiesce units       TIME flaps.service is up
    warning: after a reboot `units` would stay down until somebody calls `txupgrade recover`; with `txupgrade recover --install` every boot does
      quiesce units               TIME stopped flaps.service
      resume units                TIME failed: `flaps.service` came up and died within 1s
    odd-2: `resume units` failed; turning back
      quiesce units               TIME stopped or was down
      resume units                TIME up: flaps.service
    error: resume of `units` failed; everything was rolled back and rechecked
      cause: `flaps.service` came up and died within 1s
    hint: `journalctl -u flaps.service` says more
    hint: its output is in `txupgrade log odd-2 units`; after a fix, `txupgrade run /etc/odd.toml` again
    ");
    assert_eq!(active(&node), before);

    // One that does not stop in time aborts it, and it is started again.
    insta::assert_snapshot!(of_units(attempt("['hangs']", "true").ends(1)), @r"
      require quiesce units       TIME hangs.service is up
    warning: after a reboot `units` would stay down until somebody calls `txupgrade recover`; with `txupgrade recover --install` every boot does
      quiesce units               TIME failed: `systemctl stop -- hangs.service` was stopped after 3s: it did not end in time
    odd-3: `quiesce units` failed; turning back
      resume units                TIME up: hangs.service
    error: quiesce `units` failed; nothing was changed
      cause: `systemctl stop -- hangs.service` was stopped after 3s: it did not end in time
    hint: `journalctl -u hangs.service` says more
    hint: its output is in `txupgrade log odd-3 units`; after a fix, `txupgrade run /etc/odd.toml` again
    ");
    assert_eq!(active(&node), before);

    // Killed in the middle of stopping them: what was up is known from before.
    let patient = odd("['once', 'hangs']", "true").replace("timeout = \"3s\"", "timeout = \"60s\"");
    node.write("etc/odd.toml", &patient);
    node.run("txupgrade run /etc/odd.toml & sleep 1.5; kill -9 $!");
    assert_eq!(active(&node).split(' ').nth(3), Some("inactive"));
    node.run("txupgrade recover").ends(0);
    assert_eq!(active(&node), before);

    // Without a plan; and no other transaction may have the unit meanwhile.
    node.run("txupgrade begin --name app path=/srv/other service=once.service,listens.service").ends(0);
    assert_eq!(active(&node), "active active active inactive inactive inactive inactive ");
    let overlaps = attempt("['listens.service']", "true").ends(6);
    assert!(overlaps.err.contains("  cause: both have the unit `listens.service`\n"), "{}", overlaps.err);
    node.run("txupgrade commit").ends(0);
    assert_eq!(active(&node), before);

    // Stuck, and settled by hand: nothing holds the units back any more.
    let stuck = odd("['once']", "false") + "undo = ['false']\n";
    node.write("etc/odd.toml", &stuck);
    node.run("txupgrade run /etc/odd.toml").ends(5);
    node.run("systemctl start once").ends(0);
    assert_eq!(node.run("systemctl is-active once").out, "inactive\n");
    node.run("txupgrade release --leave-down $(txupgrade history | grep -o 'odd-[0-9]*' | head -1)").ends(0);
    assert_nothing_held(&node);
    node.run("systemctl start once").ends(0);
    assert_eq!(active(&node), before);

    let installed = node.run("txupgrade recover --install").ends(0);
    insta::assert_snapshot!(installed.out + &installed.err, @r"
    /etc/systemd/system/txupgrade-recover-files.service
    /etc/systemd/system/txupgrade-recover.service
    enabled: at every boot they settle what a crash has left
    ");
    let valid = crate::machine::validator(include_str!("../../schemas/output.schema.json"));
    for command in ["recover --install", "show", "history"] {
        let object = node.run(&format!("txupgrade --json {command}")).ends(0).out;
        assert!(valid.is_valid(&serde_json::from_str(&object).unwrap()), "{object}");
    }
    let verified =
        node.run("systemd-analyze verify --man=no txupgrade-recover-files.service txupgrade-recover.service");
    assert_eq!(verified.ends(0).err, "");
}

#[test]
fn without_systemd_units_are_refused_before_anything_is_touched() {
    let bed = crate::bed::Bed::new();
    bed.write("odd.toml", &odd("['once']", "true"));
    let mut hidden = crate::bed::behind("mount -t tmpfs none /run/systemd", &bed.command(&["run", "odd.toml"]));
    let said = Said::of(hidden.output().unwrap()).ends(1);
    insta::assert_snapshot!(said.err, @r"
    error: no unit can be stopped: systemd does not run this machine
    hint: use a quiesce of kind `command`, with `run` and `resume`
    ");
}
