//! The loops that all vector kernels share: over blocks of 16 channels, tiles of pixels and the taps.
//!
//! A pixel's taps of one kernel row lie side by side in NHWC, so a convolution is, for each row of the kernel,
//! one run of `kernel width * channels` elements, taken in steps of a few. Weights lie in the order that the
//! loop reads: `[blocks of a tile][ky][step][16 * blocks][elements of a step]`.

/// One band of one group: what a kernel needs, checked and laid out by [`super::band`].
pub(crate) struct Job<'a> {
    /// Where the taps of the first output pixel begin.
    pub source: *const u8,
    /// Bytes between input rows.
    pub row_bytes: usize,
    /// Bytes between the first taps of neighbouring output rows.
    pub down_bytes: usize,
    /// Bytes between the first taps of neighbouring output pixels.
    pub right_bytes: usize,
    /// Output pixels in a row.
    pub width: usize,
    /// Output pixels in the band.
    pub pixels: usize,
    /// Kernel rows.
    pub rows: usize,
    /// Where each step begins, in bytes from the row's first tap; for each part of the blocks, for each row.
    pub steps: &'a [u32],
    /// The number of `steps` for each part of the blocks, for each row.
    pub counts: &'a [u32],
    /// For depthwise kernels: the offset of each tap in bytes, an even number of them.
    pub taps: &'a [usize],
    /// Packed weights of the group.
    pub weights: *const u8,
    /// Output channels of the group.
    pub channels: usize,
    /// Bias and scales of the group, filled up to whole blocks.
    pub bias: *const i32,
    /// As `bias`.
    pub scales: *const f32,
    /// The first output value of the band and group, bytes or f32.
    pub output: *mut u8,
    /// Values between output pixels.
    pub stride: usize,
    /// Whether f32 is written.
    pub real: bool,
    /// The first residual byte; null without one.
    pub residual: *const u8,
    /// Scale of the residual in steps of the output.
    pub residual_scale: f32,
    /// Flips the residual to unsigned.
    pub residual_flip: u8,
    /// Zero point of the flipped residual.
    pub residual_zero: i32,
    /// Bounds before rounding.
    pub low: f32,
    /// As `low`.
    pub high: f32,
    /// Added after rounding, so that the result lies in 0..=255.
    pub zero: i32,
    /// Flips the unsigned result to the output's type.
    pub flip: u8,
}

impl Job<'_> {
    /// The first tap of an output pixel of the band.
    ///
    /// # Safety
    /// `pixel` lies in the band.
    #[inline(always)]
    unsafe fn pixel(&self, pixel: usize) -> *const u8 {
        let (y, x) = (pixel / self.width, pixel % self.width);
        // SAFETY: the band holds all taps of all its pixels.
        unsafe { self.source.add(y * self.down_bytes + x * self.right_bytes) }
    }
}

/// Sums of 16 output channels in the registers of one instruction set.
///
/// # Safety
/// All functions need the instruction set, which the caller's `target_feature` provides.
pub(crate) trait Lanes: Copy {
    /// 16 sums.
    type Sums: Copy;

    /// Reads 16 sums.
    unsafe fn start(bias: *const i32) -> Self::Sums;

    /// Everything after the sum, for pixel `pixel` of the band and 16 channels from `channel`; those at and
    /// past `job.channels` are not written.
    unsafe fn finish(job: &Job<'_>, sums: Self::Sums, pixel: usize, channel: usize);
}

/// Products of 16 output channels with a few neighbouring input channels.
///
/// # Safety
/// As [`Lanes`].
pub(crate) trait Dot: Lanes {
    /// Weights of one step for 16 output channels.
    type Weights: Copy;
    /// One step of one pixel's input.
    type Input: Copy;
    /// Bytes of one step's weights for 16 output channels.
    const WEIGHT_BYTES: usize;

