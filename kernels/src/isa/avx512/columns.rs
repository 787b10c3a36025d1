//! Depthwise kernels. The taps of a kernel column, up to four rows, are placed side by side for
//! each of 16 channels, so that `vpdpbusd` multiplies and adds them at once; neighbouring output
//! pixels share most columns.

#[cfg(feature = "__emulate")]
use crate::isa::emulated::*;
#[cfg(not(feature = "__emulate"))]
use std::arch::x86_64::*;

use super::finish::{TRANSPOSE, end};
use super::{dot, load};
use crate::kernel::{Job, Tile, parts};

/// Output pixels at once.
const PIXELS: usize = 4;

/// Runs a band of a depthwise layer.
///
/// # Safety
/// As [`super::run`].
#[cfg_attr(not(feature = "__emulate"), target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2"))]
#[cfg_attr(feature = "__emulate", target_feature(enable = "avx2"))]
pub(super) unsafe fn run(job: &Job<'_>) {
    // SAFETY: passed on; four rows of the kernel are a group.
    unsafe {
        match (job.weights.rows, job.weights.columns, job.input.right) {
            (3, 3, 1) => rows::<3, 1, 3, 1>(job),
            (3, 3, 2) => rows::<3, 1, 3, 2>(job),
            (5, 5, 1) => rows::<5, 2, 5, 1>(job),
            (5, 5, 2) => rows::<5, 2, 5, 2>(job),
            (7, 7, 1) => rows::<7, 2, 7, 1>(job),
            _ => any(job),
        }
    }
}

/// Kernels of `KH` rows, in `G` groups, and `KW` columns, in steps of `S` columns.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn rows<const KH: usize, const G: usize, const KW: usize, const S: usize>(job: &Job<'_>) {
    for first in (0..job.input.pixels.len()).step_by(job.input.width) {
        // SAFETY: the band holds all taps of all its pixels, and room for 16 channels behind the
        // last.
        unsafe {
            let row = job.input.source.add(*job.input.pixels.get_unchecked(first));
            let mut weights = job.weights.first;
            for channel in (0..job.weights.channels).step_by(16) {
                let source = row.add(channel);
                let whole = job.input.width / PIXELS * PIXELS;
                if whole > 0 {
                    pixels::<KH, G, KW, S, PIXELS>(job, source, weights, channel, first, whole);
                }
                let rest = job.input.width - whole;
                if rest > 0 && whole > 0 {
                    // Some are computed twice, with the same result.
                    let at = job.input.width - PIXELS;
                    let source = source.add(at * S * job.input.pixel_bytes);
                    pixels::<KH, G, KW, S, PIXELS>(job, source, weights, channel, first + at, PIXELS);
                } else if rest > 0 {
                    pixels::<KH, G, KW, S, 1>(job, source, weights, channel, first, rest);
                }
                weights = weights.add(KW * G * 64);
            }
        }
    }
}

/// `count` output pixels of a row, `P` at a time.
///
/// # Safety
/// As [`run`]; `source` is the first tap of the first pixel; `count` is a multiple of `P`.
#[inline(always)]
unsafe fn pixels<const KH: usize, const G: usize, const KW: usize, const S: usize, const P: usize>(
    job: &Job<'_>,
    source: *const u8,
    weights: *const u8,
    channel: usize,
    first: usize,
    count: usize,
) {
    // SAFETY: as said.
    unsafe {
        let bias = load(job.weights.bias.add(channel));
        let mut w = [[bias; G]; KW];
        for (x, w) in w.iter_mut().enumerate() {
            for (g, w) in w.iter_mut().enumerate() {
                *w = load(weights.add((x * G + g) * 64));
            }
        }
        // The columns of the last pixel; those shared with the next one come first.
        let mut window = [[bias; G]; KW];
        let mut next = source;
        for window in &mut window[S..] {
            column::<KH, G>(window, next, job.input.row_bytes);
            next = next.add(job.input.pixel_bytes);
        }
        for at in (0..count).step_by(P) {
            let mut sums = [[bias]; P];
            for sums in &mut sums {
                for x in 0..KW - S {
                    window[x] = window[x + S];
                }
                for window in &mut window[KW - S..] {
                    column::<KH, G>(window, next, job.input.row_bytes);
                    next = next.add(job.input.pixel_bytes);
                }
                for (w, window) in w.iter().zip(&window) {
                    for (w, x) in w.iter().zip(window) {
                        sums[0] = dot(sums[0], *w, *x);
                    }
                }
            }
            end(job, &sums, Tile { first: first + at, pixels: P, channel, blocks: 1 });
        }
    }
}

