//! Imports weights saved by PyTorch: the published CNNDetection checkpoints and torchvision's
//! ResNet-18 and ResNet-50.

use crate::{
    checkpoint,
    export::{self, About},
    module::Module,
    net::{self, Net},
    onnx::{self, Ends},
    resnet::{Depth, Resnet, imagenet, resnet},
    torchfile::{self, Weights},
};
use anyhow::{Context as _, Result, bail, ensure};
use spotd::detector::card::{Card, Training, sha256_hex};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
use tch::{Device, Kind, Tensor, nn::VarStore};

/// What `import` is told.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "importing")]
pub struct Options {
    /// A state dict of torch.save (.pth, .pt; zip or the older form), or safetensors with
    /// torchvision's names.
    pub checkpoint: PathBuf,
    /// Where the files go.
    #[arg(long, default_value = "models")]
    pub out: PathBuf,
    /// Name of the model and of its files; by default the checkpoint's file name.
    #[arg(long)]
    pub name: Option<String>,
    /// For the card: licence of the weights.
    #[arg(long, default_value = "not stated; see where the checkpoint comes from")]
    pub licence: String,
    /// For the card: what it was trained on.
    #[arg(long, default_value = "not stated; see where the checkpoint comes from")]
    pub data: String,
    /// For the card: what it does not see or gets wrong; may be given several times.
    #[arg(long)]
    pub known_failure: Vec<String>,
    /// Sets in the paper's layout: the card then says what was measured on them.
    #[arg(long)]
    pub measure_on: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    /// The network.
    pub net: Net,
    /// Its outputs: 1 for a detector, 1000 for ImageNet's classes.
    pub outputs: i64,
    /// The card, for a detector.
    pub card: Option<Card>,
    /// Files written: safetensors, ONNX, card.
    pub files: Vec<PathBuf>,
}

/// Writes `<name>.safetensors` (torchvision's names), `<name>.onnx` and, for a network of one
/// output, its card.
pub fn import(options: &Options) -> Result<Imported> {
    let path = &options.checkpoint;
    let weights = torchfile::read(path)?;
    let (known, outputs) = recognise(&weights).with_context(|| path.display().to_string())?;
    let mut store = VarStore::new(Device::Cpu);
    let module = Module::new(&store.root(), &known.net);
    assign(&store, &weights, &known, false).with_context(|| path.display().to_string())?;
    store.freeze();
    let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = options.name.clone().or_else(stem).unwrap_or_else(|| known.net.name.clone());
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{}: cannot be made", options.out.display()))?;
    let safetensors = options.out.join(format!("{name}.safetensors"));
    let (card, onnx) = if outputs == 1 {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let about = About {
            name,
            version: "imported".into(),
            tile: net::TILE,
            // As in the paper: the plain sigmoid with a threshold of one half.
            calibration: (1.0, 0.5, 0.5),
            licence: options.licence.clone(),
            known_failures: [
                vec!["not calibrated: its ranking carries over to new generators, the threshold of 0.5 does not".into()],
                options.known_failure.clone(),
            ]
            .concat(),
            training: Training {
                data: options.data.clone(),
                recipe: format!(
                    "imported from {} (SHA-256 {})",
                    path.file_name().unwrap_or_default().to_string_lossy(),
                    sha256_hex(&bytes)
                ),
                minutes: 0.0,
                seed: 0,
            },
        };
        let (card, onnx) =
            export::ship(&known.net, &store, &module, about, options.measure_on.as_deref(), &options.out)?;
        (Some(card), onnx)
    } else {
        let mut ends = Ends::detector(net::TILE);
        ends.output = "logits";
        ends.output_shape[1] = onnx::Side::Fixed(outputs);
        let onnx = options.out.join(format!("{name}.onnx"));
        checkpoint::write(&onnx, &onnx::write(&known.net, &store, &ends)?)?;
        (None, onnx)
    };
    let named: Vec<(String, Tensor)> = weights.into_iter().collect();
    checkpoint::save_tensors(&named, &safetensors)?;
    let mut files = vec![safetensors, onnx.clone()];
    files.extend(card.as_ref().map(|_| Card::path_for(&onnx)));
    Ok(Imported { net: known.net, outputs, card, files })
}

