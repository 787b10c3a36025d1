//! From light to 8-bit RGB as a camera does it: Bayer mosaic, shot and read noise, demosaicking,
//! white balance, sharpening, gamma. Without these a rendered picture has none of the traces of a
//! photograph.

use crate::forensics::rng::Rng;
use image::RgbImage;
use std::sync::OnceLock;

/// One camera's characteristics.
#[derive(Clone, Debug)]
pub struct Sensor {
    /// Multiplies the light; about 1.
    pub exposure: f32,
    /// Variance of the noise: `shot` x signal + `read`, signal 0..1.
    pub shot: f32,
    /// See `shot`.
    pub read: f32,
    /// Red and blue gain that the white balance applies after the sensor.
    pub balance: [f32; 2],
    /// Malvar, He and Cutler's 5x5 demosaicking (2004), or bilinear.
    pub malvar: bool,
    /// Strength of the 3x3 unsharp mask, about 0..0.8.
    pub sharpen: f32,
    /// Exponent of the tone curve, about 1/2.4..1/2.0.
    pub gamma: f32,
}

impl Sensor {
    /// A camera drawn at random: from a clean studio camera to a cheap one in the evening.
    pub fn draw(rng: &mut Rng) -> Self {
        let poor = rng.unit().powi(2);
        Sensor {
            exposure: rng.range(0.8, 1.25),
            shot: 0.000_15 + 0.003 * poor,
            read: 0.000_002 + 0.000_05 * poor,
            balance: [rng.range(1.4, 2.2), rng.range(1.3, 2.0)],
            malvar: rng.chance(0.7),
            sharpen: rng.range(0.0, 0.8),
            gamma: 1.0 / rng.range(2.0, 2.4),
        }
    }
}

/// Which colour a photosite at (`x`, `y`) sees in an RGGB mosaic: 0 red, 1 green, 2 blue.
pub(crate) fn filter_at(x: usize, y: usize) -> usize {
    match (x % 2, y % 2) {
        (0, 0) => 0,
        (1, 1) => 2,
        _ => 1,
    }
}

/// 65536 normal deviates: the sensor needs one per pixel, a quarter of a million per frame.
fn deviates() -> &'static [f32] {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut rng = Rng::new(0x006e_6f69_7365);
        (0..1 << 16).map(|_| rng.normal()).collect()
    })
}

/// Buffers that are reused for each frame.
#[derive(Default)]
pub struct Scratch {
    raw: Vec<f32>,
    rgb: Vec<[f32; 3]>,
}

/// The picture of `light`, `[height x width]` of linear light (0 and up) through the filter of its
/// site ([`filter_at`]). `seed` determines the frame's noise.
pub(crate) fn develop(
    sensor: &Sensor,
    light: &[f32],
    width: usize,
    height: usize,
    seed: u64,
    scratch: &mut Scratch,
) -> RgbImage {
    expose(sensor, light, width, seed, &mut scratch.raw);
    demosaic(&scratch.raw, width, height, sensor.malvar, &mut scratch.rgb);
    finish(sensor, &scratch.rgb, width, height)
}

fn expose(sensor: &Sensor, light: &[f32], width: usize, seed: u64, raw: &mut Vec<f32>) {
    let (mut rng, table) = (Rng::new(seed), deviates());
    // The balance's gains are removed before the noise and reapplied after it, so that red and blue
    // are noisier than green, as in cameras.
    let gain = [1.0 / sensor.balance[0], 1.0, 1.0 / sensor.balance[1]];
    raw.clear();
    raw.reserve(light.len());
    let mut word = 0u64;
    for (at, value) in light.iter().enumerate() {
        if at.is_multiple_of(4) {
            word = rng.next_u64();
        }
        let deviate = table[(word & 0xffff) as usize];
        word >>= 16;
        let g = gain[filter_at(at % width, at / width)];
        let signal = (value * sensor.exposure * g).clamp(0.0, 1.0);
        let noisy = signal + deviate * (sensor.shot * signal + sensor.read).sqrt();
        // 12 bits from the converter.
        raw.push((noisy.clamp(0.0, 1.0) * 4095.0).round() / 4095.0 / g);
    }
}

