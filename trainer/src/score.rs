//! Average precision over sets in the paper's layout, through the daemon's own eyes: the same tiles, the
//! same ONNX file, the same mean of logits.

use anyhow::{Context as _, Result};
use image::RgbImage;
use spotd::{
    detector::{Model, card::Measured, judge},
    forensics::{
        ap,
        augment::{JpegCodec, jpeg},
        baseline, dataset,
    },
    frame::Frame,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// What is done to a picture before it is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perturbation {
    /// Nothing.
    AsStored,
    /// JPEG of quality 75, chroma halved both ways.
    Jpeg75,
}

impl Perturbation {
    /// Both.
    pub const ALL: [Perturbation; 2] = [Perturbation::AsStored, Perturbation::Jpeg75];

    /// As cards name it.
    pub fn name(self) -> &'static str {
        match self {
            Perturbation::AsStored => "as stored",
            Perturbation::Jpeg75 => "jpeg 75",
        }
    }

    fn apply(self, picture: RgbImage) -> RgbImage {
        match self {
            Perturbation::AsStored => picture,
            Perturbation::Jpeg75 => jpeg(&picture, JpegCodec::Quartered, 75),
        }
    }
}

/// Tiles a picture: more than any set's picture has, so that the whole picture counts.
const MOST_TILES: usize = 64;

/// What one picture scored.
#[derive(Clone, Copy)]
struct Scored {
    logit: f32,
    score: f64,
    softness: f32,
}

/// One row for each set and perturbation, sets by name; pictures shared between sets are scored once.
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
        Ok(picture) => perturbation.apply(picture),
        Err(bad) => {
            log::warn!("{}: skipped, cannot be read: {}", bad.path.display(), bad.reason);
            return Ok(None);
        }
    };
    let softness = -baseline::sharpness(&picture);
    let frame = Frame::from_rgb(
        path.display().to_string().into(),
        0,
        SystemTime::UNIX_EPOCH,
        Duration::ZERO,
        picture,
    );
    let judged = judge::judge(model, frame, MOST_TILES).with_context(|| path.display().to_string())?;
    Ok(Some(Scored { logit: judged.logit, score: judged.score, softness }))
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
    let flagged = |list: &[Scored]| {
        list.iter().filter(|s| s.score >= model.card().threshold).count() as f64 / list.len() as f64
    };
    Ok(Measured {
        set: set.into(),
        perturbation: perturbation.name().into(),
        ap: round(precision(|s| s.logit)?),
        ap_blur_alone: Some(round(precision(|s| s.softness)?)),
        ap_chance: round(fake.len() as f64 / positive.len() as f64),
        real: real.len(),
        fake: fake.len(),
        real_flagged: round(flagged(real)),
        fake_flagged: round(flagged(fake)),
        date: date.into(),
    })
}

/// To four places: more would be noise on sets of a hundred.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// A table for a terminal.
pub fn table(rows: &[Measured]) -> String {
    let mut out = format!(
        "{:<20}{:<11}{:>6}{:>7}{:>8}{:>7}{:>7}{:>10}{:>10}\n",
        "set", "after", "AP", "blur", "chance", "real", "fake", "real flag", "fake flag"
    );
    for r in rows {
        out += &format!(
            "{:<20}{:<11}{:>6.3}{:>7.3}{:>8.3}{:>7}{:>7}{:>9.1}%{:>9.1}%\n",
            r.set,
            r.perturbation,
            r.ap,
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
                "{:<20}{:<11}{:>6.3}{:>7.3}{:>8.3}\n",
                "mean of sets",
                perturbation.name(),
                mean(|r| r.ap),
                mean(|r| r.ap_blur_alone.unwrap_or(f64::NAN)),
                mean(|r| r.ap_chance)
            );
        }
    }
    out
}
