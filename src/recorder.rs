//! Between the verdict and the flag log: turns outcomes into records with their evidence, and keeps
//! the board's scores up to date.
//!
//! What the log could not write is retried with the next frame: a start that failed (a full disk)
//! is written then, an end likewise, and judging goes on meanwhile.

use std::collections::VecDeque;
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
    Evidence, FlagLog, FrameInfo, Hash, LogError, NewRecord, Options, Record, ReviewError, Signer, Tail,
};
use crate::frame::Frame;
use crate::health::{Board, SourceAlert, Stage};
use crate::identity::ModelIdentity;
use crate::judgement::Judgement;
use crate::jump::Jump;
use crate::schedule::SourceIndex;
use crate::verdict::{EventKind, Outcome, Reason, Verdict};

/// How often the log is tidied when nothing is written.
const TIDY_EVERY: Duration = Duration::from_secs(30);

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
}

struct SourceLog {
    id: Arc<str>,
    /// The event that is open according to the log.
    open: Option<Ulid>,
    /// Whether the last append failed; logged once, not with every frame.
    failing: bool,
    /// Alerts that have not been written yet.
    alerts: VecDeque<PendingAlert>,
}

struct PendingAlert {
    seen: Seen,
    verdict: Verdict,
    judgement: Judgement,
}

/// Alerts per source that wait for the log at most, since they hold frames.
const WAITING: usize = 4;

impl SourceLog {
    fn new(id: Arc<str>) -> Self {
        Self { id, open: None, failing: false, alerts: VecDeque::new() }
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
    /// its path leads, removes old evidence, and writes the end of events that a crash has left
    /// open, if that has not succeeded yet.
    pub fn tick(&mut self) {
        for source in 0..self.sources.len() {
            self.record_alerts(source);
        }
        let before = self.log.displaced();
        if self.log.settle().is_err() || self.log.displaced() != before {
            self.report();
        }
        let now = self.clock.now();
        if now.saturating_sub(self.tidied) < TIDY_EVERY {
            return;
        }
        self.tidied = now;
        self.log.tidy();
        self.close_left_open();
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
        let now = self.log.status();
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
        if let Some(kind) = due(self.sources[source].open.is_some(), outcome) {
            self.record(source, kind, outcome, frame);
        }
    }

    /// Takes a jump of a source's score, with the outcome of its frame.
    pub fn alert(&mut self, source: SourceIndex, seen: Seen, outcome: &Outcome) {
        let state = &mut self.sources[source];
        let Jump { before, after } = seen.jump;
        log::warn!("{}: alert: jump: the score went from {before:.2} to {after:.2} all at once", state.id);
        if state.alerts.len() == WAITING {
            log::error!(
                "{}: an alert is lost: the log cannot be written, and {WAITING} are waiting already",
                state.id
            );
            state.alerts.pop_front();
        }
        let Outcome { verdict, judgement, .. } = *outcome;
        state.alerts.push_back(PendingAlert { seen, verdict, judgement });
        self.record_alerts(source);
    }

    /// Writes the pending alerts.
    fn record_alerts(&mut self, source: SourceIndex) {
        while let Some(alert) = self.sources[source].alerts.front() {
            let id = self.sources[source].id.clone();
            let Seen { jump, before, after } = &alert.seen;
            let record = NewRecord {
                event: None,
                source: id.to_string(),
                kind: EventKind::Alert,
                verdict: alert.verdict,
                judgement: Judgement { raw: Some(after.score.score), peak: None, ..alert.judgement },
                frame: Some(frame_info(&after.frame)),
                captured: after.frame.at,
                tiles: after.score.tiles.clone(),
                logits: Some(after.score.parts),
                model: self.model.clone(),
                alert: Some(Alert::jump(*jump, frame_info(&before.frame), before.frame.at)),
            };
            let picture =
                |frame: &Frame| frame.to_rgb().map_err(|e| log::warn!("{id}: no evidence picture: {e}")).ok();
            let pictures = picture(&after.frame).zip(picture(&before.frame));
            let evidence = pictures.map(|(frame, earlier)| {
                let tiles = &after.score.tiles;
                let mut evidence = self.encoder.evidence(&id, after.frame.at, &frame, tiles)?;
                evidence.before = Some(self.encoder.frame(&id, before.frame.at, &earlier)?);
                Ok(evidence)
            });
            match append(&mut self.log, record, evidence.transpose()) {
                Ok(record) => {
                    let _about = (about::source(&id), about::event(record.event));
                    log::info!("{id}: event {} alert", record.event);
                    self.board.update(&id, |s| {
                        s.alerts += 1;
                        s.alert = Some(SourceAlert {
                            kind: AlertKind::Jump,
                            at: after.frame.at,
                            before: jump.before,
                            after: jump.after,
                        });
                    });
                    self.sources[source].alerts.pop_front();
                    self.report();
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.sources[source].failing, true) {
                        log::error!("{id}: alert not recorded, trying again: {error}");
                    }
                    self.report();
                    return;
                }
            }
        }
    }

    fn record(
        &mut self,
        source: SourceIndex,
        kind: EventKind,
        outcome: &Outcome,
        frame: Option<(&Frame, &FrameScore)>,
    ) {
        let state = &mut self.sources[source];
        let tiles = frame.map_or(&[][..], |(_, score)| &score.tiles);
        let record = NewRecord {
            event: state.open,
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
        let begun = self.clock.now();
        let map = self.board.map(&state.id).and_then(|map| {
            self.encoder.map(&map).map_err(|e| log::warn!("{}: no map in the evidence: {e}", state.id)).ok()
        });
        let evidence = frame.zip(picture).map(|((f, _), picture)| {
            let pictures = self.encoder.evidence(&state.id, f.at, &picture, tiles)?;
            Ok(Evidence { map, ..pictures })
        });
        match append(&mut self.log, record, evidence.transpose()) {
            Ok(record) => {
                let _about = about::event(record.event);
                self.board.stages().observe(Stage::Record, self.clock.now().saturating_sub(begun));
                state.failing = false;
                state.open = (kind != EventKind::End).then_some(record.event);
                log::info!("{}: event {} {}", state.id, record.event, kind.as_str());
            }
            Err(error) => {
                if !std::mem::replace(&mut state.failing, true) {
                    log::error!("{}: event not recorded, trying again with each frame: {error}", state.id);
                }
            }
        }
        self.report();
    }
}

/// Appends a record with its pictures, or with the reason why there are none.
fn append(
    log: &mut FlagLog,
    record: NewRecord,
    evidence: Result<Option<Evidence>, EncodeError>,
) -> Result<Record, LogError> {
    match evidence {
        Ok(evidence) => log.append(record, evidence.as_ref()),
        Err(why) => log.append_without_evidence(record, &why.to_string()),
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

    fn outcome(verdict: Verdict, event: Option<EventKind>) -> Outcome {
        let judgement = Judgement {
            raw: None,
            smoothed: None,
            peak: None,
            threshold: 0.8,
            unsure_from: 0.5,
            window: 9,
            frames: 0,
        };
        Outcome { verdict, before: verdict, judgement, reason: None, event }
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
