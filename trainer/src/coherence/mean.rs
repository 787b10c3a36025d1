//! `spotd-train mean-head`: one head whose logit is the mean of several fits'.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use spotd::detector::{card::sha256_hex, coherence::Head};
use tch::{Kind, Tensor};
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, tensor_proto::DataType};

use super::MOST_APART;
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

/// Writes a head that gives the mean of the logits of all of them. Matrices are stored in 16-bit
/// floats, for half the size; what that changes is checked against the heads themselves.
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
        let logits: Vec<f32> = heads.iter().map(|h| h.of_features(&row)).collect::<Result<_, _>>()?;
        let (mean, ours) = (logits.iter().sum::<f32>() / logits.len() as f32, read.of_features(&row)?);
        ensure!(
            (ours - mean).abs() <= 4.0 * MOST_APART * mean.abs().max(1.0),
            "the mean of the heads is {mean}, the new one says {ours}: nothing was written"
        );
    }
    checkpoint::write(&options.out, &bytes)?;
    Ok(format!("wrote {}, sha256 {}\n", options.out.display(), sha256_hex(&bytes)))
}

/// Adds a head's graph, all its names but the input's behind `prefix`.
fn add(graph: &mut GraphProto, head: GraphProto, prefix: &str) -> Result<()> {
    let renamed = |name: &String| if name == "x" { name.clone() } else { format!("{prefix}{name}") };
    for mut tensor in head.initializer {
        tensor.name = renamed(&tensor.name);
        if tensor.dims.len() == 2 && tensor.dims[0] > 1 && tensor.data_type == DataType::Float as i32 {
            let name = tensor.name.clone();
            graph.initializer.push(halved(tensor)?);
            let half = format!("{name}.half");
            graph.node.push(node("Cast", &[&half], &name, Some(("to", DataType::Float as i64))));
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

/// A matrix of 32-bit floats as one of 16-bit floats, rounded to the nearest.
fn halved(mut tensor: TensorProto) -> Result<TensorProto> {
    let values: Vec<f32> =
        tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let halves = Tensor::from_slice(&values).to_kind(Kind::Half);
    let highest = halves.to_kind(Kind::Float).abs().max();
    ensure!(highest.double_value(&[]).is_finite(), "{}: a weight is beyond 16-bit floats", tensor.name);
    let bits = Vec::<i16>::try_from(halves.view_dtype(Kind::Int16)).context("16-bit floats")?;
    tensor.raw_data = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    tensor.data_type = DataType::Float16 as i32;
    tensor.name += ".half";
    Ok(tensor)
}
