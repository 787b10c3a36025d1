//! Sums over the blocks of one or several frames, which are all that is kept of them.

use std::sync::{Arc, OnceLock};

use multiversion::multiversion;
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::luma::{Luma, SIDE};
use super::regions::{self, Regions};
use super::residual::{Residual, Rows, SecondDifference};

/// Frequencies kept of each row of a block's spectrum: the plane is real, so the rest mirrors
/// these.
pub(super) const HALF: usize = SIDE / 2 + 1;
pub(super) const AREA: usize = SIDE * SIDE;
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
        Self::gather(luma, usize::MAX).0
    }

    /// [`BlockSums::of`], and the same sums region by region.
    pub(super) fn with_regions(luma: &Luma) -> (Self, Regions) {
        Self::gather(luma, regions::BLOCKS)
    }

    /// The sums of all blocks, and by regions of `side` blocks.
    fn gather(luma: &Luma, side: usize) -> (Self, Regions) {
        let plan = Plan::shared();
        let (columns, rows) = (luma.width / SIDE, luma.height / SIDE);
        let side = side.min(columns.max(rows)).max(1);
        let mut regions = Regions::new(columns, rows, side);
        let step = (columns * rows).div_ceil(MEASURED).max(1);
        for block in (0..columns * rows).step_by(step) {
            regions.measured_one(regions.region(block % columns, block / columns));
        }
        let mut strip = vec![0.0; luma.width * SIDE];
        let filters: [&mut dyn Rows; 2] = [&mut Residual::of(luma), &mut SecondDifference::of(luma)];
        for (half, filter) in filters.into_iter().enumerate() {
            for row in 0..rows {
                filter.next(&mut strip);
                for column in (0..columns).step_by(side) {
                    let (from, to) = (column * SIDE, (column + side).min(columns) * SIDE);
                    // Both channels of the region lie one behind the other.
                    let [signed, absolute] = regions.two_channels(regions.region(column, row), half * 2);
                    for (y, line) in strip.chunks_exact(luma.width).enumerate() {
                        add_line(&line[from..to], &mut signed[y * SIDE..], &mut absolute[y * SIDE..]);
                    }
                }
                let first = (row * columns).next_multiple_of(step);
                for column in (first..(row + 1) * columns).step_by(step).map(|block| block - row * columns) {
                    let mut both = [Complex32::ZERO; AREA];
                    for (to, line) in both.chunks_exact_mut(SIDE).zip(strip.chunks_exact(luma.width)) {
                        // Both channels are real, so one complex transform serves both.
                        let line = &line[column * SIDE..][..SIDE];
                        to.iter_mut().zip(line).for_each(|(to, &r)| *to = Complex32::new(r, r.abs()));
                    }
                    plan.transform(&mut both);
                    let [signed, absolute] = regions.two_channels(regions.region(column, row), half * 2);
                    add_power(&both, &mut signed[AREA..], &mut absolute[AREA..]);
                }
            }
        }
        let all = 0..columns.div_ceil(side) * rows.div_ceil(side);
        let (blocks, measured) = regions.counts();
        let mut sums = Self::of_regions(&regions, all, blocks, measured);
        sums.plain = sums.typical() * sums.blocks;
        (sums, regions)
    }

    /// The sums of several regions, of so many blocks.
    pub(super) fn of_regions(
        regions: &Regions,
        chosen: impl IntoIterator<Item = usize, IntoIter: Clone>,
        blocks: f32,
        measured: f32,
    ) -> Self {
        let (plan, chosen) = (Plan::shared(), chosen.into_iter());
        let channel = |channel: usize| {
            let numbers = regions.total(chosen.clone(), channel);
            // The sum of spectra is the spectrum of the sum.
            let mut total: Vec<Complex32> = numbers[..AREA].iter().map(|&v| Complex32::new(v, 0.0)).collect();
            plan.transform(&mut total);
            ChannelSums { total, power: numbers[AREA..].to_vec() }
        };
        Self { channels: std::array::from_fn(channel), blocks, measured, plain: 0.0 }
    }

    /// Mean square of the residual, 0..1.
    pub(super) fn energy(&self) -> f32 {
        let power: f32 = self.channels[0].power.iter().sum();
        power / self.measured.max(1.0) / (AREA * AREA) as f32
    }

    /// Sets by how much the blocks of a single frame are coherent by themselves, see
    /// [`BlockSums::stillness`].
    pub(super) fn set_single(&mut self, single: f32) {
        self.plain = single * self.blocks;
    }

    /// Coherence of a channel at a frequency: about 1 for random phases, up to the number of
    /// blocks.
    pub(super) fn coherence(&self, channel: usize, at: usize) -> f32 {
        let ChannelSums { total, power } = &self.channels[channel];
        let mean = total[at].norm_sqr() / (self.blocks * self.blocks).max(1.0);
        mean / (power[at] / self.measured.max(1.0) + TINY) * self.blocks
    }

    /// The median of the residual's coherence over all frequencies except zero.
    pub(super) fn typical(&self) -> f32 {
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

/// Adds the blocks' parts of a line to one line of a block, and their absolute values to another's.
#[multiversion(targets("x86_64+avx2"))]
fn add_line(line: &[f32], plain: &mut [f32], magnitude: &mut [f32]) {
    // On the stack they stay in registers.
    let (mut p, mut m) = ([0.0f32; SIDE], [0.0f32; SIDE]);
    p.copy_from_slice(&plain[..SIDE]);
    m.copy_from_slice(&magnitude[..SIDE]);
    for piece in line.chunks_exact(SIDE) {
        for i in 0..SIDE {
            p[i] += piece[i];
            m[i] += piece[i].abs();
        }
    }
    plain[..SIDE].copy_from_slice(&p);
    magnitude[..SIDE].copy_from_slice(&m);
}

/// Separates the power of both channels from their joint transform `z = F(r) + i F(|r|)`: with `m`
/// the frequency mirrored, `F(r) = (z + conj z_m) / 2` and `F(|r|) = (z - conj z_m) / 2i`.
#[multiversion(targets("x86_64+avx2"))]
fn add_power(z: &[Complex32; AREA], first: &mut [f32], second: &mut [f32]) {
    // Both spectra are symmetric, so rows beyond the middle one repeat what is known.
    for v in 0..=SIDE / 2 {
        let mirrored = (SIDE - v) % SIDE * SIDE;
        let (mut p, mut q) = ([0.0f32; SIDE], [0.0f32; SIDE]);
        for u in 0..SIDE {
            let (z, m) = (z[v * SIDE + u], z[mirrored + (SIDE - u) % SIDE].conj());
            (p[u], q[u]) = ((z + m).norm_sqr() / 4.0, (z - m).norm_sqr() / 4.0);
        }
        for (to, power) in [(&mut *first, &p), (&mut *second, &q)] {
            to[v * SIDE..][..SIDE].iter_mut().zip(power).for_each(|(to, power)| *to += power);
            if mirrored != v * SIDE {
                let to = &mut to[mirrored..][..SIDE];
                to[0] += power[0];
                to[1..].iter_mut().zip(power[1..].iter().rev()).for_each(|(to, power)| *to += power);
            }
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
