//! The input of a depthwise layer that is computed over [woven](crate::kernel::woven) bytes: bands
//! of 16 channels, so small that two of them stay in the first-level cache.

use super::{Conv, Dims};
use crate::isa::weave::{weave, weave_two};
use crate::kernel::Woven;
use crate::kernel::woven::FOUR;

/// Largest size of a band in bytes, unless two output rows need more.
const BAND: usize = 14 << 10;

/// The sizes of the bands of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Output rows in a band.
    pub rows: usize,
    /// Input columns in a band's row.
    columns: usize,
    /// Input columns between output pixels, in the band.
    pub right: usize,
    /// Input rows between output rows, in the band.
    down: usize,
    fours: Fours,
    kernel: [usize; 2],
}

/// How the rows of a layer's kernel lie in fours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fours {
    /// Groups of four that an output row reads.
    pub groups: usize,
    /// 2 if output rows begin in the second row of a four too, else 1.
    pub phases: usize,
    /// Where the last group begins: so many times two rows below the first.
    pub last: usize,
}

impl Fours {
    pub(super) fn of(conv: &Conv) -> Fours {
        let phases = if down(conv).is_multiple_of(2) { 1 } else { 2 };
        let rows = conv.kernel[0] + phases - 1;
        Fours { groups: rows.div_ceil(4), phases, last: rows.saturating_sub(4).div_ceil(2) }
    }

    /// The group of a row, counted from the first of the four where the output row begins, and its
    /// place there.
    pub(super) fn place(&self, row: usize) -> (usize, usize) {
        let group = row / 4;
        (group, row - 2 * (2 * group).min(self.last))
    }
}

/// A kernel of one row or column skips what its stride skips.
fn down(conv: &Conv) -> usize {
    if conv.kernel[0] == 1 { 1 } else { conv.stride[0] }
}

impl Plan {
    pub(super) fn new(conv: &Conv, out: Dims) -> Plan {
        let fours = Fours::of(conv);
        let down = down(conv);
        let right = if conv.kernel[1] == 1 { 1 } else { conv.stride[1] };
        let columns = (out.w - 1) * right + conv.kernel[1];
        let mut plan = Plan { rows: 1, columns, right, down, fours, kernel: conv.kernel };
        let more = (BAND / plan.row_bytes().unwrap_or(usize::MAX)).saturating_sub(plan.fours());
        let most = (2 * more + 1) / down + 1;
        // As equal as possible.
        plan.rows = out.h.div_ceil(out.h.div_ceil(most));
        plan
    }

    /// What a kernel must know of `rows` output rows.
    pub(super) fn woven(&self, rows: usize, channel: usize) -> Woven {
        let last = self.fours.last * self.columns * FOUR;
        Woven { channel, rows, down: self.down, groups: self.fours.groups, last }
    }

    /// Bytes between rows of fours, if that fits in memory.
    pub(super) fn row_bytes(&self) -> Option<usize> {
        self.columns.checked_mul(FOUR)
    }

    /// Rows of fours in a band.
    fn fours(&self) -> usize {
        (self.rows - 1) * self.down / 2 + self.fours.last + 1
    }

    /// Size of a band in bytes; `None` if it does not fit in memory.
    pub(super) fn bytes(&self) -> Option<usize> {
        self.row_bytes()?.checked_mul(self.fours()).filter(|&bytes| bytes <= isize::MAX as usize)
    }
}

/// One band to fill.
pub(super) struct Fill<'a> {
    pub conv: &'a Conv,
    pub plan: Plan,
    /// Bits of the input that are flipped.
    pub flip: u8,
    /// One picture.
    pub input: &'a [u8],
    pub dims: Dims,
    /// The first output row, and how many.
    pub first: usize,
    pub rows: usize,
    /// The first channel of the blocks.
    pub channel: usize,
    /// Bands, one for each of one or two blocks of 16 channels.
    pub bands: &'a mut [u8],
}

