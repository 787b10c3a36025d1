//! `spotd quantize`: turns a float32 model into an int8 one.

mod footage;
mod report;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::eval::{Perturbations, Row, comparable, compare};
use super::manual::{DONE_OR_FAILED, Manual};
use super::{EXIT_FINE, console, output, progress_bar};
use footage::{Gathered, TileGatherer};
use spotd::detector::card::{Card, sha256_hex};
use spotd::detector::{Model, check_hash, read, read_head};
use spotd::identity::Precision;
use spotd::quantize::{Clipping, Options, Progress, Quantized, Residual, quantize as quantize_model};
use spotd::shown::Shown as _;
use spotd::threads;

const MANUAL: Manual = Manual {
    examples: &[
        (
            "spotd quantize --model models/spotd-edge.onnx --calibrate pictures/ --out int8.onnx",
            "Quantise the float32 file of the smaller detector, calibrated on pictures",
        ),
        (
            "spotd quantize --model own.onnx --calibrate /dev/video0 --out own-int8.onnx --eval SETS/",
            "Another model, on the box's own camera, measured on sets",
        ),
    ],
    exit_status: DONE_OR_FAILED,
    files: &[],
    environment: &[],
};

/// Arguments of `spotd quantize`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct QuantizeArgs {
    /// Float32 model (ONNX, its card beside it).
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,

    /// Pictures to calibrate with, like those that will be judged: a folder, a video, an address
    /// such as rtsp://..., or a camera such as /dev/video0. May be given several times.
    #[arg(long, required = true, value_name = "DIR|SOURCE", num_args = 1..)]
    calibrate: Vec<OsString>,

    /// File to write; the card goes beside it.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,

    /// Write only signed bytes with zero point 0, and biases in float, as TensorRT requires. Costs
    /// a bit of precision.
    #[arg(long)]
    symmetric: bool,

    /// Calibrate with at most so many pictures or frames; every third is held out to measure on.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(12..=100_000))]
    images: u32,

    /// Keep the layer with this node name in float. May be given several times.
    #[arg(long, value_name = "LAYER")]
    keep_float: Vec<String>,

    /// Keep all layers in int8, even if the first or last would be much more exact in float.
    #[arg(long)]
    all_int8: bool,

    /// Weights of at most 64 steps instead of 127: exact and faster on x86 processors without VNNI,
    /// also in other runtimes, for a bit of precision.
    #[arg(long)]
    reduce_range: bool,

    /// Round weights to the nearest step instead of for the least error of their layer: much
    /// quicker for networks as large as ResNet-50, and less precise.
    #[arg(long)]
    round_to_nearest: bool,

    /// How ranges are clipped; auto tries all and takes the one with the least error of the logit.
    #[arg(long, value_enum, default_value_t = Clip::Auto)]
    clip: Clip,

    /// Where a residual addition is rounded to bytes: fused, its sum is rounded once, which is
    /// exact and fast here; apart, both summands are bytes too, which onnxruntime runs fastest.
    #[arg(long, value_enum, default_value_t = ResidualForm::Fused)]
    residual: ResidualForm,

    /// Also measure both models on these sets, laid out as for spotd eval, and put the figures into
    /// the card.
    #[arg(long, value_name = "DIR|LIST", num_args = 1..)]
    eval: Vec<PathBuf>,

    /// With --eval: also measure after this, as spotd eval does.
    #[arg(long, value_name = "KIND=N,...", requires = "eval")]
    perturb: Vec<Perturbations>,

    /// Frames per second taken from a video or stream.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = super::frame_rate)]
    fps: f64,

    /// Seconds to watch a live stream or camera; what has an end is read to its end.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,

    /// Threads; by default one per core.
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Print the result as one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Clip {
    Auto,
    MinMax,
    #[value(name = "99.999")]
    Percentile99999,
    #[value(name = "99.99")]
    Percentile9999,
    #[value(name = "99.9")]
    Percentile999,
    Mse,
}

