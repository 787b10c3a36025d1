//! Brokers that do not answer, and the backlog of an outage.

use std::time::{Duration, Instant};

use spotd::publish::mqtt::{MqttConfig, MqttVersion};

use crate::mosquitto::{Broker, Subscriber};
use crate::proxy::Proxy;
use crate::setup::*;

#[test]
fn after_an_outage_live_state_comes_first_and_records_at_a_bounded_rate() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let written: Vec<_> = (0..200).map(|_| append(&mut log, "cam")).collect();
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let config = MqttConfig { catch_up_rate: 50.0, ..mqtt_config(broker.port()) };
    let begun = Instant::now();
    let running = Running::start(config, &log);
    let got = subscriber.wait("all events", |m| events(m).len() >= written.len());
    // 32 go at once, the other 168 need more than three seconds at 50 a second.
    assert!(begun.elapsed() > Duration::from_secs(3), "faster than allowed");
    assert_eq!(events(&got), written);
    let place = |end: &str| got.iter().position(|m| m.topic.ends_with(end)).expect("there");
    assert!(place("/status") < place("/state") && place("/state") < place("/event"), "live state first");
    until("the count of what is missing to go to zero", || running.status().behind == 0);
    running.stop();
}

#[test]
fn a_connection_on_which_nothing_is_answered_any_more_is_given_up() {
    for version in [MqttVersion::V5, MqttVersion::V3] {
        let broker = Broker::start();
        let proxy = Proxy::start(broker.port());
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = open(dir.path());
        let subscriber = Subscriber::start(broker.port(), "spotd/#");
        let config = MqttConfig { version, ..mqtt_config(proxy.port()) };
        let running = Running::with(config, &log, &["cam"], Hasty::shared());
        let first = append(&mut log, "cam");
        subscriber.wait("the first event", |m| events(m).iter().any(|r| r.id == first.id));
        proxy.freeze();
        let second = append(&mut log, "cam");
        let got = subscriber.wait("the second event", |m| events(m).iter().any(|r| r.id == second.id));
        assert_eq!(once(events(&got)), [first, second]);
        assert!(running.status().connections > 1);
        running.stop();
    }
}

#[test]
fn a_broker_that_accepts_and_says_nothing_is_tried_again() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.port());
    proxy.silent(true);
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let running = Running::with(mqtt_config(proxy.port()), &log, &["cam"], Hasty::shared());
    let record = append(&mut log, "cam");
    until("a first attempt", || proxy.accepted() > 0);
    proxy.silent(false);
    subscriber.wait("the event", |m| once(events(m)) == [record.clone()]);
    running.stop();
}

#[test]
fn a_broker_that_never_answers_does_not_hold_up_the_end() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.port());
    proxy.silent(true);
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    append(&mut log, "cam");
    let running = Running::start(mqtt_config(proxy.port()), &log);
    until("an attempt", || proxy.accepted() > 0);
    // Ends without an answer, or this test never does.
    running.stop();
}