/// Fills one or two bands.
///
/// # Safety
/// On x86-64 the processor has AVX2.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2"))]
pub(super) unsafe fn fill(job: &mut Fill<'_>) {
    // SAFETY: passed on.
    unsafe {
        if job.conv.in_channels - job.channel > 16 { fill_blocks::<2>(job) } else { fill_blocks::<1>(job) }
    }
}

/// [`fill`] for `B` blocks.
///
/// # Safety
/// As [`fill`].
#[inline(always)]
unsafe fn fill_blocks<const B: usize>(job: &mut Fill<'_>) {
    let Fill { conv, plan, dims, flip, .. } = *job;
    let plan = Plan { rows: job.rows, ..plan };
    let all = conv.in_channels;
    // The zero point as it is in the input.
    let zero = [conv.input.zero_point as u8; 32];
    let last = (job.rows - 1) * plan.down + plan.kernel[0];
    let skip = if plan.kernel[1] == 1 { conv.stride[1] } else { 1 };
    let step = skip * all;
    // Columns of the band that lie in the picture.
    let left = conv.padding.left.div_ceil(skip).min(plan.columns);
    let inside = (dims.w + conv.padding.left).div_ceil(skip).min(plan.columns).max(left) - left;
    let from_left = (left * skip).saturating_sub(conv.padding.left);
    let row_bytes = plan.columns * FOUR;
    let block_bytes = job.bands.len() / B;
    assert!(block_bytes >= plan.fours() * row_bytes);
    for index in 0..plan.fours() {
        // Where each row begins in the picture, if it lies there.
        let rows: [Option<usize>; 4] = std::array::from_fn(|four| {
            let row = 2 * index + four;
            let from_top = if plan.kernel[0] == 1 {
                (job.first + row) * conv.stride[0]
            } else {
                job.first * conv.stride[0] + row
            };
            let y = from_top.checked_sub(conv.padding.top).filter(|&y| row < last && y < dims.h)?;
            Some((y * dims.w + from_left) * all + job.channel)
        });
        let first = job.bands[index * row_bytes..].as_mut_ptr();
        let to: [*mut u8; B] = std::array::from_fn(|b| first.wrapping_add(b * block_bytes));
        // SAFETY: the bands have so many columns; as many bytes of the picture are read as there
        // are, as `readable` and `part` see to.
        unsafe {
            for column in (0..left).chain(left + inside..plan.columns) {
                put([zero.as_ptr(); 4], to, column, flip);
            }
            // Columns at which all bytes can be read in all rows.
            let readable = rows.iter().flatten().max().map_or(inside, |&at| {
                let room = job.input.len().checked_sub(at + 16 * B);
                room.map_or(0, |room| room / step + 1).min(inside)
            });
            let mut from = rows.map(|at| at.map_or(zero.as_ptr(), |at| job.input.as_ptr().wrapping_add(at)));
            let steps = rows.map(|at| if at.is_some() { step } else { 0 });
            for column in left..left + readable {
                put(from, to, column, flip);
                for (from, step) in from.iter_mut().zip(steps) {
                    *from = from.wrapping_add(step);
                }
            }
            for column in readable..inside {
                let parts = rows.map(|at| {
                    at.map_or(zero, |at| {
                        let bytes = &job.input[at + column * step..];
                        let mut part = [0; 32];
                        let count = bytes.len().min(16 * B);
                        part[..count].copy_from_slice(&bytes[..count]);
                        part
                    })
                });
                put(parts.each_ref().map(|part| part.as_ptr()), to, left + column, flip);
            }
        }
    }
}

/// Weaves one column.
///
/// # Safety
/// As [`weave`] and [`weave_two`].
#[inline(always)]
unsafe fn put<const B: usize>(rows: [*const u8; 4], to: [*mut u8; B], column: usize, flip: u8) {
    // SAFETY: passed on.
    unsafe {
        if B == 2 {
            weave_two(rows, [to[0].add(column * FOUR), to[1 % B].add(column * FOUR)], flip);
        } else {
            weave(rows, to[0].add(column * FOUR), flip);
        }
    }
}
