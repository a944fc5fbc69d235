//! `confirm_within` where systemd runs: its timer takes back what nobody confirms, whoever ends the process that watches
//! and whoever ends the timer's own.

use std::time::{Duration, Instant};

use super::node::Node;

/// A server that is no unit: it lives in the cgroup of whatever starts it.
const PLAN: &str = r#"format = 1
name = "app"

[version]
run = ["cat", "/srv/app/version"]

[[check]]
name = "server"
kind = "command"
run = ["/usr/local/bin/ctl", "status"]

[[quiesce]]
name = "server"
kind = "command"
run = ["/usr/local/bin/ctl", "stop"]
resume = ["/usr/local/bin/ctl", "start"]

[[resource]]
name = "app"
kind = "path"
path = "/srv/app"

[[step]]
name = "install"
kind = "command"
shell = "echo 2.0.0 > /srv/app/version"
undo = ["/usr/local/bin/uninstall"]

[policy]
confirm_within = "6s"
"#;

const CTL: &str = r#"#!/bin/sh
case $1 in
start) setsid sleep infinity < /dev/null > /dev/null 2>&1 & echo $! > /run/server.pid;;
stop) kill "$(cat /run/server.pid)" && rm /run/server.pid;;
status) kill -0 "$(cat /run/server.pid)";;
esac
"#;

/// Takes three seconds where the test wants it to.
const UNINSTALL: &str = "#!/bin/sh\n\
                         echo undo >> /var/lab/undos\n\
                         if [ -e /var/lab/slow ]; then rm /var/lab/slow; sleep 3; fi\n\
                         echo undone >> /var/lab/undos\n";

fn app() -> Node {
    let mut node = Node::new();
    node.lab();
    node.script("usr/local/bin/ctl", CTL);
    node.script("usr/local/bin/uninstall", UNINSTALL);
    node.write("srv/app/version", "1.0.0\n");
    node.write("etc/app.toml", PLAN);
    node.boot();
    node.run("ctl start && ctl status").ends(0);
    node
}

/// The processes that watch, of both sorts.
fn watchers(node: &Node) -> Vec<String> {
    // Not the shell that asks.
    let found = node.run("pgrep -f '[k]eep-watch'").out;
    found.lines().map(str::to_owned).collect()
}

/// The timer's service, while it is started.
fn service(node: &Node) -> Option<String> {
    let pid = node.run("systemctl show -P MainPID 'txupgrade-keep-*.service'").out;
    Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty() && pid != "0")
}

/// The timers and their services that are up, or have failed. One in whose cgroup the server goes on is known for as long.
fn units(node: &Node) -> String {
    node.run("systemctl list-units --no-legend --state=active,activating,failed 'txupgrade-keep-*'").out
}

fn kill(node: &Node, pids: &[String]) {
    node.run(&format!("kill -KILL {}", pids.join(" "))).ends(0);
}

/// Upgrades, ends the process that watches, and leaves the timer.
fn upgraded(node: &Node) -> Instant {
    node.run("txupgrade run /etc/app.toml").ends(10);
    let began = Instant::now();
    assert_eq!(node.read("srv/app/version"), "2.0.0\n");
    let timers = node.run("systemctl list-timers --no-legend 'txupgrade-keep-*'").out;
    assert_eq!(timers.lines().count(), 1, "{timers}");
    node.wait_for("the process that watches", |node| watchers(node).len() == 1);
    kill(node, &watchers(node));
    node.wait_for("its end", |node| watchers(node).is_empty());
    assert_eq!(service(node), None);
    began
}

/// It was taken back and nothing of it is left but the server, which goes on.
fn taken_back(node: &Node, tx: &str) {
    node.wait_for("the end of the transaction", |node| node.run("txupgrade status").status == 0);
    node.wait_for("the end of the timer's service", |node| watchers(node).is_empty());
    assert_eq!(node.read("srv/app/version"), "1.0.0\n");
    let shown = node.run(&format!("txupgrade show {tx}")).ends(0).out;
    assert!(shown.contains("it was not confirmed in time"), "{shown}");
    assert!(node.run("txupgrade history --verify").ends(0).out.contains("rolled back"));
    assert_eq!(units(node), "");
    node.run("ctl status").ends(0);
}

#[test]
fn the_timer_takes_back_what_nobody_confirmed_whoever_is_killed() {
    let node = app();
    let began = upgraded(&node);
    taken_back(&node, "app-1");
    assert!(began.elapsed() > Duration::from_secs(4), "not before its time");
    assert_eq!(node.read("var/lab/undos"), "undo\nundone\n");

    // Killed while it acts, it goes on with it; what the undo has left running is ended before.
    node.write("var/lab/slow", "");
    upgraded(&node);
    node.wait_for("the undo", |node| !node.exists("var/lab/slow"));
    let acting = service(&node).expect("the timer has started it");
    kill(&node, &[acting]);
    taken_back(&node, "app-2");
    assert_eq!(node.read("var/lab/undos"), "undo\nundone\nundo\nundo\nundone\n");

    // Confirmed in time, the timer finds nothing to do.
    node.run("txupgrade run /etc/app.toml").ends(10);
    node.run("txupgrade confirm").ends(0);
    node.wait_for("the end of all who watch", |node| watchers(node).is_empty() && units(node).is_empty());
    assert_eq!(node.read("srv/app/version"), "2.0.0\n");
    node.run("ctl status").ends(0);
}
