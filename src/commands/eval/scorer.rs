//! Scores of every picture under every condition.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::ValueEnum;
use image::{RgbImage, imageops};
use indicatif::ProgressBar;

use super::perturb::Perturbation;
use spotd::detector::card::Card;
use spotd::detector::scoring::{FrameScore, ScoringError};
use spotd::detector::{Detector, Model, WholePicture};
use spotd::forensics::{baseline, dataset};
use spotd::frame::Frame;
use spotd::identity::Wanted;
use spotd::threads::side_by_side;

/// Which part of a picture is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// Tiles at native resolution over the whole picture, mean of their logits: as `run` and
    /// `scan`.
    Tiles,
    /// The middle, as large as the model's tile: as in the paper, whose crops have 224 pixels.
    Crop,
    /// The whole picture in one pass of the network.
    Whole,
}

impl View {
    pub fn as_str(self) -> &'static str {
        match self {
            View::Tiles => "tiles",
            View::Crop => "crop",
            View::Whole => "whole",
        }
    }
}

/// The detector, and the part of a picture that it is given.
pub(crate) enum Scorer {
    Tiles(Detector),
    Crop(Detector),
    Whole(Box<WholePicture>),
}

/// Smallest side of a picture that is judged whole: that of the smallest tile that a card may
/// state.
const SMALLEST: u32 = 32;

/// What one picture scored under one condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scored {
    /// Mean logit.
    pub logit: f32,
    /// 0..1.
    pub score: f64,
    /// Score of the blur baseline: minus sharpness.
    pub softness: f32,
    /// Smaller than a tile, or flat: `run` would give no verdict.
    pub limited: bool,
}

/// What one picture scored under each condition, or why it could not be judged under it.
pub(crate) type Answers = Vec<Result<Scored, String>>;

impl Scorer {
    pub fn open(view: View, model: Option<&Path>, wanted: Wanted, max_tiles: usize) -> anyhow::Result<Self> {
        Ok(match view {
            View::Tiles => Scorer::Tiles(Detector::of(&Model::open(model, wanted)?, max_tiles)),
            // As published: whatever is in the crop.
            View::Crop => Scorer::Crop(Detector::of(&Model::open(model, wanted)?, 1)),
            View::Whole => Scorer::Whole(Box::new(WholePicture::open(model, wanted)?)),
        })
    }

    pub fn card(&self) -> &Card {
        match self {
            Scorer::Tiles(detector) | Scorer::Crop(detector) => detector.card(),
            Scorer::Whole(whole) => whole.card(),
        }
    }

    /// Logit of a picture, and whether it is not based on a proper tile.
    fn logit(&self, picture: RgbImage) -> Result<(f32, bool), String> {
        let frame = |picture: RgbImage| {
            Frame::from_rgb("eval".into(), 0, SystemTime::UNIX_EPOCH, Duration::ZERO, picture)
        };
        let answer = |judged: Result<FrameScore, ScoringError>| {
            judged.map(|score| (score.logit, score.limited.is_some())).map_err(|error| error.to_string())
        };
        match self {
            Scorer::Tiles(detector) => answer(detector.score(frame(picture))),
            Scorer::Crop(detector) => {
                answer(detector.score_lines(frame(centre(&picture, detector.card().tile))))
            }
            Scorer::Whole(whole) => {
                let side = whole.card().tile;
                if picture.width().min(picture.height()) < SMALLEST {
                    let (width, height) = picture.dimensions();
                    return Err(format!("{width}x{height} is too small for the network to take whole"));
                }
                let small = picture.width() < side || picture.height() < side;
                whole.logit(&picture).map(|logit| (logit, small)).map_err(|error| error.to_string())
            }
        }
    }

    fn score(&self, picture: &RgbImage, condition: Perturbation) -> Result<Scored, String> {
        let picture = condition.apply(picture).map_err(|e| e.to_string())?;
        let softness = -baseline::sharpness(&picture);
        let (logit, limited) = self.logit(picture)?;
        Ok(Scored { logit, score: self.card().score(logit), softness, limited })
    }
}

/// The central `side` x `side` pixels, or fewer if the picture is smaller; rounded like
/// torchvision's `CenterCrop`, since one pixel shifts the JPEG grid.
pub(crate) fn centre(picture: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = (picture.width().min(side), picture.height().min(side));
    let start = |all: u32, part: u32| (f64::from(all - part) / 2.0).round_ties_even() as u32;
    let (x, y) = (start(picture.width(), width), start(picture.height(), height));
    imageops::crop_imm(picture, x, y, width, height).to_image()
}

/// Scores the pictures at `wanted`, each under all conditions, `jobs` at a time. A picture that
/// cannot be decoded is missing from the answers and listed in the second result.
pub(crate) fn score_all(
    scorer: &Scorer,
    pictures: &[PathBuf],
    wanted: &[usize],
    conditions: &[Perturbation],
    jobs: usize,
    bar: &ProgressBar,
) -> anyhow::Result<(HashMap<usize, Answers>, Vec<dataset::Skipped>)> {
    let done = side_by_side(jobs, wanted.len(), |at| {
        let path = &pictures[wanted[at]];
        let answers = dataset::load(path)
            .map(|picture| conditions.iter().map(|c| scorer.score(&picture, *c)).collect::<Answers>());
        bar.inc(1);
        answers
    })
    .context("threads to judge with")?;
    let (mut answers, mut skipped) = (HashMap::new(), Vec::new());
    for (at, answer) in wanted.iter().zip(done) {
        match answer {
            Ok(answer) => {
                answers.insert(*at, answer);
            }
            Err(bad) => skipped.push(bad),
        }
    }
    Ok((answers, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_rounded_as_torchvision_does() {
        let picture = RgbImage::from_fn(11, 9, |x, y| image::Rgb([x as u8, y as u8, 0]));
        // (11 - 4) / 2 = 3.5 goes to 4, (9 - 4) / 2 = 2.5 to 2: to the even one, as in Python's
        // round.
        let crop = centre(&picture, 4);
        assert_eq!((crop.dimensions(), crop.get_pixel(0, 0).0), ((4, 4), [4, 2, 0]));
        assert_eq!(centre(&picture, 10).dimensions(), (10, 9));
    }
}
