//! Packs weights in the order that a vector kernel reads, and folds the input's zero point into the
//! bias.

use super::{Conv, Epilogue, woven};
use crate::error::{Error, Result};
use crate::kernel::{Count, DepthwiseOrder, Element, Layout, parts};
use crate::scratch::Lines;

/// Packed constants of a layer.
#[derive(Debug, Clone, Default)]
pub(super) struct Packed {
    pub weights: Lines,
    /// Offset of each step of a kernel row, in bytes; for each part of the blocks, for each row.
    pub steps: Vec<u32>,
    /// Number of steps, for each part of the blocks, for each row.
    pub counts: Vec<Count>,
    /// Where each group begins in these three.
    pub groups: Vec<Start>,
    /// Padded to whole blocks, group by group.
    pub bias: Vec<i32>,
    /// As `bias`.
    pub scales: Vec<f32>,
    /// Values of `bias` per group.
    pub group_values: usize,
}

/// The beginning of a group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Start {
    pub weights: usize,
    pub steps: usize,
    pub counts: usize,
}

impl Packed {
    /// Packs for the dot kernels; `None` if splitting would cost more than the layout allows.
    pub(super) fn dot(
        conv: &Conv,
        weights: &[i8],
        epilogue: &Epilogue,
        layout: &Layout,
    ) -> Result<Option<Packed>> {
        let (cin, cout) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
        let [kh, kw] = conv.kernel;
        let (blocks, plain) = (cout.div_ceil(16), (kw * cin).div_ceil(layout.step));
        let size = layout.element.size();
        // Splitting at most doubles the steps; their offsets have 32 bits.
        let factors = [blocks, 16, kh, plain, layout.step, size, conv.groups, 2];
        super::product(&factors, "packed weights")?;
        if plain * layout.step * size > u32::MAX as usize {
            let reason = "a row of the kernel must be below 2^32 bytes";
            return Err(Error::Shape { what: "kernel width * channels", value: kw * cin, reason });
        }
        let (mut bytes, mut steps, mut counts, mut groups) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // For one row of the kernel: each step's offset and weights.
        let mut row: Vec<(u32, Vec<i8>)> = Vec::new();
        for group in 0..conv.groups {
            groups.push(Start { weights: bytes.len(), steps: steps.len(), counts: counts.len() });
            for part in parts(blocks, layout.shape.most_blocks()) {
                for ky in 0..kh {
                    row.clear();
                    for step in 0..plain {
                        let mut block = Vec::with_capacity(part.len() * 16 * layout.step);
                        for co in part.start * 16..part.end * 16 {
                            for k in step * layout.step..(step + 1) * layout.step {
                                let (kx, ci) = (k / cin, k % cin);
                                let inside = co < cout && kx < kw;
                                let at = || (((group * cout + co) * cin + ci) * kh + ky) * kw + kx;
                                block.push(if inside { weights[at()] } else { 0 });
                            }
                        }
                        let at = (step * layout.step * size) as u32;
                        let excess = layout.split.and_then(|_| split(&mut block));
                        row.push((at, block));
                        row.extend(excess.map(|excess| (at, excess)));
                    }
                    let pairs = if layout.split.is_some() { join(&mut row) } else { 0 };
                    for (at, block) in &row {
                        steps.push(*at);
                        put(&mut bytes, block, layout.element);
                    }
                    counts.push(Count { pairs: pairs as u32, singles: (row.len() - 2 * pairs) as u32 });
                }
            }
        }
        if let Some(percent) = layout.split {
            // Multiplications: two per step, three per pair.
            let cost: usize = counts.iter().map(|c| 2 * c.singles as usize + 3 * c.pairs as usize).sum();
            if cost * 100 > 2 * plain * counts.len() * (100 + percent) {
                return Ok(None);
            }
        }
        let mut packed = Packed::with(conv, weights, epilogue, conv.groups, layout.element);
        packed.weights = Lines::of(&bytes);
        (packed.steps, packed.counts, packed.groups) = (steps, counts, groups);
        Ok(Some(packed))
    }

    /// Packs for the depthwise kernels, in the layout's order; `None` if products might saturate.
    pub(super) fn depthwise(
        conv: &Conv,
        weights: &[i8],
        epilogue: &Epilogue,
        layout: &Layout,
    ) -> Result<Option<Packed>> {
        let [kh, kw] = conv.kernel;
        let element = layout.depthwise.element();
        // Of 16 channels.
        let lines = match layout.depthwise {
            DepthwiseOrder::Columns => kw * kh.div_ceil(4),
            DepthwiseOrder::Woven(_) => {
                let fours = woven::Fours::of(conv);
                super::product(&[kw, fours.groups, fours.phases], "packed weights")?
            }
            _ => (kh * kw).div_ceil(2),
        };
        let blocks = conv.out_channels.div_ceil(16);
        let mut packed = Packed::with(conv, weights, epilogue, 1, element);
        packed.weights = Lines::new(super::product(&[blocks, lines, 64], "packed weights")?);
        let bytes = packed.weights.bytes_mut();
        if matches!(layout.depthwise, DepthwiseOrder::Woven(_)) {
            weave(conv, weights, bytes, lines);
            let saturates = |pair: &[u8]| (pair[0] as i8 as i32 + pair[1] as i8 as i32).abs() > 128;
            if layout.split.is_some() && bytes.chunks_exact(2).any(saturates) {
                return Ok(None);
            }
            packed.groups = vec![Start::default()];
            return Ok(Some(packed));
        }
        for (channel, filter) in weights.chunks_exact(kh * kw).enumerate() {
            let lane = channel % 16;
            for (tap, &weight) in filter.iter().enumerate() {
                let (line, value) = match layout.depthwise {
                    DepthwiseOrder::Columns => {
                        let (y, x) = (tap / kw, tap % kw);
                        (x * kh.div_ceil(4) + y / 4, lane * 4 + y % 4)
                    }
                    DepthwiseOrder::Woven(_) => unreachable!("woven above"),
                    DepthwiseOrder::Apart => (tap / 2, tap % 2 * 16 + lane),
                    DepthwiseOrder::Unpacked => {
                        // Quarters 0, 1, 2, 3 lie as 0, 2, 1, 3.
                        let quarter = [0, 2, 1, 3][lane / 4];
                        (tap / 2, (quarter * 4 + lane % 4) * 2 + tap % 2)
                    }
                };
                let at = (channel / 16 * lines + line) * 64 + value * element.size();
                match element {
                    Element::Byte(_) => bytes[at] = weight as u8,
                    Element::Word => bytes[at..at + 2].copy_from_slice(&i16::from(weight).to_ne_bytes()),
                }
            }
        }
        packed.groups = vec![Start::default()];
        Ok(Some(packed))
    }

