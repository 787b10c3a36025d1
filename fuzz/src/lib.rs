//! The rooms of spotd that are fuzzed, without the rest: building them takes seconds.
//!
//! What is a crate of its own is used as one: `spotd-core` and `spotd-flaglog`. What still comes by its path is part of
//! a crate that cannot be had in parts: `frame` and `source` are rooms of the daemon, which brings the inference engine, and
//! `torchfile` is one of the trainer, which brings libtorch. Rooms that read models need that engine, whose build under a
//! sanitizer takes minutes, and come with the feature `onnx`.

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
