//! Real processes: shell scripts that hang, fork, flood and refuse to go.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// The same in all tests: what one state directory ends never belongs to another.
const TOKEN: &str = "notes-1/apply migrate";

struct Place {
    dir: tempfile::TempDir,
    log: Log,
}

impl Place {
    fn new(secrets: &[&str]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let secrets = secrets.iter().map(|s| (*s).to_owned()).collect();
        let log = Log::open(&dir.path().join("logs/migrate.log"), TOKEN, secrets).unwrap();
        Place { dir, log }
    }

    fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// The pid that a script wrote to `name`, waiting until it is there.
    fn pid(&self, name: &str) -> u32 {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let text = self.file(name);
            if text.ends_with('\n') {
                return text.trim().parse().unwrap();
            }
            assert!(Instant::now() < until, "no pid in {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn sh(&self, script: &str) -> Program {
        let mut program = program(&["sh", "-c", script]);
        program.dir = Some(self.dir.path().to_owned());
        program
    }

    fn run(&self, program: Program) -> Result<(Exit, String)> {
        run(program, &self.log, &Stop::never(), &mut |_| {})
    }

    fn ran(&self, script: &str) -> (Exit, String) {
        self.run(self.sh(script)).unwrap()
    }
}

fn program(argv: &[&str]) -> Program {
    Program {
        argv: argv.iter().map(OsString::from).collect(),
        env: BTreeMap::new(),
        dir: None,
        user: None,
        timeout: Duration::from_secs(20),
        stdin: Stdio::null(),
        stdout: None,
    }
}

fn lives(pid: u32) -> bool {
    seen::look(pid).is_some_and(|seen| seen.state != seen::State::Dead)
}

/// A script that starts a daemon in a session of its own, which outlives it; the daemon's pid is written to `name`.
fn daemon(name: &str) -> String {
    let runs = format!("grep -q sleep /proc/$(cat {name})/comm");
    format!("setsid sh -c 'sleep 60 & echo $! > {name}' & until {runs} 2>/dev/null; do sleep 0.02; done")
}

#[test]
fn a_program_ends_with_its_status_and_its_output_is_kept() {
    let place = Place::new(&[]);
    let mut lines = Vec::new();
    let script = "echo out; echo err >&2; printf half; exit 3";
    let (exit, text) =
        run(place.sh(script), &place.log, &Stop::never(), &mut |line| lines.push(line.to_owned())).unwrap();
    assert_eq!((exit.how, exit.left), (How::Status(3), vec![]));
    assert_eq!(text, "out\nerr\nhalf");
    assert_eq!(lines, ["out", "err", "half"]);
    assert_eq!(place.file("logs/migrate.log"), text);
    assert_eq!(place.ran("kill -9 $$").0.how, How::Signal(9));
}

#[test]
fn a_program_has_a_session_of_its_own_no_terminal_no_input_and_default_signals() {
    let place = Place::new(&[]);
    let script = "read line && echo got input; (: < /dev/tty) 2>/dev/null && echo terminal; \
                  cut -d' ' -f1,5,6 /proc/$$/stat; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd";
    let (_, text) = place.ran(script);
    let mut lines = text.lines();
    let ids: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{text}");
    assert_eq!(lines.next().unwrap(), "SigBlk:\t0000000000000000");
    let ignored = u64::from_str_radix(lines.next().unwrap().trim_start_matches("SigIgn:\t"), 16).unwrap();
    // 32 and 33 belong to the C library, which lets nobody change them.
    assert_eq!(ignored & !(3 << 31), 0);
    // 3 is the directory that `ls` reads.
    assert_eq!(lines.collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn a_timeout_ends_the_whole_group_and_a_child_that_ignores_term() {
    let place = Place::new(&[]);
    let mut program =
        place.sh("(trap '' TERM; echo 1 > ready; while :; do sleep 0.1; done) & echo $! > stubborn; sleep 60");
    program.timeout = Duration::from_millis(300);
    let (exit, _) = place.run(program).unwrap();
    assert_eq!((exit.how, exit.left), (How::TimedOut, vec![]));
    assert!(exit.took < Duration::from_secs(2));
    assert_eq!(place.file("ready"), "1\n");
    assert!(!lives(place.pid("stubborn")));
}

#[test]
fn a_timeout_ends_a_stopped_program_and_a_daemon_it_started() {
    let place = Place::new(&[]);
    let mut program = place.sh(&format!("{}; kill -STOP $$", daemon("daemon")));
    program.timeout = Duration::from_millis(600);
    assert_eq!(place.run(program).unwrap().0.how, How::TimedOut);
    assert!(!lives(place.pid("daemon")));
}

#[test]
fn a_signal_to_us_ends_the_program() {
    let place = Place::new(&[]);
    let stop = Stop::never();
    let raised = stop.clone();
    let raise = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        raised.raise(libc::SIGINT);
    });
    let (exit, _) = run(place.sh("echo $$ > pid; sleep 60"), &place.log, &stop, &mut |_| {}).unwrap();
    raise.join().unwrap();
    assert_eq!(exit.how, How::Stopped(libc::SIGINT));
    assert!(exit.took < Duration::from_secs(2));
    assert!(!lives(place.pid("pid")));
    let (exit, _) = run(place.sh("echo > started"), &place.log, &stop, &mut |_| {}).unwrap();
    assert_eq!((exit.how, place.file("started").as_str()), (How::Stopped(libc::SIGINT), ""));
}

#[test]
fn a_daemon_is_left_alone_and_named_and_ended_on_demand() {
    let place = Place::new(&[]);
    let (exit, _) = place.ran(&daemon("daemon"));
    let pid = place.pid("daemon");
    assert_eq!(exit.how, How::Status(0));
    assert_eq!(exit.left, [(pid, "sleep 60".to_owned())]);
    assert!(lives(pid));
    let (next, _) = place.ran("true");
    assert_eq!(next.left, []);
    assert_eq!(end_left(&place.log, &next).unwrap(), []);
    assert_eq!(end_left(&place.log, &exit).unwrap(), exit.left);
    assert!(!lives(pid));
    assert_eq!(end_left(&place.log, &exit).unwrap(), []);
}

#[test]
fn end_all_finds_what_a_dead_parent_left_by_each_of_its_traces() {
    let place = Place::new(&[]);
    // Without the environment: only session or cgroup show it.
    let script = "env -i sleep 61 & echo $! > same-session; \
                  setsid sh -c 'sleep 62 & echo $! > daemon' & \
                  setsid env -i PATH=\"$PATH\" sh -c 'sleep 63 & echo $! > naked' & \
                  for name in same-session daemon naked; do \
                  until grep -q sleep /proc/$(cat $name)/comm 2>/dev/null; do sleep 0.02; done; done";
    let (exit, _) = place.ran(script);
    let mut pids = [place.pid("same-session"), place.pid("daemon"), place.pid("naked")];
    pids.sort();
    let has_group = seen::cgroups(pids[0]).iter().any(|name| name.starts_with("txupgrade-"));
    assert_eq!(exit.left.len(), if has_group { 3 } else { 2 }, "{:?}", exit.left);
    assert_eq!(end_all(&place.logs(), "notes-1/other").unwrap(), []);
    assert_eq!(end_all(&place.logs(), TOKEN).unwrap(), exit.left);
    assert_eq!(end_all(&place.logs(), TOKEN).unwrap(), []);
    if !has_group {
        // Nothing shows that it is ours.
        let naked = Pid::from_raw(place.pid("naked").try_into().unwrap()).unwrap();
        rustix::process::kill_process(naked, Signal::KILL).unwrap();
    }
    for pid in pids {
        assert!(!lives(pid) || !has_group);
    }
}

#[test]
fn end_all_ends_a_program_whose_runner_was_killed() {
    let place = Place::new(&[]);
    let test = std::env::current_exe().unwrap();
    let mut runner = std::process::Command::new(test)
        .args(["--exact", "--ignored", "sys::process::tests::runs_until_it_is_killed"])
        .env("TXUPGRADE_TEST_PLACE", place.dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pids = [place.pid("program"), place.pid("child")];
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert!(pids.iter().all(|pid| lives(*pid)));
    let ended = end_all(&place.logs(), TOKEN).unwrap();
    assert!(pids.iter().all(|pid| ended.iter().any(|(ended, _)| ended == pid)), "{ended:?}");
    assert!(!pids.iter().any(|pid| lives(*pid)));
    assert_eq!(end_all(&place.logs(), TOKEN).unwrap(), []);
}

#[test]
#[ignore = "run by end_all_ends_a_program_whose_runner_was_killed"]
fn runs_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var_os("TXUPGRADE_TEST_PLACE").expect("told by the other test"));
    let log = Log::open(&dir.join("logs/migrate.log"), TOKEN, Vec::new()).unwrap();
    let script =
        "trap '' TERM; echo $$ > program; sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 0.1; done'";
    let mut program = program(&["sh", "-c", script]);
    program.dir = Some(dir);
    let _ = run(program, &log, &Stop::never(), &mut |_| {});
}

