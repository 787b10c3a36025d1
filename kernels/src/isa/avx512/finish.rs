//! Everything after the sums.

#[cfg(feature = "__emulate")]
use crate::isa::emulated::*;
#[cfg(not(feature = "__emulate"))]
use std::arch::x86_64::*;

use super::{Avx512, load};
use crate::kernel::{Job, Tile, through_memory};

/// A tile whose sums are in registers. Bytes of whole blocks are computed in registers, four at a
/// time; the rest goes through memory.
///
/// # Safety
/// As [`Lanes::end`](crate::kernel::Lanes::end).
#[inline(always)]
pub(super) unsafe fn end<const P: usize, const B: usize>(
    job: &Job<'_>,
    sums: &[[__m512i; B]; P],
    tile: Tile,
) {
    let whole = job.weights.channels - tile.channel >= 16 * B;
    // SAFETY: passed on.
    unsafe {
        if whole && job.epilogue.narrow && !job.epilogue.real {
            let open = job.epilogue.inner == (f32::NEG_INFINITY, f32::INFINITY);
            let plain = job.epilogue.zero == 0
                && job.epilogue.flip == 0
                && (job.epilogue.low, job.epilogue.high) == (0.0, 255.0);
            match (job.output.residual.is_null(), open, plain) {
                (true, _, true) => bytes::<false, false, true, P, B>(job, sums, tile),
                (true, _, false) => bytes::<false, false, false, P, B>(job, sums, tile),
                (false, true, true) => bytes::<true, false, true, P, B>(job, sums, tile),
                (false, true, false) => bytes::<true, false, false, P, B>(job, sums, tile),
                (false, false, _) => bytes::<true, true, false, P, B>(job, sums, tile),
            }
            return;
        }
        through_memory::<Avx512, P, B>(job, sums, tile);
    }
}

/// Bytes of whole blocks, where values may be clamped after they were rounded: packing saturates on
/// the way, for four registers at once. `PLAIN`: they are unsigned with zero point 0, as behind
/// ReLU, and saturation is all the clamping.
#[inline(always)]
unsafe fn bytes<
    const RESIDUAL: bool,
    const INNER: bool,
    const PLAIN: bool,
    const P: usize,
    const B: usize,
>(
    job: &Job<'_>,
    sums: &[[__m512i; B]; P],
    tile: Tile,
) {
    // SAFETY: all channels of all blocks exist.
    unsafe {
        let zero = _mm512_set1_epi16(job.epilogue.zero as i16);
        let low = _mm512_set1_epi8((job.epilogue.low as i32 + job.epilogue.zero) as u8 as i8);
        let high = _mm512_set1_epi8((job.epilogue.high as i32 + job.epilogue.zero) as u8 as i8);
        let flip = _mm512_set1_epi8(job.epilogue.flip as i8);
        let order = load(TRANSPOSE.as_ptr());
        let at = tile.first * job.output.stride + tile.channel;
        let (out, scales) = (job.output.first.add(at), job.weights.scales.add(tile.channel));
        let added = if RESIDUAL { job.output.residual.add(at) } else { job.output.residual };
        // Indices are constants throughout: with a variable index the array would be kept in
        // memory.
        macro_rules! four {
            ($($a:literal $b:literal $c:literal $d:literal),+) => {$(
                if $a < P * B {
                    let ab = _mm512_packs_epi32(
                        rounded::<RESIDUAL, INNER, P, B, $a>(job, sums, scales, added),
                        rounded::<RESIDUAL, INNER, P, B, $b>(job, sums, scales, added),
                    );
                    let cd = _mm512_packs_epi32(
                        rounded::<RESIDUAL, INNER, P, B, $c>(job, sums, scales, added),
                        rounded::<RESIDUAL, INNER, P, B, $d>(job, sums, scales, added),
                    );
                    let bytes = if PLAIN {
                        _mm512_packus_epi16(ab, cd)
                    } else {
                        let bytes = _mm512_packus_epi16(_mm512_adds_epi16(ab, zero), _mm512_adds_epi16(cd, zero));
                        _mm512_xor_si512(_mm512_min_epu8(_mm512_max_epu8(bytes, low), high), flip)
                    };
                    // Both pack instructions work on quarters, which then hold four bytes of each
                    // unit in turn.
                    let bytes = _mm512_permutexvar_epi32(order, bytes);
                    if B == 4 {
                        _mm512_storeu_si512(out.add(place::<B>($a, job.output.stride)).cast(), bytes);
                    } else if B == 2 {
                        store::<P, B, $a, _>(out, job.output.stride, _mm512_castsi512_si256(bytes));
                        store::<P, B, $c, _>(out, job.output.stride, _mm512_extracti64x4_epi64::<1>(bytes));
                    } else {
                        store::<P, B, $a, _>(out, job.output.stride, _mm512_castsi512_si128(bytes));
                        store::<P, B, $b, _>(out, job.output.stride, _mm512_extracti32x4_epi32::<1>(bytes));
                        store::<P, B, $c, _>(out, job.output.stride, _mm512_extracti32x4_epi32::<2>(bytes));
                        store::<P, B, $d, _>(out, job.output.stride, _mm512_extracti32x4_epi32::<3>(bytes));
                    }
                }
            )+};
        }
        const { assert!(P * B <= 24) };
        four!(0 1 2 3, 4 5 6 7, 8 9 10 11, 12 13 14 15, 16 17 18 19, 20 21 22 23);
    }
}

