//! `spotd calibrate`: threshold and temperature for one site, from its own footage.

mod footage;
mod reviewed;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::ProgressBar;

use super::input::Input;
use super::manual::{DONE_OR_FAILED, KEYS, Manual};
use super::{EXIT_FINE, console, output};
use footage::{Watcher, logit_of};
use spotd::config;
use spotd::detector::calibration::{Calibration, Method};
use spotd::detector::{Detector, Model};
use spotd::forensics::alarms::{self, Blocks, Recording, Threshold, temperature};
use spotd::identity::Wanted;
use spotd::shown::Shown as _;
use spotd::threads;
use spotd::verdict::VerdictConfig;

const MANUAL: Manual = Manual {
    examples: &[
        (
            "spotd calibrate --real day.mp4 night.mp4 --per-day 0.033 --out site.toml",
            "One false alarm a month and camera",
        ),
        (
            "spotd calibrate --config spotd.toml --real rtsp://camera.lan/stream --seconds 86400 --per-day 0.1 --out site.toml",
            "Watch a camera for a day",
        ),
        (
            "spotd calibrate --real day.mp4 --log /var/lib/spotd/flags --per-day 0.1 --out site.toml",
            "Also learn from what operators have judged on the page",
        ),
    ],
    exit_status: DONE_OR_FAILED,
    files: &[],
    environment: KEYS,
};

/// Arguments of `spotd calibrate`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct CalibrateArgs {
    /// Footage of the site that is known to be real: a video, a camera, an address such as
    /// rtsp://..., or a folder of pictures that are frames in the order of their names. May be
    /// given several times.
    #[arg(long, required = true, value_name = "FOOTAGE", num_args = 1..)]
    real: Vec<OsString>,

    /// Footage that is known to be generated, of the kind to be found, if there is any.
    #[arg(long, value_name = "FOOTAGE", num_args = 1..)]
    fake: Vec<OsString>,

    /// Flag log whose events operators have judged on the page: pictures of false alarms count as real
    /// footage, those of confirmed events as generated.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,

    /// Acceptable false alarms per camera and day: 0.033 is one a month.
    #[arg(long, value_name = "ALARMS", value_parser = positive)]
    per_day: f64,

    /// File to write, for [model] calibration.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,

    /// Take model, tiles and [verdict] from this configuration instead of the defaults.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Model (ONNX, its card beside it) instead of the built-in one.
    #[arg(short, long, value_name = "FILE", conflicts_with = "config")]
    model: Option<PathBuf>,

    /// Frames per second that will be judged ([[source]] fps), and that a folder's pictures stand
    /// for.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = super::frame_rate)]
    fps: f64,

    /// Seconds to watch a live stream or camera; what has an end is read to its end.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,

    /// Inference threads; by default one per core.
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Print the result as one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|v: &f64| v.is_finite() && *v > 0.0 && *v <= 86_400.0)
        .ok_or_else(|| "must be a number above 0 and at most 86400".into())
}

/// The unsure band begins at the threshold for this many times as many alarms.
const UNSURE: f64 = 10.0;

/// Highest score that a threshold may have: closer to 1, hysteresis and display lack the digits for
/// it.
const HIGHEST: f64 = 0.98;

