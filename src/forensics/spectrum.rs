//! Mean log spectra of high-pass filtered pictures, as in section 5 of *CNN-generated images are
//! surprisingly easy to spot... for now* (Wang et al., CVPR 2020): a picture minus its
//! median-filtered self, Fourier transform, mean over a set. Upsampling leaves a grid of bright
//! points and lines there.

use std::sync::Arc;

use image::RgbImage;
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// Added to a magnitude before its logarithm, because that of a flat picture is 0.
const FLOOR: f32 = 1e-6;

/// The transform for square pictures of one side.
pub struct Transform {
    side: usize,
    median: usize,
    fft: Arc<dyn Fft<f32>>,
}

impl Transform {
    /// For pictures of `side` x `side` pixels (2 or more) and a median over `median` x `median`
    /// (odd).
    ///
    /// # Panics
    /// If `side` is below 2 or `median` is even.
    pub fn new(side: usize, median: usize) -> Self {
        assert!(side >= 2, "a spectrum needs at least 2x2 pixels");
        assert!(median % 2 == 1, "a median needs a middle");
        Self { side, median, fft: FftPlanner::new().plan_fft_forward(side) }
    }

    /// Log10 of the magnitude of the orthonormal transform of the high-pass filtered grey values
    /// (0..1) of `picture` (`side` x `side`); row by row, frequency zero in the middle, at
    /// `side / 2`.
    ///
    /// # Panics
    /// If the picture has another size.
    pub fn log_magnitude(&self, picture: &RgbImage) -> Vec<f32> {
        let side = self.side;
        assert_eq!(picture.dimensions(), (side as u32, side as u32), "the size that was planned for");
        let grey: Vec<f32> = picture
            .as_raw()
            .chunks_exact(3)
            .map(|p| (0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])) / 255.0)
            .collect();
        let smooth = median_filter(&grey, side, self.median);
        let mut rows: Vec<Complex<f32>> =
            grey.iter().zip(&smooth).map(|(g, s)| Complex::new(g - s, 0.0)).collect();
        // Rows, transpose, rows again: the result is transposed once more while it is read.
        self.fft.process(&mut rows);
        let mut columns = transposed(&rows, side);
        self.fft.process(&mut columns);
        let half = side / 2;
        let scale = 1.0 / side as f32;
        let mut out = vec![0.0; side * side];
        for v in 0..side {
            for u in 0..side {
                let at = ((v + half) % side) * side + (u + half) % side;
                out[at] = (columns[u * side + v].norm() * scale + FLOOR).log10();
            }
        }
        out
    }
}

fn transposed(values: &[Complex<f32>], side: usize) -> Vec<Complex<f32>> {
    (0..side * side).map(|at| values[(at % side) * side + at / side]).collect()
}

/// Median over a `size` x `size` neighbourhood of each of the `side` x `side` values, edges
/// repeated.
fn median_filter(values: &[f32], side: usize, size: usize) -> Vec<f32> {
    let reach = (size / 2) as isize;
    let clamp = |at: isize| at.clamp(0, side as isize - 1) as usize;
    let mut near = Vec::with_capacity(size * size);
    let mut out = Vec::with_capacity(values.len());
    for y in 0..side as isize {
        for x in 0..side as isize {
            near.clear();
            for v in y - reach..=y + reach {
                let row = clamp(v) * side;
                near.extend((x - reach..=x + reach).map(|u| values[row + clamp(u)]));
            }
            let middle = near.len() / 2;
            out.push(*near.select_nth_unstable_by(middle, f32::total_cmp).1);
        }
    }
    out
}

/// Mean of log spectra.
#[derive(Clone)]
pub struct MeanSpectrum {
    sum: Vec<f64>,
    /// Pictures in it.
    pub pictures: usize,
    side: usize,
}

impl MeanSpectrum {
    /// A mean of no pictures yet.
    pub fn new(side: usize) -> Self {
        Self { sum: vec![0.0; side * side], pictures: 0, side }
    }

    /// Adds one picture's log magnitudes.
    pub fn add(&mut self, log_magnitude: &[f32]) {
        self.sum.iter_mut().zip(log_magnitude).for_each(|(s, l)| *s += f64::from(*l));
        self.pictures += 1;
    }

    /// Adds the pictures of another one.
    pub fn merge(&mut self, other: &MeanSpectrum) {
        self.sum.iter_mut().zip(&other.sum).for_each(|(s, o)| *s += o);
        self.pictures += other.pictures;
    }

