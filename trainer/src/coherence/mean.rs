//! `spotd-train mean-head`: one head whose logit is the mean of several fits'.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use spotd::detector::{card::sha256_hex, coherence::Head};
use tch::{Kind, Tensor};
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, tensor_proto::DataType};

use super::head::{constant, node};
use crate::checkpoint;

/// Heads that become one.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Heads that `coherence` wrote, two or more.
    #[arg(required = true, num_args = 2.., value_name = "HEAD")]
    pub heads: Vec<PathBuf>,
    /// Where the ONNX file goes.
    #[arg(long)]
    pub out: PathBuf,
}

/// Writes a head that gives the mean of the logits of all of them. Matrices are stored as int8 with a scale for each row, a
/// quarter of the size; what that changes is checked against the heads themselves. Of the shipped head it is 0.002 in the
/// mean and 0.011 at most, where logits spread by 1.8.
///
/// # Errors
/// A file cannot be read or is no head, or the result is further from the mean than rounding
/// explains; then nothing is written.
pub fn mean_head(options: &Options) -> Result<String> {
    let mut graph = GraphProto { name: "coherence".into(), ..Default::default() };
    let (mut models, mut heads) = (Vec::new(), Vec::new());
    for (at, path) in options.heads.iter().enumerate() {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        heads.push(Head::new(&bytes, path)?);
        let model = ModelProto::decode(&*bytes).with_context(|| path.display().to_string())?;
        add(&mut graph, model.graph.clone().unwrap_or_default(), &format!("{at}."))?;
        models.push(model);
    }
    let logits: Vec<String> = (0..heads.len()).map(|at| format!("{at}.logit")).collect();
    let logits: Vec<&str> = logits.iter().map(String::as_str).collect();
    graph.node.push(node("Sum", &logits, "sum", None));
    let share = Tensor::from(1.0 / heads.len() as f32).view([1, 1]);
    graph.initializer.push(constant("share", &share));
    graph.node.push(node("Mul", &["sum", "share"], "logit", None));
    // All heads have the same input and output, which `Head::new` has checked.
    let mut made = models.swap_remove(0);
    let first = made.graph.take().unwrap_or_default();
    (graph.input, graph.output) = (first.input, first.output);
    made.graph = Some(graph);
    let bytes = made.encode_to_vec();
    let read = Head::new(&bytes, &options.out)?;
    for row in super::rows() {
        let logits: Vec<f32> =
            heads.iter().map(|h| h.of_features(&row).map(|l| l[0])).collect::<Result<_, _>>()?;
        let (mean, ours) = (logits.iter().sum::<f32>() / logits.len() as f32, read.of_features(&row)?[0]);
        ensure!(
            (ours - mean).abs() <= MOST_MOVED * mean.abs().max(1.0),
            "the mean of the heads is {mean}, the new one says {ours}: nothing was written"
        );
    }
    checkpoint::write(&options.out, &bytes)?;
    Ok(format!("wrote {}, sha256 {}\n", options.out.display(), sha256_hex(&bytes)))
}

/// How far int8 may move a logit, of which large ones may move further.
const MOST_MOVED: f32 = 0.02;

/// Adds a head's graph, all its names but the input's behind `prefix`.
fn add(graph: &mut GraphProto, head: GraphProto, prefix: &str) -> Result<()> {
    let renamed = |name: &String| if name == "x" { name.clone() } else { format!("{prefix}{name}") };
    for mut tensor in head.initializer {
        tensor.name = renamed(&tensor.name);
        if tensor.dims.len() == 2 && tensor.dims[0] > 1 && tensor.data_type == DataType::Float as i32 {
            let name = tensor.name.clone();
            let (whole, scale) = (format!("{name}.whole"), format!("{name}.scale"));
            let steps = format!("{name}.int8");
            graph.initializer.extend(in_steps(tensor, &steps, &scale)?);
            graph.node.push(node("Cast", &[&steps], &whole, Some(("to", DataType::Float as i64))));
            graph.node.push(node("Mul", &[&whole, &scale], &name, None));
        } else {
            graph.initializer.push(tensor);
        }
    }
    graph.node.extend(head.node.into_iter().map(|mut node| {
        node.input = node.input.iter().map(renamed).collect();
        node.output = node.output.iter().map(renamed).collect();
        node.name = renamed(&node.name);
        node
    }));
    Ok(())
}

/// A matrix of 32-bit floats as whole steps of -127 to 127, named `steps`, and the size of a step in each row, `scale`.
fn in_steps(mut tensor: TensorProto, steps: &str, scale: &str) -> Result<[TensorProto; 2]> {
    let values: Vec<f32> =
        tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let values = Tensor::from_slice(&values).view([tensor.dims[0], tensor.dims[1]]);
    let highest = values.abs().amax([1], true);
    ensure!(highest.isfinite().all().int64_value(&[]) == 1, "{}: a weight is not finite", tensor.name);
    let sizes = highest.clamp_min(1e-12) / 127.0;
    let whole = (values / &sizes).round().to_kind(Kind::Int8).flatten(0, -1);
    let whole = Vec::<i8>::try_from(whole).context("int8")?;
    tensor.raw_data = whole.iter().map(|step| step.cast_unsigned()).collect();
    tensor.data_type = DataType::Int8 as i32;
    tensor.name = steps.into();
    Ok([tensor, constant(scale, &sizes)])
}
