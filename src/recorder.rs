//! Between the verdict and the flag log: turns outcomes into records with their evidence, and keeps
//! the board's scores up to date.
//!
//! What the log cannot write (a full disk, a folder that has become read-only) waits in memory with its pictures
//! (`recorder/waiting.rs`) and is tried again with the next record and twice a second, and judging goes on meanwhile.

mod waiting;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ulid::Ulid;

use crate::about;
use crate::alerts::Seen;
use crate::clock::{Moment, SharedClock};
use crate::config::Config;
use crate::control::ReviewRequest;
use crate::detector::Detector;
use crate::detector::scoring::FrameScore;
use crate::evidence::{EncodeError, Encoder};
use crate::flaglog::record::{Alert, AlertKind};
use crate::flaglog::{
    Evidence, FlagLog, FrameInfo, Hash, LogError, LogStatus, NewRecord, Options, ReviewError, Signer, Tail,
};
use crate::frame::Frame;
use crate::health::{Board, SourceAlert, Stage};
use crate::identity::ModelIdentity;
use crate::judgement::Judgement;
use crate::schedule::SourceIndex;
use crate::verdict::{EventKind, Outcome, Reason, Verdict};
use waiting::{Ready, Waiting};

/// How often the log is tidied when nothing is written, and while something is wrong with it, so that the end of that
/// is not missed.
const TIDY_EVERY: Duration = Duration::from_secs(30);
const TROUBLED_EVERY: Duration = Duration::from_secs(5);

/// Writes the records of all sources.
pub struct Recorder {
    log: FlagLog,
    encoder: Encoder,
    board: Board,
    clock: SharedClock,
    model: ModelIdentity,
    sources: Vec<SourceLog>,
    /// When the log was last tidied.
    tidied: Moment,
    /// Records that were given up.
    lost: u64,
}

struct SourceLog {
    id: Arc<str>,
    /// The event that is open according to the log.
    open: Option<Ulid>,
    /// Whether the last append failed; logged once, not with every try.
    failing: bool,
    /// Whether an event is under way that had no room among those that wait.
    turned_away: bool,
    /// What the log could not take yet.
    waiting: Waiting,
}

impl SourceLog {
    fn new(id: Arc<str>) -> Self {
        Self { id, open: None, failing: false, turned_away: false, waiting: Waiting::default() }
    }

    /// Whether an event is open once all that waits is written.
    fn is_open(&self) -> bool {
        self.waiting.leaves_open(self.open.is_some())
    }
}

