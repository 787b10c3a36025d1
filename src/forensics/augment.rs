//! Degradations that a picture undergoes: JPEG, resize, blur or sharpening, noise, 4:2:0 chroma,
//! JPEG again.
//!
//! The order is the paper's (resize, blur, JPEG; the caller crops afterwards, so that the 8x8 grid
//! is not aligned with the crop). A plan is drawn once and applied to every picture of a pair: a
//! real picture and its resynthesis must never be distinguishable by what happened after they were
//! made.

use super::rng::Rng;
use image::{ExtendedColorType, ImageEncoder, RgbImage, imageops::FilterType};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// The JPEG encoder, since each has its own rounding, tables and chroma filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JpegCodec {
    /// The `image` crate's encoder.
    Image,
    /// The `jpeg-encoder` crate, chroma at full resolution.
    Full,
    /// The `jpeg-encoder` crate, chroma halved across.
    Halved,
    /// The `jpeg-encoder` crate, chroma halved both ways, as nearly all cameras do.
    Quartered,
}

impl JpegCodec {
    /// Every codec.
    pub const ALL: [JpegCodec; 4] =
        [JpegCodec::Image, JpegCodec::Full, JpegCodec::Halved, JpegCodec::Quartered];
}

/// What happens to one pair of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// JPEG compression before everything else: encoder and quality 1..=100.
    pub earlier_jpeg: Option<(JpegCodec, u8)>,
    /// Scale factor, above 0, and the filter. Plain resampling, including enlarging, does not make
    /// a picture synthetic.
    pub resize: Option<(f32, FilterType)>,
    /// Gaussian sigma in pixels.
    pub blur: Option<f32>,
    /// Amount of unsharp masking with a blur of one pixel, as cameras and editors do it.
    pub sharpen: Option<f32>,
    /// Standard deviation of normal noise in 8-bit levels, and its seed, so that both of a pair get
    /// the same.
    pub noise: Option<(f32, u64)>,
    /// Round trip through BT.601 with chroma halved both ways, as in raw video.
    pub chroma_420: bool,
    /// Encoder and quality 1..=100.
    pub jpeg: Option<(JpegCodec, u8)>,
    /// Horizontal flip.
    pub flip: bool,
}

/// How often each degradation is drawn.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Probability of a JPEG of quality 50..=95 before everything else.
    pub earlier_jpeg: f32,
    /// Probability of shrinking, and the smallest factor.
    pub resize: (f32, f32),
    /// Probability of an enlargement, and the largest factor.
    pub enlarge: (f32, f32),
    /// Probability of a blur; sigma is uniform in 0..3 as in the paper.
    pub blur: f32,
    /// Probability of sharpening by 0.2..1.5.
    pub sharpen: f32,
    /// Probability of noise of 0.5..5 levels.
    pub noise: f32,
    /// Probability of 4:2:0.
    pub chroma_420: f32,
    /// Probability of a good JPEG, quality 60..=100.
    pub jpeg_good: f32,
    /// Probability of a poor JPEG, quality 30..=75.
    pub jpeg_poor: f32,
}

impl Policy {
    /// Light augmentation: it ranked unseen generators better than heavy.
    pub const LIGHT: Policy = Policy {
        resize: (0.2, 0.65),
        blur: 0.08,
        chroma_420: 0.25,
        jpeg_good: 0.5,
        jpeg_poor: 0.1,
        ..Policy::NONE
    };

    /// Leaves a decoder's trace intact, for the first part of a curriculum: one good JPEG at most.
    pub const MILD: Policy = Policy { chroma_420: 0.25, jpeg_good: 0.5, ..Policy::NONE };

    /// What pictures undergo in the field: with [`Policy::LIGHT`] a model flags photographs that
    /// were enlarged or are soft, because it never saw such real ones in training.
    pub const FIELD: Policy = Policy {
        earlier_jpeg: 0.15,
        resize: (0.2, 0.5),
        enlarge: (0.2, 2.0),
        blur: 0.15,
        sharpen: 0.1,
        noise: 0.1,
        chroma_420: 0.25,
        jpeg_good: 0.45,
        jpeg_poor: 0.2,
    };

    /// Nothing but the flip.
    pub const NONE: Policy = Policy {
        earlier_jpeg: 0.0,
        resize: (0.0, 1.0),
        enlarge: (0.0, 1.0),
        blur: 0.0,
        sharpen: 0.0,
        noise: 0.0,
        chroma_420: 0.0,
        jpeg_good: 0.0,
        jpeg_poor: 0.0,
    };

