//! What a detector misses, shown on pictures that anyone can reproduce: rendered scenes, their
//! resyntheses by each network of a bank, and both after typical edits and degradations.

use crate::{bank, bank::Trained, photos};
use anyhow::{Context as _, Result, bail};
use image::{RgbImage, imageops, imageops::FilterType};
use spotd::{
    detector::{Detector, Model},
    forensics::{
        augment::{JpegCodec, gaussian_blur, jpeg, resize},
        scenes::SceneRenderer,
    },
    frame::Frame,
    identity::Wanted,
};
use std::path::PathBuf;
use tch::Device;

/// What is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// An ONNX file with its card beside it; by default the built-in detector.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Folder of the bank whose networks redraw.
    #[arg(long, default_value = "models/bank")]
    pub bank: PathBuf,
    /// How many scenes.
    #[arg(long, default_value_t = 12)]
    pub scenes: u64,
    /// A PNG of the six kinds that are found least: the scene above, below it redrawn, both at
    /// their own size.
    #[arg(long)]
    pub sheet: Option<PathBuf>,
}

/// Distinct from the scenes of training (from 1,000,000), of the pinned scores (from 500,000) and
/// of the demonstration.
const FIRST_SCENE: u64 = 700_000;
/// Size of a scene, suitable for every network of the bank.
const SIZE: (u32, u32) = (640, 384);
/// Tiles per frame, as in `run`.
const TILES: usize = 9;
/// Kinds on the sheet, the side of a picture and the gap between two, in pixels.
const SHOWN: usize = 6;
const CELL: u32 = 128;
const GAP: u32 = 6;

/// What happens to a picture before it is judged.
#[derive(Clone, Copy)]
enum After {
    Nothing,
    Jpeg75,
    Blur,
    Halved,
    Doubled,
}

impl After {
    const ALL: [After; 5] = [After::Nothing, After::Jpeg75, After::Blur, After::Halved, After::Doubled];

    fn name(self) -> &'static str {
        match self {
            After::Nothing => "as made",
            After::Jpeg75 => "JPEG 75",
            After::Blur => "blur 1",
            After::Halved => "halved",
            After::Doubled => "doubled",
        }
    }

    fn apply(self, picture: &RgbImage) -> RgbImage {
        match self {
            After::Nothing => picture.clone(),
            After::Jpeg75 => jpeg(picture, JpegCodec::Quartered, 75),
            After::Blur => gaussian_blur(picture, 1.0),
            After::Halved => resize(picture, 0.5, FilterType::CatmullRom),
            After::Doubled => resize(picture, 2.0, FilterType::CatmullRom),
        }
    }
}

/// One kind of picture: the scores of its pictures after each of [`After::ALL`].
struct Kind {
    name: String,
    scores: Vec<Vec<f64>>,
    /// The picture with the lowest score as made, and its scene.
    least: (f64, RgbImage, RgbImage),
}