impl Recorder {
    /// Opens the flag log.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(
        config: &Config,
        detector: &Detector,
        board: Board,
        clock: SharedClock,
    ) -> anyhow::Result<Self> {
        let signer = config.sign_key.as_deref().map(Signer::read).transpose().context("[log] sign_key")?;
        let options = Options { keep: config.retention, signer, ..Options::default() };
        let log = FlagLog::open_with(&config.log, &config.node, clock.clone(), options)?;
        let mut recorder = Self {
            log,
            encoder: Encoder::new(&config.node, config.log.jpeg_quality),
            board,
            tidied: clock.now(),
            lost: 0,
            clock,
            model: detector.identity(),
            sources: Vec::new(),
        };
        recorder.close_left_open();
        Ok(recorder)
    }

    /// Writes the records of one more source, whose index is the next.
    pub fn add(&mut self, id: Arc<str>) {
        self.sources.push(SourceLog::new(id));
    }

    /// Periodic work, even when nothing is flagged: checks whether the log's folder is still where
    /// its path leads and can be written, removes old evidence, and writes what waits: records, and the end of
    /// events that a crash has left open.
    pub fn tick(&mut self) {
        let before = self.log.displaced();
        let settled = self.log.settle();
        let waiting = self.waiting();
        (0..self.sources.len()).for_each(|source| self.write_waiting(source));
        if settled.is_err() || self.log.displaced() != before || waiting > 0 {
            self.report();
        }
        if self.waiting() > 0 {
            // Nothing else could be written either.
            return;
        }
        let now = self.clock.now();
        let every = if self.log.is_troubled() { TROUBLED_EVERY } else { TIDY_EVERY };
        if now.saturating_sub(self.tidied) < every {
            return;
        }
        self.tidied = now;
        self.log.tidy();
        self.close_left_open();
    }

    /// Writes what waits for the last time; what cannot be written is lost, and said to be.
    pub fn finish(&mut self) {
        (0..self.sources.len()).for_each(|source| self.write_waiting(source));
        for state in &mut self.sources {
            let lost = state.waiting.len();
            if lost > 0 {
                log::error!("{}: {lost} record(s) are lost: the flag log could not be written", state.id);
                self.lost += lost as u64;
                state.waiting = Waiting::default();
            }
        }
        self.report();
    }

    /// How many records wait.
    fn waiting(&self) -> u64 {
        self.sources.iter().map(|s| s.waiting.len() as u64).sum()
    }

    /// Appends what an operator says of an event, and answers once it is durable, or why it is not.
    pub fn review(&mut self, request: ReviewRequest) {
        let done = self.log.review(request.new.clone(), &request.of);
        match &done {
            Ok(r) => {
                let _about = (about::source(&r.source), about::event(r.event));
                log::info!("{}: event {} reviewed: {} by {}", r.source, r.event, r.review.as_str(), r.by)
            }
            Err(error @ ReviewError::Log(_)) => log::error!("review of {}: {error}", request.new.event),
            Err(_) => {}
        }
        self.report();
        request.answer(done);
    }

    fn close_left_open(&mut self) {
        if let Err(e) = self.log.close_left_open() {
            log::error!("events of an earlier run are not closed yet: {e}; trying again");
        }
        self.report();
    }

    /// Puts the log's status on the board, and logs when an alarm begins or ends.
    fn report(&self) {
        let now = LogStatus { waiting: self.waiting(), lost: self.lost, ..self.log.status() };
        let before = self.board.set_log(now.clone());
        match (before.alarm, now.alarm) {
            (None, Some(alarm)) => log::error!("alarm: flag log: {alarm}"),
            (Some(_), None) => log::info!("flag log: the alarm is over"),
            _ => {}
        }
    }

    /// A reader that gets every record once it is durable.
    pub fn tail(&self) -> Tail {
        self.log.tail()
    }

    /// Takes the outcome of one step of a source, with the frame that it is about, if there is one.
    pub fn outcome(&mut self, source: SourceIndex, outcome: &Outcome, frame: Option<(&Frame, &FrameScore)>) {
        let id = self.sources[source].id.clone();
        let _about = about::source(&id);
        self.board.update(&id, |s| {
            s.verdict = outcome.verdict;
            s.reason = outcome.reason;
            s.raw = outcome.judgement.raw.or(s.raw);
            s.smoothed = outcome.judgement.smoothed;
            s.peak = outcome.judgement.peak.or(s.peak);
        });
        if outcome.verdict != outcome.before {
            log::info!("{id}: {}", explain(outcome));
        }
        let state = &mut self.sources[source];
        match due(state.is_open(), outcome) {
            Some(kind) => self.record(source, kind, outcome, frame),
            // It is over, and was never among those that wait.
            None if outcome.verdict != Verdict::Synthetic && std::mem::take(&mut state.turned_away) => {
                self.give_up(source, "an event");
            }
            None => {}
        }
    }

    /// Takes a jump of a source's score, with the outcome of its frame.
    pub fn alert(&mut self, source: SourceIndex, seen: Seen, outcome: &Outcome) {
        let id = self.sources[source].id.clone();
        let Seen { jump, before, after } = seen;
        log::warn!(
            "{id}: alert: jump: the score went from {:.2} to {:.2} all at once",
            jump.before,
            jump.after
        );
        let record = NewRecord {
            event: None,
            source: id.to_string(),
            kind: EventKind::Alert,
            verdict: outcome.verdict,
            judgement: Judgement { raw: Some(after.score.score), peak: None, ..outcome.judgement },
            frame: Some(frame_info(&after.frame)),
            captured: after.frame.at,
            tiles: after.score.tiles.clone(),
            logits: Some(after.score.parts),
            model: self.model.clone(),
            alert: Some(Alert::jump(jump, frame_info(&before.frame), before.frame.at)),
        };
        let picture =
            |frame: &Frame| frame.to_rgb().map_err(|e| log::warn!("{id}: no evidence picture: {e}")).ok();
        let evidence = picture(&after.frame).zip(picture(&before.frame)).map(|(frame, earlier)| {
            let mut evidence = self.encoder.evidence(&id, after.frame.at, &frame, &after.score.tiles)?;
            evidence.before = Some(self.encoder.frame(&id, before.frame.at, &earlier)?);
            Ok(evidence)
        });
        if !self.put(source, record, evidence.transpose()) {
            self.give_up(source, "an alert");
        }
    }

    fn record(
        &mut self,
        source: SourceIndex,
        kind: EventKind,
        outcome: &Outcome,
        frame: Option<(&Frame, &FrameScore)>,
    ) {
        let state = &self.sources[source];
        let tiles = frame.map_or(&[][..], |(_, score)| &score.tiles);
        let record = NewRecord {
            event: None,
            source: state.id.to_string(),
            kind,
            verdict: outcome.verdict,
            judgement: outcome.judgement,
            frame: frame.map(|(f, _)| frame_info(f)),
            captured: frame.map_or_else(|| self.clock.wall(), |(f, _)| f.at),
            tiles: tiles.to_vec(),
            logits: frame.map(|(_, score)| score.parts),
            model: self.model.clone(),
            alert: None,
        };
        // The end of an event is about frames that are no longer flagged, which are not evidence.
        let picture = frame.filter(|_| kind != EventKind::End).and_then(|(f, _)| {
            f.to_rgb().map_err(|e| log::warn!("{}: no evidence picture: {e}", state.id)).ok()
        });
        let map = self.board.map(&state.id).and_then(|map| {
            self.encoder.map(&map).map_err(|e| log::warn!("{}: no map in the evidence: {e}", state.id)).ok()
        });
        let evidence = frame.zip(picture).map(|((f, _), picture)| {
            let pictures = self.encoder.evidence(&state.id, f.at, &picture, tiles)?;
            Ok(Evidence { map, ..pictures })
        });
        let taken = self.put(source, record, evidence.transpose());
        if kind == EventKind::Start {
            // Tried again with the next frame, as long as it goes on.
            self.sources[source].turned_away = !taken;
        }
    }

    /// Writes a record behind those that wait, or lets it wait; false if there was no room for that.
    fn put(
        &mut self,
        source: SourceIndex,
        record: NewRecord,
        evidence: Result<Option<Evidence>, EncodeError>,
    ) -> bool {
        let ready = Ready { record, evidence: evidence.map_err(|e| e.to_string()), made: self.clock.now() };
        self.write_waiting(source);
        let elsewhere = self.sources.iter().map(|s| s.waiting.bytes()).sum::<u64>();
        let waiting = &mut self.sources[source].waiting;
        let taken = waiting.push(ready, elsewhere - waiting.bytes());
        self.write_waiting(source);
        self.report();
        taken
    }

    /// Writes what waits, as far as the log takes it.
    fn write_waiting(&mut self, source: SourceIndex) {
        while let Some(ready) = self.sources[source].waiting.first() {
            let state = &self.sources[source];
            let (kind, alert) = (ready.record.kind, ready.record.alert.clone());
            let record = NewRecord {
                event: if kind == EventKind::Alert { None } else { state.open },
                ..ready.record.clone()
            };
            let written = match &ready.evidence {
                Ok(evidence) => self.log.append(record, evidence.as_ref()),
                Err(why) => self.log.append_without_evidence(record, why),
            };
            let state = &mut self.sources[source];
            let record = match written {
                Ok(record) => record,
                // It never will be.
                Err(error @ LogError::TooLong { .. }) => {
                    log::error!("{}: {error}", state.id);
                    state.waiting.pop();
                    self.lost += 1;
                    continue;
                }
                Err(error) => {
                    if !std::mem::replace(&mut state.failing, true) {
                        log::error!(
                            "{}: {} not recorded yet, it waits in memory until it can be: {error}",
                            state.id,
                            if kind == EventKind::Alert { "alert" } else { "event" }
                        );
                    }
                    return;
                }
            };
            state.failing = false;
            let ready = state.waiting.pop().expect("it was the first");
            let _about = (about::source(&state.id), about::event(record.event));
            log::info!("{}: event {} {}", state.id, record.event, kind.as_str());
            match alert {
                Some(alert) => self.board.update(&state.id, |s| {
                    s.alerts += 1;
                    s.alert = Some(SourceAlert {
                        kind: AlertKind::Jump,
                        at: ready.record.captured,
                        before: alert.before,
                        after: alert.after,
                    });
                }),
                None => {
                    state.open = (kind != EventKind::End).then_some(record.event);
                    let took = self.clock.now().saturating_sub(ready.made);
                    self.board.stages().observe(Stage::Record, took);
                }
            }
        }
    }

    /// Counts and says what the log will not have.
    fn give_up(&mut self, source: SourceIndex, what: &str) {
        self.lost += 1;
        log::error!(
            "{}: {what} is lost: the flag log cannot be written, and too many records wait already",
            self.sources[source].id
        );
        self.report();
    }
}

