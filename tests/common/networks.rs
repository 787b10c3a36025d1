//! Convolutional networks of well-known shapes with random weights, as float32 ONNX that follows
//! the model contract, for tests of quantisation and the benchmark of inference.

use prost::Message;
use spotd::detector::model::planar;
use spotd::forensics::rng::Rng;
use spotd::quantize::Tiles;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};
use tract_onnx::prelude::{
    self, DatumExt as _, Framework as _, InferenceModelExt as _, IntoRunnable as _, tvec,
};

/// The activation after a convolution.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Act {
    None,
    Relu,
    /// `Clip(0, 6)`.
    Relu6,
}

/// Builds a network. Each method appends to it and returns the new value's name.
pub struct Net {
    graph: GraphProto,
    rng: Rng,
    value: String,
    channels: usize,
    side: usize,
    /// Batch normalisation after each convolution, as in an unfolded export.
    norm: bool,
}

impl Net {
    /// Begins with pixels of `side` x `side`.
    pub fn new(name: &str, side: usize, seed: u64, norm: bool) -> Self {
        let graph = GraphProto {
            name: name.into(),
            input: vec![value("x", &[None, Some(3), Some(side), Some(side)])],
            output: vec![value("logit", &[None, Some(1)])],
            ..GraphProto::default()
        };
        Self { graph, rng: Rng::new(seed), value: "x".into(), channels: 3, side, norm }
    }

    /// The current value and its number of channels, to come back to.
    pub fn here(&self) -> (String, usize, usize) {
        (self.value.clone(), self.channels, self.side)
    }

    /// Continues from an earlier value.
    pub fn go_to(&mut self, (value, channels, side): (String, usize, usize)) {
        (self.value, self.channels, self.side) = (value, channels, side);
    }

