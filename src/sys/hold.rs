//! What keeps a unit of systemd down while a transaction has it stopped, across reboots too: a mark and a drop-in.
//!
//! The mark, `<state>/held/UNIT`, says that the unit is held, and for which transaction. The drop-in makes systemd skip
//! every start of the unit while the mark is there, and order it behind the recovery of files at boot. A skipped start
//! is no failure, so nothing that needs the unit fails at boot, and nobody waits for us who has to go first.
//!
//! The mark goes when the unit is resumed. The drop-in holds nothing by itself and stays until the transaction has
//! ended, so that a boot in between still puts files back before the unit starts.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::files;
use crate::error::{Error, OrSay, Result};

/// Where the administrator's units are.
pub const SYSTEM: &str = "/etc/systemd/system";
/// The unit that puts files back at boot.
pub const FILES_UNIT: &str = "txupgrade-recover-files.service";
/// The unit that settles the rest at boot.
pub const REST_UNIT: &str = "txupgrade-recover.service";

/// The holds of one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    state: &'a Path,
    tx: &'a str,
    system: &'a Path,
}

/// Whether systemd has read its files since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It has.
    Already,
    /// It has to.
    NotYet,
}

impl<'a> Hold<'a> {
    /// Those of the transaction `tx` of this state directory (absolute).
    pub fn new(state: &'a Path, tx: &'a str) -> Hold<'a> {
        Hold { state, tx, system: Path::new(SYSTEM) }
    }

    /// Holds `unit` back, durably. Repeatable.
    pub fn put(&self, unit: &str) -> Result<Known> {
        let say = || format!("cannot hold `{unit}` back");
        let dir = self.system.join(format!("{unit}.d"));
        let drop_in = dir.join(format!("txupgrade-{}.conf", self.tx));
        let text = self.text(unit);
        let known = match fs::read_to_string(&drop_in) {
            Ok(there) if there == text => Known::Already,
            Ok(there) if !there.contains(&self.condition("")) => {
                return Err(Error::new(say())
                    .because(format!("`{}` is of a `{}` with another state directory", drop_in.display(), self.tx))
                    .hint("settle that one first, with its own `--state-dir`; then remove the file"));
            }
            _ => {
                let made = fs::DirBuilder::new().mode(0o755).create(&dir);
                match made {
                    Ok(()) => files::sync_dir(self.system)?,
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error).or_say(say),
                }
                files::write_durably(&drop_in, text.as_bytes()).map_err(|error| error.within(say()))?;
                fs::set_permissions(&drop_in, fs::Permissions::from_mode(0o644)).or_say(say)?;
                Known::NotYet
            }
        };
        let marks = marks(self.state);
        if !marks.is_dir() {
            files::create_private_dir(&marks)?;
            files::sync_dir(self.state)?;
        }
        files::write_durably(&marks.join(unit), format!("{}\n", self.tx).as_bytes())?;
        Ok(known)
    }

    /// Lets `unit` start again, durably. Repeatable.
    pub fn lift(&self, unit: &str) -> Result<()> {
        files::remove_durably(&marks(self.state).join(unit))
    }

    /// Removes what is left of the holds of this transaction. Returns whether systemd knew of them.
    pub fn clear(&self) -> Result<Known> {
        for (tx, mark) in all_marks(self.state) {
            if tx == self.tx {
                files::remove_durably(&mark)?;
            }
        }
        let mut known = Known::Already;
        for (tx, drop_in) in all_drop_ins(self.state, self.system) {
            if tx == self.tx {
                files::remove_durably(&drop_in)?;
                known = Known::NotYet;
                if let Some(dir) = drop_in.parent() {
                    // Refused while the administrator has something in it.
                    let _ = fs::remove_dir(dir);
                }
            }
        }
        Ok(known)
    }

    fn text(&self, unit: &str) -> String {
        let quoted = self.state.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        format!(
            "# txupgrade holds {unit} back while its transaction {tx} has it stopped; `txupgrade status` says more.\n\
             # This file goes when that transaction ends.\n\
             [Unit]\n\
             After={FILES_UNIT}\n\
             RequiresMountsFor=\"{quoted}\"\n\
             {condition}\n",
            tx = self.tx,
            condition = self.condition(unit),
        )
    }

    fn condition(&self, unit: &str) -> String {
        let mark = marks(self.state).join(unit).display().to_string();
        format!("ConditionPathExists=!{}", mark.replace('%', "%%"))
    }
}

/// The transactions of this state directory that hold something, or have left a drop-in.
pub fn holders(state: &Path) -> Vec<String> {
    let held = all_marks(state).into_iter().chain(all_drop_ins(state, Path::new(SYSTEM)));
    let mut holders: Vec<String> = held.map(|(tx, _)| tx).collect();
    holders.sort();
    holders.dedup();
    holders
}

/// The units that `tx` holds back.
pub fn held(state: &Path, tx: &str) -> Vec<String> {
    let mine = all_marks(state).into_iter().filter(|(holder, _)| holder == tx);
    mine.filter_map(|(_, mark)| Some(mark.file_name()?.to_str()?.to_owned())).collect()
}

