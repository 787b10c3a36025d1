//! The wiring: sources, the latest-frame channel, tile selection, inference, verdict, flag log,
//! publishers.
//!
//! ```text
//! source threads -> latest frame (1 per source) -> turns -> "select" thread -> tiles -> one worker per core
//!                                                                                           |
//!                        publishers <- flag log on disk <- "verdict" thread <- scores ------+
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use crossbeam_channel::{Receiver, select};

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
use crate::flaglog::Tail;
use crate::frame::{Deinterlacer, Frame};
use crate::health::metrics::{self, Metrics};
use crate::health::{Board, JudgedFrame, SourceState, Stage};
use crate::recorder::Recorder;
use crate::schedule::{SourceIndex, Turns};
use crate::source;
use crate::source::latest::LatestSink;
use crate::source::supervise::{self, Policy};
use crate::verdict::VerdictMachine;
#[cfg(feature = "web")]
use crate::web::{Facts, WebError};

/// How often sources without frames are checked.
const TICK: Duration = Duration::from_millis(500);

/// A running daemon.
pub struct Daemon {
    /// State of every source, alive while the daemon runs.
    pub board: Board,
    /// Where the operator's page is served, if it is.
    pub page: Option<String>,
    sources: Vec<JoinHandle<()>>,
    selection: JoinHandle<()>,
    verdict: JoinHandle<()>,
    publishers: Vec<JoinHandle<()>>,
    metrics: Option<JoinHandle<()>>,
    stop_capture: StopHandle,
    stop_publishing: StopHandle,
    finished: Receiver<()>,
}

impl Daemon {
    /// Opens the flag log and starts all threads.
    ///
    /// # Errors
    /// The log folder cannot be used, a publisher's configuration is unusable (not: its server is
    /// away), or the OS cannot start a thread.
    pub fn start(config: Config, model: Model, clock: SharedClock) -> anyhow::Result<Self> {
        let ids: Vec<Arc<str>> = config.sources.iter().map(|s| s.id.clone()).collect();
        let board = Board::new(ids.iter().cloned());
        let controls = Controls::new(ids.iter().cloned());
        let detector = Detector::new(model, &config.verdict, config.model.max_tiles);
        let recorder = Recorder::open(&config, &detector, ids.clone(), board.clone(), clock.clone())?;
        let (stop_capture, stop) = stop_signal();
        let (stop_publishing, publish_stop) = stop_signal();
        let metrics = spawn_metrics(&config, &board, &clock, &publish_stop)?;
        let publishers = Publishers {
            config: &config,
            log: recorder.tail(),
            board: &board,
            controls: &controls,
            clock: &clock,
            stop: publish_stop,
        };
        let mut threads = publishers.spawn()?;
        let page = publishers.spawn_page(&detector, &mut threads)?;

        let turns = Arc::new(Turns::new(config.sources.len()));
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
        let (finished_tx, finished) = crossbeam_channel::bounded(0);
        let verdict = {
            let machine =
                VerdictMachine::new(config.verdict.clone(), detector.limits(), config.log.update_every);
            let stage = VerdictStage {
                watches: ids.iter().map(|_| Watch::new(&config.verdict)).collect(),
                machines: vec![machine; ids.len()],
                accumulated: vec![Accumulated::new(config.verdict.window); ids.len()],
                ended: vec![false; ids.len()],
                ids,
                detector: detector.clone(),
                board: board.clone(),
                clock: clock.clone(),
                turns: turns.clone(),
                recorder,
                reviews: controls.reviews(),
            };
            spawn("verdict", move || {
                stage.run(&done);
                drop(finished_tx);
            })?
        };

        let mut sources = Vec::new();
        let mut frames = Vec::new();
        for (index, source_config) in config.sources.iter().enumerate() {
            let on_frame = {
                let turns = turns.clone();
                move || turns.frame_waits(index)
            };
            let (sink, rx) = LatestSink::new(
                source_config.id.clone(),
                source_config.fps,
                board.clone(),
                clock.clone(),
                on_frame,
            );
            let sink = sink.with_control(controls.source(&source_config.id).cloned());
            frames.push(rx);
            let source = source::open(source_config, &clock)
                .map_err(|e| anyhow::anyhow!("source {}: {e}", source_config.id))?;
            sources.push(
                supervise::spawn(
                    source,
                    Arc::new(sink),
                    board.clone(),
                    clock.clone(),
                    stop.clone(),
                    Policy::of(source_config),
                )
                .with_context(|| format!("source {}", source_config.id))?,
            );
        }
        let selection = {
            let stage = SelectStage {
                fields: vec![Deinterlacer::default(); frames.len()],
                turn: vec![0; frames.len()],
                frames,
                warned: BTreeSet::new(),
                detector,
                snapshots: Snapshots {
                    controls,
                    encoder: Encoder::new(&config.node, config.log.jpeg_quality),
                },
                board: board.clone(),
                clock: clock.clone(),
                turns,
                pool,
            };
            spawn("select", move || stage.run(&stop))?
        };
        Ok(Self {
            board,
            page,
            sources,
            selection,
            verdict,
            publishers: threads,
            metrics,
            stop_capture,
            stop_publishing,
            finished,
        })
    }

    /// Disconnects when all sources have ended and all their frames are judged.
    pub fn finished(&self) -> &Receiver<()> {
        &self.finished
    }