    fn constant(&mut self, dims: &[usize], data: Vec<f32>) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: 1,
            raw_data: data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
        name
    }

    /// Any node on the current value.
    pub fn node(&mut self, op: &str, more: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = format!("v{}", self.graph.node.len());
        let input =
            [self.value.as_str()].into_iter().chain(more.iter().copied()).map(str::to_owned).collect();
        self.graph.node.push(NodeProto {
            op_type: op.into(),
            name: format!("{}_{}", op.to_lowercase(), self.graph.node.len()),
            input,
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        self.value.clone_from(&output);
        output
    }

    /// `(x - mean) / deviation`, with one value per channel.
    pub fn normalise(&mut self, mean: &[f32], deviation: &[f32]) {
        let shape = |n: usize| if n == 1 { vec![] } else { vec![1, n, 1, 1] };
        let mean = self.constant(&shape(mean.len()), mean.to_vec());
        let deviation = self.constant(&shape(deviation.len()), deviation.to_vec());
        self.node("Sub", &[&mean], vec![]);
        self.node("Div", &[&deviation], vec![]);
    }

    /// A convolution with zero padding of `(kernel - 1) / 2` and He initialisation.
    pub fn conv(&mut self, outputs: usize, kernel: usize, stride: usize, groups: usize, act: Act) -> String {
        let depth = self.channels / groups;
        let gain = if act == Act::None { 1.0 } else { 2f32 };
        let deviation = (gain / (depth * kernel * kernel) as f32).sqrt();
        let weights = (0..outputs * depth * kernel * kernel).map(|_| deviation * self.rng.normal()).collect();
        let weight = self.constant(&[outputs, depth, kernel, kernel], weights);
        let bias: Vec<f32> = (0..outputs).map(|_| 0.1 * self.rng.normal()).collect();
        let attributes = vec![
            ints("kernel_shape", &[kernel; 2]),
            ints("strides", &[stride; 2]),
            ints("pads", &[(kernel - 1) / 2; 4]),
            int("group", groups),
        ];
        if self.norm {
            self.node("Conv", &[&weight], attributes);
            let mut part = |least: f32, most: f32| {
                let data = (0..outputs).map(|_| self.rng.range(least, most)).collect();
                self.constant(&[outputs], data)
            };
            let parts = [part(0.8, 1.2), part(-0.1, 0.1), part(-0.1, 0.1), part(0.8, 1.2)];
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            self.node("BatchNormalization", &parts, vec![float("epsilon", 1e-5)]);
        } else {
            let bias = self.constant(&[outputs], bias);
            self.node("Conv", &[&weight, &bias], attributes);
        }
        self.channels = outputs;
        self.side = self.side.div_ceil(stride);
        self.act(act)
    }

    /// An activation.
    pub fn act(&mut self, act: Act) -> String {
        match act {
            Act::None => self.value.clone(),
            Act::Relu => self.node("Relu", &[], vec![]),
            Act::Relu6 => {
                let (low, high) = (self.constant(&[], vec![0.0]), self.constant(&[], vec![6.0]));
                self.node("Clip", &[&low, &high], vec![])
            }
        }
    }

    /// Adds an earlier value.
    pub fn add(&mut self, other: &str) -> String {
        self.node("Add", &[other], vec![])
    }

    /// Largest of `kernel` x `kernel`.
    pub fn max_pool(&mut self, kernel: usize, stride: usize) -> String {
        self.side = self.side.div_ceil(stride);
        let pad = (kernel - 1) / 2;
        let attributes =
            vec![ints("kernel_shape", &[kernel; 2]), ints("strides", &[stride; 2]), ints("pads", &[pad; 4])];
        self.node("MaxPool", &[], attributes)
    }

    /// Mean over all positions, flattened.
    pub fn mean(&mut self) -> String {
        self.node("GlobalAveragePool", &[], vec![]);
        self.side = 1;
        self.node("Flatten", &[], vec![int("axis", 1)])
    }

    /// All positions, flattened.
    pub fn flatten(&mut self) -> String {
        self.channels *= self.side * self.side;
        self.side = 1;
        self.node("Flatten", &[], vec![int("axis", 1)])
    }

    /// A dense layer.
    pub fn dense(&mut self, outputs: usize, act: Act) -> String {
        let deviation = (2.0 / self.channels as f32).sqrt();
        let weights = (0..outputs * self.channels).map(|_| deviation * self.rng.normal()).collect();
        let weight = self.constant(&[outputs, self.channels], weights);
        let bias = (0..outputs).map(|_| 0.1 * self.rng.normal()).collect();
        let bias = self.constant(&[outputs], bias);
        self.node("Gemm", &[&weight, &bias], vec![int("transB", 1)]);
        self.channels = outputs;
        self.act(act)
    }

    /// The file; the last value is the logit.
    pub fn onnx(mut self) -> Vec<u8> {
        self.graph.node.last_mut().expect("a node").output = vec!["logit".into()];
        ModelProto {
            ir_version: 8,
            producer_name: "spotd tests".into(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(self.graph),
            ..ModelProto::default()
        }
        .encode_to_vec()
    }
}

/// Mean and deviation of ImageNet's channels.
pub const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Eight 3x3 convolutions and a dense layer: 580 MMAC at 224 pixels with `width` 32.
pub fn plain(side: usize, width: usize, seed: u64) -> Vec<u8> {
    let mut net = Net::new("plain", side, seed, false);
    net.normalise(&[0.5], &[0.25]);
    for (times, stride) in [(1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (6, 2), (6, 1)] {
        net.conv(times * width, 3, stride, 1, Act::Relu);
    }
    net.mean();
    net.dense(1, Act::None);
    net.onnx()
}

/// VGG's shape: pairs of 3x3, pooling, two dense layers.
pub fn vgg(side: usize, width: usize, seed: u64) -> Vec<u8> {
    let mut net = Net::new("vgg", side, seed, false);
    net.normalise(&IMAGENET.0, &IMAGENET.1);
    for times in [1, 2, 4] {
        net.conv(times * width, 3, 1, 1, Act::Relu);
        net.conv(times * width, 3, 1, 1, Act::Relu);
        net.max_pool(2, 2);
    }
    net.flatten();
    net.dense(8 * width, Act::Relu);
    net.dense(1, Act::None);
    net.onnx()
}

/// ResNet's basic blocks (18 layers with `blocks` 2, 2, 2, 2 and `width` 64), batch normalisation
/// unfolded.
pub fn resnet_basic(side: usize, width: usize, blocks: &[usize], seed: u64) -> Vec<u8> {
    resnet(side, width, blocks, false, seed)
}

/// ResNet's bottlenecks (50 layers with `blocks` 3, 4, 6, 3 and `width` 64).
pub fn resnet_bottleneck(side: usize, width: usize, blocks: &[usize], seed: u64) -> Vec<u8> {
    resnet(side, width, blocks, true, seed)
}

fn resnet(side: usize, width: usize, blocks: &[usize], bottleneck: bool, seed: u64) -> Vec<u8> {
    let mut net = Net::new("resnet", side, seed, true);
    net.normalise(&IMAGENET.0, &IMAGENET.1);
    net.conv(width, 7, 2, 1, Act::Relu);
    net.max_pool(3, 2);
    for (stage, count) in blocks.iter().enumerate() {
        let inner = width << stage;
        let outer = if bottleneck { 4 * inner } else { inner };
        for block in 0..*count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let before = net.here();
            if bottleneck {
                net.conv(inner, 1, 1, 1, Act::Relu);
                net.conv(inner, 3, stride, 1, Act::Relu);
                net.conv(outer, 1, 1, 1, Act::None);
            } else {
                net.conv(inner, 3, stride, 1, Act::Relu);
                net.conv(outer, 3, 1, 1, Act::None);
            }
            let branch = net.here();
            let skip = if stride > 1 || before.1 != outer {
                net.go_to(before);
                net.conv(outer, 1, stride, 1, Act::None)
            } else {
                before.0
            };
            net.go_to(branch);
            net.add(&skip);
            net.act(Act::Relu);
        }
    }
    net.mean();
    net.dense(1, Act::None);
    net.onnx()
}

/// MobileNetV2's shape: expand, depthwise, project, with residuals.
pub fn mobilenet(side: usize, width: usize, seed: u64) -> Vec<u8> {
    let mut net = Net::new("mobilenet", side, seed, true);
    net.normalise(&[0.5], &[0.25]);
    net.conv(2 * width, 3, 2, 1, Act::Relu6);
    for (times, stride, count) in [(1, 1, 1), (2, 2, 2), (2, 2, 3), (4, 2, 3), (6, 1, 2)] {
        for block in 0..count {
            let stride = if block == 0 { stride } else { 1 };
            let before = net.here();
            let wide = 6 * before.1;
            net.conv(wide, 1, 1, 1, Act::Relu6);
            net.conv(wide, 3, stride, wide, Act::Relu6);
            net.conv(times * width, 1, 1, 1, Act::None);
            if stride == 1 && before.1 == times * width {
                net.add(&before.0);
            }
        }
    }
    net.conv(16 * width, 1, 1, 1, Act::Relu6);
    net.mean();
    net.dense(1, Act::None);
    net.onnx()
}

fn value(name: &str, dims: &[Option<usize>]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|d| Dimension {
            value: Some(match d {
                Some(d) => dimension::Value::DimValue(*d as i64),
                None => dimension::Value::DimParam("N".into()),
            }),
            ..Dimension::default()
        })
        .collect();
    let tensor = Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// An attribute with integers.
pub fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.iter().map(|v| *v as i64).collect(),
        ..AttributeProto::default()
    }
}

