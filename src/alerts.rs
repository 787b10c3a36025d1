//! Keeps the last frames of a source, so that the one before a jump of its score is still available
//! when the jump is detected.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::detector::scoring::FrameScore;
use crate::frame::Frame;
use crate::jump::{Jump, JumpDetector, QUICK};
use crate::verdict::VerdictConfig;

/// A judged frame that is kept.
pub struct Kept {
    /// The frame, with its own copy of the bytes.
    pub frame: Frame,
    /// Its score.
    pub score: FrameScore,
}

/// A jump, with the last frame before it and the first one after.
pub struct Seen {
    /// From where to where.
    pub jump: Jump,
    /// The last frame before it.
    pub before: Arc<Kept>,
    /// The first one after it.
    pub after: Arc<Kept>,
}

/// Watches one source for jumps.
pub struct Watch {
    detector: JumpDetector,
    /// The last [`QUICK`] frames.
    kept: VecDeque<Arc<Kept>>,
    last: Option<Moment>,
    forget_after: Duration,
}

impl Watch {
    /// Configured by `[verdict]`; `None` where jumps are not alerts.
    pub fn new(config: &VerdictConfig) -> Option<Self> {
        Some(Self {
            detector: JumpDetector::new(config.jump?, config.window, config.min_frames),
            kept: VecDeque::new(),
            last: None,
            forget_after: config.forget_after,
        })
    }

    /// Takes the next judged frame.
    pub fn push(&mut self, at: Moment, frame: &Frame, score: &FrameScore) -> Option<Seen> {
        if self.last.is_some_and(|last| at.saturating_sub(last) > self.forget_after) {
            self.forget();
        }
        self.last = Some(at);
        let jump = self.detector.push(score.score);
        let seen = jump.and_then(|jump| {
            let [before, after] = [0, 1].map(|i| self.kept.get(i).cloned());
            Some(Seen { jump, before: before?, after: after? })
        });
        if self.kept.len() == QUICK {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::new(Kept { frame: frame.owned(), score: score.clone() }));
        seen
    }

    /// Whether the newest frame by itself differs from those before it by as much as a jump.
    pub fn suspects(&self) -> bool {
        self.detector.suspects()
    }

    /// Forgets everything: what comes next is unrelated.
    pub fn forget(&mut self) {
        self.detector.forget();
        self.kept.clear();
    }
}
