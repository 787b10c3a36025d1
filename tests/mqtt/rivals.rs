//! Two boxes with the same name at one broker.

use std::process::Command;

use spotd::publish::mqtt::{MqttConfig, MqttVersion};

use crate::mosquitto::{Broker, Subscriber};
use crate::setup::*;

/// Seconds until the next attempt, from a log line about another client.
fn waits(client: &str) -> Vec<f64> {
    let of_us = |l: &&str| l.contains("another client") && l.contains(&format!("as \"{client}\""));
    let wait = |l: &str| l.split("trying again in ").nth(1)?.split(' ').next()?.parse().ok();
    logged().lines().filter(of_us).filter_map(wait).collect()
}

#[test]
fn two_boxes_of_one_name_say_so_and_push_each_other_off_less_and_less_often() {
    collect_log();
    let broker = Broker::start();
    for (version, node, client) in
        [(MqttVersion::V5, "twin/5", "spotd-twin%2F5"), (MqttVersion::V3, "twin/3", "spotd-twin%2F3")]
    {
        let (one, two) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
        let (mut log_one, mut log_two) = (open(one.path()), open(two.path()));
        let subscriber = Subscriber::start(broker.port(), "spotd/+/source/+/event");
        let config = MqttConfig { version, ..mqtt_config(broker.port()) };
        let running = [&log_one, &log_two]
            .map(|log| Running::named(node, config.clone(), log, &["cam"], Hasty::shared()));
        until("a long wait", || waits(client).iter().any(|w| *w > 20.0));
        let connections: u64 = running.iter().map(|r| r.status().connections).sum();
        assert!(connections < 40, "{connections} connections until then");
        let logged = logged();
        let told: Vec<_> = logged
            .lines()
            .filter(|l| l.starts_with("WARN") && l.contains(&format!("as \"{client}\"")))
            .collect();
        assert!(told.len() <= 2 && told[0].contains("the same [node] name"), "once a box: {told:#?}");
        // Their records arrive all the same.
        let both = [append(&mut log_one, "cam"), append(&mut log_two, "cam")];
        subscriber.wait("both events", |m| both.iter().all(|b| events(m).iter().any(|r| r.id == b.id)));
        for running in running {
            running.stop();
        }
    }
}

#[test]
fn check_warns_of_another_box_of_the_same_name() {
    let broker = Broker::start();
    let (here, there) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
    let config = here.path().join("spotd.toml");
    let text = format!(
        "[node]\nname = {NODE:?}\n[log]\ndir = \"flags\"\n[[source]]\nid = \"cam\"\nuri = \"demo://1\"\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n",
        broker.port()
    );
    std::fs::write(&config, text).expect("written");
    let check = || {
        let output =
            Command::new(env!("CARGO_BIN_EXE_spotd")).args(["check", "--config"]).arg(&config).output();
        let text = String::from_utf8(output.expect("spotd runs").stdout).expect("UTF-8");
        text.lines().find(|l| l.contains(" broker: ")).unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    assert!(!check().contains("WARNING"), "nobody is there");
    let log = open(there.path());
    let running = Running::start(mqtt_config(broker.port()), &log);
    until("it to be online", || running.status().connected);
    let subscriber = Subscriber::start(broker.port(), "spotd/+/status");
    subscriber.wait("its word", |m| m.iter().any(|m| m.payload == "online"));
    let warned = check();
    assert!(warned.contains("WARNING: a box called \"box/1\" is online there already"), "{warned}");
    // Where a daemon writes to this log, that one is it.
    let ours = open(&here.path().join("flags"));
    assert!(!check().contains("WARNING"));
    drop(ours);
    running.stop();
    assert!(!check().contains("WARNING"), "it has gone");
}
