//! The two stages between a source's newest frame and the recorder, a thread each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use super::Change;
use crate::about;
use crate::alerts::Watch;
use crate::clock::{Moment, SharedClock, Stop};
use crate::control::{Controls, ReviewRequest};
use crate::detector::Detector;
use crate::detector::coherence::Regions;
use crate::detector::mapped::{Judged, Mapped};
use crate::detector::pool::{Arrival, Done, Feed, Pool, Refusal, Refused, Work};
use crate::detector::scoring::{Accumulated, FrameScore};
use crate::detector::tiles::Limited;
use crate::evidence::Encoder;
use crate::frame::Frame;
use crate::health::{Board, JudgedFrame, SourceState, Stage};
use crate::recorder::Recorder;
use crate::schedule::{SourceIndex, Turns};
use crate::verdict::{VerdictConfig, VerdictMachine};

/// How often sources without frames are checked.
const TICK: Duration = Duration::from_millis(500);

/// Takes each source's newest frame in its turn and gives it to the workers.
pub(super) struct SelectStage {
    pub(super) frames: Vec<Receiver<Frame>>,
    /// What is kept of each source between its frames.
    pub(super) feeds: Vec<Arc<Mutex<Feed>>>,
    pub(super) snapshots: Snapshots,
    pub(super) board: Board,
    pub(super) clock: SharedClock,
    pub(super) turns: Arc<Turns>,
    pub(super) pool: Pool,
    pub(super) changes: Receiver<Change<Self>>,
}

