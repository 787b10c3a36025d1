//! `spotd log`: shows the flag log, to people and programs.

mod filter;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use ulid::Ulid;

use self::filter::Filter;
use super::manual::{DONE_OR_FAILED, KEYS, Manual};
use super::{EXIT_FINE, console};
use spotd::clock::{Clock, SystemClock};
use spotd::config;
use spotd::flaglog::OsFs;
use spotd::flaglog::export::export;
use spotd::flaglog::fs::Fs;
use spotd::flaglog::{Entry, Item, ReadError, Reader, Record, Review, segment};
use spotd::shown::Shown as _;
use spotd::shown::plain;
use spotd::verdict::Verdict;

/// How often a followed log is checked.
const LOOK_EVERY: Duration = Duration::from_millis(300);

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd log flags", "List what was flagged"),
        (
            "spotd log --config spotd.toml --since 2h --source door",
            "List what one source gave in the last two hours",
        ),
        ("spotd log flags --follow --json", "Print each record as it is written, as it stands in the log"),
        ("spotd log flags export 01KAT5V3JFQ8Z6W2C4N9X7D1RB", "Copy an event into a folder of its own"),
    ],
    exit_status: DONE_OR_FAILED,
    files: &[],
    environment: KEYS,
};

const EXPORT_MANUAL: Manual = Manual {
    examples: &[
        (
            "spotd log flags export 01KAT5V3JFQ8Z6W2C4N9X7D1RB",
            "Copy an event into event-01KAT5V3JFQ8Z6W2C4N9X7D1RB/",
        ),
        ("spotd log flags export 01KAT5V3JFQ8Z6W2C4N9X7D1RB --to case.zip", "Copy it into one file"),
    ],
    exit_status: DONE_OR_FAILED,
    files: &[],
    environment: &[],
};

/// Arguments of `spotd log`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = false)]
pub struct LogArgs {
    /// Folder of the flag log ([log] dir), or of an export.
    #[arg(value_name = "DIR", required_unless_present = "config", conflicts_with = "config")]
    dir: Option<PathBuf>,

    /// Configuration file that names the folder.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Only records from this time on: 2026-11-24, 2026-11-24T09:00:00Z, or an age such as 90m, 2h,
    /// 3d.
    #[arg(long, value_name = "TIME", value_parser = filter::since)]
    since: Option<filter::Since>,

    /// Only records of this source.
    #[arg(long, value_name = "ID")]
    source: Option<String>,

    /// Only records with this verdict: clear, unsure or synthetic.
    #[arg(long, value_name = "VERDICT", value_parser = filter::verdict)]
    verdict: Option<Verdict>,

    /// Print the records exactly as they are in the log, one JSON object per line.
    #[arg(long)]
    json: bool,

    /// Go on with what is written from now on, until stopped.
    #[arg(short, long)]
    follow: bool,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Copy an event into a new folder or ZIP file that `spotd verify` can check elsewhere.
    #[command(after_long_help = EXPORT_MANUAL.text())]
    Export {
        /// Id of the event, or of one of its records.
        #[arg(value_name = "EVENT")]
        event: Ulid,

        /// The new folder, by default event-EVENT; or, if it ends in .zip, one file with that
        /// folder in it.
        #[arg(short, long, value_name = "FOLDER|FILE.zip")]
        to: Option<PathBuf>,
    },
}

