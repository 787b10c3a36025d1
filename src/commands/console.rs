//! The terminal: diagnostics and progress lines that do not overwrite each other, and the commands'
//! output.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::anyhow;
use env_logger::WriteStyle;
use indicatif::{MultiProgress, ProgressDrawTarget};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;

use super::journal::Journal;
use spotd::about;
use spotd::shown::{Shown as _, name, plain_lines, redact};

/// Progress lines of the process; hidden if standard error is not a terminal, or one that cannot
/// redraw lines.
pub(super) fn progress() -> &'static MultiProgress {
    static PROGRESS: OnceLock<MultiProgress> = OnceLock::new();
    PROGRESS.get_or_init(|| {
        let target = if io::stderr().is_terminal() && !is_dumb() {
            ProgressDrawTarget::stderr_with_hz(5)
        } else {
            ProgressDrawTarget::hidden()
        };
        MultiProgress::with_draw_target(target)
    })
}

/// Whether the terminal declares that it supports no control sequences.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether standard error gets colours: `NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE` and `TERM` decide,
/// and whether it is a terminal.
pub(super) fn colours() -> bool {
    let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|on| on != "0");
    // The library assumes that a dumb terminal shows colours in continuous integration.
    (forced || !is_dumb()) && anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// Standard error, with progress lines suspended while a log line is written.
struct BesideProgress;

impl Write for BesideProgress {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        progress().suspend(|| io::stderr().write_all(buf))?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Sends `log` to standard error: warnings, and what `spotd` itself does; more with `verbose`.
pub(super) fn init_log(verbose: u8) {
    let filter = match verbose {
        // Each refusal that the MQTT library logs, we log once in our own words.
        0 => "warn,rumqttc=off,spotd=info",
        1 => "info,spotd=debug",
        _ => "debug,spotd=trace",
    };
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter));
    // At its lower levels the HTTP library logs everything that it sends, including webhooks' URLs.
    builder.filter_module("ureq", log::LevelFilter::Warn);
    builder.target(env_logger::Target::Pipe(Box::new(BesideProgress)));
    if std::env::var_os("RUST_LOG_STYLE").is_none() {
        let style = if colours() { WriteStyle::Always } else { WriteStyle::Never };
        builder.write_style(style);
    }
    if let Some(journal) = journal() {
        let filter = builder.build();
        log::set_max_level(filter.filter());
        let _ = log::set_boxed_logger(Box::new(IntoJournal { journal, filter }));
        return;
    }
    builder.format(|out, record| {
        let (level, style) = (record.level(), out.default_level_style(record.level()));
        // It may contain file names and servers' responses.
        let text = plain_lines(&record.args().to_string()).replace('\n', "\n    ");
        writeln!(out, "[{} {style}{level:<5}{style:#}] {text}", out.timestamp_seconds())
    });
    // A second call (tests in one process) keeps the first logger.
    let _ = builder.try_init();
}

/// The journal, where standard error goes to it.
fn journal() -> Option<&'static Journal> {
    static JOURNAL: OnceLock<Option<Journal>> = OnceLock::new();
    JOURNAL.get_or_init(Journal::of_stderr).as_ref()
}

/// Sends to the journal what the filter lets pass; time stamps and levels are the journal's.
struct IntoJournal {
    journal: &'static Journal,
    filter: env_logger::Logger,
}

impl log::Log for IntoJournal {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let text = plain_lines(&record.args().to_string());
        if let Err(error) = self.journal.write(record.level(), record.target(), &text, &about::now()) {
            let _ = writeln!(io::stderr(), "{text} [not in the journal's own form: {error}]");
        }
    }

    fn flush(&self) {}
}

/// Prints on standard error why the command ends.
pub(super) fn complain(error: &str) {
    let text = plain_lines(&without_arguments(error));
    let written =
        journal().is_some_and(|j| j.write(log::Level::Error, "spotd", &text, &about::now()).is_ok());
    if !written {
        // If this fails, there is nobody left to tell.
        let _ = writeln!(io::stderr(), "spotd: {text}");
    }
}

/// A message without the secrets in arguments that it quotes.
pub(super) fn without_arguments(message: &str) -> String {
    std::env::args_os().skip(1).fold(message.to_owned(), |message, argument| {
        let text = argument.to_string_lossy();
        // `--source=ADDRESS` is quoted in parts.
        let parts = [text.as_ref(), text.split_once('=').map_or("", |(_, value)| value)];
        parts.into_iter().fold(message, |message, part| {
            let shown = part.shown();
            if shown == name(OsStr::new(part)) { message } else { message.replace(part, &shown) }
        })
    })
}

/// Prints clap's message about the arguments, without the secrets in them.
pub(super) fn complain_of_arguments(error: &clap::Error) {
    let whole = error.render().to_string();
    let shown = redact(&without_arguments(&whole));
    let _ = if shown == whole { error.print() } else { write!(io::stderr(), "{}", plain_lines(&shown)) };
}

/// Prints a line for people, with progress lines suspended and control characters escaped.
///
/// # Errors
/// Standard output cannot be written. If its reader has gone, the process ends.
pub(super) fn print_line(line: &str) -> anyhow::Result<()> {
    print(&plain_lines(line))
}

/// As [`print_line`], for several lines.
///
/// # Errors
/// As for [`print_line`].
pub(super) fn print_lines(lines: &[String]) -> anyhow::Result<()> {
    lines.iter().try_for_each(|line| print_line(line))
}

/// Prints an object for programs on its own line, byte for byte.
///
/// # Errors
/// As for [`print_line`].
pub(super) fn print_json(object: &str) -> anyhow::Result<()> {
    print(object)
}

fn print(line: &str) -> anyhow::Result<()> {
    printed(progress().suspend(|| {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }))
}

/// Turns the result of printing into an error with a message.
///
/// # Errors
/// As for [`print_line`].
pub(super) fn printed(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => end_quietly(),
        result => result.map_err(|error| anyhow!("standard output cannot be written: {error}")),
    }
}

/// Ends the process as soon as the reader of its standard output has gone (`| head -1`), even if
/// nothing is printed for a long time. Only pipes and sockets have readers.
pub(super) fn watch_reader() {
    let kind = rustix::fs::fstat(io::stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
        return;
    }
    // Without this thread it is noticed when the next line is printed.
    let _ = std::thread::Builder::new().name("reader".into()).spawn(|| {
        let out = io::stdout();
        // A closed other end is reported without being requested.
        let mut watched = [PollFd::new(&out, PollFlags::empty())];
        loop {
            match poll(&mut watched, None) {
                Ok(_) if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => end_quietly(),
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
    });
}

/// Held while files are being written, which the end of the process waits for.
static FILES: Mutex<()> = Mutex::new(());

/// While this is held, a reader that goes away does not end the process. Nothing may be printed
/// meanwhile.
pub(super) fn whole_files() -> MutexGuard<'static, ()> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process by SIGPIPE, as other programs do whose reader has gone: no exit code may be
/// mistaken for a result.
fn end_quietly() -> ! {
    let _files = whole_files();
    let _ = progress().clear();
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
    std::process::exit(128 + signal_hook::consts::SIGPIPE)
}
