//! `spotd bench`: what this machine can do with a detector, for choosing either.

mod cameras;
mod coherent;
mod layers;
mod machine;
mod peak;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use image::RgbImage;
use serde_json::json;

use super::manual::{DONE_OR_FAILED, KEYS, Manual};
use super::{EXIT_FINE, console};
use cameras::{CameraArgs, Common};
use layers::Layer;
use machine::MachineState;
use spotd::clock::{Clock, SystemClock};
use spotd::config;
use spotd::detector::Model;
use spotd::forensics::scenes::SceneRenderer;
use spotd::identity::Wanted;
use spotd::threads;

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd bench", "Measure the built-in detector on one core and on all"),
        ("spotd bench --cameras", "How many cameras this machine carries, and what takes the time"),
        (
            "spotd bench --cameras --clip door.mp4 --config spotd.toml --seconds 600",
            "With a camera's own stream and a site's model, tiles and rate, until the board is hot",
        ),
        ("spotd bench --precision f32 --threads 1 --json", "The float file on one worker, for a program"),
    ],
    exit_status: DONE_OR_FAILED,
    files: &[],
    environment: KEYS,
};

/// Arguments of `spotd bench`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct BenchArgs {
    /// Model (ONNX, its card beside it) instead of the built-in one.
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Run it in this precision: auto (int8 where the file is quantised), f32 or int8.
    #[arg(long, value_name = "PRECISION", default_value = "auto")]
    precision: Wanted,

    /// Workers of the run on all cores, or of --cameras; by default one per core.
    #[arg(short, long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Seconds that each of the two runs takes, on one core and on all (5), or that each number of
    /// cameras is measured (10). A board without a fan takes minutes to get hot.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,

    /// Take the model from this configuration; with --cameras also its workers, tiles, [verdict] and
    /// the highest frame rate of its sources.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print one JSON object instead of text: model, precision, threads, min_ms, median_ms, and
    /// more; with --cameras: cameras, shares, steps, and more.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    cameras: CameraArgs,
}

/// Seconds that each of the two runs takes.
const SECONDS: u64 = 5;

/// Number of runs for the table of operators.
const LAYER_RUNS: usize = 20;

/// Operators that take less than this share of the time are summed up in one line.
const LITTLE: f64 = 0.005;

/// Measures.
///
/// # Errors
/// The model or the configuration is unusable.
pub fn bench(args: BenchArgs) -> anyhow::Result<u8> {
    if args.cameras.cameras {
        return cameras::run(&Common {
            model: args.model,
            precision: args.precision,
            config: args.config,
            threads: args.threads.map(NonZeroUsize::get),
            seconds: args.seconds,
            json: args.json,
            own: &args.cameras,
        });
    }
    let configured = args.config.as_deref().map(config::load).transpose()?.and_then(|c| c.model.path);
    let model = Model::open(args.model.as_deref().or(configured.as_deref()), args.precision)?;
    let clock = SystemClock::new();
    let side = model.card().tile;
    // A rendered scene: timing does not depend on it, but it is what the network will see.
    let tile = SceneRenderer::new(1, side, side).frame(0);
    let threads = threads::jobs(args.threads);
    let lasts = Duration::from_secs(args.seconds.unwrap_or(SECONDS));

    let before = MachineState::read();
    let spinner = console::progress().add(indicatif::ProgressBar::new_spinner());
    spinner.set_message("one core");
    let one = one_core(&model, &tile, lasts, &clock)?;
    spinner.set_message("coherent part");
    let coherent = coherent::milliseconds(&model, &clock)?;
    spinner.set_message("each operator");
    let layers = layers::layers(model.engine().plan(), &model.engine().input(&tile), LAYER_RUNS, &clock)
        .map_err(|e| anyhow::anyhow!("{e:#}"))
        .context("timing of each operator")?;
    let peak = Peak { f32: peak::f32_gmacs(&clock)?, int8: int8_peak(&model)? };
    spinner.set_message("all cores");
    let all = all_cores(&model, &tile, threads, lasts, &clock)?;
    let after = MachineState::read();
    spinner.finish_and_clear();

    let found = Found { model: &model, threads, one, coherent, layers, peak, all, before, after };
    if args.json {
        console::print_json(&found.json())?;
    } else {
        console::print_lines(&found.lines())?;
    }
    Ok(EXIT_FINE)
}

/// Peak performance of one core, in billions of multiply-accumulates per second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Peak {
    /// Matrix products in f32.
    f32: f64,
    /// The int8 kernels' instructions on registers only; none if the model runs in f32.
    int8: Option<f64>,
}

