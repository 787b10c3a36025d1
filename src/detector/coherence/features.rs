//! Turns block sums into the head's input features.

use super::BlockSums;
use super::luma::SIDE;
use super::sums::{CHANNELS, HALF};

/// Frequencies of a quarter plane.
const BINS: usize = HALF * HALF;
/// Kinds of features per frequency.
const KINDS: usize = 3;
/// Number of features.
pub const FEATURES: usize = CHANNELS * KINDS * BINS;

/// Whether a feature describes coherence rather than just the spectrum.
pub fn is_coherence(feature: usize) -> bool {
    feature / BINS % KINDS < 2
}

/// For each channel (residual, its absolute value, second difference, its absolute value):
/// `log(C + 0.05)`, `log(C / B + 0.0001)` with C the coherence and B the number of blocks, and
/// `log(P + 0.0001)` minus its mean, with P the mean power; each at the frequencies u, v = 0..=8 in
/// sixteenths of a cycle per pixel (v slowest), averaged over v and -v. The first tells how certain
/// a repetition is, the second how strong, the third how the residual's energy is distributed.
pub fn features(sums: &BlockSums) -> Vec<f32> {
    let mut out = Vec::with_capacity(FEATURES);
    let (blocks, stillness) = (sums.blocks.max(1.0), sums.stillness());
    let measured = sums.measured.max(1.0);
    for channel in 0..CHANNELS {
        let folded = |rows: usize, measure: &dyn Fn(usize) -> f32| -> Vec<f32> {
            let of = |v: usize, u: usize| measure(v * SIDE + u);
            (0..rows)
                .flat_map(|v| (0..HALF).map(move |u| (v, u)))
                .map(|(v, u)| (of(v, u) + of((SIDE - v) % SIDE, u)) / 2.0)
                .collect()
        };
        out.extend(folded(HALF, &|at| (sums.coherence(channel, at) / stillness + 0.05).ln()));
        out.extend(folded(HALF, &|at| (sums.coherence(channel, at) / blocks + 1e-4).ln()));
        let power = &sums.channels[channel].power;
        let all = folded(SIDE, &|at| (power[at] / measured + 1e-4).ln());
        let mean = all.iter().sum::<f32>() / all.len() as f32;
        out.extend(all[..BINS].iter().map(|p| p - mean));
    }
    out
}
