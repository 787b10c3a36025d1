//! Luma of a rectangle: all of it, or how much it varies.

use super::convert::{self, Yuv};
use super::{Frame, FrameError, PixelFormat, Rect, jpeg};

/// Luma of packed RGB pixels, in levels of 0..255, by the weights of ITU-R BT.601.
pub fn luma_of_rgb(rgb: &[u8]) -> impl Iterator<Item = f32> + '_ {
    rgb.chunks_exact(3)
        .map(|px| 0.299 * f32::from(px[0]) + 0.587 * f32::from(px[1]) + 0.114 * f32::from(px[2]))
}

/// Bytes of a pixel in the first plane, and the first of them that is luma; `None` where luma has to be computed.
fn native(format: PixelFormat) -> Option<(usize, usize)> {
    match format {
        PixelFormat::Nv12 | PixelFormat::I420 | PixelFormat::Grey => Some((1, 0)),
        PixelFormat::Yuyv => Some((2, 0)),
        PixelFormat::Uyvy => Some((2, 1)),
        PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Mjpg => None,
    }
}

/// Luma of `rect`, which is not empty and lies inside the frame.
pub(super) fn levels(frame: &Frame, rect: Rect) -> Result<Vec<f32>, FrameError> {
    let (x0, width) = (rect.x as usize, rect.width as usize);
    let Some((size, first)) = native(frame.format) else {
        return Ok(luma_of_rgb(frame.crop(rect)?.as_raw()).collect());
    };
    convert::check(frame)?;
    let (black, gain) = if frame.colour.full_range { (0.0, 1.0) } else { (16.0, 255.0 / 219.0) };
    let plane = frame.planes[0];
    let mut out = Vec::with_capacity(width * rect.height as usize);
    for y in rect.y..rect.y + rect.height {
        let row = &frame.bytes()[plane.offset + y as usize * plane.stride..];
        let levels = |level: &u8| (f32::from(*level) - black) * gain;
        match size {
            // Pixels that lie side by side are read several at once.
            1 => out.extend(row[x0..x0 + width].iter().map(levels)),
            _ => out.extend(row[first..].iter().step_by(size).skip(x0).take(width).map(levels)),
        }
    }
    Ok(out)
}

/// Of this many pixels in a row, and of this many rows, one is looked at to see how much luma varies: neighbours are
/// alike.
const APART: usize = 3;

/// Standard deviation of luma in `rect`, which is not empty and lies inside the frame: see [`Frame::luma_deviation`].
pub(super) fn deviation(frame: &Frame, rect: Rect) -> Result<f64, FrameError> {
    if frame.format == PixelFormat::Mjpg {
        let decoded = Frame::still(frame.source.clone(), jpeg::decode(frame.bytes())?);
        decoded.inside(rect)?;
        return deviation(&decoded, rect);
    }
    // RGB has no luma of its own: all three bytes count.
    let (size, first) = native(frame.format).unwrap_or((3, 0));
    convert::check(frame)?;
    let plane = frame.planes[0];
    let rows = (rect.y..rect.y + rect.height).step_by(APART).map(|y| {
        let row = &frame.bytes()[plane.offset + y as usize * plane.stride..];
        &row[rect.x as usize * size + first..(rect.x + rect.width) as usize * size]
    });
    let mut sums = Sums::default();
    if size == 3 {
        // In 1/256, by the weights of ITU-R BT.601.
        let weights = if frame.format == PixelFormat::Rgb24 { [77, 150, 29] } else { [29, 150, 77] };
        let level =
            |px: &[u8]| px.iter().zip(weights).map(|(&c, weight)| u32::from(c) * weight).sum::<u32>() / 256;
        rows.for_each(|row| sums.add(row.chunks(3 * APART).map(|px| level(&px[..3]))));
    } else {
        // What a level is in RGB, without colour and within what RGB can hold.
        let yuv = Yuv::new(frame.colour);
        let levels: [u32; 256] = std::array::from_fn(|level| yuv.grey(level as u8).into());
        rows.for_each(|row| {
            sums.add(row.iter().step_by(size * APART).map(|&level| levels[usize::from(level)]))
        });
    }
    Ok(sums.deviation())
}

/// Levels of luma, summed up.
#[derive(Default)]
struct Sums {
    count: u64,
    sum: u64,
    squares: u64,
}

impl Sums {
    fn add(&mut self, row: impl Iterator<Item = u32>) {
        for level in row {
            self.count += 1;
            self.sum += u64::from(level);
            self.squares += u64::from(level * level);
        }
    }

    fn deviation(&self) -> f64 {
        let n = self.count as f64;
        let mean = self.sum as f64 / n;
        (self.squares as f64 / n - mean * mean).max(0.0).sqrt()
    }
}
