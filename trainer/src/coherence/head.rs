//! The head: a few small networks whose logits are averaged, in tch for fitting and as ONNX for the
//! daemon.

use super::data::Samples;
use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use prost::Message as _;
use spotd::{
    detector::coherence::{FEATURES, is_coherence},
    forensics::rng::Rng,
};
use tch::{
    Device, Kind, Tensor,
    nn::{self, OptimizerConfig as _},
};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    attribute_proto::AttributeType, tensor_proto::DataType,
};

use crate::onnx::{Side, value};

/// Rows in a batch.
const BATCH: usize = 256;
/// Clipping of the standardised features, in standard deviations, so that a feed unlike any
/// training data does not produce extreme logits.
const CLIP: f64 = 5.0;
/// Label smoothing, so that no sample pulls without bound.
const SMOOTH: f64 = 0.03;

/// Size and length of a fit.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// Networks that are averaged.
    pub members: u64,
    /// Units of the first hidden layer; the second has 16.
    pub hidden: i64,
    /// Number of epochs.
    pub epochs: f64,
    /// Seed of weights and draws.
    pub seed: u64,
}

/// A fitted head.
pub struct Head {
    mean: Tensor,
    deviation: Tensor,
    members: Vec<Member>,
}

struct Member {
    _store: nn::VarStore,
    layers: [nn::Linear; 3],
    /// Mask of the features that it uses, `[1, FEATURES]`.
    sees: Tensor,
}

/// Every fourth member only uses coherence, which carries over to unseen generators, where a
/// spectrum may not.
fn sees(member: u64) -> Tensor {
    let of = |feature| f32::from(u8::from(member % 4 != 3 || is_coherence(feature)));
    Tensor::from_slice(&(0..FEATURES).map(of).collect::<Vec<f32>>()).view([1, -1])
}

impl Member {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = (x * &self.sees).dropout(0.2, train).apply(&self.layers[0]).relu();
        x.dropout(0.3, train).apply(&self.layers[1]).relu().apply(&self.layers[2])
    }
}

/// Fits a head to the samples selected by `take`. Deterministic for the same seed, samples, machine
/// and number of threads.
///
/// # Errors
/// libtorch fails, or the loss becomes NaN.
pub fn fit(samples: &Samples, take: impl Fn(usize) -> bool, how: Fit, bar: &ProgressBar) -> Result<Head> {
    let rows = Tensor::from_slice(&samples.rows).view([-1, FEATURES as i64]);
    let (mean, deviation) = (rows.mean_dim(0, true, Kind::Float), rows.std_dim(0, true, true) + 1e-3);
    let rows = ((rows - &mean) / &deviation).clamp(-CLIP, CLIP);
    let labels = Tensor::from_slice(&samples.labels) * (1.0 - 2.0 * SMOOTH) + SMOOTH;
    let n = samples.labels.len();
    let steps = ((how.epochs * n as f64 / BATCH as f64) as usize).max(1);
    bar.set_length(how.members * steps as u64);
    let cumulative: Vec<f64> = samples
        .weights
        .iter()
        .enumerate()
        .scan(0.0, |sum, (at, w)| {
            *sum += if take(at) { *w } else { 0.0 };
            Some(*sum)
        })
        .collect();
    let mut members = Vec::new();
    for member in 0..how.members {
        let seed = how.seed.wrapping_mul(1000).wrapping_add(member);
        tch::manual_seed(seed as i64);
        let mut rng = Rng::new(seed);
        let store = nn::VarStore::new(Device::Cpu);
        let root = store.root();
        let linear = |name: &str, from, to| nn::linear(&root / name, from, to, Default::default());
        let layers =
            [linear("0", FEATURES as i64, how.hidden), linear("1", how.hidden, 16), linear("2", 16, 1)];
        let mut optimiser = nn::AdamW::default().build(&store, RATE)?;
        let network = Member { layers, _store: store, sees: sees(member) };
        optimiser.set_weight_decay(1e-3);
        for step in 0..steps {
            optimiser.set_lr(rate(step, steps));
            let drawn: Vec<i64> = (0..BATCH)
                .map(|_| {
                    let at = f64::from(rng.unit()) * cumulative.last().copied().unwrap_or(1.0);
                    cumulative.partition_point(|c| *c <= at).min(n - 1) as i64
                })
                .collect();
            let drawn = Tensor::from_slice(&drawn);
            let x = rows.index_select(0, &drawn);
            let x = &x + x.randn_like() * 0.1;
            let logits = network.forward(&x, true).squeeze_dim(1);
            let loss = logits.binary_cross_entropy_with_logits::<Tensor>(
                &labels.index_select(0, &drawn),
                None,
                None,
                tch::Reduction::Mean,
            );
            optimiser.backward_step(&loss);
            if step % 50 == 0 {
                let loss = loss.double_value(&[]);
                ensure!(loss.is_finite(), "the loss stopped being a number at step {step}");
                bar.set_message(format!("loss {loss:.3}"));
            }
            bar.inc(1);
        }
        members.push(network);
    }
    Ok(Head { mean, deviation, members })
}