    /// Draws one plan. It uses the same number of random values whatever it decides, so that seeds
    /// stay comparable.
    pub fn draw(&self, rng: &mut Rng) -> Plan {
        let (smaller, larger, filter) = (
            rng.range(self.resize.1, 1.0),
            rng.range(1.0, self.enlarge.1),
            *rng.pick(&[FilterType::Triangle, FilterType::CatmullRom, FilterType::Lanczos3]),
        );
        let way = rng.unit();
        let resize = if way < self.resize.0 {
            Some((smaller, filter))
        } else if way < self.resize.0 + self.enlarge.0 {
            Some((larger, filter))
        } else {
            None
        };
        let earlier = (*rng.pick(&JpegCodec::ALL), 50 + rng.below(46) as u8);
        let earlier_jpeg = rng.chance(self.earlier_jpeg).then_some(earlier);
        let (amount, levels, seed) = (rng.range(0.2, 1.5), rng.range(0.5, 5.0), rng.next_u64());
        let sharpen = rng.chance(self.sharpen).then_some(amount);
        let noise = rng.chance(self.noise).then_some((levels, seed));
        let sigma = rng.range(0.0, 3.0);
        let blur = rng.chance(self.blur).then_some(sigma);
        let chroma_420 = rng.chance(self.chroma_420);
        let codec = *rng.pick(&JpegCodec::ALL);
        let (good, poor) = (60 + rng.below(41) as u8, 30 + rng.below(46) as u8);
        let which = rng.unit();
        let jpeg = if which < self.jpeg_good {
            Some((codec, good))
        } else if which < self.jpeg_good + self.jpeg_poor {
            Some((codec, poor))
        } else {
            None
        };
        Plan { earlier_jpeg, resize, blur, sharpen, noise, chroma_420, jpeg, flip: rng.chance(0.5) }
    }
}

impl Plan {
    /// Does nothing.
    pub const NONE: Plan = Plan {
        earlier_jpeg: None,
        resize: None,
        blur: None,
        sharpen: None,
        noise: None,
        chroma_420: false,
        jpeg: None,
        flip: false,
    };

    /// Applies the plan in the paper's order. The result has a different size than `picture` if it
    /// resizes.
    pub fn apply(&self, picture: &RgbImage) -> RgbImage {
        let mut out = match self.earlier_jpeg {
            Some((codec, quality)) => jpeg(picture, codec, quality),
            None => picture.clone(),
        };
        if let Some((factor, filter)) = self.resize {
            out = resize(&out, factor, filter);
        }
        if self.flip {
            image::imageops::flip_horizontal_in_place(&mut out);
        }
        if let Some(sigma) = self.blur {
            out = gaussian_blur(&out, sigma);
        }
        if let Some(amount) = self.sharpen {
            out = sharpen(&out, amount);
        }
        if let Some((levels, seed)) = self.noise {
            out = noise(&out, levels, seed);
        }
        if self.chroma_420 {
            out = chroma_420(&out);
        }
        if let Some((codec, quality)) = self.jpeg {
            out = jpeg(&out, codec, quality);
        }
        out
    }
}

/// `picture` at `factor` of its size, at least one pixel.
pub fn resize(picture: &RgbImage, factor: f32, filter: FilterType) -> RgbImage {
    let side = |n: u32| ((n as f32 * factor).round() as u32).max(1);
    image::imageops::resize(picture, side(picture.width()), side(picture.height()), filter)
}

/// Gaussian blur of each channel, edges replicated, kernel truncated at 4 sigma (scipy's default,
/// which the paper used). A sigma below 0.1 changes no 8-bit value and returns a copy.
pub fn gaussian_blur(picture: &RgbImage, sigma: f32) -> RgbImage {
    if sigma < 0.1 {
        return picture.clone();
    }
    let radius = (4.0 * sigma + 0.5) as isize;
    let mut kernel: Vec<f32> =
        (-radius..=radius).map(|d| (-0.5 * (d as f32 / sigma).powi(2)).exp()).collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);

    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let source = picture.as_raw();
    let clamp = |at: isize, n: usize| at.clamp(0, n as isize - 1) as usize;
    // Rows first, into floats; then columns. Both access memory sequentially.
    let mut rows = vec![0f32; source.len()];
    for (line, out) in source.chunks_exact(width * 3).zip(rows.chunks_exact_mut(width * 3)) {
        for (tap, k) in kernel.iter().enumerate() {
            let shift = tap as isize - radius;
            for x in 0..width {
                let from = clamp(x as isize + shift, width) * 3;
                for c in 0..3 {
                    out[x * 3 + c] += k * f32::from(line[from + c]);
                }
            }
        }
    }
    let mut out = vec![0u8; source.len()];
    let mut line = vec![0f32; width * 3];
    for y in 0..height {
        line.fill(0.0);
        for (tap, k) in kernel.iter().enumerate() {
            let from = clamp(y as isize + tap as isize - radius, height) * width * 3;
            for (sum, value) in line.iter_mut().zip(&rows[from..from + width * 3]) {
                *sum += k * value;
            }
        }
        for (to, value) in out[y * width * 3..].iter_mut().zip(&line) {
            *to = value.round().clamp(0.0, 255.0) as u8;
        }
    }
    RgbImage::from_raw(picture.width(), picture.height(), out).expect("same size")
}

