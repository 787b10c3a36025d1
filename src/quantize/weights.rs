//! Weights as signed bytes with one scale per output channel, and biases as 32-bit integers.

/// Largest magnitude of a weight. -128 is unused.
pub(super) const MOST: f32 = 127.0;

/// The same where two products with bytes have to fit into 16 bits: `2 * 64 * 255 < 2^15`.
pub(super) const REDUCED: f32 = 64.0;

/// Largest magnitude of a bias, in steps of `scale of input * scale of weight`, so that it leaves
/// room for a sum of products in 32 bits.
const MOST_BIAS: f32 = (1u32 << 30) as f32;

/// The weights and biases of a layer in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bytes {
    pub weights: Vec<i8>,
    /// One per output channel; positive and finite.
    pub scales: Vec<f32>,
}

/// Rounds weights `[outputs, ...]`. Each channel's scale is the one with the least squared error;
/// it is increased where a bias would not fit (`input_scale` is that of the layer's input). No
/// weight is larger than `most` steps.
pub(super) fn quantise(weights: &[f32], outputs: usize, bias: &[f32], input_scale: f32, most: f32) -> Bytes {
    let volume = weights.len() / outputs;
    let mut bytes = Bytes { weights: Vec::with_capacity(weights.len()), scales: Vec::with_capacity(outputs) };
    for (channel, bias) in weights.chunks_exact(volume).zip(bias) {
        let fits = bias.abs() / (input_scale * MOST_BIAS);
        let scale = best_scale(channel, most).max(fits).max(f32::MIN_POSITIVE);
        bytes.weights.extend(channel.iter().map(|w| round(*w, scale, most)));
        bytes.scales.push(scale);
    }
    bytes
}

/// Whether biases fit in steps of `input_scale * scale`.
pub(super) fn bias_fits(bias: &[f32], scales: &[f32], input_scale: f32) -> bool {
    bias.iter().zip(scales).all(|(b, s)| b.abs() <= s * input_scale * MOST_BIAS)
}

/// The bias in steps of `input_scale * scale`, rounded.
pub(super) fn quantise_bias(bias: &[f32], scales: &[f32], input_scale: f32) -> Vec<i32> {
    bias.iter()
        .zip(scales)
        .map(|(b, s)| (f64::from(*b) / (f64::from(*s) * f64::from(input_scale))).round() as i32)
        .collect()
}

/// The nearest integer number of steps, ties to even. Adding 1.5 * 2^23 leaves no room for a
/// fraction: `round_ties_even` would be a function call on baseline x86-64, and this is done dozens
/// of times for each weight.
#[inline(always)]
fn steps(weight: f32, scale: f32, most: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0;
    ((weight / scale).clamp(-most, most) + WHOLE) - WHOLE
}

fn round(weight: f32, scale: f32, most: f32) -> i8 {
    steps(weight, scale, most) as i8
}

/// Clips a few very large weights where that makes all others more precise.
fn best_scale(channel: &[f32], most: f32) -> f32 {
    let largest = channel.iter().fold(0f32, |m, w| m.max(w.abs()));
    if largest == 0.0 {
        // All zero: any scale will do; this one keeps the bias precise.
        return 1.0 / most;
    }
    let error = |scale: f32| {
        channel.iter().map(|w| f64::from(w - steps(*w, scale, most) * scale).powi(2)).sum::<f64>()
    };
    (0..=20u8)
        .map(|cut| largest / most * (1.0 - 0.02 * f32::from(cut)))
        .map(|scale| (scale, error(scale)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .expect("not empty")
        .0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn weights_come_back_within_what_clipping_allows(
            weights in prop::collection::vec(-2f32..2.0, 1..60), outputs in 1usize..4, reduced in any::<bool>(),
        ) {
            let limit = if reduced { REDUCED } else { MOST };
            let weights = weights.repeat(outputs);
            let bytes = quantise(&weights, outputs, &vec![0.0; outputs], 0.01, limit);
            prop_assert_eq!(bytes.weights.len(), weights.len());
            let volume = weights.len() / outputs;
            let squared = |scale: &dyn Fn(usize) -> f32| -> f64 {
                weights.iter().enumerate().map(|(at, w)| {
                    let s = scale(at / volume);
                    f64::from(w - f32::from(round(*w, s, limit)) * s).powi(2)
                }).sum()
            };
            let most = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
            prop_assert!(squared(&|c| bytes.scales[c]) <= squared(&|_| most.max(1e-9) / limit) * 1.000_001 + 1e-12);
            prop_assert!(bytes.weights.iter().all(|w| f32::from(*w).abs() <= limit));
        }

        #[test]
        fn a_bias_always_fits_and_keeps_its_precision(
            bias in -1e6f32..1e6, weight in -1f32..1.0, input in 1e-6f32..1.0,
        ) {
            let bytes = quantise(&[weight], 1, &[bias], input, MOST);
            let whole = quantise_bias(&[bias], &bytes.scales, input)[0];
            prop_assert!(f64::from(whole).abs() <= f64::from(MOST_BIAS) * 1.000_001);
            let back = f64::from(whole) * f64::from(bytes.scales[0]) * f64::from(input);
            let step = f64::from(bytes.scales[0]) * f64::from(input);
            prop_assert!((back - f64::from(bias)).abs() <= 0.5 * step + f64::from(bias).abs() * 1e-6);
        }
    }

    proptest! {
        #[test]
        fn steps_are_what_rounding_says(weight in -300f32..300.0, scale in 0.01f32..3.0, half in any::<i8>()) {
            for weight in [weight, (f32::from(half) + 0.5) * scale] {
                let said = (weight / scale).round_ties_even().clamp(-MOST, MOST);
                prop_assert_eq!(steps(weight, scale, MOST), said);
            }
        }
    }

    #[test]
    fn a_channel_of_zeros_keeps_its_bias() {
        let bytes = quantise(&[0.0; 9], 1, &[3.25], 0.02, MOST);
        let whole = quantise_bias(&[3.25], &bytes.scales, 0.02)[0];
        assert!((f64::from(whole) * f64::from(bytes.scales[0]) * 0.02 - 3.25).abs() < 1e-3);
    }
}
