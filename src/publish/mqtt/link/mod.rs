//! One connection to a broker, from CONNECT to its end. It never reconnects by itself: only the
//! log's cursor knows what was in flight, and the publisher starts again from there.

mod fault;
mod tls;
mod v3;
mod v5;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::MqttError;
use crate::publish::mqtt::{MqttConfig, MqttVersion};

/// Seconds after which a connection attempt, or a flush of what was sent, is given up.
const CONNECT_SECONDS: u64 = 10;
/// A broker that has been silent for one to two of these intervals is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Time within which it is noticed that a connection is no longer needed, whatever the broker does.
const LOOK_UP: Duration = Duration::from_secs(1);
/// Largest message that a broker may send us: a command, or Home Assistant's birth message.
const MAX_INCOMING: u16 = 16 * 1024;
/// Longest payload that we send, a picture.
pub(super) const MAX_PAYLOAD: usize = 4 * 1024 * 1024;
/// Room for topic and header on top of the payload; an MQTT topic has at most 65535 bytes.
pub(super) const MAX_HEAD: usize = 68 * 1024;

/// What happens on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    /// The broker has accepted us.
    Connected {
        /// The longest packet that it accepts, if it says so.
        max_packet: Option<usize>,
    },
    /// The oldest message given to [`Link::publish`] without a packet id has got this one.
    Sent(u16),
    /// The broker has accepted the message with this packet id.
    Acked(u16),
    /// The broker refuses the message with this packet id, and why.
    Refused(u16, String),
    /// The broker refuses our subscription.
    NotSubscribed(String),
    /// A message for us.
    Message(Incoming),
    /// The connection is over; nothing follows.
    Down(MqttError),
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incoming {
    pub topic: String,
    pub payload: Vec<u8>,
    /// Whether it is a retained one from before.
    pub retained: bool,
}

/// The last will: topic and payload, retained, QoS 1.
pub(super) struct Will {
    pub topic: String,
    pub payload: &'static str,
}

/// A connection, or an attempt at one, served by its own thread.
pub(super) struct Link {
    client: Client,
    signals: Receiver<Signal>,
    unwanted: Arc<AtomicBool>,
}

enum Client {
    V3(rumqttc::Client),
    V5(rumqttc::v5::Client),
}

/// There is no room for another message now.
#[derive(Debug)]
pub(super) struct Full;

/// One version of the protocol.
trait Wire: Send {
    /// The next event, waiting at most `wait`, if given.
    fn step(&mut self, wait: Option<Duration>) -> Step;
}

enum Step {
    Tell(Signal),
    /// Something of no interest.
    Nothing,
    /// It has ended as requested.
    Over,
}

impl Link {
    /// Whether this machine has everything that a connection needs.
    pub fn check(config: &MqttConfig) -> Result<(), MqttError> {
        if config.tls { tls::client_config(config).map(drop) } else { Ok(()) }
    }

    /// Begins to connect. Up to `capacity` messages can be queued.
    pub fn open(config: &MqttConfig, id: &str, will: Option<Will>, capacity: u16) -> Result<Self, MqttError> {
        let (client, mut wire): (Client, Box<dyn Wire>) = match config.version {
            MqttVersion::V3 => {
                let (client, wire) = v3::open(config, id, will, capacity)?;
                (Client::V3(client), Box::new(wire))
            }
            MqttVersion::V5 => {
                let (client, wire) = v5::open(config, id, will, capacity)?;
                (Client::V5(client), Box::new(wire))
            }
        };
        let (tx, signals) = bounded(usize::from(capacity) * 2 + 8);
        let unwanted = Arc::new(AtomicBool::new(false));
        let seen = unwanted.clone();
        std::thread::Builder::new()
            .name("mqtt-io".to_owned())
            .spawn(move || serve(&mut *wire, &tx, &seen))
            .map_err(|e| MqttError::Thread(e.to_string()))?;
        Ok(Self { client, signals, unwanted })
    }

    /// The connection's events; the channel is disconnected once its thread has ended.
    pub fn signals(&self) -> &Receiver<Signal> {
        &self.signals
    }

    /// Queues a message with QoS 1, without ever blocking.
    pub fn publish(&self, topic: String, retain: bool, payload: Vec<u8>) -> Result<(), Full> {
        match &self.client {
            Client::V3(c) => {
                c.try_publish(topic, rumqttc::QoS::AtLeastOnce, retain, payload).map_err(|_| Full)
            }
            Client::V5(c) => {
                let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
                c.try_publish(topic, qos, retain, payload).map_err(|_| Full)
            }
        }
    }

    /// Queues a subscription with QoS 1, without ever blocking.
    pub fn subscribe(&self, filter: String) -> Result<(), Full> {
        match &self.client {
            Client::V3(c) => c.try_subscribe(filter, rumqttc::QoS::AtLeastOnce).map_err(|_| Full),
            Client::V5(c) => {
                c.try_subscribe(filter, rumqttc::v5::mqttbytes::QoS::AtLeastOnce).map_err(|_| Full)
            }
        }
    }

    /// Asks the thread to send DISCONNECT and to end; once it has, `signals` is disconnected.
    pub(crate) fn disconnect(&self) {
        // A full queue means that the broker accepts nothing: the thread then ends by timeout.
        match &self.client {
            Client::V3(c) => drop(c.try_disconnect()),
            Client::V5(c) => drop(c.try_disconnect()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.disconnect();
        self.unwanted.store(true, Ordering::Relaxed);
    }
}

fn serve(wire: &mut dyn Wire, signals: &Sender<Signal>, unwanted: &AtomicBool) {
    let mut connected = false;
    loop {
        // Interrupting the wait would restart the attempt to connect, which has its own limit.
        let step = wire.step(connected.then_some(LOOK_UP));
        let over = match step {
            Step::Tell(signal) => {
                connected |= matches!(signal, Signal::Connected { .. });
                let last = matches!(signal, Signal::Down(_));
                signals.send(signal).is_err() || last
            }
            Step::Nothing => unwanted.load(Ordering::Relaxed),
            Step::Over => true,
        };
        if over {
            return;
        }
    }
}
