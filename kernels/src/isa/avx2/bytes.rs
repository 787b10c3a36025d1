//! Bytes, `vpmaddubsw` and `vpmaddwd`; weights are split so that nothing saturates.

use std::arch::x86_64::*;

use super::{broadcast, finish, load, opaque, start, words};
use crate::conv::band::Element;
use crate::conv::pack::Layout;
use crate::conv::tiles::{Dot, Job, Lanes, Shape, engine};
use crate::conv::vector::Kernels;
use crate::quant::Byte;

/// The kernel.
#[derive(Clone, Copy)]
pub(crate) struct Bytes;

/// 6 pixels x 16 channels fill 12 of 16 registers; two hold weights, one the input, one ones.
const SHAPE: Shape = Shape { pixels: [6, 0, 0, 0] };

/// Words run at about three quarters of this kernel's speed.
const SPLIT: usize = 25;

/// The functions and how they want their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run,
    run_depthwise: words::KERNELS.run_depthwise,
    burn,
    layout: Layout {
        element: Element::Byte(Byte::U8),
        step: 4,
        shape: &SHAPE,
        split: Some(SPLIT),
        order: words::KERNELS.layout.order,
    },
};

engine!(Bytes, "avx2", shape: SHAPE, tiles: { 1 => [1 2 3 4 5 6] }, burn: 6 x 4);

impl Lanes for Bytes {
    type Sums = [__m256i; 2];

    #[inline(always)]
    unsafe fn start(bias: *const i32) -> [__m256i; 2] {
        // SAFETY: the bias is filled up to 16.
        unsafe { start(bias) }
    }

    #[inline(always)]
    unsafe fn finish(job: &Job<'_>, sums: [__m256i; 2], pixel: usize, channel: usize) {
        // SAFETY: passed on.
        unsafe { finish(job, sums, pixel, channel) }
    }
}

impl Dot for Bytes {
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
        // SAFETY: registers only.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_maddubs_epi16(x, w[0]), ones)),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_maddubs_epi16(x, w[1]), ones)),
            ]
        }
    }
}
