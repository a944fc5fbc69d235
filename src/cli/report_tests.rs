//! What a person reads, word for word.

use std::time::Duration;

use super::*;

fn task(text: &str) -> TaskId {
    text.parse().unwrap()
}

fn at(place: Place) -> Standing {
    Standing {
        undoes: Vec::new(),
        tx: "notes-3".parse().unwrap(),
        place,
        reason: None,
        failure: None,
        others: Vec::new(),
        warnings: Vec::new(),
        from: Some("1.4.2".to_owned()),
        to: Some("2.0.0".to_owned()),
        took: Duration::from_millis(12_300),
        downtime: Some(Duration::from_millis(4_010)),
        down: Vec::new(),
    }
}

#[test]
fn what_is_kept_down_is_named_where_it_stands_open() {
    let units = vec!["web.service".to_owned(), "shop.service".to_owned()];
    let down =
        vec![Down { quiesce: "door".to_owned(), units: Vec::new() }, Down { quiesce: "server".to_owned(), units }];
    let standing = Standing { down, ..at(Place::Captured) };
    let text = reads(&standing);
    assert!(text.contains("\n  kept down: `door` and `server` (web.service, shop.service)\n"), "{text}");
}

fn ended(outcome: Outcome) -> Standing {
    at(Place::Ended { outcome, unsound: Vec::new() })
}

/// Step `migrate` failed.
fn failed(standing: Standing) -> Standing {
    let failure = Error::new("`/opt/notes/bin/notes migrate` ended with exit status 3")
        .because("its last line was: relation \"users\" already exists");
    Standing {
        reason: Some(Reason::Failed { task: task("apply migrate") }),
        failure: Some((task("apply migrate"), failure)),
        ..standing
    }
}

fn reads(standing: &Standing) -> String {
    super::standing(standing, More::default(), &TimeZone::UTC, Paint::Plain)
}

