//! Files of a training run: complete or absent, never half written.

use crate::{net::Net, torchfile};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};
use tch::{Tensor, nn::VarStore};

/// A run's state, beside the weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The network that the weights belong to.
    pub net: Net,
    /// Steps taken.
    pub steps: u64,
    /// Seconds of detector training so far, over all resumptions.
    pub seconds: f64,
    /// The budget that the schedule was planned for.
    pub budget_seconds: f64,
    /// Seconds of bank training.
    pub bank_seconds: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Photographs trained on.
    pub photographs: usize,
    /// Scenes trained on.
    pub scenes: usize,
    /// Unpaired generated pictures trained on, `--fakes`.
    pub fakes: usize,
    /// Decoders of real generators that resynthesised pictures, by their files' names.
    #[serde(default)]
    pub decoders: Vec<String>,
    /// Whether they resynthesised alone, without a bank.
    #[serde(default)]
    pub decoders_only: bool,
    /// Matched pairs trained on, of `--sets`.
    #[serde(default)]
    pub matched: usize,
    /// Whether batch normalisation is frozen, because the run started from exported models.
    #[serde(default)]
    pub frozen_norm: bool,
    /// Calibration, once training is over.
    pub calibration: Option<Calibration>,
}

/// From held-out pictures of the training folders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// `score = sigmoid(logit / temperature)`.
    pub temperature: f32,
    /// Score from which a window of frames is synthetic.
    pub threshold: f32,
    /// Score from which it is unsure.
    pub unsure_from: f32,
    /// Held-out real windows, or pictures, that were scored.
    #[serde(alias = "tiles")]
    pub windows: usize,
    /// Average precision on held-out photographs against their resynthesis.
    pub held_out_ap: f64,
}

/// Writes `path` with `make` under a temporary name, then syncs and renames, so that a reader sees
/// the old file or the new one; if anything fails, the temporary file is removed.
fn by_way_of(partial: &Path, path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let result = make(partial).and_then(|()| {
        std::fs::File::open(partial)?.sync_all()?;
        std::fs::rename(partial, path)?;
        Ok(())
    });
    if result.is_err() {
        let _ = std::fs::remove_file(partial);
    }
    result
        .with_context(|| format!("{}: cannot be written, what was there before is as it was", path.display()))
}

/// Writes `bytes` to `path`, completely or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    by_way_of(&path.with_file_name(name), path, |partial| {
        Ok(std::fs::File::create(partial)?.write_all(bytes)?)
    })
}

/// Saves `store` as safetensors, completely or not at all.
pub fn save(store: &VarStore, path: &Path) -> Result<()> {
    let named: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    save_tensors(&named, path)
}

/// Saves tensors by name as safetensors, completely or not at all.
pub fn save_tensors(named: &[(String, Tensor)], path: &Path) -> Result<()> {
    by_way_of(&path.with_extension("safetensors.partial"), path, |partial| {
        Ok(Tensor::write_safetensors(named, partial)?)
    })
}

/// Loads `store` from safetensors; every variable must be present with its shape.
pub fn load(store: &mut VarStore, path: &Path) -> Result<()> {
    if !path.is_file() {
        anyhow::bail!("{}: no such checkpoint", path.display());
    }
    let found = torchfile::read(path)?;
    for (name, mut variable) in store.variables() {
        let fits = |t: &&Tensor| t.size() == variable.size() && t.kind() == variable.kind();
        let tensor = found.get(&name).filter(fits).with_context(|| {
            format!("{}: not weights of this network: no {name} of its size and kind", path.display())
        })?;
        tch::no_grad(|| variable.f_copy_(tensor))?;
    }
    Ok(())
}

/// The layout of a run's folder.
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder.
    pub folder: PathBuf,
}

impl Run {
    /// Creates the folder if it is missing.
    pub fn new(folder: &Path) -> Result<Run> {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        Ok(Run { folder: folder.to_path_buf() })
    }

    /// The resynthesis bank.
    pub fn bank(&self) -> PathBuf {
        self.folder.join("bank")
    }

    /// The optimiser's weights, to resume from.
    pub fn weights(&self) -> PathBuf {
        self.folder.join("weights.safetensors")
    }

    /// Their moving average, to export.
    pub fn average(&self) -> PathBuf {
        self.folder.join("average.safetensors")
    }

    /// Reads the run's state.
    pub fn state(&self) -> Result<State> {
        let file = self.folder.join("state.json");
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!("{}: no training run here; `spotd-train resynth` makes one", file.display())
        })?;
        serde_json::from_str(&text).with_context(|| format!("{}: not a run's state", file.display()))
    }

    /// Writes it.
    pub fn put_state(&self, state: &State) -> Result<()> {
        write(&self.folder.join("state.json"), serde_json::to_string_pretty(state)?.as_bytes())
    }
}
