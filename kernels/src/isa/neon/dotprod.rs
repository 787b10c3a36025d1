//! `sdot`: signed inputs, four products per lane. Inline assembly, because the intrinsic is not
//! stable.

use std::arch::aarch64::*;

use super::{finish, first_lane, hidden, load, start};
use crate::kernel::engine::{engine, kernel};
use crate::kernel::woven::{Columns, woven_engine};
use crate::kernel::{DepthwiseOrder, Element, Kernels, Layout, Shape};
use crate::quant::Byte;

/// 6 pixels x 16 channels fill 24 of 32 registers; four hold weights.
const SHAPE: Shape = Shape { pixels: [6, 0, 0, 0] };

/// The functions, and the layout of their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run,
    run_depthwise: run_woven,
    burn,
    layout: Layout {
        element: Element::Byte(Byte::S8),
        step: 4,
        shape: &SHAPE,
        split: None,
        folds: false,
        depthwise: DepthwiseOrder::Woven(Byte::S8),
    },
};

kernel!(
    /// The kernel.
    Dotprod, sums: [int32x4_t; 4] = start, finish,
    weights: [int8x16_t; 4] = load, input: f32 = first_lane, hidden, dot
);
engine!(Dotprod, "neon,dotprod", shape: SHAPE, tiles: { 1 => [1 2 3 4 5 6] }, burn: 6 x 4);
woven_engine!(Dotprod, "neon,dotprod");

impl Columns for Dotprod {
    type Four = [int8x16_t; 4];

    #[inline(always)]
    unsafe fn four(at: *const u8) -> [int8x16_t; 4] {
        // SAFETY: 64 bytes.
        unsafe { load(at) }
    }

    #[inline(always)]
    unsafe fn column(mut sums: [int32x4_t; 4], w: [int8x16_t; 4], input: *const u8) -> [int32x4_t; 4] {
        // SAFETY: 64 bytes; the caller has the instruction.
        unsafe {
            let x = load(input);
            for (i, sums) in sums.iter_mut().enumerate() {
                *sums = lanes(*sums, w[i], x[i]);
            }
        }
        sums
    }
}

/// Adds to each lane of `sums` the four products of `w` with the signed bytes of that lane of `x`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn lanes(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only.
    unsafe {
        std::arch::asm!(
            "sdot {s:v}.4s, {x:v}.16b, {w:v}.16b",
            s = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds to each lane of `sums` the four products of `w` with the four bytes of `x`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn sdot(mut sums: int32x4_t, w: int8x16_t, x: f32) -> int32x4_t {
    // SAFETY: registers only.
    unsafe {
        std::arch::asm!(
            "sdot {s:v}.4s, {w:v}.16b, {x:v}.4b[0]",
            s = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[inline(always)]
unsafe fn dot(mut sums: [int32x4_t; 4], w: [int8x16_t; 4], x: f32) -> [int32x4_t; 4] {
    for (sums, w) in sums.iter_mut().zip(w) {
        // SAFETY: the caller has the instruction.
        *sums = unsafe { sdot(*sums, w, x) };
    }
    sums
}
