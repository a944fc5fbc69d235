//! Processes of our own that outlive us.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{self, How, Log, Program};
use super::signal::Stop;
use crate::error::{Error, OrSay, Result};

/// Starts this program again with other arguments, in a session of its own and with nothing of ours open.
pub fn start_self(arguments: &[OsString]) -> Result<()> {
    let program = std::env::current_exe().or_say(|| "cannot find this program's own file")?;
    let mut command = Command::new(&program);
    command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: both are async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            // A lock or a pipe that a shell gave us (`9>lock`) would be held for as long. Not on old kernels.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    command.spawn().map(drop).or_say(|| format!("cannot start `{}`", program.display()))
}

/// The same after some time, by a timer of systemd called `unit`, which nobody who ends processes ends. An error where
/// there is none: systemd does not run, or we are not root, or there is such a timer already.
pub fn start_self_after(time: Duration, unit: &str, arguments: &[OsString]) -> Result<()> {
    if !Path::new("/run/systemd/system").is_dir() || !rustix::process::geteuid().is_root() {
        return Err(Error::new("there is no timer of systemd"));
    }
    let program = std::env::current_exe().or_say(|| "cannot find this program's own file")?;
    let systemd_run = Program {
        argv: words(time, unit, program.into(), arguments),
        env: BTreeMap::new(),
        dir: None,
        user: None,
        timeout: Duration::from_secs(10),
        stdin: Stdio::null(),
        stdout: None,
    };
    let (exit, said) = process::run(systemd_run, &Log::transient()?, &Stop::never(), &mut |_| {})?;
    match exit.how {
        How::Status(0) => Ok(()),
        _ => Err(Error::new(format!("cannot start the timer `{unit}`")).because(said.trim())),
    }
}

/// The command that makes the timer.
fn words(time: Duration, unit: &str, program: OsString, arguments: &[OsString]) -> Vec<OsString> {
    let mut words: Vec<OsString> = [
        "systemd-run",
        "--quiet",
        "--collect",
        &format!("--unit={unit}"),
        "--description=takes back an upgrade that was not confirmed",
        &format!("--on-active={}ms", time.as_millis()),
        "--timer-property=AccuracySec=100ms",
        // What it resumes goes on when it ends; killed in the middle, it goes on with it.
        "--property=KillMode=process",
        "--property=Restart=on-abnormal",
    ]
    .map(OsString::from)
    .to_vec();
    // Not more: who may read the unit may read these.
    if let Some(path) = std::env::var_os("PATH") {
        let mut set = OsString::from("--setenv=PATH=");
        set.push(path);
        words.push(set);
    }
    words.extend([OsString::from("--"), program]);
    words.extend_from_slice(arguments);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_starts_this_program_with_our_path_and_no_other_variable() {
        let arguments = ["--state-dir", "/a state", "keep-watch", "notes-3"].map(OsString::from);
        let words = words(Duration::from_millis(61_500), "txupgrade-keep-notes-3", "/bin/txupgrade".into(), &arguments);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        let path = format!("--setenv=PATH={}", std::env::var("PATH").unwrap());
        assert_eq!(words[0], "systemd-run");
        assert!(words.contains(&"--unit=txupgrade-keep-notes-3") && words.contains(&"--on-active=61500ms"));
        assert_eq!(words.iter().filter(|word| word.starts_with("--setenv")).collect::<Vec<_>>(), [&path.as_str()]);
        let at = words.iter().position(|word| *word == "--").unwrap();
        assert_eq!(words[at + 1..], ["/bin/txupgrade", "--state-dir", "/a state", "keep-watch", "notes-3"]);
    }
}