/// Measures, writes the sheet if requested, and returns the table as Markdown.
///
/// # Errors
/// No bank, no scenes, an unusable model, or an unwritable sheet.
pub fn missed(options: &Options) -> Result<String> {
    if options.scenes == 0 {
        bail!("--scenes 0: there is nothing to judge");
    }
    let model = Model::open(options.model.as_deref(), Wanted::Auto)?;
    let bank = bank::load_all(&options.bank, Device::Cpu)?;
    if bank.is_empty() {
        bail!("{}: holds no network", options.bank.display());
    }
    let scenes: Vec<RgbImage> = (0..options.scenes)
        .map(|n| SceneRenderer::new(FIRST_SCENE + n, SIZE.0, SIZE.1).frame(11 * n))
        .collect();
    let progress = photos::bar(bank.len() as u64 + 1, "judging");
    let real = kind(&model, "rendered scenes", &scenes, &scenes)?;
    progress.inc(1);
    let mut kinds = Vec::new();
    for member in &bank {
        let redrawn = scenes.iter().map(|scene| redraw(member, scene)).collect::<Result<Vec<_>>>()?;
        kinds.push(kind(&model, &member.member.net.name, &redrawn, &scenes)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let threshold = model.card().threshold;
    kinds.sort_by(|a, b| found(a, threshold).total_cmp(&found(b, threshold)));
    if let Some(path) = &options.sheet {
        sheet(&kinds).save(path).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(table(&model, &real, &kinds, options.scenes))
}

fn redraw(member: &Trained, scene: &RgbImage) -> Result<RgbImage> {
    let x = photos::to_tensor(std::slice::from_ref(scene));
    photos::to_pictures(&member.redraw(&x))?.pop().context("one picture in, one out")
}

fn kind(model: &Model, name: &str, pictures: &[RgbImage], scenes: &[RgbImage]) -> Result<Kind> {
    let detector = Detector::of(model, TILES);
    let score = |picture: RgbImage| -> Result<f64> {
        let source = name.into();
        let frame = Frame::still(source, picture);
        Ok(detector.score(frame)?.score)
    };
    let mut scores = Vec::new();
    for after in After::ALL {
        scores.push(pictures.iter().map(|p| score(after.apply(p))).collect::<Result<Vec<f64>>>()?);
    }
    let at = (0..pictures.len()).min_by(|a, b| scores[0][*a].total_cmp(&scores[0][*b]));
    let at = at.context("no picture")?;
    let least = (scores[0][at], pictures[at].clone(), scenes[at].clone());
    Ok(Kind { name: name.to_string(), scores, least })
}

/// Share at or above `threshold` as made, then by the mean score.
fn found(kind: &Kind, threshold: f64) -> f64 {
    let mean = kind.scores[0].iter().sum::<f64>() / kind.scores[0].len() as f64;
    share(&kind.scores[0], threshold) + 1e-3 * mean
}

fn share(scores: &[f64], threshold: f64) -> f64 {
    scores.iter().filter(|score| **score >= threshold).count() as f64 / scores.len() as f64
}

fn table(model: &Model, real: &Kind, kinds: &[Kind], scenes: u64) -> String {
    let card = model.card();
    let mut out = format!(
        "{} {}, threshold {:.3}, {scenes} scenes; share at or above the threshold, and mean score\n\n| kind |",
        card.name, card.version, card.threshold
    );
    for after in After::ALL {
        out += &format!(" {} |", after.name());
    }
    out += &format!("\n|---|{}\n", "---|".repeat(After::ALL.len()));
    for kind in std::iter::once(real).chain(kinds) {
        out += &format!("| {} |", kind.name);
        for scores in &kind.scores {
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            out += &format!(" {:.0} %, {mean:.2} |", 100.0 * share(scores, card.threshold));
        }
        out.push('\n');
    }
    out += "\nFound least, from left to right: ";
    let least: Vec<String> =
        kinds.iter().take(SHOWN).map(|k| format!("{} ({:.2})", k.name, k.least.0)).collect();
    out + &least.join(", ") + "\n"
}

/// The picture with the lowest score of each of the first kinds, below its scene.
fn sheet(kinds: &[Kind]) -> RgbImage {
    let count = kinds.len().min(SHOWN) as u32;
    let mut sheet =
        RgbImage::from_pixel(count * (CELL + GAP) + GAP, 2 * (CELL + GAP) + GAP, image::Rgb([255, 255, 255]));
    for (at, kind) in kinds.iter().take(SHOWN).enumerate() {
        for (row, picture) in [&kind.least.2, &kind.least.1].into_iter().enumerate() {
            let (x, y) = ((picture.width() - CELL) / 2, (picture.height() - CELL) / 2);
            let cut = imageops::crop_imm(picture, x, y, CELL, CELL).to_image();
            let (left, top) = (GAP + at as u32 * (CELL + GAP), GAP + row as u32 * (CELL + GAP));
            imageops::replace(&mut sheet, &cut, left.into(), top.into());
        }
    }
    sheet
}
