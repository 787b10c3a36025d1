//! `spotd eval`: how well a detector ranks labelled pictures or clips, and with what confidence.

mod clips;
mod compare;
mod figures;
mod perturb;
mod plots;
mod report;
pub(super) mod scorer;
pub(super) mod sets;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::manual::Manual;
use super::{EXIT_FINE, EXIT_FLAGGED, console, output, progress_bar};
pub(super) use compare::{comparable, compare};
pub(super) use figures::Row;
pub(super) use perturb::Perturbations;
use spotd::forensics::published::{is_forensynths, published};
use spotd::identity::Wanted;
use spotd::shown::Shown as _;
use spotd::threads;

use figures::Measure;
use perturb::Perturbation;
use scorer::{Answers, Scorer, View};
use sets::Collection;

const MANUAL: Manual = Manual {
    examples: &[
        (
            "spotd eval SETS/ --perturb jpeg=90,70,50 --perturb h264=23,28,35 --plots plots/",
            "Rank pictures, also after compression",
        ),
        ("spotd eval CLIPS/ --seconds 1,3,10,30", "Judge video clips as run does"),
        (
            "spotd eval list.csv --model models/spotd-edge.onnx --precision f32 --json",
            "Measure another model on listed pictures",
        ),
    ],
    exit_status: LEFT_OUT,
    files: &[],
    environment: &[],
};

/// Of a command over many pictures.
pub(super) const LEFT_OUT: &[(&str, &str)] = &[
    ("0", "All of it was measured"),
    ("1", "A file or a set was left out, see standard error; the rest was measured"),
    ("2", "Nothing could be measured, or a file could not be written"),
];

/// Arguments of `spotd eval`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct EvalArgs {
    /// Folders of sets, <set>/[class/]{0_real,1_fake}, or one such set; or lists, *.csv or *.jsonl,
    /// of path,label[,set] with the labels real and fake. Sets of pictures, or sets of video clips.
    #[arg(required = true, value_name = "DIR|LIST")]
    inputs: Vec<PathBuf>,

    /// Model (ONNX, its card beside it) instead of the built-in one.
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Precision to run the model in: auto (int8 where the model is quantised), f32 or int8.
    #[arg(long, value_name = "PRECISION", default_value = "auto")]
    precision: Wanted,

    /// Which part of a picture is judged.
    #[arg(long, value_enum, default_value_t = View::Tiles)]
    view: View,

    /// Judge at most so many tiles of a picture, those with the most detail; by default 64, or 9 of
    /// a frame of a clip, as run does.
    #[arg(long, value_name = "N")]
    max_tiles: Option<NonZeroUsize>,

    /// Clips: frames per second to judge, as run does.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = super::frame_rate)]
    fps: f64,

    /// Clips: give figures after so many seconds; those of whole clips are always given too.
    #[arg(long, value_name = "SECONDS,...", value_delimiter = ',', default_value = "1,3,10,30", value_parser = seconds)]
    seconds: Vec<f64>,

    /// Also judge after this: jpeg=QUALITY,... blur=SIGMA,... resize=FACTOR,... h264=CRF,...
    /// h265=CRF,... May be given several times; each strength is a condition of its own.
    #[arg(long, value_name = "KIND=N,...")]
    perturb: Vec<Perturbations>,

    /// Score (0..1) from which a picture counts as generated, instead of the card's.
    #[arg(long, value_name = "SCORE", value_parser = super::unit_interval)]
    threshold: Option<f64>,

    /// Share (0..1) of the generated pictures at which false positives are counted.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = recall)]
    recall: f64,

    /// Replicates of the bootstrap behind the 95 % intervals; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    bootstrap: u64,

    /// Seed of the bootstrap.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Pictures judged side by side; by default one per core.
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Print one JSON object per line: the model, what was found, what was skipped, results, means;
    /// for clips also each clip.
    #[arg(long)]
    json: bool,

    /// Write the results as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Write the results as a Markdown page.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Write plots (SVG) into this folder: ROC, precision and recall, scores, robustness; for
    /// clips, what more seconds gain.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|v| *v > 0.0 && *v <= 86_400.0)
        .ok_or_else(|| "must be numbers above 0 and at most 86400".into())
}

fn recall(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|v| *v > 0.0 && *v <= 1.0)
        .ok_or_else(|| "must be a number above 0 and at most 1".into())
}

/// Default number of tiles judged per picture.
const TILES: usize = 64;

