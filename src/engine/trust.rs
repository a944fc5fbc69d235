//! Whose word counts: run by root, a plan and what it names must not be what others may write.

use std::path::Path;

use crate::error::{Fault, Result};
use crate::plan::{Command, Program, Scope};
use crate::sys::files::{only_owner_writes, only_trusted_write};
use crate::sys::process;

/// Run by root, whatever others may write must not decide what root does.
pub fn refuse_if_others_write(path: &Path) -> Result<()> {
    if rustix::process::geteuid().is_root() { only_owner_writes(path) } else { Ok(()) }
}

/// Refuses commands with words that are paths of existing regular files which others may write. What a command runs
/// as an account of its own may belong to that account: it decides nothing that the account could not do anyway.
pub(super) fn refuse_untrusted_commands(commands: &[Command], scope: &Scope) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    for command in commands {
        let Program::Run(words) = &command.program else { continue };
        let user = command.user.as_ref().and_then(|user| user.expand(scope).ok());
        let account = user.and_then(|user| process::uid_of(&user));
        for word in words {
            // A word with a variable that is known only later names nothing that is there now.
            let Ok(word) = word.expand(scope) else { continue };
            let path = Path::new(&word);
            if path.is_absolute() && path.is_file() {
                only_trusted_write(path, account).map_err(|error| {
                    error.within(format!("the command word `{word}` is not safe to run")).fault(Fault::Usage)
                })?;
            }
        }
    }
    Ok(())
}
