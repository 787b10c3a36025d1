//! An ONNX graph that can be read and changed: nodes in their order, constants by name.

use std::collections::BTreeMap;

use prost::Message as _;
use tract_onnx::data_resolver::FopenDataResolver;
use tract_onnx::pb::{ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::{Datum as _, Tensor};
use tract_onnx::tensor::load_tensor;

use super::error::QuantizeError;
use super::proto;
use crate::detector::bounds;

/// Operators that are quantised already.
const QUANTIZED: [&str; 12] = [
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "QLinearAdd",
    "QLinearMul",
    "QLinearGlobalAveragePool",
    "QLinearAveragePool",
    "QGemm",
    "ConvInteger",
    "MatMulInteger",
];

/// Operators whose form differs between operator sets 11 and 13; an older graph with one of them
/// cannot simply be relabelled as set 13.
const CHANGED_IN_13: [&str; 10] =
    ["Squeeze", "Unsqueeze", "ReduceSum", "Softmax", "LogSoftmax", "Hardmax", "Split", "Cast", "If", "Loop"];

/// Operators that work on their second input too.
const TWO_INPUTS: [&str; 7] = ["Add", "Conv", "Div", "Gemm", "MatMul", "Mul", "Sub"];

/// Constant float32 numbers with their shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Floats {
    pub dims: Vec<usize>,
    pub data: Vec<f32>,
}

/// See the module's text. One input, one output.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    /// What a written model keeps: versions, and the types of input and output.
    shell: ModelProto,
    pub nodes: Vec<NodeProto>,
    pub constants: BTreeMap<String, TensorProto>,
    pub input: String,
    pub output: String,
}

impl Graph {
    /// Reads a float model.
    ///
    /// # Errors
    /// [`QuantizeError`] if it is not ONNX, has more than one input or output, is quantised already, or
    /// has an operator set without per-channel `DequantizeLinear` that cannot be lifted.
    pub fn parse(bytes: &[u8]) -> Result<Self, QuantizeError> {
        let mut shell = bounds::read(bytes).map_err(QuantizeError::NotOnnx)?;
        let mut graph =
            shell.graph.take().ok_or_else(|| QuantizeError::NotOnnx("it holds no graph".into()))?;
        if let Some(node) = graph.node.iter().find(|n| QUANTIZED.contains(&n.op_type.as_str())) {
            return Err(QuantizeError::Quantized(node.op_type.clone()));
        }
        let form = |reason: String| Err(QuantizeError::Form(reason));
        if !shell.functions.is_empty() || !graph.sparse_initializer.is_empty() {
            return form("it has functions or sparse constants; export it without".into());
        }
        for node in &graph.node {
            let least = if TWO_INPUTS.contains(&node.op_type.as_str()) { 2 } else { 1 };
            let inputs = node.op_type == "Constant" || node.input.len() >= least;
            if !inputs || node.output.first().is_none_or(String::is_empty) {
                return form(format!(
                    "its operator {} {:?} lacks an input or its output; the file is damaged",
                    node.op_type, node.name
                ));
            }
        }
        let constants: BTreeMap<String, TensorProto> =
            std::mem::take(&mut graph.initializer).into_iter().map(|t| (t.name.clone(), t)).collect();
        // Old files list constants among the inputs too.
        graph.input.retain(|i| !constants.contains_key(&i.name));
        let ([input], [output]) = (graph.input.as_slice(), graph.output.as_slice()) else {
            return form(format!("it has {} inputs and {} outputs", graph.input.len(), graph.output.len()));
        };
        let (input, output) = (input.name.clone(), output.name.clone());
        lift_operator_set(&mut shell, &graph.node)?;
        let nodes = std::mem::take(&mut graph.node);
        graph.value_info.clear();
        graph.quantization_annotation.clear();
        shell.graph = Some(graph);
        let mut parsed = Self { shell, nodes, constants, input, output };
        parsed.name_nodes();
        Ok(parsed)
    }

    /// Layers are named after their nodes, so each node needs a unique name.
    fn name_nodes(&mut self) {
        let mut seen = std::collections::HashSet::new();
        for node in &mut self.nodes {
            if node.name.is_empty() || seen.contains(&node.name) {
                node.name = node.output.first().cloned().unwrap_or_default();
            }
            seen.insert(node.name.clone());
        }
    }

