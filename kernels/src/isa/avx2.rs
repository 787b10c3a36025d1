//! AVX2 without VNNI: 16-bit inputs and weights, `vpmaddwd`, which is exact where `vpmaddubsw` saturates.
//! Both do 32 products a cycle on two multipliers.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::conv::band::Element;
use crate::conv::pack::Layout;
use crate::conv::tiles::{Dot, Job, Lanes, PairOrder, Shape, Taps, engine};
use crate::conv::vector::Kernels;

/// The kernel.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// 6 pixels x 16 channels fill 12 of 16 registers; two hold weights, one the input, one a product.
const SHAPE: Shape = Shape { pixels: [6, 0, 0, 0] };

/// The functions and how they want their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run,
    run_depthwise,
    burn,
    layout: Layout { element: Element::Word, step: 2, shape: &SHAPE, order: Avx2::ORDER },
};

engine!(Avx2, "avx2", shape: SHAPE, tiles: { 1 => [1 2 3 4 5 6] }, depthwise: [1 2 3 4],
    burn: 6 x 2);

/// Everything after the sum for 16 channels in two registers of 8; shared with AVX-VNNI.
///
/// # Safety
/// As [`Lanes::finish`].
#[inline(always)]
pub(crate) unsafe fn finish(job: &Job<'_>, sums: [__m256i; 2], pixel: usize, channel: usize) {
    // SAFETY: channels past the group's end are neither read from the residual nor written.
    unsafe {
        let at = pixel * job.stride + channel;
        let count = (job.channels - channel).min(16);
        let mut x = [_mm256_setzero_ps(); 2];
        for (half, x) in x.iter_mut().enumerate() {
            let scale = _mm256_loadu_ps(job.scales.add(channel + 8 * half));
            *x = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[half]), scale);
        }
        if !job.residual.is_null() {
            let r = job.residual.add(at);
            let bytes = if count == 16 { _mm_loadu_si128(r.cast()) } else { load_part(r, count) };
            let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(job.residual_flip as i8));
            let halves = [bytes, _mm_srli_si128::<8>(bytes)];
            for (half, x) in x.iter_mut().enumerate() {
                let r = _mm256_cvtepu8_epi32(halves[half]);
                let r = _mm256_cvtepi32_ps(_mm256_sub_epi32(r, _mm256_set1_epi32(job.residual_zero)));
                *x = _mm256_add_ps(*x, _mm256_mul_ps(r, _mm256_set1_ps(job.residual_scale)));
            }
        }
        let (low, high) = (_mm256_set1_ps(job.low), _mm256_set1_ps(job.high));
        // The second operand is the answer where they are equal or unordered, as in `quant::clamp`.
        let x = x.map(|x| _mm256_min_ps(_mm256_max_ps(x, low), high));
        if job.real {
            let out = job.output.cast::<f32>().add(at);
            if count == 16 {
                _mm256_storeu_ps(out, x[0]);
                _mm256_storeu_ps(out.add(8), x[1]);
            } else {
                let all: [f32; 16] = std::mem::transmute(x);
                std::ptr::copy_nonoverlapping(all.as_ptr(), out, count);
            }
            return;
        }
        let zero = _mm256_set1_epi32(job.zero);
        let q = x.map(|x| _mm256_add_epi32(_mm256_cvtps_epi32(x), zero));
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(q[0], q[1]));
        let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(job.flip as i8));
        let out = job.output.add(at);
        if count == 16 {
            _mm_storeu_si128(out.cast(), bytes);
        } else {
            let all: [u8; 16] = std::mem::transmute(bytes);
            std::ptr::copy_nonoverlapping(all.as_ptr(), out, count);
        }
    }
}

/// The first `count` of 16 bytes.
///
/// # Safety
/// So many can be read.
#[inline(always)]
unsafe fn load_part(at: *const u8, count: usize) -> __m128i {
    let mut all = [0u8; 16];
    // SAFETY: `count` is below 16.
    unsafe {
        std::ptr::copy_nonoverlapping(at, all.as_mut_ptr(), count);
        _mm_loadu_si128(all.as_ptr().cast())
    }
}

impl Lanes for Avx2 {
    type Sums = [__m256i; 2];

    #[inline(always)]
    unsafe fn start(bias: *const i32) -> [__m256i; 2] {
        // SAFETY: the bias is filled up to 16.
        unsafe { [_mm256_loadu_si256(bias.cast()), _mm256_loadu_si256(bias.add(8).cast())] }
    }

    #[inline(always)]
    unsafe fn finish(job: &Job<'_>, sums: [__m256i; 2], pixel: usize, channel: usize) {
        // SAFETY: passed on.
        unsafe { finish(job, sums, pixel, channel) }
    }
}

impl Dot for Avx2 {
    type Weights = [__m256i; 2];
    type Input = __m256i;
    const INPUT_BYTES: usize = 4;
    const WEIGHT_BYTES: usize = 64;

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> [__m256i; 2] {
        // SAFETY: a step of weights is 64 bytes.
        unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())] }
    }

    #[inline(always)]
    unsafe fn input(at: *const u8) -> __m256i {
        // SAFETY: the band has room for a whole step behind the last element.
        unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn opaque(mut x: __m256i) -> __m256i {
        // SAFETY: no instruction.
        unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
        x
    }

    #[inline(always)]
    unsafe fn dot(sums: [__m256i; 2], w: [__m256i; 2], x: __m256i) -> [__m256i; 2] {
        // SAFETY: registers only.
        unsafe {
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(x, w[0])),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(x, w[1])),
            ]
        }
    }
}

impl Taps for Avx2 {
    type Pair = [__m256i; 2];
    const ORDER: PairOrder = PairOrder::Unpacked;

    #[inline(always)]
    unsafe fn pair(at: *const u8) -> [__m256i; 2] {
        // SAFETY: two taps of 16 channels are 64 bytes.
        unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())] }
    }

    #[inline(always)]
    unsafe fn taps(sums: [__m256i; 2], w: [__m256i; 2], a: *const u8, b: *const u8) -> [__m256i; 2] {
        // SAFETY: the band has room for 16 channels behind the last.
        unsafe {
            let (a, b) = (_mm256_loadu_si256(a.cast()), _mm256_loadu_si256(b.cast()));
            let (low, high) = (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, w[0])),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, w[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn start_taps(bias: *const i32) -> [__m256i; 2] {
        // SAFETY: as in `start`; exchanging the inner quarters is its own inverse.
        unsafe { Self::end_taps(Self::start(bias)) }
    }

    #[inline(always)]
    unsafe fn end_taps(s: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: registers only.
        unsafe {
            [_mm256_permute2x128_si256::<0x20>(s[0], s[1]), _mm256_permute2x128_si256::<0x31>(s[0], s[1])]
        }
    }
}
