//! Simplifies a float graph without changing what it computes: removes nodes that do nothing, folds
//! batch normalisation and other per-channel factors into the convolution before them, and finds
//! the normalisation of the pixels.

use tract_onnx::pb::NodeProto;

use super::error::QuantizeError;
use super::graph::{Floats, Graph};
use super::proto;

/// Removes what only training needs and folds what can be folded.
///
/// # Errors
/// An attribute has a type other than ONNX specifies.
pub(super) fn simplify(graph: &mut Graph) -> Result<(), QuantizeError> {
    constants(graph);
    nothings(graph);
    means(graph)?;
    dense(graph)?;
    factors(graph)?;
    graph.drop_unread();
    Ok(())
}

/// Turns `Constant` nodes into constants.
fn constants(graph: &mut Graph) {
    let (constants, nodes): (Vec<NodeProto>, Vec<NodeProto>) =
        std::mem::take(&mut graph.nodes).into_iter().partition(|n| {
            n.op_type == "Constant" && n.attribute.iter().any(|a| a.name == "value" && a.t.is_some())
        });
    graph.nodes = nodes;
    for node in constants {
        let tensor = node.attribute.into_iter().find(|a| a.name == "value").and_then(|a| a.t);
        if let Some(mut tensor) = tensor {
            tensor.name.clone_from(&node.output[0]);
            graph.put_tensor(tensor);
        }
    }
}

/// Removes `Identity` and `Dropout`, which do nothing in inference.
fn nothings(graph: &mut Graph) {
    while let Some(at) = graph.nodes.iter().position(|n| {
        let ends = n.output[0] == graph.output && n.input[0] == graph.input;
        matches!(n.op_type.as_str(), "Identity" | "Dropout") && !ends
    }) {
        let instead = graph.nodes[at].input[0].clone();
        graph.bypass(at, &instead);
    }
}

/// Turns a mean over rows and columns into a `GlobalAveragePool`, which can be quantised.
fn means(graph: &mut Graph) -> Result<(), QuantizeError> {
    while let Some(at) = graph.nodes.iter().position(|n| n.op_type == "ReduceMean" && n.input.len() == 1) {
        let node = graph.nodes[at].clone();
        let mut axes = node.get_attr_opt_vec::<i64>("axes")?.unwrap_or_default();
        axes.sort_unstable();
        let keep = node.get_attr_opt::<i64>("keepdims")?.unwrap_or(1) == 1;
        // Needs four dimensions, which only a convolution or a pool is sure to produce.
        let maps = graph.producer(&node.input[0]).map(|p| is_map(graph, p)).unwrap_or_default();
        if !maps || !(axes == [2, 3] || axes == [-2, -1]) {
            break;
        }
        let mean = if keep { node.output[0].clone() } else { graph.fresh(&format!("{}.mean", node.name)) };
        graph.nodes[at] = proto::node("GlobalAveragePool", &node.name, &[&node.input[0]], &mean);
        if !keep {
            let name = graph.fresh(&format!("{}.flat", node.name));
            let mut flat = proto::node("Flatten", &name, &[&mean], &node.output[0]);
            flat.attribute.push(proto::int("axis", 1));
            graph.nodes.insert(at + 1, flat);
        }
    }
    Ok(())
}

/// Whether a node's output has rows and columns.
fn is_map(graph: &Graph, at: usize) -> bool {
    let mut at = at;
    loop {
        match graph.nodes[at].op_type.as_str() {
            "Conv" | "MaxPool" | "AveragePool" | "GlobalAveragePool" => return true,
            "Relu" | "Clip" | "Add" | "LeakyRelu" | "BatchNormalization" | "HardSwish" | "Sigmoid" => {
                match graph.producer(&graph.nodes[at].input[0]) {
                    Some(before) => at = before,
                    None => return false,
                }
            }
            _ => return false,
        }
    }
}