    /// Reads weights.
    unsafe fn weights(at: *const u8) -> Self::Weights;
    /// Reads a step of input.
    unsafe fn input(at: *const u8) -> Self::Input;
    /// The same input, of which the compiler knows nothing; costs no instruction.
    unsafe fn opaque(input: Self::Input) -> Self::Input;
    /// Adds the products.
    unsafe fn dot(sums: Self::Sums, weights: Self::Weights, input: Self::Input) -> Self::Sums;
}

/// Products of 16 channels with two taps each, for depthwise kernels over 16-bit input.
///
/// # Safety
/// As [`Lanes`].
pub(crate) trait Taps: Lanes {
    /// Weights of two taps for 16 channels: 64 bytes, in the layout's [`PairOrder`].
    type Pair: Copy;

    /// Reads the weights of two taps.
    unsafe fn pair(at: *const u8) -> Self::Pair;
    /// Adds the products with 16 channels at each of two taps.
    unsafe fn taps(sums: Self::Sums, weights: Self::Pair, a: *const u8, b: *const u8) -> Self::Sums;
    /// Brings the sums, which begin with `bias`, into the order that [`Lanes::finish`] wants.
    unsafe fn start_taps(bias: *const i32) -> Self::Sums;
    /// As `start_taps`, at the end.
    unsafe fn end_taps(sums: Self::Sums) -> Self::Sums;
}

/// How the weights of two taps `a`, `b` of 16 channels lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PairOrder {
    /// `a0..a15 b0..b15`
    Apart,
    /// `a0 b0 a1 b1 ..`, channels in the order 0-3, 8-11, 4-7, 12-15: AVX2's unpacking within halves.
    Unpacked,
    /// `a0 b0 a1 b1 ..`
    Interleaved,
}

/// How many pixels times blocks the registers of one instruction set hold.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Pixels for 1, 2, 3 and 4 blocks; 0 where so many blocks are not used.
    pub pixels: [usize; 4],
}

impl Shape {
    /// The most blocks of a tile.
    pub(crate) const fn most_blocks(&self) -> usize {
        let mut blocks = 4;
        while self.pixels[blocks - 1] == 0 {
            blocks -= 1;
        }
        blocks
    }
}

/// Splits `total` into parts of at most `most`, as equal as can be.
pub(crate) fn parts(total: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = total.div_ceil(most.max(1)).max(1);
    let (size, larger) = (total / count, total % count);
    (0..count).map(move |i| {
        let start = i * size + i.min(larger);
        start..start + size + usize::from(i < larger)
    })
}

/// One tile: `P` pixels from `first`, `B` blocks of channels from `channel`.
///
/// # Safety
/// As [`Lanes`]; pixels and channels lie in the job.
#[inline(always)]
pub(crate) unsafe fn tile<K: Dot, const P: usize, const B: usize>(
    job: &Job<'_>,
    weights: *const u8,
    steps: &[u32],
    counts: &[u32],
    first: usize,
    channel: usize,
) {
    // SAFETY: pointers stay within what the job describes: band, packed weights, filled-up bias.
    unsafe {
        let pixels: [*const u8; P] = std::array::from_fn(|p| job.pixel(first + p));
        let start: [K::Sums; B] = std::array::from_fn(|b| K::start(job.bias.add(channel + 16 * b)));
        let mut sums = [start; P];
        let (mut weights, mut steps) = (weights, steps);
        for (row, &count) in counts.iter().enumerate() {
            let pixels = pixels.map(|pixel| pixel.add(row * job.row_bytes));
            let (now, later) = steps.split_at_unchecked(count as usize);
            steps = later;
            for &at in now {
                let w: [K::Weights; B] =
                    std::array::from_fn(|b| K::weights(weights.add(b * K::WEIGHT_BYTES)));
                for p in 0..P {
                    let x = K::input(pixels[p].add(at as usize));
                    for b in 0..B {
                        sums[p][b] = K::dot(sums[p][b], w[b], x);
                    }
                }
                weights = weights.add(B * K::WEIGHT_BYTES);
            }
        }
        for p in 0..P {
            for b in 0..B {
                K::finish(job, sums[p][b], first + p, channel + 16 * b);
            }
        }
    }
}

