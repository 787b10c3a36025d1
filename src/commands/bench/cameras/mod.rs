//! `spotd bench --cameras`: the daemon itself, fed with an encoded clip by a rising number of cameras.

mod report;
mod step;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::machine::MachineState;
use crate::commands::{EXIT_FINE, console, frame_rate};
use report::Found;
use spotd::clock::SystemClock;
use spotd::config::{self, Config};
use spotd::detector::Model;
use spotd::identity::Wanted;
use spotd::source::Decode;
use spotd::source::clip::prolong;
use step::{Player, Step};

/// The clip that is built in; `tools/bench-clip.sh` makes it.
const CLIP: &[u8] = include_bytes!("../../../../clips/bench.mkv");

/// Judged for each camera and second unless told otherwise, as in a configuration.
const FPS: f64 = 2.0;

/// Seconds that each number of cameras is measured for.
const SECONDS: u64 = 10;

/// What `--cameras` goes with.
#[derive(Debug, Args)]
pub(super) struct CameraArgs {
    /// Measure how many cameras this machine carries instead: the daemon itself, without publishers, watches an encoded
    /// clip at its own pace, by 1, 2, 4, ... cameras, until frames that are due are lost or come late. What a network
    /// camera costs to receive is not in it.
    #[arg(long)]
    pub cameras: bool,

    /// Play this clip instead of the built-in one (1080p25 H.264, 1.4 Mbit/s, a key frame every 2 s): H.264, H.265, VP8,
    /// VP9, AV1 or Motion JPEG in a container. A few seconds of a camera's own stream tell most.
    #[arg(long, value_name = "FILE", requires = "cameras")]
    clip: Option<PathBuf>,

    /// Frames judged of each camera per second at most; by default 2, or the highest of the configuration.
    #[arg(long, value_name = "N", requires = "cameras", value_parser = frame_rate)]
    fps: Option<f64>,

    /// Tiles judged in each frame at most; by default 9, or as in the configuration.
    #[arg(long, value_name = "N", requires = "cameras", value_parser = clap::value_parser!(u16).range(1..=1000))]
    tiles: Option<u16>,

    /// Which frames are decoded: auto (key frames alone, where they come at least every 2.5 s) or all.
    #[arg(long, value_name = "FRAMES", requires = "cameras", default_value = "auto", value_parser = decode())]
    decode: Decode,

    /// Try no more cameras than this.
    #[arg(long, value_name = "N", requires = "cameras", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_cameras: u16,
}

fn decode() -> impl clap::builder::TypedValueParser<Value = Decode> {
    PossibleValuesParser::new(["auto", "all"])
        .map(|name| if name == "all" { Decode::All } else { Decode::Auto })
}

/// What the command as a whole was given.
pub(super) struct Common<'a> {
    pub model: Option<PathBuf>,
    pub precision: Wanted,
    pub config: Option<PathBuf>,
    pub threads: Option<usize>,
    pub seconds: Option<u64>,
    pub json: bool,
    pub own: &'a CameraArgs,
}

impl Common<'_> {
    /// What the daemon is to run: its sources come with each step.
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => config::load(path)?,
            None => {
                let text = format!("[[source]]\nid = \"camera\"\nuri = \"demo://1\"\nfps = {FPS:?}\n");
                config::parse(&text, "command line".as_ref(), config::environment()?)?
            }
        };
        config.model.workers = self.threads.unwrap_or(config.model.workers);
        config.model.max_tiles = self.own.tiles.map_or(config.model.max_tiles, usize::from);
        if let Some(model) = &self.model {
            (config.model.path, config.model.calibration) = (Some(model.clone()), None);
        }
        (config.mqtt, config.metrics, config.web, config.sign_key) = (None, None, None, None);
        config.webhooks.clear();
        Ok(config)
    }
}

