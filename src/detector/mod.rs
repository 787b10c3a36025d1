//! Where to look in a frame, and what the network says of it.

pub mod card;
pub mod model;
pub mod tiles;

pub use model::{Model, ModelError};
