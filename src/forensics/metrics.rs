//! Metrics of a ranking: average precision, ROC, accuracy, false-positive rate at a stated recall,
//! calibration; and their uncertainty.
//!
//! Everything is based on one walk down the scores ([`Ranking::curve`]), in which equal scores are
//! one threshold, so that the order of a list never matters.

use super::rng::Rng;

/// Bins of the expected calibration error, of equal width over 0..1 (Guo et al., ICML 2017, use
/// 15).
pub(crate) const CALIBRATION_BINS: usize = 15;

/// Scores in descending order with their labels; higher means more likely positive.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// The positions of the sorted scores in the given list.
    order: Vec<usize>,
    scores: Vec<f32>,
    positive: Vec<bool>,
}

/// One threshold: everything with at least this score is called positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The score.
    pub threshold: f32,
    /// Positives at or above it (weighted).
    pub hits: f64,
    /// Negatives at or above it (weighted).
    pub false_alarms: f64,
}

/// The thresholds of a ranking from the highest to the lowest.
#[derive(Clone, Debug)]
pub struct Curve {
    /// One point for each distinct score.
    pub points: Vec<Point>,
    /// Weight of all positives.
    pub positives: f64,
    /// Weight of all negatives.
    pub negatives: f64,
}

impl Ranking {
    /// Sorts `scores` `[n]` with their labels `[n]`. `None` if a score is NaN.
    ///
    /// # Panics
    /// If the two slices differ in length.
    pub fn new(scores: &[f32], positive: &[bool]) -> Option<Self> {
        assert_eq!(scores.len(), positive.len(), "one label a score");
        if scores.iter().any(|s| s.is_nan()) {
            return None;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        Some(Self {
            scores: order.iter().map(|&at| scores[at]).collect(),
            positive: order.iter().map(|&at| positive[at]).collect(),
            order,
        })
    }

    /// Walks down the scores. `weights` `[n]`, in the order of the list given to [`Ranking::new`],
    /// is how often each entry counts; `None` counts each once.
    pub fn curve(&self, weights: Option<&[f64]>) -> Curve {
        let mut curve = Curve { points: Vec::new(), positives: 0.0, negatives: 0.0 };
        let mut at = 0;
        while at < self.scores.len() {
            // `==` and not `total_cmp`: 0.0 and -0.0 are one threshold.
            let threshold = self.scores[at];
            while at < self.scores.len() && self.scores[at] == threshold {
                let weight = weights.map_or(1.0, |w| w[self.order[at]]);
                *(if self.positive[at] { &mut curve.positives } else { &mut curve.negatives }) += weight;
                at += 1;
            }
            curve.points.push(Point { threshold, hits: curve.positives, false_alarms: curve.negatives });
        }
        curve
    }
}

impl Curve {
    /// Whether there are positives and negatives; without both no metric means anything.
    pub fn has_both(&self) -> bool {
        self.positives > 0.0 && self.negatives > 0.0
    }

    /// Sum over thresholds of (recall gained) x (precision there), without interpolation:
    /// scikit-learn's `average_precision_score`. 0..1.
    pub fn average_precision(&self) -> f64 {
        let mut before = 0.0;
        let mut sum = 0.0;
        for point in &self.points {
            // Skips thresholds without gain, whose precision is 0/0 while all weights so far are
            // zero.
            if point.hits > before {
                sum += (point.hits - before) * point.hits / (point.hits + point.false_alarms);
            }
            before = point.hits;
        }
        sum / self.positives
    }

    /// Area under the ROC curve by trapezoids, 0..1: the probability that a positive is ranked
    /// above a negative, with ties counting half (scikit-learn's `roc_auc_score`).
    pub fn auc(&self) -> f64 {
        let (mut hits, mut false_alarms, mut area) = (0.0, 0.0, 0.0);
        for point in &self.points {
            area += (point.false_alarms - false_alarms) * (hits + point.hits) / 2.0;
            (hits, false_alarms) = (point.hits, point.false_alarms);
        }
        area / (self.positives * self.negatives)
    }

