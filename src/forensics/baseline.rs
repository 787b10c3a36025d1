//! Blur alone: the one-number baseline that all our results are compared with.
//!
//! Many generators' pictures are softer than photographs, so "soft means fake" looks good in a
//! table and flags every soft real feed. A detector that does not beat this number has learned
//! nothing else.

use image::RgbImage;

/// Log10 of the mean squared response of grey values (0..255) to the 3x3 Laplacian; higher is
/// sharper. The score of the baseline is its negative. A picture under 3x3 gives the value of a
/// flat one.
pub fn sharpness(picture: &RgbImage) -> f32 {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let grey: Vec<f32> = picture
        .as_raw()
        .chunks_exact(3)
        .map(|p| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]))
        .collect();
    let mut sum = 0f64;
    let mut n = 0u64;
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            let response = 4.0 * grey[at] - grey[at - 1] - grey[at + 1] - grey[at - width] - grey[at + width];
            sum += f64::from(response * response);
            n += 1;
        }
    }
    // A flat picture has no logarithm: the floor is a hundredth of a grey level.
    ((sum / n.max(1) as f64) + 1e-4).log10() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forensics::augment::gaussian_blur;
    use image::Rgb;

    #[test]
    fn blur_lowers_it() {
        let picture = RgbImage::from_fn(40, 30, |x, y| Rgb([((x * 37 + y * 91) % 256) as u8; 3]));
        let values: Vec<f32> =
            [0.0, 0.7, 1.5, 3.0].iter().map(|s| sharpness(&gaussian_blur(&picture, *s))).collect();
        assert!(values.windows(2).all(|v| v[0] > v[1]), "{values:?}");
        assert_eq!(sharpness(&RgbImage::new(2, 2)), sharpness(&RgbImage::new(9, 9)));
    }
}
