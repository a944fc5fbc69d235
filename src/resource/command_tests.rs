//! Dumps and loads that do not behave.

use super::*;
use crate::context_fixture::{Fixture, shown};
use crate::plan::List;

fn resource(f: &Fixture, dump: &str, load: &str, more: &str) -> Box<dyn Resource> {
    f.resource(&format!(
        "kind = \"command\"\ndump = {{ shell = '''{dump}''' }}\nload = {{ shell = '''{load}''' }}\n{more}"
    ))
}

#[test]
fn a_dump_that_fails_is_no_capture() {
    let f = Fixture::new();
    let it = resource(&f, "echo half; echo cannot connect >&2; exit 2", "cat", "");
    assert_eq!(
        shown(&it.capture(&f.context("it"), None).unwrap_err(), &f),
        "`echo half; echo cannot connect >&2; exit 2` ended with exit status 2\n  \
         cause: its last line was: cannot connect"
    );
}

#[test]
fn an_empty_dump_is_a_warning() {
    let f = Fixture::new();
    let captured = resource(&f, "true", "cat", "").capture(&f.context("it"), None).unwrap();
    assert_eq!(captured.warnings, ["the dump of `it` is empty"]);
}

#[test]
fn a_large_dump_is_streamed_whole() {
    let f = Fixture::new();
    let it = resource(&f, "head -c 3000000 /dev/zero; echo end", "cat > $dir/loaded", "");
    let cx = f.context("it");
    let captured = it.capture(&cx, None).unwrap();
    assert_eq!(captured.bytes, 3_000_004);
    assert!(it.diff(&cx, captured.manifest).unwrap().is_empty());
}

#[test]
fn a_dump_that_leaves_a_process_behind_still_ends() {
    let f = Fixture::new();
    let it = resource(&f, "echo content; sleep 3.5 & true", "cat", "");
    let began = std::time::Instant::now();
    let captured = it.capture(&f.context("it"), None).unwrap();
    assert_eq!(captured.bytes, 8);
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
}

#[test]
fn a_load_that_fails_or_does_not_read_is_no_restore() {
    let f = Fixture::new();
    f.write("content", vec![1; 1_000_000]);
    let cx = f.context("it");
    let manifest = resource(&f, "cat $dir/content", "true", "").capture(&cx, None).unwrap().manifest;
    f.write("content", "changed");
    let fails = resource(&f, "cat $dir/content", "cat > /dev/null; echo disk full; exit 1", "");
    assert_eq!(
        shown(&fails.restore(&cx, manifest).unwrap_err(), &f),
        "`cat > /dev/null; echo disk full; exit 1` ended with exit status 1"
    );
    let deaf = resource(&f, "cat $dir/content", "true", "");
    let text = shown(&deaf.restore(&cx, manifest).unwrap_err(), &f);
    assert!(
        text.starts_with("`true` ended before it had read everything\n  cause: cannot write what was kept"),
        "{text}"
    );
    let lies = resource(&f, "cat $dir/content", "cat > /dev/null", "");
    assert_eq!(
        shown(&lies.restore(&cx, manifest).unwrap_err(), &f),
        "`it` was loaded and still differs\n  cause: 1000000 -> 7 bytes\n  cause: the program was: cat > /dev/null"
    );
}

#[test]
fn dumps_that_never_are_the_same_are_found_out_before_the_first_step() {
    let f = Fixture::new();
    let cx = f.context("it");
    let it = resource(&f, "date +%N", "cat", "");
    let manifest = it.capture(&cx, None).unwrap().manifest;
    assert_eq!(
        shown(&it.prove(&cx, manifest).unwrap_err(), &f),
        "two dumps of `it` differ though nothing was done\n\
         hint: give a `fingerprint`: a program that prints the same for the same content"
    );
    let it = resource(&f, "date +%N", "cat", "fingerprint = [\"echo\", \"3 users\"]");
    let manifest = it.capture(&cx, None).unwrap().manifest;
    assert_eq!(it.prove(&cx, manifest).unwrap().as_deref(), Some("its fingerprint is stable"));
    let it = resource(&f, "true", "cat", "fingerprint = { shell = \"date +%N\" }");
    let manifest = it.capture(&cx, None).unwrap().manifest;
    assert!(shown(&it.prove(&cx, manifest).unwrap_err(), &f).starts_with("the fingerprint of `it` changes"));
}

#[test]
fn a_diff_shows_the_lines_of_the_fingerprint() {
    let f = Fixture::new();
    f.write("counts", "users 12\nnotes 40\n");
    let it = resource(&f, "cat $dir/counts", "cat > $dir/counts", "fingerprint = [\"cat\", \"${dir}/counts\"]");
    let cx = f.context("it");
    let manifest = it.capture(&cx, None).unwrap().manifest;
    f.write("counts", "users 13\nnotes 40\n");
    assert_eq!(it.diff(&cx, manifest).unwrap().items[0].details, ["-users 12", "+users 13"]);
}

#[test]
fn what_is_missing_is_said() {
    let f = Fixture::new();
    let it = f.resource("kind = \"command\"\ndump = [\"/no/such/dump\"]\nload = [\"cat\"]");
    assert_eq!(shown(&it.probe(&f.context("it"), None).unwrap_err(), &f), "the program `/no/such/dump` does not exist");
    assert_eq!(it.claims(&f.context("it")).unwrap(), [Claim::Thing("command cat".to_owned())]);
    let told = f.mistakes(List::Resource, "kind = \"command\"\ndump = [\"x\"]");
    assert_eq!(told, "the key `load` is missing");
}

#[test]
fn a_pipe_that_hides_how_a_dump_ended_is_named() {
    let f = Fixture::new();
    let warned = |dump: &str, load: &str| {
        let estimate = resource(&f, dump, load, "").probe(&f.context("it"), None).unwrap();
        estimate.warnings.join("\n")
    };
    assert_eq!(
        warned("pg_dump app | gzip", "gunzip | psql app"),
        "`it`: of the pipe in `dump` only the last program's exit status counts: what fails before it goes unseen\n\
         `it`: of the pipe in `load` only the last program's exit status counts: what fails before it goes unseen"
    );
    assert_eq!(warned("test -e x || cat y", "cat > y"), "");
    assert_eq!(warned("bash -o pipefail -c 'pg_dump app | gzip'", "cat > y"), "");
}

#[test]
fn a_dump_is_taken_to_be_as_large_as_the_last_one() {
    let f = Fixture::new();
    let it = resource(&f, "echo content", "cat", "");
    let cx = f.context("it");
    assert_eq!(it.probe(&cx, None).unwrap().bytes, 0);
    let last = it.capture(&cx, None).unwrap().manifest;
    assert_eq!(it.probe(&cx, Some(last)).unwrap().bytes, 8);
}

#[test]
fn any_byte_goes_in_and_comes_out() {
    let f = Fixture::new();
    let every: Vec<u8> = (0..=255u8).cycle().take(70_000).collect();
    f.write("content", &every);
    let it = resource(&f, "cat $dir/content", "cat > $dir/content", "");
    let cx = f.context("it");
    let captured = it.capture(&cx, None).unwrap();
    f.write("content", "text");
    it.restore(&cx, captured.manifest).unwrap();
    assert_eq!(std::fs::read(f.path("content")).unwrap(), every);
}