#[test]
fn without_cgroup_and_environment_the_session_shows_what_is_left_but_only_then() {
    use std::os::unix::process::CommandExt;
    let place = Place::new(&[]);
    let mut leader = std::process::Command::new("sh");
    leader.args(["-c", "env -i sleep 60 & echo $! > pid"]).current_dir(place.dir.path());
    // SAFETY: one system call.
    unsafe { leader.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
    let at = clock::since_boot();
    let mut leader = leader.spawn().unwrap();
    leader.wait().unwrap();
    let record = |about| {
        let record = records::Record {
            pid: leader.id(),
            at,
            about,
            token: records::hash(&place.log.mark),
            boot: records::boot_hash(),
        };
        std::io::Write::write_all(&mut place.log.records.as_ref().unwrap(), &record.bytes()).unwrap();
    };
    let pid = place.pid("pid");
    while command_line(pid).as_deref() != Some("sleep 60") {
        std::thread::sleep(Duration::from_millis(2));
    }
    // The pid may lead somebody else's session by now; ours would be found by its cgroup.
    record(records::About::Grouped);
    assert_eq!(end_all(&place.logs(), TOKEN).unwrap(), []);
    record(records::About::Started);
    assert_eq!(end_all(&place.logs(), TOKEN).unwrap(), [(pid, "sleep 60".to_owned())]);
    assert!(!lives(pid));
}

#[test]
fn a_pid_that_is_somebody_elses_by_now_gets_no_signal() {
    let place = Place::new(&[]);
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let record = records::Record {
        pid: other.id(),
        at: 1,
        about: records::About::Started,
        token: records::hash(&place.log.mark),
        boot: records::boot_hash(),
    };
    std::io::Write::write_all(&mut place.log.records.as_ref().unwrap(), &record.bytes()).unwrap();
    assert_eq!(end_all(&place.logs(), TOKEN).unwrap(), []);
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_hundred_megabytes_of_output_are_bounded_in_memory_and_a_flood_on_disk_too() {
    let place = Place::new(&["hunter2"]);
    let mut count = 0u64;
    let script = format!("echo hunter2; yes {:0>999} | head -c 104857600; echo; echo hunter2 last", 7);
    let (exit, text) = run(place.sh(&script), &place.log, &Stop::never(), &mut |_| count += 1).unwrap();
    assert_eq!(exit.how, How::Status(0));
    assert_eq!(count, 104_860);
    assert!(text.len() < 65 << 20 && text.len() > 63 << 20);
    assert!(text.starts_with("hunter2\n") && text.ends_with("\nhunter2 last\n"));
    assert!(text.contains("\n… 37748758 bytes left out …\n"), "{}", place.log.len());
    let log = std::fs::read(place.log.path()).unwrap();
    assert!(log.starts_with(b"*******\n000") && log.ends_with(b"\n******* last\n"));
    let meta = std::fs::metadata(place.log.path()).unwrap();
    // 32 MiB of beginning and of end, and what is not yet a flood.
    assert!(meta.blocks() * 512 < 82 << 20, "{} of {}", meta.blocks() * 512, meta.len());
}

#[test]
fn secrets_are_masked_in_the_file_and_in_the_lines() {
    let place = Place::new(&["hunter2"]);
    let mut lines = Vec::new();
    let mut program = place.sh("echo the password is $PASSWORD");
    program.env.insert("PASSWORD".into(), "hunter2".into());
    let (_, text) = run(program, &place.log, &Stop::never(), &mut |line| lines.push(line.to_owned())).unwrap();
    assert_eq!(text, "the password is hunter2\n");
    assert_eq!(lines, ["the password is *******"]);
    assert_eq!(place.file("logs/migrate.log"), "the password is *******\n");
}

#[test]
fn a_program_runs_as_its_user_and_may_write_to_its_standard_error_by_name() {
    let place = Place::new(&[]);
    std::fs::set_permissions(place.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut program = place.sh("id -un; id -Gn; echo $HOME $USER $LOGNAME; pwd; echo by name >> /dev/stderr");
    program.user = Some("nobody".into());
    let (exit, text) = place.run(program).unwrap();
    assert_eq!(exit.how, How::Status(0), "{text}");
    let home = Account::find("nobody").unwrap().home;
    let dir = place.dir.path().display();
    assert_eq!(text, format!("nobody\nnogroup\n{} nobody nobody\n{dir}\nby name\n", home.display()));
    let meta = std::fs::metadata(place.log.path()).unwrap();
    assert_eq!((meta.uid(), meta.permissions().mode() & 0o777), (0, 0o600));
}

#[test]
fn stdin_and_stdout_can_be_files() {
    let place = Place::new(&[]);
    let (input, output) = (place.dir.path().join("in"), place.dir.path().join("out"));
    std::fs::write(&input, "dump").unwrap();
    let mut program = place.sh("cat; echo noise >&2");
    program.stdin = std::fs::File::open(&input).unwrap().into();
    program.stdout = Some(std::fs::File::create(&output).unwrap().into());
    assert_eq!(place.run(program).unwrap().1, "noise\n");
    assert_eq!(place.file("out"), "dump");
}

#[test]
fn a_pipe_to_a_program_s_stdout_ends_with_it() {
    let place = Place::new(&[]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut program = place.sh("echo dump");
    program.stdout = Some(writer.into());
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        text
    });
    place.run(program).unwrap();
    assert_eq!(read.join().unwrap(), "dump\n");
}

#[test]
fn a_program_that_truncates_its_output_is_no_trouble() {
    let place = Place::new(&[]);
    place.log.line("$ something long enough to be cut");
    let (exit, text) = place.ran("echo short > /dev/stderr");
    assert_eq!((exit.how, text.as_str()), (How::Status(0), "short\n"));
}

fn failure(place: &Place, program: Program) -> String {
    let error = place.run(program).unwrap_err();
    let hints: String = error.hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
    format!("{error}{hints}").replace(&place.dir.path().display().to_string(), "DIR")
}

fn script(place: &Place, name: &str, text: &str, mode: u32) -> String {
    let path = place.dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn what_cannot_be_started_says_why() {
    let place = Place::new(&[]);
    let closed = script(&place, "closed", "#!/bin/sh\n", 0o644);
    let foreign = script(&place, "foreign", "#!/opt/gone/python2.7 -u\n", 0o755);
    let windows = script(&place, "windows", "#!/bin/sh\r\necho\r\n", 0o755);
    let foreign_binary = place.dir.path().join("binary");
    let mut code = std::fs::read("/bin/true").unwrap();
    let loader = code.windows(4).position(|at| at == b"/lib").unwrap();
    code[loader..loader + 4].copy_from_slice(b"/bil");
    std::fs::write(&foreign_binary, code).unwrap();
    std::fs::set_permissions(&foreign_binary, PermissionsExt::from_mode(0o755)).unwrap();
    let binary = foreign_binary.display().to_string();
    let say = |argv: &[&str]| failure(&place, program(argv));
    let mut wrong = program(&["true"]);
    wrong.env.insert("PATH".into(), "/nowhere:/else".into());
    insta::assert_snapshot!([
        say(&[]),
        say(&["/opt/gone/notes", "migrate"]),
        failure(&place, wrong),
        say(&["/etc"]),
        say(&["/etc/passwd/x"]),
        say(&[&closed]),
        say(&[&foreign]),
        say(&[&windows]),
        say(&[&binary]),
        failure(&place, Program { user: Some("no-such-user".into()), ..program(&["true"]) }),
        failure(&place, Program { dir: Some("/opt/gone".into()), ..program(&["true"]) }),
        failure(&place, Program { dir: Some("/etc/passwd".into()), ..program(&["true"]) }),
    ]
    .join("\n"), @r"
    the command is empty
    there is no program `/opt/gone/notes`
    there is no program `true`: it is in none of the directories of PATH, `/nowhere:/else`
    `/etc` is a directory, not a program
    there is no program `/etc/passwd/x`
    `DIR/closed` is not executable
    hint: `chmod +x DIR/closed`
    the interpreter of `DIR/foreign` is missing: its first line names `/opt/gone/python2.7`
    the interpreter of `DIR/windows` is missing: its first line names `/bin/sh\r`
    hint: it was written on another system: its lines end with carriage returns (`sed -i 's/\r$//'`)
    cannot start `DIR/binary`: its loader is missing: it may be made for another machine
    there is no user `no-such-user`
    hint: `getent passwd` lists the users of this machine
    cannot start `true`: there is no directory `/opt/gone` for it to work in
    cannot start `true`: `/etc/passwd`, where it should work, is no directory
    ");
}

#[test]
fn a_user_that_may_not_reach_program_or_directory_is_named() {
    let place = Place::new(&[]);
    std::fs::set_permissions(place.dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let own = script(&place, "own", "#!/bin/sh\n", 0o755);
    let nobody = |program: Program| failure(&place, Program { user: Some("nobody".into()), ..program });
    insta::assert_snapshot!([nobody(program(&[&own])), nobody(place.sh("true"))].join("\n"), @r"
    cannot start `DIR/own` as user `nobody`: Permission denied (os error 13)
    cannot start `sh` as user `nobody`: it cannot work in `DIR`: Permission denied (os error 13)
    ");
}

#[test]
fn we_are_alive_and_a_dead_process_is_not() {
    let (pid, start, boot) = myself();
    assert!(is_alive(pid, start, &boot));
    assert!(!is_alive(pid, start + 1, &boot));
    assert!(!is_alive(pid, start, "another boot"));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let started = seen::look(child.id()).unwrap().start;
    while lives(child.id()) {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(!is_alive(child.id(), started, &boot));
    child.wait().unwrap();
}
