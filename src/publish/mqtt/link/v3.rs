//! MQTT 3.1.1.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::Error as CodecError;
use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Event, LastWill, MqttOptions, NetworkOptions,
    Outgoing, Packet, QoS, RecvTimeoutError, StateError, SubscribeReasonCode, TlsConfiguration, Transport,
};

use super::{CONNECT_SECONDS, Incoming, KEEP_ALIVE, MAX_HEAD, MAX_INCOMING, MAX_PAYLOAD};
use super::{Signal, Step, Will, Wire, fault, tls};
use crate::publish::mqtt::MqttConfig;
use crate::publish::mqtt::MqttError;

pub(super) struct V3 {
    connection: Connection,
    config: MqttConfig,
    /// Why the connection is over; reported after everything that came before.
    over: Option<MqttError>,
}

pub(super) fn open(
    config: &MqttConfig,
    id: &str,
    will: Option<Will>,
    capacity: u16,
) -> Result<(Client, V3), MqttError> {
    // An IPv6 address stays without brackets, as in `v5`.
    let mut options = MqttOptions::new(id, config.host.clone(), config.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        // The cursor is the session: the broker's own memory of us is of no use.
        .set_clean_session(true)
        .set_inflight(capacity)
        .set_max_packet_size(usize::from(MAX_INCOMING), MAX_PAYLOAD + MAX_HEAD);
    if let Some(user) = &config.user {
        options.set_credentials(user, config.password.as_ref().map_or("", |p| p.expose()));
    }
    if let Some(will) = will {
        options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true));
    }
    if config.tls {
        let tls = Arc::new(tls::client_config(config)?);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
    }
    let (client, mut connection) = Client::new(options, usize::from(capacity));
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_SECONDS).set_tcp_nodelay(true);
    connection.eventloop.set_network_options(network);
    Ok((client, V3 { connection, config: config.clone(), over: None }))
}

impl Wire for V3 {
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
                self.over = Some(explain(&error, &self.config));
                Step::Nothing
            }
        }
    }
}

fn told(event: Event) -> Step {
    let signal = match event {
        Event::Incoming(Packet::ConnAck(_)) => Signal::Connected { max_packet: None },
        // This version cannot refuse a message: a broker that does not allow it acknowledges and
        // drops it.
        Event::Incoming(Packet::PubAck(ack)) => Signal::Acked(ack.pkid),
        Event::Incoming(Packet::SubAck(ack)) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
            Signal::NotSubscribed("refused".to_owned())
        }
        Event::Incoming(Packet::Publish(p)) => {
            Signal::Message(Incoming { topic: p.topic, payload: p.payload.to_vec(), retained: p.retain })
        }
        Event::Outgoing(Outgoing::Publish(id)) if id != 0 => Signal::Sent(id),
        Event::Outgoing(Outgoing::Disconnect) => return Step::Over,
        _ => return Step::Nothing,
    };
    Step::Tell(signal)
}

fn explain(error: &ConnectionError, config: &MqttConfig) -> MqttError {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => fault::login(config),
            ConnectReturnCode::RefusedProtocolVersion => fault::version(config, "5"),
            other => fault::refused(config, format!("{other:?}")),
        },
        ConnectionError::Tls(e) => fault::tls(config, e),
        ConnectionError::NetworkTimeout => fault::no_connection(config),
        ConnectionError::FlushTimeout => fault::takes_nothing(config),
        ConnectionError::MqttState(StateError::AwaitPingResp) => fault::no_ping(config),
        ConnectionError::MqttState(StateError::ConnectionAborted) => fault::closed(config),
        // In transit when the broker closed it.
        ConnectionError::MqttState(StateError::Io(e) | StateError::Deserialization(CodecError::Io(e)))
            if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
        {
            fault::closed(config)
        }
        ConnectionError::MqttState(StateError::Io(e) | StateError::Deserialization(CodecError::Io(e)))
        | ConnectionError::Io(e) => fault::io(config, e),
        ConnectionError::NotConnAck(_) => fault::refused(config, "it answered CONNECT with something else"),
        other => fault::lost(config, other.to_string()),
    }
}
