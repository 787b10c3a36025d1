//! Derives a scale and a zero point from the values of a tensor.

use super::statistics::Histogram;

/// How the range of a tensor is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clipping {
    /// Everything that was seen.
    MinMax,
    /// All but a small share of it.
    Percentile(f64),
    /// The range with the least expected squared error.
    Mse,
}

impl Clipping {
    /// All those that are tried.
    pub const ALL: [Clipping; 5] = [
        Clipping::MinMax,
        Clipping::Percentile(0.99999),
        Clipping::Percentile(0.9999),
        Clipping::Percentile(0.999),
        Clipping::Mse,
    ];
}

impl std::fmt::Display for Clipping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Clipping::MinMax => f.write_str("min/max"),
            Clipping::Percentile(share) => write!(f, "percentile {}", (1e5 * share).round() / 1e3),
            Clipping::Mse => f.write_str("least squares"),
        }
    }
}

/// `value = scale * (byte - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Step size; positive and finite.
    pub scale: f32,
    /// The byte that stands for 0: 0..=255, or 0 for signed bytes.
    pub zero: i32,
    /// Bytes are -128..=127 instead of 0..=255.
    pub signed: bool,
}

impl Step {
    /// The quantisation that covers `low..=high` and 0, which must be exact, because padding and
    /// ReLU produce it.
    pub(crate) fn covering(low: f32, high: f32, signed: bool) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        if signed {
            // -128 is unused, so that the range is symmetric (TensorRT's rule).
            return Self { scale: positive(high.max(-low) / 127.0), zero: 0, signed };
        }
        let scale = positive((high / 255.0) - (low / 255.0));
        let zero = (-low / scale).round().clamp(0.0, 255.0) as i32;
        Self { scale, zero, signed }
    }

    /// Least and largest value that a byte can stand for.
    pub fn reach(&self) -> (f32, f32) {
        let (least, most) = if self.signed { (-128, 127) } else { (0, 255) };
        ((least - self.zero) as f32 * self.scale, (most - self.zero) as f32 * self.scale)
    }

    /// The value after rounding to a byte, by the rule of ONNX: nearest, ties to even, saturated.
    pub fn rounded(&self, value: f32) -> f32 {
        let (least, most) = if self.signed { (-128, 127) } else { (0, 255) };
        let byte =
            ((value / self.scale).round_ties_even() as i32).saturating_add(self.zero).clamp(least, most);
        (byte - self.zero) as f32 * self.scale
    }
}

/// A tensor that is 0 everywhere still needs a scale.
fn positive(scale: f32) -> f32 {
    if scale.is_finite() && scale >= 1e-30 { scale } else { 1.0 / 255.0 }
}

/// The quantisation of a tensor's values.
pub fn step(histogram: &Histogram, clipping: Clipping, signed: bool) -> Step {
    let (low, high) = match clipping {
        Clipping::MinMax => histogram.extent(),
        Clipping::Percentile(share) => histogram.percentile(share),
        Clipping::Mse => return least_squares(histogram, signed),
    };
    Step::covering(low, high, signed)
}

/// Number of ranges that are tried, as fractions of the whole.
const TRIES: usize = 64;

/// Shrinks both ends together, then each on its own.
fn least_squares(histogram: &Histogram, signed: bool) -> Step {
    let (low, high) = histogram.extent();
    let (low, high) = (low.min(0.0), high.max(0.0));
    let share = |at: usize| at as f32 / TRIES as f32;
    let best = |candidates: &mut dyn Iterator<Item = (f32, f32)>| {
        candidates
            .map(|(l, h)| (squared_error(histogram, Step::covering(l, h, signed)), l, h))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map_or((low, high), |(_, l, h)| (l, h))
    };
    let (mut l, mut h) = best(&mut (1..=TRIES).map(|at| (low * share(at), high * share(at))));
    if !signed && low < 0.0 && high > 0.0 {
        (l, _) = best(&mut (1..=TRIES).map(|at| (low * share(at), h)));
        (l, h) = best(&mut (1..=TRIES).map(|at| (l, high * share(at))));
    }
    Step::covering(l, h, signed)
}

