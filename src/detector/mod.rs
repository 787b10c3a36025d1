//! Where to look in a frame, and what the network says of it.

pub(crate) mod bounds;
pub mod calibration;
pub mod card;
pub mod coherence;
pub mod conditions;
pub mod engine;
mod error;
pub mod model;
pub mod pool;
pub mod scoring;
pub mod tiles;
pub mod whole;

pub use error::{CalibrationError, ModelError};
pub use model::Model;
pub(crate) use model::{check_hash, read, read_head};
pub use scoring::Detector;
pub use whole::WholePicture;