fn frame_info(frame: &Frame) -> FrameInfo {
    FrameInfo {
        sha256: Hash::of(frame.bytes()),
        width: frame.width,
        height: frame.height,
        interlaced: frame.interlacing.field(),
    }
}

/// Which record an outcome requires, given whether an event is open in the log.
fn due(open: bool, outcome: &Outcome) -> Option<EventKind> {
    match (open, outcome.verdict == Verdict::Synthetic) {
        (false, true) => Some(EventKind::Start),
        (true, true) => outcome.event.map(|_| EventKind::Update),
        (true, false) => Some(EventKind::End),
        (false, false) => None,
    }
}

/// Why the verdict is what it is, in one line.
fn explain(outcome: &Outcome) -> String {
    let Judgement { smoothed, threshold, unsure_from, frames, .. } = outcome.judgement;
    let verdict = outcome.verdict.as_str().to_uppercase();
    match smoothed {
        _ if frames == 0 => format!(
            "{verdict}: the source ended, or no frame was judged for some time; was {}",
            outcome.before
        ),
        None => verdict,
        Some(median) if outcome.reason == Some(Reason::Degraded) => format!(
            "{verdict}: the frames are too compressed, blurred or small for the model to find much in them; median {median:.2} of {frames} \
             frames, was {}",
            outcome.before
        ),
        Some(median) => format!(
            "{verdict}: median {median:.2} of {frames} frames (synthetic from {threshold:.2}, unsure from {unsure_from:.2}), was {}",
            outcome.before
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That of a source without frames.
    pub(super) fn judgement() -> Judgement {
        Judgement {
            raw: None,
            smoothed: None,
            peak: None,
            threshold: 0.8,
            unsure_from: 0.5,
            window: 9,
            frames: 0,
        }
    }

    fn outcome(verdict: Verdict, event: Option<EventKind>) -> Outcome {
        Outcome { verdict, before: verdict, judgement: judgement(), reason: None, event }
    }

    #[test]
    fn what_the_log_missed_is_made_up_for() {
        use EventKind::{End, Start, Update};
        use Verdict::{Clear, Synthetic};
        // The start failed; the machine has no new event, but the log still lacks it.
        assert_eq!(due(false, &outcome(Synthetic, None)), Some(Start));
        assert_eq!(due(false, &outcome(Synthetic, Some(Update))), Some(Start));
        // The end failed.
        assert_eq!(due(true, &outcome(Clear, None)), Some(End));
        // The end failed and the source is synthetic again: the event simply goes on.
        assert_eq!(due(true, &outcome(Synthetic, Some(Start))), Some(Update));
        // The end of an event that was never in the log is nothing.
        assert_eq!(due(false, &outcome(Clear, Some(End))), None);
        assert_eq!(due(true, &outcome(Synthetic, None)), None);
    }
}