/// Measures.
///
/// # Errors
/// Model, configuration or clip are unusable, or the clip cannot be played here.
pub(super) fn run(args: &Common<'_>) -> anyhow::Result<u8> {
    let config = args.config()?;
    let clock = SystemClock::shared();
    let dir = tempfile::Builder::new().prefix("spotd-bench-").tempdir().context("a folder for the clip")?;
    removed_at_a_signal(dir.path())?;
    let clip = match &args.own.clip {
        Some(path) => path.clone(),
        None => {
            let path = dir.path().join("clip.mkv");
            std::fs::write(&path, CLIP).with_context(|| path.display().to_string())?;
            path
        }
    };
    let seconds = Duration::from_secs(args.seconds.unwrap_or(SECONDS));
    let long = dir.path().join("long.mkv");
    let clip = prolong(&clip, &long, seconds + step::LEAD, &clock)?;
    let model = Model::open(config.model.path.as_deref(), args.precision)?
        .calibrated(config.model.calibration.as_deref())?;
    let fastest = config.sources.iter().map(|s| s.fps).fold(0.0, f64::max);
    let player = Player {
        fps: args.own.fps.unwrap_or(fastest),
        decode: args.own.decode,
        seconds,
        folder: dir.path(),
        file: &long,
        clip: &clip,
        config,
        model: &model,
        clock: &clock,
    };
    // What each source of each step says of itself would be hundreds of lines.
    let level = log::max_level();
    if level == log::LevelFilter::Info {
        log::set_max_level(log::LevelFilter::Error);
    }
    let before = MachineState::read();
    let steps = climb(usize::from(args.own.max_cameras), |cameras| player.play(cameras));
    log::set_max_level(level);
    let found = Found {
        model: &model,
        player: &player,
        path: args.own.clip.as_deref(),
        limit: usize::from(args.own.max_cameras),
        steps: steps?,
        before,
        after: MachineState::read(),
    };
    if args.json {
        console::print_json(&found.json())?;
    } else {
        console::print_lines(&found.lines())?;
    }
    Ok(EXIT_FINE)
}

/// Lets a signal that ends the process remove the folder first: it may take 256 MiB.
fn removed_at_a_signal(folder: &Path) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let folder = folder.to_owned();
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            // The daemon may just be writing to its flag log there.
            let _ = (0..5).any(|_| std::fs::remove_dir_all(&folder).is_ok());
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("signal thread")?;
    Ok(())
}

/// Doubles the number of cameras until it is too many, or `most`, and closes in on the highest that is carried, to
/// within a tenth.
fn climb(most: usize, mut play: impl FnMut(usize) -> anyhow::Result<Step>) -> anyhow::Result<Vec<Step>> {
    let spinner = console::progress().add(indicatif::ProgressBar::new_spinner());
    let (mut steps, mut carried, mut too_many) = (Vec::new(), 0, None);
    let mut next = 1;
    loop {
        spinner.set_message(format!("{next} camera(s); {carried} carried so far"));
        let mut step = play(next)?;
        if steps.iter().any(|before: &Step| before.cameras > next) {
            step.memory_mib = None;
        }
        if step.is_carried() {
            carried = next;
        } else {
            too_many = Some(next);
        }
        steps.push(step);
        next = match too_many {
            None if carried >= most => break,
            None => (2 * carried).min(most),
            Some(bad) if bad - carried <= 1.max(carried / 10) => break,
            Some(bad) => carried + (bad - carried) / 2,
        };
    }
    spinner.finish_and_clear();
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that are tried where up to `carries` cameras are carried.
    fn tried(carries: usize, most: usize) -> Vec<usize> {
        let steps = climb(most, |cameras| Ok(Step::like(cameras, cameras <= carries))).expect("no error");
        steps.iter().map(|step| step.cameras).collect()
    }

    #[test]
    fn the_highest_number_is_found_to_within_a_tenth() {
        assert_eq!(tried(0, 256), [1]);
        assert_eq!(tried(1, 256), [1, 2]);
        assert_eq!(tried(5, 256), [1, 2, 4, 8, 6, 5]);
        assert_eq!(tried(40, 256), [1, 2, 4, 8, 16, 32, 64, 48, 40, 44]);
        assert_eq!(tried(500, 6), [1, 2, 4, 6]);
        for carries in 0..300 {
            let steps = climb(256, |cameras| Ok(Step::like(cameras, cameras <= carries))).expect("no error");
            let best = steps.iter().filter(|s| s.is_carried()).map(|s| s.cameras).max().unwrap_or(0);
            let reached = carries.min(256);
            assert!(best <= reached && reached - best <= best / 10, "{best} of {carries}");
        }
    }
}
