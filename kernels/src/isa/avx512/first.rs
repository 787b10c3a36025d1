//! Layers over pixels: three channels, 3x3 kernels. There are few products per output, so the
//! overhead matters: here all offsets are constants, and weights stay in registers.

#[cfg(feature = "__emulate")]
use crate::isa::emulated::*;
#[cfg(not(feature = "__emulate"))]
use std::arch::x86_64::*;

use super::finish::end;
use super::{SHAPE, broadcast, dot, load};
use crate::kernel::{Job, Tile, parts};

/// Bytes of a pixel.
const PIXEL: usize = 3;

/// Rows of the kernel, and steps of a row: 9 bytes, in steps of 4.
const ROWS: usize = 3;
const STEPS: usize = 3;

/// Whether this kernel can run a layer.
pub(super) fn fits(job: &Job<'_>) -> bool {
    job.input.pixel_bytes == PIXEL
        && (job.weights.rows, job.weights.columns) == (ROWS, 3)
        && (1..=2).contains(&job.input.right)
}

/// Runs a band of a layer that [`fits`].
///
/// # Safety
/// As [`super::run`].
#[cfg_attr(not(feature = "__emulate"), target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2"))]
#[cfg_attr(feature = "__emulate", target_feature(enable = "avx2"))]
pub(super) unsafe fn run(job: &Job<'_>) {
    let mut weights = job.weights.first;
    for part in parts(job.weights.channels.div_ceil(16), SHAPE.most_blocks()) {
        for blocks in parts(part.len(), 2) {
            let channel = 16 * (part.start + blocks.start);
            // SAFETY: the weights of a step are those of all blocks of the part.
            unsafe {
                let weights = weights.add(64 * blocks.start);
                match (blocks.len(), job.input.right) {
                    (1, 1) => band::<1, 1, 8>(job, weights, part.len(), channel),
                    (1, _) => band::<2, 1, 8>(job, weights, part.len(), channel),
                    (_, 1) => band::<1, 2, 4>(job, weights, part.len(), channel),
                    (_, _) => band::<2, 2, 4>(job, weights, part.len(), channel),
                }
            }
        }
        // SAFETY: the next part's weights follow.
        weights = unsafe { weights.add(ROWS * STEPS * 64 * part.len()) };
    }
}

/// All output pixels of `B` blocks of channels from `channel`, in steps of `S` pixels, `P` at a
/// time. A step has weights for `of` blocks.
///
/// # Safety
/// As [`run`].
// Not in `run`: the compiler would compute anew with each store what it has no register for.
#[inline(never)]
#[cfg_attr(not(feature = "__emulate"), target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2"))]
#[cfg_attr(feature = "__emulate", target_feature(enable = "avx2"))]
unsafe fn band<const S: usize, const B: usize, const P: usize>(
    job: &Job<'_>,
    weights: *const u8,
    of: usize,
    channel: usize,
) {
    let (mut first, whole) = (0, job.input.width / P * P);
    while first < job.input.pixels.len() {
        // SAFETY: the band holds all taps of all its pixels, and room for a step behind the last.
        unsafe {
            let source = job.input.source.add(*job.input.pixels.get_unchecked(first));
            if whole == 0 {
                row::<S, B, 1>(job, source, weights, of, channel, first, job.input.width);
            } else {
                row::<S, B, P>(job, source, weights, of, channel, first, whole);
            }
            if whole > 0 && whole < job.input.width {
                // Some are computed again, to the same end.
                let at = job.input.width - P;
                row::<S, B, P>(job, source.add(at * S * PIXEL), weights, of, channel, first + at, P);
            }
        }
        first += job.input.width;
    }
}

/// `count` output pixels of a row, a multiple of `P`. `source` is the first tap of the first.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn row<const S: usize, const B: usize, const P: usize>(
    job: &Job<'_>,
    source: *const u8,
    weights: *const u8,
    of: usize,
    channel: usize,
    first: usize,
    count: usize,
) {
    // SAFETY: as said.
    unsafe {
        let mut start = [_mm512_set1_epi32(0); B];
        for (b, start) in start.iter_mut().enumerate() {
            *start = load(job.weights.bias.add(channel + 16 * b));
        }
        let mut w = [[start; STEPS]; ROWS];
        for (y, w) in w.iter_mut().enumerate() {
            for (step, w) in w.iter_mut().enumerate() {
                for (b, w) in w.iter_mut().enumerate() {
                    *w = load(weights.add(64 * ((y * STEPS + step) * of + b)));
                }
            }
        }
        let (mut top, mut pixel) = (source, first);
        while pixel < first + count {
            let mut sums = [start; P];
            taps::<S, B, P>(&mut sums, &w[0], top);
            taps::<S, B, P>(&mut sums, &w[1], top.add(job.input.row_bytes));
            taps::<S, B, P>(&mut sums, &w[2], top.add(2 * job.input.row_bytes));
            end(job, &sums, Tile { first: pixel, pixels: P, channel, blocks: B });
            (top, pixel) = (top.add(P * S * PIXEL), pixel + P);
        }
    }
}

/// The products of one row of the kernel.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn taps<const S: usize, const B: usize, const P: usize>(
    sums: &mut [[__m512i; B]; P],
    w: &[[__m512i; B]; STEPS],
    at: *const u8,
) {
    for (step, w) in w.iter().enumerate() {
        for (p, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as said.
            unsafe {
                let x = broadcast(at.add(p * S * PIXEL + 4 * step));
                for (sums, w) in sums.iter_mut().zip(w) {
                    *sums = dot(*sums, *w, x);
                }
            }
        }
    }
}
