//! How long the stages of a frame's and a record's way take, as histograms for Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in seconds; what is longer goes into `+Inf`.
pub(crate) const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 300.0];

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From when a frame was due by its stream's clock, as fast as its fastest frame came, to its arrival: what network
    /// and decoder take longer for it.
    Arrival,
    /// From a frame's arrival to the choice of its tiles: how old frames are when their turn comes.
    Choice,
    /// The choice of a frame's tiles alone, with its decoding where it comes as a picture (Motion JPEG).
    Choosing,
    /// Inference of one tile.
    Tile,
    /// The block sums of one frame, for the coherent part.
    Sums,
    /// From a frame's arrival to its verdict.
    Verdict,
    /// From a verdict to its record being durable, with its evidence.
    Record,
    /// From a record being written to its acknowledgement by a publisher's other side.
    Delivery,
}

impl Stage {
    /// All of them, in the order of the way.
    pub const ALL: [Stage; 8] = [
        Stage::Arrival,
        Stage::Choice,
        Stage::Choosing,
        Stage::Tile,
        Stage::Sums,
        Stage::Verdict,
        Stage::Record,
        Stage::Delivery,
    ];

    /// Its name in the label `stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Arrival => "arrival",
            Stage::Choice => "choice",
            Stage::Choosing => "choosing",
            Stage::Tile => "tile",
            Stage::Sums => "sums",
            Stage::Verdict => "verdict",
            Stage::Record => "record",
            Stage::Delivery => "delivery",
        }
    }
}

/// The histograms of all stages. Clones share them; counting takes no lock.
#[derive(Debug, Clone, Default)]
pub struct Stages(Arc<[Counters; Stage::ALL.len()]>);

#[derive(Debug, Default)]
struct Counters {
    /// One for each of [`BOUNDS`], and one for what is longer.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// What was counted of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// How many took at most as long as each of `BOUNDS`.
    pub cumulative: [u64; BOUNDS.len()],
    /// All.
    pub count: u64,
    /// Seconds that all took together.
    pub sum: f64,
}

impl Histogram {
    /// How many took longer than `limit`, which is one of the bounds, or else the next lower bound.
    pub fn longer_than(&self, limit: Duration) -> u64 {
        let bound = BOUNDS.iter().rposition(|&bound| bound <= limit.as_secs_f64());
        self.count - bound.map_or(0, |bound| self.cumulative[bound])
    }
}

impl Stages {
    /// Counts one.
    pub(crate) fn observe(&self, stage: Stage, took: Duration) {
        let counters = &self.0[stage as usize];
        let bucket = BOUNDS.iter().position(|&bound| took.as_secs_f64() <= bound).unwrap_or(BOUNDS.len());
        counters.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counters.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn histogram(&self, stage: Stage) -> Histogram {
        let counters = &self.0[stage as usize];
        let mut count = 0;
        let mut cumulative = [0; BOUNDS.len()];
        for (n, bucket) in counters.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(up_to) = cumulative.get_mut(n) {
                *up_to = count;
            }
        }
        let sum = counters.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        Histogram { cumulative, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_counted_in_all_buckets_that_it_fits() {
        let stages = Stages::default();
        for millis in [1, 2, 30, 400_000] {
            stages.observe(Stage::Tile, Duration::from_millis(millis));
        }
        let histogram = stages.histogram(Stage::Tile);
        assert_eq!(histogram.cumulative, [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!((histogram.count, histogram.sum), (4, 400.033));
        let longer = [0, 1, 2, 3, 50, 500_000].map(|ms| histogram.longer_than(Duration::from_millis(ms)));
        assert_eq!(longer, [4, 3, 3, 2, 1, 1]);
        assert_eq!(stages.histogram(Stage::Choice).count, 0);
    }
}
