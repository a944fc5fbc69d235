//! Every kind of check: what it asks, what it answers, and how it says so.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::context_fixture::{Fixture, shown};
use crate::plan::List;

fn answer(fixture: &Fixture, keys: &str) -> String {
    let check = fixture.check(keys);
    match check.ask(&fixture.context("it")) {
        Ok(finding) => {
            let answer = if finding.passed() { "yes" } else { "no" };
            format!("{answer}: {}", finding.found.replace(&fixture.place().display().to_string(), "DIR"))
        }
        Err(error) => format!("error: {}", shown(&error, fixture)),
    }
}

fn text(fixture: &Fixture, keys: &str) -> String {
    match fixture.check(keys).read_text(&fixture.context("it")) {
        Ok(text) => text,
        Err(error) => format!("error: {}", shown(&error, fixture)),
    }
}

fn described(fixture: &Fixture, keys: &str) -> String {
    fixture.check(keys).describe(&fixture.scope()).replace(&fixture.place().display().to_string(), "DIR")
}

#[test]
fn a_command_is_judged_by_its_status_and_by_its_words() {
    let f = Fixture::new();
    let ask = |keys: &str| answer(&f, &format!("kind = \"command\"\n{keys}"));
    assert_eq!(ask("run = [\"true\"]"), "yes: exit status 0");
    assert_eq!(ask("shell = \"echo broken; exit 3\""), "no: exit status 3: broken");
    assert_eq!(ask("shell = \"exit 3\"\nexit = [0, 3]"), "yes: exit status 3");
    assert_eq!(ask("shell = \"echo done\"\nmatches = \"^done\""), "yes: exit status 0");
    assert_eq!(ask("shell = \"echo failed\"\nmatches = \"done\""), "no: does not match `done`");
    assert_eq!(ask("shell = \"echo ERROR 5\"\nmatches_not = \"(?i)error\""), "no: matches `(?i)error`");
    assert_eq!(ask("shell = \"echo notes 2.0.1\"\nis = \">=2.0\""), "yes: exit status 0");
    assert_eq!(ask("shell = \"kill -9 $$\""), "no: ended by signal 9");
}

#[test]
fn a_command_that_cannot_be_asked_answers_no() {
    let f = Fixture::new();
    let missing = answer(&f, "kind = \"command\"\nrun = [\"/no/such/program\"]");
    assert!(missing.starts_with("no: there is no program `/no/such/program`"), "{missing}");
    let late = answer(&f, "kind = \"command\"\nrun = [\"sleep\", \"60\"]\ntimeout = \"100ms\"");
    assert_eq!(late, "no: `sleep 60` was stopped after 100ms: it did not end in time");
    f.stop.raise(15);
    let stopped = answer(&f, "kind = \"command\"\nrun = [\"true\"]");
    assert_eq!(stopped, "error: `true` was stopped, since TERM was sent");
}

#[test]
fn a_command_gives_its_text_only_when_it_ends_well() {
    let f = Fixture::new();
    assert_eq!(text(&f, "kind = \"command\"\nshell = \"echo notes 1.4.2\""), "notes 1.4.2\n");
    let failed = text(&f, "kind = \"command\"\nshell = \"echo no; exit 1\"");
    assert_eq!(failed, "error: `echo no; exit 1` ended with exit status 1\n  cause: its last line was: no");
    assert_eq!(described(&f, "kind = \"command\"\nrun = [\"notes\", \"--version\"]"), "run notes --version");
}

#[test]
fn a_file_is_there_or_not_and_says_what_it_must() {
    let f = Fixture::new();
    f.write("version", "notes 2.0.0\n");
    std::os::unix::fs::symlink("nowhere", f.path("dangling")).unwrap();
    let ask = |keys: &str| answer(&f, &format!("kind = \"file\"\n{keys}"));
    assert_eq!(ask("path = \"version\""), "yes: exists");
    assert_eq!(ask("path = \"gone\""), "no: `DIR/gone` does not exist");
    assert_eq!(ask("path = \"gone\"\nexists = false"), "yes: not there");
    assert_eq!(ask("path = \"version\"\nexists = false"), "no: `DIR/version` exists");
    assert_eq!(ask("path = \"dangling\"\nexists = false"), "no: `DIR/dangling` exists");
    assert_eq!(ask("path = \"${dir}/version\"\nmatches = \"2\\\\.0\""), "yes: says what it must");
    assert_eq!(ask("path = \"version\"\nis = \">=3.0\""), "no: is `2.0.0`, not `>=3.0`");
    assert_eq!(ask("path = \"${dir}\"\nmatches = \"x\""), "no: `DIR` is not a regular file");
    assert_eq!(text(&f, "kind = \"file\"\npath = \"version\""), "notes 2.0.0\n");
    let gone = text(&f, "kind = \"file\"\npath = \"gone\"");
    assert_eq!(gone, "error: cannot read `DIR/gone`\n  cause: No such file or directory (os error 2)");
    assert_eq!(described(&f, "kind = \"file\"\npath = \"version\""), "read DIR/version");
    assert_eq!(described(&f, "kind = \"file\"\npath = \"lock\"\nexists = false"), "DIR/lock is not there");
}

