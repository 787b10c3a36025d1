//! The `spotd` program: the command line over the library of the same name.

use std::process::ExitCode;

mod commands;

fn main() -> ExitCode {
    #[cfg(feature = "v4l")]
    spotd::source::v4l::have_v4l2src_drain();
    commands::main()
}
