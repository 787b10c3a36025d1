//! The loops that all vector kernels share: over blocks of 16 channels, tiles of pixels and the
//! taps.
//!
//! A pixel's taps of one kernel row lie side by side in NHWC, so a convolution is, for each row of
//! the kernel, one run of `kernel width * channels` elements, taken in steps of a few. Weights lie
//! in the order that the loop reads:
//! `[blocks of a tile][ky][step][16 * blocks][elements of a step]`. Within a kernel row the order
//! of the steps is free: those that may be joined come first, two by two.

use super::{Count, Element, Job, Tile};
use crate::quant::Byte;

/// Sums of 16 output channels in the registers of one instruction set.
///
/// # Safety
/// As [the contract](super#the-contract) says; the caller's `target_feature` provides the
/// instruction set.
pub(crate) trait Lanes: Copy {
    /// 16 sums.
    type Sums: Copy;

    /// Reads 16 sums.
    unsafe fn start(bias: *const i32) -> Self::Sums;

    /// Everything after the sums, for a tile whose sums are ordered `[pixel][block]`. A separate
    /// function, so that the inner loop has all registers to itself.
    unsafe fn finish(job: &Job<'_>, sums: *const Self::Sums, tile: Tile);

    /// Ends a tile whose sums are in registers.
    #[inline(always)]
    unsafe fn end<const P: usize, const B: usize>(job: &Job<'_>, sums: &[[Self::Sums; B]; P], tile: Tile) {
        // SAFETY: passed on.
        unsafe { through_memory::<Self, P, B>(job, sums, tile) }
    }
}

/// Ends a tile by [`Lanes::finish`].
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn through_memory<K: Lanes, const P: usize, const B: usize>(
    job: &Job<'_>,
    sums: &[[K::Sums; B]; P],
    tile: Tile,
) {
    // A copy, because an array whose address is passed to a function is always kept in memory, not
    // in registers.
    let mut done = std::mem::MaybeUninit::<[[K::Sums; B]; P]>::uninit();
    let to = done.as_mut_ptr().cast::<K::Sums>();
    // By reference: an iterator by value would first copy the array to memory.
    for (p, sums) in sums.iter().enumerate() {
        for (b, sums) in sums.iter().enumerate() {
            // SAFETY: as many as there is room for.
            unsafe { to.add(p * B + b).write(*sums) };
        }
    }
    // SAFETY: all were written; the rest is passed on.
    unsafe { K::finish(job, to, tile) }
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
    const WEIGHT_BYTES: usize = size_of::<Self::Weights>();
    /// Whether [`Dot::join`] is faster than [`Dot::dot`] twice; otherwise no pairs are packed.
    const JOINS: bool;

    /// Reads weights.
    unsafe fn weights(at: *const u8) -> Self::Weights;
    /// Reads a step of input.
    unsafe fn input(at: *const u8) -> Self::Input;
    /// The same input, made opaque to the compiler; costs no instruction.
    unsafe fn opaque(input: Self::Input) -> Self::Input;
    /// Adds the products.
    unsafe fn dot(sums: Self::Sums, weights: Self::Weights, input: Self::Input) -> Self::Sums;
    /// Prefetches 64 bytes that will be read later; any address is allowed.
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    /// Adds the products of two steps, whose weights are small enough that four products of
    /// neighbours fit into 16 bits.
    unsafe fn join(sums: Self::Sums, weights: [Self::Weights; 2], input: [Self::Input; 2]) -> Self::Sums;
}

/// Products of 16 channels with two taps each, for depthwise kernels over 16-bit input.
///
/// # Safety
/// As [`Lanes`].
pub(crate) trait Taps: Lanes {
    /// Weights of two taps for 16 channels: 64 bytes, in the layout's [`DepthwiseOrder`].
    type Pair: Copy;

    /// Reads the weights of two taps.
    unsafe fn pair(at: *const u8) -> Self::Pair;
    /// Adds the products with 16 channels at each of two taps.
    unsafe fn taps(sums: Self::Sums, weights: Self::Pair, a: *const u8, b: *const u8) -> Self::Sums;
    /// Reads the initial sums from `bias`, in the order that [`Taps::taps`] uses.
    unsafe fn start_taps(bias: *const i32) -> Self::Sums;
    /// Converts the sums to the order that [`Lanes::finish`] expects.
    unsafe fn end_taps(sums: Self::Sums) -> Self::Sums;
}

/// The order of a depthwise kernel's weights, for one group of 16 channels after another.
// Each architecture uses its own.
#[allow(dead_code)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DepthwiseOrder {
    /// Words, two taps at a time: `a0..a15 b0..b15`
    Apart,
    /// Words, two taps at a time: `a0 b0 a1 b1 ..`, channels in the order 0-3, 8-11, 4-7, 12-15:
    /// AVX2's unpacking within halves.
    Unpacked,
    /// Bytes, column by column of the kernel, up to four rows at a time:
    /// `a0 b0 c0 d0 a1 b1 c1 d1 ..`
    Columns,
    /// Bytes, as the input is [woven](super::woven) of bytes of this kind.
    Woven(Byte),
}

