//! Parse, hand over, exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    txupgrade::cli::main()
}