#[test]
fn a_file_has_the_checksum_of_the_plan() {
    let f = Fixture::new();
    f.write("empty", "");
    let blake3 = blake3::hash(b"").to_hex().to_string();
    let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let ask = |keys: &str| answer(&f, &format!("kind = \"file\"\npath = \"empty\"\n{keys}"));
    assert_eq!(ask(&format!("blake3 = \"{blake3}\"")), "yes: BLAKE3 as expected");
    assert_eq!(ask(&format!("sha256 = \"{}\"", sha256.to_uppercase())), "yes: SHA-256 as expected");
    assert_eq!(ask("sha256 = \"00\""), format!("no: its SHA-256 is {sha256}"));
}

#[test]
fn a_fifo_is_never_waited_for() {
    let f = Fixture::new();
    assert!(std::process::Command::new("mkfifo").arg(f.path("fifo")).status().unwrap().success());
    assert_eq!(answer(&f, "kind = \"file\"\npath = \"fifo\"\nmatches = \"x\""), "no: `DIR/fifo` is not a regular file");
}

/// A port at which nobody listens, and that nobody else gets as long as the connection that comes from it is there.
///
/// A listener that was dropped will not do: it still listens while a child of another test is between fork and exec.
fn closed_port() -> (TcpListener, TcpStream, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let port = stream.local_addr().unwrap().port();
    (listener, stream, port)
}

/// Serves one answer per connection, then ends; gives what was asked.
fn server(answers: Vec<&'static str>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            asked.push(String::from_utf8_lossy(&request).into_owned());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (port, serving)
}

#[test]
fn a_page_is_judged_by_its_status_and_by_its_words() {
    let f = Fixture::new();
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nNotes 2.0\n";
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let broken = "HTTP/1.1 500 Oops\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad";
    let (port, serving) = server(vec![ok, ok, moved, moved, broken, ok, ""]);
    let ask = |keys: &str| answer(&f, &format!("kind = \"http\"\nurl = \"http://127.0.0.1:{port}/page\"\n{keys}"));
    assert_eq!(ask("matches = 'Notes 2\\.0'"), "yes: status 200");
    assert_eq!(
        ask("matches = 'Notes 3'\nheaders = { X-Token = \"abc\" }"),
        "no: status 200, but does not match `Notes 3`"
    );
    assert_eq!(ask(""), "no: status 302");
    assert_eq!(ask("status = [302]"), "yes: status 302");
    assert_eq!(ask(""), "no: status 500");
    assert_eq!(text(&f, &format!("kind = \"http\"\nurl = \"http://127.0.0.1:{port}/v\"")), "Notes 2.0\n");
    let cut = ask("");
    assert!(cut.starts_with("no: "), "{cut}");
    let asked = serving.join().unwrap();
    assert!(asked[0].starts_with("GET /page HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[1].to_lowercase().contains("x-token: abc\r\n"), "{}", asked[1]);
    let (_listener, _stream, port) = closed_port();
    let nobody = format!("kind = \"http\"\nurl = \"http://127.0.0.1:{port}/page\"");
    assert_eq!(answer(&f, &nobody), "no: connection refused");
}

#[test]
fn a_server_that_says_nothing_is_a_no_in_time() {
    let f = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let late = answer(&f, &format!("kind = \"http\"\nurl = \"{url}\"\ntimeout = \"200ms\""));
    assert_eq!(late, "no: no answer within 200ms");
    let wrong = answer(&f, "kind = \"http\"\nurl = \"nonsense\"");
    assert!(wrong.starts_with("error: cannot ask `nonsense`"), "{wrong}");
    assert_eq!(described(&f, "kind = \"http\"\nurl = \"http://localhost/\""), "GET http://localhost/");
}

#[test]
fn a_signal_is_obeyed_while_a_server_says_nothing() {
    let f = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let check = f.check(&format!("kind = \"http\"\nurl = \"http://{}/\"", listener.local_addr().unwrap()));
    std::thread::scope(|threads| {
        let stop = f.stop.clone();
        threads.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            stop.raise(15);
        });
        let began = std::time::Instant::now();
        let error = check.ask(&f.context("it")).unwrap_err();
        assert_eq!(error.to_string(), "interrupted by signal 15");
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    });
}

