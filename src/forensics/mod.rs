//! What the trainer and the evaluation share: lists of pictures, degradations, rendered scenes, and
//! average precision. Pure Rust; nothing here knows of a network.

pub mod ap;
pub mod augment;
pub mod baseline;
pub mod dataset;
pub mod rng;
pub mod scenes;
