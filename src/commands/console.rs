//! The terminal: diagnostics and progress lines that do not write over each other.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressDrawTarget};

/// Progress lines of the process; hidden where standard error is no terminal.
pub(super) fn progress() -> &'static MultiProgress {
    static PROGRESS: OnceLock<MultiProgress> = OnceLock::new();
    PROGRESS.get_or_init(|| {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(5)
        } else {
            ProgressDrawTarget::hidden()
        };
        MultiProgress::with_draw_target(target)
    })
}

/// Standard error, with progress lines out of the way while a log line is written.
struct BesideProgress;

impl Write for BesideProgress {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        progress().suspend(|| std::io::stderr().write_all(buf))?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Sends `log` to standard error: warnings, and what `spotd` itself does; more with `verbose`.
pub(super) fn init_log(verbose: u8) {
    let filter = match verbose {
        0 => "warn,spotd=info",
        1 => "info,spotd=debug",
        _ => "debug,spotd=trace",
    };
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter));
    builder.target(env_logger::Target::Pipe(Box::new(BesideProgress)));
    builder.write_style(if std::io::stderr().is_terminal() {
        env_logger::WriteStyle::Always
    } else {
        env_logger::WriteStyle::Never
    });
    builder.format_target(false);
    // A second call (tests in one process) keeps the first logger.
    let _ = builder.try_init();
}

/// Prints a line to standard output, with progress lines out of the way. A reader that has gone away
/// (`| head`) is not an error.
pub(super) fn print_line(line: &str) {
    progress().suspend(|| {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    });
}

/// A text from a disk or a network, without what a terminal would take for a command.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| c.is_control().then(|| c.escape_default()).map_or_else(|| vec![c], |e| e.collect()))
        .collect()
}
