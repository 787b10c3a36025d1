//! Of the detector, what reads models and cards.

#[path = "../../src/detector/bounds.rs"]
pub(crate) mod bounds;
#[path = "../../src/detector/calibration.rs"]
pub mod calibration;
#[path = "../../src/detector/card.rs"]
pub mod card;
#[path = "../../src/detector/coherence/mod.rs"]
pub mod coherence;
#[path = "../../src/detector/conditions.rs"]
pub mod conditions;
#[path = "../../src/detector/engine.rs"]
pub mod engine;
#[path = "../../src/detector/error.rs"]
mod error;
#[path = "../../src/detector/model.rs"]
pub mod model;

pub use error::{CalibrationError, ModelError};
pub use model::Model;
