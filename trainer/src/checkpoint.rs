//! Files of a training run: whole or not there, never half written.

use crate::net::Net;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};
use tch::nn::VarStore;

/// What a run's folder says beside the weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The network that the weights belong to.
    pub net: Net,
    /// Steps taken.
    pub steps: u64,
    /// Seconds of detector training so far, over all resumptions.
    pub seconds: f64,
    /// The budget that the schedule was made for.
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
    /// Calibration, once training is over.
    pub calibration: Option<Calibration>,
}

/// From held-out pictures of the training folders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// `score = sigmoid(logit / temperature)`.
    pub temperature: f32,
    /// Score above which a tile counts as synthetic.
    pub threshold: f32,
    /// Score above which a tile is unsure.
    pub unsure_from: f32,
    /// Held-out real tiles that were scored.
    pub tiles: usize,
    /// Average precision on held-out photographs against their resynthesis.
    pub held_out_ap: f64,
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    path.with_file_name(name)
}

/// Writes `bytes` to `path` by way of a temporary name and a sync, so that a reader sees the old file or the
/// new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = temporary(path);
    let result = std::fs::File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    });
    result.with_context(|| format!("{}: cannot be written", path.display()))
}

/// Saves `store` as safetensors, atomically.
pub fn save(store: &VarStore, path: &Path) -> Result<()> {
    // tch chooses the format by the extension, so that the temporary name keeps it.
    let partial = path.with_extension("partial.safetensors");
    store.save(&partial).with_context(|| format!("{}: cannot be written", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("{}: cannot be written", path.display()))
}

/// Loads `store` from safetensors; every variable must be there with its shape.
pub fn load(store: &mut VarStore, path: &Path) -> Result<()> {
    if !path.is_file() {
        anyhow::bail!("{}: no such checkpoint", path.display());
    }
    store.load(path).with_context(|| format!("{}: not weights of this network", path.display()))
}

/// Where a run keeps its parts.
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder.
    pub folder: PathBuf,
}

impl Run {
    /// Makes the folder where it is missing.
    pub fn new(folder: &Path) -> Result<Run> {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        Ok(Run { folder: folder.to_path_buf() })
    }

    /// The resynthesis bank.
    pub fn bank(&self) -> PathBuf {
        self.folder.join("bank")
    }

    /// Weights as the optimiser has them: resumed from.
    pub fn weights(&self) -> PathBuf {
        self.folder.join("weights.safetensors")
    }

    /// Their moving average: exported.
    pub fn average(&self) -> PathBuf {
        self.folder.join("average.safetensors")
    }

    /// Reads what the run says of itself.
    pub fn state(&self) -> Result<State> {
        let file = self.folder.join("state.json");
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!("{}: no training run here; `spotd-train fit` makes one", file.display())
        })?;
        serde_json::from_str(&text).with_context(|| format!("{}: not a run's state", file.display()))
    }

    /// Writes it.
    pub fn put_state(&self, state: &State) -> Result<()> {
        write(&self.folder.join("state.json"), serde_json::to_string_pretty(state)?.as_bytes())
    }
}
