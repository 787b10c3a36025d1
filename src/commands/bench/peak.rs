//! Peak performance of one core: a matrix product that fits the cache, by tract's own kernel for
//! this processor. A convolution that reaches it wastes nothing.

use anyhow::Context as _;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

use spotd::clock::Clock;

/// Side of the matrices: three of them take 768 KiB, and 16.8 million products hide the copying.
const SIDE: usize = 256;

/// Number of runs; the best counts.
const TIMES: usize = 30;

/// Billions of multiply-accumulates per second in f32.
///
/// # Errors
/// tract fails.
pub(super) fn f32_gmacs(clock: &dyn Clock) -> anyhow::Result<f64> {
    let mut model = TypedModel::default();
    let numbers = |seed: u32| -> Vec<f32> {
        (0..SIDE * SIDE).map(|n| ((n as u32).wrapping_mul(seed) >> 16) as f32 / 65_536.0).collect()
    };
    let input = model.add_source("input", f32::fact([SIDE, SIDE]))?;
    let weights = Tensor::from_shape(&[SIDE, SIDE], &numbers(2_654_435_761))?;
    let weights = model.add_const("weights", weights)?;
    let product = EinSum::new("mk,kn->mn".parse()?, f32::datum_type());
    let output = model.wire_node("product", product, &[weights, input])?;
    model.select_output_outlets(&output)?;
    let plan = model.into_optimized()?.into_runnable()?;
    let input: TValue = Tensor::from_shape(&[SIDE, SIDE], &numbers(40_503))?.into();
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        let from = clock.now();
        std::hint::black_box(plan.run(tvec!(input.clone())).context("a product of matrices")?);
        best = best.min((clock.now() - from).as_secs_f64());
    }
    Ok((SIDE * SIDE * SIDE) as f64 / best / 1e9)
}
