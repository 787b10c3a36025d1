//! Peak performance of a core: the kernels' own instructions, on registers only.

use std::time::{Duration, Instant};

use super::Isa;
use crate::error::Result;

/// Steps of one call of a kernel's `burn`.
const STEPS: usize = 4096;

/// Billions of MACs per second that this core computes with the instructions of `isa` when nothing
/// is loaded or stored: the best of several short runs, a tenth of a second in total. `None` for
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
