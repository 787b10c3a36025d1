//! `sdot`: signed inputs, four products a lane. As inline assembly: the intrinsic is not stable.

use std::arch::aarch64::*;

use super::{finish, first_lane, hidden, load, start, words};
use crate::conv::band::Element;
use crate::conv::pack::Layout;
use crate::conv::tiles::{Dot, Job, Lanes, Shape, Tile, engine};
use crate::conv::vector::Kernels;
use crate::quant::Byte;

/// The kernel.
#[derive(Clone, Copy)]
pub(crate) struct Dotprod;

/// 6 pixels x 16 channels fill 24 of 32 registers; four hold weights.
const SHAPE: Shape = Shape { pixels: [6, 0, 0, 0] };

/// The functions and how they want their weights.
pub(crate) const KERNELS: Kernels = Kernels {
    run,
    run_depthwise: words::KERNELS.run_depthwise,
    burn,
    layout: Layout {
        element: Element::Byte(Byte::S8),
        step: 4,
        shape: &SHAPE,
        split: None,
        order: words::KERNELS.layout.order,
    },
};

engine!(Dotprod, "neon,dotprod", shape: SHAPE, tiles: { 1 => [1 2 3 4 5 6] }, burn: 6 x 4);

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

impl Lanes for Dotprod {
    type Sums = [int32x4_t; 4];

    #[inline(always)]
    unsafe fn start(bias: *const i32) -> [int32x4_t; 4] {
        // SAFETY: the bias is filled up to 16.
        unsafe { start(bias) }
    }

    #[inline(always)]
    unsafe fn finish(job: &Job<'_>, sums: *const [int32x4_t; 4], tile: Tile) {
        // SAFETY: passed on.
        unsafe { finish(job, sums, tile) }
    }
}

impl Dot for Dotprod {
    type Weights = [int8x16_t; 4];
    type Input = f32;
    const WEIGHT_BYTES: usize = 64;

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> [int8x16_t; 4] {
        // SAFETY: a step of weights is 64 bytes.
        unsafe { load(at) }
    }

    #[inline(always)]
    unsafe fn input(at: *const u8) -> f32 {
        // SAFETY: the band has room for a whole step behind the last element.
        unsafe { first_lane(at) }
    }

    #[inline(always)]
    unsafe fn opaque(x: f32) -> f32 {
        hidden(x)
    }

    #[inline(always)]
    unsafe fn dot(mut sums: [int32x4_t; 4], w: [int8x16_t; 4], x: f32) -> [int32x4_t; 4] {
        for (sums, w) in sums.iter_mut().zip(w) {
            // SAFETY: the caller has the instruction.
            *sums = unsafe { sdot(*sums, w, x) };
        }
        sums
    }
}