/// Brings the weights of dense layers into the form `[out, in]`, as the quantised form requires.
fn dense(graph: &mut Graph) -> Result<(), QuantizeError> {
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        // After `Flatten` a matrix product is a dense layer.
        let flat =
            |n: &NodeProto| graph.producer(&n.input[0]).is_some_and(|p| graph.nodes[p].op_type == "Flatten");
        if node.op_type == "MatMul" && flat(node) && graph.floats(&node.input[1]).is_some() {
            graph.nodes[at].op_type = "Gemm".into();
        }
        let node = &graph.nodes[at];
        if node.op_type != "Gemm" || node.get_attr_opt::<i64>("transB")?.unwrap_or(0) != 0 {
            continue;
        }
        let Some(weights) = graph.floats(&node.input[1]) else { continue };
        let [rows, columns] = weights.dims[..] else { continue };
        let data = (0..columns * rows).map(|at| weights.data[(at % rows) * columns + at / rows]).collect();
        let name = graph.fresh(&format!("{}.transposed", node.input[1]));
        graph.put(&name, &Floats { dims: vec![columns, rows], data });
        let node = &mut graph.nodes[at];
        node.input[1] = name;
        node.attribute.retain(|a| a.name != "transB");
        node.attribute.push(proto::int("transB", 1));
    }
    Ok(())
}

/// `scale * x + shift`, with one of each for all channels or one per channel.
#[derive(Debug, Clone)]
pub(super) struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Affine {
    /// Changes nothing.
    pub fn identity() -> Self {
        Self { scale: vec![1.0], shift: vec![0.0] }
    }

    pub fn scale(&self, channel: usize) -> f32 {
        self.scale[channel % self.scale.len()]
    }

    pub fn shift(&self, channel: usize) -> f32 {
        self.shift[channel % self.shift.len()]
    }

    /// `next(self(x))`.
    fn then(&self, next: &Affine) -> Affine {
        let n = [&self.scale, &self.shift, &next.scale, &next.shift].map(Vec::len).into_iter().max();
        let channels = 0..n.unwrap_or(1);
        Affine {
            scale: channels.clone().map(|c| self.scale(c) * next.scale(c)).collect(),
            shift: channels.map(|c| self.shift(c) * next.scale(c) + next.shift(c)).collect(),
        }
    }

    fn fits(&self, channels: usize) -> bool {
        [&self.scale, &self.shift].iter().all(|v| v.len() == 1 || v.len() == channels)
    }
}

