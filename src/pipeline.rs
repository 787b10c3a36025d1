//! The wiring: sources, the latest-frame channel, tile selection, inference, verdict, flag log,
//! publishers.
//!
//! ```text
//! source threads -> latest frame (1 per source) -> turns -> "select" thread -> tiles -> one worker per core
//!                                                                                           |
//!                        publishers <- flag log on disk <- "verdict" thread <- scores ------+
//! ```

mod publishers;
mod reload;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::about;
use crate::alerts::Watch;
use crate::clock::{SharedClock, Stop, StopHandle, stop_signal};
use crate::config::Config;
use crate::control::{Controls, ReviewRequest};
use crate::detector::coherence::Grids;
use crate::detector::pool::{Job, Pool, Work};
use crate::detector::scoring::Accumulated;
use crate::detector::{Detector, Model, tiles};
use crate::evidence::Encoder;
use crate::frame::{Deinterlacer, Frame};
use crate::health::{Board, JudgedFrame, SourceState, Stage};
use crate::recorder::Recorder;
use crate::schedule::{SourceIndex, Turns};
use crate::source::SourceConfig;
use crate::verdict::{VerdictConfig, VerdictMachine};
use publishers::Publishers;

/// How often sources without frames are checked.
const TICK: Duration = Duration::from_millis(500);

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
                if job == Job::Tile {
                    stages.observe(Stage::Tile, clock.now().saturating_sub(begun));
                }
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
                life: Vec::new(),
                more_may_come: true,
                verdict: config.verdict.clone(),
                update_every: config.log.update_every,
                detector: detector.clone(),
                board: board.clone(),
                clock: clock.clone(),
                turns: turns.clone(),
                recorder,
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
                fields: Vec::new(),
                turn: Vec::new(),
                warned: BTreeSet::new(),
                detector,
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

/// Takes each source's newest frame in its turn and selects tiles in it.
struct SelectStage {
    frames: Vec<Receiver<Frame>>,
    /// Sources already warned about, by reason: once is enough for a camera that does not change.
    warned: BTreeSet<(SourceIndex, &'static str)>,
    /// Each source's deinterlacer.
    fields: Vec<Deinterlacer>,
    /// Frames submitted per source, which selects the next scaled grid.
    turn: Vec<usize>,
    detector: Detector,
    snapshots: Snapshots,
    board: Board,
    clock: SharedClock,
    turns: Arc<Turns>,
    pool: Pool,
    changes: Receiver<Change<Self>>,
}

impl SelectStage {
    fn run(mut self, stop: &Stop) {
        let beat = self.board.progress().stage("select", &self.clock);
        let (turns, changes) = (self.turns.clone(), self.changes.clone());
        loop {
            select! {
                recv(turns.queue()) -> source => {
                    let Ok(source) = source else { break };
                    self.turns.begin(source);
                    // Where the workers are slow it waits for them: they have their own beats.
                    let busy = beat.busy();
                    let work = self.select(source);
                    drop(busy);
                    if !work.is_some_and(|work| self.pool.submit(work)) {
                        self.turns.done(source);
                    }
                }
                recv(changes) -> change => match change {
                    Ok(change) => change(&mut self),
                    Err(_) => break,
                },
                recv(stop.channel()) -> _ => break,
            }
        }
        self.pool.join();
    }

    /// Takes frames of one more source.
    fn add(&mut self, source: SourceIndex, frames: Receiver<Frame>) {
        debug_assert_eq!(source, self.frames.len(), "sources are numbered one after the other");
        self.frames.push(frames);
        self.fields.push(Deinterlacer::default());
        self.turn.push(0);
    }

    /// Takes no more of a source's frames.
    fn remove(&mut self, source: SourceIndex) {
        self.frames[source] = crossbeam_channel::never();
        self.fields[source] = Deinterlacer::default();
    }

