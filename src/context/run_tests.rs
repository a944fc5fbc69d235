use super::*;
use crate::monitor::Silent;
use crate::plan::{Template, Value};

struct Place {
    dir: tempfile::TempDir,
    log: Log,
    scope: Scope,
    stop: Stop,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let token = format!("notes-3/apply migrate {}", dir.path().display());
        let log = Log::open(&dir.path().join("logs/migrate.log"), &token, vec!["hunter2".into()]).unwrap();
        let mut scope = Scope { dir: dir.path().to_owned(), ..Scope::default() };
        scope.values.insert("home".into(), "/opt/my notes".into());
        scope.secrets.insert("password".into(), "hunter2".into());
        Place { dir, log, scope, stop: Stop::never() }
    }

    fn around(&self) -> Around<'_> {
        Around {
            tx: "notes-3",
            subject: "migrate",
            direction: Direction::Backward,
            scope: &self.scope,
            log: &self.log,
            stop: &self.stop,
            monitor: &Silent,
        }
    }

    fn ran(&self, command: &Command) -> Result<Ran> {
        let default = Duration::from_secs(20);
        let ran = self.around().carry_out(command, default, Stdio::null(), None)?;
        self.around().succeeded(command, default, ran)
    }

    fn text(&self, command: &Command) -> String {
        self.ran(command).unwrap().text
    }

    /// An error as people see it, the place left out.
    fn failure(&self, command: &Command) -> String {
        let error = self.ran(command).unwrap_err();
        let causes = error.causes.iter().map(|cause| format!("\n  cause: {cause}"));
        let hints = error.hints.iter().map(|hint| format!("\nhint: {hint}"));
        let text = error.statement.clone() + &causes.chain(hints).collect::<String>();
        text.replace(&self.dir.path().display().to_string(), "DIR")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

fn blank(program: plan::Program) -> Command {
    Command { program, user: None, dir: None, env: BTreeMap::new(), env_file: None, timeout: None, exit: vec![0] }
}

fn list(words: &[&str]) -> Command {
    blank(plan::Program::Run(words.iter().map(|word| Template::parse(word).unwrap()).collect()))
}

fn shell(text: &str) -> Command {
    blank(plan::Program::Shell(text.into()))
}

#[test]
fn words_are_filled_in_and_never_split() {
    let place = Place::new();
    let command = list(&["printf", "%s|", "${home}/bin", "a b", ""]);
    assert_eq!(place.text(&command), "/opt/my notes/bin|a b||");
    assert_eq!(shown(&command, &place.scope), "printf '%s|' '/opt/my notes/bin' 'a b' ''");
}

#[test]
fn a_secret_never_becomes_an_argument() {
    let place = Place::new();
    let command = list(&["echo", "${password}"]);
    insta::assert_snapshot!(place.failure(&command), @r#"
    the variable `password` is secret and cannot stand here
    hint: a program gets it as environment: `env = { NAME = "${password}" }`
    "#);
    assert_eq!(shown(&command, &place.scope), "echo ${password}");
}

#[test]
fn shell_gets_variables_and_secrets_as_environment() {
    let place = Place::new();
    assert_eq!(place.text(&shell("echo \"$home $password\"")), "/opt/my notes hunter2\n");
    assert!(place.log().contains("/opt/my notes *******\n"));
}

#[test]
fn a_list_gets_only_the_environment_it_asks_for() {
    let place = Place::new();
    let mut command = list(&["sh", "-c", "echo \"[$home] [$password] [$PGPASSWORD]\""]);
    assert_eq!(place.text(&command), "[] [] []\n");
    command.env.insert("PGPASSWORD".into(), Value::Plain(Template::parse("${password}").unwrap()));
    assert_eq!(place.text(&command), "[] [] [hunter2]\n");
}

#[test]
fn commands_are_told_transaction_task_and_direction() {
    let place = Place::new();
    let command = shell("echo $TXUPGRADE_TX $TXUPGRADE_TASK $TXUPGRADE_DIRECTION; pwd");
    let dir = place.dir.path().display();
    assert_eq!(place.text(&command), format!("notes-3 migrate backward\n{dir}\n"));
}

#[test]
fn values_of_an_env_file_are_secret_and_short_words_are_not() {
    let place = Place::new();
    std::fs::write(place.dir.path().join("env"), "TOKEN=\"correct horse\"\nMODE=prod\nexport HOST=override\n").unwrap();
    let mut command = shell("echo $TOKEN $MODE $HOST");
    command.env_file = Some(Template::literal("env"));
    command.env.insert("HOST".into(), Value::Plain(Template::literal("here")));
    assert_eq!(place.text(&command), "correct horse prod here\n");
    assert!(place.log().contains("\n************* prod here\n"), "{}", place.log());
}

#[test]
fn a_plan_directory_that_is_gone_or_closed_is_no_trouble() {
    let mut place = Place::new();
    std::fs::set_permissions(place.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut command = shell("pwd; id -un");
    command.user = Some(Template::literal("nobody"));
    assert_eq!(place.text(&command), "/\nnobody\n");
    place.scope.dir = "/opt/gone".into();
    assert_eq!(place.text(&shell("pwd")), "/\n");
}

#[test]
fn the_log_has_the_command_its_output_and_its_end() {
    let place = Place::new();
    place.text(&shell("echo one; printf two"));
    let log = place.log();
    let (head, end) = log.split_at(log.find("= exit").unwrap());
    assert_eq!(head, "$ echo one; printf two\none\ntwo\n");
    assert!(end.starts_with("= exit status 0 after 0.") && end.ends_with(" s\n"), "{end}");
}

#[test]
fn a_wrong_exit_status_quotes_the_last_line() {
    let place = Place::new();
    let mut command = shell("printf '\\n\\033[31mno relation users, %s\\033[0m\\n\\n' $password; exit 3");
    insta::assert_snapshot!(place.failure(&command), @r#"
    `printf '\n\033[31mno relation users, %s\033[0m\n\n' $password; exit 3` ended with exit status 3
      cause: its last line was: no relation users, *******
    "#);
    command.exit = vec![0, 3];
    assert!(place.ran(&command).is_ok());
}

#[test]
fn a_signal_a_timeout_and_an_interruption_are_failures_of_their_own() {
    let mut place = Place::new();
    let mut hangs = list(&["sleep", "60"]);
    hangs.timeout = Some(Duration::from_millis(200));
    let killed = place.failure(&shell("kill -9 $$"));
    let late = place.failure(&hangs);
    place.stop = Stop::never();
    place.stop.raise(15);
    let error = place.ran(&list(&["sleep", "60"])).unwrap_err();
    assert_eq!(error.fault, Fault::Signal(15));
    insta::assert_snapshot!([killed, late, error.to_string()].join("\n"), @r#"
    `kill -9 $$` was ended by KILL
    `sleep 60` was stopped after 200ms: it did not end in time
    `sleep 60` was stopped, since TERM was sent
    "#);
    assert!(place.log().contains("= ended by KILL after 0."));
    assert!(place.log().contains("= did not end in time: stopped after 0.2 s\n"));
    assert!(place.log().contains("= stopped after 0.0 s, since TERM was sent\n"));
}

#[test]
fn what_a_failed_command_left_running_is_ended_and_named() {
    let place = Place::new();
    let script = |status| shell(&format!("sleep 60 & echo $! > pid; exit {status}"));
    let failure = place.failure(&script(1));
    let pid = std::fs::read_to_string(place.dir.path().join("pid")).unwrap();
    let named = format!("process {} `sleep 60`, which it left running, was ended", pid.trim());
    assert!(failure.ends_with(&format!("ended with exit status 1\n  cause: {named}")), "{failure}");
    let ran = place.ran(&script(0)).unwrap();
    let pid = std::fs::read_to_string(place.dir.path().join("pid")).unwrap();
    assert_eq!(ran.exit.left, [(pid.trim().parse().unwrap(), "sleep 60".to_owned())]);
    assert!(place.log().ends_with(&format!("= left running: {} sleep 60\n", pid.trim())));
    process::end_left(&place.log, &ran.exit).unwrap();
}

#[test]
fn a_program_that_waits_for_input_gets_the_end_of_it() {
    let place = Place::new();
    assert_eq!(place.text(&shell("read answer || echo no answer")), "no answer\n");
}

#[test]
fn what_cannot_be_started_stands_in_the_log_too() {
    let place = Place::new();
    insta::assert_snapshot!(place.failure(&list(&["/opt/gone/notes", "migrate"])), @"there is no program `/opt/gone/notes`");
    assert_eq!(place.log(), "$ /opt/gone/notes migrate\n= there is no program `/opt/gone/notes`\n");
}

#[test]
fn a_command_is_shown_as_one_line() {
    let scope = Scope::default();
    assert_eq!(shown(&shell("\n  set -e\n  notes migrate\n"), &scope), "set -e …");
    assert_eq!(shown(&shell("a | b"), &scope), "a | b");
    assert_eq!(shown(&list(&["notes", "it's", "${version}"]), &scope), "notes 'it'\\''s' ${version}");
}

#[test]
fn the_last_line_is_what_a_terminal_would_show() {
    assert_eq!(last_line("a\n10%\r50%\rdone \r\n\n\x1b[0m\n").as_deref(), Some("done"));
    assert_eq!(last_line("\n \n"), None);
    assert_eq!(last_line(&"ä".repeat(400)).unwrap().chars().count(), 302);
}

#[test]
fn times_read_as_in_a_plan() {
    let words = [600, 5400, 59, 0].map(|seconds| in_words(Duration::from_secs(seconds)));
    assert_eq!(words, ["10m", "1h 30m", "59s", "0s"]);
    assert_eq!(in_words(Duration::from_millis(1500)), "1s 500ms");
}
