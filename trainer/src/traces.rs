//! Upsamplers without training: random ones, a new one for every batch.
//!
//! A generator's last layers double the size by kernels whose four phases never quite agree, which
//! leaves a lattice in the picture (Odena et al., 2016; Zhang et al., 2019, simulate it the same
//! way). Here the phases are drawn at random about a bilinear kernel. The detail that the halving
//! took can be put back, so that sharpness tells nothing and the lattice is all that differs.

use spotd::forensics::rng::Rng;
use tch::{Kind, Tensor};

/// Redraws `x` `[N, 3, S, S]` in 0..1 through one to three halvings and as many random doublings. S
/// is a multiple of 8.
pub fn redraw(x: &Tensor, rng: &mut Rng) -> Tensor {
    tch::no_grad(|| {
        let depth = 1 + rng.below(3);
        let mut small = x.shallow_clone();
        for _ in 0..depth {
            small = halve(&small);
        }
        let detail = if rng.chance(0.6) { f64::from(rng.range(0.3, 1.0)) } else { 0.0 };
        // From barely to plainly visible. Without the detail put back, the barely visible would be
        // a plain enlargement, which must not be called synthetic.
        let least = if detail > 0.0 { 0.012f32 } else { 0.04 };
        let strength = f64::from(least * (0.25 / least).powf(rng.unit()));
        let overlap = rng.chance(0.7);
        let (mut rough, mut smooth) = (small.shallow_clone(), small);
        for _ in 0..depth {
            rough = double(&rough, &kernel(strength, overlap, x));
            smooth = double(&smooth, &kernel(0.0, true, x));
        }
        (rough + (x - smooth) * detail).clamp(0.0, 1.0)
    })
}

fn halve(x: &Tensor) -> Tensor {
    x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)
}

/// A depthwise kernel `[3, 1, 4, 4]` for doubling: bilinear (or nearest, without `overlap`) times
/// one plus noise; mostly the same for the three colours.
fn kernel(strength: f64, overlap: bool, like: &Tensor) -> Tensor {
    let row: [f32; 4] = if overlap { [0.25, 0.75, 0.75, 0.25] } else { [0.0, 1.0, 1.0, 0.0] };
    let row = Tensor::from_slice(&row).to_device(like.device());
    let base = row.outer(&row).reshape([1, 1, 4, 4]);
    let options = (Kind::Float, like.device());
    let noise = Tensor::randn([1, 1, 4, 4], options) + Tensor::randn([3, 1, 4, 4], options) * 0.3;
    // Multiplied and added: taps that a plain kernel lacks are there in a learned one.
    &base * (&noise * strength + 1.0) + noise * (0.15 * strength)
}

fn double(x: &Tensor, kernel: &Tensor) -> Tensor {
    x.replication_pad2d([1, 1, 1, 1]).conv_transpose2d(
        kernel,
        None::<&Tensor>,
        [2, 2],
        [3, 3],
        [0, 0],
        3,
        [1, 1],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_doubling_without_noise_keeps_flat_areas_and_with_noise_leaves_a_lattice() {
        tch::manual_seed(2);
        let flat = Tensor::ones([1, 3, 16, 16], (Kind::Float, Device::Cpu)) * 0.5;
        let spread = |strength| {
            let out = double(&flat, &kernel(strength, true, &flat));
            assert_eq!(out.size(), [1, 3, 32, 32]);
            f64::try_from(out.std(false)).unwrap()
        };
        assert!(spread(0.0) < 1e-6);
        assert!(spread(0.1) > 1e-3);
    }

    #[test]
    fn a_redrawn_picture_is_close_to_its_own() {
        tch::manual_seed(3);
        let ramp = Tensor::linspace(0.2, 0.8, 48, (Kind::Float, Device::Cpu)).reshape([1, 1, 1, 48]);
        let x = ramp.expand([2, 3, 48, 48], false).contiguous();
        let mut rng = Rng::new(1);
        for _ in 0..10 {
            let y = redraw(&x, &mut rng);
            assert_eq!(y.size(), x.size());
            let apart = f64::try_from((&y - &x).abs().mean(Kind::Float)).unwrap();
            assert!(apart > 1e-5 && apart < 0.2, "{apart}");
        }
    }
}
