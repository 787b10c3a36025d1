//! 16-bit inputs and weights, `vpmaddwd`: exact for any weights. Depthwise kernels too.

use std::arch::x86_64::*;

use super::{broadcast, exchange, finish, load, opaque, start};
use crate::kernel::engine::{depthwise_engine, engine, kernel};
use crate::kernel::{DepthwiseOrder, Element, Kernels, Layout, Shape, Taps};

/// 6 pixels x 16 channels fill 12 of 16 registers; two hold weights, one the input, one a product.
const SHAPE: Shape = Shape { pixels: [6, 0, 0, 0] };

/// The functions, and the layout of their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run,
    run_depthwise,
    burn,
    layout: Layout {
        element: Element::Word,
        step: 2,
        shape: &SHAPE,
        split: None,
        folds: false,
        depthwise: DepthwiseOrder::Unpacked,
    },
};

kernel!(
    /// The kernel.
    Words, sums: [__m256i; 2] = start, finish,
    weights: [__m256i; 2] = load, input: __m256i = broadcast, opaque, dot
);
engine!(Words, "avx2", shape: SHAPE, tiles: { 1 => [1 2 3 4 5 6] }, burn: 4 x 2);
depthwise_engine!(Words, "avx2", tiles: [1 2 3 4]);

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

impl Taps for Words {
    type Pair = [__m256i; 2];

    #[inline(always)]
    unsafe fn pair(at: *const u8) -> [__m256i; 2] {
        // SAFETY: two taps of 16 channels are 64 bytes.
        unsafe { load(at) }
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
        // SAFETY: as in `start`; the exchange is its own inverse.
        unsafe { exchange(start(bias)) }
    }

    #[inline(always)]
    unsafe fn end_taps(sums: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: registers only.
        unsafe { exchange(sums) }
    }
}