/// What of the holds is below `root`, and not for anybody to capture: drop-ins, with their directory where it has
/// nothing else.
pub fn below(state: &Path, root: &Path) -> Vec<PathBuf> {
    let system = Path::new(SYSTEM);
    if !system.starts_with(root) && !root.starts_with(system) {
        return Vec::new();
    }
    let ours = all_drop_ins(state, system).into_iter().map(|(_, drop_in)| drop_in);
    let whole = |drop_in: PathBuf| match drop_in.parent() {
        Some(dir) if fs::read_dir(dir).is_ok_and(|entries| entries.count() == 1) => dir.to_path_buf(),
        _ => drop_in,
    };
    ours.map(whole).filter(|path| path.starts_with(root) && path != root).collect()
}

fn marks(state: &Path) -> PathBuf {
    state.join("held")
}

/// Each mark with its transaction, sorted.
fn all_marks(state: &Path) -> Vec<(String, PathBuf)> {
    let read = |path: PathBuf| Some((fs::read_to_string(&path).ok()?.trim().to_owned(), path));
    let mut found: Vec<_> = entries(&marks(state)).into_iter().filter_map(read).collect();
    found.sort();
    found
}

/// Each drop-in of this state directory with its transaction, sorted.
fn all_drop_ins(state: &Path, system: &Path) -> Vec<(String, PathBuf)> {
    let ours = Hold { state, tx: "", system }.condition("");
    let of = |path: PathBuf| {
        let tx = path.file_name()?.to_str()?.strip_prefix("txupgrade-")?.strip_suffix(".conf")?.to_owned();
        fs::read_to_string(&path).ok()?.contains(&ours).then_some((tx, path))
    };
    let dirs = entries(system).into_iter().filter(|dir| dir.extension().is_some_and(|extension| extension == "d"));
    let mut found: Vec<_> = dirs.flat_map(|dir| entries(&dir)).filter_map(of).collect();
    found.sort();
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        _root: tempfile::TempDir,
        state: PathBuf,
        system: PathBuf,
    }

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir().unwrap();
            let (state, system) = (root.path().join("state dir"), root.path().join("system"));
            fs::create_dir(&state).unwrap();
            fs::create_dir(&system).unwrap();
            Machine { _root: root, state, system }
        }

        fn hold<'a>(&'a self, tx: &'a str) -> Hold<'a> {
            Hold { state: &self.state, tx, system: &self.system }
        }
    }

    #[test]
    fn a_hold_is_a_drop_in_and_a_mark_and_lifting_takes_the_mark() {
        let machine = Machine::new();
        let hold = machine.hold("shop-1");
        assert_eq!(hold.put("shop.service").unwrap(), Known::NotYet);
        assert_eq!(hold.put("shop.service").unwrap(), Known::Already, "again: systemd has read it");
        let drop_in = machine.system.join("shop.service.d/txupgrade-shop-1.conf");
        let text = fs::read_to_string(&drop_in).unwrap().replace(&machine.state.display().to_string(), "STATE");
        insta::assert_snapshot!(text, @r#"
        # txupgrade holds shop.service back while its transaction shop-1 has it stopped; `txupgrade status` says more.
        # This file goes when that transaction ends.
        [Unit]
        After=txupgrade-recover-files.service
        RequiresMountsFor="STATE"
        ConditionPathExists=!STATE/held/shop.service
        "#);
        assert_eq!(drop_in.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(held(&machine.state, "shop-1"), ["shop.service"]);
        assert!(held(&machine.state, "shop-2").is_empty());
        hold.lift("shop.service").unwrap();
        hold.lift("shop.service").unwrap();
        assert!(held(&machine.state, "shop-1").is_empty() && drop_in.exists());
        assert_eq!(hold.clear().unwrap(), Known::NotYet);
        assert_eq!(hold.clear().unwrap(), Known::Already);
        assert!(!machine.system.join("shop.service.d").exists());
    }

    #[test]
    fn only_what_is_of_this_transaction_and_this_state_directory_is_removed() {
        let machine = Machine::new();
        machine.hold("shop-1").put("shop.service").unwrap();
        machine.hold("shop-2").put("web.service").unwrap();
        let own = machine.system.join("shop.service.d/override.conf");
        fs::write(&own, "[Service]\n").unwrap();
        machine.hold("shop-1").clear().unwrap();
        assert!(own.exists(), "the administrator's stays, with its directory");
        assert_eq!(held(&machine.state, "shop-2"), ["web.service"]);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Hold { state: elsewhere.path(), tx: "shop-2", system: &machine.system };
        assert_eq!(other.clear().unwrap(), Known::Already);
        let error = other.put("web.service").unwrap_err();
        let shown = error.to_string().replace(&machine.system.display().to_string(), "SYSTEM");
        assert_eq!(
            shown,
            "cannot hold `web.service` back: `SYSTEM/web.service.d/txupgrade-shop-2.conf` is of a `shop-2` with another \
             state directory"
        );
    }
}
