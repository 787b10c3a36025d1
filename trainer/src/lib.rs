//! Trains and exports the detectors that `spotd` runs.
//!
//! A network is a value ([`net::Net`]) with two readers: [`module`] trains it with libtorch, [`onnx`] writes
//! it as the file that the daemon loads. The daemon never links any of this.

pub mod bank;
pub mod checkpoint;
pub mod device;
pub mod fit;
pub mod module;
pub mod net;
pub mod onnx;
pub mod pairs;
pub mod photos;
pub mod spectrum;
