//! Writes the quantised graph: standard ONNX with `QuantizeLinear` and `DequantizeLinear` around
//! each value that becomes bytes, weights as int8 constants with one scale per channel.

use std::collections::HashMap;

use tract_onnx::pb::NodeProto;

use super::error::QuantizeError;
use super::graph::Graph;
use super::pixels::{OFFSET, Pixels};
use super::proto;
use super::ranges::Step;
use super::scheme::Scheme;
use super::simplify::Layer;
use super::weights::{Bytes, bias_fits, quantise, quantise_bias};

/// Everything that the quantised graph depends on.
#[derive(Debug, Clone)]
pub(super) struct Recipe<'a> {
    pub graph: &'a Graph,
    pub scheme: &'a Scheme,
    pub pixels: Option<Pixels>,
    /// By the value whose range each one is.
    pub steps: HashMap<String, Step>,
    /// Biases that replace those of the graph, by layer.
    pub biases: HashMap<String, Vec<f32>>,
    /// Weights that have been rounded already, by layer; the others are rounded to the nearest.
    pub weights: Option<&'a HashMap<String, Bytes>>,
    /// Largest magnitude of a weight in steps.
    pub most: f32,
    /// Only signed bytes with zero point 0, and float biases: TensorRT accepts nothing else.
    pub signed: bool,
}

impl Recipe<'_> {
    /// The quantisation of a value.
    pub fn step(&self, value: &str) -> Step {
        self.steps[&self.scheme.values[value]]
    }

    /// The quantised graph.
    ///
    /// # Errors
    /// [`QuantizeError::NotFinite`] for weights that are not finite.
    pub fn write(&self) -> Result<Graph, QuantizeError> {
        let mut out = self.graph.clone();
        out.nodes.clear();
        out.sign();
        let mut writer = Writer { recipe: self, out };
        if self.scheme.values.contains_key(&self.graph.input) {
            writer.bytes(&self.graph.input);
        }
        for at in 0..self.graph.nodes.len() {
            let mut node = self.graph.nodes[at].clone();
            if node.name == OFFSET && !self.signed && self.scheme.values.contains_key(&node.output[0]) {
                // A different zero point for pixels costs nothing.
                writer.bytes(&node.output[0]);
                continue;
            }
            for input in &mut node.input {
                if self.scheme.values.contains_key(input) {
                    *input = dequantised(input);
                }
            }
            if self.scheme.layers.contains(&node.name) {
                writer.layer(at, &mut node)?;
            }
            let output = node.output[0].clone();
            writer.out.nodes.push(node);
            if self.scheme.values.contains_key(&output) {
                writer.bytes(&output);
            }
        }
        writer.out.drop_unread();
        Ok(writer.out)
    }

    /// The float graph, with each quantised layer computed from its float inputs beside the float
    /// one, and the names of the values that hold the mean difference of each channel, float minus
    /// quantised.
    ///
    /// # Errors
    /// As [`Recipe::write`].
    pub(crate) fn write_differences(&self) -> Result<(Graph, Vec<String>), QuantizeError> {
        let mut writer = Writer { recipe: self, out: self.graph.clone() };
        let mut outputs = Vec::new();
        let mut done: Vec<String> = Vec::new();
        for at in 0..self.graph.nodes.len() {
            let node = &self.graph.nodes[at];
            if !self.scheme.layers.contains(&node.name) {
                continue;
            }
            let mut copy = node.clone();
            let value = &node.input[0];
            if !done.contains(value) {
                writer.bytes(value);
                done.push(value.clone());
            }
            copy.input[0] = dequantised(value);
            writer.layer(at, &mut copy)?;
            copy.name = format!("{}.quantised", node.name);
            copy.output = vec![format!("{}.quantised", node.output[0])];
            let error = format!("{}.error", node.output[0]);
            let difference = proto::node("Sub", &error, &[&node.output[0], &copy.output[0]], &error);
            writer.out.nodes.extend([copy, difference]);
            if node.op_type == "Conv" {
                let mean = format!("{error}.mean");
                writer.out.nodes.push(proto::node("GlobalAveragePool", &mean, &[&error], &mean));
                outputs.push(mean);
            } else {
                outputs.push(error);
            }
        }
        Ok((writer.out, outputs))
    }
}

/// Name of a value after rounding to bytes.
pub(super) fn dequantised(value: &str) -> String {
    format!("{value}.dequantized")
}

struct Writer<'a> {
    recipe: &'a Recipe<'a>,
    out: Graph,
}

