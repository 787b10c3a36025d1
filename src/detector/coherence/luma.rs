//! The centre of a frame as luma levels.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::{self as fir, pixels::F32};

use crate::frame::{Frame, FrameError, Rect};

/// Side of a block in pixels. Decoders upsample by 2, 4, 8 and 16: any trace of that has a period
/// that divides 16.
pub const SIDE: usize = 16;

/// Largest side of the part that is examined, in pixels. More blocks would tell more, but cost more
/// time.
pub(crate) const MOST: u32 = 1024;

/// A plane of luma in levels of 0..255, row by row.
#[derive(Debug, Clone)]
pub struct Luma {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `width * height` levels.
    pub levels: Vec<f32>,
}

impl Luma {
    /// A whole RGB picture.
    pub fn of_rgb(picture: &image::RgbImage) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Self { width, height, levels: crate::frame::luma_of_rgb(picture.as_raw()).collect() }
    }

    /// The part of a frame of this size that is examined: its centre, at most `MOST` pixels wide and
    /// high, aligned with the frame's grid of [`SIDE`].
    pub fn examined((width, height): (u32, u32)) -> Rect {
        let side = SIDE as u32;
        let part = |all: u32| (all.saturating_sub(MOST) / 2 / side * side, all.min(MOST));
        let ((x, width), (y, height)) = (part(width), part(height));
        Rect { x, y, width, height }
    }

    /// The examined part of a decoded frame.
    ///
    /// # Errors
    /// [`FrameError`] when the frame's data are damaged.
    pub fn of(frame: &Frame) -> Result<Self, FrameError> {
        let part = Self::examined((frame.width, frame.height));
        let levels = frame.luma(part)?;
        Ok(Self { width: part.width as usize, height: part.height as usize, levels })
    }

    /// The plane as it was before it was scaled by `scale`: 1.5 shrinks it by that factor. If the
    /// result would be larger than `MOST`, its upper left part is taken.
    pub fn scaled_back(&self, scale: f64) -> Self {
        let back = |n: usize| ((n as f64 / scale).round() as u32).clamp(1, MOST);
        let (width, height) = (back(self.width), back(self.height));
        // The same factor along both axes and for all sizes, or the grid would be missed.
        let part = |n: u32, all: usize| (f64::from(n) * scale).min(all as f64);
        let mut levels = vec![0.0f32; width as usize * height as usize];
        let (from, to) = (bytemuck::cast_slice(&self.levels), bytemuck::cast_slice_mut(&mut levels));
        let source = TypedImageRef::<F32>::from_buffer(self.width as u32, self.height as u32, from)
            .expect("a plane's levels fit its size");
        let mut target =
            TypedImage::<F32>::from_buffer(width, height, to).expect("as many levels as it needs");
        let filter = if scale > 1.0 { fir::FilterType::Bilinear } else { fir::FilterType::CatmullRom };
        let how = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(filter)).crop(
            0.0,
            0.0,
            part(width, self.width),
            part(height, self.height),
        );
        fir::Resizer::new().resize_typed(&source, &mut target, &how).expect("a part of the plane");
        Self { width: width as usize, height: height as usize, levels }
    }
}
