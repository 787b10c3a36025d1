//! `spotd scan`: the detector over images, folders, videos and streams.

mod html;
mod inputs;
mod journal;
mod picture;
mod report;
mod scanner;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use crossbeam_channel::bounded;
use sha2::{Digest as _, Sha256};

use super::manual::Manual;
use super::{EXIT_ERROR, EXIT_FINE, EXIT_FLAGGED, progress_bar};
use inputs::Item;
use journal::{Entry, Journal, Key};
use report::{Report, Row};
use scanner::Scanner;
use spotd::clock::SystemClock;
use spotd::detector::Model;
use spotd::detector::card::Card;
use spotd::identity::Wanted;
use spotd::threads;
use spotd::verdict::{Limits, Verdict, VerdictConfig};

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd scan photo.jpg folder/ clip.mp4", "Judge a picture, all that a folder holds, and a clip"),
        (
            "spotd scan --json folder/ | jq -r 'select(.verdict == \"synthetic\") | .path'",
            "Print the names of what is flagged",
        ),
        ("curl -s https://example.org/photo | spotd scan -", "Judge what comes on standard input"),
        ("spotd scan --seconds 60 rtsp://camera.lan/stream", "Watch a stream for a minute"),
        ("spotd scan folder/ --report report.html", "Write one HTML file to hand on"),
    ],
    exit_status: &[
        ("0", "Nothing was flagged"),
        ("1", "Something was flagged"),
        ("2", "Something could not be judged, or not to its end, or the answer could not be written"),
    ],
    files: &[(
        "FILE.journal",
        "What --report has found so far; read by --resume, removed at the end of the scan",
    )],
    environment: &[],
};

/// Arguments of `spotd scan`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct ScanArgs {
    /// Images, folders (searched through), videos, - for standard input, addresses such as
    /// rtsp://..., cameras such as /dev/video0, or GStreamer pipelines, written pipeline:TEXT. What
    /// exists as a file is a file, whatever its name.
    #[arg(required = true, value_name = "PATH|URI")]
    inputs: Vec<OsString>,

    /// Model (ONNX, its card beside it) instead of the built-in one.
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Precision to run the model in: auto (int8 where the model is quantised), f32 or int8.
    #[arg(long, value_name = "PRECISION", default_value = "auto")]
    precision: Wanted,

    /// Score (0..1) from which an input is synthetic, instead of the card's.
    #[arg(long, value_name = "SCORE", value_parser = super::unit_interval)]
    threshold: Option<f64>,

    /// Judge at most so many tiles of a picture, those with the most detail.
    #[arg(long, value_name = "N", default_value = "64")]
    max_tiles: NonZeroUsize,

    /// Frames per second to judge in a video.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = super::frame_rate)]
    fps: f64,

    /// Seconds to watch a live stream or camera; what has an end is read to its end.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// Inputs judged side by side; by default one per core.
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Print one JSON object per line: path, score (0..1, 1 = synthetic), verdict, and more.
    #[arg(long)]
    json: bool,

    /// Write a report to hand on: one HTML file with a summary, thumbnails sorted by score, a
    /// timeline for each video, settings, model card and the SHA-256 of every file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Go on with a scan that was interrupted: what FILE.journal has already found is not judged
    /// again, unless the file, the model or a setting has changed.
    #[arg(long, requires = "report")]
    resume: bool,
}

impl ScanArgs {
    /// Name and value of what a result depends on.
    fn settings(&self, limits: Limits, runs: &str) -> Vec<(&'static str, String)> {
        vec![
            ("runs", runs.to_owned()),
            ("synthetic from", format!("{}", limits.threshold)),
            ("unsure from", format!("{}", limits.unsure_from)),
            ("tiles at most", self.max_tiles.to_string()),
            ("frames a second", self.fps.to_string()),
            ("seconds of a live source", self.seconds.to_string()),
        ]
    }
}

/// What `--report` needs beside the rows.
struct Reported {
    journal: Journal,
    settings: Vec<(&'static str, String)>,
    /// All of it in one text, with the model: what was found with another is not taken over.
    key: String,
    card: Card,
    limits: Limits,
}

impl Reported {
    fn key(&self, item: &Item) -> Key {
        let path = match item {
            Item::Picture(input, _) | Item::Video(input) => input.exact().0,
            Item::Unusable(bad) => bad.shown.clone(),
        };
        Key::new(path, item.file(), &self.key)
    }

    fn add(&mut self, key: Key, sha256: Option<&str>, row: &Row) -> anyhow::Result<()> {
        let none = picture::Picture::default();
        let html = html::fragment(row, row.picture.as_deref().unwrap_or(&none), sha256, self.limits);
        self.journal.add(&Entry {
            key,
            score: row.score,
            verdict: row.verdict,
            failed: row.error.is_some(),
            truncated: row.truncated.is_some(),
            json: report::json(row),
            table: report::table_line(row),
            html,
        })
    }

