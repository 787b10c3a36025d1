//! Derives the threshold for a stated rate of false alarms from a series of smoothed scores of
//! footage known to be real.
//!
//! Frames a second apart show nearly the same picture, so counting frames above a threshold does
//! not tell how often it is crossed. The series is cut into blocks that are long enough to be
//! nearly independent; only the maximum of each counts, and a day has 86400 / length of them. A
//! block above the threshold counts as one alarm, which errs on the safe side if an alarm lasts
//! longer than a block.
//!
//! If the footage has enough blocks above the threshold, they are counted. If it is too short for
//! the requested rate, the excesses of the block maxima over a high level are assumed to be
//! exponential, the limit of tails such as a Gaussian's or an exponential's (Pickands 1975, shape
//! 0), and the threshold is extrapolated. That is an assumption about what was not filmed: no tail
//! of a sunny hour contains night, rain, or headlights shining into the lens.

/// Fewest blocks that allow an estimate.
pub(crate) const FEWEST_BLOCKS: usize = 20;

/// This many blocks above a threshold are enough to count: the relative error is about a third.
const COUNTABLE: f64 = 10.0;

/// Blocks above the level from which the tail is fitted: a tenth of all, within these bounds.
const TAIL: (usize, usize) = (10, 200);

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Two-sided 95 % of a normal distribution.
const SIGMAS: f64 = 1.96;

/// A recording: smoothed logits and their times in seconds, in order.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Seconds from its start.
    pub times: Vec<f64>,
    /// Smoothed logits.
    pub logits: Vec<f64>,
}

impl Recording {
    /// Seconds that it covers, given those between two frames.
    fn seconds(&self, period: f64) -> f64 {
        match (self.times.first(), self.times.last()) {
            (Some(first), Some(last)) => last - first + period,
            _ => 0.0,
        }
    }
}

/// Why no threshold can be derived.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TooLittle {
    /// Too few blocks.
    #[error(
        "the footage has {blocks} independent stretches of {block_seconds:.0} s, and at least {FEWEST_BLOCKS} \
         are needed: film for {} minutes or longer",
        (block_seconds * FEWEST_BLOCKS as f64 / 60.0).ceil()
    )]
    Blocks {
        /// Number of blocks.
        blocks: usize,
        /// Length of a block in seconds.
        block_seconds: f64,
    },
    /// Every block has the same maximum.
    #[error("all scores of the footage are the same: is it one still picture?")]
    Still,
}

/// Footage, cut into blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    /// Highest smoothed logit of each block, in descending order.
    pub maxima: Vec<f64>,
    /// Length of a block in seconds.
    pub seconds: f64,
    /// Seconds of all footage.
    pub footage: f64,
    /// Whether the scores are still correlated over a sixtieth of the footage: they drift, and
    /// blocks, a thirtieth each, are not independent.
    pub drifts: bool,
}

/// A threshold and its estimated rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Smoothed logit from which there is an alarm.
    pub logit: f64,
    /// Expected false alarms per day.
    pub per_day: f64,
    /// Lower end of the 95 % confidence interval, given the assumptions.
    pub low: f64,
    /// Upper end of that interval.
    pub high: f64,
    /// Whether alarms could be counted at this threshold, not extrapolated.
    pub counted: bool,
    /// Expected number of alarms in the footage at the requested rate.
    pub expected: f64,
}

