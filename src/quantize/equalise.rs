//! Cross-layer equalisation (Nagel et al., *Data-free quantization through weight equalization and
//! bias correction*, ICCV 2019): behind `Conv, Relu` a channel can be scaled down and scaled up
//! again in the next convolution without changing the answer, so that no channel wastes the range
//! of the others.

use super::graph::Graph;
use super::simplify::Layer;

/// Passes over the graph; pairs overlap, so one pass does not settle.
const PASSES: usize = 4;

/// Equalises every pair of layers with nothing but a ReLU in between; returns the number of pairs.
pub(super) fn equalise(graph: &mut Graph) -> usize {
    let pairs: Vec<(usize, usize)> =
        (0..graph.nodes.len()).filter_map(|at| Some((at, follower(graph, at)?))).collect();
    for _ in 0..PASSES {
        for (first, second) in &pairs {
            equalise_pair(graph, *first, *second);
        }
    }
    pairs.len()
}

/// The convolution that is the only reader of another's output, directly or through a ReLU.
fn follower(graph: &Graph, at: usize) -> Option<usize> {
    let conv = |at: usize| graph.nodes[at].op_type == "Conv" && Layer::of(graph, at).is_some();
    if !conv(at) {
        return None;
    }
    let mut next = graph.only_consumer(&graph.nodes[at].output[0])?;
    if graph.nodes[next].op_type == "Relu" {
        next = graph.only_consumer(&graph.nodes[next].output[0])?;
    }
    (conv(next) && graph.nodes[next].input[1..].iter().all(|i| graph.constants.contains_key(i)))
        .then_some(next)
}

fn equalise_pair(graph: &mut Graph, first: usize, second: usize) {
    let groups = graph.nodes[second].get_attr_opt::<i64>("group").ok().flatten().unwrap_or(1).max(1) as usize;
    let (Some(mut a), Some(mut b)) = (Layer::of(graph, first), Layer::of(graph, second)) else { return };
    let channels = a.weights.dims[0];
    let (outputs, depth) = (b.weights.dims[0], b.weights.dims[1]);
    if channels != groups * depth {
        return;
    }
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |m, v| m.max(v.abs()));
    let volume = b.weights.data.len() / outputs / depth;
    for channel in 0..channels {
        let (group, inner) = (channel / depth, channel % depth);
        let of_group = outputs / groups;
        let places: Vec<usize> = (group * of_group..(group + 1) * of_group)
            .flat_map(|o| {
                let start = (o * depth + inner) * volume;
                start..start + volume
            })
            .collect();
        let out = largest(&mut a.of_output(channel).iter().copied());
        let into = largest(&mut places.iter().map(|p| b.weights.data[*p]));
        if out <= 0.0 || into <= 0.0 {
            continue;
        }
        let scale = (out / into).sqrt();
        if !(1e-4..=1e4).contains(&scale) {
            continue;
        }
        a.of_output(channel).iter_mut().for_each(|w| *w /= scale);
        a.bias[channel] /= scale;
        places.iter().for_each(|p| b.weights.data[*p] *= scale);
    }
    a.store(graph, first);
    b.store(graph, second);
}