#[test]
fn an_error_has_a_line_for_each_cause_and_hint() {
    let error = Error::new("cannot read the plan `notes.toml`")
        .because("permission denied")
        .because("it belongs to `root`")
        .hint("run it as root")
        .hint("sudo txupgrade run notes.toml");
    insta::assert_snapshot!(super::error(&error, Paint::Plain), @r"
    error: cannot read the plan `notes.toml`
      cause: permission denied
      cause: it belongs to `root`
    hint: run it as root
    hint: sudo txupgrade run notes.toml
    ");
}

#[test]
fn mistakes_of_a_plan_keep_their_shape() {
    let error = Error::new("notes.toml:3:1: unknown key `nam`\n3 | nam = \"x\"\n  | ^^^");
    insta::assert_snapshot!(super::error(&error, Paint::Plain), @r#"
    error: notes.toml:3:1: unknown key `nam`
      3 | nam = "x"
        | ^^^
    "#);
}

#[test]
fn what_a_program_said_cannot_write_to_the_terminal() {
    let error = Error::new("it failed").because("its last line was: \u{1b}]0;owned\u{7}");
    assert_eq!(
        super::error(&error, Paint::Plain),
        "error: it failed\n  cause: its last line was: \\u{1b}]0;owned\\u{7}\n"
    );
}

#[test]
fn committed() {
    insta::assert_snapshot!(reads(&ended(Outcome::Committed)), @"notes-3 is committed: 1.4.2 -> 2.0.0 in 12 s, down for 4.0 s");
}

#[test]
fn committed_without_versions_or_downtime() {
    let standing = Standing { from: None, to: None, downtime: None, ..ended(Outcome::Committed) };
    insta::assert_snapshot!(reads(&standing), @"notes-3 is committed, in 12 s");
}

#[test]
fn committed_with_warnings_and_a_failed_finish_step() {
    let standing = Standing {
        failure: Some((task("finish report"), Error::new("`report` ended with exit status 1"))),
        warnings: vec!["`/opt/notes/cache` is a mount point; it was not captured".to_owned()],
        ..ended(Outcome::Committed)
    };
    insta::assert_snapshot!(reads(&standing), @r"
    notes-3 is committed: 1.4.2 -> 2.0.0 in 12 s, down for 4.0 s
    warning: step `report` failed: `report` ended with exit status 1
    warning: `/opt/notes/cache` is a mount point; it was not captured
    ");
}

#[test]
fn rolled_back_tells_the_first_failure_first() {
    let mut standing = failed(ended(Outcome::RolledBack));
    standing.others.push((task("undo fetch"), Error::new("`rm` ended with exit status 1")));
    insta::assert_snapshot!(
        super::standing(&standing, More { plan: Some(Path::new("notes.toml")), ..More::default() }, &TimeZone::UTC, Paint::Plain), @r#"
    error: step `migrate` failed; everything was rolled back and rechecked
      cause: `/opt/notes/bin/notes migrate` ended with exit status 3
      cause: its last line was: relation "users" already exists
      also: undo of `fetch` failed: `rm` ended with exit status 1
    hint: its output is in `txupgrade log notes-3 migrate`; after a fix, `txupgrade run notes.toml` again
    "#);
}

#[test]
fn rolled_back_because_a_requirement_of_words_failed() {
    let standing = Standing {
        reason: Some(Reason::Failed { task: task("require the version") }),
        failure: Some((
            task("require the version"),
            Error::new("1.2.0 is not in `>=1.4, <2.0`").hint("upgrade to 1.4 first"),
        )),
        ..ended(Outcome::Aborted)
    };
    insta::assert_snapshot!(reads(&standing), @r"
    error: `require the version` failed; nothing was changed
      cause: 1.2.0 is not in `>=1.4, <2.0`
    hint: upgrade to 1.4 first
    ");
}

#[test]
fn rolled_back_and_unsound() {
    let mut standing = failed(at(Place::Ended { outcome: Outcome::RolledBack, unsound: vec![task("recheck page")] }));
    standing.others.push((task("recheck page"), Error::new("status 500")));
    insta::assert_snapshot!(reads(&standing), @r#"
    error: step `migrate` failed; everything was restored, but the recheck does not pass
      cause: `/opt/notes/bin/notes migrate` ended with exit status 3
      cause: its last line was: relation "users" already exists
      also: recheck `page` failed: status 500
    hint: its output is in `txupgrade log notes-3 migrate`
    "#);
}

#[test]
fn turned_back_when_asked() {
    let standing = Standing { reason: Some(Reason::Asked), ..ended(Outcome::RolledBack) };
    insta::assert_snapshot!(reads(&standing), @"notes-3 is turned back: everything was rolled back and rechecked");
}

#[test]
fn turned_back_by_a_signal() {
    let standing = Standing { reason: Some(Reason::Signal { number: 15 }), ..ended(Outcome::RolledBack) };
    insta::assert_snapshot!(reads(&standing), @"error: interrupted by SIGTERM; everything was rolled back and rechecked");
    let standing = Standing { reason: Some(Reason::Signal { number: 2 }), ..ended(Outcome::Aborted) };
    insta::assert_snapshot!(reads(&standing), @"error: interrupted by SIGINT; nothing was changed");
}

#[test]
fn turned_back_after_a_crash() {
    let standing = Standing { reason: Some(Reason::Died), ..ended(Outcome::RolledBack) };
    insta::assert_snapshot!(reads(&standing), @"notes-3 was interrupted; everything was rolled back and rechecked");
}

#[test]
fn turned_back_because_nobody_confirmed() {
    let standing = Standing { reason: Some(Reason::NotConfirmed), ..ended(Outcome::RolledBack) };
    insta::assert_snapshot!(reads(&standing), @"error: notes-3 was not confirmed in time; everything was rolled back and rechecked");
}

#[test]
fn stuck_says_what_is_restored_and_the_two_ways_out() {
    let mut standing = failed(at(Place::Stuck {
        task: task("restore db"),
        restored: vec![task("restore code"), task("restore config")],
        not_restored: vec![task("restore db"), task("undo fetch")],
    }));
    standing.others.push((
        task("restore db"),
        Error::new("cannot write `/var/lib/notes/notes.db`").because("no space left on device"),
    ));
    insta::assert_snapshot!(reads(&standing), @r#"
    error: step `migrate` failed, and notes-3 is stuck on its way back: restore of `db` failed
      cause: `/opt/notes/bin/notes migrate` ended with exit status 3
      cause: its last line was: relation "users" already exists
      also: restore of `db` failed: cannot write `/var/lib/notes/notes.db`: no space left on device
      restored: `code` and `config`
      not restored: `db` and undo of `fetch`
    hint: remove the cause, then `txupgrade rollback notes-3` tries again
    hint: once it is restored by hand, `txupgrade release notes-3 --resume` (or `--leave-down`) closes it
    "#);
}

#[test]
fn stuck_before_anything_was_restored() {
    let mut standing =
        at(Place::Stuck { task: task("prove code"), restored: Vec::new(), not_restored: vec![task("restore code")] });
    standing.reason = Some(Reason::Asked);
    standing.failure = Some((task("prove code"), Error::new("an archive is damaged")));
    insta::assert_snapshot!(reads(&standing), @r"
    error: notes-3 is stuck: proof of `code` failed
      cause: an archive is damaged
      restored: nothing
      not restored: `code`
    hint: remove the cause, then `txupgrade rollback notes-3` tries again
    hint: once it is restored by hand, `txupgrade release notes-3 --resume` (or `--leave-down`) closes it
    ");
}

#[test]
fn captured_says_how_it_goes_on() {
    let standing = Standing { to: None, downtime: None, ..at(Place::Captured) };
    insta::assert_snapshot!(reads(&standing), @r"
    notes-3 is open: everything is captured and proved, in 12 s
      next: `txupgrade apply notes-3` runs the plan's steps
      next: `txupgrade commit notes-3 --steps-done` after the upgrade by hand
      next: `txupgrade rollback notes-3` puts everything back
    ");
}

#[test]
fn captured_without_steps_is_committed_as_it_is() {
    let standing = Standing { to: None, downtime: None, ..at(Place::Captured) };
    let more = More { steps: Steps::Done, ..More::default() };
    insta::assert_snapshot!(super::standing(&standing, more, &TimeZone::UTC, Paint::Plain), @r"
    notes-3 is open: everything is captured and proved, in 12 s
      next: `txupgrade commit notes-3` after the upgrade by hand
      next: `txupgrade rollback notes-3` puts everything back
    ");
}

#[test]
fn a_snapshot_says_at_which_version() {
    let standing = Standing { to: None, ..ended(Outcome::Committed) };
    insta::assert_snapshot!(reads(&standing), @"notes-3 is committed: at 1.4.2, in 12 s, down for 4.0 s");
}

#[test]
fn applied_says_how_it_goes_on() {
    let standing = Standing { to: None, downtime: None, ..at(Place::Applied) };
    insta::assert_snapshot!(reads(&standing), @r"
    notes-3 is open: every step has run, in 12 s
      next: `txupgrade commit notes-3` resumes, asks the checks and keeps it
      next: `txupgrade rollback notes-3` puts everything back
    ");
}

#[test]
fn on_hold_says_what_failed_and_how_it_goes_on() {
    let mut standing = failed(at(Place::OnHold { task: task("apply migrate") }));
    standing.reason = None;
    insta::assert_snapshot!(reads(&standing), @r#"
    error: step `migrate` failed; notes-3 is on hold
      cause: `/opt/notes/bin/notes migrate` ended with exit status 3
      cause: its last line was: relation "users" already exists
    hint: its output is in `txupgrade log notes-3 migrate`
      next: `txupgrade apply notes-3` runs it again (`--skip migrate`: it is done by hand)
      next: `txupgrade rollback notes-3` puts everything back
    "#);
}

#[test]
fn what_failed_again_in_the_same_way_is_told_once() {
    let mut standing = failed(at(Place::OnHold { task: task("apply migrate") }));
    let once = reads(&standing);
    standing.others = vec![standing.failure.clone().unwrap()];
    assert_eq!(reads(&standing), once);
}

#[test]
fn on_hold_at_a_check() {
    let standing = Standing {
        failure: Some((task("verify page"), Error::new("status 500"))),
        ..at(Place::OnHold { task: task("verify page") })
    };
    insta::assert_snapshot!(reads(&standing), @r"
    error: check `page` failed; notes-3 is on hold
      cause: status 500
      next: `txupgrade commit notes-3` tries again
      next: `txupgrade rollback notes-3` puts everything back
    ");
}

#[test]
fn unconfirmed_says_until_when() {
    let left = Some(Duration::from_secs(600));
    let standing = at(Place::Unconfirmed { until: "2026-11-21T03:25:19.5Z".to_owned(), left });
    insta::assert_snapshot!(reads(&standing), @r"
    notes-3 waits for its confirmation until 2026-11-21 03:25:19: 1.4.2 -> 2.0.0 in 12 s, down for 4.0 s
      next: `txupgrade confirm notes-3` keeps it
      next: `txupgrade rollback notes-3` puts everything back
    ");
    let standing = at(Place::Unconfirmed { until: "2026-11-21T03:25:19.5Z".to_owned(), left: None });
    insta::assert_snapshot!(reads(&standing), @r"
    notes-3 was not confirmed in time, and nothing has taken it back yet
      next: `txupgrade recover` takes it back now
    ");
}

#[test]
fn released_lists_the_displaced_copies() {
    let copies = [PathBuf::from("/opt/notes/.txupgrade-notes-3-code")];
    let text = reads(&ended(Outcome::Released)) + &displaced(&copies, Paint::Plain);
    insta::assert_snapshot!(text, @r"
    notes-3 is released: it counts as settled by hand
    these displaced copies are kept; remove them when you are sure:
      /opt/notes/.txupgrade-notes-3-code
    ");
}

#[test]
fn interrupted_and_running() {
    insta::assert_snapshot!(reads(&at(Place::Abandoned)), @r"
    notes-3 was interrupted, and nobody carries it on
      next: `txupgrade recover` settles it
    ");
    insta::assert_snapshot!(reads(&at(Place::Running)), @r"
    notes-3 is under way in another process
      next: `txupgrade log notes-3 --follow` shows what it does
    ");
}

#[test]
fn colour_only_adds_colour() {
    let standing = failed(ended(Outcome::RolledBack));
    let plain = reads(&standing);
    let coloured = super::standing(&standing, More::default(), &TimeZone::UTC, Paint::Colour);
    let stripped = coloured.replace("\u{1b}[1;31m", "").replace("\u{1b}[36m", "").replace("\u{1b}[0m", "");
    assert_ne!(coloured, plain);
    assert_eq!(stripped, plain);
}

#[test]
fn every_action_has_a_noun() {
    let nouns: Vec<String> = Action::ALL.map(|action| words::task(&TaskId::new(action, "x"))).to_vec();
    insta::assert_snapshot!(nouns.join("\n"), @r"
    check `x`
    step `x`
    precapture of `x`
    quiesce `x`
    capture of `x`
    proof of `x`
    step `x`
    resume of `x`
    check `x`
    step `x`
    restore of `x`
    diagnosis `x`
    undo of `x`
    restore of `x`
    recheck `x`
    ");
}
