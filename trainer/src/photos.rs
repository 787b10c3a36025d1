//! Photographs in memory, and crops of them.

use anyhow::{Context as _, Result, bail};
use fast_image_resize::{self as fir, pixels::U8x3};
use image::{RgbImage, imageops, imageops::FilterType};
use indicatif::{ProgressBar, ProgressStyle};
use spotd::forensics::{dataset, rng::Rng, rng::mix, scenes::SceneRenderer};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// First seed of training scenes; demonstrations and measurements must use other seeds.
pub const FIRST_TRAINING_SCENE: u64 = 1_000_000;

/// Share of crops from rendered scenes if there are photographs too.
const SCENE_SHARE: f32 = 0.2;
/// Share of crops at the picture's original scale. The others are shrunk first: a photograph was
/// stored as JPEG and a network's output is not, so that the old 8x8 grid would separate them.
const NATIVE_SHARE: f32 = 0.25;
/// Least factor of that shrinking.
const LEAST_SCALE: f32 = 0.35;

/// Pictures to train on, or to calibrate on.
pub struct Photos {
    pictures: Vec<RgbImage>,
    scenes: Vec<RgbImage>,
}

/// Photographs and scenes, nine in ten for training and the others held out.
pub struct Split {
    /// To train on.
    pub train: Photos,
    /// Never trained on; used for temperature and thresholds.
    pub held: Photos,
}

impl Photos {
    /// From pictures at hand.
    pub fn new(pictures: Vec<RgbImage>, scenes: Vec<RgbImage>) -> Result<Photos> {
        if pictures.is_empty() && scenes.is_empty() {
            bail!("no pictures to train on");
        }
        Ok(Photos { pictures, scenes })
    }

    /// The photographs, without the scenes.
    pub fn photographs(&self) -> &[RgbImage] {
        &self.pictures
    }

    /// The rendered scenes.
    pub fn scenes(&self) -> &[RgbImage] {
        &self.scenes
    }

    /// A crop of `side` x `side` from any picture, at a random scale of at most 1. A smaller
    /// picture is never enlarged: another is drawn, and after 100 tries the crop is mirrored at the
    /// edge.
    pub fn crop(&self, side: u32, rng: &mut Rng) -> RgbImage {
        let scenes = self.pictures.is_empty() || (!self.scenes.is_empty() && rng.chance(SCENE_SHARE));
        let list = if scenes { &self.scenes } else { &self.pictures };
        let mut picture = rng.pick(list);
        for _ in 0..100 {
            if picture.width().min(picture.height()) >= side {
                break;
            }
            picture = rng.pick(list);
        }
        let shortest = picture.width().min(picture.height());
        if shortest < side {
            return mirrored(picture, side);
        }
        let native = rng.chance(NATIVE_SHARE);
        let least = (side as f32 / shortest as f32).max(LEAST_SCALE);
        let scale = if native || least > 0.95 { 1.0 } else { rng.range(least, 0.95) };
        let span = ((side as f32 / scale).round() as u32).clamp(side, shortest);
        let (x, y) = (
            rng.below((picture.width() - span + 1) as usize) as u32,
            rng.below((picture.height() - span + 1) as usize) as u32,
        );
        let cut = imageops::crop_imm(picture, x, y, span, span).to_image();
        if span == side {
            return cut;
        }
        let filter = *rng.pick(&[FilterType::Triangle, FilterType::CatmullRom, FilterType::Lanczos3]);
        resized(&cut, (side, side), filter)
    }

    /// `n` crops as `[n, 3, side, side]` in 0..1.
    pub fn batch(&self, n: usize, side: u32, rng: &mut Rng) -> Tensor {
        let crops: Vec<RgbImage> = (0..n).map(|_| self.crop(side, rng)).collect();
        to_tensor(&crops)
    }
}

/// A picture scaled to another width and height, antialiased when shrinking. Equals
/// `imageops::resize` up to rounding, but is several times as fast.
///
/// # Panics
/// For an empty size, or a filter other than these three.
pub fn resized(picture: &RgbImage, (width, height): (u32, u32), filter: FilterType) -> RgbImage {
    let filter = match filter {
        FilterType::Triangle => fir::FilterType::Bilinear,
        FilterType::CatmullRom => fir::FilterType::CatmullRom,
        FilterType::Lanczos3 => fir::FilterType::Lanczos3,
        other => unreachable!("{other:?} is not drawn anywhere"),
    };
    // Typed: the crate's untyped images would compile code for every pixel type.
    let source =
        fir::images::TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture.as_raw())
            .expect("a picture's buffer fits its size");
    let mut out = RgbImage::new(width, height);
    let mut target = fir::images::TypedImage::<U8x3>::from_buffer(width, height, &mut out)
        .expect("a picture's buffer fits its size");
    let how = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(filter));
    fir::Resizer::new().resize_typed(&source, &mut target, &how).expect("sizes of more than nothing");
    out
}

fn mirrored(picture: &RgbImage, side: u32) -> RgbImage {
    let fold = |at: u32, n: u32| if (at / n).is_multiple_of(2) { at % n } else { n - 1 - at % n };
    RgbImage::from_fn(side, side, |x, y| {
        *picture.get_pixel(fold(x, picture.width()), fold(y, picture.height()))
    })
}

/// Pictures of one size as `[n, 3, height, width]`, float32 in 0..1, on the CPU.
pub fn to_tensor(pictures: &[RgbImage]) -> Tensor {
    let (width, height) = pictures[0].dimensions();
    let bytes: Vec<u8> = pictures.iter().map(|p| p.as_raw().as_slice()).collect::<Vec<_>>().concat();
    Tensor::from_slice(&bytes)
        .reshape([pictures.len() as i64, height as i64, width as i64, 3])
        .permute([0, 3, 1, 2])
        .to_kind(Kind::Float)
        / 255.0
}

