//! The MQTT publisher: events from the flag log, each at least once and in order, and live state
//! besides. The log is the queue, so that an outage loses nothing and slows nothing down.

//!
//! Without the feature `mqtt` only its settings exist, since a configuration may contain them all
//! the same.

#[cfg(feature = "mqtt")]
mod commands;
#[cfg(feature = "mqtt")]
mod discovery;
#[cfg(feature = "mqtt")]
mod error;
#[cfg(feature = "mqtt")]
mod link;
#[cfg(feature = "mqtt")]
mod live;
#[cfg(feature = "mqtt")]
mod outbox;
#[cfg(feature = "mqtt")]
mod probe;
#[cfg(feature = "mqtt")]
mod publisher;
#[cfg(feature = "mqtt")]
mod retained;
#[cfg(feature = "mqtt")]
mod rival;
mod settings;
#[cfg(feature = "mqtt")]
pub mod topics;

#[cfg(feature = "mqtt")]
pub use error::MqttError;
#[cfg(feature = "mqtt")]
pub use probe::{Probed, probe};
#[cfg(feature = "mqtt")]
pub use publisher::spawn;
/// Whether this machine has everything that a connection needs: certificates and keys.
///
/// # Errors
/// One of them cannot be read or used.
#[cfg(feature = "mqtt")]
pub fn check(config: &MqttConfig) -> Result<(), MqttError> {
    link::Link::check(config)
}
/// Its name, for its cursor, on the board and in metrics.
#[cfg(feature = "mqtt")]
pub const NAME: &str = "mqtt";

pub(crate) use settings::RawMqtt;
pub use settings::{ClientCert, MqttConfig, MqttVersion};
