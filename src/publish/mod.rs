//! Those who are told what the flag log holds. The log is the queue: each publisher follows it with a cursor of its own, at
//! its own pace, so that an outage loses nothing and slows nothing else down.
//!
//! `delivery` does that for all of them; a publisher brings the place that records go to, and what it tells beside them.

#[cfg(any(feature = "mqtt", feature = "webhook"))]
mod backoff;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
mod delivery;
pub mod mqtt;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
mod pace;
pub mod webhook;