/// Calibrates.
///
/// # Errors
/// Footage or model are unusable, there is too little footage, or the file cannot be written.
pub fn calibrate(args: CalibrateArgs) -> anyhow::Result<u8> {
    let (path, verdict, max_tiles) = match &args.config {
        None => (args.model.clone(), VerdictConfig::default(), DEFAULT_TILES),
        Some(path) => {
            let config = config::load(path)?;
            (config.model.path, config.verdict, config.model.max_tiles)
        }
    };
    let detector = Detector::new(Model::open(path.as_deref(), Wanted::Auto)?, &verdict, max_tiles);
    let watcher = Watcher {
        detector: &detector,
        verdict: &verdict,
        fps: args.fps,
        live: Duration::from_secs(args.seconds),
        jobs: threads::jobs(args.jobs),
    };
    let judged = args.log.as_deref().map(|dir| reviewed::read(&detector, dir)).transpose()?;
    let mut real = watch_all(&watcher, &args.real)?;
    let mut fake = watch_all(&watcher, &args.fake)?;
    let period = 1.0 / args.fps;
    let mut blocks = alarms::blocks(&real, period, verdict.window as f64 * period)
        .context("no threshold can be given for this site")?;
    let mut false_alarms = None;
    if let Some(judged) = judged {
        let maxima = judged.maxima();
        blocks.add(&maxima);
        false_alarms = Some(maxima.len());
        real.extend(judged.false_alarms);
        fake.extend(judged.confirmed);
    }
    let found = blocks.threshold(args.per_day);
    let calibration =
        Calibration { false_alarms, ..calibration(&watcher, &blocks, &found, (&real, &fake), args.per_day) };
    output::write(&args.out, calibration.to_toml().as_bytes())?;
    if args.json {
        console::print_json(&serde_json::to_string(&calibration)?)?;
    } else {
        console::print_lines(&tell(&calibration, &blocks, &found))?;
        console::print_line(&load_hint(&args.out))?;
    }
    Ok(EXIT_FINE)
}

/// Tiles that the daemon judges in a frame unless told otherwise.
const DEFAULT_TILES: usize = 9;

fn watch_all(watcher: &Watcher<'_>, inputs: &[OsString]) -> anyhow::Result<Vec<Recording>> {
    let mut recordings = Vec::new();
    for input in inputs {
        let input = Input::parse(input)?;
        let shown = &input.shown;
        let bar = console::progress().add(ProgressBar::new_spinner().with_message(shown.clone()));
        let seen = watcher.watch(&input, &bar).with_context(|| shown.clone())?;
        bar.finish_and_clear();
        log::info!("{shown}: {} frames judged, {} too small or flat", seen.frames, seen.without);
        if seen.recording.logits.is_empty() {
            bail!(
                "{shown}: has fewer frames that can be judged ({}) than a verdict needs ({})",
                seen.frames,
                watcher.verdict.min_frames
            );
        }
        recordings.push(seen.recording);
    }
    Ok(recordings)
}

fn calibration(
    watcher: &Watcher<'_>,
    blocks: &Blocks,
    found: &Threshold,
    (real, fake): (&[Recording], &[Recording]),
    per_day: f64,
) -> Calibration {
    let card = watcher.detector.card();
    let logits = |all: &[Recording]| all.iter().flat_map(|r| r.logits.iter().copied()).collect::<Vec<f64>>();
    let fakes = logits(fake);
    // Without generated footage nothing is known about the temperature: the card's is kept.
    let mut temperature = temperature(&logits(real), &fakes).unwrap_or(card.temperature);
    let highest = logit_of(HIGHEST, 1.0);
    if found.logit / temperature > highest {
        temperature = found.logit / highest;
    }
    let score = |logit: f64| (1.0 / (1.0 + (-logit / temperature).exp())).clamp(1e-6, 1.0 - 1e-6);
    let unsure = blocks.threshold(per_day * UNSURE).logit.min(found.logit);
    let flagged = fakes.iter().filter(|l| **l >= found.logit).count() as f64 / fakes.len().max(1) as f64;
    Calibration {
        model_sha256: card.sha256.clone(),
        model: format!("{} {}", card.name, card.version),
        temperature,
        threshold: score(found.logit),
        unsure_from: score(unsure),
        per_day,
        per_day_low: found.low,
        per_day_high: found.high,
        method: if found.counted { Method::Counted } else { Method::ExponentialTail },
        window: watcher.verdict.window,
        fps: watcher.fps,
        max_tiles: watcher.detector.max_tiles(),
        real_seconds: blocks.footage,
        block_seconds: blocks.seconds,
        blocks: blocks.maxima.len(),
        false_alarms: None,
        fake_flagged: (!fakes.is_empty()).then_some(flagged),
        date: jiff::Zoned::now().date().to_string(),
    }
}

