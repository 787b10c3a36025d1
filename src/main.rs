//! The `spotd` program: parses, dispatches, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    spotd::commands::main()
}
