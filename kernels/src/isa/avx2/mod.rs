//! AVX2 without VNNI.
//!
//! `vpmaddubsw` and `vpmaddwd` compute 32 products of bytes per cycle and leave room for loads, but
//! the first saturates: [`bytes`] splits the weights so that it cannot. Where that would take too
//! many extra steps, [`words`] widens to 16 bits, which takes as many multiplications and one and a
//! half times as many instructions.

pub(crate) mod bytes;
pub(crate) mod words;

use std::arch::x86_64::*;

use crate::kernel::{Job, Tile};

/// Everything after the sums; shared with AVX-VNNI.
///
/// # Safety
/// As [`crate::kernel::Lanes::finish`].
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn finish(job: &Job<'_>, sums: *const [__m256i; 2], tile: Tile) {
    // SAFETY: passed on.
    unsafe {
        if job.epilogue.real || job.weights.channels - tile.channel < 16 * tile.blocks {
            for block in 0..tile.blocks {
                some(job, sums.add(block), tile, tile.channel + 16 * block);
            }
        } else if job.output.residual.is_null() {
            all::<false>(job, sums, tile);
        } else {
            all::<true>(job, sums, tile);
        }
    }
}

/// Bytes of whole blocks.
///
/// # Safety
/// As [`finish`]; all channels exist.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn all<const RESIDUAL: bool>(job: &Job<'_>, sums: *const [__m256i; 2], tile: Tile) {
    for block in 0..tile.blocks {
        let channel = tile.channel + 16 * block;
        // SAFETY: one sum a pixel and block.
        unsafe {
            let mut sums = sums.add(block);
            let mut at = tile.first * job.output.stride + channel;
            let scales = [
                _mm256_loadu_ps(job.weights.scales.add(channel)),
                _mm256_loadu_ps(job.weights.scales.add(channel + 8)),
            ];
            for _ in 0..tile.pixels {
                let mut x = scaled(*sums, scales);
                if RESIDUAL {
                    x = add_residual(job, x, _mm_loadu_si128(job.output.residual.add(at).cast()));
                }
                _mm_storeu_si128(
                    job.output.first.add(at).cast(),
                    bytes(job, clamped(x, (job.epilogue.low, job.epilogue.high))),
                );
                at += job.output.stride;
                sums = sums.add(tile.blocks);
            }
        }
    }
}

/// Real numbers, or the last channels.
///
/// # Safety
/// As [`finish`].
#[inline(never)]
#[target_feature(enable = "avx2")]
unsafe fn some(job: &Job<'_>, sums: *const [__m256i; 2], tile: Tile, channel: usize) {
    let count = (job.weights.channels - channel).min(16);
    // SAFETY: channels past the group's end are neither read from the residual nor written.
    unsafe {
        let scales = [
            _mm256_loadu_ps(job.weights.scales.add(channel)),
            _mm256_loadu_ps(job.weights.scales.add(channel + 8)),
        ];
        for pixel in 0..tile.pixels {
            let at = (tile.first + pixel) * job.output.stride + channel;
            let mut x = scaled(*sums.add(pixel * tile.blocks), scales);
            if !job.output.residual.is_null() {
                x = add_residual(job, x, load_part(job.output.residual.add(at), count));
            }
            let x = clamped(x, (job.epilogue.low, job.epilogue.high));
            if job.epilogue.real {
                store_part(job.output.first.cast::<f32>().add(at), x, count);
            } else {
                store_part(job.output.first.add(at), bytes(job, x), count);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn scaled(sums: [__m256i; 2], scales: [__m256; 2]) -> [__m256; 2] {
    [
        _mm256_mul_ps(_mm256_cvtepi32_ps(sums[0]), scales[0]),
        _mm256_mul_ps(_mm256_cvtepi32_ps(sums[1]), scales[1]),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn clamped(x: [__m256; 2], (low, high): (f32, f32)) -> [__m256; 2] {
    let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
    // The result is the second operand if they are equal or unordered, as in `quant::clamp`.
    x.map(|x| _mm256_min_ps(_mm256_max_ps(x, low), high))
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_residual(job: &Job<'_>, x: [__m256; 2], bytes: __m128i) -> [__m256; 2] {
    let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(job.epilogue.residual_flip as i8));
    let (zero, scale) =
        (_mm256_set1_epi32(job.epilogue.residual_zero), _mm256_set1_ps(job.epilogue.residual_scale));
    let term = |eight| {
        let r = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(eight), zero));
        _mm256_mul_ps(r, scale)
    };
    let [a, b] = clamped(x, job.epilogue.inner);
    [_mm256_add_ps(a, term(bytes)), _mm256_add_ps(b, term(_mm_srli_si128::<8>(bytes)))]
}

/// Clamped values rounded to bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes(job: &Job<'_>, x: [__m256; 2]) -> __m128i {
    let zero = _mm256_set1_epi32(job.epilogue.zero);
    let q = x.map(|x| _mm256_add_epi32(_mm256_cvtps_epi32(x), zero));
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(q[0], q[1]));
    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    _mm_xor_si128(bytes, _mm_set1_epi8(job.epilogue.flip as i8))
}

/// Writes the first `count` of the 16 values in `all`.
///
/// # Safety
/// `count` values can be written, and `all` has 16 of them.
#[inline(always)]
unsafe fn store_part<T: Copy, A>(at: *mut T, all: A, count: usize) {
    const { assert!(size_of::<A>() == 16 * size_of::<T>()) };
    // SAFETY: `count` is at most 16.
    unsafe { std::ptr::copy_nonoverlapping((&raw const all).cast(), at, count) }
}

/// The first `count` of 16 bytes.
///
/// # Safety
/// `count` bytes can be read.
#[inline(always)]
unsafe fn load_part(at: *const u8, count: usize) -> __m128i {
    let mut all = [0u8; 16];
    // SAFETY: `count` is below 16.
    unsafe {
        std::ptr::copy_nonoverlapping(at, all.as_mut_ptr(), count);
        _mm_loadu_si128(all.as_ptr().cast())
    }
}

/// 16 sums from memory.
///
/// # Safety
/// 16 can be read; AVX2.
#[inline(always)]
pub(crate) unsafe fn start(bias: *const i32) -> [__m256i; 2] {
    // SAFETY: as said.
    unsafe { [_mm256_loadu_si256(bias.cast()), _mm256_loadu_si256(bias.add(8).cast())] }
}

/// 64 bytes from memory.
///
/// # Safety
/// 64 can be read; AVX2.
#[inline(always)]
pub(crate) unsafe fn load(at: *const u8) -> [__m256i; 2] {
    // SAFETY: as said.
    unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())] }
}

/// The 4 bytes at `at` in every lane.
///
/// # Safety
/// 4 can be read; AVX2.
#[inline(always)]
pub(crate) unsafe fn broadcast(at: *const u8) -> __m256i {
    // SAFETY: as said.
    unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
}

/// Hides a register from the compiler.
///
/// # Safety
/// AVX2.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn opaque(mut x: __m256i) -> __m256i {
    // SAFETY: no instruction.
    unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
    x
}

/// Swaps the two middle quarters: converts to the order that unpacking produces, and back.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(crate) unsafe fn exchange(s: [__m256i; 2]) -> [__m256i; 2] {
    // SAFETY: registers only.
    unsafe { [_mm256_permute2x128_si256::<0x20>(s[0], s[1]), _mm256_permute2x128_si256::<0x31>(s[0], s[1])] }
}