/// How a configuration differs from the one that its calibration was made with, so that the stated
/// rate of false alarms does not hold.
///
/// # Errors
/// The calibration cannot be read.
pub(super) fn mismatches(config: &config::Config) -> anyhow::Result<Vec<String>> {
    let Some(path) = &config.model.calibration else { return Ok(vec![]) };
    let made = Calibration::load(path)?;
    let mut out = Vec::new();
    let mut differ = |key: &str, made: String, set: String| {
        if made != set {
            out.push(format!(
                "{key} = {set}, but {} was made with {made}: its rate of false alarms does not hold; set {key} = \
                 {made} or run spotd calibrate again",
                path.shown()
            ));
        }
    };
    differ("verdict.window", made.window.to_string(), config.verdict.window.to_string());
    differ("model.max_tiles", made.max_tiles.to_string(), config.model.max_tiles.to_string());
    for source in &config.sources {
        differ(&format!("fps of source {}", source.id), made.fps.to_string(), source.fps.to_string());
    }
    for (key, value) in
        [("verdict.threshold", config.verdict.threshold), ("verdict.unsure_from", config.verdict.unsure_from)]
    {
        if let Some(value) = value {
            out.push(format!("{key} = {value} overrides that of {}; remove one of them", path.shown()));
        }
    }
    Ok(out)
}

/// What was found, and how far it can be trusted.
fn tell(calibration: &Calibration, blocks: &Blocks, found: &Threshold) -> Vec<String> {
    let c = calibration;
    let mut lines = vec![format!(
        "{:.1} minutes of real footage: {} nearly independent stretches of {:.0} s",
        c.real_seconds / 60.0,
        c.blocks,
        c.block_seconds
    )];
    if let Some(count) = c.false_alarms.filter(|&count| count > 0) {
        lines.push(format!(
            "{count} of them are false alarms of the flag log. They were kept because they scored high, so such stretches \
             are rarer than it seems here, and there will be fewer false alarms than stated"
        ));
    }
    lines.push(format!(
        "threshold {:.4}, unsure from {:.4}, temperature {:.3}, for {} false alarms a day \
         (95 %: {:.2} times to {:.2} times as many)",
        c.threshold,
        c.unsure_from,
        c.temperature,
        c.per_day,
        c.per_day_low / c.per_day,
        c.per_day_high / c.per_day
    ));
    lines.push(match c.method {
        Method::Counted => "counted: the footage has that many alarms in it".to_owned(),
        Method::ExponentialTail => format!(
            "EXTRAPOLATED: at that rate {:.1} minutes of footage have {} alarms in them, and 10 are needed to \
             count. The threshold follows an exponential tail fitted to the highest scores instead. It knows \
             nothing about what was not filmed: film by day and by night, in sun and rain. To count takes {:.1} days",
            c.real_seconds / 60.0,
            few(found.expected),
            10.0 / c.per_day
        ),
    });
    if blocks.drifts {
        lines.push(
            "the scores drift over the whole footage: its stretches are not independent, and the interval \
             above is too narrow. Film longer"
                .into(),
        );
    }
    match c.fake_flagged {
        Some(share) => lines.push(format!(
            "of the generated footage {:.1} % of the time is at or above the threshold",
            100.0 * share
        )),
        None => lines.push(
            "no generated footage was given: whether anything is still found at this threshold is not known, \
             and the temperature is the card's"
                .into(),
        ),
    }
    lines
}

/// A small number with two significant digits.
fn few(number: f64) -> String {
    if number >= 0.1 { format!("{number:.1}") } else { format!("{number:.1e}") }
}

fn load_hint(out: &Path) -> String {
    format!("written to {0}; load it with [model] calibration = \"{0}\"", out.shown())
}
