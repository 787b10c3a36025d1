//! Activation statistics over the calibration tiles: the values of each tensor, and how far each
//! quantised layer's mean is from that of the float layer.

use std::collections::HashMap;
use std::sync::Mutex;

use tract_onnx::prelude::Tensor;

use super::Progress;
use super::error::QuantizeError;
use super::graph::Graph;
use super::run::Runner;
use super::simplify::Layer;
use super::statistics::Histogram;
use super::write::Recipe;
use crate::threads::side_by_side;

/// Tiles used for the means of bias correction at most.
const BIAS_TILES: usize = 32;

/// The values of the tensors `names` over all tiles.
pub(super) fn histograms(
    graph: &Graph,
    names: &[String],
    tiles: &[Tensor],
    shape: &[usize; 4],
    jobs: usize,
    progress: &dyn Progress,
) -> Result<HashMap<String, Histogram>, QuantizeError> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let runner = Runner::new(graph, shape, names)?;
    let histograms: Vec<Mutex<Histogram>> = names.iter().map(|_| Mutex::default()).collect();
    let count = |tile: &Tensor| -> Result<(), QuantizeError> {
        for ((values, name), histogram) in runner.run(tile)?.iter().zip(names).zip(&histograms) {
            if !histogram.lock().expect("no panic").add(values) {
                let text = format!("value {name} is not finite on a calibration tile");
                return Err(QuantizeError::NotFinite(text));
            }
        }
        progress.step();
        Ok(())
    };
    // Only the first tile determines the width of the bins, so that the order of threads does not
    // matter.
    let Some((first, others)) = tiles.split_first() else { return Ok(HashMap::new()) };
    count(first)?;
    side_by_side(jobs, others.len(), |at| count(&others[at]))?.into_iter().collect::<Result<(), _>>()?;
    let histograms = histograms.into_iter().map(|h| h.into_inner().expect("no panic"));
    Ok(names.iter().cloned().zip(histograms).collect())
}

/// Biases that make each quantised layer's mean equal to that of the float layer, channel by
/// channel (empirical bias correction, Nagel et al., ICCV 2019): clipping and the rounding of
/// weights and inputs all shift it.
pub(super) fn corrected_biases(
    recipe: &Recipe<'_>,
    tiles: &[Tensor],
    shape: &[usize; 4],
    jobs: usize,
    progress: &dyn Progress,
) -> Result<HashMap<String, Vec<f32>>, QuantizeError> {
    let (graph, names) = recipe.write_differences()?;
    let runner = Runner::new(&graph, shape, &names)?;
    let step = tiles.len().div_ceil(BIAS_TILES).max(1);
    let tiles: Vec<&Tensor> = tiles.iter().step_by(step).collect();
    let all = side_by_side(jobs, tiles.len(), |at| {
        let outputs = runner.run(tiles[at]);
        progress.step();
        outputs
    })?
    .into_iter()
    .collect::<Result<Vec<_>, _>>()?;
    let mut biases = HashMap::new();
    for (at, layer) in recipe.scheme.layers.iter().enumerate() {
        let node = recipe.graph.nodes.iter().position(|n| n.name == *layer);
        let Some(mut bias) = node.and_then(|n| Layer::of(recipe.graph, n)).map(|l| l.bias) else { continue };
        for (channel, bias) in bias.iter_mut().enumerate() {
            let sum: f64 = all.iter().map(|outputs| f64::from(outputs[at][channel])).sum();
            *bias += (sum / all.len() as f64) as f32;
        }
        biases.insert(layer.clone(), bias);
    }
    Ok(biases)
}

/// How many of `tiles` are run for bias correction.
pub(super) fn bias_tiles(tiles: usize) -> usize {
    tiles.div_ceil(tiles.div_ceil(BIAS_TILES).max(1))
}

/// Signal-to-noise ratio in dB of each pair of values over the tiles: `float` computes the signals,
/// `quantised` the same with noise.
pub(super) fn signal_to_noise(
    float: &Runner,
    quantised: &Runner,
    tiles: &[Tensor],
) -> Result<Vec<f64>, QuantizeError> {
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for tile in tiles {
        let (signals, noisy) = (float.run(tile)?, quantised.run(tile)?);
        sums.resize(signals.len(), (0.0, 0.0));
        for ((signal, noisy), sums) in signals.iter().zip(&noisy).zip(&mut sums) {
            for (s, n) in signal.iter().zip(noisy) {
                sums.0 += f64::from(*s).powi(2);
                sums.1 += f64::from(s - n).powi(2);
            }
        }
    }
    Ok(sums.into_iter().map(|(signal, noise)| decibels(signal, noise)).collect())
}

/// Without noise the ratio is infinite: 200 dB stands for it.
fn decibels(signal: f64, noise: f64) -> f64 {
    if signal == 0.0 && noise == 0.0 {
        200.0
    } else {
        (10.0 * (signal / noise.max(1e-300)).log10()).clamp(-200.0, 200.0)
    }
}
