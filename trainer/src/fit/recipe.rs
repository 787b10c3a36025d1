//! What happens to a picture before the network sees it: the paper's order, resize, blur, JPEG, crop, flip.

use anyhow::{Result, anyhow};
use fast_image_resize::{self as fir, pixels::U8x3};
use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};
use spotd::forensics::{
    augment::{JpegCodec, gaussian_blur, jpeg},
    rng::Rng,
};

/// The paper's augmentations, by the names of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// None.
    None,
    /// Blur with probability 0.5.
    Blur,
    /// JPEG with probability 0.5.
    Jpeg,
    /// Blur and JPEG, each with probability 0.5, independently.
    #[value(name = "0.5")]
    Half,
    /// Blur and JPEG, each with probability 0.1, independently.
    #[value(name = "0.1")]
    Tenth,
}

impl Augment {
    /// Every one, in the order of the paper's table.
    pub const ALL: [Augment; 5] =
        [Augment::None, Augment::Blur, Augment::Jpeg, Augment::Half, Augment::Tenth];

    /// As the paper's table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Augment::None => "no augmentation",
            Augment::Blur => "blur (0.5)",
            Augment::Jpeg => "JPEG (0.5)",
            Augment::Half => "blur + JPEG (0.5)",
            Augment::Tenth => "blur + JPEG (0.1)",
        }
    }

    /// Probabilities of blur and of JPEG.
    pub fn probabilities(self) -> (f32, f32) {
        match self {
            Augment::None => (0.0, 0.0),
            Augment::Blur => (0.5, 0.0),
            Augment::Jpeg => (0.0, 0.5),
            Augment::Half => (0.5, 0.5),
            Augment::Tenth => (0.1, 0.1),
        }
    }
}

/// The two encoders: the one of `image` (chroma at full resolution) and `jpeg-encoder` with chroma halved both
/// ways, in the place of the paper's Pillow and OpenCV.
const ENCODERS: [JpegCodec; 2] = [JpegCodec::Image, JpegCodec::Quartered];

/// Sizes and augmentation of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Blur and JPEG.
    pub augment: Augment,
    /// Shorter side before the crop; `None` crops at the picture's own size where it is large enough.
    pub resize: Option<u32>,
    /// Side of the crop.
    pub crop: u32,
}

impl Recipe {
    /// A training crop: everything drawn from `rng`, always in the same number of draws.
    pub fn training(&self, picture: &RgbImage, rng: &mut Rng) -> Result<RgbImage> {
        let (blur, compress) = self.augment.probabilities();
        let (sigma, quality, encoder) = (rng.range(0.0, 3.0), 30 + rng.below(71) as u8, *rng.pick(&ENCODERS));
        let sigma = rng.chance(blur).then_some(sigma);
        let quality = rng.chance(compress).then_some((encoder, quality));
        let (u, v, flip) = (rng.unit(), rng.unit(), rng.chance(0.5));
        let picture = self.degraded(picture, sigma, quality)?;
        let at = |side: u32, part: f32| (((side - self.crop + 1) as f32 * part) as u32).min(side - self.crop);
        let (x, y) = (at(picture.width(), u), at(picture.height(), v));
        let mut crop = imageops::crop_imm(&picture, x, y, self.crop, self.crop).to_image();
        if flip {
            imageops::flip_horizontal_in_place(&mut crop);
        }
        Ok(crop)
    }

    /// A validation crop: from the centre; sigma 1.5 and quality 65 with the training's probabilities.
    pub fn validation(&self, picture: &RgbImage, rng: &mut Rng) -> Result<RgbImage> {
        let (blur, compress) = self.augment.probabilities();
        let (encoder, blur, compress) = (*rng.pick(&ENCODERS), rng.chance(blur), rng.chance(compress));
        let picture = self.degraded(picture, blur.then_some(1.5), compress.then_some((encoder, 65)))?;
        let (x, y) = ((picture.width() - self.crop) / 2, (picture.height() - self.crop) / 2);
        Ok(imageops::crop_imm(&picture, x, y, self.crop, self.crop).to_image())
    }

