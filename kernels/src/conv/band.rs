//! The input of a vector kernel: a band of input rows including padding, in the kernel's element
//! type.
//!
//! Copying costs about a hundredth of the MACs and frees the kernels from handling borders. A band
//! has as many output rows as fit well into the second-level cache.

use super::{Conv, Dims};
use crate::isa::multiversion;
use crate::kernel::Element;
use crate::quant::Byte;

/// Largest size of a band in bytes, unless a single output row needs more.
const BAND: usize = 128 << 10;

/// Most output pixels of a band, unless a single row has more: each is a cache line that the stores
/// of a block of channels touch, and the next block's stores should find it in the first-level
/// cache. A multiple of the tiles' 6, 7 and 12 pixels.
const PIXELS: usize = 252;

/// Slack after a band: a step, or 16 channels of words, may be read past the last element.
pub(super) const SLACK: usize = 64;

/// The sizes of the bands of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Output rows in a band.
    pub rows: usize,
    /// Input columns in a band's row.
    pub columns: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Input rows between output rows, in the band.
    down: usize,
    /// Input columns between output pixels, in the band.
    right: usize,
    /// Size of an element in bytes.
    size: usize,
    kernel: [usize; 2],
}

impl Plan {
    /// `channels` are those of one group, or all for a depthwise kernel.
    pub(super) fn new(conv: &Conv, out: Dims, channels: usize, element: Element) -> Plan {
        let [kh, kw] = conv.kernel;
        // A kernel of one row or column skips what its stride skips.
        let down = if kh == 1 { 1 } else { conv.stride[0] };
        let right = if kw == 1 { 1 } else { conv.stride[1] };
        let columns = (out.w - 1) * right + kw;
        let size = element.size();
        let row = columns.saturating_mul(channels).saturating_mul(size).max(1);
        let rows = (BAND / row).saturating_sub(kh) / down + 1;
        // A depthwise kernel processes all channels at once, and rows shared by two bands cost it
        // more.
        let rows = if conv.is_depthwise() { rows } else { rows.min(PIXELS / out.w) }.clamp(1, out.h);
        Plan { rows, columns, channels, down, right, size, kernel: conv.kernel }
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.columns * self.channels * self.size
    }

    /// Input columns between output pixels, in the band.
    pub(super) fn right(&self) -> usize {
        self.right
    }

    /// Offset of the first tap of an output pixel of the band, in bytes.
    pub(super) fn offset(&self, y: usize, x: usize) -> usize {
        y * self.down * self.row_bytes() + x * self.right * self.channels * self.size
    }

    /// Size of a band in bytes; `None` if it does not fit in memory.
    pub(super) fn bytes(&self) -> Option<usize> {
        let rows = (self.rows - 1).checked_mul(self.down)?.checked_add(self.kernel[0])?;
        let row = self.columns.checked_mul(self.channels)?.checked_mul(self.size)?;
        rows.checked_mul(row)?.checked_add(SLACK).filter(|&bytes| bytes <= isize::MAX as usize)
    }
}

/// One band to fill.
pub(super) struct Fill<'a> {
    pub conv: &'a Conv,
    pub plan: Plan,
    pub element: Element,
    /// One picture.
    pub input: &'a [u8],
    pub dims: Dims,
    /// The first output row, and how many.
    pub first: usize,
    pub rows: usize,
    /// The first channel to copy.
    pub channel: usize,
    pub band: &'a mut [u8],
}

multiversion! {
    /// Fills a band.
    pub(super) fn fill(job: &mut Fill<'_>) = fill_body;
}

#[inline(always)]
fn fill_body(job: &mut Fill<'_>) {
    let zero = job.conv.input.zero_point + job.element.offset(job.conv.input.ty);
    match (job.element, job.conv.input.ty) {
        (Element::Byte(to), from) if to == from => fill_with(job, zero as u8, |bits| bits),
        (Element::Byte(_), _) => fill_with(job, zero as u8, |bits| bits ^ 0x80),
        (Element::Word, Byte::U8) => fill_with(job, zero as i16, |bits| bits as i16),
        (Element::Word, Byte::S8) => fill_with(job, zero as i16, |bits| bits as i8 as i16),
    }
}

#[inline(always)]
fn fill_with<T: Copy>(job: &mut Fill<'_>, zero: T, map: impl Fn(u8) -> T) {
    let Fill { conv, plan, dims, .. } = *job;
    let (all, channels) = (conv.in_channels, plan.channels);
    let row_len = plan.columns * channels;
    let rows = (job.rows - 1) * plan.down + plan.kernel[0];
    assert!(job.band.len() >= rows * row_len * size_of::<T>());
    assert!(job.band.as_ptr().cast::<T>().is_aligned());
    // SAFETY: large enough and aligned, as asserted; bytes and words have no invalid values.
    let band = unsafe { std::slice::from_raw_parts_mut(job.band.as_mut_ptr().cast::<T>(), rows * row_len) };
    let copy = |to: &mut [T], from: &[u8]| {
        for (to, &bits) in to.iter_mut().zip(from) {
            *to = map(bits);
        }
    };
    for (index, row) in band.chunks_exact_mut(row_len).enumerate() {
        let from_top = if plan.kernel[0] == 1 {
            (job.first + index) * conv.stride[0]
        } else {
            job.first * conv.stride[0] + index
        };
        let Some(y) = from_top.checked_sub(conv.padding.top).filter(|&y| y < dims.h) else {
            row.fill(zero);
            continue;
        };
        let source = &job.input[y * dims.w * all..(y + 1) * dims.w * all];
        if plan.kernel[1] == 1 && conv.stride[1] > 1 {
            for (column, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let from_left = column * conv.stride[1];
                match from_left.checked_sub(conv.padding.left).filter(|&x| x < dims.w) {
                    Some(x) => copy(pixel, &source[x * all + job.channel..][..channels]),
                    None => pixel.fill(zero),
                }
            }
            continue;
        }
        let left = conv.padding.left.min(plan.columns);
        let inside = dims.w.min(plan.columns - left);
        let (before, rest) = row.split_at_mut(left * channels);
        let (middle, after) = rest.split_at_mut(inside * channels);
        before.fill(zero);
        after.fill(zero);
        if channels == all {
            copy(middle, source);
        } else {
            for (x, pixel) in middle.chunks_exact_mut(channels).enumerate() {
                copy(pixel, &source[x * all + job.channel..][..channels]);
            }
        }
    }
}

/// Whether the kernel can read the input in place: one tap, stride 1, no padding, whole steps of
/// the kernel's own byte type.
pub(super) fn is_direct(conv: &Conv, element: Element, step: usize) -> bool {
    conv.kernel == [1, 1]
        && conv.stride == [1, 1]
        && conv.padding == super::Padding::default()
        && conv.groups == 1
        && element == Element::Byte(conv.input.ty)
        && conv.in_channels.is_multiple_of(step)
}

/// Pixels that a direct kernel processes at once, so that they stay in cache while all weights are
/// used.
pub(super) fn direct_pixels(channels: usize) -> usize {
    (BAND / channels).clamp(32, PIXELS)
}