/// The factor and offset that a node applies to each channel of its first computed input, if it
/// does nothing else. `maps`: the value has rows and columns, so channels are the third axis from
/// the end.
pub(super) fn affine(graph: &Graph, node: &NodeProto, maps: bool) -> Option<Affine> {
    let channel = |name: &String| -> Option<Vec<f32>> {
        let floats = graph.floats(name)?;
        let channels = floats.data.len();
        if channels == 1 {
            return Some(floats.data);
        }
        let from_end = floats.dims.iter().rev().position(|d| *d == channels)?;
        (from_end == if maps { 2 } else { 0 }).then_some(floats.data)
    };
    if node.op_type == "BatchNormalization" {
        let part = |at: usize| graph.floats(node.input.get(at)?).map(|f| f.data);
        let (gamma, beta, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
        let epsilon = node.get_attr_opt::<f32>("epsilon").ok()?.unwrap_or(1e-5);
        let scale: Vec<f32> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        return Some(Affine { scale, shift });
    }
    let [left, right] = node.input.as_slice() else { return None };
    let (constant, first) = match (channel(left), channel(right)) {
        (None, Some(constant)) => (constant, false),
        (Some(constant), None) => (constant, true),
        _ => return None,
    };
    let scaled = |scale: Vec<f32>| Some(Affine { scale, shift: vec![0.0] });
    let moved = |shift: Vec<f32>| Some(Affine { scale: vec![1.0], shift });
    match (node.op_type.as_str(), first) {
        ("Mul", _) => scaled(constant),
        ("Div", false) => scaled(constant.iter().map(|c| c.recip()).collect()),
        ("Add", _) => moved(constant),
        ("Sub", false) => moved(constant.iter().map(|c| -c).collect()),
        _ => None,
    }
}

/// Folds factors after a convolution or dense layer into its weights.
fn factors(graph: &mut Graph) -> Result<(), QuantizeError> {
    let mut at = 0;
    while at < graph.nodes.len() {
        let node = graph.nodes[at].clone();
        let maps = node.op_type == "Conv";
        let next = graph.only_consumer(&node.output[0]).filter(|_| maps || node.op_type == "Gemm");
        let found = next.and_then(|n| Some((n, affine(graph, &graph.nodes[n], maps)?)));
        let Some((next, affine)) = found else {
            at += 1;
            continue;
        };
        let Some(mut layer) = Layer::of(graph, at).filter(|l| affine.fits(l.weights.dims[0])) else {
            at += 1;
            continue;
        };
        layer.scale_outputs(&affine);
        layer.store(graph, at);
        let instead = graph.nodes[at].output[0].clone();
        graph.bypass(next, &instead);
    }
    Ok(())
}

/// Weights `[out, ...]` and bias of a convolution or dense layer.
pub(super) struct Layer {
    pub weights: Floats,
    pub bias: Vec<f32>,
}

impl Layer {
    /// `None` if the weights are computed, or have a factor other than one.
    pub fn of(graph: &Graph, at: usize) -> Option<Self> {
        let node = &graph.nodes[at];
        if node.op_type == "Gemm" {
            let plain = |name: &str| node.get_attr_opt::<f32>(name).ok().flatten().unwrap_or(1.0) == 1.0;
            let straight = node.get_attr_opt::<i64>("transA").ok()?.unwrap_or(0) == 0
                && node.get_attr_opt::<i64>("transB").ok()?.unwrap_or(0) == 1;
            if !plain("alpha") || !plain("beta") || !straight {
                return None;
            }
        }
        let weights = graph.floats(node.input.get(1)?)?;
        let outputs = *weights.dims.first()?;
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => vec![0.0; outputs],
            Some(name) => {
                let bias = graph.floats(name)?.data;
                // A dense layer's bias may be a single number for all outputs.
                if bias.len() == 1 { vec![bias[0]; outputs] } else { bias }
            }
        };
        (bias.len() == outputs && !weights.data.is_empty()).then_some(Self { weights, bias })
    }

    /// Weights of one output channel.
    pub(crate) fn of_output(&mut self, channel: usize) -> &mut [f32] {
        let n = self.weights.data.len() / self.weights.dims[0];
        &mut self.weights.data[channel * n..(channel + 1) * n]
    }

    fn scale_outputs(&mut self, affine: &Affine) {
        for channel in 0..self.weights.dims[0] {
            let scale = affine.scale(channel);
            self.of_output(channel).iter_mut().for_each(|w| *w *= scale);
            self.bias[channel] = self.bias[channel] * scale + affine.shift(channel);
        }
    }

    /// Stores it back under new names, because constants may be shared.
    pub fn store(&self, graph: &mut Graph, at: usize) {
        let name = graph.nodes[at].name.clone();
        let own = |part: &str, old: Option<&String>| match old {
            Some(old) if graph.consumers(old).len() == 1 => old.clone(),
            _ => graph.fresh(&format!("{name}.{part}")),
        };
        let node = graph.nodes[at].clone();
        let weights = own("weight", node.input.get(1));
        let bias = own("bias", node.input.get(2).filter(|n| !n.is_empty()));
        graph.put(&weights, &self.weights);
        graph.put(&bias, &Floats { dims: vec![self.bias.len()], data: self.bias.clone() });
        let first = node.input[0].clone();
        graph.nodes[at].input = vec![first, weights, bias];
    }
}

/// The factors between the graph's input and its first convolution, composed, and the nodes that
/// they come from; `None` if there are none or they cannot be determined.
pub(super) fn input_affine(graph: &Graph) -> Option<(Affine, Vec<usize>)> {
    let mut value = graph.input.clone();
    let mut all = Affine::identity();
    let mut nodes = Vec::new();
    while let Some(next) = graph.only_consumer(&value) {
        let Some(affine) = affine(graph, &graph.nodes[next], true) else { break };
        all = all.then(&affine);
        value.clone_from(&graph.nodes[next].output[0]);
        nodes.push(next);
    }
    (!nodes.is_empty()).then_some((all, nodes))
}
