//! AVX2 without VNNI.
//!
//! `vpmaddubsw` and `vpmaddwd` compute 32 products of bytes per cycle and leave room for loads, but
//! the first saturates: [`bytes`] splits the weights so that it cannot. Where that would take too
//! many extra steps, [`words`] widens to 16 bits, which takes as many multiplications and one and a
//! half times as many instructions.

pub(crate) mod bytes;
mod finish;
pub(crate) mod words;

use std::arch::x86_64::*;

pub(crate) use finish::{end, finish};

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
