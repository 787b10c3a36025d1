//! AVX-512 with VNNI: `vpdpbusd` on 512 bits.

// Emulated instructions are safe functions.
#![cfg_attr(feature = "__emulate", allow(unused_unsafe))]

mod columns;
mod finish;
mod first;

#[cfg(feature = "__emulate")]
use crate::isa::emulated::*;
#[cfg(not(feature = "__emulate"))]
use std::arch::x86_64::*;

use crate::kernel::engine::{engine, kernel};
use crate::kernel::{DepthwiseOrder, Element, Job, Kernels, Layout, Shape};
use crate::quant::Byte;
use finish::{end, finish};

/// 24 of 32 registers hold sums if there are enough channels; with 28 the compiler spills some to
/// memory. At least 8 chains keep two multipliers busy.
const SHAPE: Shape = Shape { pixels: [10, 10, 8, 6] };

/// The functions, and the layout of their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run: any,
    run_depthwise: columns::run,
    burn,
    layout: Layout {
        element: Element::Byte(Byte::U8),
        step: 4,
        shape: &SHAPE,
        split: None,
        folds: false,
        depthwise: DepthwiseOrder::Columns,
    },
};

kernel!(
    /// The kernel.
    Avx512, sums: __m512i = load, finish, end: end,
    weights: __m512i = load, input: __m512i = broadcast, opaque, dot, prefetch: prefetch
);
engine!(Avx512, "avx512f,avx512bw,avx512vl,avx512vnni,avx2", shape: SHAPE,
tiles: {
    1 => [1 2 3 4 5 6 7 8 9 10],
    2 => [1 2 3 4 5 6 7 8 9 10],
    3 => [1 2 3 4 5 6 7 8],
    4 => [1 2 3 4 5 6]
}, burn: 12 x 4);

/// Runs a band of a layer that is not depthwise.
///
/// # Safety
/// As [`run`].
unsafe fn any(job: &Job<'_>) {
    // SAFETY: passed on.
    unsafe { if first::fits(job) { first::run(job) } else { run(job) } }
}

/// 64 bytes from memory.
#[inline(always)]
unsafe fn load<T>(at: *const T) -> __m512i {
    // SAFETY: 16 sums and a step of weights are as large.
    unsafe { _mm512_loadu_si512(at.cast()) }
}

/// The 4 bytes at `at` in every lane.
#[inline(always)]
unsafe fn broadcast(at: *const u8) -> __m512i {
    // SAFETY: 4 can be read.
    unsafe { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
}

/// Prefetches a line into the second-level cache. Not by the intrinsic: the compiler treats that as
/// a memory access, and keeps sums in memory because of it.
#[cfg(not(feature = "__emulate"))]
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)]
fn prefetch(at: *const u8) {
    // SAFETY: a hint; it faults nowhere and changes nothing.
    unsafe { std::arch::asm!("prefetcht1 [{0}]", in(reg) at, options(nomem, nostack, preserves_flags)) };
}

#[cfg(feature = "__emulate")]
fn prefetch(_: *const u8) {}

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
