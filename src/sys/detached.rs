//! A process of our own that outlives us.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::error::{OrSay, Result};

/// Starts this program again with other arguments, in a session of its own and with nothing of ours open.
pub fn start_self(arguments: &[OsString]) -> Result<()> {
    let program = std::env::current_exe().or_say(|| "cannot find this program's own file")?;
    let mut command = Command::new(&program);
    command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: `setsid` is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    command.spawn().map(drop).or_say(|| format!("cannot start `{}`", program.display()))
}
