//! Sums over the blocks of one or several frames, which are all that is kept of them.

use std::sync::{Arc, OnceLock};

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::luma::{Luma, SIDE};
use super::residual::{residual, second_difference};

/// Frequencies kept of each row of a block's spectrum: the plane is real, so the rest mirrors
/// these.
pub(super) const HALF: usize = SIDE / 2 + 1;
const AREA: usize = SIDE * SIDE;
/// Added to powers, so that a block of one colour does not divide by zero.
pub(super) const TINY: f32 = 1e-9;

/// Planes that are summed.
pub(super) const CHANNELS: usize = 4;

/// The sums of one channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChannelSums {
    /// Sum of the blocks' spectra, `SIDE` rows of `SIDE`.
    pub total: Vec<Complex32>,
    /// Sum of the blocks' power spectra, likewise.
    pub power: Vec<f32>,
}

impl ChannelSums {
    fn zero() -> Self {
        Self { total: vec![Complex32::ZERO; AREA], power: vec![0.0; AREA] }
    }
}

/// Sums over the blocks of one or several frames: memory does not grow with their number.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSums {
    /// Those of the residual, its absolute value, the second difference, and its absolute value.
    pub(super) channels: [ChannelSums; CHANNELS],
    /// Blocks that were added, minus what has faded.
    pub(super) blocks: f32,
    /// Blocks behind the power, likewise.
    pub(super) measured: f32,
    /// Sum of the frames' own typical coherences, weighted by their blocks and faded like them.
    plain: f32,
}

/// Blocks per frame whose power is measured at most, spread evenly: a mean of that many is accurate
/// to 3 %. The sums themselves, which carry the trace, are over all blocks.
const MEASURED: usize = 1024;

impl BlockSums {
    /// The sums of one plane's blocks, on the grid of its upper left corner. Incomplete blocks at
    /// the right and lower edge are left out.
    pub fn of(luma: &Luma) -> Self {
        let plan = Plan::shared();
        let mut sums = Self {
            channels: std::array::from_fn(|_| ChannelSums::zero()),
            blocks: 0.0,
            measured: 0.0,
            plain: 0.0,
        };
        let (columns, rows) = (luma.width / SIDE, luma.height / SIDE);
        let step = (columns * rows).div_ceil(MEASURED).max(1);
        sums.blocks = (columns * rows) as f32;
        sums.measured = (columns * rows).div_ceil(step) as f32;
        for (half, plane) in [residual(luma), second_difference(luma)].into_iter().enumerate() {
            let [signed, absolute] = &mut sums.channels[half * 2..half * 2 + 2] else { unreachable!() };
            let mut folded = [[0.0f32; AREA]; 2];
            for rows in plane.chunks_exact(luma.width * SIDE) {
                for (y, row) in rows.chunks_exact(luma.width).enumerate() {
                    let [plain, magnitude] = &mut folded;
                    let (plain, magnitude) =
                        (&mut plain[y * SIDE..][..SIDE], &mut magnitude[y * SIDE..][..SIDE]);
                    for piece in row.chunks_exact(SIDE) {
                        for ((p, m), &r) in plain.iter_mut().zip(magnitude.iter_mut()).zip(piece) {
                            *p += r;
                            *m += r.abs();
                        }
                    }
                }
            }
            for block in (0..columns * rows).step_by(step) {
                let from = block / columns * SIDE * luma.width + block % columns * SIDE;
                let mut both = [Complex32::ZERO; AREA];
                for (y, to) in both.chunks_exact_mut(SIDE).enumerate() {
                    let row = &plane[from + y * luma.width..][..SIDE];
                    // Both channels are real, so one complex transform serves both.
                    to.iter_mut().zip(row).for_each(|(to, &r)| *to = Complex32::new(r, r.abs()));
                }
                plan.transform(&mut both);
                add_power(&both, &mut signed.power, &mut absolute.power);
            }
            for (channel, folded) in [signed, absolute].into_iter().zip(&folded) {
                // The sum of spectra is the spectrum of the sum.
                channel.total.iter_mut().zip(folded).for_each(|(to, &v)| *to = Complex32::new(v, 0.0));
                plan.transform(&mut channel.total);
            }
        }
        sums.plain = sums.typical() * sums.blocks;
        sums
    }

