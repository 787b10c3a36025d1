//! Quantised ONNX graphs with random weights, written as a quantiser writes them.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto,
    tensor_shape_proto::dimension::Value, type_proto,
};
use tract_onnx::prelude::*;

/// A graph in the making. Values are named by the node that makes them.
pub struct Net {
    pub graph: GraphProto,
    random: u64,
}

/// A value that has been quantised and dequantised, with its number of channels.
#[derive(Clone)]
pub struct Bytes {
    pub name: String,
    pub channels: usize,
}

/// How a convolution slides.
#[derive(Clone, Copy)]
pub struct Slide {
    pub kernel: usize,
    pub stride: usize,
    pub groups: usize,
}

pub fn slide(kernel: usize, stride: usize) -> Slide {
    Slide { kernel, stride, groups: 1 }
}

pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
}
use Attribute::{Int, Ints};

impl Net {
    /// A graph with the input `x`, `[N, 3, side, side]`.
    pub fn new(side: i64) -> Net {
        let dims = [None, Some(3), Some(side), Some(side)];
        let graph = GraphProto { name: "net".into(), input: vec![value("x", &dims)], ..Default::default() };
        Net { graph, random: 0x2545_F491_4F6C_DD1D }
    }

    /// A number in 0..1.
    fn next(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn constant(&mut self, name: &str, dims: &[i64], kind: DataType, raw_data: Vec<u8>) -> String {
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

    pub fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        self.constant(name, dims, DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<(&str, Attribute)>,
    ) -> String {
        let attribute = attributes.into_iter().map(|(name, value)| attribute(name, value)).collect();
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![name.to_string()],
            name: name.into(),
            op_type: op.into(),
            attribute,
            ..Default::default()
        });
        name.into()
    }

    /// `QuantizeLinear` and `DequantizeLinear` with an unsigned byte.
    pub fn quantised(&mut self, x: &str, channels: usize, scale: f32, zero_point: u8) -> Bytes {
        let s = self.floats(&format!("{x}.scale"), &[], &[scale]);
        let z = self.constant(&format!("{x}.zero"), &[], DataType::Uint8, vec![zero_point]);
        let q = self.node("QuantizeLinear", &format!("{x}.q"), &[x, &s, &z], vec![]);
        let name = self.node("DequantizeLinear", &format!("{x}.dq"), &[&q, &s, &z], vec![]);
        Bytes { name, channels }
    }

    /// Random signed weights with a scale an output channel, dequantised; `fan` is what one output
    /// sums over.
    pub fn weights(&mut self, name: &str, dims: &[i64], fan: usize, axis: i64) -> String {
        let count = dims.iter().product::<i64>() as usize;
        let outputs = dims[axis as usize] as usize;
        let raw = (0..count).map(|_| (self.next() * 255.0 - 127.5).round() as i8 as u8).collect();
        let scales: Vec<f32> =
            (0..outputs).map(|_| (0.8 + 0.4 * self.next()) * 1.4 / (74.0 * (fan as f32).sqrt())).collect();
        let w = self.constant(&format!("{name}.weight"), dims, DataType::Int8, raw);
        let s = self.floats(&format!("{name}.weight_scale"), &[outputs as i64], &scales);
        let z = self.constant(
            &format!("{name}.weight_zero"),
            &[outputs as i64],
            DataType::Int8,
            vec![0; outputs],
        );
        self.node("DequantizeLinear", &format!("{name}.w"), &[&w, &s, &z], vec![("axis", Int(axis))])
    }

    fn bias(&mut self, name: &str, outputs: usize) -> String {
        let values: Vec<f32> = (0..outputs).map(|_| self.next() * 0.4 - 0.1).collect();
        self.floats(&format!("{name}.bias"), &[outputs as i64], &values)
    }

    /// A convolution with bias; its result is a float.
    pub fn conv(&mut self, name: &str, x: &Bytes, outputs: usize, by: Slide) -> String {
        let depth = x.channels / by.groups;
        let k = by.kernel as i64;
        let w = self.weights(name, &[outputs as i64, depth as i64, k, k], depth * by.kernel * by.kernel, 0);
        let b = self.bias(name, outputs);
        let attributes = vec![
            ("kernel_shape", Ints(vec![k; 2])),
            ("strides", Ints(vec![by.stride as i64; 2])),
            ("pads", Ints(vec![k / 2; 4])),
            ("group", Int(by.groups as i64)),
        ];
        self.node("Conv", name, &[&x.name, &w, &b], attributes)
    }