/// The network that the names and shapes belong to, and its number of outputs.
fn recognise(weights: &Weights) -> Result<(Resnet, i64)> {
    let first: Vec<&str> = weights.keys().take(4).map(String::as_str).collect();
    let fc = weights.get("fc.weight").with_context(|| {
        format!("not a ResNet of torchvision: it has no fc.weight (its first names: {first:?})")
    })?;
    let [outputs, features] = fc.size()[..] else { bail!("fc.weight of size {:?}", fc.size()) };
    let has = |name: &str| weights.contains_key(name);
    let depth = match (has("layer1.0.conv3.weight"), features) {
        (false, 512) if has("layer1.1.conv2.weight") && !has("layer1.2.conv1.weight") => Depth::Resnet18,
        (true, 2048) if has("layer3.5.conv3.weight") && !has("layer3.6.conv1.weight") => Depth::Resnet50,
        _ => bail!("another network than torchvision's ResNet-18 and ResNet-50, the two that are known here"),
    };
    Ok((resnet(depth, outputs, imagenet()), outputs))
}

/// Copies `weights`, with torchvision's names, into the network's variables. `backbone` leaves the
/// last layer unchanged.
///
/// # Errors
/// A weight is missing, left over, has a different shape, or is not finite; the first of each are
/// named.
pub fn assign(store: &VarStore, weights: &Weights, known: &Resnet, backbone: bool) -> Result<()> {
    let mut left: BTreeSet<&str> =
        weights.keys().map(String::as_str).filter(|name| !name.ends_with(".num_batches_tracked")).collect();
    let (mut missing, mut wrong) = (Vec::new(), Vec::new());
    let theirs = |ours: &str| -> Option<String> {
        let (prefix, part) = ours.rsplit_once('.')?;
        let (theirs, _) = known.names.iter().find(|(_, ours)| ours == prefix)?;
        Some(format!("{theirs}.{part}"))
    };
    for (ours, mut variable) in store.variables() {
        let name = theirs(&ours).with_context(|| format!("{ours}: a layer that torchvision lacks"))?;
        left.remove(name.as_str());
        if backbone && name.starts_with("fc.") {
            continue;
        }
        let Some(tensor) = weights.get(&name) else {
            missing.push(name);
            continue;
        };
        if tensor.size() != variable.size() {
            wrong.push(format!("{name} is {:?}, not {:?}", tensor.size(), variable.size()));
        } else if tensor.isfinite().all().int64_value(&[]) == 0 {
            wrong.push(format!("{name} holds a value that is not a finite number"));
        } else {
            tch::no_grad(|| variable.f_copy_(&tensor.to_kind(Kind::Float)))?;
        }
    }
    left.retain(|name| !(backbone && name.starts_with("fc.")));
    ensure!(
        missing.is_empty() && wrong.is_empty() && left.is_empty(),
        "not the weights of {}: {} missing {:?}, {} wrong {:?}, {} left over {:?}",
        known.net.name,
        missing.len(),
        missing.iter().take(3).collect::<Vec<_>>(),
        wrong.len(),
        wrong.iter().take(3).collect::<Vec<_>>(),
        left.len(),
        left.iter().take(3).collect::<Vec<_>>(),
    );
    Ok(())
}

/// Initial weights for `store` from `path`: a state dict with torchvision's names, whose last layer
/// is left aside where its size differs, or weights that this trainer saved.
pub fn initialise(store: &VarStore, known: Option<&Resnet>, path: &Path) -> Result<()> {
    let weights = torchfile::read(path)?;
    let inner = || -> Result<()> {
        if weights.contains_key("conv1.weight") {
            let known =
                known.context("weights of a ResNet, but the network is another; give --net to match")?;
            let (found, outputs) = recognise(&weights)?;
            ensure!(
                found.net.name == known.net.name,
                "weights of {}, but the network is {}; give --net {}",
                found.net.name,
                known.net.name,
                found.net.name
            );
            return assign(store, &weights, known, outputs != 1);
        }
        let variables = store.variables();
        for (name, variable) in &variables {
            let tensor =
                weights.get(name).with_context(|| format!("not of this network: it has no {name}"))?;
            ensure!(
                tensor.size() == variable.size(),
                "not of this network: {name} is {:?}, not {:?}",
                tensor.size(),
                variable.size()
            );
        }
        for (name, mut variable) in variables {
            tch::no_grad(|| variable.f_copy_(&weights[&name].to_kind(Kind::Float)))?;
        }
        Ok(())
    };
    inner().with_context(|| path.display().to_string())
}
