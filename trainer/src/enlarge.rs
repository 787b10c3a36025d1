//! Photographs enlarged by plain resampling, the real pictures that look most like upsampled ones.

use crate::photos;
use anyhow::Result;
use image::{
    RgbImage,
    imageops::{FilterType, crop_imm},
};
use spotd::forensics::{
    augment::{JpegCodec, jpeg},
    rng::Rng,
};
use tch::Tensor;

/// Share of enlargements by exactly two, which editors, players and monitors offer.
const DOUBLED: f32 = 0.6;
/// Smallest and largest of the other factors.
const FACTORS: (f32, f32) = (1.3, 2.5);
/// Share that enlarges a part of the photograph at its original scale, so that its sharpness and
/// compression traces are those of a camera's picture; the others shrink the whole picture first,
/// and keep the content of their pair.
const PARTS: f32 = 0.5;
/// Share of the small pictures that are JPEG-compressed before they are enlarged: the grid is
/// enlarged with them.
const WAS_JPEG: f32 = 0.4;

/// `x` `[N, 3, S, S]` in 0..1, each shrunk or cropped and then enlarged to its former size, with
/// independently drawn filters. On the CPU.
pub fn plainly(x: &Tensor, rng: &mut Rng) -> Result<Tensor> {
    let large: Vec<RgbImage> =
        photos::to_pictures(x)?.iter().map(|picture| enlarged_again(picture, rng)).collect();
    Ok(photos::to_tensor(&large))
}

fn enlarged_again(picture: &RgbImage, rng: &mut Rng) -> RgbImage {
    // Most editors use bicubic.
    const FILTERS: [FilterType; 4] =
        [FilterType::Triangle, FilterType::CatmullRom, FilterType::CatmullRom, FilterType::Lanczos3];
    let factor = if rng.chance(DOUBLED) { 2.0 } else { rng.range(FACTORS.0, FACTORS.1) };
    let (width, height) = picture.dimensions();
    let less = |side: u32| ((side as f32 / factor).round() as u32).max(1);
    let (across, down) = (less(width), less(height));
    let mut small = if rng.chance(PARTS) {
        let (x, y) = (rng.below((width - across + 1) as usize), rng.below((height - down + 1) as usize));
        crop_imm(picture, x as u32, y as u32, across, down).to_image()
    } else {
        photos::resized(picture, (across, down), *rng.pick(&FILTERS))
    };
    if rng.chance(WAS_JPEG) {
        let quality = 60 + rng.below(36) as u8;
        small = jpeg(&small, *rng.pick(&JpegCodec::ALL), quality);
    }
    photos::resized(&small, (width, height), *rng.pick(&FILTERS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn an_enlarged_photograph_keeps_its_size_and_loses_its_finest_detail() {
        tch::manual_seed(4);
        let noise = Tensor::rand([4, 3, 64, 64], (Kind::Float, Device::Cpu));
        let x = noise * 0.2 + 0.4;
        let large = plainly(&x, &mut Rng::new(2)).unwrap();
        assert_eq!(large.size(), x.size());
        let mean = |x: &Tensor| f64::try_from(x.mean(Kind::Float)).unwrap();
        assert!((mean(&large) - mean(&x)).abs() < 0.02);
        let steps = |x: &Tensor| mean(&(x.narrow(3, 1, 63) - x.narrow(3, 0, 63)).abs());
        assert!(steps(&large) < 0.5 * steps(&x), "{} of {}", steps(&large), steps(&x));
    }
}
