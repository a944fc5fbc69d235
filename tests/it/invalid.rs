//! Every plan of `fixtures/plans/invalid` is refused through the command line with the message beside it.

use std::path::Path;

use crate::bed::Bed;

#[test]
fn every_invalid_plan_gives_the_message_beside_it() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plans/invalid");
    let mut names: Vec<String> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.retain(|name| name.ends_with(".toml"));
    assert!(names.len() >= 25, "{}", names.len());
    let bed = Bed::new();
    let mut wrong = String::new();
    for name in &names {
        std::fs::copy(dir.join(name), bed.path(name)).unwrap();
        let told = bed.run(&["plan", name]).ends(2);
        assert_eq!(told.out, "", "{name}");
        assert_eq!(bed.run(&["run", name]).ends(2).err, told.err, "{name}");
        // The plan is named by its path; the messages beside the plans are without the bed's.
        let told = told.err.replace(&format!("{}/", bed.path("").display().to_string().trim_end_matches('/')), "");
        let beside = dir.join(name).with_extension("txt");
        if std::env::var_os("TXUPGRADE_BLESS").is_some() {
            std::fs::write(&beside, &told).unwrap();
        } else if std::fs::read_to_string(&beside).unwrap_or_default() != told {
            wrong.push_str(&format!("{name} says now:\n{told}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}TXUPGRADE_BLESS=1 writes this down");
    assert!(!bed.exists("state"), "a plan that is wrong leaves no state directory");
}
