//! Radial power spectra of batches, and the filter that gives a real picture and its resynthesis
//! the same one, so that only structure distinguishes them.

use spotd::forensics::rng::Rng;
use tch::{Device, Kind, Tensor};

/// Largest gain of the filter: beyond it only noise would be amplified.
const MOST_GAIN: f64 = 6.0;

/// The radius of each frequency of a real 2-D transform, for square pictures of one size.
pub struct Rings {
    index: Tensor,
    count: Tensor,
    rings: i64,
    side: i64,
}

impl Rings {
    /// For pictures of `side` pixels.
    pub fn new(side: i64, device: Device) -> Rings {
        let half = side / 2 + 1;
        let radius = |row: i64, column: i64| {
            let row = row.min(side - row) as f64;
            (row.hypot(column as f64)).round() as i64
        };
        let index: Vec<i64> = (0..side).flat_map(|v| (0..half).map(move |u| radius(v, u))).collect();
        let rings = index.iter().max().expect("side is positive") + 1;
        let index = Tensor::from_slice(&index).to_device(device);
        let count = Tensor::zeros([rings], (Kind::Float, device)).index_add(
            0,
            &index,
            &index.ones_like().to_kind(Kind::Float),
        );
        Rings { index, count, rings, side }
    }

    /// Mean power at each radius of the grey picture: `[N, 3, side, side]` in 0..1 to `[N, rings]`.
    pub fn power(&self, x: &Tensor) -> Tensor {
        let grey = x.to_kind(Kind::Float).mean_dim(1, false, None);
        let transform = grey.fft_rfft2(None::<&[i64]>, [-2i64, -1].as_slice(), "ortho");
        let transform = transform.view_as_real();
        let power = (&transform * &transform).sum_dim_intlist(-1, false, None).flatten(1, 2);
        let sums = Tensor::zeros([power.size()[0], self.rings], (Kind::Float, x.device())).index_add(
            1,
            &self.index,
            &power,
        );
        sums / &self.count + 1e-9
    }

    /// Scales each radius of `x` by `gain` `[N, rings]`.
    fn filter(&self, x: &Tensor, gain: &Tensor) -> Tensor {
        let transform = x.fft_rfft2(None::<&[i64]>, [-2i64, -1].as_slice(), "ortho");
        let gain = gain.index_select(1, &self.index).reshape([-1, 1, self.side, self.side / 2 + 1]);
        (transform * gain).fft_irfft2([self.side, self.side].as_slice(), [-2i64, -1].as_slice(), "ortho")
    }

    /// Filters `real` and `fake` to a common spectrum between theirs, `real^(1-u) fake^u`, `u`
    /// drawn as U^1.5 for each pair (mostly near the photograph's).
    pub fn equalise(&self, real: &Tensor, fake: &Tensor, rng: &mut Rng) -> (Tensor, Tensor) {
        let shares: Vec<f32> = (0..real.size()[0]).map(|_| rng.unit().powf(1.5)).collect();
        let u = Tensor::from_slice(&shares).to_device(real.device()).unsqueeze(1);
        let (log_real, log_fake) = (self.power(real).log(), self.power(fake).log());
        let target = &log_real * (1.0 - &u) + &log_fake * &u;
        let gain = |own: &Tensor| ((&target - own) * 0.5).exp().clamp(1.0 / MOST_GAIN, MOST_GAIN);
        (self.filter(real, &gain(&log_real)), self.filter(fake, &gain(&log_fake)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equalised_pairs_have_one_spectrum_and_keep_their_mean() {
        tch::manual_seed(1);
        let real = Tensor::rand([3, 3, 32, 32], (Kind::Float, Device::Cpu)) * 0.5 + 0.2;
        let fake = real.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>);
        let rings = Rings::new(32, Device::Cpu);
        let apart = |a: &Tensor, b: &Tensor| {
            f64::try_from((rings.power(a).log() - rings.power(b).log()).abs().mean(Kind::Float)).unwrap()
        };
        let (a, b) = rings.equalise(&real, &fake, &mut Rng::new(1));
        assert!(apart(&real, &fake) > 0.5);
        assert!(apart(&a, &b) < 0.1 * apart(&real, &fake), "{} {}", apart(&a, &b), apart(&real, &fake));
        assert!(f64::try_from((a.mean(Kind::Float) - real.mean(Kind::Float)).abs()).unwrap() < 0.05);
    }
}
