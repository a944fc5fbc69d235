//! The application, driven by hand the way the plans drive it.

use super::*;

/// Stops the server whatever the test comes to.
struct Stopped(Ground);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.tear_down();
    }
}

fn stage() -> (tempfile::TempDir, Stopped) {
    let scratch = tempfile::tempdir().unwrap();
    let ground = lay_out(&scratch.path().join("demo")).unwrap();
    (scratch, Stopped(ground))
}

fn sql(ground: &Ground, query: &str) -> String {
    let db = rusqlite::Connection::open(ground.dir.join("data/notes.db")).unwrap();
    db.query_row(query, [], |row| row.get::<_, rusqlite::types::Value>(0).map(|v| format!("{v:?}"))).unwrap()
}

/// What the plan's steps do: a new tree in place of the old one, `config/` carried over, the key renamed.
fn replace(ground: &Ground, with: &Path) {
    let config = fs::read(ground.home.join("config/notes.conf")).unwrap();
    fs::rename(&ground.home, ground.dir.join("displaced")).unwrap();
    fs_extra::dir::copy(with, &ground.dir, &fs_extra::dir::CopyOptions::new()).unwrap();
    fs::rename(ground.dir.join(with.file_name().unwrap()), &ground.home).unwrap();
    let text = String::from_utf8(config).unwrap().replace("listen ", "bind   ");
    fs::write(ground.home.join("config/notes.conf"), text).unwrap();
    fs::remove_dir_all(ground.dir.join("displaced")).unwrap();
}

fn unpacked_2(ground: &Ground) -> PathBuf {
    let gz = File::open(ground.dir.join("releases/notes-2.0.0.tar.gz")).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(gz)).unpack(ground.dir.join("releases")).unwrap();
    ground.dir.join("releases/notes-2.0.0")
}

fn notes(ground: &Ground, word: &str) -> String {
    run(Command::new(ground.home.join("bin/notes")).arg(word)).unwrap()
}