    /// The graph as the bytes of an ONNX file.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(&[])
    }

    /// The same with different outputs, unless the list is empty.
    pub(crate) fn encode_with(&self, outputs: &[String]) -> Vec<u8> {
        let mut model = self.shell.clone();
        let graph = model.graph.get_or_insert_default();
        graph.node.clone_from(&self.nodes);
        graph.initializer = self.constants.values().cloned().collect();
        if !outputs.is_empty() {
            graph.output = outputs
                .iter()
                .map(|name| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() })
                .collect();
        }
        model.encode_to_vec()
    }

    /// The constant called `name`, if it exists and is float32.
    pub fn floats(&self, name: &str) -> Option<Floats> {
        let tensor = self.tensor(name)?;
        (tensor.datum_type() == f32::datum_type()).then_some(())?;
        let data = tensor.to_plain_array_view::<f32>().ok()?.iter().copied().collect();
        Some(Floats { dims: tensor.shape().to_vec(), data })
    }

    fn tensor(&self, name: &str) -> Option<Tensor> {
        load_tensor(&FopenDataResolver, self.constants.get(name)?, None).ok()
    }

    /// Stores a float32 constant under a name.
    pub fn put(&mut self, name: &str, floats: &Floats) {
        self.put_tensor(proto::floats(name, &floats.dims, &floats.data));
    }

    /// Stores a constant under its name.
    pub(crate) fn put_tensor(&mut self, tensor: TensorProto) {
        self.constants.insert(tensor.name.clone(), tensor);
    }

    /// An unused name that begins with `wish`.
    pub fn fresh(&self, wish: &str) -> String {
        let taken = |name: &str| {
            self.constants.contains_key(name)
                || self.input == name
                || self.nodes.iter().any(|n| n.name == name || n.output.iter().any(|o| o == name))
        };
        let mut name = wish.to_owned();
        let mut number = 2;
        while taken(&name) {
            name = format!("{wish}.{number}");
            number += 1;
        }
        name
    }

    /// The node that computes a value.
    pub(crate) fn producer(&self, value: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.output.iter().any(|o| o == value))
    }

    /// The nodes that read a value; one that reads it twice is listed twice.
    pub(crate) fn consumers(&self, value: &str) -> Vec<usize> {
        let reads = |n: &NodeProto| n.input.iter().filter(|i| *i == value).count();
        self.nodes.iter().enumerate().flat_map(|(at, n)| std::iter::repeat_n(at, reads(n))).collect()
    }

    /// The only node that reads a value, if there is exactly one and the value is not an output of
    /// the graph.
    pub(crate) fn only_consumer(&self, value: &str) -> Option<usize> {
        match self.consumers(value).as_slice() {
            [one] if value != self.output => Some(*one),
            _ => None,
        }
    }

    /// Inputs of a node that are computed, not constant.
    pub fn activations<'a>(&'a self, node: &'a NodeProto) -> impl Iterator<Item = &'a String> {
        node.input.iter().filter(|i| !i.is_empty() && !self.constants.contains_key(*i))
    }

    /// Removes a node and lets its readers read `instead`.
    pub(crate) fn bypass(&mut self, at: usize, instead: &str) {
        let node = self.nodes.remove(at);
        let gone = &node.output[0];
        if *gone == self.output {
            // The graph's output keeps its name: whoever computes `instead` computes it under that
            // name.
            self.rename(instead, &gone.clone());
        } else {
            self.reroute(gone, instead);
        }
    }

    /// Lets every reader of `from` read `to`.
    pub(crate) fn reroute(&mut self, from: &str, to: &str) {
        for input in self.nodes.iter_mut().flat_map(|n| &mut n.input) {
            if input == from {
                to.clone_into(input);
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.reroute(from, to);
        for output in self.nodes.iter_mut().flat_map(|n| &mut n.output) {
            if output == from {
                to.clone_into(output);
            }
        }
    }

    /// Drops constants that nothing reads.
    pub(crate) fn drop_unread(&mut self) {
        let read: std::collections::HashSet<&String> = self.nodes.iter().flat_map(|n| &n.input).collect();
        let unread: Vec<String> = self.constants.keys().filter(|k| !read.contains(k)).cloned().collect();
        for name in unread {
            self.constants.remove(&name);
        }
    }

    /// Records the producer of the file.
    pub fn sign(&mut self) {
        self.shell.producer_name = "spotd quantize".into();
        self.shell.producer_version = env!("CARGO_PKG_VERSION").into();
    }
}

/// Per-channel `DequantizeLinear` came with operator set 13.
fn lift_operator_set(model: &mut ModelProto, nodes: &[NodeProto]) -> Result<(), QuantizeError> {
    let own = |set: &&mut OperatorSetIdProto| set.domain.is_empty() || set.domain == "ai.onnx";
    let Some(set) = model.opset_import.iter_mut().find(own) else {
        return Err(QuantizeError::Form("it states no operator set".into()));
    };
    if set.version >= 13 {
        return Ok(());
    }
    let changed = nodes.iter().find(|n| CHANGED_IN_13.contains(&n.op_type.as_str()));
    if set.version < 11 || changed.is_some() {
        return Err(QuantizeError::Form(format!(
            "it is of operator set {}{}; per-channel quantisation needs 13: export it as 13 or later, or convert it \
             with onnx.version_converter",
            set.version,
            changed.map_or_else(String::new, |n| format!(
                " and has {}, whose form has changed since",
                n.op_type
            ))
        )));
    }
    set.version = 13;
    model.ir_version = model.ir_version.max(7);
    Ok(())
}
