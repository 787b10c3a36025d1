//! Average precision over sets in the paper's layout, measured as the daemon judges: with the same
//! tiles, the same ONNX file, the same mean of logits.

use anyhow::{Context as _, Result};
use image::{RgbImage, imageops};
use spotd::{
    detector::{
        Detector, Model,
        card::{Card, Measured},
    },
    forensics::{
        ap,
        augment::{JpegCodec, jpeg},
        baseline, dataset, metrics,
    },
    frame::Frame,
    source::recode::VideoCodec,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// The perturbation of a picture before it is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perturbation {
    /// Nothing.
    AsStored,
    /// JPEG of quality 75, chroma halved both ways.
    Jpeg75,
    /// A key frame of H.264 at a constant rate factor of 23.
    H264,
}

impl Perturbation {
    /// All perturbations.
    pub const ALL: [Perturbation; 3] = [Perturbation::AsStored, Perturbation::Jpeg75, Perturbation::H264];

    /// Its name in cards.
    pub fn name(self) -> &'static str {
        match self {
            Perturbation::AsStored => "as stored",
            Perturbation::Jpeg75 => "jpeg 75",
            Perturbation::H264 => "h264 23",
        }
    }

    fn apply(self, picture: RgbImage) -> Result<RgbImage> {
        Ok(match self {
            Perturbation::AsStored => picture,
            Perturbation::Jpeg75 => jpeg(&picture, JpegCodec::Quartered, 75),
            Perturbation::H264 => VideoCodec::H264.recode(&picture, 23)?,
        })
    }
}

/// Those that this machine can apply: without GStreamer no video codec.
pub fn possible() -> Vec<Perturbation> {
    let video =
        VideoCodec::H264.available().inspect_err(|why| log::warn!("not measured after H.264: {why}")).is_ok();
    Perturbation::ALL.into_iter().filter(|p| *p != Perturbation::H264 || video).collect()
}

/// A picture shrunk by four and enlarged again: its content without any trace.
fn content(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let small =
        imageops::resize(picture, width.div_ceil(4), height.div_ceil(4), imageops::FilterType::Triangle);
    imageops::resize(&small, width, height, imageops::FilterType::CatmullRom)
}

/// Tiles per picture: more than any set's picture has, so that the whole picture counts.
pub(crate) const MOST_TILES: usize = 64;

/// The score of one picture.
#[derive(Clone, Copy)]
struct Scored {
    logit: f32,
    score: f64,
    softness: f32,
    /// Logit of its content only, if requested.
    content: Option<f32>,
}

/// One row for each set and perturbation, sets by name; pictures shared between sets are scored
/// once.
pub fn measure(model: &Model, layout: &Path, perturbations: &[Perturbation]) -> Result<Vec<Measured>> {
    let sets = dataset::find_sets(layout)?;
    let total: usize = sets.iter().map(|s| s.real.len() + s.fake.len()).sum();
    let date = jiff::Zoned::now().date().to_string();
    let mut rows = Vec::new();
    for perturbation in perturbations {
        let progress = crate::photos::bar(total as u64, &format!("scoring {}", perturbation.name()));
        let mut known: HashMap<PathBuf, Option<Scored>> = HashMap::new();
        for set in &sets {
            let mut side = |paths: &[PathBuf]| -> Result<Vec<Scored>> {
                let mut scores = Vec::new();
                for path in paths {
                    let key = path.canonicalize().unwrap_or_else(|_| path.clone());
                    let scored = match known.get(&key) {
                        Some(scored) => *scored,
                        None => *known.entry(key).or_insert(score(model, path, *perturbation)?),
                    };
                    scores.extend(scored);
                    progress.inc(1);
                }
                Ok(scores)
            };
            let (real, fake) = (side(&set.real)?, side(&set.fake)?);
            rows.push(row(model, &set.name, *perturbation, &real, &fake, &date)?);
        }
        progress.finish_and_clear();
    }
    Ok(rows)
}