    /// What the workers have to do for a source's frame; `None` when there is nothing to judge.
    fn select(&mut self, source: SourceIndex) -> Option<Work> {
        let frame = self.frames[source].try_recv().ok()?;
        let id = frame.source.clone();
        let _about = about::source(&id);
        let frame = match frame.decoded() {
            Ok(frame) => frame,
            Err(error) => return self.refuse(source, &id, "corrupt", &error.to_string()),
        };
        self.snapshots.serve(&frame);
        if self.board.is_paused(&id) {
            // It came for a snapshot, or just before the command.
            self.board.drop_frame(&id, "paused");
            return None;
        }
        let frame = self.fields[source].take(frame);
        self.tell_fields(&frame);
        let (width, height) = (frame.width, frame.height);
        match self.detector.select(&frame) {
            Err(error) => self.refuse(source, &id, "corrupt", &error.to_string()),
            Ok(selection) => match selection.limited {
                Some(tiles::Limited::TooSmall) => {
                    let side = self.detector.card().tile;
                    let why = format!(
                        "a frame of {width}x{height} is smaller than the model's tile of {side}x{side}; no verdict is possible"
                    );
                    self.refuse(source, &id, tiles::Limited::TooSmall.as_str(), &why)
                }
                Some(limited @ tiles::Limited::Flat) => {
                    self.board.drop_frame(&id, limited.as_str());
                    None
                }
                None => {
                    let waited = self.clock.now().saturating_sub(frame.arrived);
                    self.board.stages().observe(Stage::Choice, waited);
                    let turn = &mut self.turn[source];
                    *turn += 1;
                    Some(Work::new(source, frame, selection, Grids::OneMore(*turn)))
                }
            },
        }
    }

    /// Shows on the board, and logs on a change, whether fields of the source's frames are judged.
    fn tell_fields(&self, frame: &Frame) {
        let now = frame.interlacing.field();
        let mut before = None;
        self.board.update(&frame.source, |s| before = std::mem::replace(&mut s.interlaced, now));
        match (before, now) {
            (None, Some(order)) => log::info!(
                "{}: interlaced ({}), so one field of each frame is judged, {}x{}",
                frame.source,
                order.as_str(),
                frame.width,
                frame.height
            ),
            (Some(_), None) => log::info!("{}: no longer interlaced, whole frames are judged", frame.source),
            _ => {}
        }
    }

    fn refuse(&mut self, source: SourceIndex, id: &str, reason: &'static str, why: &str) -> Option<Work> {
        self.board.drop_frame(id, reason);
        if self.warned.insert((source, reason)) {
            log::warn!("{id}: {why} (further ones are only counted, as '{reason}')");
        }
        None
    }
}

/// Takes requested snapshots.
struct Snapshots {
    controls: Controls,
    encoder: Encoder,
}

impl Snapshots {
    /// Takes one of a frame if it was requested.
    fn serve(&self, frame: &Frame) {
        let Some(control) = self.controls.source(&frame.source) else { return };
        if control.wants_snapshot() {
            let jpeg = self
                .encoder
                .snapshot(frame)
                .inspect_err(|e| log::warn!("{}: no snapshot: {e}", frame.source));
            if !control.give_snapshot(jpeg.ok()) {
                log::debug!("{}: snapshot dropped, an earlier one still waits", frame.source);
            }
        }
    }
}

/// Scores in, verdicts out, records into the log.
struct VerdictStage {
    ids: Vec<Arc<str>>,
    machines: Vec<VerdictMachine>,
    /// Watch for jumps of the score, where these are alerts.
    watches: Vec<Option<Watch>>,
    accumulated: Vec<Accumulated>,
    life: Vec<Life>,
    /// Whether sources are just being added, so that the end of all others is not the end of all.
    more_may_come: bool,
    /// By which sources are judged that are added.
    verdict: VerdictConfig,
    update_every: Duration,
    detector: Detector,
    board: Board,
    clock: SharedClock,
    turns: Arc<Turns>,
    recorder: Recorder,
    /// What operators say of events.
    reviews: Receiver<ReviewRequest>,
    changes: Receiver<Change<Self>>,
}

/// How far a source's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Watched,
    /// Its stream is over.
    Ended,
    /// It is no longer one of ours.
    Removed,
}

impl VerdictStage {
    fn run(mut self, done: &Receiver<Arc<Work>>) {
        let (reviews, changes) = (self.reviews.clone(), self.changes.clone());
        let beat = self.board.progress().stage("verdict", &self.clock);
        let mut tick = self.clock.after(TICK);
        loop {
            select! {
                recv(done) -> work => match work {
                    Ok(work) => {
                        let _busy = beat.busy();
                        self.judged(&work);
                    }
                    Err(_) => break,
                },
                recv(changes) -> change => if let Ok(change) = change {
                    let _busy = beat.busy();
                    change(&mut self);
                },
                // One among many frames: whose turn it is, chance decides.
                recv(reviews) -> request => if let Ok(request) = request {
                    let _busy = beat.busy();
                    self.recorder.review(request);
                },
                recv(tick) -> _ => {
                    let _busy = beat.busy();
                    self.tick();
                    if !self.more_may_come && !self.life.contains(&Life::Watched) {
                        break;
                    }
                    tick = self.clock.after(TICK);
                }
            }
        }
        for source in 0..self.machines.len() {
            self.finish(source);
        }
        reviews.try_iter().for_each(|request| self.recorder.review(request));
    }