impl Peak {
    /// The peak that an operator is compared with.
    fn of(&self, layer: &Layer) -> f64 {
        self.int8.filter(|_| layer.is_int8()).unwrap_or(self.f32)
    }
}

fn int8_peak(model: &Model) -> anyhow::Result<Option<f64>> {
    match model.engine().report() {
        Some(report) if report.layers() > 0 => Ok(spotd_kernels::peak_gmacs(report.isa)?),
        _ => Ok(None),
    }
}

/// One worker alone.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OneCore {
    min_ms: f64,
    median_ms: f64,
    runs: usize,
}

fn one_core(model: &Model, tile: &RgbImage, lasts: Duration, clock: &dyn Clock) -> anyhow::Result<OneCore> {
    // A warm-up run, which touches memory for the first time.
    model.logit(tile)?;
    let end = clock.now() + lasts;
    let mut times = Vec::new();
    while times.is_empty() || clock.now() < end {
        let from = clock.now();
        std::hint::black_box(model.logit(tile)?);
        times.push((clock.now() - from).as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(OneCore { min_ms: times[0], median_ms: times[times.len() / 2], runs: times.len() })
}

/// All workers together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct AllCores {
    /// Tiles per second.
    rate: f64,
    /// Rate of the last quarter relative to the first: below 1 the machine is throttling.
    lasting: f64,
}

fn all_cores(
    model: &Model,
    tile: &RgbImage,
    threads: usize,
    lasts: Duration,
    clock: &dyn Clock,
) -> anyhow::Result<AllCores> {
    let stop = AtomicBool::new(false);
    let from = clock.now();
    let times =
        threads::side_by_side(threads, threads, |_| -> Result<Vec<Duration>, spotd::detector::ModelError> {
            let mut times = Vec::new();
            while times.is_empty() || !stop.load(Ordering::Relaxed) {
                std::hint::black_box(model.logit(tile)?);
                let now = clock.now();
                times.push(now);
                if now >= from + lasts {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            Ok(times)
        })?;
    let mut done = times.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    done.sort();
    let took = done.last().map_or(lasts, |last| *last - from);
    let within = |low: f64, high: f64| {
        let (low, high) = (from + took.mul_f64(low), from + took.mul_f64(high));
        done.iter().filter(|t| **t > low && **t <= high).count() as f64
    };
    Ok(AllCores {
        rate: done.len() as f64 / took.as_secs_f64(),
        lasting: within(0.75, 1.0) / within(0.0, 0.25).max(1.0),
    })
}

/// Everything that was measured.
struct Found<'a> {
    model: &'a Model,
    threads: usize,
    one: OneCore,
    /// Milliseconds for the coherent part of a whole frame.
    coherent: Option<f64>,
    layers: Vec<Layer>,
    peak: Peak,
    all: AllCores,
    before: MachineState,
    after: MachineState,
}

impl Found<'_> {
    fn one_rate(&self) -> f64 {
        1e3 / self.one.median_ms
    }

    /// GMAC/s of the whole network on one core, by the card's MACs.
    fn gmacs(&self) -> f64 {
        self.model.card().mmac / self.one.min_ms
    }

    /// The time of the coherent part of a frame, expressed in tiles.
    fn coherent_tiles(&self) -> Option<f64> {
        Some(self.coherent? / self.one.median_ms)
    }

    fn slowed(&self) -> Option<String> {
        self.after.slowed_since(&self.before)
    }

    fn lines(&self) -> Vec<String> {
        let card = self.model.card();
        let mut lines = vec![format!(
            "{} {} ({}, {:.0} MMAC a tile of {}x{}) on {}",
            card.name,
            card.version,
            self.model.engine().describe(),
            card.mmac,
            card.tile,
            card.tile,
            machine::processor().unwrap_or_else(|| "this processor".into())
        )];
        if cfg!(debug_assertions) {
            lines.push("THIS IS A DEBUG BUILD: the figures mean nothing; build with --release".into());
        }
        lines.push(format!(
            "one core: {:.2} ms a tile at least, {:.2} ms in the median of {} runs; {:.1} tiles a second",
            self.one.min_ms,
            self.one.median_ms,
            self.one.runs,
            self.one_rate()
        ));
        if let (Some(ms), Some(tiles), (width, height)) =
            (self.coherent, self.coherent_tiles(), coherent::SIZE)
        {
            lines.push(format!(
                "coherent part of a frame of {width}x{height}: {ms:.2} ms in the median, as long as {tiles:.1} tiles"
            ));
        }
        lines.push(format!(
            "{} workers: {:.1} tiles a second, {:.2} times one core",
            self.threads,
            self.all.rate,
            self.all.rate / self.one_rate()
        ));
        if self.all.lasting < 0.95 {
            lines.push(format!(
                "the last quarter of that run had {:.0} % of the first's tiles: the machine is throttling or busy; \
                 see --seconds",
                100.0 * self.all.lasting
            ));
        }
        let (whole, what) = match self.peak.int8 {
            Some(int8) => (int8, "int8 instructions reach on registers"),
            None => (self.peak.f32, "f32 products of matrices reach"),
        };
        lines.push(format!(
            "{:.1} GMAC/s on one core, {:.0} % of the {whole:.1} that {what} here",
            self.gmacs(),
            100.0 * self.gmacs() / whole
        ));
        lines.push(format!(
            "{:40} {:>18} {:>9} {:>8} {:>8} {:>6}",
            "operator", "", "ms", "MMAC", "GMAC/s", "peak"
        ));
        let total: f64 = self.layers.iter().map(|l| l.ms).sum();
        let (listed, little): (Vec<&Layer>, Vec<&Layer>) =
            self.layers.iter().partition(|l| l.ms >= LITTLE * total || l.mmac >= 1.0);
        for layer in listed {
            let work = if layer.mmac > 0.0 {
                format!(
                    "{:8.1} {:8.1} {:4.0} %",
                    layer.mmac,
                    layer.gmacs(),
                    100.0 * layer.gmacs() / self.peak.of(layer)
                )
            } else {
                String::new()
            };
            let row = format!(
                "{:40} {:>18} {:9.3} {work}",
                shortened(&layer.name, 40),
                shortened(&layer.operator, 18),
                layer.ms
            );
            lines.push(row.trim_end().to_owned());
        }
        lines.push(format!(
            "{:40} {:>18} {:9.3}",
            format!("{} others", little.len()),
            "",
            little.iter().map(|l| l.ms).sum::<f64>()
        ));
        lines.push(format!("{:40} {:>18} {total:9.3}", "all", ""));
        if let Some((now, most)) = machine::memory() {
            lines.push(format!("memory of this process: {now:.0} MiB, {most:.0} MiB at most"));
        }
        let degrees =
            |s: &MachineState| s.celsius.map_or_else(|| "not shown".into(), |c| format!("{c:.0} °C"));
        lines.push(format!("temperature: {} before, {} after", degrees(&self.before), degrees(&self.after)));
        if let Some(why) = self.slowed() {
            lines.push(format!("SLOWED DOWN: {why}"));
        }
        lines
    }

    fn json(&self) -> String {
        let card = self.model.card();
        let memory = machine::memory();
        let layers: Vec<serde_json::Value> = self
            .layers
            .iter()
            .map(|l| {
                json!({
                    "name": l.name, "operator": l.operator, "ms": l.ms, "mmac": l.mmac, "gmacs": l.gmacs(),
                    "share_of_peak": l.gmacs() / self.peak.of(l),
                })
            })
            .collect();
        json!({
            "model": card.name,
            "version": card.version,
            "sha256": card.sha256,
            "precision": self.model.identity().precision,
            "runs": self.model.engine().describe(),
            "tile": card.tile,
            "processor": machine::processor(),
            "debug_build": cfg!(debug_assertions),
            "threads": self.threads,
            "min_ms": self.one.min_ms,
            "median_ms": self.one.median_ms,
            "times": self.one.runs,
            "coherent_ms": self.coherent,
            "coherent_tiles": self.coherent_tiles(),
            "tiles_per_second_core": self.one_rate(),
            "tiles_per_second": self.all.rate,
            "lasting": self.all.lasting,
            "mmac": card.mmac,
            "gmacs": self.gmacs(),
            "peak_gmacs_f32": self.peak.f32,
            "peak_gmacs_int8": self.peak.int8,
            "layers": layers,
            "memory_mib": memory.map(|m| m.0),
            "memory_peak_mib": memory.map(|m| m.1),
            "before": self.before,
            "after": self.after,
            "slowed": self.slowed(),
        })
        .to_string()
    }
}

/// At most `most` characters, with the middle left out.
fn shortened(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let half = (most - 1) / 2;
    let (head, tail): (String, String) =
        (text.chars().take(half).collect(), text.chars().skip(length - (most - 1 - half)).collect());
    format!("{head}…{tail}")
}
