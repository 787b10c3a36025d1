//! `spotd run`: the daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use crossbeam_channel::{Receiver, bounded, select};
use indicatif::{ProgressBar, ProgressStyle};

use super::input::{Input, Unusable};
use super::manual::{KEYS, Manual};
use super::{EXIT_FINE, calibrate, console};
use spotd::clock::SystemClock;
use spotd::config::{self, Config};
use spotd::detector::{Detector, Model};
use spotd::flaglog::LogStatus;
use spotd::health::{Board, SourceState, SourceStatus};
use spotd::identity::Wanted;
use spotd::pipeline::Daemon;
use spotd::service::Manager;
use spotd::shown::{Sensitive, Shown as _};
use spotd::source::SourceUri;
use spotd::source::demo;

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd run --demo", "Watch the demonstration: no camera, broker or configuration is needed"),
        (
            "spotd run --source rtsp://user:password@camera.lan/stream",
            "Watch one stream, keep what is flagged in flags/",
        ),
        (
            "spotd run --source /dev/video0 --source clip.mp4 --fps 5",
            "Watch a camera and a clip, five frames a second each",
        ),
        (
            "spotd run --config /etc/spotd/spotd.toml",
            "Watch what a configuration names, and publish to its broker",
        ),
        ("SPOTD__NODE__NAME=ingest-2 spotd run --config spotd.toml", "The same under another name"),
    ],
    exit_status: &[
        (
            "0",
            "Ended as asked, by SIGTERM, SIGINT, a terminal that closes or --for-seconds, or every source has come to its end",
        ),
        (
            "2",
            "Arguments, configuration, model or log folder cannot be used, or the folder of the flag log was taken away \
             meanwhile, or records are lost because it could not be written",
        ),
        ("130", "A second SIGTERM or SIGINT came before all was closed"),
    ],
    files: &[
        ("flags/", "Flag log with --source and --demo, unless --log-dir names another folder"),
        ("/var/lib/spotd/flags/", "Flag log of a configuration, unless [log] dir names another folder"),
    ],
    environment: KEYS,
};

/// Arguments of `spotd run`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
#[command(group(clap::ArgGroup::new("what").args(["config", "source", "demo"]).required(true).multiple(true)))]
pub struct RunArgs {
    /// Configuration file (TOML); see docs/CONFIG.md.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Watch this without a configuration file: /dev/video0, rtsp://..., a file, or a GStreamer
    /// pipeline, written pipeline:TEXT. May be given several times.
    #[arg(short, long, value_name = "URI", conflicts_with = "config")]
    source: Vec<Sensitive>,

    /// Watch the embedded demonstration: rendered scenes, untouched and resynthesised in turn.
    #[arg(long, conflicts_with = "config")]
    demo: bool,

    /// Folder of the flag log, with --source and --demo.
    #[arg(long, value_name = "DIR", default_value = "flags", conflicts_with = "config")]
    log_dir: PathBuf,

    /// Frames per second to judge, with --source and --demo.
    #[arg(long, value_name = "N", conflicts_with = "config", value_parser = super::frame_rate)]
    fps: Option<f64>,

    /// Precision to run the model in, instead of the configuration's: auto (int8 where the model is
    /// quantised), f32 or int8.
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Wanted>,