impl Writer<'_> {
    /// Rounds a value to bytes and back.
    fn bytes(&mut self, value: &str) {
        let recipe = self.recipe;
        let step = recipe.step(value);
        let root = &recipe.scheme.values[value];
        let (scale, zero) = (format!("{root}.scale"), format!("{root}.zero_point"));
        self.out.put_tensor(proto::floats(&scale, &[], &[step.scale]));
        self.out.put_tensor(zero_point(&zero, step.zero, step.signed));
        let bytes = format!("{value}.quantized");
        let offset =
            recipe.pixels.filter(|p| p.zero != 0 && !recipe.signed && is_offset(recipe.graph, value));
        let quantize = match offset {
            // Pixels unchanged; only their zero point differs.
            Some(_) => {
                let plain = format!("{root}.zero_point.pixels");
                self.out.put_tensor(zero_point(&plain, 0, false));
                proto::node("QuantizeLinear", &bytes, &[&recipe.graph.input, &scale, &plain], &bytes)
            }
            None => proto::node("QuantizeLinear", &bytes, &[value, &scale, &zero], &bytes),
        };
        let back = dequantised(value);
        self.out.nodes.push(quantize);
        self.out.nodes.push(proto::node("DequantizeLinear", &back, &[&bytes, &scale, &zero], &back));
    }

    /// Weights and bias of a layer from bytes.
    fn layer(&mut self, at: usize, node: &mut NodeProto) -> Result<(), QuantizeError> {
        let recipe = self.recipe;
        let original = &recipe.graph.nodes[at];
        let name = &original.name;
        let layer = Layer::of(recipe.graph, at)
            .ok_or_else(|| QuantizeError::Form(format!("layer {name} has no constant weights")))?;
        let bias = recipe.biases.get(name).unwrap_or(&layer.bias);
        if layer.weights.data.iter().chain(bias).any(|v| !v.is_finite()) {
            return Err(QuantizeError::NotFinite(format!("layer {name} has weights that are not finite")));
        }
        let outputs = layer.weights.dims[0];
        let input_scale = recipe.step(&original.input[0]).scale;
        let ready = self.recipe.weights.and_then(|w| w.get(name));
        let bytes = match ready.filter(|b| bias_fits(bias, &b.scales, input_scale)) {
            Some(ready) => ready.clone(),
            None => quantise(&layer.weights.data, outputs, bias, input_scale, recipe.most),
        };
        let whole = quantise_bias(bias, &bytes.scales, input_scale);
        let bias_scales: Vec<f32> = bytes.scales.iter().map(|s| s * input_scale).collect();

        let part = |suffix: &str| format!("{name}.weight.{suffix}");
        self.out.put_tensor(proto::int8s(&part("quantized"), &layer.weights.dims, &bytes.weights));
        self.out.put_tensor(proto::floats(&part("scale"), &[outputs], &bytes.scales));
        self.out.put_tensor(proto::int8s(&part("zero_point"), &[outputs], &vec![0; outputs]));
        let weight = part("dequantized");
        let inputs = [&part("quantized"), &part("scale"), &part("zero_point")].map(|s| s.as_str().to_owned());
        self.dequantize(&weight, &inputs);

        let part = |suffix: &str| format!("{name}.bias.{suffix}");
        let bias = if recipe.signed {
            // The same numbers, but TensorRT accepts only float biases.
            let rounded: Vec<f32> = whole.iter().zip(&bias_scales).map(|(w, s)| *w as f32 * s).collect();
            self.out.put_tensor(proto::floats(&part("rounded"), &[outputs], &rounded));
            part("rounded")
        } else {
            self.out.put_tensor(proto::int32s(&part("quantized"), &[outputs], &whole));
            self.out.put_tensor(proto::floats(&part("scale"), &[outputs], &bias_scales));
            self.out.put_tensor(proto::int32s(&part("zero_point"), &[outputs], &vec![0; outputs]));
            let inputs = [part("quantized"), part("scale"), part("zero_point")];
            self.dequantize(&part("dequantized"), &inputs);
            part("dequantized")
        };
        node.input.truncate(1);
        node.input.extend([weight, bias]);
        Ok(())
    }

    fn dequantize(&mut self, name: &str, inputs: &[String; 3]) {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut node = proto::node("DequantizeLinear", name, &inputs, name);
        node.attribute.push(proto::int("axis", 0));
        self.out.nodes.push(node);
    }
}

fn is_offset(graph: &Graph, value: &str) -> bool {
    graph.producer(value).is_some_and(|at| graph.nodes[at].name == OFFSET)
}

fn zero_point(name: &str, zero: i32, signed: bool) -> tract_onnx::pb::TensorProto {
    if signed {
        proto::int8s(name, &[], &[i8::try_from(zero).expect("a signed byte")])
    } else {
        proto::uint8s(name, &[], &[u8::try_from(zero).expect("a byte")])
    }
}
