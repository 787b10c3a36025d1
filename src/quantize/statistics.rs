//! The values of a tensor over the calibration tiles: minimum, maximum, number of zeros, and a
//! histogram whose range grows as needed, so that one pass is enough.

/// Bins on either side of zero.
const HALF: usize = 2048;

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Histogram {
    low: f32,
    high: f32,
    /// Values that are exactly 0, as half of those after a ReLU are: they are exact in any
    /// quantisation.
    zeros: u64,
    /// The other values, from `-reach` to `reach`.
    bins: Vec<u64>,
    reach: f32,
    seen: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { low: f32::MAX, high: f32::MIN, zeros: 0, bins: vec![0; 2 * HALF], reach: 0.0, seen: 0 }
    }
}

impl Histogram {
    /// Counts values; returns `false` if some are not finite, which are not counted.
    pub fn add(&mut self, values: &[f32]) -> bool {
        let (mut low, mut high) = (f32::MAX, f32::MIN);
        for value in values {
            low = low.min(*value);
            high = high.max(*value);
        }
        // `min` and `max` ignore NaN.
        if values.iter().any(|v| !v.is_finite()) {
            return false;
        }
        if values.is_empty() {
            return true;
        }
        self.low = self.low.min(low);
        self.high = self.high.max(high);
        self.grow(low.abs().max(high.abs()));
        let scale = HALF as f32 / self.reach;
        for value in values {
            if *value == 0.0 {
                self.zeros += 1;
            } else {
                let at = (value * scale + HALF as f32) as usize;
                self.bins[at.min(2 * HALF - 1)] += 1;
            }
        }
        self.seen += values.len() as u64;
        true
    }

    /// Doubles the range until it contains `size`.
    fn grow(&mut self, size: f32) {
        if self.reach == 0.0 {
            // The first values set the scale; later ones are seldom much larger.
            self.reach = if size > 0.0 { size * 1.0001 } else { f32::MIN_POSITIVE };
        }
        while self.reach < size {
            self.reach *= 2.0;
            let mut bins = vec![0; 2 * HALF];
            for (at, count) in self.bins.iter().enumerate() {
                bins[HALF / 2 + at / 2] += count;
            }
            self.bins = bins;
        }
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Histogram) {
        if other.seen == 0 {
            return;
        }
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.grow(other.reach);
        for (value, count) in other.counts() {
            let at = ((value / self.reach + 1.0) * HALF as f32) as usize;
            self.bins[at.min(2 * HALF - 1)] += count;
        }
        self.zeros += other.zeros;
        self.seen += other.seen;
    }

    /// Number of values.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Minimum and maximum; 0 and 0 when nothing was seen.
    pub(crate) fn extent(&self) -> (f32, f32) {
        if self.seen == 0 { (0.0, 0.0) } else { (self.low, self.high) }
    }

    /// The middle of each non-empty bin and its count; exact zeros are left out.
    pub fn counts(&self) -> impl Iterator<Item = (f32, u64)> + Clone {
        let width = self.reach / HALF as f32;
        let middle = move |at: usize| (at as f32 + 0.5 - HALF as f32) * width;
        self.bins.iter().enumerate().filter(|(_, n)| **n > 0).map(move |(at, n)| (middle(at), *n))
    }

    /// The range that contains the share `share` of the values; the rest is cut off in equal parts
    /// at each side that has values.
    pub fn percentile(&self, share: f64) -> (f32, f32) {
        let (low, high) = self.extent();
        let sides = if low < 0.0 && high > 0.0 { 2.0 } else { 1.0 };
        let cut = (1.0 - share) * self.seen as f64 / sides;
        let edge = |counts: &mut dyn Iterator<Item = (f32, u64)>, whole: f32| {
            let mut gone = 0.0;
            for (value, count) in counts {
                gone += count as f64;
                if gone > cut {
                    return value;
                }
            }
            whole
        };
        let mut counts: Vec<(f32, u64)> = self.counts().collect();
        let low = edge(&mut counts.iter().copied().filter(|c| c.0 < 0.0), low.min(0.0)).max(low.min(0.0));
        counts.reverse();
        let high = edge(&mut counts.iter().copied().filter(|c| c.0 > 0.0), high.max(0.0)).min(high.max(0.0));
        (low, high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_percentile_cuts_outliers_and_leaves_a_side_without_values_alone() {
        let mut histogram = Histogram::default();
        let mut values: Vec<f32> = (0..1000).map(|v| v as f32 / 1000.0).collect();
        values.push(50.0);
        assert!(histogram.add(&values));
        let (low, high) = histogram.percentile(0.998);
        assert!(low == 0.0 && (0.95..1.1).contains(&high), "{low} {high}");
        assert_eq!(histogram.extent(), (0.0, 50.0));
        assert!(!histogram.add(&[1.0, f32::NAN]));
        assert_eq!(histogram.seen(), 1001);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_order_and_size_of_the_values(
            parts in prop::collection::vec(
                (prop::collection::vec(-1f32..1.0, 1..50), -20i32..20),
                1..6,
            ),
        ) {
            let parts: Vec<Vec<f32>> = parts
                .into_iter()
                .map(|(values, power)| values.into_iter().map(|v| v * 2f32.powi(power)).collect())
                .collect();
            let (mut whole, mut merged) = (Histogram::default(), Histogram::default());
            for part in &parts {
                prop_assert!(whole.add(part));
                let mut own = Histogram::default();
                own.add(part);
                merged.merge(&own);
            }
            let all: Vec<f32> = parts.concat();
            let extent = (
                all.iter().copied().fold(f32::MAX, f32::min),
                all.iter().copied().fold(f32::MIN, f32::max),
            );
            for histogram in [&whole, &merged] {
                let counted: u64 = histogram.counts().map(|(_, n)| n).sum::<u64>() + histogram.zeros;
                prop_assert_eq!(counted, all.len() as u64);
                prop_assert_eq!(histogram.extent(), extent);
                // No value is counted farther from where it is than two bins.
                let widest = 2.0 * histogram.reach / HALF as f32;
                let high = histogram.counts().map(|(v, _)| v).fold(f32::MIN, f32::max);
                if extent.1 > 0.0 {
                    prop_assert!((high - extent.1).abs() <= widest);
                }
            }
        }
    }
}