/// An integer attribute.
pub fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i: value as i64,
        ..AttributeProto::default()
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Float as i32,
        f: value,
        ..AttributeProto::default()
    }
}

/// Pixels with content: shapes, gradients and grain, different in each picture.
pub fn tile(side: u32, seed: u64) -> image::RgbImage {
    let mut rng = Rng::new(seed);
    let colours: [[f32; 3]; 4] = std::array::from_fn(|_| std::array::from_fn(|_| rng.range(0.0, 255.0)));
    let (fx, fy) = (rng.range(0.01, 0.3), rng.range(0.01, 0.3));
    let (edge, grain) = (rng.range(0.2, 0.8) * side as f32, rng.range(1.0, 20.0));
    image::RgbImage::from_fn(side, side, |x, y| {
        let wave = 0.5 + 0.5 * (x as f32 * fx + y as f32 * fy).sin();
        let half = usize::from((x as f32) < edge) + 2 * usize::from((y as f32) < edge);
        let noise = grain * rng.normal();
        image::Rgb(std::array::from_fn(|c| {
            let (a, b) = (colours[half][c], colours[(half + 1) % 4][c]);
            (a * wave + b * (1.0 - wave) + noise).clamp(0.0, 255.0) as u8
        }))
    })
}

/// Seed of the first tile that is held out.
pub const HELD_OUT: u64 = 1000;

/// This many tiles of either kind.
pub fn tiles(side: u32, calibrate: u64, held_out: u64) -> Tiles {
    let of = |first: u64, count: u64| (first..first + count).map(|s| planar(&tile(side, s))).collect();
    Tiles { calibrate: of(0, calibrate), held_out: of(HELD_OUT, held_out) }
}

/// The logits of a model on tiles, by plain tract, without the quantiser's own runner: what the
/// file means.
pub fn logits(onnx: &[u8], tiles: &[prelude::Tensor]) -> Vec<f32> {
    let mut model = tract_onnx::onnx().model_for_read(&mut &*onnx).expect("ONNX");
    model.set_input_fact(0, f32::fact(tiles[0].shape()).into()).expect("input");
    run(model.into_optimized().expect("optimises"), tiles)
}

/// The same by ONNX's own definition of `QuantizeLinear`, which divides by the scale. tract
/// multiplies by one over it: a value between two steps can go to the other one.
pub fn logits_as_defined(onnx: &[u8], tiles: &[prelude::Tensor]) -> Vec<f32> {
    let mut model = spotd_kernels::tract::onnx().model_for_read(&mut &*onnx).expect("ONNX");
    model.set_input_fact(0, f32::fact(tiles[0].shape()).into()).expect("input");
    let model = spotd_kernels::tract::unfused(model.into_typed().expect("types")).expect("constants");
    run(model.into_optimized().expect("optimises"), tiles)
}

/// The largest difference of two lists of logits.
pub fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn run(model: prelude::TypedModel, tiles: &[prelude::Tensor]) -> Vec<f32> {
    let plan = model.into_runnable().expect("runs");
    tiles
        .iter()
        .map(|t| {
            let out = plan.run(tvec!(t.clone().into())).expect("runs");
            out[0].to_plain_array_view::<f32>().expect("floats").iter().copied().next().expect("a logit")
        })
        .collect()
}
