//! `spotd-verify`: does a flag log of spotd, or an export of it, still hold.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args as _, Command, FromArgMatches as _};
use spotd_core::shown::{chain, plain_lines};
use spotd_verify::{EXIT_ERROR, VerifyArgs};

/// What a shell says of a program that ended by SIGPIPE, as `spotd verify` does when nobody reads on.
const EXIT_NO_READER: u8 = 128 + 13;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let args = VerifyArgs::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let answer = match args.verify() {
        Ok(answer) => answer,
        Err(error) => return failed(&chain(&error)),
    };
    let mut text = answer.lines.join("\n");
    if !args.json() {
        text = plain_lines(&text);
    }
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(answer.exit_code()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(EXIT_NO_READER),
        Err(error) => failed(&format!("standard output cannot be written: {error}")),
    }
}

fn command() -> Command {
    VerifyArgs::augment_args(Command::new("spotd-verify"))
        .version(env!("CARGO_PKG_VERSION"))
        .arg_required_else_help(true)
        .about("Checks a flag log of spotd, or an export of it: chain, evidence, signatures")
        .after_help("Exit code 0: it holds, 1: something in it does not, 2: it could not be checked.")
}

fn failed(why: &str) -> ExitCode {
    // There is nobody left to tell where this fails.
    let _ = writeln!(io::stderr(), "spotd-verify: {}", plain_lines(why));
    ExitCode::from(EXIT_ERROR)
}
