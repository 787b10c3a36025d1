//! The wiring: sources, the latest-frame channel, choice of tiles, inference, verdict, flag log,
//! publishers.
//!
//! ```text
//! source threads -> latest frame (1 per source) -> turns -> "select" thread -> one worker per core: choice of tiles,
//!                                                                                |               then tiles and sums
//!                        publishers <- flag log on disk <- "verdict" thread <- scores
//! ```

mod publishers;
mod reload;
mod stages;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::{SharedClock, StopHandle, stop_signal};
use crate::config::Config;
use crate::control::Controls;
use crate::detector::pool::{Job, Pool};
use crate::detector::{Detector, Model};
use crate::evidence::Encoder;
use crate::health::{Board, Stage};
use crate::recorder::Recorder;
use crate::schedule::{SourceIndex, Turns};
use crate::source::SourceConfig;
use publishers::Publishers;
use stages::{SelectStage, Snapshots, VerdictStage};

/// A running daemon.
pub struct Daemon {
    /// State of every source, alive while the daemon runs.
    pub board: Board,
    /// Where the operator's page is served, if it is.
    pub page: Option<String>,
    /// What is in force.
    config: Config,
    model: Model,
    clock: SharedClock,
    controls: Controls,
    turns: Arc<Turns>,
    sources: Vec<Watched>,
    publishers: Publishers,
    selection: JoinHandle<()>,
    verdict: JoinHandle<()>,
    to_select: Sender<Change<SelectStage>>,
    to_verdict: Sender<Change<VerdictStage>>,
    stop_selection: StopHandle,
    finished: Receiver<()>,
}

/// A source that is watched.
struct Watched {
    config: SourceConfig,
    index: SourceIndex,
    stop: StopHandle,
    thread: JoinHandle<()>,
}

/// What a stage's thread is to change in it between two frames.
type Change<Stage> = Box<dyn FnOnce(&mut Stage) + Send>;

/// Changes something in a stage and waits until that is done; false if the stage has ended.
fn change<Stage>(stage: &Sender<Change<Stage>>, how: impl FnOnce(&mut Stage) + Send + 'static) -> bool {
    let (done, waits) = bounded(1);
    let change = move |stage: &mut Stage| {
        how(stage);
        let _ = done.send(());
    };
    stage.send(Box::new(change)).is_ok() && waits.recv().is_ok()
}

impl Daemon {
    /// Opens the flag log and starts all threads.
    ///
    /// # Errors
    /// The log folder cannot be used, a source's or a publisher's configuration is unusable (not: it is away), or the OS
    /// cannot start a thread.
    pub fn start(config: Config, model: Model, clock: SharedClock) -> anyhow::Result<Self> {
        let board = Board::default();
        let controls = Controls::new([]);
        let detector = Detector::new(model.clone(), &config.verdict, config.model.max_tiles);
        let recorder = Recorder::open(&config, &detector, board.clone(), clock.clone())?;
        let publishers = Publishers::new(
            config.node.clone(),
            recorder.tail(),
            board.clone(),
            controls.clone(),
            clock.clone(),
        );
        publishers.check(&config)?;
        let turns = Arc::new(Turns::new(0));
        let (pool, done) = Pool::start_watched(&detector, config.model.workers, |worker| {
            let (clock, stages) = (clock.clone(), board.stages().clone());
            let beat = board.progress().stage(worker, &clock);
            move |job, run: &mut dyn FnMut()| {
                let _busy = beat.busy();
                hang_if_told();
                let begun = clock.now();
                run();
                let now = clock.now();
                let stage = match job {
                    Job::Choice(arrived) => {
                        stages.observe(Stage::Choice, now.saturating_sub(arrived));
                        Stage::Choosing
                    }
                    Job::Tile => Stage::Tile,
                    Job::Sums => Stage::Sums,
                };
                stages.observe(stage, now.saturating_sub(begun));
            }
        })
        .context("inference workers")?;
        let (finished_tx, finished) = bounded(0);
        let (to_verdict, changes) = bounded(1);
        let verdict = {
            let stage = VerdictStage {
                ids: Vec::new(),
                machines: Vec::new(),
                watches: Vec::new(),
                accumulated: Vec::new(),
                maps: Vec::new(),
                life: Vec::new(),
                warned: BTreeSet::new(),
                more_may_come: true,
                verdict: config.verdict.clone(),
                update_every: config.log.update_every,
                detector: detector.clone(),
                board: board.clone(),
                clock: clock.clone(),
                turns: turns.clone(),
                recorder,
                controls: controls.clone(),
                reviews: controls.reviews(),
                changes,
            };
            spawn("verdict", move || {
                stage.run(&done);
                drop(finished_tx);
            })?
        };
        let (stop_selection, stop) = stop_signal();
        let (to_select, changes) = bounded(1);
        let selection = {
            let stage = SelectStage {
                frames: Vec::new(),
                feeds: Vec::new(),
                snapshots: Snapshots {
                    controls: controls.clone(),
                    encoder: Encoder::new(&config.node, config.log.jpeg_quality),
                },
                board: board.clone(),
                clock: clock.clone(),
                turns: turns.clone(),
                pool,
                changes,
            };
            spawn("select", move || stage.run(&stop))?
        };
        let (page, sources) = (None, Vec::new());
        let mut daemon = Self {
            board,
            page,
            config: config.clone(),
            model,
            clock,
            controls,
            turns,
            sources,
            publishers,
            selection,
            verdict,
            to_select,
            to_verdict,
            stop_selection,
            finished,
        };
        match daemon.apply(config) {
            Ok(_) => Ok(daemon),
            Err(error) => {
                daemon.stop();
                Err(error)
            }
        }
    }

    /// Disconnects when all sources have ended and all their frames are judged.
    pub fn finished(&self) -> &Receiver<()> {
        &self.finished
    }

    /// Stops in the direction of the frames: capture first, then inference and verdicts (open
    /// events are closed in the log), then publishing. Waits for every thread; false if one had
    /// panicked.
    pub fn stop(self) -> bool {
        self.sources.iter().for_each(|source| source.stop.stop());
        self.stop_selection.stop();
        let threads = self.sources.into_iter().map(|source| source.thread);
        let well = threads.chain([self.selection, self.verdict]).map(join).fold(true, |well, one| well & one);
        self.publishers.end() & well
    }
}

/// For tests of the watchdog: an inference worker hangs for ever when the file that `SPOTD_TEST_HANG` names is there. It
/// removes that first, so that one does and the next start is well.
fn hang_if_told() {
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("SPOTD_TEST_HANG").map(PathBuf::from));
    if FILE.as_ref().is_some_and(|file| std::fs::remove_file(file).is_ok()) {
        log::warn!("SPOTD_TEST_HANG: this thread hangs on purpose");
        let _ = crossbeam_channel::never::<()>().recv();
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(body).with_context(|| format!("thread {name}"))
}

fn join(thread: JoinHandle<()>) -> bool {
    let name = thread.thread().name().unwrap_or("?").to_owned();
    let well = thread.join().is_ok();
    if !well {
        log::error!("thread {name} has panicked");
    }
    well
}