/// Highest learning rate.
const RATE: f64 = 2e-3;

/// Linear warm-up over the first tenth, then cosine decay.
fn rate(step: usize, steps: usize) -> f64 {
    let at = (step as f64 + 1.0) / steps as f64;
    if at < 0.1 {
        RATE * at / 0.1
    } else {
        RATE * 0.5 * (1.0 + (std::f64::consts::PI * (at - 0.1) / 0.9).cos())
    }
}

impl Head {
    /// Logits of rows of features.
    pub fn logits(&self, rows: &[f32]) -> Vec<f32> {
        let x = Tensor::from_slice(rows).view([-1, FEATURES as i64]);
        let x = ((x - &self.mean) / &self.deviation).clamp(-CLIP, CLIP);
        let all: Vec<Tensor> = tch::no_grad(|| self.members.iter().map(|m| m.forward(&x, false)).collect());
        let mean = Tensor::cat(&all, 1).mean_dim(1, false, Kind::Float);
        Vec::try_from(mean).expect("a float tensor")
    }

    /// The head as ONNX (operator set 13): input `x` `[N, FEATURES]`, output `logit` `[N, 1]`. The
    /// members are combined in one block-diagonal network.
    pub fn onnx(&self) -> Vec<u8> {
        let mut graph = GraphProto { name: "coherence".into(), ..Default::default() };
        let members = self.members.len() as i64;
        // Features that a member does not use have zero weights in the file.
        let first: Vec<Tensor> = self.members.iter().map(|m| &m.layers[0].ws * &m.sees).collect();
        let biases = |layer: usize| {
            Tensor::cat(&self.layer(layer, |l| l.bs.as_ref().expect("a bias").shallow_clone()), 0)
        };
        let inner = self.layer(1, |l| l.ws.shallow_clone());
        let last = Tensor::cat(&self.layer(2, |l| l.ws.shallow_clone()), 1) / members as f64;
        let last_bias = biases(2).mean_dim(0, true, Kind::Float);
        for (name, tensor) in [
            ("shift", -&self.mean),
            ("scale", self.deviation.reciprocal()),
            ("low", Tensor::from(-CLIP as f32)),
            ("high", Tensor::from(CLIP as f32)),
            ("w0", Tensor::cat(&first, 0)),
            ("b0", biases(0)),
            ("w1", Tensor::block_diag(&inner)),
            ("b1", biases(1)),
            ("w2", last),
            ("b2", last_bias),
        ] {
            graph.initializer.push(constant(name, &tensor));
        }
        let mut add = |op: &str, inputs: &[&str], output: &str| {
            let transposed = (op == "Gemm").then_some(("transB", 1));
            graph.node.push(node(op, inputs, output, transposed));
        };
        add("Add", &["x", "shift"], "centred");
        add("Mul", &["centred", "scale"], "standard");
        add("Clip", &["standard", "low", "high"], "clipped");
        add("Gemm", &["clipped", "w0", "b0"], "first");
        add("Relu", &["first"], "first.relu");
        add("Gemm", &["first.relu", "w1", "b1"], "second");
        add("Relu", &["second"], "second.relu");
        add("Gemm", &["second.relu", "w2", "b2"], "logit");
        graph.input = vec![value("x", &[Side::Any("N"), Side::Fixed(FEATURES as i64)])];
        graph.output = vec![value("logit", &[Side::Any("N"), Side::Fixed(1)])];
        ModelProto {
            ir_version: 7,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            producer_name: "spotd-train".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
            ..Default::default()
        }
        .encode_to_vec()
    }

    fn layer(&self, at: usize, what: impl Fn(&nn::Linear) -> Tensor) -> Vec<Tensor> {
        self.members.iter().map(|m| what(&m.layers[at])).collect()
    }
}

/// A node named after its only output, with an integer attribute or none.
pub(super) fn node(op: &str, inputs: &[&str], output: &str, attribute: Option<(&str, i64)>) -> NodeProto {
    let integer = |(name, i): (&str, i64)| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i,
        ..Default::default()
    };
    NodeProto {
        input: inputs.iter().map(|s| (*s).into()).collect(),
        output: vec![output.into()],
        name: output.into(),
        op_type: op.into(),
        attribute: attribute.into_iter().map(integer).collect(),
        ..Default::default()
    }
}

/// Values of the graph, as 32-bit floats.
pub(super) fn constant(name: &str, tensor: &Tensor) -> TensorProto {
    let values =
        Vec::<f32>::try_from(tensor.detach().to_kind(Kind::Float).contiguous().view(-1)).expect("floats");
    TensorProto {
        dims: tensor.size(),
        data_type: DataType::Float as i32,
        name: name.into(),
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}
