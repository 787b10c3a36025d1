//! What is published, in order, across broken connections and restarts.

use std::time::Duration;

use spotd::clock::{SystemClock, stop_signal};
use spotd::control::Controls;
use spotd::flaglog::{Entry, Hash, Record};
use spotd::health::{Board, SourceState};
use spotd::publish::mqtt;
use spotd::publish::mqtt::{MqttConfig, MqttVersion};
use spotd::shown::Secret;
use spotd::verdict::Verdict;

use crate::mosquitto::{Broker, Message, PATIENCE, Subscriber};
use crate::proxy::Proxy;
use crate::setup::*;

#[test]
fn an_event_arrives_as_it_stands_in_the_log_with_status_and_state_beside_it() {
    for version in [MqttVersion::V5, MqttVersion::V3] {
        status_state_and_event(version);
    }
}

fn status_state_and_event(version: MqttVersion) {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let running = Running::start(MqttConfig { version, ..mqtt_config(broker.port()) }, &log);
    subscriber
        .wait("status", |m| m.iter().any(|m| m.topic == "spotd/box%2F1/status" && m.payload == "online"));
    let record = append(&mut log, "cam");
    let got = subscriber.wait("event", |m| !events(m).is_empty());
    assert_eq!(events(&got), [record]);
    let event = got.iter().find(|m| m.topic.ends_with("/event")).expect("event");
    assert_eq!((event.topic.as_str(), event.retain), ("spotd/box%2F1/source/cam/event", false));
    // The payload is the verbatim line, so a receiver can check its hash.
    let segment =
        std::fs::read_to_string(dir.path().join("flags-00000000000000000001.jsonl")).expect("segment");
    assert_eq!(segment.trim_end(), event.payload);
    // Live state is sent at once and on change, and is there for later subscribers.
    running.board.update("cam", |s| {
        s.state = SourceState::Live;
        s.verdict = Verdict::Synthetic;
        s.raw = Some(0.97);
    });
    let state = |m: &[Message]| {
        let last = m.iter().rfind(|m| m.topic == "spotd/box%2F1/source/cam/state")?;
        serde_json::from_str::<serde_json::Value>(&last.payload).ok()
    };
    let got = subscriber.wait("state", |m| state(m).is_some_and(|s| s["state"] == "live"));
    let now = state(&got).expect("state");
    assert_eq!((&now["verdict"], &now["raw"]), (&"synthetic".into(), &0.97.into()));
    let late = Subscriber::start(broker.port(), "spotd/#");
    let kept = late.wait("what is retained", |m| m.len() >= 3);
    assert!(kept.iter().all(|m| m.retain), "{kept:?}");
    assert!(kept.iter().any(|m| m.payload == "online") && state(&kept) == Some(now));
    running.stop();
    subscriber.wait("goodbye", |m| m.iter().any(|m| m.topic.ends_with("/status") && m.payload == "offline"));
}

#[test]
fn a_connection_that_dies_without_a_goodbye_leaves_the_last_will() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.port());
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "spotd/+/status");
    let running = Running::start(mqtt_config(proxy.port()), &log);
    let last = |m: &[Message]| m.last().map(|m| m.payload.clone());
    subscriber.wait("online", |m| last(m).as_deref() == Some("online"));
    proxy.refuse(true);
    proxy.cut();
    subscriber.wait("the last will", |m| last(m).as_deref() == Some("offline"));
    let late = Subscriber::start(broker.port(), "spotd/+/status");
    let kept = late.wait("the last will, retained", |m| !m.is_empty());
    assert_eq!((kept[0].payload.as_str(), kept[0].retain), ("offline", true));
    proxy.refuse(false);
    subscriber.wait("online again", |m| last(m).as_deref() == Some("online"));
    running.stop();
}

#[test]
fn everything_from_before_the_broker_was_there_arrives_in_order() {
    let mut broker = Broker::prepare("allow_anonymous true\n");
    // The connection to the broker opens only once the subscriber is there, so that it sees
    // everything.
    let proxy = Proxy::start(broker.port());
    proxy.refuse(true);
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let mut written: Vec<Record> = (0..60).map(|_| append(&mut log, "cam")).collect();
    let running = Running::start(mqtt_config(proxy.port()), &log);
    written.extend((0..60).map(|_| append(&mut log, "cam")));
    broker.restart();
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    proxy.refuse(false);
    let got = subscriber.wait("all events", |m| events(m).len() >= 120);
    assert_eq!(events(&got), written);
    running.stop();
}

#[test]
fn across_broken_connections_nothing_is_missing_and_order_stays() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.port());
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let running = Running::start(mqtt_config(proxy.port()), &log);
    let mut written = Vec::new();
    for round in 0..4 {
        // In the middle of a message, at another byte each time.
        proxy.cut_after(1500 + round * 777);
        for _ in 0..10 {
            written.push(append(&mut log, "cam"));
        }
        let last = written.last().expect("some").id;
        subscriber.wait("the last event", |m| events(m).iter().any(|r| r.id == last));
    }
    assert!(proxy.accepted() > 3, "connections were broken: {}", proxy.accepted());
    assert_eq!(once(events(&subscriber.messages())), written);
    running.stop();
}