    /// Coherence of a channel at a frequency: about 1 for random phases, up to the number of
    /// blocks.
    pub(super) fn coherence(&self, channel: usize, at: usize) -> f32 {
        let ChannelSums { total, power } = &self.channels[channel];
        let mean = total[at].norm_sqr() / (self.blocks * self.blocks).max(1.0);
        mean / (power[at] / self.measured.max(1.0) + TINY) * self.blocks
    }

    /// The median of the residual's coherence over all frequencies except zero.
    fn typical(&self) -> f32 {
        let mut all: Vec<f32> = (1..AREA).map(|at| self.coherence(0, at)).collect();
        let middle = all.len() / 2;
        *all.select_nth_unstable_by(middle, f32::total_cmp).1
    }

    /// By how much coherence has grown from frame to frame in all frequencies alike, at least 1. A
    /// scene that does not move repeats too, with everything in it: this part of the growth is due
    /// to the scene.
    pub(super) fn stillness(&self) -> f32 {
        let single = self.plain / self.blocks.max(1.0);
        (self.typical() / single.max(TINY)).max(1.0)
    }

    /// Fades the accumulated sums to `keep` (0..1) of their weight and adds the next frame's.
    pub fn follow(&mut self, next: &Self, keep: f32) {
        for (mine, theirs) in self.channels.iter_mut().zip(&next.channels) {
            mine.total.iter_mut().zip(&theirs.total).for_each(|(a, b)| *a = *a * keep + b);
            mine.power.iter_mut().zip(&theirs.power).for_each(|(a, b)| *a = *a * keep + b);
        }
        self.blocks = self.blocks * keep + next.blocks;
        self.measured = self.measured * keep + next.measured;
        self.plain = self.plain * keep + next.plain;
    }

    /// Mean power of the second difference at frequencies of 5/16 to 8/16 of a cycle per pixel, in
    /// either direction, in decibels relative to a checkerboard's.
    pub(in crate::detector) fn detail(&self) -> f32 {
        let high = |at: usize| {
            let distance = |n: usize| n.min(SIDE - n);
            distance(at % SIDE).max(distance(at / SIDE)) >= 5
        };
        let power: f32 = (0..AREA).filter(|&at| high(at)).map(|at| self.channels[2].power[at]).sum();
        // A checkerboard puts all its power, `AREA` squared, into one frequency.
        10.0 * (power / self.measured.max(1.0) / (AREA * AREA) as f32 + TINY).log10()
    }

    /// Number of blocks behind the sums.
    pub fn blocks(&self) -> f32 {
        self.blocks
    }
}

/// Separates the power of both channels from their joint transform `z = F(r) + i F(|r|)`: with `m`
/// the frequency mirrored, `F(r) = (z + conj z_m) / 2` and `F(|r|) = (z - conj z_m) / 2i`.
fn add_power(z: &[Complex32; AREA], first: &mut [f32], second: &mut [f32]) {
    for v in 0..SIDE {
        let mirrored_row = (SIDE - v) % SIDE * SIDE;
        for u in 0..SIDE {
            let at = v * SIDE + u;
            let m = z[mirrored_row + (SIDE - u) % SIDE].conj();
            first[at] += (z[at] + m).norm_sqr() / 4.0;
            second[at] += (z[at] - m).norm_sqr() / 4.0;
        }
    }
}

/// A 16x16 Fourier transform.
struct Plan {
    fft: Arc<dyn Fft<f32>>,
}

impl Plan {
    /// Created once for all frames.
    fn shared() -> &'static Self {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| Self { fft: FftPlanner::new().plan_fft_forward(SIDE) })
    }

    fn transform(&self, block: &mut [Complex32]) {
        self.fft.process(block);
        transpose(block);
        self.fft.process(block);
        transpose(block);
    }
}

fn transpose(block: &mut [Complex32]) {
    for y in 0..SIDE {
        for x in y + 1..SIDE {
            block.swap(y * SIDE + x, x * SIDE + y);
        }
    }
}