    fn with(conv: &Conv, weights: &[i8], epilogue: &Epilogue, groups: usize, element: Element) -> Packed {
        let per_group = conv.out_channels / groups;
        let group_values = per_group.next_multiple_of(16);
        let per_channel = weights.len() / conv.out_channels;
        let zero = conv.input.zero_point + element.offset(conv.input.ty);
        let (mut bias, mut scales) = (vec![0; group_values * groups], vec![0.0; group_values * groups]);
        for (channel, w) in weights.chunks_exact(per_channel).enumerate() {
            let at = channel / per_group * group_values + channel % per_group;
            // Intermediate sums are exact modulo 2^32, and the final one fits: that was checked.
            let sum = w.iter().fold(0i32, |sum, &w| sum.wrapping_add(w as i32));
            bias[at] = epilogue.bias[channel].wrapping_sub(sum.wrapping_mul(zero));
            scales[at] = epilogue.scales[channel];
        }
        Packed { bias, scales, group_values, ..Packed::default() }
    }
}

/// Weights of a depthwise layer over woven input, `lines` of 64 bytes for 16 channels.
fn weave(conv: &Conv, weights: &[i8], bytes: &mut [u8], lines: usize) {
    let [kh, kw] = conv.kernel;
    let fours = woven::Fours::of(conv);
    for (channel, filter) in weights.chunks_exact(kh * kw).enumerate() {
        for phase in 0..fours.phases {
            for (tap, &weight) in filter.iter().enumerate() {
                let (row, x) = (tap / kw + phase, tap % kw);
                let (group, place) = fours.place(row);
                let line = channel / 16 * lines + (phase * kw + x) * fours.groups + group;
                bytes[line * 64 + channel % 16 * 4 + place] = weight as u8;
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, weights: &[i8], element: Element) {
    for &w in weights {
        match element {
            Element::Byte(_) => bytes.push(w as u8),
            Element::Word => bytes.extend((w as i16).to_ne_bytes()),
        }
    }
}

/// `vpmaddubsw` adds two products of an unsigned byte and a weight in 16 bits and saturates. It
/// cannot saturate where the weights of a pair add up to at most 128 either way, since 255 * 128 <
/// 2^15. Moves the excess of larger pairs out of the block, into a step of its own.
fn split(block: &mut [i8]) -> Option<Vec<i8>> {
    let mut excess = vec![0; block.len()];
    let mut any = false;
    for (pair, rest) in block.chunks_exact_mut(2).zip(excess.chunks_exact_mut(2)) {
        let (a, b) = (pair[0] as i32, pair[1] as i32);
        let more = if a > 0 && b > 0 {
            (a + b - 128).max(0)
        } else if a < 0 && b < 0 {
            (a + b + 128).min(0)
        } else {
            0
        };
        if more != 0 {
            // |b| <= 128, so |more| <= |a|: both parts are bytes.
            pair[0] = (a - more) as i8;
            rest[0] = more as i8;
            any = true;
        }
    }
    any.then_some(excess)
}

/// How far from a step to search for another to join it with, which bounds the time of packing.
const REACH: usize = 32;

/// Moves steps whose products may be added in 16 bits to the front, in pairs; returns the number of
/// pairs.
fn join(row: &mut Vec<(u32, Vec<i8>)>) -> usize {
    let mut order = Vec::with_capacity(row.len());
    let mut rest = Vec::new();
    let mut left: Vec<_> = std::mem::take(row).into_iter().map(Some).collect();
    for at in 0..left.len() {
        let Some(step) = left[at].take() else { continue };
        let reach = left.len().min(at + REACH);
        let other =
            (at + 1..reach).find(|&i| left[i].as_ref().is_some_and(|other| fits_16_bits(&step.1, &other.1)));
        match other.and_then(|i| left[i].take()) {
            Some(other) => order.extend([step, other]),
            None => rest.push(step),
        }
    }
    let pairs = order.len() / 2;
    order.append(&mut rest);
    *row = order;
    pairs
}

/// Whether four products of a pair of weights of each step fit into 16 bits: as in [`split`],
/// neither the positive nor the negative ones may add up to more than 128.
fn fits_16_bits(a: &[i8], b: &[i8]) -> bool {
    a.chunks_exact(2).zip(b.chunks_exact(2)).all(|(a, b)| {
        let (mut above, mut below) = (0, 0);
        for &w in a.iter().chain(b) {
            above += i32::from(w.max(0));
            below += i32::from(w.min(0));
        }
        above <= 128 && below >= -128
    })
}