    fn finish(mut self, path: &Path) -> anyhow::Result<()> {
        let made = spotd::health::rfc3339_text(SystemClock::shared().wall());
        let head = html::Head { card: &self.card, limits: self.limits, settings: &self.settings, made };
        html::write(path, &head, &mut self.journal)?;
        self.journal.remove();
        Ok(())
    }
}

/// The SHA-256 of a file's content; none of what is no file or cannot be read.
fn sha256(path: Option<&Path>) -> Option<String> {
    let mut file = std::fs::File::open(path?).ok().filter(|f| f.metadata().is_ok_and(|m| m.is_file()))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).ok()?;
    Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a worker has made of an input.
enum Done {
    /// Judged now; with the file's SHA-256 where a report is wanted.
    New(Box<Row>, Option<String>),
    /// An earlier scan had it.
    Known,
}

/// Judges every input; 0: none flagged, 1: some flagged, 2: some input could not be judged, or not
/// to its end.
///
/// # Errors
/// The model is unusable.
pub fn scan(args: ScanArgs) -> anyhow::Result<u8> {
    let model = Model::open(args.model.as_deref(), args.precision)?;
    let verdict = VerdictConfig { threshold: args.threshold, ..VerdictConfig::default() };
    let (card, runs) = (model.card().clone(), model.engine().describe());
    let mut scanner =
        Scanner::new(model, verdict, args.max_tiles.get(), args.fps, Duration::from_secs(args.seconds));
    let mut reported = None;
    if let Some(path) = &args.report {
        scanner = scanner.with_pictures();
        let limits = scanner.limits();
        let settings = args.settings(limits, &runs);
        let key = format!("{} {settings:?}", card.sha256);
        let journal = Journal::open(path, args.resume)?;
        if journal.left() > 0 {
            log::info!("{} inputs were judged before the interruption", journal.left());
        }
        reported = Some(Reported { journal, settings, key, card, limits });
    }
    let found = inputs::expand(&args.inputs);
    for line in found.left_out() {
        log::warn!("{line}");
    }
    let items = found.items;
    let jobs = threads::jobs(args.jobs);
    let mut report = Report::new(args.json, items.len());
    let bar = progress_bar(items.len());
    let keys: Option<Vec<Key>> =
        reported.as_ref().map(|reported| items.iter().map(|item| reported.key(item)).collect());
    // What an earlier scan has judged, by its place among the inputs.
    let known: Vec<bool> = match (&reported, &keys) {
        (Some(reported), Some(keys)) => keys.iter().map(|key| reported.journal.has(key)).collect(),
        _ => vec![false; items.len()],
    };
    let (known, hashed) = (&known, args.report.is_some());
    // Results are printed in the order of the inputs; early ones wait their turn.
    let (work_tx, work) = bounded::<(usize, &Item)>(jobs);
    let (done_tx, done) = bounded::<(usize, Done)>(jobs);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        for i in 0..jobs.min(items.len()) {
            let (work, done, scanner) = (work.clone(), done_tx.clone(), &scanner);
            std::thread::Builder::new()
                .name(format!("scan-{i}"))
                .spawn_scoped(scope, move || {
                    for (index, input) in work {
                        let found = if known[index] {
                            Done::Known
                        } else {
                            let hash = if hashed { sha256(input.file()) } else { None };
                            Done::New(Box::new(scanner.scan(input)), hash)
                        };
                        if done.send((index, found)).is_err() {
                            return;
                        }
                    }
                })
                .context("scan thread")?;
        }
        drop((work, done_tx));
        scope.spawn({
            let items = &items;
            move || {
                for item in items.iter().enumerate() {
                    if work_tx.send(item).is_err() {
                        return;
                    }
                }
            }
        });
        let mut early = std::collections::BTreeMap::new();
        let mut next = 0;
        for (index, found) in done {
            bar.inc(1);
            let key = keys.as_ref().map(|keys| keys[index].clone());
            let line = keep(found, key, &mut reported).inspect_err(|_| scanner.stop())?;
            early.insert(index, line);
            while let Some(line) = early.remove(&next) {
                match &line {
                    Line::New(row) => report.add(row),
                    Line::Known(entry) => report.add_known(entry),
                }
                .inspect_err(|_| scanner.stop())?;
                next += 1;
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    report.finish()?;
    if let (Some(reported), Some(path)) = (reported, &args.report) {
        reported.finish(path)?;
    }
    Ok(if report.failed + report.truncated > 0 {
        EXIT_ERROR
    } else if report.count(Verdict::Synthetic) > 0 {
        EXIT_FLAGGED
    } else {
        EXIT_FINE
    })
}

/// Keeps what was found of an input for the report, whatever its turn, and makes it light: what
/// waits for its turn to be printed may be much.
fn keep(found: Done, key: Option<Key>, reported: &mut Option<Reported>) -> anyhow::Result<Line> {
    match (found, reported.as_mut().zip(key)) {
        (Done::New(mut row, hash), Some((reported, key))) => {
            reported.add(key, hash.as_deref(), &row)?;
            row.picture = None;
            Ok(Line::New(row))
        }
        (Done::New(row, _), None) => Ok(Line::New(row)),
        (Done::Known, Some((reported, key))) => {
            let mut entry = reported.journal.known(&key)?.context("the journal has lost an entry")?;
            reported.journal.add(&entry)?;
            entry.html.clear();
            Ok(Line::Known(Box::new(entry)))
        }
        (Done::Known, None) => unreachable!("without a journal nothing is known"),
    }
}

/// What is printed of an input.
enum Line {
    New(Box<Row>),
    Known(Box<Entry>),
}
