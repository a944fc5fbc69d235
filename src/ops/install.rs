//! `recover --install`: the two units that call `recover` at boot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Site;
use crate::engine;
use crate::error::{Error, OrSay, Result};
use crate::sys::hold::{FILES_UNIT, REST_UNIT, SYSTEM};
use crate::sys::{files, units};

/// The units as they are shipped, and what is filled in when they are installed.
const UNITS: [(&str, &str); 2] = [
    (FILES_UNIT, include_str!("units/txupgrade-recover-files.service")),
    (REST_UNIT, include_str!("units/txupgrade-recover.service")),
];

/// Writes the units for this state directory and this program, and enables them. Returns where they are.
pub fn install(site: &Site) -> Result<Vec<PathBuf>> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::new("only root can install units"));
    }
    let program = std::env::current_exe().or_say(|| "cannot find this program's own file")?;
    engine::refuse_if_others_write(&program)
        .map_err(|error| error.within(format!("`{}` is not safe to be run at boot", program.display())))?;
    let mut written = Vec::new();
    for (name, text) in UNITS {
        let path = Path::new(SYSTEM).join(name);
        files::write_durably(&path, filled_in(text, &program, &site.dir)?.as_bytes())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            .or_say(|| format!("cannot set the mode of `{}`", path.display()))?;
        written.push(path);
    }
    if units::is_here() {
        units::reload()?;
    }
    units::enable(&[FILES_UNIT, REST_UNIT])?;
    Ok(written)
}

/// The text with the paths in it, as systemd reads them: a condition takes the rest of its line as it is, other lines
/// are words.
fn filled_in(text: &str, program: &Path, state: &Path) -> Result<String> {
    let plain = |path: &Path| {
        let text = path.to_str().filter(|text| !text.contains(['\n', '\r', '"', '\\', '$', '@']));
        let text = text.or_say(|| format!("`{}` cannot be written into a unit", path.display()))?;
        Ok::<_, Error>(text.replace('%', "%%"))
    };
    let word = |path: &Path| {
        let text = plain(path)?;
        let harmless = text.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.%+:,".contains(c));
        Ok::<_, Error>(if harmless { text } else { format!("\"{text}\"") })
    };
    let text = text.replace("@PROGRAM@", &word(program)?).replace("@STATE@", &word(state)?);
    Ok(text.replace("@PLAIN@", &plain(state)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_and_the_state_directory_are_filled_in() {
        let lines = |program: &str, state: &str| {
            let text = filled_in(UNITS[0].1, Path::new(program), Path::new(state)).unwrap();
            assert!(!text.contains('@'), "{text}");
            let filled = |line: &&str| line.contains("Exec") || line.contains("Exists") || line.contains("Mounts");
            text.lines().filter(filled).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            lines("/usr/bin/txupgrade", "/var/lib/txupgrade"),
            "RequiresMountsFor=/var/lib/txupgrade\nConditionPathExists=/var/lib/txupgrade/journal.db\n\
             ExecStart=/usr/bin/txupgrade --state-dir /var/lib/txupgrade recover --boot"
        );
        assert_eq!(
            lines("/opt/my tools/txupgrade", "/srv/100% x"),
            "RequiresMountsFor=\"/srv/100%% x\"\nConditionPathExists=/srv/100%% x/journal.db\n\
             ExecStart=\"/opt/my tools/txupgrade\" --state-dir \"/srv/100%% x\" recover --boot"
        );
        let error = filled_in(UNITS[1].1, Path::new("/x"), Path::new("/a$b")).unwrap_err();
        assert_eq!(error.statement, "`/a$b` cannot be written into a unit");
    }
}