    /// End after this many seconds instead of running until stopped.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    for_seconds: Option<Duration>,
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// An error about `--source`, which names the flag and what it was given.
fn unusable(bad: &Unusable) -> anyhow::Error {
    match bad.shown.trim() {
        "" => anyhow::anyhow!("--source {}", bad.why),
        shown => anyhow::anyhow!("--source {shown}: {}", bad.why),
    }
}

impl RunArgs {
    fn config(&self) -> anyhow::Result<Config> {
        if let Some(path) = &self.config {
            return Ok(config::load(path)?);
        }
        // The same validation as for a file, so that every message is the same too.
        let mut text = String::new();
        let demo = self.demo.then(|| Ok(("demo".to_owned(), SourceUri::Demo { seed: 1 })));
        let sources = self.source.iter().enumerate().map(|(i, argument)| {
            let input = Input::parse(argument.expose()).map_err(|bad| unusable(&bad))?;
            Ok((format!("source-{}", i + 1), input.uri))
        });
        let sources: Vec<_> = demo.into_iter().chain(sources).collect::<anyhow::Result<_>>()?;
        for (id, _) in &sources {
            let fps = self.fps.unwrap_or(if id == "demo" { 2.0 * demo::RATE } else { 2.0 });
            // The URIs are set afterwards: an argument is not always text, and follows its own
            // rules.
            text += &format!("[[source]]\nid = \"{id}\"\nuri = \"demo://1\"\nfps = {fps:?}\n");
        }
        let here = Path::new("command line");
        let environment = config::environment()?;
        let elsewhere = environment.iter().any(|(name, _)| name.eq_ignore_ascii_case("SPOTD__LOG__DIR"));
        let mut config = config::parse(&text, here, environment)?;
        if !elsewhere {
            config.log.dir = self.log_dir.clone();
        }
        for (source, (_, uri)) in config.sources.iter_mut().zip(sources) {
            source.uri = uri;
        }
        Ok(config)
    }
}

/// Runs until a signal arrives, the given time is over, or all sources have ended.
///
/// # Errors
/// Configuration, model or log folder are unusable.
pub fn run(args: RunArgs) -> anyhow::Result<u8> {
    let config = args.config()?;
    let wanted = args.precision.unwrap_or(config.model.precision);
    let model =
        Model::open(config.model.path.as_deref(), wanted)?.calibrated(config.model.calibration.as_deref())?;
    for warning in calibrate::mismatches(&config)? {
        log::warn!("{warning}");
    }
    let signals = Signals::watch(args.config.is_some())?;
    let clock = SystemClock::shared();
    introduce(&config, &model);
    let log_dir = config.log.dir.clone();
    let mut daemon = Daemon::start(config, model, clock.clone())?;
    if let Some(address) = &daemon.page {
        log::info!("the page: {address}");
    }
    let mut view = View::new(&daemon.board, daemon.page.as_deref());
    let mut manager = Manager::new(clock.clone());
    let deadline = args.for_seconds.map_or_else(crossbeam_channel::never, |d| clock.after(d));
    let why = loop {
        select! {
            recv(signals.end) -> signal => break signal.unwrap_or("a signal").to_owned(),
            recv(signals.reload) -> _ => {
                manager.reloading();
                let refused = reload(&args, &mut daemon).err().map(|error| format!("{error:#}"));
                match &refused {
                    Some(why) => log::error!("reload refused, the previous configuration stays: {why}"),
                    None => {
                        view.finish();
                        view = View::new(&daemon.board, daemon.page.as_deref());
                    }
                }
                manager.reloaded(refused, &daemon.board);
            }
            recv(deadline) -> _ => break "the time given by --for-seconds is over".to_owned(),
            recv(daemon.finished()) -> _ => break "every source has ended".to_owned(),
            recv(clock.after(Duration::from_millis(250))) -> _ => {
                view.refresh(&daemon.board);
                manager.tell(&daemon.board);
            }
        }
    };
    log::info!("stopping: {why}");
    manager.stopping(&why);
    let board = daemon.board.clone();
    let well = daemon.stop();
    view.finish();
    for (id, status) in board.snapshot() {
        log::info!("{id}: {}", summary(&status));
    }
    log::info!("flagged frames and their log: {}", log_dir.shown());
    anyhow::ensure!(well, "a thread panicked (see above); please report this");
    let LogStatus { displaced, lost, .. } = board.log();
    anyhow::ensure!(
        displaced == 0,
        "{}: the folder of the flag log, or a part of it, was renamed, removed, replaced or mounted over {displaced} \
         time(s) while spotd ran (see above); records and pictures may be elsewhere or gone",
        log_dir.shown()
    );
    anyhow::ensure!(
        lost == 0,
        "{}: {lost} record(s) are lost, because the flag log could not be written (see above)",
        log_dir.shown()
    );
    Ok(EXIT_FINE)
}

fn introduce(config: &Config, model: &Model) {
    let card = model.card();
    let limits = Detector::new(model.clone(), &config.verdict, config.model.max_tiles).limits();
    log::info!(
        "spotd {} on {}, model {} {} ({}), synthetic from {:.2}, unsure from {:.2}",
        env!("CARGO_PKG_VERSION"),
        config.node,
        card.name,
        card.version,
        model.engine().describe(),
        limits.threshold,
        limits.unsure_from
    );
    for source in &config.sources {
        log::info!("{}: {} at up to {} frames a second", source.id, source.uri, source.fps);
    }
    log::info!("flagged frames go to {}", config.log.dir.shown());
}

/// Reads the configuration again and takes it.
fn reload(args: &RunArgs, daemon: &mut Daemon) -> anyhow::Result<()> {
    let config = args.config()?;
    let warnings = calibrate::mismatches(&config)?;
    let done = daemon.reload(config)?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    log::info!("the configuration was read again: {done}");
    if let Some(address) = &daemon.page {
        log::info!("the page: {address}");
    }
    Ok(())
}

/// What signals ask for.
struct Signals {
    /// The name of the first that asks for the end.
    end: Receiver<&'static str>,
    /// A message for each request to read the configuration again; several that wait are one.
    reload: Receiver<()>,
}

impl Signals {
    /// SIGTERM and SIGINT ask for the end, and the second of them ends the process at once. SIGHUP asks to read the
    /// configuration again if there is a file and no terminal; with a terminal, which may have closed, it asks for the end,
    /// but never ends the process at once, because it then comes several times. If it was ignored at start (`nohup`), it
    /// still is.
    fn watch(has_file: bool) -> anyhow::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let again = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the first signal finds the flag unset and sets it, the second ends the
            // process.
            signal_hook::flag::register_conditional_shutdown(signal, 130, again.clone())?;
            signal_hook::flag::register(signal, again.clone())?;
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hang_up = (!ignores(&status, SIGHUP)).then_some(SIGHUP);
        // Only a process with a controlling terminal can open this.
        let reloads = has_file && std::fs::File::open("/dev/tty").is_err();
        let mut incoming = signal_hook::iterator::Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up))?;
        let ((end, ends), (again, reload)) = (bounded(1), bounded(1));
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in incoming.forever() {
                    // Of several that wait one is enough.
                    match signal {
                        SIGHUP if reloads => drop(again.try_send(())),
                        SIGHUP => drop(end.try_send("SIGHUP")),
                        SIGTERM => drop(end.try_send("SIGTERM")),
                        _ => drop(end.try_send("interrupted")),
                    }
                }
            })
            .context("signal thread")?;
        Ok(Self { end: ends, reload })
    }
}

