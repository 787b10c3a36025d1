//! Bytes, `vpmaddubsw` and `vpmaddwd`; weights are split so that nothing saturates.

use std::arch::x86_64::*;

use super::{broadcast, end, finish, load, opaque, start};
use crate::kernel::engine::{engine, kernel};
use crate::kernel::first::first_engine;
use crate::kernel::woven::{Columns, woven_engine};
use crate::kernel::{DepthwiseOrder, Element, Kernels, Layout, Shape};
use crate::quant::Byte;

/// 5 pixels x 16 channels fill 10 of 16 registers; two hold weights, and input, ones and products
/// one each.
const SHAPE: Shape = Shape { pixels: [5, 0, 0, 0] };

/// The words kernel has about three quarters of this kernel's speed.
const SPLIT: usize = 25;

/// The functions, and the layout of their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run: run_any,
    run_depthwise: run_woven,
    burn,
    layout: Layout {
        element: Element::Byte(Byte::U8),
        step: 4,
        shape: &SHAPE,
        split: Some(SPLIT),
        folds: true,
        depthwise: DepthwiseOrder::Woven(Byte::U8),
    },
};

kernel!(
    /// The kernel.
    Bytes, sums: [__m256i; 2] = start, finish, end: end,
    weights: [__m256i; 2] = load, input: __m256i = broadcast, opaque, dot, join: join
);
engine!(Bytes, "avx2", shape: SHAPE, tiles: { 1 => [1 2 3 4 5] }, burn: 4 x 4);
first_engine!(Bytes, "avx2");
woven_engine!(Bytes, "avx2");

impl Columns for Bytes {
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
            let (x, ones) = (load(input), _mm256_set1_epi16(1));
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_maddubs_epi16(x[0], w[0]), ones)),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_maddubs_epi16(x[1], w[1]), ones)),
            ]
        }
    }
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

/// Two steps in five instructions per register instead of six, three of them multiplications
/// instead of four, of which Zen 3 executes two per cycle.
#[inline(always)]
unsafe fn join(sums: [__m256i; 2], w: [[__m256i; 2]; 2], x: [__m256i; 2]) -> [__m256i; 2] {
    // SAFETY: registers only.
    unsafe {
        std::array::from_fn(|i| {
            let four =
                _mm256_add_epi16(_mm256_maddubs_epi16(x[0], w[0][i]), _mm256_maddubs_epi16(x[1], w[1][i]));
            _mm256_add_epi32(sums[i], _mm256_madd_epi16(four, _mm256_set1_epi16(1)))
        })
    }
}