    /// Stops in the direction of the frames: capture first, then inference and verdicts (open
    /// events are closed in the log), then publishing. Waits for every thread; false if one had
    /// panicked.
    pub fn stop(self) -> bool {
        self.stop_capture.stop();
        let mut well = true;
        for thread in self.sources.into_iter().chain([self.selection, self.verdict]) {
            well &= join(thread);
        }
        self.stop_publishing.stop();
        for thread in self.publishers.into_iter().chain(self.metrics) {
            well &= join(thread);
        }
        well
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

fn spawn_metrics(
    config: &Config,
    board: &Board,
    clock: &SharedClock,
    stop: &Stop,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(wanted) = config.metrics.clone() else { return Ok(None) };
    let metrics = Metrics { board: board.clone(), node: config.node.clone() };
    metrics::spawn(wanted, metrics, clock.clone(), stop.clone()).context("metrics").map(Some)
}

/// What publishers need to start.
struct Publishers<'a> {
    config: &'a Config,
    log: Tail,
    board: &'a Board,
    controls: &'a Controls,
    clock: &'a SharedClock,
    stop: Stop,
}

impl Publishers<'_> {
    /// Starts all configured publishers.
    fn spawn(&self) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let mut all = Vec::new();
        self.spawn_mqtt(&mut all)?;
        self.spawn_webhooks(&mut all)?;
        Ok(all)
    }

    #[cfg(feature = "mqtt")]
    fn spawn_mqtt(&self, all: &mut Vec<JoinHandle<()>>) -> anyhow::Result<()> {
        let Some(mqtt) = self.config.mqtt.clone() else { return Ok(()) };
        let (board, controls) = (self.board.clone(), self.controls.clone());
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        let spawned =
            crate::publish::mqtt::spawn(mqtt, &self.config.node, &self.log, board, controls, clock, stop);
        all.push(spawned.context("MQTT")?);
        Ok(())
    }

    #[cfg(not(feature = "mqtt"))]
    fn spawn_mqtt(&self, _: &mut Vec<JoinHandle<()>>) -> anyhow::Result<()> {
        let _ = (&self.log, self.board, self.controls, self.clock, &self.stop);
        let none = self.config.mqtt.is_none();
        anyhow::ensure!(none, "[mqtt] is configured, but this spotd was built without MQTT");
        Ok(())
    }

    #[cfg(feature = "webhook")]
    fn spawn_webhooks(&self, all: &mut Vec<JoinHandle<()>>) -> anyhow::Result<()> {
        for webhook in self.config.webhooks.clone() {
            let (board, clock, stop) = (self.board.clone(), self.clock.clone(), self.stop.clone());
            all.push(crate::publish::webhook::spawn(webhook, &self.log, board, clock, stop)?);
        }
        Ok(())
    }

    /// Starts to serve the operator's page, and says where.
    #[cfg(feature = "web")]
    fn spawn_page(
        &self,
        detector: &Detector,
        all: &mut Vec<JoinHandle<()>>,
    ) -> anyhow::Result<Option<String>> {
        let Some(web) = self.config.web.clone() else { return Ok(None) };
        let (board, controls) = (self.board.clone(), self.controls.clone());
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        let node = self.config.node.clone();
        let facts = Facts { node, model: detector.identity(), limits: detector.limits() };
        let chosen = web.chosen;
        match crate::web::spawn(web, facts, &self.log, board, controls, clock, stop) {
            Ok(web) => {
                all.extend(web.threads);
                Ok(Some(web.address))
            }
            Err(error @ WebError::Listen { .. }) if !chosen => {
                log::warn!("{error}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(feature = "web"))]
    fn spawn_page(&self, _: &Detector, _: &mut Vec<JoinHandle<()>>) -> anyhow::Result<Option<String>> {
        let chosen = self.config.web.as_ref().is_some_and(|web| web.chosen);
        anyhow::ensure!(!chosen, "[web] is configured, but this spotd was built without the page");
        Ok(None)
    }

    #[cfg(not(feature = "webhook"))]
    fn spawn_webhooks(&self, _: &mut Vec<JoinHandle<()>>) -> anyhow::Result<()> {
        let none = self.config.webhooks.is_empty();
        anyhow::ensure!(none, "[[webhook]] is configured, but this spotd was built without webhooks");
        Ok(())
    }
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
}

impl SelectStage {
    fn run(mut self, stop: &Stop) {
        let beat = self.board.progress().stage("select", &self.clock);
        loop {
            select! {
                recv(self.turns.queue()) -> source => {
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
                recv(stop.channel()) -> _ => break,
            }
        }
        self.pool.join();
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
    ended: Vec<bool>,
    detector: Detector,
    board: Board,
    clock: SharedClock,
    turns: Arc<Turns>,
    recorder: Recorder,
    /// What operators say of events.
    reviews: Receiver<ReviewRequest>,
}

impl VerdictStage {
    fn run(mut self, done: &Receiver<Arc<Work>>) {
        let reviews = self.reviews.clone();
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
                // One among many frames: whose turn it is, chance decides.
                recv(reviews) -> request => if let Ok(request) = request {
                    let _busy = beat.busy();
                    self.recorder.review(request);
                },
                recv(tick) -> _ => {
                    let _busy = beat.busy();
                    self.tick();
                    if self.ended.iter().all(|&e| e) {
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

    fn judged(&mut self, work: &Work) {
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
            let Some(source) = self.ids.iter().position(|i| *i == id) else { continue };
            if status.state == SourceState::Ended && self.turns.is_idle(source) && !self.ended[source] {
                self.ended[source] = true;
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