impl SelectStage {
    /// Runs until `stop`, or until there is no source any more.
    pub(super) fn run(mut self, stop: &Stop) {
        let beat = self.board.progress().stage("select", &self.clock);
        let (turns, changes) = (self.turns.clone(), self.changes.clone());
        loop {
            select! {
                recv(turns.queue()) -> source => {
                    let Ok(source) = source else { break };
                    self.turns.begin(source);
                    // Where the workers are slow it waits for them: they have their own beats.
                    let busy = beat.busy();
                    let arrival = self.select(source);
                    drop(busy);
                    if !arrival.is_some_and(|arrival| self.pool.submit(arrival)) {
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
    pub(super) fn add(&mut self, source: SourceIndex, frames: Receiver<Frame>) {
        debug_assert_eq!(source, self.frames.len(), "sources are numbered one after the other");
        self.frames.push(frames);
        self.feeds.push(Arc::default());
    }

    /// Takes no more of a source's frames.
    pub(super) fn remove(&mut self, source: SourceIndex) {
        self.frames[source] = crossbeam_channel::never();
        self.feeds[source] = Arc::default();
    }

    /// A source's newest frame; `None` when it is not to be judged.
    fn select(&mut self, source: SourceIndex) -> Option<Arrival> {
        let frame = self.frames[source].try_recv().ok()?;
        let _about = about::source(&frame.source);
        self.snapshots.serve(&frame);
        if self.board.is_paused(&frame.source) {
            // It came for a snapshot, or just before the command.
            self.board.drop_frame(&frame.source, "paused");
            return None;
        }
        Some(Arrival { source, frame, feed: self.feeds[source].clone(), mapped: true })
    }
}

/// Takes requested snapshots.
pub(super) struct Snapshots {
    pub(super) controls: Controls,
    pub(super) encoder: Encoder,
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
pub(super) struct VerdictStage {
    pub(super) ids: Vec<Arc<str>>,
    pub(super) machines: Vec<VerdictMachine>,
    /// Watch for jumps of the score, where these are alerts.
    pub(super) watches: Vec<Option<Watch>>,
    pub(super) accumulated: Vec<Accumulated>,
    pub(super) maps: Vec<Mapped>,
    pub(super) life: Vec<Life>,
    /// Sources already warned about, by reason: once is enough for a camera that does not change.
    pub(super) warned: BTreeSet<(SourceIndex, &'static str)>,
    /// Whether sources are just being added, so that the end of all others is not the end of all.
    pub(super) more_may_come: bool,
    /// By which sources are judged that are added.
    pub(super) verdict: VerdictConfig,
    pub(super) update_every: Duration,
    pub(super) detector: Detector,
    pub(super) board: Board,
    pub(super) clock: SharedClock,
    pub(super) turns: Arc<Turns>,
    pub(super) recorder: Recorder,
    pub(super) controls: Controls,
    /// What operators say of events.
    pub(super) reviews: Receiver<ReviewRequest>,
    pub(super) changes: Receiver<Change<Self>>,
}

/// How far a source's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Watched,
    /// Its stream is over.
    Ended,
    /// It is no longer one of ours.
    Removed,
}

impl VerdictStage {
    /// Runs until every source has ended, or all is judged after a stop.
    pub(super) fn run(mut self, done: &Receiver<Done>) {
        let (reviews, changes) = (self.reviews.clone(), self.changes.clone());
        let beat = self.board.progress().stage("verdict", &self.clock);
        let mut tick = self.clock.after(TICK);
        loop {
            select! {
                recv(done) -> done => match done {
                    Ok(done) => {
                        let _busy = beat.busy();
                        match done {
                            Done::Judged(work) => self.judged(&work),
                            Done::Refused(refused) => self.refused(refused),
                        }
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
        self.recorder.finish();
    }

    /// Judges one more source.
    pub(super) fn add(&mut self, source: SourceIndex, id: Arc<str>) {
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
        self.maps.push(Mapped::default());
        self.life.push(Life::Watched);
    }

    /// Ends a source's event, if one is open, and forgets the source.
    pub(super) fn remove(&mut self, source: SourceIndex) {
        self.finish(source);
        self.life[source] = Life::Removed;
        self.accumulated[source] = Accumulated::new(self.verdict.window);
        self.maps[source].forget();
        self.board.forget(&self.ids[source]);
    }

    /// Judges all sources by other bounds from their next frames on; what was scored and opened stays.
    pub(super) fn judge_by(&mut self, verdict: VerdictConfig, detector: Detector) {
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
        let (source, id) = (work.source, &self.ids[work.source].clone());
        let _about = about::source(id);
        let now = self.clock.now();
        self.tell_fields(&work.frame);
        match work.score(&self.detector) {
            None => self.board.drop_frame(id, "inference"),
            Some(mut score) => {
                let size = (work.frame.width, work.frame.height);
                // They are large, and only the map needs them.
                let regions = score.readings.as_mut().and_then(|readings| readings.regions.take());
                // Jumps are detected in the frame's own score: the accumulated one lags behind.
                let own = self.watches[source].is_some().then(|| score.clone());
                if let Err(error) = self.accumulated[source].add(&self.detector, size, &mut score) {
                    log::warn!("{id}: {error}");
                }
                let outcome = self.machines[source].push_frame(now, score.score, score.degraded);
                self.map(now, work, &score, regions, outcome.event.is_some());
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
                if let Some(control) = self.controls.source(id) {
                    control.closer_look().judged();
                    // The frames between key frames tell sooner what it is, and a window of them turns the verdict.
                    if self.watches[source].as_ref().is_some_and(Watch::suspects) {
                        control.closer_look().ask(self.verdict.window);
                    }
                }
            }
        }
        self.turns.done(source);
    }

    /// Counts a frame that is not judged.
    fn refused(&mut self, refused: Refused) {
        let Refused { source, id, why } = refused;
        if self.life[source] != Life::Removed {
            let _about = about::source(&id);
            let (reason, why) = match why {
                Refusal::Damaged(error) => ("corrupt", Some(error.to_string())),
                Refusal::Limited(limited @ Limited::TooSmall, (width, height)) => {
                    let side = self.detector.card().tile;
                    let why = format!(
                        "a frame of {width}x{height} is smaller than the model's tile of {side}x{side}; no verdict is \
                         possible"
                    );
                    (limited.as_str(), Some(why))
                }
                Refusal::Limited(limited @ Limited::Flat, _) => (limited.as_str(), None),
                Refusal::Panicked => ("inference", None),
            };
            self.board.drop_frame(&id, reason);
            if let Some(why) = why
                && self.warned.insert((source, reason))
            {
                log::warn!("{id}: {why} (further ones are only counted, as '{reason}')");
            }
        }
        self.turns.done(source);
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

    /// Adds a judged frame to its source's map.
    fn map(
        &mut self,
        at: Moment,
        work: &Work,
        score: &FrameScore,
        regions: Option<Box<Regions>>,
        recorded: bool,
    ) {
        let (tiles, captured) = (score.pieces(), work.frame.at);
        let size = (work.frame.width, work.frame.height);
        let frame = Judged { at, captured, size, tiles: &tiles, logits: score.parts, regions };
        let id = &self.ids[work.source];
        match self.maps[work.source].follow(&self.detector, frame, recorded) {
            Ok(Some(map)) => self.board.update(id, |s| s.map = Some(Arc::new(map))),
            Ok(None) => {}
            Err(error) => log::warn!("{id}: map: {error}"),
        }
    }

    fn tick(&mut self) {
        self.recorder.tick();
        let now = self.clock.now();
        for source in 0..self.machines.len() {
            let outcome = self.machines[source].tick(now);
            if outcome.judgement.frames == 0 {
                self.accumulated[source].forget();
                self.maps[source].forget();
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