    /// A convolution with ReLU, quantised.
    pub fn conv_relu(&mut self, name: &str, x: &Bytes, outputs: usize, by: Slide) -> Bytes {
        let y = self.conv(name, x, outputs, by);
        let y = self.node("Relu", &format!("{name}.relu"), &[&y], vec![]);
        self.quantised(&y, outputs, 0.025, 0)
    }

    pub fn max_pool(&mut self, name: &str, x: &Bytes, kernel: i64, stride: i64, pad: i64) -> Bytes {
        let attributes = vec![
            ("kernel_shape", Ints(vec![kernel; 2])),
            ("strides", Ints(vec![stride; 2])),
            ("pads", Ints(vec![pad; 4])),
        ];
        let y = self.node("MaxPool", name, &[&x.name], attributes);
        self.quantised(&y, x.channels, 0.025, 0)
    }

    /// Mean over the picture, flattened, quantised.
    pub fn mean(&mut self, name: &str, x: &Bytes) -> Bytes {
        let y = self.node("GlobalAveragePool", &format!("{name}.mean"), &[&x.name], vec![]);
        let y = self.node("Flatten", name, &[&y], vec![("axis", Int(1))]);
        self.quantised(&y, x.channels, 0.01, 0)
    }

    /// A dense layer; its result is a float.
    pub fn dense(&mut self, name: &str, x: &Bytes, outputs: usize) -> String {
        let w = self.weights(name, &[outputs as i64, x.channels as i64], x.channels, 0);
        let b = self.bias(name, outputs);
        self.node("Gemm", name, &[&x.name, &w, &b], vec![("transB", Int(1))])
    }

    /// The file, with `output` as the logit.
    pub fn finish(mut self, output: &str) -> Vec<u8> {
        self.graph.output = vec![value(output, &[None, Some(1)])];
        self.encode()
    }

    pub fn encode(self) -> Vec<u8> {
        let model = ModelProto {
            ir_version: 7,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(self.graph),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

pub fn value(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|n| tensor_shape_proto::Dimension {
            value: Some(n.map_or(Value::DimParam("N".into()), Value::DimValue)),
            ..Default::default()
        })
        .collect();
    let tensor =
        type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}

fn attribute(name: &str, value: Attribute) -> AttributeProto {
    let name = name.to_string();
    match value {
        Int(i) => AttributeProto { name, r#type: AttributeType::Int as i32, i, ..Default::default() },
        Ints(ints) => AttributeProto { name, r#type: AttributeType::Ints as i32, ints, ..Default::default() },
    }
}

/// Reads a file for pictures of `shape`, with quantisation kept.
pub fn typed(bytes: &[u8], shape: [usize; 4]) -> TractResult<TypedModel> {
    spotd_kernels::tract::onnx()
        .model_for_read(&mut &*bytes)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_typed()
}

/// All outputs.
pub fn run(model: TypedModel, inputs: Vec<Tensor>) -> TractResult<Vec<Tensor>> {
    let outputs =
        model.into_optimized()?.into_runnable()?.run(inputs.into_iter().map(|t| t.into()).collect())?;
    Ok(outputs.into_iter().map(|t| t.into_tensor()).collect())
}

/// Pixels in 0..1 that are no noise: waves, as a picture has them.
pub fn pixels(shape: [usize; 4]) -> Tensor {
    let [_, c, h, w] = shape;
    let value = |i: usize| {
        let (n, c, y, x) = (i / (c * h * w), i / (h * w) % c, i / w % h, i % w);
        let wave = (x as f32 * (0.3 + 0.1 * c as f32)).sin() * (y as f32 * 0.2 + n as f32).cos();
        ((wave * 0.5 + 0.5) * 255.0).round() / 255.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_shape(&shape, &values).expect("as many as the shape has")
}

/// The floats of a tensor.
pub fn reals(tensor: &Tensor) -> Vec<f32> {
    tensor.try_as_plain_ram().expect("in memory").as_slice::<f32>().expect("floats").to_vec()
}