    fn degraded(
        &self,
        picture: &RgbImage,
        sigma: Option<f32>,
        quality: Option<(JpegCodec, u8)>,
    ) -> Result<RgbImage> {
        let shortest = picture.width().min(picture.height());
        let target = match self.resize {
            Some(side) => side.max(self.crop),
            None => shortest.max(self.crop),
        };
        let mut out = if shortest == target { picture.clone() } else { resize_shorter(picture, target)? };
        if let Some(sigma) = sigma {
            out = gaussian_blur(&out, sigma);
        }
        if let Some((encoder, quality)) = quality {
            out = jpeg(&out, encoder, quality);
        }
        Ok(out)
    }
}

/// `picture` with `side` pixels on its shorter side, bilinear as Pillow has it (all source pixels count when it
/// is made smaller).
fn resize_shorter(picture: &RgbImage, side: u32) -> Result<RgbImage> {
    let (width, height) = picture.dimensions();
    let long = |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
    let (w, h) = if width <= height { (side, long(height, width)) } else { (long(width, height), side) };
    // Typed: the crate's untyped images would be compiled here for every kind of pixel.
    let source = fir::images::TypedImageRef::<U8x3>::from_buffer(width, height, picture.as_raw())
        .map_err(|error| anyhow!("a picture of {width}x{height}: {error}"))?;
    let mut resized = RgbImage::new(w, h);
    let mut out = fir::images::TypedImage::<U8x3>::from_buffer(w, h, &mut resized)
        .map_err(|error| anyhow!("a picture of {w}x{h}: {error}"))?;
    let how = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new().resize_typed(&source, &mut out, &how)?;
    Ok(resized)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]))
    }

    #[test]
    fn crops_have_their_size_whatever_the_picture() {
        let recipe = Recipe { augment: Augment::Half, resize: Some(64), crop: 48 };
        let mut rng = Rng::new(1);
        for (w, h) in [(64, 64), (200, 90), (33, 300), (20, 17)] {
            for _ in 0..6 {
                let picture = picture(w, h);
                assert_eq!(recipe.training(&picture, &mut rng).unwrap().dimensions(), (48, 48));
                assert_eq!(recipe.validation(&picture, &mut rng).unwrap().dimensions(), (48, 48));
            }
        }
        assert_eq!(resize_shorter(&picture(300, 200), 64).unwrap().dimensions(), (96, 64));
    }

    #[test]
    fn the_probabilities_are_the_papers() {
        // Without blur or JPEG the crop holds pixels of the picture as they are.
        let plain = |augment| {
            let recipe = Recipe { augment, resize: None, crop: 40 };
            let (picture, mut rng) = (picture(64, 64), Rng::new(2));
            let mut same = 0;
            for _ in 0..200 {
                let crop = recipe.training(&picture, &mut rng).unwrap();
                let slope =
                    |x: u32| i32::from(crop.get_pixel(x + 1, 9).0[0]) - i32::from(crop.get_pixel(x, 9).0[0]);
                let blue: Vec<u8> = (0..40).map(|x| crop.get_pixel(x, 9).0[2]).collect();
                let rough = (0..39).all(|x| slope(x).abs() == 1)
                    && blue.windows(2).map(|b| b[0].abs_diff(b[1]) as u32).sum::<u32>() > 80;
                same += u32::from(rough);
            }
            f64::from(same) / 200.0
        };
        assert_eq!(plain(Augment::None), 1.0);
        assert!((plain(Augment::Jpeg) - 0.5).abs() < 0.12, "{}", plain(Augment::Jpeg));
        assert!((plain(Augment::Tenth) - 0.81).abs() < 0.1, "{}", plain(Augment::Tenth));
        assert!((plain(Augment::Half) - 0.25).abs() < 0.12, "{}", plain(Augment::Half));
    }
}
