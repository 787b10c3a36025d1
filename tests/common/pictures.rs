//! Pictures for the brightness detector.

/// A picture around a brightness, with enough texture not to be flat.
pub fn textured(brightness: u8, width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        let v = brightness.saturating_sub(10).saturating_add(((x * 31 + y * 17) % 21) as u8);
        image::Rgb([v; 3])
    })
}
