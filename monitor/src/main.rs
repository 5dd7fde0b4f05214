//! The `gpuwarden` binary: reads the command line, does what it says, and gives an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    monitor::cli::main()
}
