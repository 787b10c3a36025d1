//! The options of `fit`, and the settings that result from them with presets filled in.

use super::{
    data::Places,
    recipe::{Augment, Recipe, Video},
};
use crate::{
    net::{self, Layer, Net},
    resnet::{Depth, Resnet, imagenet, resnet},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One of our networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The paper's.
    Resnet50,
    /// A smaller one of its kind.
    Resnet18,
    /// The detector for edge machines.
    Edge,
}

/// Settings that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// The paper's: ResNet-50, batches of 64, Adam at 1e-4.
    Cnndetection,
    /// The edge network: batches of 32, Adam at 1e-3.
    Edge,
}

/// What `fit` is told.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "fitting")]
pub struct Options {
    /// Where the pictures are.
    #[command(flatten)]
    pub places: Places,
    /// Folder of the run: checkpoint, best weights, metrics, plot, and the exported model at the
    /// end.
    #[arg(long)]
    pub run: PathBuf,
    /// Go on from the run's checkpoint, exactly; its settings are kept, only --minutes, --steps and
    /// --workers are taken.
    #[arg(long)]
    pub resume: bool,
    /// Settings that go together; what is given beside it counts more.
    #[arg(long, value_enum, default_value = "cnndetection")]
    pub preset: Preset,
    /// The network.
    #[arg(long, value_enum)]
    pub net: Option<Network>,
    /// Weights to start from: a state dict of torchvision (ImageNet's), or weights of this trainer.
    #[arg(long)]
    pub init: Option<PathBuf>,
    /// Blur and JPEG, as the paper's tables have them.
    #[arg(long, value_enum, default_value = "0.5")]
    pub augment: Augment,
    /// After blur and JPEG, a key frame of H.264 or H.265 with this probability, at a rate drawn
    /// from these CRFs (18..40 unless given): 0.5 or 0.5,20..35. Needs GStreamer with x264enc and
    /// x265enc.
    #[arg(long, value_name = "P[,CRF..CRF]")]
    pub video_codec: Option<Video>,
    /// Shorter side before the crop; 0 crops at the picture's own size.
    #[arg(long, default_value_t = 256)]
    pub resize: u32,
    /// Side of the crop, and of the exported model's tile.
    #[arg(long, default_value_t = 224)]
    pub crop: u32,
    /// Take the low frequencies away before the network sees a picture, in training and in the
    /// exported model.
    #[arg(long)]
    pub high_pass: bool,
    /// First learning rate.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Pictures in a batch.
    #[arg(long)]
    pub batch: Option<usize>,
    /// Validations without a gain before the learning rate drops to a tenth.
    #[arg(long, default_value_t = 5)]
    pub patience: u32,
    /// Training ends when the learning rate would fall below this.
    #[arg(long, default_value_t = 1e-6)]
    pub least_rate: f64,
    /// Steps between validations; by default one pass over the pictures.
    #[arg(long)]
    pub validate_every: Option<u64>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// End after so many steps in all, with a checkpoint.
    #[arg(long)]
    pub steps: Option<u64>,
    /// End after so many minutes of this call, with a checkpoint.
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Convolutions in bfloat16 (true) or float32 (false); by default whichever this machine is
    /// faster at.
    #[arg(long)]
    pub bf16: Option<bool>,
    /// Threads that load pictures; by default one for each processor, at most 16.
    #[arg(long)]
    pub workers: Option<usize>,
    /// Minutes between checkpoints, beside those after each validation.
    #[arg(long, default_value_t = 5.0)]
    pub save_minutes: f64,
    /// Sets in the paper's layout: the card then says what was measured on them.
    #[arg(long)]
    pub measure_on: Option<PathBuf>,
}

/// Everything that determines a run's outcome; kept in its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Pictures.
    pub places: Places,
    /// Network.
    pub network: Network,
    /// Weights that it started from.
    pub init: Option<PathBuf>,
    /// Augmentation and sizes.
    pub recipe: Recipe,
    /// High-pass front end.
    pub high_pass: bool,
    /// First learning rate.
    pub rate: f64,
    /// Pictures a batch.
    pub batch: usize,
    /// Patience of the schedule.
    pub patience: u32,
    /// Least learning rate.
    pub least_rate: f64,
    /// Steps between validations, where it is not one pass.
    pub validate_every: Option<u64>,
    /// Seed.
    pub seed: u64,
    /// bfloat16.
    pub bf16: bool,
}

impl Options {
    /// With the preset filled in; `bf16` is what this machine is faster at.
    pub fn settings(&self, bf16: bool) -> Settings {
        let (network, rate, batch) = match self.preset {
            Preset::Cnndetection => (Network::Resnet50, 1e-4, 64),
            Preset::Edge => (Network::Edge, 1e-3, 32),
        };
        Settings {
            places: self.places.clone(),
            network: self.net.unwrap_or(network),
            init: self.init.clone(),
            recipe: Recipe {
                augment: self.augment,
                resize: (self.resize > 0).then_some(self.resize),
                crop: self.crop,
                video: self.video_codec,
            },
            high_pass: self.high_pass,
            rate: self.rate.unwrap_or(rate),
            batch: self.batch.unwrap_or(batch),
            patience: self.patience,
            least_rate: self.least_rate,
            validate_every: self.validate_every,
            seed: self.seed,
            bf16: self.bf16.unwrap_or(bf16),
        }
    }
}

impl Network {
    /// Its layers; for a ResNet also torchvision's names of them.
    pub fn build(self, high_pass: bool) -> (Net, Option<Resnet>) {
        // The residual of a picture in 0..1 has a deviation of about 0.05.
        let front = || {
            if high_pass {
                vec![Layer::HighPass { channels: 3 }, Layer::Normalise { mean: 0.0, deviation: 0.05 }]
            } else {
                imagenet()
            }
        };
        let mut net = match self {
            Network::Resnet50 | Network::Resnet18 => {
                let depth = if self == Network::Resnet50 { Depth::Resnet50 } else { Depth::Resnet18 };
                let mut known = resnet(depth, 1, front());
                if high_pass {
                    known.net.name += "-high-pass";
                }
                return (known.net.clone(), Some(known));
            }
            Network::Edge => net::edge(),
        };
        if high_pass {
            net.layers.splice(..1, front());
            net.name += "-high-pass";
        }
        (net, None)
    }
}
