//! How many frames and tiles a verdict needs: the scores of real pictures as a camera would film them, how far
//! tiles of one frame and frames of one camera depend on each other, and the threshold from which one window in
//! a thousand would be wrong.
//!
//! A still camera shows the same picture again and again: its frames differ by noise and coding alone, and a
//! median over them is hardly surer than one. A moving one shows other pixels each time. So both are filmed:
//! clips cut from photographs with sensor noise and JPEG drawn anew for each frame, standing or panning.

use crate::photos::bar;
use anyhow::{Context as _, Result, bail};
use image::{RgbImage, imageops};
use spotd::{
    detector::{Model, tiles},
    forensics::{
        alarms::Blocks,
        augment::{JpegCodec, jpeg, noise},
        dataset,
        rng::Rng,
    },
    frame::{Frame, Rect},
    identity::Wanted,
};
use std::path::{Path, PathBuf};

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Folders of photographs that training has not seen.
    #[arg(long, required = true, num_args = 1..)]
    pub photos: Vec<PathBuf>,
    /// Folders of generated pictures: how many of their clips are found at each threshold.
    #[arg(long, num_args = 1..)]
    pub fakes: Vec<PathBuf>,
    /// An ONNX file with its card beside it; by default the built-in detector.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// At most so many pictures of each kind, evenly chosen.
    #[arg(long, default_value_t = 200)]
    pub pictures: usize,
    /// Share of windows that may be wrong.
    #[arg(long, default_value_t = 0.001)]
    pub wrong: f64,
    /// Seed of noise, coding and direction.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Frames of a clip.
const FRAMES: usize = 9;
/// Pixels cut off all around, within which a panning camera moves.
const MARGIN: u32 = 18;
/// Pixels that it moves between two judged frames.
const STEP: f32 = 4.0;
/// Tiles of a frame and frames of a window that are compared.
const TILES: [usize; 4] = [1, 2, 4, 9];
const WINDOWS: [usize; 3] = [1, 5, 9];

/// How a clip is filmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Camera {
    Still,
    Panning,
}

/// Logits of a clip: frames, of each its tiles.
type Clip = Vec<Vec<f32>>;

/// Measures, and writes the result as Markdown.
///
/// # Errors
/// Folders without a picture of at least a tile and the margins; a model that cannot be opened.
pub fn windows(options: &Options) -> Result<String> {
    let model = Model::open(options.model.as_deref(), Wanted::Auto)?;
    let card = model.card();
    let mut out = format!(
        "{} {}, threshold {:.3}; {} frames a clip\n\n| camera | frames of a window | tiles | windows at or above the threshold | \
         one in {:.0} wrong at | generated found there |\n|---|---|---|---|---|---|\n",
        card.name,
        card.version,
        card.threshold,
        FRAMES,
        1.0 / options.wrong
    );
    let mut notes = String::new();
    for camera in [Camera::Still, Camera::Panning] {
        let real = film(&model, &options.photos, camera, options)?;
        let fake =
            if options.fakes.is_empty() { vec![] } else { film(&model, &options.fakes, camera, options)? };
        let name = if camera == Camera::Still { "still" } else { "panning" };
        let tiles: Vec<f32> = real.iter().flatten().flatten().copied().collect();
        let above = tiles.iter().filter(|z| card.score(**z) >= card.threshold).count();
        notes += &format!(
            "{name}: {} clips, {} tiles, {:.2} % of them at or above the threshold; correlation of two tiles of a \
             frame {:.2}, of two frames next to each other {:.2}, of first and last {:.2}\n",
            real.len(),
            tiles.len(),
            100.0 * above as f64 / tiles.len() as f64,
            correlation(&real.iter().flat_map(|clip| neighbours(&clip[0])).collect::<Vec<_>>()),
            correlation(&apart(&real, 1)),
            correlation(&apart(&real, FRAMES - 1)),
        );
        for frames in WINDOWS {
            for most in TILES {
                let of = |clips: &[Clip]| -> Vec<f64> {
                    clips.iter().map(|clip| window(clip, frames, most)).collect()
                };
                let mut real = of(&real);
                real.sort_by(|a, b| b.total_cmp(a));
                let wrong = real.iter().filter(|z| card.score(**z as f32) >= card.threshold).count();
                let found = tail(&real, options.wrong);
                let fake = of(&fake);
                let share = if fake.is_empty() {
                    String::from("")
                } else {
                    let over = fake.iter().filter(|z| **z >= found.1).count();
                    format!("{:.0} %", 100.0 * over as f64 / fake.len() as f64)
                };
                out += &format!(
                    "| {name} | {frames} | {most} | {wrong} of {} | {:.3} [{:.3} {:.3}] | {share} |\n",
                    real.len(),
                    card.score(found.1 as f32),
                    card.score(found.0 as f32),
                    card.score(found.2 as f32),
                );
            }
        }
    }
    Ok(out + "\n" + &notes)
}

/// The logit that a share `wrong` of `falling` lies above: counted, or beyond them by their tail, with the bounds
/// that the number of pictures leaves; least, likely, most.
pub(crate) fn tail(falling: &[f64], wrong: f64) -> (f64, f64, f64) {
    // One window a day, so that rates are shares.
    let blocks = Blocks { maxima: falling.to_vec(), seconds: 86_400.0, footage: 0.0, drifts: false };
    let found = blocks.threshold(wrong);
    // The interval of the rate at this threshold, turned into thresholds of this rate.
    let at =
        |rate: f64| if rate > 0.0 { blocks.threshold(wrong * wrong / rate).logit } else { f64::NEG_INFINITY };
    (at(found.low.max(wrong / 1e3)), found.logit, at(found.high))
}

