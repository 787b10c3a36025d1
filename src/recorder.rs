//! Between the verdict and the flag log: turns outcomes into records with their evidence, and keeps
//! the board's scores true.
//!
//! What the log could not take is tried again with the next frame: a start that failed (a full disk)
//! becomes a start then, an end likewise, and judging goes on meanwhile.

use std::sync::Arc;

use anyhow::Context as _;
use ulid::Ulid;

use crate::clock::SharedClock;
use crate::config::Config;
use crate::detector::Model;
use crate::detector::judge::{self, FrameScore};
use crate::detector::model::ModelIdentity;
use crate::flaglog::{Evidence, FlagLog, FrameInfo, Hash, NewRecord, ScoredTile, Tail};
use crate::frame::Frame;
use crate::health::Board;
use crate::schedule::SourceIndex;
use crate::verdict::{EventKind, Limits, Outcome, Verdict};

/// Writes the records of all sources.
pub struct Recorder {
    log: FlagLog,
    board: Board,
    clock: SharedClock,
    model: ModelIdentity,
    limits: Limits,
    window: usize,
    sources: Vec<SourceLog>,
}

struct SourceLog {
    id: Arc<str>,
    /// The event that the log knows to be open.
    open: Option<Ulid>,
    /// The last append failed; said once, not with every frame.
    failing: bool,
}

impl Recorder {
    /// Opens the flag log.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(
        config: &Config,
        model: &Model,
        ids: Vec<Arc<str>>,
        board: Board,
        clock: SharedClock,
    ) -> anyhow::Result<Self> {
        let log = FlagLog::open(&config.log, &config.node, clock.clone())
            .with_context(|| format!("flag log {}", config.log.dir.display()))?;
        Ok(Self {
            log,
            board,
            clock,
            model: model.identity(),
            limits: judge::limits(model, &config.verdict),
            window: config.verdict.window,
            sources: ids.into_iter().map(|id| SourceLog { id, open: None, failing: false }).collect(),
        })
    }

    /// A reader that is told of every record once it is durable.
    pub fn tail(&self) -> Tail {
        self.log.tail()
    }

    /// Takes one step's outcome of a source, with the frame that it is about, if there is one.
    pub fn outcome(&mut self, source: SourceIndex, outcome: &Outcome, frame: Option<(&Frame, &FrameScore)>) {
        let id = self.sources[source].id.clone();
        self.board.update(&id, |s| {
            s.verdict = outcome.verdict;
            s.raw = outcome.raw.or(s.raw);
            s.smoothed = outcome.smoothed;
            s.peak = outcome.peak.or(s.peak);
        });
        if outcome.verdict != outcome.before {
            log::info!("{id}: {}", explain(outcome, self.limits));
        }
        if let Some(kind) = due(self.sources[source].open.is_some(), outcome) {
            self.record(source, kind, outcome, frame);
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
        let tiles: Vec<ScoredTile> = frame
            .iter()
            .flat_map(|(_, score)| &score.tiles)
            .map(|t| ScoredTile { rect: t.rect, score: t.score })
            .collect();
        let pieces: Vec<_> = tiles.iter().map(|t| (t.rect, t.score)).collect();
        let record = NewRecord {
            event: state.open,
            source: state.id.to_string(),
            kind,
            verdict: outcome.verdict,
            raw: outcome.raw,
            smoothed: outcome.smoothed,
            peak: outcome.peak,
            threshold: self.limits.threshold,
            unsure_from: self.limits.unsure_from,
            window: self.window,
            frames: outcome.frames,
            frame: frame.map(|(f, _)| FrameInfo {
                sha256: Hash::of(f.bytes()),
                width: f.width,
                height: f.height,
            }),
            captured: frame.map_or_else(|| self.clock.wall(), |(f, _)| f.captured),
            tiles,
            model: self.model.clone(),
        };
        // The end of an event is about frames that are no longer flagged: they are no evidence.
        let picture = frame.filter(|_| kind != EventKind::End).and_then(|(f, _)| {
            f.to_rgb().map_err(|e| log::warn!("{}: no evidence picture: {e}", state.id)).ok()
        });
        let evidence = picture.as_ref().map(|frame| Evidence { frame, tiles: &pieces });
        match self.log.append(record, evidence.as_ref()) {
            Ok(record) => {
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
    }
}

/// Which record an outcome asks for, given whether the log knows of an open event.
fn due(open: bool, outcome: &Outcome) -> Option<EventKind> {
    match (open, outcome.verdict == Verdict::Synthetic) {
        (false, true) => Some(EventKind::Start),
        (true, true) => outcome.event.map(|_| EventKind::Update),
        (true, false) => Some(EventKind::End),
        (false, false) => None,
    }
}

/// Why the verdict is what it is, in one line.
fn explain(outcome: &Outcome, limits: Limits) -> String {
    let verdict = outcome.verdict.as_str().to_uppercase();
    match outcome.smoothed {
        _ if outcome.frames == 0 => format!(
            "{verdict}: the source ended, or no frame was judged for some time; was {}",
            outcome.before
        ),
        None => verdict,
        Some(median) => format!(
            "{verdict}: median {median:.2} of {} frames (synthetic from {:.2}, unsure from {:.2}), was {}",
            outcome.frames, limits.threshold, limits.unsure_from, outcome.before
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict, event: Option<EventKind>) -> Outcome {
        Outcome { verdict, before: verdict, raw: None, smoothed: None, peak: None, frames: 0, event }
    }

    #[test]
    fn what_the_log_missed_is_made_up_for() {
        use EventKind::{End, Start, Update};
        use Verdict::{Clear, Synthetic};
        // The start failed; the machine says nothing new, but the log still lacks it.
        assert_eq!(due(false, &outcome(Synthetic, None)), Some(Start));
        assert_eq!(due(false, &outcome(Synthetic, Some(Update))), Some(Start));
        // The end failed.
        assert_eq!(due(true, &outcome(Clear, None)), Some(End));
        // The end failed and the source is synthetic again: the event simply goes on.
        assert_eq!(due(true, &outcome(Synthetic, Some(Start))), Some(Update));
        // An end for an event that the log never knew is nothing.
        assert_eq!(due(false, &outcome(Clear, Some(End))), None);
        assert_eq!(due(true, &outcome(Synthetic, None)), None);
    }
}