    /// The highest accuracy that any threshold reaches, 0..1, and that threshold; `None` if calling
    /// nothing positive is best. Of equally good thresholds it is the highest.
    pub fn best_accuracy(&self) -> (f64, Option<f32>) {
        let all = self.positives + self.negatives;
        let mut best = (self.negatives / all, None);
        for point in &self.points {
            let accuracy = (point.hits + self.negatives - point.false_alarms) / all;
            if accuracy > best.0 {
                best = (accuracy, Some(point.threshold));
            }
        }
        best
    }

    /// Share of the negatives called positive at the highest threshold that finds at least the
    /// share `recall` (above 0, at most 1) of the positives.
    pub fn false_positive_rate_at(&self, recall: f64) -> f64 {
        // 9 of 10 is a recall of 0.9, whatever 0.9 x 10 is in binary.
        let wanted = recall * self.positives * (1.0 - 1e-12);
        let found = self.points.iter().find(|p| p.hits >= wanted);
        found.map_or(1.0, |p| p.false_alarms / self.negatives)
    }
}

/// Expected calibration error of probabilities of being positive (0..1) `[n]`: over
/// `CALIBRATION_BINS` bins of equal width, the mean distance between a bin's mean probability and
/// its share of positives, weighted by its entries. It depends on the share of positives, as any
/// calibration does.
///
/// # Panics
/// If the slices differ in length.
pub fn calibration_error(probabilities: &[f64], positive: &[bool], weights: Option<&[f64]>) -> f64 {
    assert_eq!(probabilities.len(), positive.len(), "one label a probability");
    let mut bins = [(0.0, 0.0, 0.0); CALIBRATION_BINS];
    for (at, (&probability, &positive)) in probabilities.iter().zip(positive).enumerate() {
        let bin = ((probability * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1);
        let weight = weights.map_or(1.0, |w| w[at]);
        let (count, sum, hits) = &mut bins[bin];
        *count += weight;
        *sum += weight * probability;
        *hits += if positive { weight } else { 0.0 };
    }
    let total: f64 = bins.iter().map(|b| b.0).sum();
    bins.iter().map(|(_, sum, hits)| (sum - hits).abs()).sum::<f64>() / total
}

/// How often each of `n` pictures counts in replicate `replicate` of a bootstrap: independent
/// Poisson(1) numbers, which is resampling with replacement where the sample's size may vary
/// (Hanley and MacGibbon, 2006). One draw serves every set and condition in which a picture occurs,
/// so that means over sets that share photographs do not appear more certain than they are.
pub fn bootstrap_weights(seed: u64, replicate: u64, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed).fork(replicate);
    (0..n)
        .map(|_| {
            let draw = f64::from(rng.unit());
            let (mut k, mut share, mut below) = (0.0, (-1.0f64).exp(), (-1.0f64).exp());
            while draw >= below && k < 20.0 {
                k += 1.0;
                share /= k;
                below += share;
            }
            k
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(scores: &[f32], labels: &[u8]) -> Curve {
        let positive: Vec<bool> = labels.iter().map(|l| *l == 1).collect();
        Ranking::new(scores, &positive).expect("numbers").curve(None)
    }

    #[test]
    fn a_perfect_a_reversed_and_an_undecided_ranking() {
        let perfect = curve(&[0.9, 0.8, 0.2, 0.1], &[1, 1, 0, 0]);
        assert_eq!((perfect.auc(), perfect.average_precision()), (1.0, 1.0));
        assert_eq!(perfect.best_accuracy(), (1.0, Some(0.8)));
        assert_eq!(perfect.false_positive_rate_at(1.0), 0.0);
        let reversed = curve(&[0.9, 0.8, 0.2, 0.1], &[0, 0, 1, 1]);
        assert_eq!((reversed.auc(), reversed.best_accuracy()), (0.0, (0.5, None)));
        assert_eq!(reversed.false_positive_rate_at(0.5), 1.0);
        let undecided = curve(&[0.5; 4], &[0, 1, 0, 1]);
        assert_eq!((undecided.auc(), undecided.average_precision()), (0.5, 0.5));
    }

    #[test]
    fn false_positives_at_a_recall_are_those_of_the_highest_threshold_that_reaches_it() {
        let scores: Vec<f32> = (0..20).map(|n| 1.0 - n as f32 / 20.0).collect();
        // Ten positives; negatives are in places 3, 8 and from 13 on.
        let labels: Vec<u8> = (0..20).map(|n| u8::from(n != 3 && n != 8 && n < 12)).collect();
        let curve = curve(&scores, &labels);
        assert_eq!(curve.positives, 10.0);
        assert_eq!(curve.false_positive_rate_at(0.3), 0.0);
        assert_eq!(curve.false_positive_rate_at(0.4), 0.1);
        assert_eq!(curve.false_positive_rate_at(0.9), 0.2);
        assert_eq!(curve.false_positive_rate_at(1.0), 0.2);
    }

    #[test]
    fn weights_are_repetitions() {
        let (scores, labels) = ([0.9, 0.7, 0.7, 0.4, 0.1], [true, false, true, true, false]);
        let weights = [2.0, 1.0, 0.0, 3.0, 1.0];
        let weighted = Ranking::new(&scores, &labels).expect("numbers").curve(Some(&weights));
        let mut repeated: (Vec<f32>, Vec<bool>) = (vec![], vec![]);
        for (at, weight) in weights.iter().enumerate() {
            for _ in 0..*weight as usize {
                repeated.0.push(scores[at]);
                repeated.1.push(labels[at]);
            }
        }
        let plain = Ranking::new(&repeated.0, &repeated.1).expect("numbers").curve(None);
        assert_eq!(weighted.average_precision(), plain.average_precision());
        assert_eq!(weighted.auc(), plain.auc());
        assert_eq!(weighted.best_accuracy().0, plain.best_accuracy().0);
        let probabilities: Vec<f64> = scores.iter().map(|s| f64::from(*s)).collect();
        let wide: Vec<f64> = repeated.0.iter().map(|s| f64::from(*s)).collect();
        let (a, b) = (
            calibration_error(&probabilities, &labels, Some(&weights)),
            calibration_error(&wide, &repeated.1, None),
        );
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn leading_entries_of_no_weight_leave_numbers() {
        let ranking = Ranking::new(&[0.9, 0.8, 0.1], &[true, true, false]).expect("numbers");
        assert_eq!(ranking.curve(Some(&[0.0, 1.0, 1.0])).average_precision(), 1.0);
    }

    #[test]
    fn probabilities_that_hold_have_no_calibration_error() {
        let probabilities: Vec<f64> = [0.25; 8].into_iter().chain([1.0; 3]).collect();
        let positive: Vec<bool> = (0..11).map(|n| !(2..=7).contains(&n)).collect();
        assert!(calibration_error(&probabilities, &positive, None).abs() < 1e-12);
        assert!((calibration_error(&[1.0, 0.0], &[false, true], None) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bootstrap_weights_are_poisson_and_reproducible() {
        let weights = bootstrap_weights(1, 3, 50_000);
        assert_eq!(weights, bootstrap_weights(1, 3, 50_000));
        assert_ne!(weights[..100], bootstrap_weights(1, 4, 100)[..]);
        let mean = weights.iter().sum::<f64>() / 5e4;
        let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / 5e4;
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let none = weights.iter().filter(|w| **w == 0.0).count() as f64 / 5e4;
        assert!((none - (-1.0f64).exp()).abs() < 0.01, "{none}");
    }
}