/// Unsharp mask: `picture` plus `amount` of its difference from itself blurred by one pixel.
pub fn sharpen(picture: &RgbImage, amount: f32) -> RgbImage {
    let soft = gaussian_blur(picture, 1.0);
    let mut out = picture.clone();
    for (value, smooth) in out.iter_mut().zip(soft.iter()) {
        let v = f32::from(*value);
        *value = (v + amount * (v - f32::from(*smooth))).round().clamp(0.0, 255.0) as u8;
    }
    out
}

/// Independent normal noise of `levels` of 255 on each value; the same `seed` gives the same noise.
pub fn noise(picture: &RgbImage, levels: f32, seed: u64) -> RgbImage {
    let mut rng = Rng::new(seed);
    let mut out = picture.clone();
    for value in out.iter_mut() {
        *value = (f32::from(*value) + levels * rng.normal()).round().clamp(0.0, 255.0) as u8;
    }
    out
}

/// There and back through JPEG.
///
/// # Panics
/// Never for a picture with pixels: both encoders accept every RGB picture up to 65535 a side.
pub fn jpeg(picture: &RgbImage, codec: JpegCodec, quality: u8) -> RgbImage {
    let bytes = jpeg_bytes(picture, codec, quality);
    image::load_from_memory_with_format(&bytes, image::ImageFormat::Jpeg)
        .expect("a JPEG that was just encoded decodes")
        .into_rgb8()
}

/// `picture` as JPEG, quality 1..=100.
///
/// # Panics
/// If the picture is empty or a side exceeds 65535.
pub fn jpeg_bytes(picture: &RgbImage, codec: JpegCodec, quality: u8) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let mut bytes = Vec::new();
    let sampling = match codec {
        JpegCodec::Image => {
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
                .write_image(picture.as_raw(), width, height, ExtendedColorType::Rgb8)
                .expect("an RGB picture encodes as JPEG");
            return bytes;
        }
        JpegCodec::Full => SamplingFactor::R_4_4_4,
        JpegCodec::Halved => SamplingFactor::R_4_2_2,
        JpegCodec::Quartered => SamplingFactor::R_4_2_0,
    };
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(sampling);
    let side = |n: u32| u16::try_from(n).expect("JPEG sides end at 65535");
    encoder
        .encode(picture.as_raw(), side(width), side(height), ColorType::Rgb)
        .expect("an RGB picture encodes as JPEG");
    bytes
}

