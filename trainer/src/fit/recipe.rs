//! Preprocessing and augmentation, in the paper's order: resize, blur, JPEG, crop, flip; and a
//! video codec, which the paper does not have, before the crop.

use crate::photos;
use anyhow::{Result, anyhow, ensure};
use image::{RgbImage, imageops, imageops::FilterType};
use serde::{Deserialize, Serialize};
use spotd::{
    forensics::{
        augment::{JpegCodec, gaussian_blur, jpeg},
        rng::Rng,
    },
    source::recode::VideoCodec,
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

    /// Its name in the paper's table.
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

/// The two encoders: the one of `image` (chroma at full resolution) and `jpeg-encoder` with chroma
/// halved both ways, instead of the paper's Pillow and OpenCV.
const ENCODERS: [JpegCodec; 2] = [JpegCodec::Image, JpegCodec::Quartered];

/// Pictures as a camera or stream would send them: a key frame of H.264 or H.265, drawn evenly, at
/// a drawn rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Video {
    /// Probability, above 0 to 1.
    pub chance: f32,
    /// Least and greatest constant rate factor, 0 to 51, both included.
    pub crf: (u8, u8),
}

impl Video {
    /// From almost invisible to clearly coarse.
    const USUAL: (u8, u8) = (18, 40);

    /// The draw for one picture, or both of a pair; uses the same number of random values whatever
    /// is decided.
    pub fn draw(&self, rng: &mut Rng) -> Option<(VideoCodec, u8)> {
        let (low, high) = self.crf;
        let drawn = (*rng.pick(&VideoCodec::ALL), low + rng.below(usize::from(high - low) + 1) as u8);
        rng.chance(self.chance).then_some(drawn)
    }

    /// Whether both codecs are available.
    pub fn available() -> Result<()> {
        for codec in VideoCodec::ALL {
            codec.available().map_err(|why| anyhow!("--video-codec is not possible here: {why}"))?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Video {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (chance, crf) = text.split_once(',').map_or((text, None), |(chance, crf)| (chance, Some(crf)));
        let chance = chance.parse().ok().filter(|chance| *chance > 0.0 && *chance <= 1.0);
        let chance =
            chance.ok_or("write a probability above 0 and at most 1, and CRFs: 0.5 or 0.5,18..40")?;
        let crf = match crf {
            None => Video::USUAL,
            Some(range) => range
                .split_once("..")
                .and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)))
                .filter(|(low, high)| low <= high && *high <= VideoCodec::COARSEST)
                .ok_or_else(|| {
                    format!("{range}: CRFs are written 18..40, from 0 to {}", VideoCodec::COARSEST)
                })?,
        };
        Ok(Video { chance, crf })
    }
}

impl std::fmt::Display for Video {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "H.264 and H.265 ({}, CRF {} to {})", self.chance, self.crf.0, self.crf.1)
    }
}

/// What one picture goes through before the crop.
#[derive(Default)]
struct Plan {
    sigma: Option<f32>,
    jpeg: Option<(JpegCodec, u8)>,
    video: Option<(VideoCodec, u8)>,
}

/// Sizes and augmentation of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Blur and JPEG.
    pub augment: Augment,
    /// Shorter side before the crop; `None` crops at the picture's own size where it is large
    /// enough.
    pub resize: Option<u32>,
    /// Side of the crop; must be even with `video`, whose pictures lose an odd last row or column.
    pub crop: u32,
    /// Video codecs.
    #[serde(default)]
    pub video: Option<Video>,
}

impl Recipe {
    /// A training crop: everything is drawn from `rng`, always with the same number of draws.
    pub fn training(&self, picture: &RgbImage, rng: &mut Rng) -> Result<RgbImage> {
        let (blur, compress) = self.augment.probabilities();
        let (sigma, quality, encoder) = (rng.range(0.0, 3.0), 30 + rng.below(71) as u8, *rng.pick(&ENCODERS));
        let sigma = rng.chance(blur).then_some(sigma);
        let jpeg = rng.chance(compress).then_some((encoder, quality));
        let (u, v, flip) = (rng.unit(), rng.unit(), rng.chance(0.5));
        // Drawn last, so that everything else is the same for a seed with and without it.
        let video = self.video.and_then(|video| video.draw(rng));
        let picture = self.degraded(picture, Plan { sigma, jpeg, video })?;
        let at = |side: u32, part: f32| (((side - self.crop + 1) as f32 * part) as u32).min(side - self.crop);
        let (x, y) = (at(picture.width(), u), at(picture.height(), v));
        let mut crop = imageops::crop_imm(&picture, x, y, self.crop, self.crop).to_image();
        if flip {
            imageops::flip_horizontal_in_place(&mut crop);
        }
        Ok(crop)
    }

