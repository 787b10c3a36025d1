//! The webhook publisher: each event record of the flag log is POSTed to a web server as its
//! verbatim line, in order and at least once, signed where there is a secret. The record's id is
//! the idempotency key, so that a duplicate can be recognised.
//!
//! Without the feature `webhook` only its settings exist, since a configuration may contain them
//! all the same.

#[cfg(feature = "webhook")]
mod client;
#[cfg(feature = "webhook")]
mod publisher;
mod settings;
#[cfg(feature = "webhook")]
mod signature;

#[cfg(feature = "webhook")]
pub use client::{Client, WebhookError};
#[cfg(feature = "webhook")]
pub use publisher::spawn;
pub use settings::WebhookConfig;
pub(crate) use settings::{RawWebhook, validate};