/// Offset of the 16 values of a unit (a block of a pixel) from the first of a tile, in the order of
/// its sums.
#[inline(always)]
const fn place<const B: usize>(unit: usize, stride: usize) -> usize {
    unit / B * stride + 16 * (unit % B)
}

/// The values of a unit before they are clamped.
#[inline(always)]
unsafe fn rounded<
    const RESIDUAL: bool,
    const INNER: bool,
    const P: usize,
    const B: usize,
    const UNIT: usize,
>(
    job: &Job<'_>,
    sums: &[[__m512i; B]; P],
    scales: *const f32,
    added: *const u8,
) -> __m512i {
    // The last one is repeated if there are fewer than four.
    let unit = const { if UNIT < P * B { UNIT } else { P * B - 1 } };
    // SAFETY: the unit is of the tile, and whole.
    unsafe {
        let scale = _mm512_loadu_ps(scales.add(16 * (unit % B)));
        let mut x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[unit / B][unit % B]), scale);
        if RESIDUAL {
            let bytes = _mm_loadu_si128(added.add(place::<B>(unit, job.output.stride)).cast());
            if INNER {
                x = clamped(x, job.epilogue.inner);
            }
            x = _mm512_add_ps(x, residual(job, bytes));
        }
        _mm512_cvtps_epi32(x)
    }
}

/// Writes the bytes of a unit, or of it and the next one of the same pixel, if the unit exists.
#[inline(always)]
unsafe fn store<const P: usize, const B: usize, const UNIT: usize, T>(out: *mut u8, stride: usize, bytes: T) {
    if UNIT < P * B {
        // SAFETY: the unit is of the tile, and whole.
        unsafe { out.add(place::<B>(UNIT, stride)).cast::<T>().write_unaligned(bytes) };
    }
}

/// Dword `4 a + b` from `4 b + a`.
pub(super) static TRANSPOSE: [u32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// The residual's 16 bytes in steps of the output.
#[inline(always)]
unsafe fn residual(job: &Job<'_>, bytes: __m128i) -> __m512 {
    /// The bits of 2^23: with a byte in the lowest bits it is the number 2^23 + byte, so that no
    /// conversion is needed.
    const WHOLE: i32 = 0x4b00_0000;
    // SAFETY: registers only.
    unsafe {
        let bits = _mm512_set1_epi32(WHOLE | i32::from(job.epilogue.residual_flip));
        let zero = _mm512_set1_ps((1 << 23) as f32 + job.epilogue.residual_zero as f32);
        let numbers = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_cvtepu8_epi32(bytes), bits));
        _mm512_mul_ps(_mm512_sub_ps(numbers, zero), _mm512_set1_ps(job.epilogue.residual_scale))
    }
}

/// A tile whose sums are in memory.
///
/// # Safety
/// As [`Lanes::finish`](crate::kernel::Lanes::finish).
#[inline(never)]
#[cfg_attr(not(feature = "__emulate"), target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2"))]
#[cfg_attr(feature = "__emulate", target_feature(enable = "avx2"))]
pub(super) unsafe fn finish(job: &Job<'_>, sums: *const __m512i, tile: Tile) {
    // SAFETY: passed on.
    unsafe {
        match (job.epilogue.real, job.output.residual.is_null()) {
            (false, true) => finish_as::<false, false>(job, sums, tile),
            (false, false) => finish_as::<false, true>(job, sums, tile),
            (true, true) => finish_as::<true, false>(job, sums, tile),
            (true, false) => finish_as::<true, true>(job, sums, tile),
        }
    }
}

/// [`finish`] for one kind of output.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn finish_as<const REAL: bool, const RESIDUAL: bool>(job: &Job<'_>, sums: *const __m512i, tile: Tile) {
    for block in 0..tile.blocks {
        let channel = tile.channel + 16 * block;
        let count = (job.weights.channels - channel).min(16);
        let mask = (0xffffu32 >> (16 - count)) as __mmask16;
        // SAFETY: one sum a pixel and block; the mask keeps loads and stores within the group's
        // channels.
        unsafe {
            // Flipping the top bit of a byte is the same as subtracting 128, modulo 256.
            let zero = _mm512_set1_epi32(job.epilogue.zero - i32::from(job.epilogue.flip));
            let scale = _mm512_loadu_ps(job.weights.scales.add(channel));
            for pixel in 0..tile.pixels {
                let sums = *sums.add(pixel * tile.blocks + block);
                let at = (tile.first + pixel) * job.output.stride + channel;
                let mut x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale);
                if RESIDUAL {
                    let bytes = _mm_maskz_loadu_epi8(mask, job.output.residual.add(at).cast());
                    x = _mm512_add_ps(clamped(x, job.epilogue.inner), residual(job, bytes));
                }
                let x = clamped(x, (job.epilogue.low, job.epilogue.high));
                if REAL {
                    _mm512_mask_storeu_ps(job.output.first.cast::<f32>().add(at), mask, x);
                    continue;
                }
                let bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(x), zero));
                let out = job.output.first.add(at);
                if count == 16 {
                    _mm_storeu_si128(out.cast(), bytes);
                } else {
                    _mm_mask_storeu_epi8(out.cast(), mask, bytes);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn clamped(x: __m512, (low, high): (f32, f32)) -> __m512 {
    // SAFETY: registers only. The second operand is the answer where they are equal or unordered,
    // as in `quant::clamp`.
    unsafe { _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(low)), _mm512_set1_ps(high)) }
}