#[test]
fn a_certificate_file_must_hold_one() {
    let f = Fixture::new();
    f.write("own.pem", "nothing\n");
    let keys = "kind = \"http\"\nurl = \"https://127.0.0.1:1/\"\nca_file = \"own.pem\"";
    assert_eq!(answer(&f, keys), "error: `DIR/own.pem` holds no PEM certificate");
}

#[test]
fn a_port_is_open_or_closed() {
    let f = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ask = |address: &str, keys: &str| answer(&f, &format!("kind = \"tcp\"\naddress = \"{address}\"\n{keys}"));
    assert_eq!(ask(&address, ""), "yes: open");
    assert_eq!(ask(&address, "open = false"), format!("no: something listens at `{address}`"));
    let (_listener, _stream, port) = closed_port();
    let address = format!("127.0.0.1:{port}");
    assert_eq!(ask(&address, ""), "no: connection refused");
    assert_eq!(ask(&address, "open = false"), "yes: closed");
    assert_eq!(ask(&format!("localhost:{port}"), "open = false"), "yes: closed");
    assert_eq!(
        ask("8080", ""),
        "error: `8080` is not an address\nhint: an address is a host and a port, as in `127.0.0.1:8080`, or the path of a socket"
    );
    assert_eq!(described(&f, "kind = \"tcp\"\naddress = \"[::1]:80\"\nopen = false"), "nothing listens at [::1]:80");
}

#[test]
fn a_socket_file_is_an_address_too() {
    let f = Fixture::new();
    let ask = |name: &str| answer(&f, &format!("kind = \"tcp\"\naddress = \"{}\"", f.path(name).display()));
    assert_eq!(ask("s"), "no: connection refused");
    let _listener = std::os::unix::net::UnixListener::bind(f.path("s")).unwrap();
    assert_eq!(ask("s"), "yes: open");
    // One that nobody listens at any more.
    let (socket, mode) = (rustix::fs::FileType::Socket, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, f.path("left"), socket, mode, 0).unwrap();
    assert_eq!(ask("left"), "no: connection refused");
}

#[test]
fn space_is_what_is_free() {
    let f = Fixture::new();
    let ask = |free: &str| answer(&f, &format!("kind = \"space\"\npath = \"${{dir}}\"\nfree = {free}"));
    assert!(ask("1").starts_with("yes: "), "{}", ask("1"));
    let much = ask("\"900000 TiB\"");
    assert!(much.starts_with("no: ") && much.ends_with(" free, 900000.0 TiB needed"), "{much}");
    let keys = "kind = \"space\"\npath = \"/var/lib\"\nfree = \"2 GiB\"";
    assert_eq!(described(&f, keys), "2.0 GiB free below /var/lib");
}

#[test]
fn a_process_is_found_by_its_pid_file() {
    let f = Fixture::new();
    let ask = |keys: &str| answer(&f, &format!("kind = \"process\"\npid_file = \"it.pid\"\n{keys}"));
    assert_eq!(ask(""), "no: it does not run");
    assert_eq!(ask("running = false"), "yes: it does not run");
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id();
    f.write("it.pid", format!("{pid}\n"));
    assert_eq!(ask(""), format!("yes: process {pid} runs"));
    assert_eq!(ask("running = false"), format!("no: process {pid} still runs"));
    child.kill().unwrap();
    // Not waited for yet, it is a zombie, and a zombie does not run.
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        ask("") == "no: it does not run"
    });
    assert!(gone);
    child.wait().unwrap();
    f.write("it.pid", "soon");
    assert_eq!(ask(""), "no: `DIR/it.pid` holds no pid");
}

