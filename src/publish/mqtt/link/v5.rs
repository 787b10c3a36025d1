//! MQTT 5. Unlike 3.1.1, it tells why a message is refused, and how long one may be.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, LastWill, Packet, PubAckReason, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use rumqttc::v5::{Client, Connection, ConnectionError, Event, MqttOptions, RecvTimeoutError, StateError};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};

use super::{CONNECT_SECONDS, Incoming, KEEP_ALIVE, MAX_INCOMING};
use super::{Signal, Step, Will, Wire, fault, tls};
use crate::publish::mqtt::MqttConfig;
use crate::publish::mqtt::MqttError;

pub(super) struct V5 {
    connection: Connection,
    config: MqttConfig,
    /// Client id.
    id: String,
    /// Why the connection is over; reported after everything that came before.
    over: Option<MqttError>,
}

pub(super) fn open(
    config: &MqttConfig,
    id: &str,
    will: Option<Will>,
    capacity: u16,
) -> Result<(Client, V5), MqttError> {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    // An IPv6 address stays without brackets: only then does TLS recognise it as an address, and
    // resolvers of "host:port" split at the last colon.
    let mut options = MqttOptions::new(id, config.host.clone(), config.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        // The cursor is the session: the broker's own memory of us is of no use.
        .set_clean_start(true)
        .set_connection_timeout(CONNECT_SECONDS)
        .set_outgoing_inflight_upper_limit(capacity)
        .set_max_packet_size(Some(u32::from(MAX_INCOMING)))
        .set_network_options(network);
    if let Some(user) = &config.user {
        options.set_credentials(user, config.password.as_ref().map_or("", |p| p.expose()));
    }
    if let Some(will) = will {
        options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true, None));
    }
    if config.tls {
        let tls = Arc::new(tls::client_config(config)?);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
    }
    let (client, connection) = Client::new(options, usize::from(capacity));
    Ok((client, V5 { connection, config: config.clone(), id: id.to_owned(), over: None }))
}

impl Wire for V5 {
    fn step(&mut self, wait: Option<Duration>) -> Step {
        if let Some(error) = &self.over {
            return match self.connection.eventloop.state.events.pop_front() {
                Some(event) => told(event),
                None => Step::Tell(Signal::Down(error.clone())),
            };
        }
        let event = match wait {
            None => self.connection.recv().ok(),
            Some(wait) => match self.connection.recv_timeout(wait) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => return Step::Nothing,
                Err(RecvTimeoutError::Disconnected) => None,
            },
        };
        match event {
            None => Step::Over,
            Some(Ok(event)) => told(event),
            Some(Err(error)) => {
                self.over = Some(explain(&error, &self.config, &self.id));
                Step::Nothing
            }
        }
    }
}

fn told(event: Event) -> Step {
    let signal = match event {
        Event::Incoming(Packet::ConnAck(ack)) => {
            let max = ack.properties.and_then(|p| p.max_packet_size);
            Signal::Connected { max_packet: max.and_then(|m| usize::try_from(m).ok()) }
        }
        Event::Incoming(Packet::PubAck(ack)) => match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Signal::Acked(ack.pkid),
            reason => Signal::Refused(ack.pkid, format!("{reason:?}")),
        },
        Event::Incoming(Packet::SubAck(ack)) => {
            let no = ack.return_codes.iter().find(|c| !matches!(c, SubscribeReasonCode::Success(_)));
            match no {
                Some(reason) => Signal::NotSubscribed(format!("{reason:?}")),
                None => return Step::Nothing,
            }
        }
        Event::Incoming(Packet::Publish(p)) => Signal::Message(Incoming {
            topic: String::from_utf8_lossy(&p.topic).into_owned(),
            payload: p.payload.to_vec(),
            retained: p.retain,
        }),
        Event::Outgoing(Outgoing::Publish(id)) if id != 0 => Signal::Sent(id),
        Event::Outgoing(Outgoing::Disconnect) => return Step::Over,
        _ => return Step::Nothing,
    };
    Step::Tell(signal)
}

fn explain(error: &ConnectionError, config: &MqttConfig, id: &str) -> MqttError {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => fault::login(config),
            ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => {
                fault::version(config, "3.1.1")
            }
            other => fault::refused(config, format!("{other:?}")),
        },
        ConnectionError::Tls(e) => fault::tls(config, e),
        ConnectionError::Timeout(_) => fault::no_connection(config),
        ConnectionError::MqttState(StateError::AwaitPingResp) => fault::no_ping(config),
        ConnectionError::MqttState(StateError::Io(e) | StateError::Deserialization(CodecError::Io(e)))
        | ConnectionError::Io(e) => fault::io(config, e),
        ConnectionError::MqttState(StateError::ConnectionAborted) => fault::closed(config),
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => fault::taken_over(config, id),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let text = reason_string.as_ref().map_or(String::new(), |t| format!(" ({t})"));
            fault::lost(config, format!("the broker closed it: {reason_code:?}{text}"))
        }
        ConnectionError::NotConnAck(_) => fault::refused(config, "it answered CONNECT with something else"),
        other => fault::lost(config, other.to_string()),
    }
}
