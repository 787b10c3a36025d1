//! The trainer's readers of PyTorch and safetensors files, up to where libtorch begins.

#[path = "../../trainer/src/torchfile/parse.rs"]
pub mod parse;
#[path = "../../trainer/src/torchfile/pickle.rs"]
pub mod pickle;
#[path = "../../trainer/src/torchfile/safetensors.rs"]
pub mod safetensors;
