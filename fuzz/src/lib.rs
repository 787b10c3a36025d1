//! The rooms of spotd that are fuzzed and what they need, without the rest: building them takes seconds. Those that read
//! models need the inference engine, whose build takes minutes, and come with the feature `onnx`.

#[path = "../../src/frame/mod.rs"]
pub mod frame;

pub mod source;
pub mod torchfile;

pub use spotd_flaglog as flaglog;
pub use spotd_core::{clock, identity, judgement, jump, raster, shown, verdict};

#[cfg(feature = "onnx")]
pub mod detector;
#[cfg(feature = "onnx")]
#[allow(dead_code, reason = "what writes is of no interest here")]
#[path = "../../src/quantize/mod.rs"]
pub mod quantize;
#[cfg(feature = "onnx")]
#[path = "../../src/threads.rs"]
mod threads;
#[cfg(feature = "onnx")]
mod forensics;
