//! What the trainer and the evaluation share: lists of pictures, degradations, rendered scenes, and
//! the metrics of a ranking. Pure Rust; nothing here depends on a network.

pub mod alarms;
pub mod ap;
pub mod augment;
pub mod baseline;
pub mod dataset;
pub mod inventory;
pub mod lists;
pub mod matched;
pub mod metrics;
pub mod published;
pub mod rng;
pub mod scenes;
pub mod spectrum;
