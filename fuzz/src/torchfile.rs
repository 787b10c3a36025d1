//! The trainer's reader of PyTorch files, up to where libtorch begins.

#[path = "../../trainer/src/torchfile/parse.rs"]
pub mod parse;
#[path = "../../trainer/src/torchfile/pickle.rs"]
pub mod pickle;