/// Lists, follows or exports.
///
/// # Errors
/// The folder is not a flag log or cannot be read; the event does not exist or the target is in
/// use.
pub fn log(args: LogArgs) -> anyhow::Result<u8> {
    let dir = match (&args.dir, &args.config) {
        (Some(dir), _) => dir.clone(),
        (None, Some(file)) => config::load(file)?.log.dir,
        (None, None) => anyhow::bail!("give the folder of the flag log, or --config FILE"),
    };
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let clock = SystemClock::new();
    if let Some(Action::Export { event, to }) = args.action {
        let to = to.unwrap_or_else(|| PathBuf::from(format!("event-{event}")));
        let now = Timestamp::try_from(clock.wall())?;
        let done = {
            let _whole = console::whole_files();
            export(&fs, &dir, event, &to, now)?
        };
        if args.json {
            console::print_json(&serde_json::to_string(&done)?)?;
        } else {
            let removed = match done.removed {
                0 => String::new(),
                n => format!(" ({n} more had made room before)"),
            };
            let signed = if done.signed { "signed" } else { "no signature behind it" };
            let unpack = if done.path == done.folder { "" } else { "unpack it and " };
            console::print_line(&format!(
                "{}: event {}, {} records, {} evidence files{removed}, {signed}; {unpack}check with: spotd verify {}",
                done.path.shown(),
                done.event,
                done.records,
                done.files,
                done.folder.shown()
            ))?;
        }
        return Ok(EXIT_FINE);
    }
    let found = segment::list(&*fs, &dir).map_err(|e| anyhow::anyhow!("{}: {e}", dir.shown()))?;
    anyhow::ensure!(
        !found.is_empty() || args.follow || dir.join("lock").exists(),
        "{}: no flag log is here (no flags-*.jsonl); give the folder that [log] dir names",
        dir.shown()
    );
    let filter = Filter {
        since: args.since.map(|s| s.at(clock.wall())).transpose()?,
        source: args.source,
        verdict: args.verdict,
    };
    // By the folder's descriptor, so that a log is read to its end even if it is taken away
    // meanwhile.
    let mut held = fs.hold(&dir).map_err(|e| anyhow::anyhow!("{}: {e}", dir.shown()))?;
    let mut reader = Reader::from_start(held.clone(), &dir);
    loop {
        let next = reader.next();
        // A folder that was removed can no longer be read, but another one may come.
        let gone = matches!(&next, Err(ReadError::Io { error, .. }) if error.kind() == ErrorKind::NotFound);
        if args.follow && (gone || matches!(next, Ok(None))) {
            if let Some(other) = taken_over(&*fs, &*held, &dir) {
                log::warn!("{}: another log has taken its place, going on with that one", dir.shown());
                held = other;
                reader = Reader::from_start(held.clone(), &dir);
            } else {
                let _ = clock.after(LOOK_EVERY).recv();
            }
            continue;
        }
        match next {
            Ok(Some(item)) if filter.wants(&item.entry) && args.json => console::print_json(&item.line)?,
            Ok(Some(item)) if filter.wants(&item.entry) => console::print_line(&line(&item))?,
            Ok(Some(_)) => {}
            Ok(None) => return Ok(EXIT_FINE),
            Err(error @ ReadError::Io { .. }) => return Err(error.into()),
            Err(error) => {
                log::warn!("{}: {}; see `spotd verify`", dir.shown(), plain(&error.to_string()))
            }
        }
    }
}

/// The folder that a path leads to now, if it differs from `held`.
fn taken_over(fs: &dyn Fs, held: &dyn Fs, dir: &Path) -> Option<Arc<dyn Fs>> {
    let now = fs.identity(dir).ok()?;
    (held.identity(dir).ok()? != now).then(|| fs.hold(dir).ok()).flatten()
}

fn line(item: &Item) -> String {
    match &item.entry {
        Entry::Event(record) => plain(&event_line(record)),
        Entry::Note(note) => plain(&format!("{:.3}  note: {}", note.written, note.text)),
        Entry::Review(review) => plain(&review_line(review)),
    }
}

fn review_line(review: &Review) -> String {
    let comment =
        review.comment.as_deref().map_or_else(String::new, |c| format!(": {}", c.replace('\n', " ")));
    format!(
        "{:.3}  {}  review  {}  by {}{comment}  event {}",
        review.written,
        review.source,
        review.review.as_str(),
        review.by,
        review.event
    )
}

fn event_line(record: &Record) -> String {
    let score = |s: Option<f64>| s.map_or_else(|| "-".to_owned(), |s| format!("{s:.2}"));
    let pictures = match (&record.evidence, &record.evidence_error) {
        (Some(files), _) => format!(", {} pictures", files.files().count()),
        (None, Some(_)) => ", pictures could not be kept".to_owned(),
        (None, None) => String::new(),
    };
    let reason = record.reason.as_deref().map_or_else(String::new, |r| format!(" ({r})"));
    format!(
        "{:.3}  {}  {:6}  {:9}  score {} median {} peak {}{pictures}  event {}{reason}",
        record.captured,
        record.source,
        record.kind.as_str(),
        record.verdict,
        score(record.judgement.raw),
        score(record.judgement.smoothed),
        score(record.judgement.peak),
        record.event
    )
}
