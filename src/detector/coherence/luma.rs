//! The middle of a frame as luma in levels.

use crate::frame::{Frame, FrameError, Rect};

use super::SIDE;

/// Largest side of the part that is looked at, in pixels. More blocks would tell more, but not faster.
pub const MOST: u32 = 1024;

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
    /// All of an RGB picture.
    pub fn of_rgb(picture: &image::RgbImage) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Self { width, height, levels: crate::frame::luma_of_rgb(picture.as_raw()).collect() }
    }

    /// The middle of a decoded frame, at most [`MOST`] pixels wide and high, cut on the frame's grid of [`SIDE`].
    ///
    /// # Errors
    /// [`FrameError`] when the frame's data are damaged.
    pub fn of(frame: &Frame) -> Result<Self, FrameError> {
        let side = SIDE as u32;
        let part = |all: u32| (all.saturating_sub(MOST) / 2 / side * side, all.min(MOST));
        let ((x, width), (y, height)) = (part(frame.width), part(frame.height));
        let levels = frame.luma(Rect { x, y, width, height })?;
        Ok(Self { width: width as usize, height: height as usize, levels })
    }
}