impl Clip {
    fn asked(self) -> Option<Clipping> {
        Some(match self {
            Clip::Auto => return None,
            Clip::MinMax => Clipping::MinMax,
            Clip::Percentile99999 => Clipping::Percentile(0.99999),
            Clip::Percentile9999 => Clipping::Percentile(0.9999),
            Clip::Percentile999 => Clipping::Percentile(0.999),
            Clip::Mse => Clipping::Mse,
        })
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ResidualForm {
    Fused,
    Apart,
}

/// Tiles judged per picture at most when AP is measured, as in `spotd eval`.
const EVAL_TILES: usize = 64;

/// Quantises.
///
/// # Errors
/// Model or pictures are unusable, or a file cannot be written.
pub fn quantize(args: QuantizeArgs) -> anyhow::Result<u8> {
    let (bytes, card, path) = read(Some(&args.model))?;
    check_hash(&bytes, &card, &path)?;
    let shown = path.shown();
    if card.precision != Precision::F32 {
        bail!(
            "model {shown}: its card says {}; give the float32 model that it was made from",
            card.precision
        );
    }
    if args.out.extension().is_none_or(|e| e != "onnx") {
        bail!("--out {}: must end in .onnx; its card will end in .toml", args.out.shown());
    }
    if same_file(&args.model, &args.out) {
        bail!("--out {}: is the float32 model itself; give another name", args.out.shown());
    }
    // A violation of the contract is reported before any work.
    let float = Model::from_bytes(&bytes, card.clone(), &path)?;
    let jobs = threads::jobs(args.jobs);
    if !args.eval.is_empty() {
        comparable(&args.eval, &args.perturb, jobs)?;
    }

    let gatherer = TileGatherer {
        side: card.tile,
        images: args.images as usize,
        fps: args.fps,
        live: Duration::from_secs(args.seconds),
    };
    let bar = progress_bar(gatherer.images).with_message("pictures");
    let gathered = gatherer.gather(&args.calibrate, &bar)?;
    bar.finish_and_clear();
    require(&gathered, card.tile)?;

    let options = Options {
        symmetric: args.symmetric,
        residual: match args.residual {
            ResidualForm::Fused => Residual::Fused,
            ResidualForm::Apart => Residual::Apart,
        },
        keep_float: args.keep_float.clone(),
        clipping: args.clip.asked(),
        may_keep_ends: !args.all_int8,
        reduce_range: args.reduce_range,
        round_to_nearest: args.round_to_nearest,
        jobs,
    };
    let made = quantize_model(&bytes, &gathered.tiles, &options, &Bars::default())
        .with_context(|| format!("model {shown}"))?;

    let mut int8 = int8_card(&card, &made, gathered.pictures);
    let model = Model::from_bytes(&made.onnx, int8.clone(), &args.out)?;
    let measured = if args.eval.is_empty() {
        None
    } else {
        let mut rows = compare(&args.eval, &[&float, &model], &args.perturb, EVAL_TILES, jobs)?.into_iter();
        let (float, int8) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
        Some((float, int8))
    };
    if let Some((_, rows)) = &measured {
        int8.measured = rows.iter().filter_map(report::measured).collect();
    }
    // The card names the coherent part's head, which lies beside the model.
    if let Some(part) = &int8.coherence {
        let (head, _) = read_head(Some(&args.model), part)?;
        output::write(&args.out.with_file_name(&part.file), &head)?;
    }
    output::write(&args.out, &made.onnx)?;
    output::write(&Card::path_for(&args.out), int8.to_toml().as_bytes())?;

    let sizes = (bytes.len(), made.onnx.len());
    let found = report::Found {
        gathered: &gathered,
        made: &made,
        card: &int8,
        measured: measured.as_ref(),
        sizes,
        runs: &model.engine().describe(),
    };
    if args.json {
        console::print_json(&found.json(&args.out))?;
    } else {
        console::print_lines(&found.lines(&args.out))?;
    }
    Ok(EXIT_FINE)
}

/// Rows of the float and of the int8 model.
type BothRows = (Vec<Row>, Vec<Row>);

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Fewest pictures to calibrate with.
const FEWEST: usize = 12;

fn require(gathered: &Gathered, side: u32) -> anyhow::Result<()> {
    if let Some(why) = &gathered.reason {
        log::warn!("{} pictures could not be read; the first: {why}", gathered.unreadable);
    }
    if gathered.pictures < FEWEST {
        bail!(
            "{} pictures can be calibrated with ({} are smaller than {side}x{side} or flat, {} cannot be read); at \
             least {FEWEST} are needed, 100 or more are better",
            gathered.pictures,
            gathered.without,
            gathered.unreadable
        );
    }
    Ok(())
}

/// The float model's card, with the changes.
fn int8_card(card: &Card, made: &Quantized, pictures: usize) -> Card {
    let report = &made.report;
    let mut card = card.clone();
    card.precision = Precision::Int8;
    card.sha256 = sha256_hex(&made.onnx);
    card.training.recipe += &format!(
        "; quantised to int8 on {pictures} pictures ({}{}{}): on {} tiles that were held out the logit differs from the float \
         model's by {:.4} in the mean and {:.4} at most, where logits spread by {:.3}; threshold and temperature are \
         those of the float model",
        report.clipping,
        if report.bias_corrected { ", biases corrected" } else { "" },
        if report.equalised { ", channels equalised" } else { "" },
        report.difference.tiles,
        report.difference.mean,
        report.difference.max,
        report.difference.spread,
    );
    // The measurements were made with the float model.
    card.measured.clear();
    card
}

/// A progress bar for each phase.
#[derive(Default)]
struct Bars(Mutex<Option<ProgressBar>>);

impl Progress for Bars {
    fn begin(&self, what: &str, steps: usize) {
        let next = progress_bar(steps).with_message(what.to_owned());
        if let Some(before) = self.0.lock().expect("bars").replace(next) {
            before.finish_and_clear();
        }
    }

    fn step(&self) {
        if let Some(bar) = &*self.0.lock().expect("bars") {
            bar.inc(1);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Some(bar) = self.0.lock().expect("bars").take() {
            bar.finish_and_clear();
        }
    }
}