/// `[n, 3, height, width]` in 0..1 as 8-bit pictures, rounded as any encoder does.
pub fn to_pictures(x: &Tensor) -> Result<Vec<RgbImage>> {
    let size = x.size();
    let bytes =
        (x.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float) * 255.0).round().clamp(0.0, 255.0);
    let bytes = Vec::<u8>::try_from(bytes.to_kind(Kind::Uint8).permute([0, 2, 3, 1]).contiguous().view(-1))?;
    let each = (size[2] * size[3] * 3) as usize;
    bytes
        .chunks_exact(each)
        .map(|b| RgbImage::from_raw(size[3] as u32, size[2] as u32, b.to_vec()).context("a picture's size"))
        .collect()
}

/// A progress bar over `n` things.
pub fn bar(n: u64, what: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:28} {bar:30} {pos}/{len} {eta}").expect("a valid template");
    ProgressBar::new(n).with_style(style).with_message(what.to_string())
}

/// Whether a photograph is one of the tenth that is never trained on: by its file's name, so that
/// it does not depend on the folder.
pub fn is_held_out(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    mix(name.bytes().fold(0u64, |key, byte| mix(key ^ u64::from(byte)))).is_multiple_of(10)
}

/// Loads every photograph below `folders` (refusing `val`, naming what cannot be read) and renders
/// `scenes` scenes; one in ten of each is held out, by a hash of the file's name, so that it stays
/// held out.
pub fn load(folders: &[PathBuf], scenes: u64, seed: u64) -> Result<Split> {
    for folder in folders {
        dataset::refuse_validation(folder)?;
    }
    let mut paths = Vec::new();
    for folder in folders {
        let found = dataset::list_pictures(folder)?;
        if found.is_empty() {
            bail!("{}: holds no pictures", folder.display());
        }
        paths.extend(found);
    }
    let (mut train, mut held) = (Vec::new(), Vec::new());
    let progress = bar(paths.len() as u64, "reading photographs");
    let mut skipped = 0;
    for path in paths {
        match dataset::load(&path) {
            Ok(picture) => {
                if is_held_out(&path) {
                    held.push(picture)
                } else {
                    train.push(picture)
                }
            }
            Err(bad) => {
                skipped += 1;
                log::warn!("{}: skipped, cannot be read: {}", bad.path.display(), bad.reason);
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if skipped > 0 && train.is_empty() && held.is_empty() {
        // Only scenes would not be what was asked for.
        bail!("none of the {skipped} pictures can be read; the warnings above say why");
    }
    let (mut train_scenes, mut held_scenes) = (Vec::new(), Vec::new());
    let progress = bar(scenes, "rendering scenes");
    for scene in 0..scenes {
        let mut renderer = SceneRenderer::new(FIRST_TRAINING_SCENE + scene, 640, 360);
        let frame = renderer.frame(mix(seed ^ scene) % 5000);
        if scene % 10 == 9 {
            held_scenes.push(frame)
        } else {
            train_scenes.push(frame)
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    log::info!(
        "{} photographs and {} scenes to train on, {} and {} held out, {skipped} skipped",
        train.len(),
        train_scenes.len(),
        held.len(),
        held_scenes.len(),
    );
    Ok(Split {
        train: Photos::new(train, train_scenes)?,
        held: Photos::new(held, held_scenes)
            .context("nothing is held out for calibration: give more photographs")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn crops_have_their_size_and_never_come_from_enlarging() {
        let picture = RgbImage::from_fn(90, 70, |x, y| Rgb([x as u8, y as u8, 0]));
        let photos = Photos::new(vec![picture], vec![]).unwrap();
        let mut rng = Rng::new(1);
        for _ in 0..20 {
            let crop = photos.crop(64, &mut rng);
            assert_eq!(crop.dimensions(), (64, 64));
            let slope = f32::from(crop.get_pixel(60, 30).0[0]) - f32::from(crop.get_pixel(3, 30).0[0]);
            assert!(slope >= 56.0, "57 columns cover at least as many of the picture: {slope}");
        }
        assert_eq!(photos.crop(100, &mut rng).dimensions(), (100, 100));
    }

    #[test]
    fn fast_resizing_is_the_usual_one_within_a_rounding() {
        let picture = RgbImage::from_fn(90, 70, |x, y| Rgb([(x * 2) as u8, (y * 3) as u8, (x * y) as u8]));
        for filter in [FilterType::Triangle, FilterType::CatmullRom, FilterType::Lanczos3] {
            for (width, height) in [(45, 35), (61, 20), (180, 140)] {
                let (fast, slow) = (
                    resized(&picture, (width, height), filter),
                    imageops::resize(&picture, width, height, filter),
                );
                let apart = fast.iter().zip(slow.iter()).map(|(a, b)| u64::from(a.abs_diff(*b)));
                let mean = apart.clone().sum::<u64>() as f64 / fast.as_raw().len() as f64;
                assert!(mean < 0.5, "{filter:?} to {width}x{height}: {mean} in the mean");
            }
        }
    }

    #[test]
    fn tensors_and_pictures_are_one_thing() {
        let pictures: Vec<RgbImage> = (0..2)
            .map(|n| RgbImage::from_fn(5, 4, |x, y| Rgb([(x * 50) as u8, (y * 60) as u8, n * 99])))
            .collect();
        let tensor = to_tensor(&pictures);
        assert_eq!(tensor.size(), [2, 3, 4, 5]);
        assert_eq!(to_pictures(&tensor).unwrap(), pictures);
    }
}
