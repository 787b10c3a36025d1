//! A run's temperature and thresholds, from photographs that it never trained on.
//!
//! A camera's verdict is based on windows of frames, and frames of one scene hardly differ in their
//! score ([`crate::windows`] measures how little), so one frame stands for a window here. Its score
//! is the mean over as many tiles as in `run`.

use crate::{checkpoint::Calibration, module::Module, pairs::Pairs, photos, photos::Photos, windows};
use anyhow::{Context as _, Result, bail};
use image::{
    RgbImage,
    imageops::{FilterType, resize},
};
use spotd::{
    detector::tiles,
    forensics::{
        ap,
        augment::{JpegCodec, Plan, Policy, jpeg, noise},
        rng::Rng,
    },
    frame::Frame,
};
use tch::Device;

/// False-positive rate of the threshold on real windows: one in a thousand.
const WRONG: f64 = 0.001;
/// Share of photographs doubled in size by a bicubic filter at or above it: one in fifty. They look
/// most like generated ones, and people do enlarge pictures, but few of those delivered by a camera
/// or a feed are.
const DOUBLED_WRONG: f64 = 0.02;
/// Share of real windows that are unsure or worse.
const UNSURE: f64 = 0.01;
/// Tiles per frame, the default of `run`.
const TILES: usize = 9;

/// Temperature from pairs, thresholds from about `count` windows of the held-out photographs and
/// scenes, and a third as many doubled in size. Fewer than ten thousand cannot resolve one in a
/// thousand: beyond what can be counted, the tail of the highest tenth is extrapolated.
///
/// # Errors
/// Fewer than two held-out pictures are as large as a tile.
pub fn of_windows(
    module: &Module,
    held: &Photos,
    pairs: &mut Pairs,
    device: Device,
    count: usize,
    seed: u64,
) -> Result<Calibration> {
    let mut rng = Rng::new(seed).fork(3);
    let real = windows_of(module, held, device, count, &[filmed, degraded], &mut rng)?;
    let doubled = windows_of(module, held, device, count.div_ceil(3), &[doubled], &mut rng)?;
    let side = crate::net::TILE as u32;
    // Pairs as trained on, for the temperature: equally many of each class.
    let (mut z_real, mut z_fake) = (Vec::new(), Vec::new());
    for _ in 0..(count / 40).max(1) {
        let batch = pairs.batch(16, side.min(crate::pairs::KEPT / 2))?;
        let z = Vec::<f32>::try_from(module.infer(&batch.pixels(device)).to_device(Device::Cpu).view(-1))?;
        z_real.extend(&z[..z.len() / 2]);
        z_fake.extend(&z[z.len() / 2..]);
    }
    let temperature = temperature(&z_real, &z_fake);
    // A card's scores lie between 0 and 1.
    let at = |windows: &[f64], wrong: f64| {
        let logit = windows::tail(windows, wrong).1 as f32;
        (1.0 / (1.0 + (-logit / temperature).exp())).clamp(1e-3, 1.0 - 1e-3)
    };
    let (all, enlarged, unsure_from) = (at(&real, WRONG), at(&doubled, DOUBLED_WRONG), at(&real, UNSURE));
    log::info!("one window in 1000 wrong at {all:.3}, one doubled photograph in 50 at {enlarged:.3}");
    let threshold = all.max(enlarged);
    let scores: Vec<f32> = z_real.iter().chain(&z_fake).copied().collect();
    let labels: Vec<bool> = (0..scores.len()).map(|i| i >= z_real.len()).collect();
    Ok(Calibration {
        temperature,
        threshold,
        unsure_from: unsure_from.min(threshold),
        windows: real.len(),
        held_out_ap: ap::average_precision(&scores, &labels).context("no held-out pairs")?,
    })
}

/// What happens to a picture before it is judged, and to no less than a tile of this side.
type Way = fn(&RgbImage, u32, &mut Rng) -> RgbImage;

