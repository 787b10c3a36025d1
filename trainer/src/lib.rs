//! Trains and exports the detectors that `spotd` runs.
//!
//! A network is a value ([`net::Net`]) with two readers: [`module`] trains it with libtorch,
//! [`onnx`] writes it as the file that the daemon loads. The daemon never links any of this.

pub mod ablate;
pub mod bank;
pub mod checkpoint;
pub mod coherence;
pub mod decoder;
pub mod device;
pub mod enlarge;
pub mod export;
pub mod feed;
pub mod finetune;
pub mod fit;
pub mod graph;
pub mod import;
pub mod missed;
pub mod module;
pub mod net;
pub mod onnx;
pub mod pack;
pub mod pairs;
pub mod photos;
pub mod plot;
pub mod reach;
pub mod resnet;
pub mod resynth;
pub mod score;
pub mod spectrum;
pub mod start;
pub mod thresholds;
pub mod torchfile;
pub mod traces;
pub mod windows;