/// Expected squared error of all values together: inside the range a twelfth of the squared step,
/// as for uniform rounding errors; outside, the squared distance to its end.
fn squared_error(histogram: &Histogram, step: Step) -> f64 {
    let (low, high) = step.reach();
    let rounding = f64::from(step.scale).powi(2) / 12.0;
    histogram
        .counts()
        .map(|(value, count)| {
            let beyond = f64::from((low - value).max(value - high).max(0.0));
            count as f64 * (rounding + beyond * beyond)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        assert!(histogram.add(values));
        histogram
    }

    /// Mean squared error of the actual values.
    fn error(values: &[f32], step: Step) -> f64 {
        values.iter().map(|v| f64::from(v - step.rounded(*v)).powi(2)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn least_squares_gives_up_a_lone_outlier() {
        // The range h of least error is where 2 (4 - h) / n = 2 h / (12 * 255^2): 2.6 for this
        // many.
        let mut values: Vec<f32> = (0..400_000).map(|v| (f64::from(v) * 0.618).fract() as f32).collect();
        values.push(4.0);
        let of = |clipping| step(&histogram(&values), clipping, false);
        let (all, clipped) = (of(Clipping::MinMax), of(Clipping::Mse));
        assert!((all.reach().1 - 4.0).abs() < 1e-5 && clipped.reach().1 < 3.0, "{clipped:?}");
        assert!(error(&values, clipped) < error(&values, all));
    }

    #[test]
    fn a_tensor_of_nothing_but_zeros_gets_a_scale() {
        for clipping in Clipping::ALL {
            for signed in [false, true] {
                let step = step(&histogram(&[0.0; 9]), clipping, signed);
                assert!(step.scale > 0.0 && step.rounded(0.0) == 0.0, "{clipping} {step:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn zero_is_exact_and_what_is_covered_is_off_by_half_a_step(
            low in -1e3f32..1e3, width in 0f32..1e3, signed: bool, share in 0f32..1.0,
        ) {
            let high = low + width;
            let step = Step::covering(low, high, signed);
            prop_assert_eq!(step.rounded(0.0), 0.0);
            prop_assert!((0..=255).contains(&step.zero));
            let value = low + share * width;
            // The zero point is rounded too, so the outermost value may be a step and a half away.
            prop_assert!((step.rounded(value) - value).abs() <= 1.01 * step.scale);
            if signed || low >= 0.0 {
                prop_assert!((step.rounded(value) - value).abs() <= 0.5001 * step.scale + value.abs() * 1e-5);
            }
        }

        #[test]
        fn least_squares_is_not_worse_than_the_whole_range(
            values in prop::collection::vec(-1f32..1.0, 200..400), outlier in 1f32..30.0, signed: bool, relu: bool,
        ) {
            let mut values = values;
            values.push(outlier);
            if relu {
                values.iter_mut().for_each(|v| *v = v.max(0.0));
            }
            let histogram = histogram(&values);
            let (clipped, whole) = (step(&histogram, Clipping::Mse, signed), step(&histogram, Clipping::MinMax, signed));
            // By its own measure, which assumes uniform rounding errors.
            prop_assert!(squared_error(&histogram, clipped) <= squared_error(&histogram, whole) * 1.000_001);
        }

        #[test]
        fn a_percentile_lies_within_the_whole_range(values in prop::collection::vec(-1f32..1.0, 1..300)) {
            let histogram = histogram(&values);
            let (low, high) = histogram.extent();
            for share in [0.9, 0.999, 1.0] {
                let (l, h) = histogram.percentile(share);
                prop_assert!(l >= low.min(0.0) && h <= high.max(0.0) && l <= h);
            }
        }
    }
}
