//! Rounds weights so that the layer's outputs change least, rather than the weights: with inputs
//! `x` the squared error of a sum is `d^T H d`, where `d` is the change of the weights and `H` the
//! mean of `x x^T` over the layer's inputs. Neighbouring pixels are alike, so plain rounding ruins
//! a filter that must not respond to their mean (a high pass): its weights no longer sum to zero.
//! (Nagel et al., *Up or Down? Adaptive Rounding for Post-Training Quantization*, ICML 2020, has
//! the same objective; here it is minimised by coordinate descent, changing one weight, or two at
//! once, by a step.)

use std::collections::HashMap;

use tract_onnx::prelude::Tensor;

use super::Progress;
use super::error::QuantizeError;
use super::graph::Graph;
use super::run::{Runner, Value};
use super::scheme::Scheme;
use super::simplify::Layer;
use super::weights::{Bytes, quantise};
use crate::forensics::rng::Rng;
use crate::threads::side_by_side;

/// Longest sum for which this is done; its matrix has the square of that many entries.
const LONGEST: usize = 1200;

/// Multiplications for the matrices of one layer at most; fewer positions are sampled where it
/// would be more.
const BUDGET: usize = 3_000_000_000;

/// Positions sampled per layer at most, over all tiles.
const POSITIONS: usize = 8192;

/// Tiles that are sampled.
const TILES: usize = 32;

/// Sweeps over a channel's weights at most.
const SWEEPS: usize = 12;

/// A layer's geometry.
#[derive(Debug, Clone)]
struct Window {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    before: Vec<usize>,
    groups: usize,
    /// Input channels of a group.
    depth: usize,
    outputs: usize,
}

/// `mean(x x^T)`, row by row.
struct Second {
    n: usize,
    sums: Vec<f32>,
}

impl Second {
    fn add(&mut self, patch: &[f32]) {
        for (row, x) in self.sums.chunks_exact_mut(self.n).zip(patch) {
            if *x != 0.0 {
                for (sum, y) in row.iter_mut().zip(patch) {
                    *sum += x * y;
                }
            }
        }
    }

    /// Divides by the number of positions, and regularises the diagonal.
    fn finish(&mut self, positions: usize) {
        let share = 1.0 / positions.max(1) as f32;
        self.sums.iter_mut().for_each(|s| *s *= share);
        let mean = (0..self.n).map(|at| self.sums[at * self.n + at]).sum::<f32>() / self.n as f32;
        for at in 0..self.n {
            self.sums[at * self.n + at] += 1e-3 * mean + f32::MIN_POSITIVE;
        }
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.sums[at * self.n..(at + 1) * self.n]
    }
}