/// Cuts recordings into blocks of twice the time in which the autocorrelation of the smoothed
/// logits falls below 1/e, but never shorter than `window` seconds, over which they were smoothed.
/// `period` is the time between two frames in seconds.
///
/// # Errors
/// [`TooLittle`].
pub fn blocks(recordings: &[Recording], period: f64, window: f64) -> Result<Blocks, TooLittle> {
    let footage: f64 = recordings.iter().map(|r| r.seconds(period)).sum();
    // Half as many again as needed: each recording loses part of a block at its end.
    let longest = footage / (1.5 * FEWEST_BLOCKS as f64);
    let (memory, drifts) = match decorrelation(recordings, (longest / 2.0 / period) as usize) {
        Some(lag) => (2.0 * lag as f64 * period, false),
        None => (longest, true),
    };
    let seconds = memory.max(window).max(period);
    let mut maxima = Vec::new();
    for recording in recordings {
        // A final part shorter than a block is left out: its maximum covers less time.
        let whole = ((recording.seconds(period) / seconds) + 1e-9) as usize;
        let start = recording.times.first().copied().unwrap_or_default();
        let mut own = vec![f64::NEG_INFINITY; whole];
        for (time, logit) in recording.times.iter().zip(&recording.logits) {
            if let Some(max) = own.get_mut(((time - start) / seconds) as usize) {
                *max = max.max(*logit);
            }
        }
        // A block without a score is a gap in the footage.
        maxima.extend(own.into_iter().filter(|m| m.is_finite()));
    }
    if maxima.len() < FEWEST_BLOCKS {
        return Err(TooLittle::Blocks { blocks: maxima.len(), block_seconds: seconds });
    }
    maxima.sort_by(|a, b| b.total_cmp(a));
    if maxima[0] - maxima[maxima.len() - 1] <= 0.0 {
        return Err(TooLittle::Still);
    }
    Ok(Blocks { maxima, seconds, footage, drifts })
}

/// The first lag at which the autocorrelation of all recordings together, each around its own mean,
/// is below 1/e; `None` if it is not, up to `most`.
fn decorrelation(recordings: &[Recording], most: usize) -> Option<usize> {
    let centred: Vec<Vec<f64>> = recordings
        .iter()
        .map(|r| {
            let mean = r.logits.iter().sum::<f64>() / r.logits.len().max(1) as f64;
            r.logits.iter().map(|l| l - mean).collect()
        })
        .collect();
    let product = |lag: usize| -> f64 {
        let pairs: usize = centred.iter().map(|c| c.len().saturating_sub(lag)).sum();
        let sum: f64 =
            centred.iter().flat_map(|c| c.iter().zip(c.iter().skip(lag))).map(|(a, b)| a * b).sum();
        sum / pairs.max(1) as f64
    };
    let variance = product(0);
    (1..=most).find(|&lag| product(lag) <= variance * (-1.0f64).exp())
}

impl Blocks {
    /// Adds blocks of which nothing but the maxima is known, such as false alarms that somebody has recognised.
    pub fn add(&mut self, maxima: &[f64]) {
        self.maxima.extend(maxima);
        self.maxima.sort_by(|a, b| b.total_cmp(a));
        self.footage += self.seconds * maxima.len() as f64;
    }

    /// Blocks per day.
    fn daily(&self) -> f64 {
        DAY / self.seconds
    }

    /// The threshold with `per_day` expected false alarms per day.
    pub fn threshold(&self, per_day: f64) -> Threshold {
        let n = self.maxima.len();
        // Expected alarms in this footage at that rate.
        let expected = per_day * n as f64 / self.daily();
        if expected >= COUNTABLE && (expected as usize) < n {
            let above = expected as usize;
            // Between the last maximum that raises an alarm and the first that does not.
            let logit = (self.maxima[above - 1] + self.maxima[above]) / 2.0;
            let rate = |count: f64| count / n as f64 * self.daily();
            let spread = SIGMAS * (above as f64).sqrt();
            return Threshold {
                logit,
                per_day: rate(above as f64),
                low: rate((above as f64 - spread).max(0.0)),
                high: rate(above as f64 + spread),
                counted: true,
                expected,
            };
        }
        let tail = (n / 10).clamp(TAIL.0, TAIL.1).min(n - 1);
        let level = self.maxima[tail];
        let excess: f64 = self.maxima[..tail].iter().map(|m| m - level).sum::<f64>() / tail as f64;
        // Equal maxima have no tail; the distance of the highest from the lowest bounds what was
        // not seen.
        let excess = excess.max((self.maxima[0] - self.maxima[n - 1]) / n as f64);
        let above_level = tail as f64 / n as f64 * self.daily();
        let logit = level + excess * (above_level / per_day).ln().max(0.0);
        // The relative error of the mean excess is 1/sqrt(tail), which extrapolation magnifies.
        let spread = SIGMAS / (tail as f64).sqrt();
        let rate = |excess: f64| above_level * (-(logit - level) / excess).exp();
        Threshold {
            logit,
            per_day: rate(excess),
            low: rate(excess * (1.0 - spread)),
            high: rate(excess * (1.0 + spread)),
            counted: false,
            expected,
        }
    }
}

