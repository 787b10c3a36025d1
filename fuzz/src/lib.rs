//! The rooms of spotd that are fuzzed and what they need, without the rest: building them takes seconds. Those that read
//! models need the inference engine, whose build takes minutes, and come with the feature `onnx`.

#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/frame/mod.rs"]
pub mod frame;

#[path = "../../src/judgement.rs"]
pub mod judgement;
#[path = "../../src/jump.rs"]
pub mod jump;
#[path = "../../src/verdict.rs"]
pub mod verdict;

pub mod flaglog;
pub mod torchfile;

#[path = "../../src/shown/mod.rs"]
pub mod shown;
#[path = "../../src/identity.rs"]
pub mod identity;
pub mod source;

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
