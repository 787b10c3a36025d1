//! What pictures undergo between a generator, or a camera, and the detector.

use image::{RgbImage, imageops::FilterType};
use spotd::{
    forensics::{
        augment::{JpegCodec, Plan, resize},
        rng::Rng,
    },
    source::recode::VideoCodec,
};

/// One sequence of degradations, drawn once for both sides of a pair.
pub struct Fate {
    way: Way,
    codec: JpegCodec,
    filter: FilterType,
    /// Position of the part that is scaled, as shares of the remaining space.
    at: (f32, f32),
}

enum Way {
    /// As it is.
    Stored,
    /// JPEG of this quality.
    Jpeg(u8),
    /// JPEG of the first quality, then of the second.
    Twice(u8, u8),
    /// A key frame of H.264 at this constant rate factor.
    H264(u8),
    /// Scaled by this factor, then one of the others, which is none of these.
    Scaled(f32, Box<Way>),
}

/// Largest side of the part of a picture that is enlarged, in pixels: it is cropped afterwards
/// anyway.
const PART: u32 = 400;

impl Fate {
    /// Draws one. Plain enlarging, as by a viewer, an editor or a scaler, is among them on both
    /// sides: it leaves its own coherence at the filter's period, which a head that never saw it
    /// takes for "generated" (as it did for every eighth doubled photograph).
    pub fn draw(rng: &mut Rng) -> Self {
        let way = rng.unit();
        let (quality, again) = (60 + rng.below(37) as u8, 75 + rng.below(22) as u8);
        // Half of them go beyond what leaves a trace: a head that never saw that far takes what a
        // codec leaves of true pictures for a generator's work.
        let span = *rng.pick(&[15, 26]);
        let crf = 16 + rng.below(span) as u8;
        // Strong compression loses most, so it is drawn more often than weak.
        let quality = if rng.chance(0.25) { 65 + rng.below(20) as u8 } else { quality };
        let codec = if rng.chance(0.7) { JpegCodec::Quartered } else { *rng.pick(&JpegCodec::ALL) };
        let (smaller, larger) = (rng.range(0.7, 0.95), rng.range(1.1, 2.0));
        let larger = *rng.pick(&[2.0, 2.0, 1.5, 4.0 / 3.0, larger, larger]);
        let then = if rng.chance(0.75) { Way::Jpeg(again) } else { Way::Stored };
        let way = match way {
            w if w < 0.24 => Way::Stored,
            w if w < 0.37 => Way::Scaled(larger, Box::new(then)),
            w if w < 0.66 => Way::Jpeg(quality),
            w if w < 0.75 => Way::Twice(again, quality.max(70)),
            w if w < 0.96 => Way::H264(crf),
            _ => Way::Scaled(smaller, Box::new(Way::Jpeg(90))),
        };
        let filters = [FilterType::Triangle, FilterType::CatmullRom, FilterType::Lanczos3];
        Self { way, codec, filter: *rng.pick(&filters), at: (rng.unit(), rng.unit()) }
    }

    /// The same after scaling by `factor` (1: not at all), instead of its own scaling.
    pub fn scaled_by(mut self, factor: f32) -> Self {
        let then = match self.way {
            Way::Scaled(_, then) => *then,
            way => way,
        };
        self.way = Way::Scaled(factor, Box::new(then));
        self
    }

    /// Applies it to `picture`; `None` if it needs a video codec that is missing or fails.
    pub fn apply(&self, picture: &RgbImage, video: bool) -> Option<RgbImage> {
        self.go(&self.way, picture, video)
    }

    fn go(&self, way: &Way, picture: &RgbImage, video: bool) -> Option<RgbImage> {
        let through = |plan: Plan| Some(plan.apply(picture));
        match way {
            Way::Stored => Some(picture.clone()),
            Way::Jpeg(quality) => through(Plan { jpeg: Some((self.codec, *quality)), ..Plan::NONE }),
            Way::Twice(first, second) => through(Plan {
                earlier_jpeg: Some((self.codec, *first)),
                jpeg: Some((JpegCodec::Quartered, *second)),
                ..Plan::NONE
            }),
            Way::H264(crf) if video => VideoCodec::H264.recode(picture, *crf).ok(),
            Way::H264(_) => None,
            Way::Scaled(factor, then) => self.go(then, &self.scale(picture, *factor), video),
        }
    }

    fn scale(&self, picture: &RgbImage, factor: f32) -> RgbImage {
        if factor == 1.0 {
            return picture.clone();
        }
        if factor < 1.0 {
            return resize(picture, factor, self.filter);
        }
        let (w, h) = (picture.width().min(PART), picture.height().min(PART));
        let place = |share: f32, room: u32| (share * room as f32) as u32;
        let (x, y) = (place(self.at.0, picture.width() - w), place(self.at.1, picture.height() - h));
        resize(&image::imageops::crop_imm(picture, x, y, w, h).to_image(), factor, self.filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_a_pair_meet_the_same_and_sizes_are_those_asked_for() {
        let picture =
            RgbImage::from_fn(448, 300, |x, y| image::Rgb([(x * 7 + y * 3) as u8, y as u8, x as u8]));
        for seed in 0..8 {
            let draw = || Fate::draw(&mut Rng::new(seed));
            let (a, b) = (draw().apply(&picture, false), draw().apply(&picture, false));
            assert_eq!(a, b);
            for factor in [1.5, 1.0, 0.5] {
                let Some(scaled) = draw().scaled_by(factor).apply(&picture, false) else { continue };
                let part = if factor > 1.0 { 400.0 } else { 448.0 };
                assert_eq!(scaled.dimensions(), ((part * factor) as u32, (300.0 * factor) as u32));
            }
        }
    }
}