impl DepthwiseOrder {
    /// What the weights are multiplied with.
    pub(crate) const fn element(self) -> Element {
        match self {
            DepthwiseOrder::Columns => Element::Byte(Byte::U8),
            DepthwiseOrder::Woven(byte) => Element::Byte(byte),
            _ => Element::Word,
        }
    }
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

/// Splits `total` into parts of at most `most`, as equal as possible.
pub(crate) fn parts(total: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = total.div_ceil(most.max(1)).max(1);
    let (size, larger) = (total / count, total % count);
    (0..count).map(move |i| {
        let start = i * size + i.min(larger);
        start..start + size + usize::from(i < larger)
    })
}

/// One tile: `P` pixels from `first`, `B` blocks of channels from `channel`. The data `ahead` bytes
/// after the weights will be read after this part of the blocks.
///
/// # Safety
/// As [`Lanes`]; pixels and channels are in the job.
#[inline(always)]
pub(crate) unsafe fn tile<K: Dot, const P: usize, const B: usize>(
    job: &Job<'_>,
    weights: *const u8,
    steps: &[u32],
    counts: &[Count],
    ahead: *const u8,
    first: usize,
    channel: usize,
) {
    // SAFETY: pointers stay within what the job describes: band, packed weights, filled-up bias.
    unsafe {
        let pixels: [*const u8; P] = job.taps_of(first);
        let start: [K::Sums; B] = std::array::from_fn(|b| K::start(job.weights.bias.add(channel + 16 * b)));
        let mut sums = [start; P];
        let (mut weights, mut steps, mut ahead) = (weights, steps, ahead);
        for (row, &count) in counts.iter().enumerate() {
            let pixels = pixels.map(|pixel| pixel.add(row * job.input.row_bytes));
            if K::JOINS {
                let (now, later) = steps.split_at_unchecked(2 * count.pairs as usize);
                steps = later;
                for at in now.chunks_exact(2) {
                    for p in 0..P {
                        let x = [at[0], at[1]].map(|at| K::input(pixels[p].add(at as usize)));
                        for (b, sums) in sums[p].iter_mut().enumerate() {
                            // Read again for each pixel: registers are scarce, and the first-level
                            // cache is fast.
                            let w = [b, b + B].map(|step| K::weights(weights.add(step * K::WEIGHT_BYTES)));
                            *sums = K::join(*sums, w, x);
                        }
                    }
                    weights = weights.add(2 * B * K::WEIGHT_BYTES);
                }
            }
            let (now, later) = steps.split_at_unchecked(count.singles as usize);
            steps = later;
            for &at in now {
                // Only layers with many channels have many weights.
                if B == 4 {
                    K::prefetch(ahead);
                    ahead = ahead.wrapping_add(64);
                }
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
        K::end(job, &sums, Tile { first, pixels: P, channel, blocks: B });
    }
}

/// One tile of a depthwise kernel: `P` pixels, all channels.
///
/// # Safety
/// As [`Lanes`]; pixels are in the job.
#[inline(always)]
pub(crate) unsafe fn depthwise_tile<K: Taps, const P: usize>(job: &Job<'_>, first: usize) {
    // SAFETY: as in `tile`; loads of 16 channels may pass a pixel's end, the band has room behind
    // it.
    unsafe {
        let pixels = job.taps_of::<P>(first);
        let mut weights = job.weights.first;
        for channel in (0..job.weights.channels).step_by(16) {
            let pixels = pixels.map(|pixel| pixel.add(channel * 2));
            let mut sums = [K::start_taps(job.weights.bias.add(channel)); P];
            for pair in job.input.taps.chunks_exact(2) {
                let w = K::pair(weights);
                for p in 0..P {
                    sums[p] = K::taps(sums[p], w, pixels[p].add(pair[0]), pixels[p].add(pair[1]));
                }
                weights = weights.add(64);
            }
            let sums = sums.map(|sums| [K::end_taps(sums)]);
            K::end(job, &sums, Tile { first, pixels: P, channel, blocks: 1 });
        }
    }
}

/// `P` chains of products, `steps` long each; returns the number of products.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn burn<K: Dot, const P: usize>(steps: usize, step: usize) -> u64 {
    let (bias, bytes) = std::hint::black_box(([0i32; 16], [1u8; 64]));
    let at_once = if K::JOINS { 2 } else { 1 };
    // SAFETY: 16 sums and 64 bytes are what the kernel reads.
    unsafe {
        let (weights, mut input) = (K::weights(bytes.as_ptr()), K::input(bytes.as_ptr()));
        let mut sums = [K::start(bias.as_ptr()); P];
        for _ in 0..steps {
            for sum in &mut sums {
                input = K::opaque(input);
                if K::JOINS {
                    let other = input;
                    input = K::opaque(input);
                    *sum = K::join(*sum, [weights; 2], [other, input]);
                } else {
                    *sum = K::dot(*sum, weights, input);
                }
            }
        }
        std::hint::black_box(&sums);
    }
    (steps * P * 16 * step * at_once) as u64
}