    /// A validation crop: from the centre; sigma 1.5, quality 65 and the middle CRF with the
    /// training's probabilities.
    pub fn validation(&self, picture: &RgbImage, rng: &mut Rng) -> Result<RgbImage> {
        let (blur, compress) = self.augment.probabilities();
        let (encoder, blur, compress) = (*rng.pick(&ENCODERS), rng.chance(blur), rng.chance(compress));
        let video = self.video.and_then(|video| {
            let middle = video.crf.0.midpoint(video.crf.1);
            let codec = *rng.pick(&VideoCodec::ALL);
            rng.chance(video.chance).then_some((codec, middle))
        });
        let jpeg = compress.then_some((encoder, 65));
        let picture = self.degraded(picture, Plan { sigma: blur.then_some(1.5), jpeg, video })?;
        let (x, y) = ((picture.width() - self.crop) / 2, (picture.height() - self.crop) / 2);
        Ok(imageops::crop_imm(&picture, x, y, self.crop, self.crop).to_image())
    }

    /// Whether the video codecs are available, if the recipe needs them.
    pub fn available(&self) -> Result<()> {
        if self.video.is_some() {
            ensure!(
                self.crop.is_multiple_of(2),
                "--crop {}: must be even with --video-codec, since a codec drops an odd last row",
                self.crop
            );
            Video::available()?;
        }
        Ok(())
    }

    fn degraded(&self, picture: &RgbImage, plan: Plan) -> Result<RgbImage> {
        let shortest = picture.width().min(picture.height());
        let target = match self.resize {
            Some(side) => side.max(self.crop),
            None => shortest.max(self.crop),
        };
        let mut out = if shortest == target { picture.clone() } else { resize_shorter(picture, target) };
        if let Some(sigma) = plan.sigma {
            out = gaussian_blur(&out, sigma);
        }
        if let Some((encoder, quality)) = plan.jpeg {
            out = jpeg(&out, encoder, quality);
        }
        if let Some((codec, crf)) = plan.video {
            out = codec.recode(&out, crf)?;
        }
        Ok(out)
    }
}

/// `picture` with `side` pixels on its shorter side, bilinear as in Pillow (antialiased when
/// shrinking).
fn resize_shorter(picture: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let long = |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
    let (w, h) = if width <= height { (side, long(height, width)) } else { (long(width, height), side) };
    photos::resized(picture, (w, h), FilterType::Triangle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]))
    }

    #[test]
    fn crops_have_their_size_whatever_the_picture() {
        let recipe = Recipe { augment: Augment::Half, resize: Some(64), crop: 48, video: None };
        let mut rng = Rng::new(1);
        for (w, h) in [(64, 64), (200, 90), (33, 300), (20, 17)] {
            for _ in 0..6 {
                let picture = picture(w, h);
                assert_eq!(recipe.training(&picture, &mut rng).unwrap().dimensions(), (48, 48));
                assert_eq!(recipe.validation(&picture, &mut rng).unwrap().dimensions(), (48, 48));
            }
        }
        assert_eq!(resize_shorter(&picture(300, 200), 64).dimensions(), (96, 64));
    }

    #[test]
    fn the_probabilities_are_the_papers() {
        // Without blur or JPEG the crop holds pixels of the picture as they are.
        let plain = |augment| {
            let recipe = Recipe { augment, resize: None, crop: 40, video: None };
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

    #[test]
    fn a_video_codec_is_said_as_a_chance_and_rates() {
        let parse = |text: &str| text.parse::<Video>();
        assert_eq!(parse("0.5").unwrap(), Video { chance: 0.5, crf: (18, 40) });
        assert_eq!(parse("1,23..23").unwrap(), Video { chance: 1.0, crf: (23, 23) });
        for (text, words) in [
            ("0", "above 0"),
            ("1.5", "at most 1"),
            ("nan", "above 0"),
            ("0.5,30..20", "18..40"),
            ("0.5,20..52", "0 to 51"),
            ("0.5,20", "18..40"),
        ] {
            assert!(parse(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[cfg(feature = "gstreamer")]
    #[test]
    fn a_video_codec_changes_its_share_of_the_crops_and_nothing_else() {
        let plain = Recipe { augment: Augment::Half, resize: None, crop: 48, video: None };
        // Odd sides: the codec cuts the last row off, and the crop must still fit.
        for (w, h) in [(49, 75), (48, 48), (30, 31)] {
            let picture = picture(w, h);
            let changed = |chance, validation| {
                let video = Some(Video { chance, crf: (20, 45) });
                let coded = Recipe { video, ..plain.clone() };
                let of = |recipe: &Recipe, seed| {
                    let rng = &mut Rng::new(seed);
                    let crop = if validation { Recipe::validation } else { Recipe::training };
                    crop(recipe, &picture, rng).unwrap()
                };
                (0..60)
                    .filter(|seed| {
                        let crop = of(&coded, *seed);
                        assert_eq!(crop.dimensions(), (48, 48));
                        assert!(crop == of(&coded, *seed), "the draw decides alone");
                        crop != of(&plain, *seed)
                    })
                    .count()
            };
            for validation in [false, true] {
                assert_eq!(changed(1.0, validation), 60, "{w}x{h}");
            }
            let half = changed(0.5, false);
            assert!((15..=45).contains(&half), "{w}x{h}: {half}");
        }
    }
}
