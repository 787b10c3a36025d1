//! The graph's input: pixels as integer steps of 1/255, and normalisation folded into the first
//! convolution.

use super::error::QuantizeError;
use super::graph::{Floats, Graph};
use super::proto;
use super::simplify::{Affine, Layer, input_affine};

/// How the pixels are quantised. A value is `(q - zero) / 255`, where `q` is the pixel, 0..255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pixels {
    /// The pixel that padding stands for.
    pub zero: u8,
}

/// What became of the normalisation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Normalisation {
    /// Whether it was folded into the first convolution, which may still be kept in float;
    /// otherwise there is none, or it stays in float.
    pub folded: bool,
    /// Largest difference, in levels of 0..255, between the pixel value that padding stood for and
    /// the one that it stands for now; 0: exact.
    pub padding_error: f32,
}

/// Node that subtracts the offset of the pixels.
pub(super) const OFFSET: &str = "pixels.offset";

/// Folds the normalisation into the first convolution, so that the graph begins with pixels; where
/// padding stands for a value other than 0, that value becomes the zero point. With `signed` pixels
/// must fit -128..127.
///
/// `None`: the first layer cannot take unnormalised pixels.
///
/// # Errors
/// An attribute has a type other than ONNX specifies.
pub(super) fn fold(
    graph: &mut Graph,
    signed: bool,
) -> Result<(Option<Pixels>, Normalisation), QuantizeError> {
    let kept = (None, Normalisation::default());
    let (affine, nodes) = input_affine(graph).unwrap_or_else(|| (Affine::identity(), vec![]));
    let value = nodes.last().map_or(graph.input.clone(), |n| graph.nodes[*n].output[0].clone());
    // A border that replicates pixels is the same with or without normalisation.
    let through = graph.only_consumer(&value).filter(|p| repeats_edges(graph, *p));
    let before = through.map_or(value.clone(), |p| graph.nodes[p].output[0].clone());
    let Some(conv) = graph.only_consumer(&before).filter(|c| graph.nodes[*c].op_type == "Conv") else {
        return Ok(if nodes.is_empty() && !signed { (Some(Pixels { zero: 0 }), kept.1) } else { kept });
    };
    let Some(mut layer) = Layer::of(graph, conv) else { return Ok(kept) };
    let groups = graph.nodes[conv].get_attr_opt::<i64>("group")?.unwrap_or(1).max(1) as usize;
    let (outputs, depth) = (layer.weights.dims[0], layer.weights.dims[1]);
    let channels = groups * depth;
    // The pixel that normalisation maps to 0, which is what padding stands for.
    let black: Vec<f32> = (0..channels).map(|c| -255.0 * affine.shift(c) / affine.scale(c)).collect();
    let zero = if !is_padded(graph, conv)? {
        if signed { 128 } else { 0 }
    } else {
        let mean = black.iter().sum::<f32>() / channels as f32;
        if black.iter().any(|b| !(0.0..=255.0).contains(b)) {
            return Ok(kept);
        }
        // Signed bytes hold all pixels only with a zero point of 128.
        let zero = if signed { 128.0 } else { mean.round_ties_even() };
        if black.iter().any(|b| (zero - b).abs() > FARTHEST) {
            return Ok(kept);
        }
        zero as u8
    };
    let padding_error = if is_padded(graph, conv)? {
        black.iter().map(|b| (b - f32::from(zero)).abs()).fold(0.0, f32::max)
    } else {
        0.0
    };
    let volume = layer.weights.data.len() / outputs;
    for output in 0..outputs {
        let group = output / (outputs / groups);
        let mut moved = 0.0;
        for (at, weight) in layer.of_output(output).iter_mut().enumerate() {
            let channel = group * depth + at / (volume / depth);
            moved += f64::from(*weight) * f64::from(affine.shift(channel));
            *weight *= affine.scale(channel);
            moved += f64::from(*weight) * f64::from(zero) / 255.0;
        }
        layer.bias[output] += moved as f32;
    }
    layer.store(graph, conv);
    let mut at = 0;
    graph.nodes.retain(|_| {
        at += 1;
        !nodes.contains(&(at - 1))
    });
    let input = graph.input.clone();
    graph.reroute(&value, &input);
    if zero != 0 {
        subtract(graph, zero);
    }
    graph.drop_unread();
    Ok((Some(Pixels { zero }), Normalisation { folded: !nodes.is_empty(), padding_error }))
}

/// How far, in levels of 0..255, padding may be from what it was.
const FARTHEST: f32 = 16.0;

/// Subtracts `zero` from the pixels.
fn subtract(graph: &mut Graph, zero: u8) {
    let (name, value) = (graph.fresh(OFFSET), graph.fresh(&format!("{OFFSET}.out")));
    let constant = graph.fresh(&format!("{OFFSET}.zero"));
    graph.put(&constant, &Floats { dims: vec![], data: vec![f32::from(zero) / 255.0] });
    let input = graph.input.clone();
    graph.reroute(&input, &value);
    graph.nodes.insert(0, proto::node("Sub", &name, &[&input, &constant], &value));
}

/// Whether a node pads a picture with its own pixels.
fn repeats_edges(graph: &Graph, at: usize) -> bool {
    let node = &graph.nodes[at];
    let mode = node.get_attr_opt::<String>("mode").ok().flatten().unwrap_or_default();
    node.op_type == "Pad" && matches!(mode.as_str(), "edge" | "reflect")
}

fn is_padded(graph: &Graph, conv: usize) -> Result<bool, QuantizeError> {
    let node = &graph.nodes[conv];
    let pads = node.get_attr_opt_vec::<i64>("pads")?.unwrap_or_default();
    let auto = node.get_attr_opt::<String>("auto_pad")?.unwrap_or_default();
    Ok(pads.iter().any(|p| *p != 0) || auto.starts_with("SAME"))
}