/// The weights of every layer whose sums are short enough, rounded this way; none is larger than
/// `most` steps.
///
/// # Errors
/// tract cannot run the graph.
pub(super) fn rounded_weights(
    graph: &Graph,
    scheme: &Scheme,
    tiles: &[Tensor],
    shape: &[usize; 4],
    most: f32,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<HashMap<String, Bytes>, QuantizeError> {
    let layers: Vec<(usize, Window, Layer)> = scheme
        .layers
        .iter()
        .filter_map(|name| {
            let at = graph.nodes.iter().position(|n| n.name == *name)?;
            let layer = Layer::of(graph, at)?;
            let window = window(graph, at, &layer)?;
            Some((at, window, layer))
        })
        .collect();
    progress.begin("rounding", layers.len());
    let mut inputs: Vec<String> = layers.iter().map(|(at, ..)| graph.nodes[*at].input[0].clone()).collect();
    inputs.sort();
    inputs.dedup();
    // The graph's own input cannot be one of its outputs.
    inputs.retain(|name| *name != graph.input);
    let step = tiles.len().div_ceil(TILES).max(1);
    let tiles: Vec<&Tensor> = tiles.iter().step_by(step).collect();
    let runner = if inputs.is_empty() { None } else { Some(Runner::new(graph, shape, &inputs)?) };
    let values: Vec<HashMap<&str, Value>> = side_by_side(jobs, tiles.len(), |at| {
        let mut values = HashMap::new();
        if let Some(runner) = &runner {
            for (name, value) in inputs.iter().zip(runner.run_with_shapes(tiles[at])?) {
                values.insert(name.as_str(), value);
            }
        }
        let pixels = tiles[at].to_plain_array_view::<f32>()?.iter().copied().collect();
        values.insert(graph.input.as_str(), (tiles[at].shape().to_vec(), pixels));
        Ok::<_, QuantizeError>(values)
    })?
    .into_iter()
    .collect::<Result<_, _>>()?;
    let rounded = side_by_side(jobs, layers.len(), |at| {
        let (node, window, layer) = &layers[at];
        let node = &graph.nodes[*node];
        let seen = values.iter().map(|v| &v[node.input[0].as_str()]);
        let bytes = round_layer(window, layer, seen, most, at as u64);
        progress.step();
        (node.name.clone(), bytes)
    })?;
    Ok(rounded.into_iter().collect())
}

/// `None` if the sum is too long or the layer has an unsupported form.
fn window(graph: &Graph, at: usize, layer: &Layer) -> Option<Window> {
    let node = &graph.nodes[at];
    let outputs = layer.weights.dims[0];
    let volume = layer.weights.data.len() / outputs;
    if volume > LONGEST {
        return None;
    }
    if node.op_type == "Gemm" {
        let ones = || vec![1, 1];
        return Some(Window {
            kernel: ones(),
            strides: ones(),
            before: vec![0, 0],
            groups: 1,
            depth: layer.weights.dims[1],
            outputs,
        });
    }
    let list = |name: &str, or: Vec<usize>| -> Option<Vec<usize>> {
        Some(node.get_attr_opt_vec::<i64>(name).ok()?.map_or(or, |v| v.iter().map(|v| *v as usize).collect()))
    };
    let [_, depth, rows, columns] = layer.weights.dims[..] else { return None };
    let auto = node.get_attr_opt::<String>("auto_pad").ok()?.unwrap_or_default();
    let dilated = list("dilations", vec![1, 1])? != [1, 1];
    if dilated || !matches!(auto.as_str(), "" | "NOTSET" | "VALID") {
        return None;
    }
    let groups = node.get_attr_opt::<i64>("group").ok()?.unwrap_or(1).max(1) as usize;
    let before = list("pads", vec![0; 4])?.get(..2)?.to_vec();
    Some(Window {
        kernel: vec![rows, columns],
        strides: list("strides", vec![1, 1])?,
        before,
        groups,
        depth,
        outputs,
    })
}

fn round_layer<'a>(
    window: &Window,
    layer: &Layer,
    values: impl Iterator<Item = &'a Value>,
    limit: f32,
    seed: u64,
) -> Bytes {
    let volume = window.depth * window.kernel[0] * window.kernel[1];
    let values: Vec<&Value> = values.collect();
    let most = (BUDGET / (volume * volume * window.groups)).clamp(64, POSITIONS);
    let each = most.div_ceil(values.len().max(1));
    let mut seconds: Vec<Second> =
        (0..window.groups).map(|_| Second { n: volume, sums: vec![0.0; volume * volume] }).collect();
    let mut rng = Rng::new(seed);
    let mut patch = vec![0.0; volume];
    let mut positions = 0;
    for (dims, data) in values {
        let size = |axis: usize| dims.get(axis).copied().unwrap_or(1);
        let (rows, columns) = (size(2), size(3));
        let outputs = [0, 1].map(|a| [rows, columns][a].div_ceil(window.strides[a]));
        let count = each.min(outputs[0] * outputs[1]);
        for _ in 0..count {
            let place = [0, 1].map(|a| rng.below(outputs[a]) * window.strides[a]);
            for (group, second) in seconds.iter_mut().enumerate() {
                let mut at = 0;
                for channel in 0..window.depth {
                    let plane = (group * window.depth + channel) * rows * columns;
                    for y in 0..window.kernel[0] {
                        for x in 0..window.kernel[1] {
                            // Positions above and to the left of the picture wrap to something
                            // large.
                            let row = (place[0] + y).wrapping_sub(window.before[0]);
                            let column = (place[1] + x).wrapping_sub(window.before[1]);
                            let inside = row < rows && column < columns;
                            patch[at] = if inside { data[plane + row * columns + column] } else { 0.0 };
                            at += 1;
                        }
                    }
                }
                second.add(&patch);
            }
            positions += 1;
        }
    }
    seconds.iter_mut().for_each(|s| s.finish(positions));
    let outputs = window.outputs;
    let mut bytes = quantise(&layer.weights.data, outputs, &vec![0.0; outputs], 1.0, limit);
    let of_group = outputs / window.groups;
    for output in 0..outputs {
        let range = output * volume..(output + 1) * volume;
        descend(
            &seconds[output / of_group],
            &layer.weights.data[range.clone()],
            bytes.scales[output],
            limit,
            &mut bytes.weights[range],
        );
    }
    bytes
}

