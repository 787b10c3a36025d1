//! Adam (Kingma and Ba, 2015) as computed by `torch.optim.Adam`. tch has one, but without access to
//! its moments, which exact resumption needs.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use tch::{Tensor, nn::VarStore};

const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

/// One weight, its moments, and its name.
struct Slot {
    name: String,
    weight: Tensor,
    first: Tensor,
    second: Tensor,
}

/// The optimiser's state.
pub struct Adam {
    slots: Vec<Slot>,
    /// Steps taken.
    steps: u64,
}

impl Adam {
    /// For the trainable variables of `store`, with zero moments.
    pub fn new(store: &VarStore) -> Adam {
        Adam::of(store.variables())
    }

    /// For those of `weights` that require gradients, with zero moments.
    pub fn of(weights: impl IntoIterator<Item = (String, Tensor)>) -> Adam {
        let mut slots: Vec<Slot> = weights
            .into_iter()
            .filter(|(_, weight)| weight.requires_grad())
            .map(|(name, weight)| Slot {
                name,
                first: weight.detach().zeros_like(),
                second: weight.detach().zeros_like(),
                weight,
            })
            .collect();
        slots.sort_by(|a, b| a.name.cmp(&b.name));
        Adam { slots, steps: 0 }
    }

    /// Clears the gradients.
    pub fn zero_grad(&mut self) {
        for slot in &mut self.slots {
            slot.weight.zero_grad();
        }
    }

    /// One step with learning rate `rate`; a weight without a gradient is unchanged.
    pub fn step(&mut self, rate: f64) {
        self.steps += 1;
        let age = self.steps.min(i32::MAX as u64) as i32;
        let (size, root) = (rate / (1.0 - BETAS.0.powi(age)), (1.0 - BETAS.1.powi(age)).sqrt());
        tch::no_grad(|| {
            for slot in &mut self.slots {
                let gradient = slot.weight.grad();
                if !gradient.defined() {
                    continue;
                }
                let _ = slot.first.lerp_(&gradient, 1.0 - BETAS.0);
                let _ = slot.second.g_mul_scalar_(BETAS.1);
                let _ = slot.second.addcmul_(&gradient, &(&gradient * (1.0 - BETAS.1)));
                let mut below = slot.second.sqrt();
                let _ = below.g_div_scalar_(root);
                let _ = below.g_add_scalar_(EPSILON);
                let _ = slot.weight.addcdiv_(&(&slot.first * -size), &below);
            }
        });
    }

    /// The moments by name, for a checkpoint.
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        let both = |slot: &Slot| {
            [
                (format!("first.{}", slot.name), slot.first.shallow_clone()),
                (format!("second.{}", slot.name), slot.second.shallow_clone()),
            ]
        };
        self.slots.iter().flat_map(both).collect()
    }

    /// Restores moments, as named by [`Adam::moments`], after `steps` steps.
    ///
    /// # Errors
    /// One is missing, or has a different shape.
    pub fn restore(&mut self, from: &HashMap<String, Tensor>, steps: u64) -> Result<()> {
        for slot in &mut self.slots {
            for (part, to) in [("first", &mut slot.first), ("second", &mut slot.second)] {
                let name = format!("{part}.{}", slot.name);
                let tensor = from
                    .get(&name)
                    .filter(|tensor| tensor.size() == to.size())
                    .with_context(|| format!("no {name} of size {:?}", to.size()))?;
                to.f_copy_(tensor)?;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, nn, nn::OptimizerConfig as _};

    #[test]
    fn steps_as_libtorchs_own() {
        tch::manual_seed(5);
        let make = || {
            let store = VarStore::new(Device::Cpu);
            let weight = store.root().zeros("weight", &[3, 4]);
            (store, weight)
        };
        let ((ours, w), (theirs, v)) = (make(), make());
        let (mut adam, mut reference) = (Adam::new(&ours), nn::Adam::default().build(&theirs, 0.1).unwrap());
        let goal = Tensor::randn([3, 4], (Kind::Float, Device::Cpu));
        for step in 0..50 {
            let rate = 0.1 / f64::from(1 + step / 20);
            let loss = |w: &Tensor| ((w - &goal) * (w - &goal) * (w - &goal).cos()).sum(Kind::Float);
            adam.zero_grad();
            loss(&w).backward();
            adam.step(rate);
            reference.set_lr(rate);
            reference.backward_step(&loss(&v));
        }
        assert!((&w - &v).abs().max().double_value(&[]) < 1e-5, "{w} {v}");
        assert!(w.abs().max().double_value(&[]) > 0.1, "it moves");
    }
}
