//! One connection to a broker, from CONNECT to its end. It never connects again by itself: what was in
//! flight is known only to the log's cursor, and the publisher begins anew from there.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Event, Incoming, LastWill, MqttOptions,
    NetworkOptions, Outgoing, QoS, StateError, TlsConfiguration, Transport,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{MqttError, broker};
use crate::config::MqttConfig;
use crate::flaglog::chain::MAX_LINE;

/// Seconds until a connection attempt, and a flush of what was sent, is given up.
const CONNECT_SECONDS: u64 = 10;
/// A broker that has been silent for one to two of these is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Largest message that a broker may send us; we ask for none but acknowledgements.
const MAX_INCOMING: usize = 64 * 1024;
/// Room for topic and header on top of the longest record.
const MAX_OUTGOING: usize = MAX_LINE + 8 * 1024;

/// What happens on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    /// The broker has accepted us.
    Connected,
    /// The oldest message given to [`Link::publish`] that had none yet got this packet id.
    Sent(u16),
    /// The broker has taken the message with this packet id.
    Acked(u16),
    /// The connection is over; nothing follows.
    Down(MqttError),
}

/// The last will: topic and payload, retained, QoS 1.
pub(super) struct Will {
    pub topic: String,
    pub payload: &'static str,
}

/// A connection, or an attempt at one, served by a thread of its own.
pub(super) struct Link {
    client: Client,
    signals: Receiver<Signal>,
}

/// There is no room for another message now.
#[derive(Debug)]
pub(super) struct Full;

impl Link {
    /// Whether all that a connection needs from this machine is there.
    pub fn check(config: &MqttConfig) -> Result<(), MqttError> {
        options(config, "check", None, 1).map(drop)
    }

    /// Begins to connect. Up to `capacity` messages can wait.
    pub fn open(config: &MqttConfig, id: &str, will: Option<Will>, capacity: u16) -> Result<Self, MqttError> {
        let options = options(config, id, will, capacity)?;
        let (client, mut connection) = Client::new(options, usize::from(capacity));
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_SECONDS).set_tcp_nodelay(true);
        connection.eventloop.set_network_options(network);
        let (tx, signals) = bounded(usize::from(capacity) * 2 + 8);
        let config = config.clone();
        std::thread::Builder::new()
            .name("mqtt-io".to_owned())
            .spawn(move || serve(&mut connection, &config, &tx))
            .map_err(|e| MqttError::Thread(e.to_string()))?;
        Ok(Self { client, signals })
    }

    /// What happens; disconnected once the connection's thread has ended.
    pub fn signals(&self) -> &Receiver<Signal> {
        &self.signals
    }

    /// Queues a message with QoS 1, without ever waiting.
    pub fn publish(&self, topic: String, retain: bool, payload: &str) -> Result<(), Full> {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|_| Full)
    }

    /// Asks the thread to say goodbye and to end; whoever wants to know when waits for `signals` to be
    /// disconnected.
    pub fn disconnect(&self) {
        // A full queue means that the broker does not take anything: the thread then ends by timeout.
        let _ = self.client.try_disconnect();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.disconnect();
    }
}

fn serve(connection: &mut Connection, config: &MqttConfig, signals: &Sender<Signal>) {
    for event in connection.iter() {
        let signal = match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => Signal::Connected,
            Ok(Event::Incoming(Incoming::PubAck(ack))) => Signal::Acked(ack.pkid),
            Ok(Event::Outgoing(Outgoing::Publish(id))) if id != 0 => Signal::Sent(id),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => {
                let _ = signals.send(Signal::Down(explain(&error, config)));
                return;
            }
        };
        if signals.send(signal).is_err() {
            return;
        }
    }
}

fn options(
    config: &MqttConfig,
    id: &str,
    will: Option<Will>,
    capacity: u16,
) -> Result<MqttOptions, MqttError> {
    // The library joins host and port with a colon.
    let host = if config.host.contains(':') { format!("[{}]", config.host) } else { config.host.clone() };
    let mut options = MqttOptions::new(id, host, config.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        // The cursor is the session: what the broker remembers of us is of no use.
        .set_clean_session(true)
        .set_inflight(capacity)
        .set_max_packet_size(MAX_INCOMING, MAX_OUTGOING);
    if let Some(user) = &config.user {
        options.set_credentials(user, config.password.as_ref().map_or("", |p| p.expose()));
    }
    if let Some(will) = will {
        options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true));
    }
    if config.tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls(config)?))));
    }
    Ok(options)
}

fn tls(config: &MqttConfig) -> Result<ClientConfig, MqttError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.ca_file {
        let bad = |reason: String| MqttError::CaFile { path: path.clone(), reason };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| bad(e.to_string()))?;
            roots.add(certificate).map_err(|e| bad(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(bad("it holds no certificate in PEM form".to_owned()));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reason = found.errors.first().map_or("none found".to_owned(), ToString::to_string);
            return Err(MqttError::NoAuthorities { reason });
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| MqttError::Tls { broker: broker(config), reason: e.to_string() })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The library's error in words that say what to do.
fn explain(error: &ConnectionError, config: &MqttConfig) -> MqttError {
    let broker = broker(config);
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                let user = config.user.as_ref().map_or("anonymous".to_owned(), |u| format!("\"{u}\""));
                MqttError::Login { broker, user }
            }
            other => MqttError::Refused { broker, reason: format!("{other:?}") },
        },
        ConnectionError::Tls(e) => MqttError::Tls { broker, reason: e.to_string() },
        ConnectionError::NetworkTimeout => {
            MqttError::Silent { broker, what: format!("no connection within {CONNECT_SECONDS} s") }
        }
        ConnectionError::FlushTimeout => {
            MqttError::Silent { broker, what: format!("it took nothing for {CONNECT_SECONDS} s") }
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => MqttError::Silent {
            broker,
            what: format!("no answer to a ping within {} s", KEEP_ALIVE.as_secs()),
        },
        ConnectionError::Io(e) => {
            use std::io::ErrorKind::{
                AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut,
            };
            match e.kind() {
                ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable | TimedOut => {
                    MqttError::Unreachable { broker, reason: e.to_string() }
                }
                // The standard library has no kind for this one.
                _ if e.to_string().contains("lookup address") => {
                    MqttError::Dns { broker, reason: e.to_string() }
                }
                _ => MqttError::Lost { broker, reason: e.to_string() },
            }
        }
        ConnectionError::NotConnAck(_) => {
            MqttError::Refused { broker, reason: "it answered CONNECT with something else".to_owned() }
        }
        other => MqttError::Lost { broker, reason: other.to_string() },
    }
}
