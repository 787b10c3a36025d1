//! A run's checkpoint: weights, moments and state in one file, so that they are always consistent.

use super::{metrics::Validation, plateau::Plateau, settings::Settings};
use crate::{checkpoint, fit::adam::Adam, torchfile};
use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};
use tch::{Tensor, nn::VarStore};

/// The state of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What it was started with.
    pub settings: Settings,
    /// Steps taken.
    pub step: u64,
    /// Seconds of training, validation included, over all resumptions.
    pub seconds: f64,
    /// Learning rate and patience.
    pub plateau: Plateau,
    /// The best validation so far and its step; its weights are in `best.safetensors`.
    pub best: Option<(u64, Validation)>,
    /// Whether the schedule has ended.
    pub finished: bool,
}

/// The tensor that holds the state as JSON.
const STATE: &str = "state.json";

/// The checkpoint of a run's folder.
pub fn checkpoint_path(run: &Path) -> PathBuf {
    run.join("checkpoint.safetensors")
}

/// Weights of the best validation.
pub fn best_path(run: &Path) -> PathBuf {
    run.join("best.safetensors")
}

/// Writes the checkpoint, completely or not at all.
///
/// # Errors
/// It cannot be written; or a weight is not finite, which no checkpoint should contain.
pub fn save(run: &Path, store: &VarStore, adam: &Adam, state: &State) -> Result<()> {
    let mut named = adam.moments();
    for (name, tensor) in store.variables() {
        ensure!(
            tensor.isfinite().all().int64_value(&[]) != 0,
            "weight {name} is no longer a finite number after step {}: the checkpoint before is kept; \
             go on with --resume and a lower --rate",
            state.step
        );
        named.push((format!("weight.{name}"), tensor));
    }
    named.push((STATE.into(), Tensor::from_slice(&serde_json::to_vec(state)?)));
    checkpoint::save_tensors(&named, &checkpoint_path(run))
}

/// A checkpoint that was read.
pub struct Saved {
    /// Where the run stood.
    pub state: State,
    tensors: HashMap<String, Tensor>,
}

/// Reads the checkpoint of `run`.
pub fn read(run: &Path) -> Result<Saved> {
    let path = checkpoint_path(run);
    if !path.is_file() {
        bail!("{}: no run to go on with; leave out --resume", path.display());
    }
    let tensors: HashMap<String, Tensor> = torchfile::read(&path)?.into_iter().collect();
    let state = tensors.get(STATE).with_context(|| format!("{}: not a run of `fit`", path.display()))?;
    let state = serde_json::from_slice(&Vec::<u8>::try_from(state)?)
        .with_context(|| format!("{}: of another version", path.display()))?;
    Ok(Saved { state, tensors })
}

impl Saved {
    /// Restores weights and moments.
    ///
    /// # Errors
    /// They belong to a different network.
    pub fn restore(&self, store: &VarStore, adam: &mut Adam) -> Result<()> {
        for (name, mut variable) in store.variables() {
            let tensor = self
                .tensors
                .get(&format!("weight.{name}"))
                .filter(|tensor| tensor.size() == variable.size())
                .with_context(|| format!("a checkpoint of another network: no {name} of its size"))?;
            tch::no_grad(|| variable.f_copy_(tensor))?;
        }
        adam.restore(&self.tensors, self.state.step).context("a checkpoint of another network")
    }
}