    /// The mean, row by row, frequency zero in the middle; NaN without pictures.
    pub fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|s| s / self.pictures as f64).collect()
    }

    /// Mean over each ring of frequencies with a width of 1/`side` cycles per pixel, as (cycles per
    /// pixel, mean of log10 magnitude), from 0 to 0.5, beyond which a ring is no longer complete.
    pub fn profile(&self) -> Vec<(f64, f64)> {
        let (side, half) = (self.side, self.side / 2);
        let mut rings = vec![(0.0, 0u32); half + 1];
        for (at, value) in self.mean().into_iter().enumerate() {
            let (x, y) = ((at % side).abs_diff(half) as f64, (at / side).abs_diff(half) as f64);
            if let Some((sum, count)) = rings.get_mut(x.hypot(y).round() as usize) {
                *sum += value;
                *count += 1;
            }
        }
        let frequency = |ring: usize| ring as f64 / side as f64;
        rings.iter().enumerate().map(|(ring, (sum, n))| (frequency(ring), sum / f64::from(*n))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forensics::rng::Rng;
    use image::Rgb;

    #[test]
    fn a_checkerboard_is_one_point_at_the_highest_frequency() {
        let picture = RgbImage::from_fn(32, 32, |x, y| Rgb([if (x + y) % 2 == 0 { 140 } else { 100 }; 3]));
        // With a 1x1 median nothing would be left (the picture minus itself); with 3x3 the
        // checkerboard is.
        let spectrum = Transform::new(32, 3).log_magnitude(&picture);
        let brightest =
            spectrum.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| (at % 32, at / 32));
        assert_eq!(brightest, Some((0, 0)), "half a cycle a pixel both ways lies in the corner");
        assert!(Transform::new(32, 1).log_magnitude(&picture).iter().all(|l| *l == FLOOR.log10()));
    }

    #[test]
    fn a_wave_along_x_lies_on_the_horizontal_axis_at_its_frequency() {
        let wave = |x: u32| 128.0 + 50.0 * (std::f32::consts::TAU * x as f32 * 12.0 / 48.0).cos();
        let picture = RgbImage::from_fn(48, 48, |x, _| Rgb([wave(x) as u8; 3]));
        let mut mean = MeanSpectrum::new(48);
        mean.add(&Transform::new(48, 3).log_magnitude(&picture));
        let values = mean.mean();
        let at = |x: usize, y: usize| values[y * 48 + x];
        // Replicated edges distort the median in one column, which leaks a little along the axis
        // but not across.
        assert!(at(24 + 12, 24) > at(24 + 11, 24) + 1.0 && at(24 - 12, 24) > at(24, 24 + 12) + 2.0);
        let profile = mean.profile();
        assert_eq!(profile[12].0, 0.25);
        assert!(profile[12].1 > profile[11].1 && profile[12].1 > profile[13].1);
        assert_eq!(profile.last().map(|p| p.0), Some(0.5));
    }

    #[test]
    fn white_noise_is_flat_and_of_the_magnitude_of_its_deviation() {
        let mut rng = Rng::new(4);
        let mut mean = MeanSpectrum::new(64);
        let mut other = mean.clone();
        let transform = Transform::new(64, 3);
        for at in 0..12 {
            let picture = RgbImage::from_fn(64, 64, |_, _| {
                Rgb([(128.0 + 20.0 * rng.normal()).clamp(0.0, 255.0) as u8; 3])
            });
            (if at % 2 == 0 { &mut mean } else { &mut other }).add(&transform.log_magnitude(&picture));
        }
        mean.merge(&other);
        assert_eq!(mean.pictures, 12);
        // The median removes about a seventh of the power, most of it at low frequencies.
        let profile = mean.profile();
        let high: f64 = profile[20..].iter().map(|p| p.1).sum::<f64>() / (profile.len() - 20) as f64;
        // The mean log10 of a Rayleigh magnitude is 0.125 below the log of its root mean square.
        let wanted = (20.0f64 / 255.0).log10() - 0.125;
        assert!((high - wanted).abs() < 0.1, "{high} {wanted}");
        assert!(profile[1].1 < high, "low frequencies are taken away: {profile:?}");
    }

    #[test]
    fn the_median_drops_a_point_and_keeps_an_edge() {
        let mut values = vec![0.0; 49];
        values[3 * 7 + 3] = 1.0;
        assert!(median_filter(&values, 7, 3).iter().all(|v| *v == 0.0));
        let edge: Vec<f32> = (0..49).map(|at| if at % 7 < 3 { 0.0 } else { 1.0 }).collect();
        assert_eq!(median_filter(&edge, 7, 3), edge);
    }
}