/// Evaluates; 1 if a file or a set had to be left out.
///
/// # Errors
/// Nothing can be evaluated, the model is unusable, or a file cannot be written.
pub fn eval(args: EvalArgs) -> anyhow::Result<u8> {
    let conditions = conditions(&args.perturb)?;
    let sets = sets::find(&args.inputs)?;
    if clips::are_meant(&sets)? {
        return clips::eval(&args, &sets);
    }
    let most = args.max_tiles.map_or(TILES, NonZeroUsize::get);
    let scorer = Scorer::open(args.view, args.model.as_deref(), args.precision, most)?;
    let jobs = threads::jobs(args.jobs);
    let mut collection = sets::arrange(sets, jobs)?;
    if !args.json {
        console::print_lines(&report::found_lines(&collection.found))?;
    }
    warn(&collection.found);
    collection.require_sets()?;

    let mut wanted: Vec<usize> =
        collection.sets.iter().flat_map(|s| s.real.iter().chain(&s.fake).copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let bar = progress_bar(wanted.len());
    let (answers, skipped) =
        scorer::score_all(&scorer, &collection.pictures, &wanted, &conditions, jobs, &bar)?;
    bar.finish_and_clear();
    collection.skipped.extend(skipped);
    for skipped in &collection.skipped {
        log::warn!("{}: skipped, cannot be read: {}", skipped.path.shown(), skipped.reason);
    }
    let failed = tell_failures(&collection, &conditions, &answers);

    let measure = Measure {
        threshold: args.threshold.unwrap_or(scorer.card().threshold),
        recall: args.recall,
        replicates: args.bootstrap,
        seed: args.seed,
    };
    let mut rows = figures::rows(
        &collection.sets,
        collection.pictures.len(),
        &conditions,
        &answers,
        &measure,
        |logit| scorer.card().score(logit),
    );
    if rows.is_empty() {
        bail!("nothing can be evaluated: no set has both a real and a generated picture that can be judged");
    }
    put_published(&mut rows, args.view);

    let (card, view) = (scorer.card(), args.view.as_str());
    // Files first: the table's reader may stop after its beginning.
    if let Some(path) = &args.csv {
        output::write(path, &report::csv(&rows, view)?)?;
    }
    if let Some(path) = &args.markdown {
        let page = report::markdown(&collection, &rows, card, view, &measure);
        output::write(path, page.as_bytes())?;
    }
    if let Some(folder) = &args.plots {
        for (name, text) in plots::plots(&rows, measure.threshold).context("plots")? {
            output::write(&folder.join(name), text.as_bytes())?;
        }
    }
    if args.json {
        for line in report::json_lines(&collection, &rows, card, view, &measure) {
            console::print_json(&line)?;
        }
    } else {
        console::print_lines(&report::table(&rows, args.recall))?;
    }
    let left_out = collection.found.iter().any(|f| f.left_out.is_some());
    Ok(if left_out || failed || !collection.skipped.is_empty() { EXIT_FLAGGED } else { EXIT_FINE })
}

/// Warns about giveaways, which a detector could rank by instead of the pictures.
pub(super) fn warn(found: &[sets::Found]) {
    report::warnings(found).iter().for_each(|warning| log::warn!("{warning}"));
}

/// As stored, then what was requested, each once.
fn conditions(asked: &[Perturbations]) -> anyhow::Result<Vec<Perturbation>> {
    let mut conditions = vec![Perturbation::AsStored];
    for perturbation in asked.iter().flat_map(|p| &p.0) {
        if !conditions.contains(perturbation) {
            conditions.push(*perturbation);
        }
    }
    // Hours of work must not be lost to a missing codec.
    let mut tried: Vec<&str> = vec![];
    for condition in &conditions {
        if !tried.contains(&condition.kind()) {
            tried.push(condition.kind());
            condition
                .available()
                .with_context(|| format!("--perturb {} is not possible here", condition.kind()))?;
        }
    }
    Ok(conditions)
}

/// Logs for each condition how many pictures could not be judged under it, and the first reason.
fn tell_failures(
    collection: &Collection,
    conditions: &[Perturbation],
    answers: &std::collections::HashMap<usize, Answers>,
) -> bool {
    let mut any = false;
    for (at, condition) in conditions.iter().enumerate() {
        let mut failures: Vec<(usize, &String)> =
            answers.iter().filter_map(|(place, a)| Some((*place, a[at].as_ref().err()?))).collect();
        failures.sort();
        if let Some((place, why)) = failures.first() {
            any = true;
            log::warn!(
                "{condition}: {} pictures cannot be judged; first {}: {why}",
                failures.len(),
                collection.pictures[*place].shown()
            );
        }
    }
    any
}

/// The paper's AP beside ours: for its own sets, as stored.
fn put_published(rows: &mut [Row], view: View) {
    let names: Vec<String> = rows.iter().filter_map(|r| r.set.clone()).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if !is_forensynths(names) {
        return;
    }
    for row in rows.iter_mut().filter(|r| r.after == Perturbation::AsStored) {
        let found = row.set.as_deref().and_then(published);
        row.published = found.map(|p| if view == View::Whole { p.whole } else { p.crop });
    }
}
