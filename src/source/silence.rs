//! How long nothing has come: after half of the patience a stall is shown, after all of it the run
//! fails.

use std::fmt::Display;
use std::time::Duration;

use super::{FrameSink, Patience, SourceError};
use crate::clock::Moment;

/// One run's silence.
pub(super) struct Silence {
    patience: Patience,
    limit: Duration,
    since: Moment,
    /// Whether the stall has been shown.
    told: bool,
}

impl Silence {
    /// Starts with the run, before its first frame.
    pub fn new(patience: Patience, now: Moment) -> Self {
        Self { patience, limit: patience.first, since: now, told: false }
    }

    /// A frame came, from a source that delivers `rate` frames a second (`None`: not known).
    pub fn broken(&mut self, rate: Option<f64>, now: Moment) {
        *self = Self { limit: self.patience.between(rate), since: now, told: false, ..*self };
    }

    /// When [`Silence::check`] has something to do next, if nothing comes until then.
    #[cfg(feature = "gstreamer")]
    pub fn left(&self, now: Moment) -> Duration {
        let next = if self.told { self.limit } else { self.limit / 2 };
        next.saturating_sub(now.saturating_sub(self.since))
    }

    /// Shows a stall, once.
    ///
    /// # Errors
    /// [`SourceError::Retry`], in which `what` is the source's name, when the patience is over.
    pub fn check(
        &mut self,
        what: &dyn Display,
        sink: &dyn FrameSink,
        now: Moment,
    ) -> Result<(), SourceError> {
        let quiet = now.saturating_sub(self.since);
        if quiet >= self.limit {
            let seconds = quiet.as_secs_f64();
            return Err(SourceError::Retry(format!(
                "{what}: no frame for {seconds:.1} s (stall_seconds sets how long to wait)"
            )));
        }
        if quiet >= self.limit / 2 && !self.told {
            self.told = true;
            sink.stalled();
        }
        Ok(())
    }
}
