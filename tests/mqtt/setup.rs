//! What all of these tests need: a log with records, a publisher, and its configuration.

use std::sync::Arc;

use spotd::clock::{SharedClock, SystemClock};
use spotd::control::Controls;
use spotd::flaglog::{Entry, FlagLog, Record};
use spotd::health::{Board, PublisherStatus};
use spotd::publish::mqtt;
use spotd::publish::mqtt::{MqttConfig, MqttVersion};

use crate::mosquitto::Message;
pub use crate::publishing::*;

pub fn mqtt_config(port: u16) -> MqttConfig {
    MqttConfig {
        host: "127.0.0.1".into(),
        port,
        tls: false,
        ca_file: None,
        user: None,
        password: None,
        client_cert: None,
        version: MqttVersion::V5,
        prefix: "spotd".into(),
        catch_up_rate: 100_000.0,
        discovery: None,
        snapshots: false,
        commands: false,
    }
}

/// A publisher that is stopped when dropped.
pub struct Running {
    thread: Thread,
    pub board: Board,
    pub controls: Controls,
}

impl Running {
    /// One with the source `cam`.
    pub fn start(config: MqttConfig, log: &FlagLog) -> Self {
        Self::with(config, log, &["cam"], SystemClock::shared())
    }

    pub fn with(config: MqttConfig, log: &FlagLog, sources: &[&str], clock: SharedClock) -> Self {
        Self::named(NODE, config, log, sources, clock)
    }

    pub fn named(
        node: &str,
        config: MqttConfig,
        log: &FlagLog,
        sources: &[&str],
        clock: SharedClock,
    ) -> Self {
        let ids = || sources.iter().map(|s| Arc::from(*s));
        let (board, controls) = (Board::new(ids()), Controls::new(ids()));
        let thread = Thread::start(|stop| {
            mqtt::spawn(config, node, &log.tail(), board.clone(), controls.clone(), clock, stop)
        });
        Self { thread, board, controls }
    }

    /// The publisher's status on the board.
    pub fn status(&self) -> PublisherStatus {
        self.board.publisher(mqtt::NAME)
    }

    pub fn stop(mut self) {
        self.thread.end();
    }
}

pub fn events(messages: &[Message]) -> Vec<Record> {
    let event = |m: &Message| match serde_json::from_str(&m.payload).expect("an entry") {
        Entry::Event(record) => *record,
        Entry::Note(_) | Entry::Review(_) => panic!("no event was published"),
    };
    messages.iter().filter(|m| m.topic.ends_with("/event")).map(event).collect()
}
