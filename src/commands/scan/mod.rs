//! `spotd scan`: the detector over images, folders, videos and streams.

mod inputs;
mod report;
mod scanner;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use crossbeam_channel::bounded;

use super::{EXIT_ERROR, EXIT_FINE, EXIT_FLAGGED, progress_bar};
use crate::detector::Model;
use crate::identity::Wanted;
use crate::threads;
use crate::verdict::{Verdict, VerdictConfig};
use inputs::Item;
use report::{Report, Row};
use scanner::Scanner;

/// Arguments of `spotd scan`.
#[derive(Debug, Args)]
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

    /// Tiles judged in a picture at most; those with the most detail are taken.
    #[arg(long, value_name = "N", default_value = "64")]
    max_tiles: NonZeroUsize,

    /// Frames a second judged in a video.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = super::frame_rate)]
    fps: f64,

    /// Seconds of a live stream or camera to watch; what has an end is read to it.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// Inputs judged side by side; one a core unless told otherwise.
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Print one JSON object a line: path, score (0..1, 1 = synthetic), verdict, and more.
    #[arg(long)]
    json: bool,
}

/// Judges every input; 0: none flagged, 1: some flagged, 2: some input could not be judged, or not
/// to its end.
///
/// # Errors
/// The model is unusable.
pub fn scan(args: ScanArgs) -> anyhow::Result<u8> {
    let model = Model::open(args.model.as_deref(), args.precision)?;
    let verdict = VerdictConfig { threshold: args.threshold, ..VerdictConfig::default() };
    let scanner =
        Scanner::new(model, verdict, args.max_tiles.get(), args.fps, Duration::from_secs(args.seconds));
    let found = inputs::expand(&args.inputs);
    for line in found.left_out() {
        log::warn!("{line}");
    }
    let items = found.items;
    let jobs = threads::jobs(args.jobs);
    let mut report = Report::new(args.json, items.len());
    let bar = progress_bar(items.len());
    // Results are printed in the order of the inputs; early ones wait their turn.
    let (work_tx, work) = bounded::<(usize, &Item)>(jobs);
    let (done_tx, done) = bounded::<(usize, Row)>(jobs);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        for i in 0..jobs.min(items.len()) {
            let (work, done, scanner) = (work.clone(), done_tx.clone(), &scanner);
            std::thread::Builder::new()
                .name(format!("scan-{i}"))
                .spawn_scoped(scope, move || {
                    for (index, input) in work {
                        if done.send((index, scanner.scan(input))).is_err() {
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
        for (index, row) in done {
            bar.inc(1);
            early.insert(index, row);
            while let Some(row) = early.remove(&next) {
                report.add(row).inspect_err(|_| scanner.stop())?;
                next += 1;
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    report.finish()?;
    Ok(if report.failed + report.truncated > 0 {
        EXIT_ERROR
    } else if report.count(Verdict::Synthetic) > 0 {
        EXIT_FLAGGED
    } else {
        EXIT_FINE
    })
}
