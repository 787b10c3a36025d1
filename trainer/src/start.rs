//! Initial weights of a run that does not start from scratch: those of an exported model, or the
//! mean of several.
//!
//! The mean of models that were fine-tuned from one another often ranks better than any of them:
//! "Model soups", Wortsman et al., 2022.

use crate::{
    graph,
    module::BATCH_NORM_EPSILON,
    net::{Layer, Net},
};
use anyhow::{Context as _, Result, ensure};
use std::{collections::HashMap, path::PathBuf};
use tch::{Kind, Tensor, nn::VarStore};

/// Loads the mean of the weights in `models`, float32 ONNX files of `net` exported by this trainer,
/// into `store`.
///
/// An exported model has its batch normalisation folded into the convolutions, so `store`'s is set
/// to the identity except for the bias; it must stay frozen, because its statistics are lost.
///
/// # Errors
/// A file cannot be read, is quantised or belongs to a different network; the error names it.
pub fn load_mean(store: &mut VarStore, net: &Net, models: &[PathBuf]) -> Result<()> {
    let mut sum: HashMap<String, Tensor> = HashMap::new();
    for path in models {
        let found = std::fs::read(path)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| graph::constants(&bytes))
            .and_then(|found| {
                named(net, store, &found).with_context(|| format!("not a model of {}", net.name))
            })
            .with_context(|| format!("--from {}: cannot be started from", path.display()))?;
        for (name, tensor) in found {
            let share = tensor / models.len() as f64;
            let total = sum.get(&name).map_or_else(|| share.shallow_clone(), |total| total + &share);
            sum.insert(name, total);
        }
    }
    for (name, mut variable) in store.variables() {
        tch::no_grad(|| variable.f_copy_(&sum[&name]))?;
    }
    Ok(())
}

/// The variables of `store`, `net`'s module, by name, from an exported model's constants.
fn named(
    net: &Net,
    store: &VarStore,
    constants: &HashMap<String, Tensor>,
) -> Result<HashMap<String, Tensor>> {
    let mut out = Vec::new();
    walk(&net.layers, "", constants, &mut out)?;
    let out: HashMap<String, Tensor> = out.into_iter().collect();
    for (name, variable) in store.variables() {
        ensure!(
            out.get(&name).is_some_and(|tensor| tensor.size() == variable.size()),
            "it has no {name} of size {:?}",
            variable.size()
        );
    }
    Ok(out)
}

fn walk(
    layers: &[Layer],
    path: &str,
    constants: &HashMap<String, Tensor>,
    out: &mut Vec<(String, Tensor)>,
) -> Result<()> {
    let below = |part: &str| if path.is_empty() { part.to_string() } else { format!("{path}.{part}") };
    for (at, layer) in layers.iter().enumerate() {
        let here = below(&at.to_string());
        let constant = |part: &str| {
            let name = format!("{here}.{part}");
            constants.get(&name).map(Tensor::shallow_clone).with_context(|| format!("it has no {name}"))
        };
        match layer {
            Layer::Conv { bias, .. } => {
                out.push((format!("{here}.weight"), constant("weight")?));
                match layers.get(at + 1) {
                    Some(Layer::BatchNorm { channels }) => {
                        ensure!(!bias, "{here}: a bias before a batch normalisation");
                        let norm = below(&(at + 1).to_string());
                        let flat =
                            |value: f64| Tensor::full([*channels], value, (Kind::Float, tch::Device::Cpu));
                        out.push((format!("{norm}.running_mean"), flat(0.0)));
                        out.push((format!("{norm}.running_var"), flat(1.0)));
                        out.push((format!("{norm}.weight"), flat((1.0 + BATCH_NORM_EPSILON).sqrt())));
                        out.push((format!("{norm}.bias"), constant("bias")?));
                    }
                    _ if *bias => out.push((format!("{here}.bias"), constant("bias")?)),
                    _ => {}
                }
            }
            Layer::Linear { .. } => {
                out.push((format!("{here}.weight"), constant("weight")?));
                out.push((format!("{here}.bias"), constant("bias")?));
            }
            Layer::Residual { layers } => walk(layers, &here, constants, out)?,
            Layer::Sum { a, b } => {
                walk(a, &format!("{here}.a"), constants, out)?;
                walk(b, &format!("{here}.b"), constants, out)?;
            }
            // A detector's other layers have no variables; anything else that is missing is
            // reported above.
            _ => {}
        }
    }
    Ok(())
}
