//! Weights in the order that a vector kernel reads, and the bias with the input's zero point folded in.

use super::band::Element;
use super::tiles::{PairOrder, Shape, parts};
use super::{Conv, Epilogue};
use crate::error::Result;
use crate::scratch::Lines;

/// What distinguishes the vector kernels' memory layouts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// What the dot kernel multiplies; weights are as wide.
    pub element: Element,
    /// Neighbouring elements of a step.
    pub step: usize,
    /// The most pixels and blocks of a tile.
    pub shape: &'static Shape,
    /// How a depthwise kernel wants two taps.
    pub order: PairOrder,
}

/// Packed constants of a layer.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub weights: Lines,
    /// Bytes of one group's weights.
    pub group_bytes: usize,
    /// Filled up to whole blocks, group by group.
    pub bias: Vec<i32>,
    /// As `bias`.
    pub scales: Vec<f32>,
    /// Values of `bias` for a group.
    pub group_values: usize,
}

impl Packed {
    /// Packs for the dot kernels.
    pub(super) fn dot(conv: &Conv, weights: &[i8], epilogue: &Epilogue, layout: &Layout) -> Result<Packed> {
        let (cin, cout) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
        let [kh, kw] = conv.kernel;
        let (blocks, steps) = (cout.div_ceil(16), (kw * cin).div_ceil(layout.step));
        let factors = [blocks, 16, kh, steps, layout.step, layout.element.size()];
        let group_bytes = super::product(&factors, "packed weights of a group")?;
        let bytes = super::product(&[group_bytes, conv.groups], "packed weights")?;
        let mut packed = Lines::new(bytes);
        let mut at = 0;
        for group in 0..conv.groups {
            for part in parts(blocks, layout.shape.most_blocks()) {
                for (ky, step) in (0..kh).flat_map(|ky| (0..steps).map(move |step| (ky, step))) {
                    for co in part.start * 16..part.end * 16 {
                        for k in step * layout.step..(step + 1) * layout.step {
                            if co < cout && k < kw * cin {
                                let (kx, ci) = (k / cin, k % cin);
                                let w = weights[(((group * cout + co) * cin + ci) * kh + ky) * kw + kx];
                                put(packed.bytes_mut(), at, w, layout.element);
                            }
                            at += layout.element.size();
                        }
                    }
                }
            }
        }
        debug_assert_eq!(at, bytes);
        Ok(Packed::with(conv, weights, epilogue, conv.groups, layout.element, packed, group_bytes))
    }

    /// Packs for the depthwise kernels: `[16 channels][two taps]`, words.
    pub(super) fn depthwise(
        conv: &Conv,
        weights: &[i8],
        epilogue: &Epilogue,
        layout: &Layout,
    ) -> Result<Packed> {
        let taps = conv.kernel[0] * conv.kernel[1];
        let blocks = conv.out_channels.div_ceil(16);
        let bytes = super::product(&[blocks, taps.div_ceil(2), 64], "packed weights")?;
        let mut packed = Lines::new(bytes);
        for channel in 0..conv.out_channels {
            for tap in 0..taps {
                let (lane, second) = (channel % 16, tap % 2);
                let word = match layout.order {
                    PairOrder::Apart => second * 16 + lane,
                    PairOrder::Interleaved => lane * 2 + second,
                    PairOrder::Unpacked => {
                        // Quarters 0, 1, 2, 3 lie as 0, 2, 1, 3.
                        let quarter = [0, 2, 1, 3][lane / 4];
                        (quarter * 4 + lane % 4) * 2 + second
                    }
                };
                let at = (channel / 16 * taps.div_ceil(2) + tap / 2) * 64 + word * 2;
                put(packed.bytes_mut(), at, weights[channel * taps + tap], Element::Word);
            }
        }
        Ok(Packed::with(conv, weights, epilogue, 1, Element::Word, packed, bytes))
    }

    fn with(
        conv: &Conv,
        weights: &[i8],
        epilogue: &Epilogue,
        groups: usize,
        element: Element,
        packed: Lines,
        group_bytes: usize,
    ) -> Packed {
        let per_group = conv.out_channels / groups;
        let group_values = per_group.next_multiple_of(16);
        let per_channel = weights.len() / conv.out_channels;
        let zero = conv.input.zero_point + element.offset(conv.input.ty);
        let (mut bias, mut scales) = (vec![0; group_values * groups], vec![0.0; group_values * groups]);
        for (channel, w) in weights.chunks_exact(per_channel).enumerate() {
            let at = channel / per_group * group_values + channel % per_group;
            // Sums are exact modulo 2^32 on the way, and the last one fits: that was checked.
            let sum = w.iter().fold(0i32, |sum, &w| sum.wrapping_add(w as i32));
            bias[at] = epilogue.bias[channel].wrapping_sub(sum.wrapping_mul(zero));
            scales[at] = epilogue.scales[channel];
        }
        Packed { weights: packed, group_bytes, bias, scales, group_values }
    }
}

fn put(bytes: &mut [u8], at: usize, weight: i8, element: Element) {
    match element {
        Element::Byte(_) => bytes[at] = weight as u8,
        Element::Word => bytes[at..at + 2].copy_from_slice(&(weight as i16).to_ne_bytes()),
    }
}