/// Kernels of any size.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn any(job: &Job<'_>) {
    for pixels in parts(job.input.pixels.len(), PIXELS) {
        // SAFETY: the parts cover the job's pixels.
        unsafe {
            match pixels.len() {
                1 => tile::<1>(job, pixels.start),
                2 => tile::<2>(job, pixels.start),
                3 => tile::<3>(job, pixels.start),
                _ => tile::<4>(job, pixels.start),
            }
        }
    }
}

/// `P` output pixels of a kernel of any size.
///
/// # Safety
/// As [`run`]; the pixels lie in the job.
#[inline(always)]
unsafe fn tile<const P: usize>(job: &Job<'_>, first: usize) {
    // SAFETY: the band holds all taps of all its pixels, and room for 16 channels behind the last.
    unsafe {
        let pixels = job.taps_of::<P>(first);
        let mut weights = job.weights.first;
        for channel in (0..job.weights.channels).step_by(16) {
            let mut sums = [[load(job.weights.bias.add(channel))]; P];
            for x in 0..job.weights.columns {
                for y in (0..job.weights.rows).step_by(4) {
                    let at = y * job.input.row_bytes + x * job.input.pixel_bytes + channel;
                    let w = load(weights);
                    weights = weights.add(64);
                    for p in 0..P {
                        let pixel = pixels[p].add(at);
                        let taps = match job.weights.rows - y {
                            1 => four::<1>(pixel, job.input.row_bytes),
                            2 => four::<2>(pixel, job.input.row_bytes),
                            3 => four::<3>(pixel, job.input.row_bytes),
                            _ => four::<4>(pixel, job.input.row_bytes),
                        };
                        sums[p][0] = dot(sums[p][0], w, taps);
                    }
                }
            }
            end(job, &sums, Tile { first, pixels: P, channel, blocks: 1 });
        }
    }
}

/// A column of `KH` rows, in `G` groups.
///
/// # Safety
/// As [`run`]; 16 channels can be read in each row.
#[inline(always)]
unsafe fn column<const KH: usize, const G: usize>(to: &mut [__m512i; G], at: *const u8, row_bytes: usize) {
    for (g, to) in to.iter_mut().enumerate() {
        // SAFETY: as said.
        unsafe {
            let at = at.add(4 * g * row_bytes);
            *to = match KH - 4 * g {
                1 => four::<1>(at, row_bytes),
                2 => four::<2>(at, row_bytes),
                3 => four::<3>(at, row_bytes),
                _ => four::<4>(at, row_bytes),
            };
        }
    }
}

/// The same 16 channels of `R` rows, with four bytes per channel, one per row; bytes of missing
/// rows are zero.
///
/// # Safety
/// As [`run`]; 16 channels can be read in each row.
#[inline(always)]
unsafe fn four<const R: usize>(at: *const u8, row_bytes: usize) -> __m512i {
    // SAFETY: as said.
    unsafe {
        let row = _mm_loadu_si128(at.cast());
        if R == 1 {
            return _mm512_cvtepu8_epi32(row);
        }
        let mut rows = _mm512_zextsi128_si512(row);
        rows = _mm512_inserti32x4::<1>(rows, _mm_loadu_si128(at.add(row_bytes).cast()));
        if R > 2 {
            rows = _mm512_inserti32x4::<2>(rows, _mm_loadu_si128(at.add(2 * row_bytes).cast()));
        }
        if R > 3 {
            rows = _mm512_inserti32x4::<3>(rows, _mm_loadu_si128(at.add(3 * row_bytes).cast()));
        }
        // First each quarter gets the rows of four channels, then each channel its bytes.
        let quarters = _mm512_permutexvar_epi32(load(TRANSPOSE.as_ptr()), rows);
        _mm512_shuffle_epi8(quarters, load(TRANSPOSE_BYTES.as_ptr()))
    }
}

/// [`TRANSPOSE`] for the bytes of each quarter.
static TRANSPOSE_BYTES: [u8; 64] = {
    let mut order = [0; 64];
    let mut at = 0;
    while at < 64 {
        order[at] = TRANSPOSE[at % 16] as u8;
        at += 1;
    }
    order
};
