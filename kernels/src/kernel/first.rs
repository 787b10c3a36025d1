//! Layers over pixels whose rows lie side by side: 27 bytes, seven steps. There are few products per
//! output, so the overhead matters: here distances between pixels are constants, and so is the
//! number of steps of each kind.

use super::{Count, Dot, Job, Tile};

/// Bytes of a column: three rows of pixels of three channels.
const COLUMN: usize = 9;

/// Columns of the kernel, and its steps of four bytes.
const COLUMNS: usize = 3;
const STEPS: usize = 7;

/// Output pixels at once.
const PIXELS: usize = 4;

/// Whether this form can run a layer.
pub(crate) fn fits(job: &Job<'_>) -> bool {
    let blocks = job.weights.channels.div_ceil(16);
    job.input.pixel_bytes == COLUMN
        && (job.weights.rows, job.weights.columns) == (1, COLUMNS)
        && (1..=2).contains(&job.input.right)
        && job.weights.counts.iter().take(blocks).all(|count| count.steps() == STEPS)
}

/// All output pixels of a band, `right` columns apart.
///
/// # Safety
/// As [`super::Lanes`]; the layer [`fits`], and a tile has one block.
#[inline(always)]
pub(crate) unsafe fn band<K: Dot, const RIGHT: usize>(job: &Job<'_>) {
    let (mut weights, mut steps) = (job.weights.first, job.weights.steps);
    for (block, &Count { pairs, .. }) in
        job.weights.counts.iter().take(job.weights.channels.div_ceil(16)).enumerate()
    {
        let (now, later) = steps.split_at(STEPS);
        let offsets = std::array::from_fn(|step| now[step] as usize);
        // SAFETY: passed on; a block's weights are those of its steps.
        unsafe {
            match pairs {
                0 => rows::<K, RIGHT, 0>(job, weights, &offsets, 16 * block),
                1 => rows::<K, RIGHT, 1>(job, weights, &offsets, 16 * block),
                2 => rows::<K, RIGHT, 2>(job, weights, &offsets, 16 * block),
                _ => rows::<K, RIGHT, 3>(job, weights, &offsets, 16 * block),
            }
            weights = weights.add(STEPS * K::WEIGHT_BYTES);
        }
        steps = later;
    }
}

/// All output pixels of 16 channels whose first `PAIRS` pairs of steps are joined.
///
/// # Safety
/// As [`band`].
#[inline(always)]
unsafe fn rows<K: Dot, const RIGHT: usize, const PAIRS: usize>(
    job: &Job<'_>,
    weights: *const u8,
    offsets: &[usize; STEPS],
    channel: usize,
) {
    let width = job.input.width;
    for first in (0..job.input.pixels.len()).step_by(width) {
        // SAFETY: the band holds all taps of all its pixels, and room for a step behind the last.
        unsafe {
            let source = job.input.source.add(*job.input.pixels.get_unchecked(first));
            let mut at = 0;
            while at < width {
                // At the end of a row some are computed again, to the same end.
                let x = if width < PIXELS { at } else { at.min(width - PIXELS) };
                let pixel = source.add(x * RIGHT * COLUMN);
                if width < PIXELS {
                    tile::<K, RIGHT, PAIRS, 1>(job, pixel, weights, offsets, first + x, channel);
                    at += 1;
                } else {
                    tile::<K, RIGHT, PAIRS, PIXELS>(job, pixel, weights, offsets, first + x, channel);
                    at += PIXELS;
                }
            }
        }
    }
}

/// `P` output pixels.
///
/// # Safety
/// As [`band`].
#[inline(always)]
unsafe fn tile<K: Dot, const RIGHT: usize, const PAIRS: usize, const P: usize>(
    job: &Job<'_>,
    pixel: *const u8,
    weights: *const u8,
    offsets: &[usize; STEPS],
    first: usize,
    channel: usize,
) {
    // SAFETY: passed on.
    unsafe {
        let mut sums = [[K::start(job.weights.bias.add(channel))]; P];
        let w = |step: usize| K::weights(weights.add(step * K::WEIGHT_BYTES));
        for pair in 0..PAIRS {
            let both = [2 * pair, 2 * pair + 1];
            let w = both.map(w);
            let from = both.map(|step| pixel.add(offsets[step]));
            for (p, sums) in sums.iter_mut().enumerate() {
                let x = from.map(|at| K::input(at.add(p * RIGHT * COLUMN)));
                sums[0] = K::join(sums[0], w, x);
            }
        }
        for (step, &offset) in offsets.iter().enumerate().skip(2 * PAIRS) {
            let (w, at) = (w(step), pixel.add(offset));
            for (p, sums) in sums.iter_mut().enumerate() {
                sums[0] = K::dot(sums[0], w, K::input(at.add(p * RIGHT * COLUMN)));
            }
        }
        K::end(job, &sums, Tile { first, pixels: P, channel, blocks: 1 });
    }
}

/// Defines `run_any` of one instruction set, which takes the form above where it fits, else `run`.
macro_rules! first_engine {
    ($kernel:ty, $features:literal) => {
        /// Runs a band of a layer that fits.
        ///
        /// # Safety
        /// As [`run`].
        #[cfg_attr(not(all(feature = "__emulate", target_arch = "x86_64")), target_feature(enable = $features))]
        #[cfg_attr(all(feature = "__emulate", target_arch = "x86_64"), target_feature(enable = "avx2"))]
        unsafe fn run_first(job: &$crate::kernel::Job<'_>) {
            // SAFETY: passed on.
            unsafe {
                match job.input.right {
                    1 => $crate::kernel::first::band::<$kernel, 1>(job),
                    _ => $crate::kernel::first::band::<$kernel, 2>(job),
                }
            }
        }

        /// Runs a band.
        ///
        /// # Safety
        /// As [`run`].
        pub(super) unsafe fn run_any(job: &$crate::kernel::Job<'_>) {
            // SAFETY: passed on.
            unsafe { if $crate::kernel::first::fits(job) { run_first(job) } else { run(job) } }
        }
    };
}
pub(crate) use first_engine;
