//! The detector: which tiles of a frame to examine, and what network and coherent part say about
//! them.

pub(crate) mod bounds;
pub mod calibration;
pub mod card;
pub mod coherence;
pub mod conditions;
pub mod engine;
mod error;
pub mod mapped;
pub mod model;
pub mod pool;
pub mod scoring;
pub mod tiles;
pub mod whole;

pub use error::{CalibrationError, ModelError};
pub use model::Model;
pub use model::{check_hash, read, read_head};
pub use scoring::Detector;
pub use whole::WholePicture;