#[test]
fn a_restart_goes_on_where_it_stopped() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let mut written = Vec::new();
    for _ in 0..3 {
        let mut log = open(dir.path());
        let running = Running::start(mqtt_config(broker.port()), &log);
        for _ in 0..5 {
            written.push(append(&mut log, "cam"));
        }
        // The stop itself sends what is left.
        running.stop();
    }
    let last = written.last().expect("some").id;
    let got = subscriber.wait("the last event", |m| events(m).iter().any(|r| r.id == last));
    assert_eq!(events(&got), written, "each exactly once: the cursor was kept");
}

#[test]
fn a_cursor_that_cannot_be_used_sends_again_rather_than_nothing() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let mut log = open(dir.path());
    let written: Vec<Record> = (0..3).map(|_| append(&mut log, "cam")).collect();
    for (i, cursor) in
        ["{", &format!("{{\"version\":1,\"seq\":9,\"hash\":\"{}\"}}", Hash::ZERO)].iter().enumerate()
    {
        std::fs::write(dir.path().join("cursor-mqtt.json"), cursor).expect("write");
        let running = Running::start(mqtt_config(broker.port()), &log);
        let got = subscriber.wait("all events", |m| events(m).len() == 3 * (i + 1));
        assert_eq!(events(&got)[3 * i..], written);
        running.stop();
    }
}

#[test]
fn probe_tells_what_is_wrong_and_never_the_password() {
    let broker = Broker::with_password("spotd", "the-right-one");
    let mut config = mqtt_config(broker.port());
    let refused = mqtt::probe(&config, NODE, PATIENCE).expect_err("anonymous").to_string();
    assert!(refused.contains("refused the login as anonymous"), "{refused}");
    config.user = Some("spotd".into());
    config.password = Some(Secret::new("a-wrong-one".into()));
    let refused = mqtt::probe(&config, NODE, PATIENCE).expect_err("wrong password").to_string();
    assert!(
        refused.contains("refused the login as \"spotd\"") && !refused.contains("a-wrong-one"),
        "{refused}"
    );
    config.password = Some(Secret::new("the-right-one".into()));
    let fine = mqtt::probe(&config, NODE, PATIENCE).expect("right password").text;
    assert!(fine.contains("as \"spotd\"") && fine.contains("not encrypted"), "{fine}");

    let nobody = Broker::prepare("");
    let away = mqtt::probe(&mqtt_config(nobody.port()), NODE, PATIENCE).expect_err("nobody listens");
    assert!(matches!(away, mqtt::MqttError::Unreachable { .. }), "{away}");
    let proxy = Proxy::start(broker.port());
    proxy.silent(true);
    let silent =
        mqtt::probe(&mqtt_config(proxy.port()), NODE, Duration::from_millis(300)).expect_err("silent");
    assert!(matches!(silent, mqtt::MqttError::Silent { .. }), "{silent}");
    let plain = mqtt::probe(&MqttConfig { tls: true, ..mqtt_config(broker.port()) }, NODE, PATIENCE);
    assert!(
        matches!(plain, Err(mqtt::MqttError::Tls { .. } | mqtt::MqttError::NoAuthorities { .. })),
        "a broker without TLS: {plain:?}"
    );
    let mut unknown = mqtt_config(broker.port());
    unknown.host = "no-such-host.invalid".into();
    let unknown = mqtt::probe(&unknown, NODE, PATIENCE).expect_err("no such host");
    assert!(matches!(unknown, mqtt::MqttError::Dns { .. }), "{unknown}");
}

#[test]
fn a_ca_file_that_is_none_is_named_at_the_start() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(&dir.path().join("log"));
    let ca = dir.path().join("ca.pem");
    let config = MqttConfig { tls: true, ca_file: Some(ca.clone()), ..mqtt_config(1) };
    for content in [None, Some("no certificate")] {
        if let Some(content) = content {
            std::fs::write(&ca, content).expect("write");
        }
        let (_handle, stop) = stop_signal();
        let (board, controls, clock) = (Board::default(), Controls::new([]), SystemClock::shared());
        let spawned = mqtt::spawn(config.clone(), "box", &log.tail(), board, controls, clock, stop);
        let error = spawned.map(drop).expect_err("no CA").to_string();
        assert!(error.contains("ca.pem"), "{error}");
    }
}

#[test]
fn what_an_operator_says_of_an_event_is_sent_to_a_topic_of_its_own() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let running = Running::start(mqtt_config(broker.port()), &log);
    let event = append(&mut log, "cam");
    let said = review(&mut log, &event);
    let after = append(&mut log, "cam");
    let got = subscriber
        .wait("all of it", |m| events(m).len() == 2 && m.iter().any(|m| m.topic.ends_with("/review")));
    let reviews: Vec<_> = got.iter().filter(|m| m.topic.ends_with("/review")).collect();
    assert_eq!((reviews.len(), &*reviews[0].topic), (1, "spotd/box%2F1/source/cam/review"));
    assert!(!reviews[0].retain);
    assert_eq!(serde_json::from_str::<Entry>(&reviews[0].payload).expect("a record"), Entry::Review(said));
    assert_eq!(events(&got), [event, after]);
    running.stop();
}
