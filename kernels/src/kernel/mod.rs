//! The interface between convolutions and instruction sets: `isa` implements it, `conv` uses it;
//! neither depends on the other.
//!
//! An instruction set defines its kernel by [`engine::kernel`], out of functions for [`Lanes`] and
//! [`Dot`] (and [`Taps`] or [`woven::Columns`], for depthwise layers), compiles the loops over a band with its features
//! by [`engine::engine`], and describes the layout of weights and input in [`Layout`].
//!
//! # The contract
//!
//! All unsafe functions of this module and of `isa` share these preconditions; their documentation
//! only lists additional ones:
//!
//! 1. The processor has the instruction set.
//! 2. [`Input::source`] plus each of [`Input::pixels`] is the first tap of an output pixel, and all
//!    its taps are readable: rows [`Input::row_bytes`] apart, with a whole step, or 16 channels,
//!    readable after the last.
//! 3. [`Weights::first`] holds the group's weights in the order of [`Layout`], [`Weights::bias`]
//!    and [`Weights::scales`] one value per channel, padded to whole blocks of 16.
//! 4. [`Output::first`] is writable for each pixel, [`Output::stride`] values apart, and not
//!    aliased; the residual, if it is not null, is readable for as many bytes. Neither is touched
//!    beyond [`Weights::channels`].

pub(crate) mod engine;
// NEON's tiles have registers enough.
#[cfg(target_arch = "x86_64")]
pub(crate) mod first;
mod job;
mod tiles;
pub(crate) mod woven;

pub(crate) use job::{Count, Epilogue, Input, Job, Output, Tile, Weights, Woven};
#[cfg(target_arch = "x86_64")]
pub(crate) use tiles::through_memory;
pub(crate) use tiles::{DepthwiseOrder, Dot, Lanes, Shape, Taps, burn, depthwise_tile, parts, tile};

use crate::quant::Byte;

/// What a kernel multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// Bytes of this kind; the other kind has its top bit flipped on the way.
    Byte(Byte),
    /// 16-bit words.
    Word,
}

impl Element {
    /// Size of one in bytes.
    pub(crate) const fn size(self) -> usize {
        match self {
            Element::Byte(_) => 1,
            Element::Word => 2,
        }
    }

    /// What is added to an input's values, and so to its zero point.
    pub(crate) fn offset(self, input: Byte) -> i32 {
        match (self, input) {
            (Element::Byte(Byte::U8), Byte::S8) => 128,
            (Element::Byte(Byte::S8), Byte::U8) => -128,
            _ => 0,
        }
    }
}

/// The functions of one instruction set; their precondition is [the contract](self#the-contract).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernels {
    pub run: unsafe fn(&Job<'_>),
    pub run_depthwise: unsafe fn(&Job<'_>),
    /// Products on registers only; takes the number of steps and returns that of products.
    pub burn: unsafe fn(usize) -> u64,
    pub layout: Layout,
}

/// What distinguishes the vector kernels' memory layouts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// What the dot kernel multiplies; weights are as wide.
    pub element: Element,
    /// Neighbouring elements of a step.
    pub step: usize,
    /// Largest tile in pixels and blocks.
    pub shape: &'static Shape,
    /// If set, pairs of weights are split so that `vpmaddubsw` cannot saturate; the limit, in
    /// percent, on the steps that this adds.
    pub split: Option<usize>,
    /// Whether the rows of a kernel over few channels may lie side by side, which fills steps better.
    pub folds: bool,
    /// The order of a depthwise kernel's weights.
    pub depthwise: DepthwiseOrder,
}