/// One tile of a depthwise kernel: `P` pixels, 16 channels.
///
/// # Safety
/// As [`Lanes`]; pixels and channels lie in the job.
#[inline(always)]
pub(crate) unsafe fn depthwise_tile<K: Taps, const P: usize>(job: &Job<'_>, first: usize, channel: usize) {
    // SAFETY: as in `tile`; loads of 16 channels may pass a pixel's end, the band has room behind it.
    unsafe {
        let pixels: [*const u8; P] = std::array::from_fn(|p| job.pixel(first + p).add(channel * 2));
        let mut weights = job.weights.add(channel / 16 * job.taps.len() / 2 * 64);
        let mut sums = [K::start_taps(job.bias.add(channel)); P];
        for pair in job.taps.chunks_exact(2) {
            let w = K::pair(weights);
            for p in 0..P {
                sums[p] = K::taps(sums[p], w, pixels[p].add(pair[0]), pixels[p].add(pair[1]));
            }
            weights = weights.add(64);
        }
        for p in 0..P {
            K::finish(job, K::end_taps(sums[p]), first + p, channel);
        }
    }
}

/// Defines `run` and `burn` of one instruction set: the loops over a band, compiled with its features.
macro_rules! engine {
    ($kernel:ty, $features:literal, shape: $shape:expr,
     tiles: { $($blocks:literal => [$($pixels:literal)+]),+ }, burn: $chains:literal x $step:literal) => {
        /// Products on registers alone.
        ///
        /// # Safety
        /// The processor has the instruction set.
        #[target_feature(enable = $features)]
        unsafe fn burn(steps: usize) -> u64 {
            // SAFETY: features as promised.
            unsafe { $crate::isa::peak::burn::<$kernel, $chains>(steps, $step) }
        }

        /// Runs a band.
        ///
        /// # Safety
        /// The processor has the instruction set; the job's pointers hold what it describes.
        #[target_feature(enable = $features)]
        unsafe fn run(job: &$crate::conv::tiles::Job<'_>) {
            use $crate::conv::tiles::{Dot, parts, tile};
            let (mut weights, mut steps, mut counts) = (job.weights, job.steps, job.counts);
            for blocks in parts(job.channels.div_ceil(16), $shape.most_blocks()) {
                let (now, later) = counts.split_at(job.rows);
                counts = later;
                let count = now.iter().sum::<u32>() as usize;
                let (here, rest) = steps.split_at(count);
                steps = rest;
                for pixels in parts(job.pixels, $shape.pixels[blocks.len() - 1]) {
                    // SAFETY: the parts cover the job's pixels and blocks; features as promised.
                    unsafe {
                        match (blocks.len(), pixels.len()) {
                            $($(($blocks, $pixels) => tile::<$kernel, $pixels, $blocks>(
                                job, weights, here, now, pixels.start, blocks.start * 16),)+)+
                            _ => unreachable!("no tile of this shape"),
                        }
                    }
                }
                // SAFETY: the next part's weights follow.
                weights = unsafe { weights.add(count * blocks.len() * <$kernel>::WEIGHT_BYTES) };
            }
        }
    };
}
pub(crate) use engine;

/// Defines `run_depthwise` of one instruction set.
macro_rules! depthwise_engine {
    ($kernel:ty, $features:literal, tiles: [$($dw:literal)+]) => {
        /// Runs a band of a depthwise layer.
        ///
        /// # Safety
        /// As [`run`].
        #[target_feature(enable = $features)]
        unsafe fn run_depthwise(job: &$crate::conv::tiles::Job<'_>) {
            use $crate::conv::tiles::{depthwise_tile, parts};
            const MOST: usize = {
                let list = [$($dw),+];
                list[list.len() - 1]
            };
            for channel in (0..job.channels).step_by(16) {
                for pixels in parts(job.pixels, MOST) {
                    // SAFETY: as in `run`.
                    unsafe {
                        match pixels.len() {
                            $($dw => depthwise_tile::<$kernel, $dw>(job, pixels.start, channel),)+
                            _ => unreachable!("no tile of this shape"),
                        }
                    }
                }
            }
        }
    };
}
pub(crate) use depthwise_engine;
