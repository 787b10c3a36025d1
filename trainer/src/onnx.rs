//! The reader of a [`Net`] for export, which writes ONNX (operator set 13): weights from a
//! `VarStore`, batch normalisation folded into the convolution before it, without anything that
//! only training needs.

use crate::{
    module::{BATCH_NORM_EPSILON, effective_weight, high_pass},
    net::{Interpolation, Layer, Net},
};
use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use std::collections::HashMap;
use tch::{Kind, Tensor, nn::VarStore};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto,
    tensor_shape_proto::dimension::Value, type_proto,
};

/// A side of the graph's input or output.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// A number.
    Fixed(i64),
    /// A name: any size.
    Any(&'static str),
}

/// Names and shapes of the graph's input and output.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Shape of the input `x`.
    pub input: [Side; 4],
    /// Name of the output.
    pub output: &'static str,
    /// Shape of the output.
    pub output_shape: Vec<Side>,
}

impl Ends {
    /// A detector's: `x` `[N, 3, tile, tile]`, `logit` `[N, 1]`.
    pub fn detector(tile: i64) -> Ends {
        Ends {
            input: [Side::Any("N"), Side::Fixed(3), Side::Fixed(tile), Side::Fixed(tile)],
            output: "logit",
            output_shape: vec![Side::Any("N"), Side::Fixed(1)],
        }
    }

    /// A picture's: `x` and `y`, both `[1, 3, height, width]`.
    pub fn picture(height: i64, width: i64) -> Ends {
        let shape = [Side::Fixed(1), Side::Fixed(3), Side::Fixed(height), Side::Fixed(width)];
        Ends { input: shape, output: "y", output_shape: shape.to_vec() }
    }
}

/// `net` with the weights of `store` as ONNX bytes.
///
/// # Errors
/// A layer without a plain ONNX form, which is named; or a weight that `store` lacks.
pub fn write(net: &Net, store: &VarStore, ends: &Ends) -> Result<Vec<u8>> {
    let mut writer = Writer {
        variables: store.variables(),
        graph: GraphProto { name: net.name.clone(), ..Default::default() },
    };
    let last =
        writer.layers(&net.layers, "", "x").with_context(|| format!("{}: cannot be exported", net.name))?;
    // The last node's output has the name of the graph's output.
    let node =
        writer.graph.node.iter_mut().rev().find(|n| n.output.contains(&last)).context("an empty network")?;
    node.output = vec![ends.output.into()];
    writer.graph.input = vec![value("x", &ends.input)];
    writer.graph.output = vec![value(ends.output, &ends.output_shape)];
    let model = ModelProto {
        ir_version: 7,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        producer_name: "spotd-train".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(writer.graph),
        ..Default::default()
    };
    Ok(model.encode_to_vec())
}

pub(crate) fn value(name: &str, shape: &[Side]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|side| tensor_shape_proto::Dimension {
            value: Some(match side {
                Side::Fixed(n) => Value::DimValue(*n),
                Side::Any(name) => Value::DimParam((*name).into()),
            }),
            ..Default::default()
        })
        .collect();
    let tensor =
        type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}

enum Attribute<'a> {
    Int(i64),
    Ints(Vec<i64>),
    Text(&'a str),
}

struct Writer {
    variables: HashMap<String, Tensor>,
    graph: GraphProto,
}

impl Writer {
    /// Writes `layers`, whose variables are below `path`, applied to the value `input`; returns the
    /// result's name.
    fn layers(&mut self, layers: &[Layer], path: &str, input: &str) -> Result<String> {
        let mut x = input.to_string();
        let mut at = 0;
        while at < layers.len() {
            let here = if path.is_empty() { at.to_string() } else { format!("{path}.{at}") };
            // A batch normalisation directly after a convolution belongs to it.
            let norm = match (&layers[at], layers.get(at + 1)) {
                (Layer::Conv { .. } | Layer::ConvTranspose { .. }, Some(Layer::BatchNorm { .. })) => {
                    Some(if path.is_empty() { (at + 1).to_string() } else { format!("{path}.{}", at + 1) })
                }
                _ => None,
            };
            x = self.layer(&layers[at], &here, norm.as_deref(), &x)?;
            at += if norm.is_some() { 2 } else { 1 };
        }
        Ok(x)
    }