/// The temperature (positive) with which `sigmoid(logit / temperature)` has the least
/// cross-entropy, both classes weighted equally. `None` without both classes, or if no temperature
/// within 1/100 to 100 is best: then the logits do not separate the classes, or do so without a
/// single error.
pub fn temperature(real: &[f64], fake: &[f64]) -> Option<f64> {
    if real.is_empty() || fake.is_empty() {
        return None;
    }
    // ln(1 + e^x), without overflow.
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let loss = |ln_t: f64| {
        let inverse = (-ln_t).exp();
        let real = real.iter().map(|l| softplus(l * inverse)).sum::<f64>() / real.len() as f64;
        let fake = fake.iter().map(|l| softplus(-l * inverse)).sum::<f64>() / fake.len() as f64;
        real + fake
    };
    // Convex in 1/T, so there is one least value: golden-section search in ln T.
    let (mut low, mut high) = ((0.01f64).ln(), (100.0f64).ln());
    let golden = (5.0f64.sqrt() - 1.0) / 2.0;
    for _ in 0..100 {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if loss(a) < loss(b) { high = b } else { low = a }
    }
    let found = ((low + high) / 2.0).exp();
    (0.011..90.0).contains(&found).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forensics::rng::Rng;

    /// A first-order autoregressive series with standard normal marginals, one value every half
    /// second, whose correlation falls to 1/e in `memory` seconds.
    fn series(seed: u64, seconds: f64, memory: f64) -> Recording {
        let mut rng = Rng::new(seed);
        let keep = (-0.5 / memory).exp();
        let fresh = (1.0 - keep * keep).sqrt();
        let mut state = f64::from(rng.normal());
        let mut recording = Recording::default();
        for n in 0..(seconds / 0.5) as usize {
            recording.times.push(n as f64 * 0.5);
            recording.logits.push(state);
            state = keep * state + fresh * f64::from(rng.normal());
        }
        recording
    }

    /// How often per day a long series crosses the threshold from below.
    fn crossings(threshold: f64, memory: f64) -> f64 {
        let days = 20.0;
        let long = series(99, days * DAY, memory);
        long.logits.windows(2).filter(|w| w[0] < threshold && w[1] >= threshold).count() as f64 / days
    }

    #[test]
    fn blocks_are_as_long_as_the_footage_remembers() {
        for memory in [2.0, 10.0] {
            let blocks = blocks(&[series(1, 7200.0, memory)], 0.5, 4.5).expect("enough");
            let wanted = (2.0 * memory).max(4.5);
            assert!((blocks.seconds / wanted).ln().abs() < 0.3, "{} for {memory}", blocks.seconds);
            assert!(!blocks.drifts);
            assert_eq!(blocks.maxima.len(), (7200.0 / blocks.seconds) as usize);
        }
    }

    #[test]
    fn a_rate_that_can_be_counted_is_met() {
        let blocks = blocks(&[series(2, 24.0 * 3600.0, 5.0)], 0.5, 4.5).expect("enough");
        let found = blocks.threshold(50.0);
        assert!(found.counted && found.low < 50.0 && 50.0 < found.high, "{found:?}");
        let true_rate = crossings(found.logit, 5.0);
        // A block with two crossings counts once, and one alarm in two blocks twice.
        assert!((true_rate / 50.0).ln().abs() < 0.5, "{true_rate}");
    }

    #[test]
    fn beyond_the_footage_the_tail_is_exponential_and_errs_on_the_safe_side() {
        // A Gaussian's tail is lighter than an exponential: extrapolating from an hour to once a
        // day must not promise fewer alarms than there are.
        let blocks = blocks(&[series(3, 3600.0, 5.0)], 0.5, 4.5).expect("enough");
        let found = blocks.threshold(1.0);
        assert!(!found.counted && found.expected < 0.05, "{found:?}");
        assert!(found.low < 1.0 && found.high > 1.0, "{found:?}");
        let true_rate = crossings(found.logit, 5.0);
        assert!(true_rate <= found.high, "{true_rate} {found:?}");
    }

    #[test]
    fn where_the_tail_is_exponential_the_interval_holds_the_rate_as_often_as_it_says() {
        let trials = 300;
        let held = (0..trials)
            .filter(|seed| {
                let mut rng = Rng::new(*seed);
                let mut maxima: Vec<f64> =
                    (0..600).map(|_| -2.0 * f64::from(1.0 - rng.unit()).ln()).collect();
                maxima.sort_by(|a, b| b.total_cmp(a));
                let exact = Blocks { maxima, seconds: 10.0, footage: 6000.0, drifts: false };
                let found = exact.threshold(0.5);
                let true_rate = (-found.logit / 2.0).exp() * exact.daily();
                found.low < true_rate && true_rate < found.high
            })
            .count();
        let share = held as f64 / trials as f64;
        assert!(share > 0.88, "{share}");
    }

    #[test]
    fn a_rarer_alarm_has_a_higher_threshold() {
        let blocks = blocks(&[series(4, 3600.0, 5.0)], 0.5, 4.5).expect("enough");
        let rates = [2000.0, 500.0, 100.0, 1.0, 0.03, 0.001];
        let thresholds: Vec<f64> = rates.iter().map(|r| blocks.threshold(*r).logit).collect();
        assert!(thresholds.windows(2).all(|w| w[0] < w[1]), "{thresholds:?}");
    }

    #[test]
    fn too_little_footage_is_refused_and_drift_is_told() {
        let short = blocks(&[series(1, 30.0, 2.0)], 0.5, 4.5).expect_err("too short").to_string();
        assert!(short.contains("at least 20") && short.contains("minutes"), "{short}");
        assert!(matches!(blocks(&[], 0.5, 4.5), Err(TooLittle::Blocks { blocks: 0, .. })));
        let still = Recording { times: (0..2000).map(f64::from).collect(), logits: vec![1.0; 2000] };
        assert_eq!(blocks(&[still], 1.0, 4.5), Err(TooLittle::Still));
        let ramp = Recording {
            times: (0..4000).map(f64::from).collect(),
            logits: (0..4000).map(|n| f64::from(n) / 1000.0).collect(),
        };
        assert!(blocks(&[ramp], 1.0, 4.5).expect("long enough").drifts);
    }

    #[test]
    fn the_temperature_is_the_one_that_the_logits_were_made_with() {
        // Labels drawn from sigmoid(l / 3): 3 is the temperature that says so.
        let mut rng = Rng::new(6);
        let (mut real, mut fake) = (vec![], vec![]);
        for _ in 0..20_000 {
            let logit = f64::from(rng.range(-9.0, 9.0));
            let probability = 1.0 / (1.0 + (-logit / 3.0).exp());
            if f64::from(rng.unit()) < probability { fake.push(logit) } else { real.push(logit) }
        }
        let found = temperature(&real, &fake).expect("overlapping");
        assert!((found - 3.0).abs() < 0.15, "{found}");
        assert_eq!(temperature(&[-1.0, -2.0], &[1.0, 2.0]), None, "no error at all");
        assert_eq!(temperature(&[1.0, 2.0], &[-1.0]), None, "the wrong way round");
        assert_eq!(temperature(&real, &[]), None);
    }
}
