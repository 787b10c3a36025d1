//! Average precision, the metric that the paper reports for each generator.

use super::metrics::Ranking;

/// Average precision of `scores` (higher means more likely positive) against `positive`, both
/// `[n]`: the sum over distinct thresholds of (recall gained) x (precision there), without
/// interpolation.
///
/// This is scikit-learn's `average_precision_score`: equal scores are one threshold, so their order
/// does not matter. `None` if there is no positive, no negative, or a score is NaN: then it is
/// meaningless.
///
/// # Panics
/// If the two slices differ in length.
pub fn average_precision(scores: &[f32], positive: &[bool]) -> Option<f64> {
    let curve = Ranking::new(scores, positive)?.curve(None);
    curve.has_both().then(|| curve.average_precision())
}

/// The value below which a share `q` (0..=1) of `values` lies, linear between neighbours (numpy's
/// default). `None` for an empty list.
pub fn quantile(values: &[f32], q: f64) -> Option<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, part) = (at.floor() as usize, at.fract() as f32);
    let high = (low + 1).min(last);
    Some(sorted[low] + (sorted[high] - sorted[low]) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ap(scores: &[f32], labels: &[u8]) -> f64 {
        let positive: Vec<bool> = labels.iter().map(|l| *l == 1).collect();
        average_precision(scores, &positive).unwrap()
    }

    // Expected values are those of scikit-learn's average_precision_score for the same lists.
    #[test]
    fn equals_scikit_learn() {
        assert!((ap(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]) - 0.833_333_333_333).abs() < 1e-9);
        assert!((ap(&[0.9, 0.8, 0.7, 0.6], &[1, 1, 0, 0]) - 1.0).abs() < 1e-12);
        assert!((ap(&[0.9, 0.8, 0.7, 0.6], &[0, 0, 1, 1]) - 0.416_666_666_666).abs() < 1e-9);
    }

    #[test]
    fn ties_are_one_threshold() {
        // All equal: precision is the share of positives, whatever the order.
        assert!((ap(&[0.5; 4], &[1, 0, 0, 0]) - 0.25).abs() < 1e-12);
        assert!((ap(&[0.5; 4], &[0, 0, 0, 1]) - 0.25).abs() < 1e-12);
        // Thresholds 0.8 (1 of 1), 0.5 (2 of 3), 0.1 (2 of 4, nothing gained).
        assert!((ap(&[0.8, 0.5, 0.5, 0.1], &[1, 1, 0, 0]) - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        assert!((ap(&[0.0, -0.0], &[0, 1]) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn order_of_input_does_not_matter() {
        let scores = [0.3, 0.9, 0.3, 0.2, 0.9, 0.7, 0.1];
        let labels = [1, 0, 0, 1, 1, 0, 1];
        let forward = ap(&scores, &labels);
        let (mut s, mut l) = (scores.to_vec(), labels.to_vec());
        s.reverse();
        l.reverse();
        assert_eq!(forward, ap(&s, &l));
    }

    #[test]
    fn says_when_it_means_nothing() {
        assert_eq!(average_precision(&[0.1, 0.2], &[true, true]), None);
        assert_eq!(average_precision(&[0.1, 0.2], &[false, false]), None);
        assert_eq!(average_precision(&[], &[]), None);
        assert_eq!(average_precision(&[f32::NAN, 0.2], &[true, false]), None);
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[0.0, 1.0], 0.25), Some(0.25));
        assert_eq!(quantile(&[5.0], 0.99), Some(5.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