#[test]
fn a_process_is_found_by_account_and_command_line() {
    let f = Fixture::new();
    let mut child = std::process::Command::new("sleep").arg("61.625").spawn().unwrap();
    let ask = |keys: &str| answer(&f, &format!("kind = \"process\"\ncommand = '^sleep 61\\.625$'\n{keys}"));
    let runs = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        ask("") == format!("yes: process {} runs", child.id())
    });
    assert!(runs);
    assert_eq!(ask("user = \"root\""), format!("yes: process {} runs", child.id()));
    assert_eq!(ask("user = \"nobody\""), "no: it does not run");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ask("running = false"), "yes: it does not run");
    let keys = "kind = \"process\"\ncommand = \"notesd\"\nrunning = false";
    assert_eq!(described(&f, keys), "a process like `notesd` does not run");
}

/// A database that answers what it is asked.
struct Echo(&'static str);

impl crate::resource::Resource for Echo {
    fn claims(&self, _: &Context<'_>) -> Result<Vec<crate::resource::Claim>> {
        Ok(Vec::new())
    }
    fn probe(&self, _: &Context<'_>, _: Option<crate::store::ObjectId>) -> Result<crate::resource::Estimate> {
        Ok(crate::resource::Estimate::default())
    }
    fn capture(&self, _: &Context<'_>, _: Option<crate::store::ObjectId>) -> Result<crate::resource::Captured> {
        unreachable!("no test captures it")
    }
    fn diff(&self, _: &Context<'_>, _: crate::store::ObjectId) -> Result<crate::resource::Changes> {
        unreachable!("no test compares it")
    }
    fn restore(&self, _: &Context<'_>, _: crate::store::ObjectId) -> Result<crate::resource::Changes> {
        unreachable!("no test restores it")
    }
    fn query(&self, _: &Context<'_>, sql: &str) -> Result<String> {
        match sql {
            "fail" => Err(crate::error::Error::new("no such table: x")),
            _ => Ok(self.0.to_owned()),
        }
    }
}

#[test]
fn every_database_must_give_the_answer() {
    let mut f = Fixture::new();
    f.peers.resources.insert("db".to_owned(), Box::new(Echo("2.0")));
    f.peers.resources.insert("db@a".to_owned(), Box::new(Echo("2.0")));
    f.peers.resources.insert("db@b".to_owned(), Box::new(Echo("1.9")));
    f.peers.resources.insert("empty".to_owned(), Box::new(Echo("")));
    let one = "kind = \"sql\"\nresource = \"db\"\nquery = \"select v\"";
    assert_eq!(answer(&f, one), "yes: 2.0");
    assert_eq!(answer(&f, &format!("{one}\nmatches = '^2\\.0$'")), "yes: 2.0");
    assert_eq!(answer(&f, &format!("{one}\nmatches = '^3'")), "no: does not match `^3`");
    assert_eq!(answer(&f, &one.replace("select v", "fail")), "no: no such table: x");
    assert_eq!(text(&f, one), "2.0");
    assert_eq!(described(&f, one), "ask db: select v");
    let cx = f.context("it");
    let sql = |resources: Vec<String>| sql::asked(resources, "select v");
    let all = sql(vec!["db@*".to_owned()]);
    assert_eq!(all.ask(&cx).unwrap().found, "1.9");
    let apart = all.read_text(&cx).unwrap_err();
    assert_eq!(shown(&apart, &f), "the databases do not give the same answer\n  cause: db@a: 2.0\n  cause: db@b: 1.9");
    assert_eq!(sql(vec!["empty".to_owned()]).ask(&cx).unwrap(), Finding::no("no rows"));
}

#[test]
fn mistakes_of_checks_are_told() {
    let f = Fixture::new();
    let all = f.all_mistakes(
        List::Check,
        &[
            "kind = \"file\"\npath = \"x\"\nexists = false\nmatches = \"y\"",
            "kind = \"http\"\nurl = \"x\"\nstatus = [20]",
            "kind = \"sql\"\nquery = \"x\"",
            "kind = \"sql\"\nresource = \"db\"\nresources = [\"db\"]\nquery = \"x\"",
            "kind = \"process\"",
            "kind = \"process\"\npid_file = \"x\"\nuser = \"y\"",
            "kind = \"space\"\npath = \"/\"\nfre = \"1 GiB\"",
            "kind = \"tcp\"",
        ],
    );
    insta::assert_snapshot!(all, @r#"
    a file that must not exist has no content to ask for

    a status is a number from 100 to 599
    hint: status = [200]

    the resource to ask is missing
    hint: resource = "…"

    `resource` and `resources` exclude each other

    which process is meant is missing
    hint: pid_file = "…", or user and command

    `pid_file` and `user` with `command` exclude each other

    the key `free` is missing
    unknown key `fre`
    hint: did you mean `free`?

    the key `address` is missing
    "#);
}
