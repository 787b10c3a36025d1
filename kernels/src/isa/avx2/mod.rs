//! AVX2 without VNNI.
//!
//! `vpmaddubsw` and `vpmaddwd` make 32 products a cycle out of bytes and leave room for loads, but the first
//! saturates: [`bytes`] splits the weights so that it cannot. Where that would take too many steps of its own,
//! [`words`] widens to 16 bits, which is as many multiplications and one and a half times as many instructions.

pub(crate) mod bytes;
pub(crate) mod words;

use std::arch::x86_64::*;

use crate::conv::tiles::Job;

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

/// Two neighbouring quarters change places: the order that unpacking leaves, and back.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(crate) unsafe fn exchange(s: [__m256i; 2]) -> [__m256i; 2] {
    // SAFETY: registers only.
    unsafe { [_mm256_permute2x128_si256::<0x20>(s[0], s[1]), _mm256_permute2x128_si256::<0x31>(s[0], s[1])] }
}
