//! Static quantisation to int8: a float32 ONNX model and pictures in, a standard QDQ ONNX model
//! out.
//!
//! Weights are signed bytes with one scale per output channel; values between layers are bytes with
//! one scale and zero point per tensor, found on calibration tiles; biases are 32-bit. Pixels are
//! exact: steps of 1/255. How ranges are clipped, and whether biases are corrected and channels
//! equalised, is chosen by the error of the logit on tiles that were held out.

mod activations;
mod equalise;
mod error;
mod graph;
mod pixels;
mod proto;
mod ranges;
mod report;
mod rounding;
mod run;
mod scheme;
mod search;
mod simplify;
mod statistics;
mod weights;
mod write;

pub use error::QuantizeError;
pub use pixels::Normalisation;
pub use ranges::{Clipping, Step};
pub use report::{Difference, Noise, Report, Trial};
pub use scheme::Residual;
pub use search::quantize;
pub use statistics::Histogram;

/// How a model is quantised.
#[derive(Debug, Clone)]
pub struct Options {
    /// Signed bytes with zero point 0 between layers, and float biases: what TensorRT accepts.
    /// Costs a bit of precision after ReLU.
    pub symmetric: bool,
    /// How residual additions are quantised.
    pub residual: Residual,
    /// Layers, by the name of their node or output, that stay in float.
    pub keep_float: Vec<String>,
    /// Uses this clipping instead of trying all.
    pub clipping: Option<Clipping>,
    /// Whether the first and last layers may be kept in float where that makes the logit much
    /// better.
    pub may_keep_ends: bool,
    /// Weights of at most 64 steps instead of 127. Two products of neighbours then fit into 16
    /// bits, so that x86 processors without VNNI add them exactly in one instruction: spotd's
    /// kernels are faster with them, and other runtimes give the same answer. onnxruntime uses the
    /// same name.
    pub reduce_range: bool,
    /// Rounds weights to the nearest step instead of minimising the error of their layer's sums.
    /// That error depends on the products of all inputs of a kernel with one another, so kernels
    /// with thousands of weights take minutes each.
    pub round_to_nearest: bool,
    /// Threads.
    pub jobs: usize,
}

impl Options {
    /// Largest magnitude of a weight in steps.
    fn most(&self) -> f32 {
        if self.reduce_range { weights::REDUCED } else { weights::MOST }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            symmetric: false,
            residual: Residual::Fused,
            keep_float: vec![],
            clipping: None,
            may_keep_ends: true,
            reduce_range: false,
            round_to_nearest: false,
            jobs: 1,
        }
    }
}

/// Tiles in the model's input form, each `[1, 3, height, width]`, RGB in 0..1.
#[derive(Debug, Clone, Default)]
pub struct Tiles {
    /// Those used to find ranges and biases.
    pub calibrate: Vec<tract_onnx::prelude::Tensor>,
    /// Those used to measure the logit's error; from other pictures.
    pub held_out: Vec<tract_onnx::prelude::Tensor>,
}

/// A quantised model.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// What was done and what it cost.
    pub report: Report,
}

/// Receives progress reports.
pub trait Progress: Sync {
    /// A phase of `steps` steps begins.
    fn begin(&self, what: &str, steps: usize);
    /// One step is done.
    fn step(&self);
}

/// Ignores progress.
impl Progress for () {
    fn begin(&self, _: &str, _: usize) {}
    fn step(&self) {}
}
