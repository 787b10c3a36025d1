//! The command line: one module per subcommand.

mod bench;
mod calibrate;
mod chart;
mod check;
mod completions;
mod console;
mod eval;
mod input;
mod journal;
mod log;
#[cfg(test)]
mod man;
mod manual;
mod output;
mod quantize;
mod run;
mod scan;
mod sources;
mod spectrum;
mod verify;
mod video;

use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use manual::Manual;
use spotd::shown::chain;

/// Exit code when all is well.
pub const EXIT_FINE: u8 = 0;
/// Exit code when something was flagged (`scan`) or is not as it should be (`check`, `verify`,
/// `eval`).
pub const EXIT_FLAGGED: u8 = 1;
/// Exit code when the command could not do its work.
pub const EXIT_ERROR: u8 = 2;

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd run --demo", "Watch the demonstration"),
        ("spotd scan photo.jpg", "Judge a picture"),
        ("spotd check --config spotd.toml", "Say what of a configuration would not work"),
    ],
    exit_status: &[
        ("0", "Done, and nothing flagged"),
        ("1", "Something was flagged, left out or not as it should be; the command's own page says what"),
        ("2", "The command line is wrong, the work could not be done, or the answer could not be written"),
        ("141", "The reader of the answer went away (SIGPIPE); run goes on"),
    ],
    files: &[
        ("/etc/spotd/spotd.toml", "Configuration of the systemd unit; see docs/CONFIG.md"),
        ("/var/lib/spotd/flags/", "Flag log, unless [log] dir names another folder; see docs/FLAGLOG.md"),
    ],
    environment: &[
        ("SPOTD__TABLE__KEY", "Sets a key of the configuration, for commands that read one"),
        (
            "RUST_LOG",
            "What is logged on standard error, instead of what -v says: warn, debug or spotd::source=trace",
        ),
        (
            "NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM",
            "Whether standard error is coloured; a dumb terminal gets no progress lines",
        ),
        ("RUST_LOG_STYLE", "The same for log lines alone: always, never, auto"),
        (
            "SPOTD_KERNELS_ISA",
            "Instruction set for int8 instead of the fastest that the processor has, for comparison",
        ),
        (
            "SSL_CERT_FILE, SSL_CERT_DIR",
            "Authorities to trust instead of the system's, where no ca_file is configured",
        ),
    ],
};

/// Watches live video and says, with evidence, when a feed looks CNN-generated.
#[derive(Debug, Parser)]
#[command(name = "spotd", version, about, propagate_version = true, arg_required_else_help = true)]
#[command(after_long_help = MANUAL.text())]
pub struct Cli {
    /// Say more (-v: debug, -vv: trace); RUST_LOG overrides this.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch sources until stopped; keep flagged frames in the log, and publish them.
    Run(run::RunArgs),
    /// Judge images, folders and videos; exit code 0: none flagged, 1: some flagged, 2: error.
    Scan(scan::ScanArgs),
    /// Say whether configuration, model, each source, log folder, broker and webhooks would work.
    Check(check::CheckArgs),
    /// List, filter and follow the flag log, or export an event with everything needed to check it.
    Log(log::LogArgs),
    /// Check a flag log or an export: chain, evidence, signatures; exit code 0: intact, 1: not.
    Verify(verify::VerifyCommand),
    /// Measure how well a detector ranks labelled pictures: AP, AUC, accuracy, calibration,
    /// robustness.
    Eval(eval::EvalArgs),
    /// Draw the mean log spectra of high-pass filtered pictures, real beside generated, set by set.
    Spectrum(spectrum::SpectrumArgs),
    /// Find threshold and temperature for one site from its own footage, for a stated rate of false
    /// alarms.
    Calibrate(calibrate::CalibrateArgs),
    /// Make an int8 model from a float32 one, calibrated on pictures, a video or a camera, and say
    /// what that costs.
    Quantize(quantize::QuantizeArgs),
    /// Measure what this machine can do with a detector: ms per tile, each operator, or how many
    /// cameras it carries.
    Bench(bench::BenchArgs),
    /// List the cameras of this machine: lasting names, formats, sizes, rates.
    Sources(sources::SourcesArgs),
    /// Print what a shell (bash, zsh, fish and others) needs to complete command lines.
    Completions(completions::CompletionsArgs),
}

/// A number from 0 to 1 on the command line.
fn unit_interval(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|v| (0.0..=1.0).contains(v)).ok_or_else(|| "must be a number from 0 to 1".into())
}

/// Frames a second on the command line.
fn frame_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|v| (0.01..=120.0).contains(v))
        .ok_or_else(|| "must be a number from 0.01 to 120".into())
}

/// A progress bar for `total` items.
fn progress_bar(total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} {eta} left {msg}")
        .expect("a constant template");
    console::progress().add(ProgressBar::new(total as u64).with_style(style))
}

/// The command line's description, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line, runs the command and gives its exit code.
pub fn main() -> ExitCode {
    let colour = if console::colours() { ColorChoice::Auto } else { ColorChoice::Never };
    let parsed = command().color(colour).try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        // Help, or the version.
        Err(text) if !text.use_stderr() => return code(console::printed(text.print()).map(|()| EXIT_FINE)),
        Err(wrong) => {
            console::complain_of_arguments(&wrong);
            return ExitCode::from(EXIT_ERROR);
        }
    };
    console::init_log(cli.verbose);
    // The daemon prints nothing, so it does not depend on a reader.
    if !matches!(cli.command, Command::Run(_)) {
        console::watch_reader();
    }
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Scan(args) => scan::scan(args),
        Command::Check(args) => check::check(args),
        Command::Log(args) => log::log(args),
        Command::Verify(args) => verify::verify(args),
        Command::Eval(args) => eval::eval(args),
        Command::Spectrum(args) => spectrum::spectrum(args),
        Command::Calibrate(args) => calibrate::calibrate(args),
        Command::Quantize(args) => quantize::quantize(args),
        Command::Bench(args) => bench::bench(args),
        Command::Sources(args) => sources::sources(args),
        Command::Completions(args) => completions::completions(&args),
    };
    code(result)
}

fn code(result: anyhow::Result<u8>) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|error| {
        console::complain(&chain(error.as_ref()));
        EXIT_ERROR
    }))
}