/// Whether a process ignores a signal, by its `/proc/<pid>/status`.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).is_some_and(|m| m >> (signal - 1) & 1 == 1)
}

/// One live line per source on a terminal, and under them the address of the page.
struct View {
    lines: Vec<(std::sync::Arc<str>, ProgressBar)>,
    page: Option<ProgressBar>,
}

impl View {
    fn new(board: &Board, page: Option<&str>) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("a constant template");
        let lines = board
            .snapshot()
            .into_iter()
            .map(|(id, _)| {
                (id, console::progress().add(ProgressBar::new_spinner().with_style(style.clone())))
            })
            .collect();
        let page = page.map(|address| {
            let style = ProgressStyle::with_template("  {msg}").expect("a constant template");
            let line = console::progress().add(ProgressBar::new_spinner().with_style(style));
            line.set_message(format!("look at it: {address}"));
            line
        });
        Self { lines, page }
    }

    fn refresh(&self, board: &Board) {
        for ((id, line), (_, status)) in self.lines.iter().zip(board.snapshot()) {
            line.set_message(format!("{id}: {}", live_line(&status)));
            line.tick();
        }
    }

    fn finish(&self) {
        for line in self.lines.iter().map(|(_, line)| line).chain(&self.page) {
            line.finish_and_clear();
        }
    }
}

fn state_text(state: &SourceState) -> String {
    match state {
        SourceState::Starting => "starting".into(),
        SourceState::Live => "live".into(),
        SourceState::Stalled => "stalled".into(),
        SourceState::Retrying { why, attempt, .. } => format!("retrying ({attempt}): {why}"),
        SourceState::Failed { why } => format!("failed: {why}"),
        SourceState::Ended => "ended".into(),
    }
}

fn live_line(status: &SourceStatus) -> String {
    let number = |v: Option<f64>| v.map_or_else(|| "  - ".to_owned(), |v| format!("{v:.2}"));
    let (width, height) = status.size.unwrap_or_default();
    format!(
        "{} {width}x{height} {:9} score {} (last frame {}), {} judged",
        state_text(&status.state),
        status.verdict,
        number(status.smoothed),
        number(status.raw),
        status.judged
    )
}

fn summary(status: &SourceStatus) -> String {
    let dropped: Vec<String> = status.dropped.iter().map(|(why, n)| format!("{n} {why}")).collect();
    let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
    format!(
        "{} frames, {} judged, dropped: {dropped}; opened again {} times",
        status.frames, status.judged, status.reconnects
    )
}