/// Mean logits of about `count` frames, highest first: each held-out picture in turn, in each round
/// another of the ways.
fn windows_of(
    module: &Module,
    held: &Photos,
    device: Device,
    count: usize,
    ways: &[Way],
    rng: &mut Rng,
) -> Result<Vec<f64>> {
    let side = crate::net::TILE as u32;
    let pictures: Vec<&RgbImage> = held.photographs().iter().chain(held.scenes()).collect();
    let progress = photos::bar(count as u64, "calibrating");
    let mut means = Vec::new();
    for round in 0..count.div_ceil(pictures.len()) {
        for picture in &pictures {
            let seen = ways[round % ways.len()](picture, side, rng);
            let frame = Frame::still("held out".into(), seen);
            let selection = tiles::select(&frame, side, TILES, 0)?;
            progress.inc(1);
            if selection.limited.is_some() {
                // `run` gives no verdict either.
                continue;
            }
            let tiles: Vec<RgbImage> = selection
                .tiles
                .into_iter()
                .map(|tile| tiles::cut(&frame, tile, side))
                .collect::<Result<_, _>>()?;
            let logits = module.logits(&tiles, device)?;
            means.push(logits.iter().map(|z| f64::from(*z)).sum::<f64>() / logits.len() as f64);
        }
    }
    progress.finish_and_clear();
    if means.len() < 2 {
        bail!(
            "of {} held-out photographs and scenes none holds a tile of {side} x {side} pixels: thresholds need larger \
             pictures, or --scenes",
            pictures.len()
        );
    }
    means.sort_by(|a, b| b.total_cmp(a));
    Ok(means)
}

/// With sensor noise, as a good JPEG.
fn filmed(picture: &RgbImage, _side: u32, rng: &mut Rng) -> RgbImage {
    let (levels, quality) = (rng.range(0.5, 3.0), 75 + rng.below(21) as u8);
    jpeg(&noise(picture, levels, rng.next_u64()), JpegCodec::Quartered, quality)
}

/// Degraded as in training, but never to less than a tile.
fn degraded(picture: &RgbImage, side: u32, rng: &mut Rng) -> RgbImage {
    let mut plan: Plan = Policy::FIELD.draw(rng);
    let shortest = picture.width().min(picture.height());
    plan.resize = plan.resize.filter(|(factor, _)| shortest as f32 * factor >= side as f32);
    plan.apply(picture)
}

/// Enlarged twofold, as by an editor or a player.
fn doubled(picture: &RgbImage, _side: u32, _rng: &mut Rng) -> RgbImage {
    resize(picture, 2 * picture.width(), 2 * picture.height(), FilterType::CatmullRom)
}

/// The temperature of least cross-entropy, searched over 0.25..8 on a logarithmic grid.
pub fn temperature(real: &[f32], fake: &[f32]) -> f32 {
    let entropy = |t: f32| {
        let softplus = |z: f32| f64::from(z.max(0.0) + (-z.abs()).exp().ln_1p());
        real.iter().map(|z| softplus(z / t)).sum::<f64>() + fake.iter().map(|z| softplus(-z / t)).sum::<f64>()
    };
    let grid = (0..=100).map(|i| 0.25 * 32f32.powf(i as f32 / 100.0));
    grid.min_by(|a, b| entropy(*a).total_cmp(&entropy(*b))).expect("the grid is not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temperature_undoes_overconfidence() {
        // Logits that are right three times in four, said four times too loudly.
        let real = [-4.4f32, -4.4, -4.4, 4.4].repeat(50);
        let fake = [4.4f32, 4.4, 4.4, -4.4].repeat(50);
        let t = temperature(&real, &fake);
        assert!((t - 4.0).abs() < 0.3, "ln 3 = 1.1 is the honest logit: {t}");
    }

    #[test]
    fn a_degraded_window_still_holds_a_tile() {
        let picture = RgbImage::from_fn(240, 260, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let mut rng = Rng::new(1);
        for _ in 0..40 {
            let seen = degraded(&picture, 224, &mut rng);
            assert!(seen.width().min(seen.height()) >= 224, "{:?}", seen.dimensions());
        }
    }
}
