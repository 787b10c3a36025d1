//! Why there is no connection to the broker.

use std::path::PathBuf;

use thiserror::Error;

/// Why there is no connection to the broker. No text contains a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MqttError {
    /// The host name cannot be resolved.
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
    /// User or password are wrong, or not allowed to connect.
    #[error("broker {broker} refused the login as {user}; check user and password in [mqtt]")]
    Login {
        /// Host and port.
        broker: String,
        /// The user name in quotes, or `anonymous`.
        user: String,
    },
    /// The broker answered, but refuses us for another reason.
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
        /// The client id that both use.
        client_id: String,
        /// Whether the broker has said so. Otherwise it is inferred from several connections in a
        /// row.
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
    /// The system has no certificate authorities to trust.
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
    /// The broker has closed the connection without giving a reason.
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
    /// The OS cannot start a thread.
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