    fn layer(&mut self, layer: &Layer, path: &str, norm: Option<&str>, x: &str) -> Result<String> {
        use Attribute::{Int, Ints, Text};
        Ok(match layer {
            Layer::Normalise { mean, deviation } => {
                let mean = self.constant(&format!("{path}.mean"), &[], &[*mean]);
                let scale = self.constant(&format!("{path}.scale"), &[], &[1.0 / deviation]);
                let centred = self.node("Sub", &format!("{path}.centred"), &[x, &mean], vec![]);
                self.node("Mul", path, &[&centred, &scale], vec![])
            }
            Layer::NormaliseChannels { mean, deviation } => {
                let mean = self.constant(&format!("{path}.mean"), &[1, 3, 1, 1], mean);
                let scale =
                    self.constant(&format!("{path}.scale"), &[1, 3, 1, 1], &deviation.map(|d| 1.0 / d));
                let centred = self.node("Sub", &format!("{path}.centred"), &[x, &mean], vec![]);
                self.node("Mul", path, &[&centred, &scale], vec![])
            }
            Layer::HighPass { channels } => {
                let pads = self.integers(&format!("{path}.pads"), &[0, 0, 2, 2, 0, 0, 2, 2]);
                let padded =
                    self.node("Pad", &format!("{path}.padded"), &[x, &pads], vec![("mode", Text("edge"))]);
                let kernel = high_pass().repeat([*channels, 1, 1, 1]);
                let weight = self.weights(path, &kernel, None)?;
                let attributes = vec![("kernel_shape", Ints(vec![5; 2])), ("group", Int(*channels))];
                self.node("Conv", path, &[&padded, &weight[0]], attributes)
            }
            Layer::Conv { kernel, stride, bias, zero_sum, .. } => {
                let weight = effective_weight(&self.variable(path, "weight")?, *zero_sum);
                let bias = if *bias { Some(self.variable(path, "bias")?) } else { None };
                let (weight, bias) = self.folded(weight, bias, norm, 0)?;
                let inputs = self.weights(path, &weight, bias.as_ref())?;
                let inputs: Vec<&str> = [x].into_iter().chain(inputs.iter().map(String::as_str)).collect();
                let attributes = vec![
                    ("kernel_shape", Ints(vec![*kernel; 2])),
                    ("strides", Ints(vec![*stride; 2])),
                    ("pads", Ints(vec![kernel / 2; 4])),
                ];
                self.node("Conv", path, &inputs, attributes)
            }
            Layer::ConvTranspose { kernel, .. } => {
                let (weight, bias) = (self.variable(path, "weight")?, self.variable(path, "bias")?);
                let (weight, bias) = self.folded(weight, Some(bias), norm, 1)?;
                let inputs = self.weights(path, &weight, bias.as_ref())?;
                let inputs: Vec<&str> = [x].into_iter().chain(inputs.iter().map(String::as_str)).collect();
                let mut attributes = vec![
                    ("kernel_shape", Ints(vec![*kernel; 2])),
                    ("strides", Ints(vec![2; 2])),
                    ("pads", Ints(vec![1; 4])),
                ];
                if *kernel == 3 {
                    attributes.push(("output_padding", Ints(vec![1; 2])));
                }
                self.node("ConvTranspose", path, &inputs, attributes)
            }
            Layer::BatchNorm { .. } => {
                bail!("batch normalisation ({path}) has no convolution before it to be folded into")
            }
            Layer::GroupNorm { .. }
            | Layer::Binomial { .. }
            | Layer::Noise { .. }
            | Layer::Quantise { .. } => {
                bail!("{layer:?} ({path}) is for networks that only make training pictures")
            }
            Layer::Relu => self.node("Relu", path, &[x], vec![]),
            Layer::LeakyRelu { slope } => {
                let slope = self.constant(&format!("{path}.slope"), &[], &[*slope]);
                let scaled = self.node("Mul", &format!("{path}.scaled"), &[x, &slope], vec![]);
                self.node("Max", path, &[x, &scaled], vec![])
            }
            Layer::Sigmoid => self.node("Sigmoid", path, &[x], vec![]),
            Layer::Clip { limit } => {
                let low = self.constant(&format!("{path}.low"), &[], &[-limit]);
                let high = self.constant(&format!("{path}.high"), &[], &[*limit]);
                self.node("Clip", path, &[x, &low, &high], vec![])
            }
            Layer::Upsample { factor, by } => {
                let scales = self.constant(
                    &format!("{path}.scales"),
                    &[4],
                    &[1.0, 1.0, *factor as f32, *factor as f32],
                );
                let (mode, place) = match by {
                    Interpolation::Nearest => ("nearest", "asymmetric"),
                    Interpolation::Bilinear => ("linear", "half_pixel"),
                };
                let mut attributes =
                    vec![("mode", Text(mode)), ("coordinate_transformation_mode", Text(place))];
                if *by == Interpolation::Nearest {
                    attributes.push(("nearest_mode", Text("floor")));
                }
                self.node("Resize", path, &[x, "", &scales], attributes)
            }
            Layer::PixelShuffle { factor } => self.node(
                "DepthToSpace",
                path,
                &[x],
                vec![("blocksize", Int(*factor)), ("mode", Text("CRD"))],
            ),
            Layer::Residual { layers } => {
                let inner = self.layers(layers, path, x)?;
                self.node("Add", &format!("{path}.sum"), &[x, &inner], vec![])
            }
            Layer::Sum { a, b } => {
                let a = self.layers(a, &format!("{path}.a"), x)?;
                let b = self.layers(b, &format!("{path}.b"), x)?;
                self.node("Add", &format!("{path}.sum"), &[&a, &b], vec![])
            }
            Layer::MaxPool { kernel, stride } => {
                let attributes = vec![
                    ("kernel_shape", Ints(vec![*kernel; 2])),
                    ("strides", Ints(vec![*stride; 2])),
                    ("pads", Ints(vec![kernel / 2; 4])),
                ];
                self.node("MaxPool", path, &[x], attributes)
            }
            Layer::MeanPool => {
                let mean = self.node("GlobalAveragePool", &format!("{path}.mean"), &[x], vec![]);
                self.node("Flatten", path, &[&mean], vec![("axis", Int(1))])
            }
            Layer::Linear { .. } => {
                let (weight, bias) = (self.variable(path, "weight")?, self.variable(path, "bias")?);
                let inputs = self.weights(path, &weight, Some(&bias))?;
                self.node("Gemm", path, &[x, &inputs[0], &inputs[1]], vec![("transB", Int(1))])
            }
        })
    }

