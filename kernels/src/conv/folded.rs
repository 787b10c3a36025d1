//! Layers over pixels. A row of a 3x3 kernel over three channels has 9 bytes, which steps of four
//! fill badly: 9 steps. With the kernel's rows side by side in each column of the band, as if they
//! were channels of a kernel of one row, its 27 bytes take 7.

use super::band::Fill;
use super::{Conv, Padding};
use crate::kernel::{Element, Layout};

/// The same layer with the rows of its kernel as channels, and its weights, if that saves steps
/// enough to pay for the band.
pub(super) fn fold(conv: &Conv, weights: &[i8], layout: &Layout) -> Option<(Conv, Vec<i8>)> {
    let ([kh, kw], cin) = (conv.kernel, conv.in_channels);
    let few = cin <= 4 && kh <= 4 && (2..=4).contains(&kw) && conv.groups == 1;
    let bytes = matches!(layout.element, Element::Byte(_));
    if !(few && layout.folds && bytes) {
        return None;
    }
    let (apart, folded) = (kh * (kw * cin).div_ceil(layout.step), (kh * kw * cin).div_ceil(layout.step));
    if folded * 100 > apart * 85 {
        return None;
    }
    let order = weights.chunks_exact(cin * kh * kw).flat_map(|filter| {
        let at = move |i: usize| {
            let (ky, ci, kx) = (i / kw / cin, i / kw % cin, i % kw);
            filter[(ci * kh + ky) * kw + kx]
        };
        (0..kh * cin * kw).map(at)
    });
    let folded = Conv {
        in_channels: kh * cin,
        kernel: [1, kw],
        stride: [1, conv.stride[1]],
        padding: Padding { top: 0, bottom: 0, ..conv.padding },
        ..conv.clone()
    };
    Some((folded, order.collect()))
}

/// Fills the band of a layer that was folded; the job has the layer as it was, and the plan of the
/// folded one.
///
/// # Safety
/// On x86-64 the processor has AVX2.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2"))]
pub(super) unsafe fn fill(job: &mut Fill<'_>) {
    let Fill { conv, plan, dims, .. } = *job;
    let (cin, kh) = (conv.in_channels, conv.kernel[0]);
    let flip = if job.element == Element::Byte(conv.input.ty) { 0 } else { 0x80 };
    let zero = conv.input.zero_point as u8 ^ flip;
    let left = conv.padding.left.min(plan.columns);
    let inside = dims.w.min(plan.columns - left);
    let column = kh * cin;
    for (index, row) in job.band.chunks_exact_mut(plan.columns * column).take(job.rows).enumerate() {
        let (before, rest) = row.split_at_mut(left * column);
        let (middle, after) = rest.split_at_mut(inside * column);
        before.fill(zero);
        after.fill(zero);
        // The kernel's rows, those that lie in the picture.
        let rows = |ky: usize| {
            let y = ((job.first + index) * conv.stride[0] + ky).checked_sub(conv.padding.top);
            y.filter(|&y| y < dims.h).map(|y| &job.input[y * dims.w * cin..][..inside * cin])
        };
        let mut done = 0;
        if (kh, cin) == (3, 3) {
            // The zero point as it is in the input.
            let row = |ky| rows(ky).ok_or(conv.input.zero_point as u8);
            done = fold_pixels([row(0), row(1), row(2)], middle, flip);
        }
        for ky in 0..kh {
            let to = middle[done * column..].chunks_exact_mut(column).map(|to| &mut to[ky * cin..][..cin]);
            match rows(ky) {
                Some(source) => {
                    for (to, from) in to.zip(source[done * cin..].chunks_exact(cin)) {
                        for (to, from) in to.iter_mut().zip(from) {
                            *to = from ^ flip;
                        }
                    }
                }
                None => to.for_each(|to| to.fill(zero)),
            }
        }
    }
}

/// Places three rows of pixels of three channels, or what stands for a row, side by side, as many
/// columns as can be done at once; returns how many those are.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fold_pixels(rows: [Result<&[u8], u8>; 3], to: &mut [u8], flip: u8) -> usize {
    use std::arch::x86_64::*;

    /// Columns at once: 15 bytes of a row, 45 of the band.
    const COLUMNS: usize = 5;
    /// For each 16 bytes of the band and each row, where they are in the row.
    static PLACES: [[[u8; 16]; 3]; 3] = {
        let mut places = [[[0x80; 16]; 3]; 3];
        let mut at = 0;
        while at < 9 * COLUMNS {
            places[at / 16][at % 9 / 3][at % 16] = (at / 9 * 3 + at % 3) as u8;
            at += 1;
        }
        places
    };
    let same = rows.map(|row| [row.err().unwrap_or(0); 16]);
    let length = rows.iter().filter_map(|row| row.ok()).map(<[u8]>::len).min().unwrap_or(0);
    let mut done = 0;
    // SAFETY: 16 bytes of each row, if it is one, and 48 of the band, whose last three are written
    // again.
    unsafe {
        let places = PLACES.map(|rows| rows.map(|row| _mm_loadu_si128(row.as_ptr().cast())));
        let flip = _mm_set1_epi8(flip as i8);
        while done * 3 + 16 <= length && done * 9 + 48 <= to.len() {
            let x: [__m128i; 3] = std::array::from_fn(|ky| {
                let from = rows[ky].map_or(same[ky].as_ptr(), |row| row.as_ptr().add(done * 3));
                _mm_loadu_si128(from.cast())
            });
            for (at, place) in places.iter().enumerate() {
                let [a, b, c] = std::array::from_fn(|ky| _mm_shuffle_epi8(x[ky], place[ky]));
                let bytes = _mm_xor_si128(_mm_or_si128(_mm_or_si128(a, b), c), flip);
                _mm_storeu_si128(to.as_mut_ptr().add(done * 9 + 16 * at).cast(), bytes);
            }
            done += COLUMNS;
        }
    }
    done
}

/// As on x86-64.
#[cfg(not(target_arch = "x86_64"))]
fn fold_pixels(_: [Result<&[u8], u8>; 3], _: &mut [u8], _: u8) -> usize {
    0
}