fn demosaic(raw: &[f32], width: usize, height: usize, malvar: bool, rgb: &mut Vec<[f32; 3]>) {
    // Mirrored at the edge, which keeps the mosaic's phase.
    let mirror = |at: isize, n: usize| -> usize {
        let last = n as isize - 1;
        let m = if at < 0 { -at } else { at };
        (if m > last { 2 * last - m } else { m }).clamp(0, last) as usize
    };
    rgb.clear();
    rgb.resize(raw.len(), [0.0; 3]);
    for y in 0..height {
        let rows: [usize; 5] = std::array::from_fn(|d| mirror(y as isize + d as isize - 2, height) * width);
        for x in 0..width {
            let inner = x >= 2 && x + 2 < width;
            let column =
                |d: usize| if inner { x + d - 2 } else { mirror(x as isize + d as isize - 2, width) };
            let at = |dy: usize, dx: usize| raw[rows[dy] + column(dx)];
            let own = at(2, 2);
            let (up, down, left, right) = (at(1, 2), at(3, 2), at(2, 1), at(2, 3));
            let diagonal = at(1, 1) + at(1, 3) + at(3, 1) + at(3, 3);
            let (far_v, far_h) = if malvar { (at(0, 2) + at(4, 2), at(2, 0) + at(2, 4)) } else { (0.0, 0.0) };
            let far = far_v + far_h;
            let cross = up + down + left + right;
            let filter = filter_at(x, y);
            rgb[y * width + x] = if filter == 1 {
                // Green: one of red and blue lies to the sides, the other above and below.
                let (mut across, mut along) = ((left + right) / 2.0, (up + down) / 2.0);
                if malvar {
                    across = (5.0 * own + 4.0 * (left + right) - diagonal - far_h + 0.5 * far_v) / 8.0;
                    along = (5.0 * own + 4.0 * (up + down) - diagonal - far_v + 0.5 * far_h) / 8.0;
                }
                if y.is_multiple_of(2) { [across, own, along] } else { [along, own, across] }
            } else {
                let (mut green, mut other) = (cross / 4.0, diagonal / 4.0);
                if malvar {
                    green = (4.0 * own + 2.0 * cross - far) / 8.0;
                    other = (6.0 * own + 2.0 * diagonal - 1.5 * far) / 8.0;
                }
                if filter == 0 { [own, green, other] } else { [other, green, own] }
            };
        }
    }
}

fn finish(sensor: &Sensor, rgb: &[[f32; 3]], width: usize, height: usize) -> RgbImage {
    // The tone curve by table: 1024 steps between black and white.
    const STEPS: usize = 1024;
    let curve: Vec<f32> =
        (0..=STEPS + 1).map(|i| 255.0 * (i as f32 / STEPS as f32).powf(sensor.gamma)).collect();
    let tone = |value: f32| {
        let at = value.clamp(0.0, 1.0) * STEPS as f32;
        let low = at as usize;
        curve[low] + (curve[low + 1] - curve[low]) * (at - low as f32)
    };
    let toned: Vec<[f32; 3]> = rgb.iter().map(|pixel| pixel.map(tone)).collect();
    let luma = |at: usize| 0.299 * toned[at][0] + 0.587 * toned[at][1] + 0.114 * toned[at][2];
    let lumas: Vec<f32> = (0..toned.len()).map(luma).collect();
    let mut out = Vec::with_capacity(toned.len() * 3);
    for y in 0..height {
        let (above, below) = (y.saturating_sub(1) * width, (y + 1).min(height - 1) * width);
        for x in 0..width {
            let (left, right) = (x.saturating_sub(1), (x + 1).min(width - 1));
            let at = y * width + x;
            let around =
                (lumas[above + x] + lumas[below + x] + lumas[y * width + left] + lumas[y * width + right])
                    / 4.0;
            let detail = sensor.sharpen * (lumas[at] - around);
            out.extend(toned[at].map(|c| (c + detail).round().clamp(0.0, 255.0) as u8));
        }
    }
    RgbImage::from_raw(width as u32, height as u32, out).expect("same size")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(malvar: bool) -> Sensor {
        Sensor {
            exposure: 1.0,
            shot: 0.0,
            read: 0.0,
            balance: [2.0, 1.5],
            malvar,
            sharpen: 0.5,
            gamma: 1.0 / 2.2,
        }
    }

    fn develop_flat(sensor: &Sensor, level: f32) -> RgbImage {
        develop(sensor, &vec![level; 24 * 16], 24, 16, 1, &mut Scratch::default())
    }

    #[test]
    fn a_grey_wall_is_grey_to_its_edges() {
        for malvar in [false, true] {
            let picture = develop_flat(&clean(malvar), 0.2);
            let expected = (255.0 * 0.2f32.powf(1.0 / 2.2)).round();
            for value in picture.as_raw() {
                assert!(
                    (f32::from(*value) - expected).abs() <= 1.0,
                    "{value} for {expected}, malvar {malvar}"
                );
            }
        }
    }

    #[test]
    fn a_ramp_survives_demosaicking() {
        let light: Vec<f32> = (0..24 * 16).map(|i| 0.1 + 0.02 * (i % 24) as f32).collect();
        for malvar in [false, true] {
            let (mut rgb, raw) = (Vec::new(), light.clone());
            demosaic(&raw, 24, 16, malvar, &mut rgb);
            for y in 2..14 {
                for x in 2..22 {
                    for value in rgb[y * 24 + x] {
                        assert!((value - light[y * 24 + x]).abs() < 1e-5, "({x},{y}) malvar {malvar}");
                    }
                }
            }
        }
    }

    #[test]
    fn shot_noise_grows_with_light() {
        let sensor = Sensor { shot: 0.002, gamma: 1.0, sharpen: 0.0, ..clean(false) };
        let spread = |level: f32| {
            let picture = develop_flat(&sensor, level);
            let greens: Vec<f32> = picture.pixels().map(|p| f32::from(p.0[1])).collect();
            let mean = greens.iter().sum::<f32>() / greens.len() as f32;
            greens.iter().map(|v| (v - mean).powi(2)).sum::<f32>()
        };
        assert!(spread(0.5) > 3.0 * spread(0.05));
    }
}