/// Median over the first `frames` of the means over at most `most` tiles, evenly chosen.
fn window(clip: &Clip, frames: usize, most: usize) -> f64 {
    let mut means: Vec<f64> = clip
        .iter()
        .take(frames)
        .map(|tiles| {
            let n = tiles.len().min(most);
            (0..n).map(|at| f64::from(tiles[at * tiles.len() / n])).sum::<f64>() / n as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    means[means.len() / 2]
}

/// Pairs of tiles of one frame, each once in both orders.
fn neighbours(tiles: &[f32]) -> Vec<(f64, f64)> {
    let pairs = tiles.iter().zip(tiles.iter().skip(1));
    pairs.flat_map(|(a, b)| [(f64::from(*a), f64::from(*b)), (f64::from(*b), f64::from(*a))]).collect()
}

/// Frame means `lag` frames apart.
fn apart(clips: &[Clip], lag: usize) -> Vec<(f64, f64)> {
    let mean = |tiles: &Vec<f32>| tiles.iter().map(|z| f64::from(*z)).sum::<f64>() / tiles.len() as f64;
    clips.iter().flat_map(|c| c.iter().zip(c.iter().skip(lag)).map(|(a, b)| (mean(a), mean(b)))).collect()
}

/// Pearson's; NaN without spread.
fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let (a, b) = pairs.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0 / n, s.1 + p.1 / n));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        ab += (x - a) * (y - b);
        aa += (x - a).powi(2);
        bb += (y - b).powi(2);
    }
    ab / (aa * bb).sqrt()
}

/// A clip of each picture that is large enough.
fn film(model: &Model, folders: &[PathBuf], camera: Camera, options: &Options) -> Result<Vec<Clip>> {
    let mut paths = Vec::new();
    for folder in folders {
        paths.extend(dataset::list_pictures(folder)?);
    }
    let step = paths.len().div_ceil(options.pictures.max(1)).max(1);
    let progress = bar(paths.len().div_ceil(step) as u64, &format!("filming, {camera:?}"));
    let mut clips = Vec::new();
    for (at, path) in paths.iter().enumerate().step_by(step) {
        progress.inc(1);
        let picture = match dataset::load(path) {
            Ok(picture) => picture,
            Err(bad) => {
                log::warn!("{}: skipped, cannot be read: {}", bad.path.display(), bad.reason);
                continue;
            }
        };
        let rng = Rng::new(options.seed).fork(at as u64);
        clips.extend(clip(model, path, &picture, camera, rng)?);
    }
    progress.finish_and_clear();
    if clips.is_empty() {
        let least = model.card().tile;
        bail!("no picture of at least {least} x {least} pixels in {folders:?}");
    }
    Ok(clips)
}

/// `None` where the picture has no proper tile: too small, or flat.
fn clip(
    model: &Model,
    path: &Path,
    picture: &RgbImage,
    camera: Camera,
    mut rng: Rng,
) -> Result<Option<Clip>> {
    let (tile, most) = (model.card().tile, *TILES.last().expect("not empty"));
    // Small pictures stand still with less around.
    let shortest = picture.width().min(picture.height());
    let margin = MARGIN.min(shortest.saturating_sub(tile) / 2);
    let (width, height) = (picture.width() - 2 * margin, picture.height() - 2 * margin);
    let angle = rng.range(0.0, std::f32::consts::TAU);
    let levels = rng.range(0.5, 3.0);
    let quality = 75 + rng.below(21) as u8;
    let mut frames = Vec::with_capacity(FRAMES);
    for frame in 0..FRAMES {
        let far = match camera {
            Camera::Still => 0.0,
            Camera::Panning => STEP * (frame as f32 - (FRAMES - 1) as f32 / 2.0),
        };
        let to =
            |way: f32| (margin as f32 + (way * far).clamp(-(margin as f32), margin as f32)).round() as u32;
        let cut = imageops::crop_imm(picture, to(angle.cos()), to(angle.sin()), width, height).to_image();
        let seen = jpeg(&noise(&cut, levels, rng.next_u64()), JpegCodec::Quartered, quality);
        let source = path.display().to_string().into();
        let frame = Frame::still(source, seen);
        let selection = tiles::select(&frame, tile, most, 0)?;
        if selection.limited.is_some() {
            return Ok(None);
        }
        let logit = |&place: &Rect| anyhow::Ok(model.logit(&tiles::cut(&frame, place, tile)?)?);
        let logits = selection.tiles.iter().map(logit).collect::<Result<Vec<_>, _>>();
        frames.push(logits.with_context(|| path.display().to_string())?);
    }
    Ok(Some(frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_the_median_of_means() {
        let clip = vec![vec![0.0, 2.0], vec![9.0, 11.0], vec![3.0, 5.0]];
        assert_eq!(window(&clip, 3, 2), 4.0);
        assert_eq!(window(&clip, 1, 2), 1.0);
        assert_eq!(window(&clip, 3, 1), 3.0);
    }

    #[test]
    fn the_tail_finds_the_share_of_an_exponential() {
        let mut rng = Rng::new(5);
        let mut drawn: Vec<f64> = (0..400).map(|_| -f64::from(1.0 - rng.unit()).ln()).collect();
        drawn.sort_by(|a, b| b.total_cmp(a));
        let (least, likely, most) = tail(&drawn, 0.001);
        // -ln 0.001 = 6.9; four hundred draws know it to about one.
        assert!((likely - 6.9).abs() < 1.5 && least < likely && likely < most, "{least} {likely} {most}");
    }

    #[test]
    fn correlation_is_pearsons() {
        assert!((correlation(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 1.0).abs() < 1e-12);
        assert!(correlation(&[(0.0, 1.0), (1.0, -1.0), (2.0, 1.0), (3.0, -1.0)]).abs() < 0.5);
    }
}
