//! What the integration tests share.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod daemon;
pub mod model;
#[cfg(feature = "mqtt")]
pub mod mosquitto;
pub mod pictures;
pub mod records;
pub mod tmpfs;
