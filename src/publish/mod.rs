//! Publishers of the flag log's records. The log is the queue: each publisher follows it with its
//! own cursor, at its own pace, so that an outage loses nothing and slows nothing else down.
//!
//! `delivery` does that for all of them; a publisher provides the destination, and whatever it
//! sends besides records.

#[cfg(any(feature = "mqtt", feature = "webhook"))]
mod backoff;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
mod delivery;
pub mod mqtt;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
mod pace;
pub mod webhook;
