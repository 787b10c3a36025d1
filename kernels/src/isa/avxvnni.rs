//! AVX2 with VNNI: `vpdpbusd` on 256 bits.

use std::arch::x86_64::*;

use super::avx2::{broadcast, finish, load, opaque, start, words};
use crate::conv::band::Element;
use crate::conv::pack::Layout;
use crate::conv::tiles::{Dot, Job, Lanes, Shape, Tile, engine};
use crate::conv::vector::Kernels;
use crate::quant::Byte;

/// The kernel.
#[derive(Clone, Copy)]
pub(crate) struct AvxVnni;

/// 6 pixels x 16 channels fill 12 of 16 registers; two hold weights, one the input.
const SHAPE: Shape = Shape { pixels: [6, 0, 0, 0] };

/// The functions and how they want their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run,
    run_depthwise: words::KERNELS.run_depthwise,
    burn,
    layout: Layout {
        element: Element::Byte(Byte::U8),
        step: 4,
        shape: &SHAPE,
        split: None,
        order: words::KERNELS.layout.order,
    },
};

engine!(AvxVnni, "avx2,avxvnni", shape: SHAPE, tiles: { 1 => [1 2 3 4 5 6] }, burn: 6 x 4);

impl Lanes for AvxVnni {
    type Sums = [__m256i; 2];

    #[inline(always)]
    unsafe fn start(bias: *const i32) -> [__m256i; 2] {
        // SAFETY: the bias is filled up to 16.
        unsafe { start(bias) }
    }

    #[inline(always)]
    unsafe fn finish(job: &Job<'_>, sums: *const [__m256i; 2], tile: Tile) {
        // SAFETY: passed on.
        unsafe { finish(job, sums, tile) }
    }
}

impl Dot for AvxVnni {
    type Weights = [__m256i; 2];
    type Input = __m256i;
    const WEIGHT_BYTES: usize = 64;

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> [__m256i; 2] {
        // SAFETY: a step of weights is 64 bytes.
        unsafe { load(at) }
    }

    #[inline(always)]
    unsafe fn input(at: *const u8) -> __m256i {
        // SAFETY: the band has room for a whole step behind the last element.
        unsafe { broadcast(at) }
    }

    #[inline(always)]
    unsafe fn opaque(x: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { opaque(x) }
    }

    #[inline(always)]
    unsafe fn dot(sums: [__m256i; 2], w: [__m256i; 2], x: __m256i) -> [__m256i; 2] {
        // SAFETY: registers only. The sum wraps, the products do not saturate.
        unsafe { [_mm256_dpbusd_avx_epi32(sums[0], x, w[0]), _mm256_dpbusd_avx_epi32(sums[1], x, w[1])] }
    }
}