    fn variable(&self, path: &str, name: &str) -> Result<Tensor> {
        let name = format!("{path}.{name}");
        let tensor = self.variables.get(&name).with_context(|| format!("no weight named {name}"))?;
        Ok(tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Double))
    }

    /// Weight and bias with the normalisation at `norm` folded in; the weight's output channels are
    /// dimension `channel`.
    fn folded(
        &self,
        weight: Tensor,
        bias: Option<Tensor>,
        norm: Option<&str>,
        channel: usize,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let Some(norm) = norm else { return Ok((weight, bias)) };
        let (mean, variance) = (self.variable(norm, "running_mean")?, self.variable(norm, "running_var")?);
        let scale = self.variable(norm, "weight")? / (variance + BATCH_NORM_EPSILON).sqrt();
        let shift =
            self.variable(norm, "bias")? - (mean - bias.unwrap_or_else(|| Tensor::from(0.0))) * &scale;
        let mut shape = [1i64; 4];
        shape[channel] = -1;
        Ok((weight * scale.reshape(shape), Some(shift)))
    }

    fn weights(&mut self, path: &str, weight: &Tensor, bias: Option<&Tensor>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for (part, tensor) in [("weight", Some(weight)), ("bias", bias)] {
            if let Some(tensor) = tensor {
                let values = Vec::<f32>::try_from(tensor.to_kind(Kind::Float).contiguous().view(-1))?;
                names.push(self.constant(&format!("{path}.{part}"), &tensor.size(), &values));
            }
        }
        Ok(names)
    }

    fn constant(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, dims, DataType::Float, raw)
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, &[values.len() as i64], DataType::Int64, raw)
    }

    fn initializer(&mut self, name: &str, dims: &[i64], kind: DataType, raw_data: Vec<u8>) -> String {
        let tensor = TensorProto {
            dims: dims.to_vec(),
            data_type: kind as i32,
            name: name.into(),
            raw_data,
            ..Default::default()
        };
        self.graph.initializer.push(tensor);
        name.into()
    }

    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attributes: Vec<(&str, Attribute)>) -> String {
        let attribute = attributes
            .into_iter()
            .map(|(name, value)| {
                let name = name.to_string();
                match value {
                    Attribute::Int(i) => {
                        AttributeProto { name, r#type: AttributeType::Int as i32, i, ..Default::default() }
                    }
                    Attribute::Ints(ints) => AttributeProto {
                        name,
                        r#type: AttributeType::Ints as i32,
                        ints,
                        ..Default::default()
                    },
                    Attribute::Text(text) => AttributeProto {
                        name,
                        r#type: AttributeType::String as i32,
                        s: text.as_bytes().to_vec(),
                        ..Default::default()
                    },
                }
            })
            .collect();
        let output = format!("{name}.out");
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.clone()],
            name: name.into(),
            op_type: op.into(),
            attribute,
            ..Default::default()
        });
        output
    }
}