/// Changes bytes by one step as long as the error falls: one at a time, and then two at once.
fn descend(second: &Second, weights: &[f32], scale: f32, limit: f32, bytes: &mut [i8]) {
    let n = weights.len();
    // In steps of the scale: the change of each weight, and H times it.
    let mut change: Vec<f32> =
        weights.iter().zip(bytes.iter()).map(|(w, b)| f32::from(*b) - w / scale).collect();
    let mut slope = vec![0f32; n];
    for (at, c) in change.iter().enumerate() {
        for (s, h) in slope.iter_mut().zip(second.row(at)) {
            *s += c * h;
        }
    }
    // A weight stays within one step of its original value.
    let may = |change: f32, byte: i8, by: f32| {
        (change + by).abs() < 1.0 && (-limit..=limit).contains(&(f32::from(byte) + by))
    };
    let apply = |at: usize, by: f32, change: &mut [f32], slope: &mut [f32], bytes: &mut [i8]| {
        change[at] += by;
        bytes[at] += by as i8;
        for (s, h) in slope.iter_mut().zip(second.row(at)) {
            *s += by * h;
        }
    };
    for _ in 0..SWEEPS {
        let mut moved = false;
        for at in 0..n {
            let gain = |by: f32| 2.0 * by * slope[at] + second.row(at)[at];
            let by = if slope[at] > 0.0 { -1.0 } else { 1.0 };
            if may(change[at], bytes[at], by) && gain(by) < 0.0 {
                apply(at, by, &mut change, &mut slope, bytes);
                moved = true;
            }
        }
        for at in 0..n {
            let row = second.row(at);
            let mut best = (0.0, 0, 0.0, 0.0);
            for by in [-1.0f32, 1.0] {
                if !may(change[at], bytes[at], by) {
                    continue;
                }
                let alone = 2.0 * by * slope[at] + row[at];
                for other in (0..n).filter(|o| *o != at) {
                    // In the opposite direction, which preserves the sum.
                    let both = alone - 2.0 * by * slope[other] + second.row(other)[other] - 2.0 * row[other];
                    if both < best.0 && may(change[other], bytes[other], -by) {
                        best = (both, other, by, -by);
                    }
                }
            }
            if best.0 < 0.0 {
                apply(at, best.2, &mut change, &mut slope, bytes);
                apply(best.1, best.3, &mut change, &mut slope, bytes);
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::weights::MOST;
    use super::*;
    use crate::forensics::rng::Rng;

    fn error(second: &Second, weights: &[f32], scale: f32, bytes: &[i8]) -> f32 {
        let d: Vec<f32> = weights.iter().zip(bytes).map(|(w, b)| f32::from(*b) * scale - w).collect();
        (0..d.len()).map(|i| d[i] * second.row(i).iter().zip(&d).map(|(h, d)| h * d).sum::<f32>()).sum()
    }

    proptest! {
        #[test]
        fn the_error_falls_and_a_high_pass_stays_one(seed in 0u64..500) {
            let mut rng = Rng::new(seed);
            let n = 9;
            // Patches of pixels that are nearly alike.
            let mut second = Second { n, sums: vec![0.0; n * n] };
            for _ in 0..400 {
                let level = rng.range(-0.5, 0.5);
                let patch: Vec<f32> = (0..n).map(|_| level + 0.01 * rng.normal()).collect();
                second.add(&patch);
            }
            second.finish(400);
            let mut weights: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
            let mean = weights.iter().sum::<f32>() / n as f32;
            weights.iter_mut().for_each(|w| *w -= mean);
            let plain = quantise(&weights, 1, &[0.0], 1.0, MOST);
            let mut bytes = plain.weights.clone();
            descend(&second, &weights, plain.scales[0], MOST, &mut bytes);
            let (before, after) =
                (error(&second, &weights, plain.scales[0], &plain.weights), error(&second, &weights, plain.scales[0], &bytes));
            prop_assert!(after <= before * 1.001 + 1e-9, "{before} {after}");
            let sum: i32 = bytes.iter().map(|b| i32::from(*b)).sum();
            // Clipped weights lose their part of the sum.
            let clipped = bytes.iter().any(|b| b.abs() == 127);
            prop_assert!(sum == 0 || clipped && sum.abs() <= 40, "{sum}: {bytes:?}");
        }
    }
}
