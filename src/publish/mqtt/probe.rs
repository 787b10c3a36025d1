//! Whether a broker answers, for `spotd check`.

use std::time::Duration;

use ulid::Ulid;

use super::link::{Link, Signal};
use super::{MqttConfig, MqttError, publisher, topics};

/// Retained messages arrive within this time after a subscription.
const KEPT_WITHIN: Duration = Duration::from_secs(1);

/// What [`probe`] has learnt about a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// That it answers, and over what kind of connection.
    pub text: String,
    /// Whether a box of this name seems to be connected to it now: this box's own daemon, or
    /// another's.
    pub online: bool,
}

/// Connects, waits for the broker's answer and disconnects again; the result is what `spotd check`
/// prints. Publishes nothing, and uses its own client id, so that a running daemon is not
/// disconnected.
///
/// # Errors
/// [`MqttError`] says what is wrong and what to do; [`MqttError::Silent`] after `timeout`.
pub fn probe(config: &MqttConfig, node: &str, timeout: Duration) -> Result<Probed, MqttError> {
    let id = format!("spotd-check-{}", Ulid::new());
    let link = Link::open(config, &id, None, 4)?;
    match link.signals().recv_timeout(timeout) {
        Ok(Signal::Connected { .. }) => {
            let online = is_online(&link, config, node);
            link.disconnect();
            let how = if config.tls { "encrypted" } else { "not encrypted" };
            let login = config.user.as_ref().map_or("anonymous".to_owned(), |u| format!("as \"{u}\""));
            Ok(Probed { text: format!("broker {} answers ({how}, {login})", config.broker()), online })
        }
        Ok(Signal::Down(error)) => Err(error),
        Ok(_) | Err(_) => {
            link.disconnect();
            let what = format!("no answer to CONNECT within {} s", timeout.as_secs_f64());
            Err(MqttError::Silent { broker: config.broker(), what })
        }
    }
}

/// Whether the broker retains the status `online` of a box of this name.
fn is_online(link: &Link, config: &MqttConfig, node: &str) -> bool {
    let status = topics::Topics::new(&config.prefix, node).name(topics::Topic::Status);
    if link.subscribe(status.clone()).is_err() {
        return false;
    }
    loop {
        match link.signals().recv_timeout(KEPT_WITHIN) {
            Ok(Signal::Message(message)) if message.topic == status => {
                return message.payload == publisher::ONLINE.as_bytes();
            }
            Ok(Signal::Down(_) | Signal::NotSubscribed(_)) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}
