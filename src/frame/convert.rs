//! From a camera's pixel layout to RGB, for a rectangle alone.

use image::RgbImage;

use super::{Frame, FrameError, Rect};

/// Decodes one JPEG image.
pub(super) fn decode_jpeg(bytes: &[u8]) -> Result<RgbImage, FrameError> {
    image::load_from_memory_with_format(bytes, image::ImageFormat::Jpeg)
        .map(|i| i.to_rgb8())
        .map_err(|e| FrameError::Jpeg(e.to_string()))
}

/// Cuts `rect`, which lies inside the frame.
pub(super) fn crop(frame: &Frame, rect: Rect) -> Result<RgbImage, FrameError> {
    let plane = frame.planes[0];
    let mut out = RgbImage::new(rect.width, rect.height);
    let bytes = frame.bytes();
    for (y, row) in out.chunks_exact_mut(rect.width as usize * 3).enumerate() {
        let at = plane.offset + (rect.y as usize + y) * plane.stride + rect.x as usize * 3;
        row.copy_from_slice(&bytes[at..at + rect.width as usize * 3]);
    }
    Ok(out)
}