/// Round trip through 8-bit BT.601 limited range with chroma averaged over 2x2 pixels and
/// replicated, which is what a raw I420 or NV12 camera delivers.
pub(crate) fn chroma_420(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let mut out = RgbImage::new(width, height);
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            let block =
                || (y..(y + 2).min(height)).flat_map(move |v| (x..(x + 2).min(width)).map(move |u| (u, v)));
            let (mut cb, mut cr, mut n) = (0f32, 0f32, 0f32);
            for (u, v) in block() {
                let [r, g, b] = picture.get_pixel(u, v).0.map(f32::from);
                cb += -0.148_223 * r - 0.290_993 * g + 0.439_216 * b;
                cr += 0.439_216 * r - 0.367_788 * g - 0.071_427 * b;
                n += 1.0;
            }
            let (cb, cr) = ((cb / n).round(), (cr / n).round());
            for (u, v) in block() {
                let [r, g, b] = picture.get_pixel(u, v).0.map(f32::from);
                let luma = (0.256_788 * r + 0.504_129 * g + 0.097_906 * b).round() * 1.164_384;
                let rgb =
                    [luma + 1.596_027 * cr, luma - 0.391_762 * cb - 0.812_968 * cr, luma + 2.017_232 * cb];
                out.put_pixel(u, v, image::Rgb(rgb.map(|c| c.round().clamp(0.0, 255.0) as u8)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn textured(side: u32) -> RgbImage {
        let mut rng = Rng::new(3);
        RgbImage::from_fn(side, side + 5, |x, y| {
            let base = 90.0 + 60.0 * ((x as f32 / 9.0).sin() + (y as f32 / 7.0).cos()) / 2.0;
            Rgb([0, 1, 2].map(|_| (base + 10.0 * rng.normal()).clamp(0.0, 255.0) as u8))
        })
    }

    fn difference(a: &RgbImage, b: &RgbImage) -> f32 {
        assert_eq!(a.dimensions(), b.dimensions());
        let sum: f32 = a.as_raw().iter().zip(b.as_raw()).map(|(p, q)| f32::from(p.abs_diff(*q))).sum();
        sum / a.as_raw().len() as f32
    }

    #[test]
    fn blur_keeps_a_flat_picture_and_spreads_a_point_as_a_gaussian() {
        let flat = RgbImage::from_pixel(17, 9, Rgb([10, 130, 250]));
        assert_eq!(gaussian_blur(&flat, 2.0), flat);
        let mut point = RgbImage::new(31, 31);
        point.put_pixel(15, 15, Rgb([255; 3]));
        let blurred = gaussian_blur(&point, 1.0);
        // 255 / (2 pi) at the centre, exp(-1/2) of that one pixel away.
        assert_eq!(blurred.get_pixel(15, 15).0[0], 41);
        assert_eq!(blurred.get_pixel(16, 15).0[0], 25);
        assert_eq!(blurred.get_pixel(15, 14).0[1], 25);
    }

    #[test]
    fn jpeg_loses_more_at_lower_quality_and_codecs_differ() {
        let picture = textured(64);
        for codec in JpegCodec::ALL {
            let (good, poor) = (jpeg(&picture, codec, 95), jpeg(&picture, codec, 40));
            assert!(difference(&picture, &good) < difference(&picture, &poor), "{codec:?}");
            assert!(difference(&picture, &poor) < 20.0, "{codec:?}");
        }
        assert_ne!(jpeg(&picture, JpegCodec::Full, 80), jpeg(&picture, JpegCodec::Quartered, 80));
    }

    #[test]
    fn chroma_round_trip_keeps_grey_and_averages_colour() {
        let grey = RgbImage::from_fn(15, 7, |x, y| Rgb([(x * 11 + y * 7) as u8; 3]));
        assert!(difference(&grey, &chroma_420(&grey)) <= 1.0);
        let stripes =
            RgbImage::from_fn(
                16,
                16,
                |x, _| if x.is_multiple_of(2) { Rgb([200, 0, 0]) } else { Rgb([0, 0, 200]) },
            );
        let out = chroma_420(&stripes);
        let (a, b) = (out.get_pixel(2, 2).0, out.get_pixel(3, 2).0);
        assert!(a[0].abs_diff(b[0]) < 60, "chroma is shared by neighbours: {a:?} {b:?}");
    }

    #[test]
    fn a_plan_treats_both_of_a_pair_alike_and_draws_what_it_says() {
        let mut rng = Rng::new(5);
        let plans: Vec<Plan> = (0..2000).map(|_| Policy::LIGHT.draw(&mut rng)).collect();
        let share = |f: &dyn Fn(&Plan) -> bool| plans.iter().filter(|p| f(p)).count() as f32 / 2000.0;
        assert!((share(&|p| p.jpeg.is_some()) - 0.6).abs() < 0.05);
        assert!((share(&|p| p.blur.is_some()) - 0.08).abs() < 0.03);
        assert!((share(&|p| p.resize.is_some()) - 0.2).abs() < 0.04);
        let picture = textured(48);
        for plan in plans.iter().take(50) {
            assert_eq!(plan.apply(&picture), plan.apply(&picture));
        }
        assert_eq!(Plan::NONE.apply(&picture), picture);
    }

    #[test]
    fn the_fields_policy_enlarges_and_sharpens_and_a_seed_is_a_noise() {
        let mut rng = Rng::new(6);
        let plans: Vec<Plan> = (0..2000).map(|_| Policy::FIELD.draw(&mut rng)).collect();
        let share = |f: &dyn Fn(&Plan) -> bool| plans.iter().filter(|p| f(p)).count() as f32 / 2000.0;
        assert!((share(&|p| p.resize.is_some_and(|(f, _)| f > 1.0)) - 0.2).abs() < 0.04);
        assert!((share(&|p| p.resize.is_some_and(|(f, _)| f <= 1.0)) - 0.2).abs() < 0.04);
        assert!((share(&|p| p.earlier_jpeg.is_some()) - 0.15).abs() < 0.03);
        let picture = textured(48);
        for plan in plans.iter().take(50) {
            assert_eq!(plan.apply(&picture), plan.apply(&picture));
        }
        let (sharp, soft) = (sharpen(&picture, 1.0), gaussian_blur(&picture, 1.0));
        assert!(difference(&sharp, &soft) > 1.5 * difference(&picture, &soft));
        let grainy = noise(&picture, 3.0, 4);
        assert!(difference(&grainy, &picture) > 1.5 && grainy != noise(&picture, 3.0, 5));
    }
}
