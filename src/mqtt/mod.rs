//! Telling a broker: events from the flag log, each at least once and in order, and live state beside
//! them. The log is the queue, so that an outage loses nothing and slows nothing down.

mod commands;
mod discovery;
mod link;
mod live;
mod outbox;
mod publisher;
mod records;
mod retained;
mod rival;
pub mod topics;

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use ulid::Ulid;

use crate::config::MqttConfig;
use link::{Link, Signal};

pub use publisher::spawn;

/// What a broker has kept comes within this time after a subscription.
const KEPT_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no connection to the broker. No text holds a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MqttError {
    /// The host name has no address.
    #[error(
        "broker {broker}: the name cannot be resolved ({reason}); check the host in [mqtt] url and the DNS of this machine"
    )]
    Dns {
        /// Host and port.
        broker: String,
        /// What the resolver said.
        reason: String,
    },
    /// No TCP connection.
    #[error(
        "broker {broker} cannot be reached: {reason}; is it running, and are host and port in [mqtt] url right?"
    )]
    Unreachable {
        /// Host and port.
        broker: String,
        /// What the operating system said.
        reason: String,
    },
    /// User or password are wrong, or may not connect.
    #[error("broker {broker} refused the login as {user}; check user and password in [mqtt]")]
    Login {
        /// Host and port.
        broker: String,
        /// The user name in quotes, or `anonymous`.
        user: String,
    },
    /// The broker answered, and does not want us for another reason.
    #[error("broker {broker} refused the connection: {reason}")]
    Refused {
        /// Host and port.
        broker: String,
        /// The broker's reason.
        reason: String,
    },
    /// No encrypted connection.
    #[error("broker {broker}: TLS failed: {reason}")]
    Tls {
        /// Host and port.
        broker: String,
        /// What TLS said.
        reason: String,
    },
    /// Another client has taken our place.
    #[error("broker {broker}: {}", taken_over(client_id, *sure))]
    TakenOver {
        /// Host and port.
        broker: String,
        /// The client id that both have.
        client_id: String,
        /// Whether the broker has said so. Otherwise it is what several connections in a row look like.
        sure: bool,
    },
    /// A file that TLS needs cannot be used.
    #[error("[mqtt] {key} {}: {reason}", path.display())]
    File {
        /// The key in the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no authorities to trust.
    #[error(
        "this system has no certificate authorities to trust ({reason}); install the package ca-certificates or set [mqtt] ca_file"
    )]
    NoAuthorities {
        /// What was found out.
        reason: String,
    },
    /// It does not answer.
    #[error("broker {broker} does not answer: {what}; is that port an MQTT broker's?")]
    Silent {
        /// Host and port.
        broker: String,
        /// What was waited for.
        what: String,
    },
    /// The broker has closed the connection without a word.
    #[error("broker {broker}: the connection broke: the broker closed it")]
    Closed {
        /// Host and port.
        broker: String,
    },
    /// The connection broke.
    #[error("broker {broker}: the connection broke: {reason}")]
    Lost {
        /// Host and port.
        broker: String,
        /// What happened.
        reason: String,
    },
    /// The system gave no thread.
    #[error("the MQTT thread cannot be started: {0}")]
    Thread(String),
}

fn taken_over(client_id: &str, sure: bool) -> String {
    let what = if sure {
        format!(
            "another client has connected as \"{client_id}\", and the broker has closed our connection for it"
        )
    } else {
        format!(
            "it closes each connection soon after it has accepted it, as when another client connects as \"{client_id}\""
        )
    };
    format!(
        "{what}: does another box have the same [node] name, or a second spotd run here? give each a name of its own"
    )
}

/// The client id of a box.
fn client_id(node: &str) -> String {
    format!("spotd-{}", topics::level(node))
}

/// Host and port, for messages.
fn broker(config: &MqttConfig) -> String {
    format!("{}:{}", config.host, config.port)
}

/// What [`probe`] has found out about a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// That it answers, and how it was talked to.
    pub text: String,
    /// Whether a box of this name is connected to it now, as far as we may know: this one's own daemon, or another's.
    pub online: bool,
}

/// Connects, waits for the broker's answer and disconnects again; what `spotd check` tells. Publishes
/// nothing, and has a client id of its own, so that a running daemon is not pushed off.
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
            Ok(Probed { text: format!("broker {} answers ({how}, {login})", broker(config)), online })
        }
        Ok(Signal::Down(error)) => Err(error),
        Ok(_) | Err(_) => {
            link.disconnect();
            let what = format!("no answer to CONNECT within {} s", timeout.as_secs_f64());
            Err(MqttError::Silent { broker: broker(config), what })
        }
    }
}

/// Whether the broker keeps the word of a box of this name that it is online.
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
