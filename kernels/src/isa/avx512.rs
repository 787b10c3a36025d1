//! AVX-512 with VNNI: `vpdpbusd` on 512 bits, `vpdpwssd` for depthwise kernels.

// Emulated instructions are safe functions.
#![cfg_attr(feature = "__emulate", allow(unused_unsafe))]

#[cfg(feature = "__emulate")]
use super::emulated::*;
#[cfg(not(feature = "__emulate"))]
use std::arch::x86_64::*;

use crate::conv::band::Element;
use crate::conv::pack::Layout;
use crate::conv::tiles::{Job, PairOrder, Shape, Taps, Tile, depthwise_engine, engine, kernel};
use crate::conv::vector::Kernels;
use crate::quant::Byte;

/// 24 of 32 registers hold sums where there are channels for it; with 28 the compiler moves some to memory and
/// back. At least 8 chains keep two multipliers busy.
const SHAPE: Shape = Shape { pixels: [10, 10, 8, 6] };

/// The functions and how they want their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run,
    run_depthwise,
    burn,
    layout: Layout {
        element: Element::Byte(Byte::U8),
        step: 4,
        shape: &SHAPE,
        split: None,
        order: PairOrder::Interleaved,
    },
};

kernel!(
    /// The kernel.
    Avx512, sums: __m512i = load, finish,
    weights: __m512i = load, input: __m512i = broadcast, opaque, dot
);
engine!(Avx512, "avx512f,avx512bw,avx512vl,avx512vnni,avx2", shape: SHAPE,
tiles: {
    1 => [1 2 3 4 5 6 7 8 9 10],
    2 => [1 2 3 4 5 6 7 8 9 10],
    3 => [1 2 3 4 5 6 7 8],
    4 => [1 2 3 4 5 6]
}, burn: 12 x 4);
depthwise_engine!(Avx512, "avx512f,avx512bw,avx512vl,avx512vnni,avx2", tiles: [1 2 3 4 5 6 7 8]);

/// 64 bytes from memory.
#[inline(always)]
unsafe fn load<T>(at: *const T) -> __m512i {
    // SAFETY: 16 sums, a step of weights, and the weights of two taps are as large.
    unsafe { _mm512_loadu_si512(at.cast()) }
}

/// The 4 bytes at `at` in every lane.
#[inline(always)]
unsafe fn broadcast(at: *const u8) -> __m512i {
    // SAFETY: 4 can be read.
    unsafe { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
}

/// Hides a register from the compiler.
#[cfg(not(feature = "__emulate"))]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn opaque(mut x: __m512i) -> __m512i {
    // SAFETY: no instruction.
    unsafe { std::arch::asm!("/* {0} */", inout(zmm_reg) x, options(nomem, nostack, preserves_flags)) };
    x
}

#[cfg(feature = "__emulate")]
unsafe fn opaque(x: __m512i) -> __m512i {
    x
}

#[inline(always)]
unsafe fn dot(sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
    // SAFETY: registers only. The sum wraps, the products do not saturate.
    unsafe { _mm512_dpbusd_epi32(sums, x, w) }
}

/// Everything after the sums.
///
/// # Safety
/// As [`Lanes::finish`].
#[inline(never)]
#[cfg_attr(not(feature = "__emulate"), target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2"))]
#[cfg_attr(feature = "__emulate", target_feature(enable = "avx2"))]
unsafe fn finish(job: &Job<'_>, sums: *const __m512i, tile: Tile) {
    // SAFETY: passed on.
    unsafe {
        match (job.real, job.residual.is_null()) {
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
/// As [`Lanes::finish`].
#[inline(always)]
unsafe fn finish_as<const REAL: bool, const RESIDUAL: bool>(job: &Job<'_>, sums: *const __m512i, tile: Tile) {
    for block in 0..tile.blocks {
        let channel = tile.channel + 16 * block;
        let count = (job.channels - channel).min(16);
        let mask = (0xffffu32 >> (16 - count)) as __mmask16;
        // SAFETY: one sum a pixel and block; the mask keeps loads and stores within the group's channels.
        unsafe {
            // Flipping the top bit of a byte is the same as taking 128 from it, since the rest is cut off.
            let zero = _mm512_set1_epi32(job.zero - i32::from(job.flip));
            let scale = _mm512_loadu_ps(job.scales.add(channel));
            for pixel in 0..tile.pixels {
                let sums = *sums.add(pixel * tile.blocks + block);
                let at = (tile.first + pixel) * job.stride + channel;
                let mut x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale);
                if RESIDUAL {
                    let bytes = _mm_maskz_loadu_epi8(mask, job.residual.add(at).cast());
                    let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(job.residual_flip as i8));
                    let r =
                        _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(job.residual_zero));
                    let r = _mm512_mul_ps(_mm512_cvtepi32_ps(r), _mm512_set1_ps(job.residual_scale));
                    x = _mm512_add_ps(clamped(x, job.inner), r);
                }
                let x = clamped(x, (job.low, job.high));
                if REAL {
                    _mm512_mask_storeu_ps(job.output.cast::<f32>().add(at), mask, x);
                    continue;
                }
                let bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(x), zero));
                let out = job.output.add(at);
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
    // SAFETY: registers only. The second operand is the answer where they are equal or unordered, as in
    // `quant::clamp`.
    unsafe { _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(low)), _mm512_set1_ps(high)) }
}

impl Taps for Avx512 {
    type Pair = __m512i;

    #[inline(always)]
    unsafe fn pair(at: *const u8) -> __m512i {
        // SAFETY: two taps of 16 channels are 64 bytes.
        unsafe { load(at) }
    }

    #[inline(always)]
    unsafe fn taps(sums: __m512i, w: __m512i, a: *const u8, b: *const u8) -> __m512i {
        // SAFETY: the band has room for 16 channels behind the last.
        unsafe {
            let both = _mm512_castsi256_si512(_mm256_loadu_si256(a.cast()));
            let both = _mm512_inserti64x4::<1>(both, _mm256_loadu_si256(b.cast()));
            let order = load(INTERLEAVE.as_ptr());
            // Two products of a byte and a weight cannot leave 32 bits; the sum wraps.
            _mm512_dpwssd_epi32(sums, _mm512_permutexvar_epi16(order, both), w)
        }
    }

    #[inline(always)]
    unsafe fn start_taps(bias: *const i32) -> __m512i {
        // SAFETY: passed on.
        unsafe { load(bias) }
    }

    #[inline(always)]
    unsafe fn end_taps(sums: __m512i) -> __m512i {
        sums
    }
}

/// `a0 b0 a1 b1 ..` of `a0..a15 b0..b15`.
static INTERLEAVE: [u16; 32] = {
    let mut order = [0; 32];
    let mut lane = 0;
    while lane < 16 {
        order[2 * lane] = lane as u16;
        order[2 * lane + 1] = lane as u16 + 16;
        lane += 1;
    }
    order
};
