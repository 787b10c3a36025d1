//! 16-bit inputs and weights, `smlal`: exact on every aarch64. Depthwise kernels too.

use std::arch::aarch64::*;

use super::{finish, hidden, start};
use crate::kernel::engine::{depthwise_engine, engine, kernel};
use crate::kernel::{DepthwiseOrder, Element, Kernels, Layout, Shape, Taps};

/// 6 pixels x 16 channels fill 24 of 32 registers; two hold weights.
const SHAPE: Shape = Shape { pixels: [6, 0, 0, 0] };

/// The functions, and the layout of their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run,
    run_depthwise,
    burn,
    layout: Layout {
        element: Element::Word,
        step: 1,
        shape: &SHAPE,
        split: None,
        folds: false,
        depthwise: DepthwiseOrder::Apart,
    },
};

kernel!(
    /// The kernel.
    Words, sums: [int32x4_t; 4] = start, finish,
    weights: [int16x8_t; 2] = load, input: int16x4_t = broadcast, hidden, dot
);
engine!(Words, "neon", shape: SHAPE, tiles: { 1 => [1 2 3 4 5 6] }, burn: 6 x 1);
depthwise_engine!(Words, "neon", tiles: [1 2 3 4]);

/// The word at `at` in every lane.
#[inline(always)]
unsafe fn broadcast(at: *const u8) -> int16x4_t {
    // SAFETY: words of the band are aligned.
    unsafe { vld1_dup_s16(at.cast()) }
}

#[inline(always)]
unsafe fn dot(s: [int32x4_t; 4], w: [int16x8_t; 2], x: int16x4_t) -> [int32x4_t; 4] {
    // SAFETY: registers only.
    unsafe {
        [
            vmlal_lane_s16::<0>(s[0], vget_low_s16(w[0]), x),
            vmlal_high_lane_s16::<0>(s[1], w[0], x),
            vmlal_lane_s16::<0>(s[2], vget_low_s16(w[1]), x),
            vmlal_high_lane_s16::<0>(s[3], w[1], x),
        ]
    }
}

impl Taps for Words {
    type Pair = [[int16x8_t; 2]; 2];

    #[inline(always)]
    unsafe fn pair(at: *const u8) -> [[int16x8_t; 2]; 2] {
        // SAFETY: two taps of 16 channels are 64 bytes.
        unsafe { [load(at), load(at.add(32))] }
    }

    #[inline(always)]
    unsafe fn taps(
        mut s: [int32x4_t; 4],
        w: [[int16x8_t; 2]; 2],
        a: *const u8,
        b: *const u8,
    ) -> [int32x4_t; 4] {
        for (w, at) in w.into_iter().zip([a, b]) {
            // SAFETY: the band has room for 16 channels behind the last.
            unsafe {
                let x = load(at);
                s = [
                    vmlal_s16(s[0], vget_low_s16(w[0]), vget_low_s16(x[0])),
                    vmlal_high_s16(s[1], w[0], x[0]),
                    vmlal_s16(s[2], vget_low_s16(w[1]), vget_low_s16(x[1])),
                    vmlal_high_s16(s[3], w[1], x[1]),
                ];
            }
        }
        s
    }

    #[inline(always)]
    unsafe fn start_taps(bias: *const i32) -> [int32x4_t; 4] {
        // SAFETY: passed on.
        unsafe { start(bias) }
    }

    #[inline(always)]
    unsafe fn end_taps(sums: [int32x4_t; 4]) -> [int32x4_t; 4] {
        sums
    }
}

/// 16 words from memory.
///
/// # Safety
/// 32 bytes can be read.
#[inline(always)]
unsafe fn load(at: *const u8) -> [int16x8_t; 2] {
    // SAFETY: as said.
    unsafe { [vld1q_s16(at.cast()), vld1q_s16(at.cast::<i16>().add(8))] }
}
