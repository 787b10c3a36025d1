//! An exported model that can be trained further: libtorch runs its ONNX graph, with trainable
//! weights of convolutions and matrix products. Batch normalisation has been folded away, so that a
//! few dozen pictures cannot upset its statistics.

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto, tensor_proto::DataType};

/// The graph and its numbers.
pub struct Graph {
    model: ModelProto,
    nodes: Vec<NodeProto>,
    input: String,
    output: String,
    constants: HashMap<String, Tensor>,
    trainable: Vec<String>,
}

impl Graph {
    /// Reads ONNX bytes.
    ///
    /// # Errors
    /// They are not ONNX, or contain an operator that this trainer does not write.
    pub fn read(bytes: &[u8], device: Device) -> Result<Graph> {
        let (model, mut constants) = decode(bytes)?;
        for constant in constants.values_mut() {
            *constant = constant.to_device(device);
        }
        let graph = model.graph.as_ref().context("an ONNX file without a graph")?;
        let name = |list: &[tract_onnx::pb::ValueInfoProto]| match list {
            [one] => Ok(one.name.clone()),
            _ => bail!("{} inputs or outputs, not one", list.len()),
        };
        let (input, output, nodes) = (name(&graph.input)?, name(&graph.output)?, graph.node.clone());
        let mut trainable = Vec::new();
        for node in &nodes {
            ensure!(
                OPERATORS.contains(&node.op_type.as_str()),
                "operator {} ({}) cannot be trained here; give a float32 model of this trainer, and quantise \
                 the result again",
                node.op_type,
                node.name
            );
            // A grouped convolution is the fixed high-pass front end.
            if node.op_type == "Gemm" || (node.op_type == "Conv" && int(node, "group", 1) == 1) {
                trainable.extend(node.input.iter().skip(1).filter(|name| !name.is_empty()).cloned());
            }
        }
        trainable.sort();
        trainable.dedup();
        for name in &trainable {
            let weight = constants.get_mut(name).with_context(|| format!("{name} is not a constant"))?;
            ensure!(weight.kind() == Kind::Float, "{name} is not of float32");
            *weight = weight.set_requires_grad(true);
        }
        Ok(Graph { nodes, input, output, constants, trainable, model })
    }

    /// The trainable weights, by name.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        self.trainable.iter().map(|name| (name.clone(), self.constants[name].shallow_clone())).collect()
    }

    /// The output for `x` `[N, 3, H, W]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut values: HashMap<&str, Tensor> = HashMap::from([(self.input.as_str(), x.shallow_clone())]);
        for node in &self.nodes {
            let inputs = node
                .input
                .iter()
                .map(|name| {
                    let value = values.get(name.as_str()).or_else(|| self.constants.get(name));
                    value
                        .map(Tensor::shallow_clone)
                        .with_context(|| format!("{}: no value {name}", node.name))
                })
                .collect::<Result<Vec<_>>>()?;
            let y = apply(node, &inputs).with_context(|| node.name.clone())?;
            values.insert(node.output.first().context("a node without an output")?, y);
        }
        values.remove(self.output.as_str()).with_context(|| format!("no value {}", self.output))
    }

    /// The model with its weights as they are now.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut model = self.model.clone();
        let graph = model.graph.as_mut().context("an ONNX file without a graph")?;
        for initializer in &mut graph.initializer {
            if self.trainable.contains(&initializer.name) {
                let weight = self.constants[&initializer.name].detach().to_device(Device::Cpu);
                let values = Vec::<f32>::try_from(weight.contiguous().view(-1))?;
                initializer.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                initializer.float_data.clear();
            }
        }
        Ok(model.encode_to_vec())
    }
}

/// The operators that `apply` supports.
const OPERATORS: [&str; 14] = [
    "Add",
    "Clip",
    "Conv",
    "Div",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "Max",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "Sigmoid",
    "Sub",
];

fn decode(bytes: &[u8]) -> Result<(ModelProto, HashMap<String, Tensor>)> {
    let model = ModelProto::decode(bytes).context("not an ONNX file")?;
    let graph = model.graph.as_ref().context("an ONNX file without a graph")?;
    let mut constants = HashMap::new();
    for initializer in &graph.initializer {
        constants.insert(initializer.name.clone(), tensor(initializer)?);
    }
    Ok((model, constants))
}

