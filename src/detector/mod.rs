//! Where to look in a frame, and what the network says of it.

pub mod card;
mod identity;
pub mod judge;
pub mod model;
pub mod pool;
pub mod tiles;

pub use model::{Model, ModelError};
