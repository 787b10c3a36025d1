//! What an instruction set implements, and what a convolution hands to it. `isa` implements it, `conv` uses it; neither
//! knows the other through it.
//!
//! An instruction set defines its kernel by [`engine::kernel`], out of functions for [`Lanes`] and [`Dot`] (and [`Taps`], for
//! depthwise layers), compiles the loops over a band with its features by [`engine::engine`], and says in [`Layout`] how it
//! wants weights and input to lie.
//!
//! # The contract
//!
//! All functions of this room and of `isa` that are unsafe ask for the same, and their texts say only what they add:
//!
//! 1. The processor has the instruction set.
//! 2. [`Input::source`] plus each of [`Input::pixels`] is the first tap of an output pixel, and all its taps are readable: rows
//!    [`Input::row_bytes`] apart, with a whole step, or 16 channels, readable behind the last.
//! 3. [`Weights::first`] holds the group's weights as [`Layout`] wants them, [`Weights::bias`] and [`Weights::scales`] a value
//!    for each channel, filled up to whole blocks of 16.
//! 4. [`Output::first`] is writable for each pixel, [`Output::stride`] values apart, and nobody else holds it; the residual, where
//!    it is not null, is readable for as many bytes. Neither is touched behind [`Weights::channels`].

pub(crate) mod engine;
mod job;
mod tiles;

pub(crate) use job::{Count, Epilogue, Input, Job, Output, Tile, Weights};
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
    /// Bytes of one.
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

/// The functions of one instruction set; they ask for what [the contract](self#the-contract) says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernels {
    pub run: unsafe fn(&Job<'_>),
    pub run_depthwise: unsafe fn(&Job<'_>),
    /// Products on registers alone; the argument is the number of steps, the answer that of products.
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
    /// The most pixels and blocks of a tile.
    pub shape: &'static Shape,
    /// Pairs of weights are split so that `vpmaddubsw` cannot saturate; the most percent of steps that this may
    /// add.
    pub split: Option<usize>,
    /// How a depthwise kernel wants its weights.
    pub depthwise: DepthwiseOrder,
}
