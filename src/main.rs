//! The `spotd` program: parses, dispatches, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "v4l")]
    spotd::source::v4l::have_v4l2src_drain();
    spotd::commands::main()
}
