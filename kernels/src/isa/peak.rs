//! What a core can do at most: the kernels' own instructions on registers alone.

use std::time::{Duration, Instant};

use super::Isa;
use crate::conv::tiles::Dot;
use crate::error::Result;

/// Steps of one call of a kernel's `burn`.
const STEPS: usize = 4096;

/// Products a second, in units of 10^9, that this core computes with the instructions of `isa` when nothing is
/// loaded or stored: the best of several short runs, a tenth of a second in all. `None` for
/// [`Isa::Portable`].
///
/// # Errors
/// This processor does not have `isa`.
pub fn peak_gmacs(isa: Isa) -> Result<Option<f64>> {
    isa.require()?;
    let Some(kernels) = isa.kernels().first() else { return Ok(None) };
    let (start, mut best) = (Instant::now(), 0.0f64);
    while start.elapsed() < Duration::from_millis(100) {
        let begin = Instant::now();
        let mut macs = 0;
        for _ in 0..16 {
            // SAFETY: the processor has the instruction set.
            macs += unsafe { (kernels.burn)(STEPS) };
        }
        best = best.max(macs as f64 / begin.elapsed().as_secs_f64() / 1e9);
    }
    Ok(Some(best))
}

/// `P` chains of products, `steps` long each; returns the number of products.
///
/// # Safety
/// As [`crate::conv::tiles::Lanes`].
#[inline(always)]
pub(crate) unsafe fn burn<K: Dot, const P: usize>(steps: usize, step: usize) -> u64 {
    let (bias, bytes) = std::hint::black_box(([0i32; 16], [1u8; 64]));
    let at_once = if K::JOINS { 2 } else { 1 };
    // SAFETY: 16 sums and 64 bytes are what the kernel reads.
    unsafe {
        let (weights, mut input) = (K::weights(bytes.as_ptr()), K::input(bytes.as_ptr()));
        let mut sums = [K::start(bias.as_ptr()); P];
        for _ in 0..steps {
            for sum in &mut sums {
                input = K::opaque(input);
                if K::JOINS {
                    let other = input;
                    input = K::opaque(input);
                    *sum = K::join(*sum, [weights; 2], [other, input]);
                } else {
                    *sum = K::dot(*sum, weights, input);
                }
            }
        }
        std::hint::black_box(&sums);
    }
    (steps * P * 16 * step * at_once) as u64
}