/// The constants of ONNX bytes by name, on the CPU.
///
/// # Errors
/// They are not ONNX, or have data types that this trainer does not write, as in a quantised model.
pub fn constants(bytes: &[u8]) -> Result<HashMap<String, Tensor>> {
    Ok(decode(bytes)?.1)
}

fn tensor(proto: &TensorProto) -> Result<Tensor> {
    let raw = &proto.raw_data;
    let flat = match DataType::try_from(proto.data_type) {
        Ok(DataType::Float) if raw.is_empty() => Tensor::from_slice(&proto.float_data),
        Ok(DataType::Int64) if raw.is_empty() => Tensor::from_slice(&proto.int64_data),
        Ok(DataType::Float) => Tensor::f_from_data_size(raw, &[raw.len() as i64 / 4], Kind::Float)?,
        Ok(DataType::Int64) => Tensor::f_from_data_size(raw, &[raw.len() as i64 / 8], Kind::Int64)?,
        other => bail!("{}: numbers of {other:?}; give a float32 model of this trainer", proto.name),
    };
    flat.f_reshape(&proto.dims).with_context(|| proto.name.clone())
}

fn int(node: &NodeProto, name: &str, otherwise: i64) -> i64 {
    node.attribute.iter().find(|a| a.name == name).map_or(otherwise, |a| a.i)
}

fn ints<const N: usize>(node: &NodeProto, name: &str, otherwise: [i64; N]) -> Result<[i64; N]> {
    match node.attribute.iter().find(|a| a.name == name) {
        Some(attribute) => {
            attribute.ints.as_slice().try_into().with_context(|| format!("{name} of another length"))
        }
        None => Ok(otherwise),
    }
}

/// Padding, if it is the same on both sides of each axis.
fn padding(node: &NodeProto) -> Result<[i64; 2]> {
    let [top, left, bottom, right] = ints(node, "pads", [0; 4])?;
    ensure!(top == bottom && left == right, "uneven padding");
    Ok([top, left])
}

fn apply(node: &NodeProto, inputs: &[Tensor]) -> Result<Tensor> {
    let x = inputs.first().context("no input")?;
    let second = || inputs.get(1).context("one input alone");
    Ok(match node.op_type.as_str() {
        "Add" => x.f_add(second()?)?,
        "Sub" => x.f_sub(second()?)?,
        "Mul" => x.f_mul(second()?)?,
        "Div" => x.f_div(second()?)?,
        "Max" => x.f_maximum(second()?)?,
        "Relu" => x.f_relu()?,
        "Sigmoid" => x.f_sigmoid()?,
        "Clip" => x.f_maximum(second()?)?.f_minimum(inputs.get(2).context("no upper limit")?)?,
        "Conv" => {
            let stride = ints(node, "strides", [1; 2])?;
            let group = int(node, "group", 1);
            x.f_conv2d(second()?, inputs.get(2), stride, padding(node)?, [1, 1], group)?
        }
        "MaxPool" => {
            let kernel: [i64; 2] = ints(node, "kernel_shape", [1; 2])?;
            x.f_max_pool2d(kernel, ints(node, "strides", [1; 2])?, padding(node)?, [1, 1], false)?
        }
        "GlobalAveragePool" => x.f_mean_dim([2i64, 3].as_slice(), true, Kind::Float)?,
        "Flatten" => x.f_flatten(1, -1)?,
        "Gemm" => {
            ensure!(int(node, "transB", 0) == 1 && int(node, "transA", 0) == 0, "a product of another form");
            x.f_linear(second()?, inputs.get(2))?
        }
        "Pad" => {
            let pads = Vec::<i64>::try_from(second()?.to_device(Device::Cpu))?;
            let [0, 0, top, left, 0, 0, bottom, right] = pads[..] else { bail!("padding of {pads:?}") };
            let mode = node.attribute.iter().find(|a| a.name == "mode").map(|a| a.s.as_slice());
            ensure!(mode == Some(b"edge"), "padding other than by the edge");
            x.f_replication_pad2d([left, right, top, bottom])?
        }
        other => bail!("operator {other}"),
    })
}