    /// Judges one more source.
    fn add(&mut self, source: SourceIndex, id: Arc<str>) {
        debug_assert_eq!(source, self.ids.len(), "sources are numbered one after the other");
        self.recorder.add(id.clone());
        self.ids.push(id);
        self.machines.push(VerdictMachine::new(
            self.verdict.clone(),
            self.detector.limits(),
            self.update_every,
        ));
        self.watches.push(Watch::new(&self.verdict));
        self.accumulated.push(Accumulated::new(self.verdict.window));
        self.life.push(Life::Watched);
    }

    /// Ends a source's event, if one is open, and forgets the source.
    fn remove(&mut self, source: SourceIndex) {
        self.finish(source);
        self.life[source] = Life::Removed;
        self.accumulated[source] = Accumulated::new(self.verdict.window);
        self.board.forget(&self.ids[source]);
    }

    /// Judges all sources by other bounds from their next frames on; what was scored and opened stays.
    fn judge_by(&mut self, verdict: VerdictConfig, detector: Detector) {
        for machine in &mut self.machines {
            machine.judge_by(verdict.clone(), detector.limits());
        }
        for accumulated in &mut self.accumulated {
            accumulated.set_window(verdict.window);
        }
        if verdict.jump != self.verdict.jump || verdict.window != self.verdict.window {
            self.watches.fill_with(|| Watch::new(&verdict));
        }
        (self.verdict, self.detector) = (verdict, detector);
    }

    fn judged(&mut self, work: &Work) {
        if self.life[work.source] == Life::Removed {
            return self.turns.done(work.source);
        }
        let (source, id) = (work.source, &self.ids[work.source]);
        let _about = about::source(id);
        let now = self.clock.now();
        match work.score(&self.detector) {
            None => self.board.drop_frame(id, "inference"),
            Some(mut score) => {
                let size = (work.frame.width, work.frame.height);
                // Jumps are detected in the frame's own score: the accumulated one lags behind.
                let own = self.watches[source].is_some().then(|| score.clone());
                if let Err(error) = self.accumulated[source].add(&self.detector, size, &mut score) {
                    log::warn!("{id}: {error}");
                }
                let outcome = self.machines[source].push_frame(now, score.score, score.degraded);
                let newest = Arc::new(JudgedFrame {
                    at: work.frame.at,
                    width: work.frame.width,
                    height: work.frame.height,
                    tiles: score.tiles.clone(),
                    logits: score.parts,
                });
                let latency = now.saturating_sub(work.frame.arrived);
                self.board.stages().observe(Stage::Verdict, latency);
                self.board.update(id, |s| {
                    s.judged += 1;
                    s.latency = Some(latency);
                    s.newest = Some(newest);
                });
                self.recorder.outcome(source, &outcome, Some((&work.frame, &score)));
                let watch = self.watches[source].as_mut().zip(own);
                if let Some(seen) = watch.and_then(|(watch, own)| watch.push(now, &work.frame, &own)) {
                    self.recorder.alert(source, seen, &outcome);
                }
            }
        }
        self.turns.done(source);
    }

    fn tick(&mut self) {
        self.recorder.tick();
        let now = self.clock.now();
        for source in 0..self.machines.len() {
            let outcome = self.machines[source].tick(now);
            if outcome.judgement.frames == 0 {
                self.accumulated[source].forget();
            }
            if outcome.event.is_some() || outcome.verdict != outcome.before {
                self.recorder.outcome(source, &outcome, None);
            }
        }
        for (id, status) in self.board.snapshot() {
            // One of this name may have been there before.
            let Some(source) = self.ids.iter().rposition(|i| *i == id) else { continue };
            let watched = self.life[source] == Life::Watched;
            if status.state == SourceState::Ended && self.turns.is_idle(source) && watched {
                self.life[source] = Life::Ended;
                self.finish(source);
            }
        }
    }

    fn finish(&mut self, source: SourceIndex) {
        if let Some(watch) = &mut self.watches[source] {
            watch.forget();
        }
        let outcome = self.machines[source].finish();
        if outcome.event.is_some() {
            self.recorder.outcome(source, &outcome, None);
        }
    }
}
