//! How fast records are sent.

use std::time::Duration;

use crate::clock::Moment;

/// A token bucket that limits records per second: short bursts pass, the backlog of an outage is
/// spread.
pub(super) struct Pace {
    pub rate: f64,
    burst: f64,
    tokens: f64,
    at: Moment,
}

impl Pace {
    /// `rate` records per second, and up to `burst` at once after a rest.
    pub fn new(rate: f64, burst: usize, now: Moment) -> Self {
        let burst = burst as f64;
        Self { rate, burst, tokens: burst, at: now }
    }

    /// Whether one more may be sent now.
    pub fn has(&mut self, now: Moment) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        self.tokens >= 1.0
    }

    /// One has been sent.
    pub fn take(&mut self) {
        self.tokens -= 1.0;
    }

    /// When there will be a token; `None` when there is one now.
    pub fn due(&self, now: Moment) -> Option<Moment> {
        let missing = 1.0 - self.tokens;
        (missing > 0.0).then(|| now.max(self.at + Duration::from_secs_f64(missing / self.rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: usize = 32;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut pace = Pace::new(10.0, BURST, Duration::ZERO);
        let mut sent = 0;
        // Ten seconds in steps of a millisecond, always with something to send.
        for ms in 0..10_000 {
            let now = Duration::from_millis(ms);
            while pace.has(now) {
                pace.take();
                sent += 1;
            }
            let due = pace.due(now).expect("nothing is left");
            assert!(due >= now && due <= now + Duration::from_millis(101), "{due:?} at {now:?}");
        }
        assert!((131..=132).contains(&sent), "{sent}");
        // A long rest does not accumulate more than one burst.
        let later = Duration::from_secs(3600);
        let mut again = 0;
        while pace.has(later) {
            pace.take();
            again += 1;
        }
        assert_eq!(again, BURST);
    }
}