#[test]
fn the_upgrade_to_2_migrates_and_3_breaks_both_ways() {
    let (_scratch, stopped) = stage();
    let ground = &stopped.0;
    assert_eq!(notes(ground, "--version"), "notes 1.4.2");
    let page = ground.page("/").unwrap();
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<h1>Notes 1.4.2</h1>\n<p>420 notes</p>"), "{}", page.text);
    assert!(ground.home.join("cache").is_dir());

    ground.control(Verb::Stop).unwrap();
    assert!(ground.page("/").is_err());
    assert!(!ground.dir.join("run/notes.pid").exists());
    replace(ground, &unpacked_2(ground));
    assert_eq!(
        notes(ground, "migrate"),
        "migrating schema 3 to 4\n420 notes split into title and body\n5 tags on 395 notes\ndone: schema 4"
    );
    assert_eq!(notes(ground, "migrate"), "nothing to do: schema 4");
    ground.control(Verb::Start).unwrap();
    let page = ground.page("/").unwrap();
    assert!(page.text.contains("<h1>Notes 2.0.0</h1>"), "{}", page.text);
    assert!(page.text.contains("<p>420 notes</p>"), "{}", page.text);
    assert_eq!(sql(ground, "SELECT title FROM notes WHERE id = 17"), r#"Text("The slipway painted")"#);
    assert!(ground.page("/notes/17").unwrap().text.contains("<h2>The slipway painted</h2>"));

    ground.control(Verb::Stop).unwrap();
    replace(ground, &ground.dir.join("releases/notes-3.0.0"));
    let said = notes(ground, "migrate");
    assert!(said.contains("200 of 420 notes moved\n") && said.ends_with("KeyError: 252"), "{said}");
    assert!(!said.contains("done"));
    assert_eq!(sql(ground, "SELECT count(*) FROM notes WHERE notebook IS NOT NULL"), "Integer(200)");
    assert_eq!(sql(ground, "SELECT value FROM meta WHERE key = 'schema'"), r#"Text("4")"#);
    ground.control(Verb::Start).unwrap();
    assert_eq!(ground.page("/").unwrap().status, 500);
    assert!(notes(ground, "diagnostics").contains("table      notebooks: 5 rows"));
}

/// Sends a form, as the web page's users do.
fn post(ground: &Ground, form: &str) -> String {
    let mut link = TcpStream::connect(ground.address).unwrap();
    let head = format!("POST /notes HTTP/1.0\r\nContent-Length: {}\r\n\r\n", form.len());
    link.write_all((head + form).as_bytes()).unwrap();
    let mut answer = String::new();
    link.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn the_server_holds_nothing_of_who_started_it() {
    let (_scratch, stopped) = stage();
    let run_dir = stopped.0.dir.join("run");
    let pid = fs::read_to_string(run_dir.join("notes.pid")).unwrap();
    let proc = Path::new("/proc").join(pid.trim());
    let stat = fs::read_to_string(proc.join("stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(session, pid.trim());
    for fd in fs::read_dir(proc.join("fd")).unwrap() {
        let path = fd.unwrap().path();
        // A connection may have gone since the directory was read.
        let Ok(to) = fs::read_link(&path) else { continue };
        let to = to.to_string_lossy().into_owned();
        let own = to == "/dev/null" || to.starts_with("socket:") || to.starts_with("anon_inode:");
        assert!(own || Path::new(&to) == run_dir.join("notes.log"), "{} is {to}", path.display());
    }
}

#[test]
fn notes_can_be_written_in_both_releases() {
    let (_scratch, stopped) = stage();
    let ground = &stopped.0;
    assert_eq!(post(ground, "author=ada&text=Gulls%0Aeverywhere+%23birds"), "note 421\n");
    assert_eq!(post(ground, "author=nobody&text=x"), "no such author\n");
    ground.control(Verb::Stop).unwrap();
    replace(ground, &unpacked_2(ground));
    notes(ground, "migrate");
    ground.control(Verb::Start).unwrap();
    assert!(ground.page("/notes/421").unwrap().text.contains("<h2>Gulls</h2>"));
    assert_eq!(post(ground, "author=jun&text=Terns%0Atoo+%23birds"), "note 422\n");
    assert!(ground.page("/").unwrap().text.contains("birds (2)"));
    assert_eq!(ground.page("/notes/999").unwrap().status, 404);
}

#[test]
fn start_and_stop_do_nothing_twice() {
    let (_scratch, stopped) = stage();
    let ground = &stopped.0;
    assert!(ground.control(Verb::Start).unwrap().starts_with("notes is already running (pid "));
    assert_eq!(ground.control(Verb::Stop).unwrap(), "notes is stopped");
    assert_eq!(ground.control(Verb::Stop).unwrap(), "notes is not running");
}

#[test]
fn release_2_refuses_the_old_key_and_is_stoppable_with_it() {
    let (_scratch, stopped) = stage();
    let ground = &stopped.0;
    let config = ground.home.join("config/notes.conf");
    let old = fs::read_to_string(&config).unwrap();
    fs::write(&config, old.replace("listen ", "bind   ")).unwrap();
    assert_eq!(ground.control(Verb::Stop).unwrap(), "notes is stopped");
    let error = ground.control(Verb::Start).unwrap_err();
    let expected = format!(
        "its last line was: notes-ctl: the server ended at once: notes: {}:3: unknown key `bind`; \
         this release calls it `listen`",
        config.display()
    );
    assert_eq!(error.causes, [expected]);
}

#[test]
fn the_plans_are_toml_and_name_this_place() {
    let (_scratch, stopped) = stage();
    let ground = &stopped.0;
    for plan in [&ground.plans.works, &ground.plans.breaks] {
        let text = fs::read_to_string(plan).unwrap();
        assert!(!text.contains('@'), "{text}");
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["vars"]["home"].as_str(), ground.home.to_str());
    }
    let hash = blake3::hash(&fs::read(ground.dir.join("releases/notes-2.0.0.tar.gz")).unwrap());
    assert!(fs::read_to_string(&ground.plans.works).unwrap().contains(hash.to_hex().as_str()));
}

#[test]
fn a_place_with_odd_characters_is_quoted() {
    let plan = filled("root = \"@ROOT@\"", "/a\"b\\c${d}", "127.0.0.1:1".parse().unwrap(), b"");
    let table: toml::Table = plan.parse().unwrap();
    assert_eq!(table["root"].as_str(), Some("/a\"b\\c$${d}"));
}

#[test]
fn a_directory_that_is_not_empty_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("thesis.tex"), "").unwrap();
    let error = lay_out(scratch.path()).unwrap_err();
    assert_eq!(error.statement, format!("`{}` is not empty", scratch.path().canonicalize().unwrap().display()));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_python_is_named_with_its_package() {
    let error = python_on(std::ffi::OsStr::new("/nowhere")).unwrap_err();
    assert_eq!(error.statement, "cannot find `python3` on the PATH, which the demo's application is written in");
    assert_eq!(error.hints, ["on Debian and Ubuntu: `apt-get install python3`"]);
}
