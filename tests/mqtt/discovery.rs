//! Home Assistant discovery.

use std::collections::BTreeSet;

use serde_json::Value;
use spotd::clock::SystemClock;
use spotd::publish::mqtt::MqttConfig;

use crate::mosquitto::{Broker, Message, Subscriber};
use crate::setup::*;

fn config(port: u16) -> MqttConfig {
    MqttConfig { discovery: Some("homeassistant".into()), ..mqtt_config(port) }
}

/// What the broker retains below `homeassistant/` and for the sources' state, by topic.
fn kept(port: u16) -> BTreeSet<String> {
    // Something retained that comes last shows that everything else has come.
    let marker = Subscriber::start(port, "marker");
    marker.publish("zz/marker", true, b"here");
    let all = Subscriber::start(port, "#");
    let got = all.wait("what is kept", |m| m.iter().any(|m| m.topic == "zz/marker"));
    let of_ours = |t: &str| t.starts_with("homeassistant/") || t.ends_with("/state");
    got.into_iter().filter(|m| m.retain).map(|m| m.topic).filter(|t| of_ours(t)).collect()
}

fn configs(messages: &[Message]) -> Vec<&Message> {
    messages.iter().filter(|m| m.topic.ends_with("/config")).collect()
}

#[test]
fn entities_are_announced_and_again_when_home_assistant_starts() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "homeassistant/#");
    let running = Running::start(config(broker.port()), &log);
    let flag = |m: &&Message| m.topic.ends_with("/cam-synthetic/config");
    let got = subscriber.wait("the announcement", |m| configs(m).iter().any(flag));
    let payload: Value =
        serde_json::from_str(&configs(&got).into_iter().find(flag).expect("there").payload).expect("JSON");
    assert_eq!(payload["state_topic"], "spotd/box%2F1/source/cam/state");
    assert_eq!(payload["availability_topic"], "spotd/box%2F1/status");

    // Everything needed is retained by the broker, too.
    until("everything to be kept", || {
        kept(broker.port()).iter().filter(|t| t.contains("/cam-")).count() >= 8
    });
    let before = configs(&subscriber.messages()).len();
    subscriber.publish("homeassistant/status", false, b"online");
    subscriber.wait("all of it again", |m| configs(m).len() == before * 2);
    running.stop();
}

#[test]
fn what_is_gone_is_removed_even_after_a_restart() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let start = |config, sources: &[&str]| Running::with(config, &log, sources, SystemClock::shared());
    let has = |topics: &BTreeSet<String>, what: &str| topics.iter().any(|t| t.contains(what));

    let running = start(config(broker.port()), &["cam", "door"]);
    until("both to be announced", || {
        let kept = kept(broker.port());
        ["/cam-dropped/", "/door-dropped/", "/cam/state", "/door/state"].iter().all(|t| has(&kept, t))
    });
    running.stop();

    let running = start(config(broker.port()), &["cam"]);
    until("the other one to be gone", || !has(&kept(broker.port()), "door"));
    assert!(has(&kept(broker.port()), "/cam-dropped/"));
    running.stop();

    let running = start(mqtt_config(broker.port()), &["cam"]);
    until("all announcements to be gone", || !has(&kept(broker.port()), "homeassistant/"));
    assert!(has(&kept(broker.port()), "/cam/state"));
    running.stop();
}
