//! AVX2 with VNNI: `vpdpbusd` on 256 bits.

// Emulated instructions are safe functions.
#![cfg_attr(feature = "__emulate", allow(unused_unsafe))]

#[cfg(feature = "__emulate")]
use super::emulated::*;
#[cfg(not(feature = "__emulate"))]
use std::arch::x86_64::*;

use super::avx2::{broadcast, end, finish, load, opaque, start};
use crate::kernel::engine::{engine, kernel};
use crate::kernel::first::first_engine;
use crate::kernel::woven::{Columns, woven_engine};
use crate::kernel::{DepthwiseOrder, Element, Kernels, Layout, Shape};
use crate::quant::Byte;

/// 6 pixels x 16 channels fill 12 of 16 registers; two hold weights, one the input.
const SHAPE: Shape = Shape { pixels: [6, 0, 0, 0] };

/// The functions, and the layout of their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run: run_any,
    run_depthwise: run_woven,
    burn,
    layout: Layout {
        element: Element::Byte(Byte::U8),
        step: 4,
        shape: &SHAPE,
        split: None,
        folds: true,
        depthwise: DepthwiseOrder::Woven(Byte::U8),
    },
};

kernel!(
    /// The kernel.
    AvxVnni, sums: [__m256i; 2] = start, finish, end: end,
    weights: [__m256i; 2] = load, input: __m256i = broadcast, opaque, dot
);
engine!(AvxVnni, "avx2,avxvnni", shape: SHAPE, tiles: { 1 => [1 2 3 4 5 6] }, burn: 6 x 4);
first_engine!(AvxVnni, "avx2,avxvnni");
woven_engine!(AvxVnni, "avx2,avxvnni");

impl Columns for AvxVnni {
    type Four = [__m256i; 2];

    #[inline(always)]
    unsafe fn four(at: *const u8) -> [__m256i; 2] {
        // SAFETY: 64 bytes.
        unsafe { load(at) }
    }

    #[inline(always)]
    unsafe fn column(sums: [__m256i; 2], w: [__m256i; 2], input: *const u8) -> [__m256i; 2] {
        // SAFETY: 64 bytes.
        unsafe {
            let x = load(input);
            [_mm256_dpbusd_avx_epi32(sums[0], x[0], w[0]), _mm256_dpbusd_avx_epi32(sums[1], x[1], w[1])]
        }
    }
}

#[inline(always)]
unsafe fn dot(sums: [__m256i; 2], w: [__m256i; 2], x: __m256i) -> [__m256i; 2] {
    // SAFETY: registers only. The sum wraps, the products do not saturate.
    unsafe { [_mm256_dpbusd_avx_epi32(sums[0], x, w[0]), _mm256_dpbusd_avx_epi32(sums[1], x, w[1])] }
}