fn score(model: &Model, path: &Path, perturbation: Perturbation) -> Result<Option<Scored>> {
    let picture = match dataset::load(path) {
        Ok(picture) => perturbation.apply(picture)?,
        Err(bad) => {
            log::warn!("{}: skipped, cannot be read: {}", bad.path.display(), bad.reason);
            return Ok(None);
        }
    };
    let softness = -baseline::sharpness(&picture);
    let detector = Detector::of(model, MOST_TILES);
    let judge = |picture| {
        let frame = Frame::still(path.display().to_string().into(), picture);
        detector.score(frame).with_context(|| path.display().to_string())
    };
    let content = match perturbation {
        Perturbation::AsStored => Some(judge(content(&picture))?.logit),
        _ => None,
    };
    let judged = judge(picture)?;
    Ok(Some(Scored { logit: judged.logit, score: judged.score, softness, content }))
}

fn row(
    model: &Model,
    set: &str,
    perturbation: Perturbation,
    real: &[Scored],
    fake: &[Scored],
    date: &str,
) -> Result<Measured> {
    let positive: Vec<bool> = (0..real.len() + fake.len()).map(|at| at >= real.len()).collect();
    let precision = |value: fn(&Scored) -> f32| -> Result<f64> {
        let values: Vec<f32> = real.iter().chain(fake).map(value).collect();
        ap::average_precision(&values, &positive)
            .with_context(|| format!("{set}: no readable real or generated pictures"))
    };
    let area = |value: &dyn Fn(&Scored) -> Option<f32>| -> Option<f64> {
        let values: Option<Vec<f32>> = real.iter().chain(fake).map(value).collect();
        let curve = metrics::Ranking::new(&values?, &positive)?.curve(None);
        curve.has_both().then(|| round(curve.auc()))
    };
    let flagged = |list: &[Scored]| {
        list.iter().filter(|s| s.score >= model.card().threshold).count() as f64 / list.len() as f64
    };
    Ok(Measured {
        set: set.into(),
        perturbation: perturbation.name().into(),
        ap: round(precision(|s| s.logit)?),
        auc: area(&|s| Some(s.logit)),
        auc_content: area(&|s| s.content),
        seen: None,
        ap_blur_alone: Some(round(precision(|s| s.softness)?)),
        ap_chance: round(fake.len() as f64 / positive.len() as f64),
        real: real.len(),
        fake: fake.len(),
        real_flagged: round(flagged(real)),
        fake_flagged: round(flagged(fake)),
        date: date.into(),
    })
}

/// To four decimals: more would be noise on sets of a hundred.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Replaces the measurements in the card of the model at `path` by `rows`.
///
/// # Errors
/// The card cannot be read or written.
pub fn write(path: &Path, rows: Vec<Measured>) -> Result<()> {
    let at = Card::path_for(path);
    let card = Card { measured: rows, ..Card::load(&at)? };
    crate::checkpoint::write(&at, card.to_toml().as_bytes())
}

/// A table for a terminal.
pub fn table(rows: &[Measured]) -> String {
    let mut out = format!(
        "{:<20}{:<11}{:>6}{:>6}{:>9}{:>7}{:>8}{:>7}{:>7}{:>10}{:>10}\n",
        "set", "after", "AP", "AUC", "content", "blur", "chance", "real", "fake", "real flag", "fake flag"
    );
    for r in rows {
        out += &format!(
            "{:<20}{:<11}{:>6.3}{:>6.3}{:>9.3}{:>7.3}{:>8.3}{:>7}{:>7}{:>9.1}%{:>9.1}%\n",
            r.set,
            r.perturbation,
            r.ap,
            r.auc.unwrap_or(f64::NAN),
            r.auc_content.unwrap_or(f64::NAN),
            r.ap_blur_alone.unwrap_or(f64::NAN),
            r.ap_chance,
            r.real,
            r.fake,
            100.0 * r.real_flagged,
            100.0 * r.fake_flagged
        );
    }
    for perturbation in Perturbation::ALL {
        let some: Vec<&Measured> = rows.iter().filter(|r| r.perturbation == perturbation.name()).collect();
        if !some.is_empty() {
            let mean = |f: fn(&Measured) -> f64| some.iter().map(|r| f(r)).sum::<f64>() / some.len() as f64;
            out += &format!(
                "{:<20}{:<11}{:>6.3}{:>6.3}{:>9}{:>7.3}{:>8.3}\n",
                "mean of sets",
                perturbation.name(),
                mean(|r| r.ap),
                mean(|r| r.auc.unwrap_or(f64::NAN)),
                "",
                mean(|r| r.ap_blur_alone.unwrap_or(f64::NAN)),
                mean(|r| r.ap_chance)
            );
        }
    }
    out
}
