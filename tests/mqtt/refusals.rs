//! Records that the broker refuses: they are logged, counted, and do not block the rest.

use spotd::flaglog::Record;
use spotd::publish::mqtt::{MqttConfig, MqttVersion};

use crate::mosquitto::{Broker, Subscriber};
use crate::setup::*;

const DENIED: &str = "spotd/box%2F1/source/denied/event";

#[test]
fn a_topic_that_the_broker_refuses_is_given_up_and_the_others_arrive() {
    collect_log();
    let files = tempfile::tempdir().expect("tempdir");
    let acl = files.path().join("acl");
    std::fs::write(&acl, format!("topic readwrite spotd/#\ntopic deny {DENIED}\n")).expect("written");
    // With a queue without bound mosquitto 2.0 takes each refusal for an overflow and closes the
    // connection, and what it had answered is lost when the next message is written before that is
    // read.
    let settings = format!("allow_anonymous true\nmax_queued_messages 1000\nacl_file {}\n", acl.display());
    let broker = Broker::with_files(files, &settings);
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let mut written = Vec::new();
    for _ in 0..10 {
        append(&mut log, "denied");
        written.push(append(&mut log, "cam"));
    }
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let sources = ["cam", "denied"];
    let running = Running::with(mqtt_config(broker.port()), &log, &sources, Hasty::shared());
    until("everything to be done with", || {
        let p = running.status();
        p.behind == 0 && p.refused == 10
    });
    let last = written.last().expect("some").id;
    let got = subscriber.wait("the last event", |m| events(m).iter().any(|r| r.id == last));
    assert_eq!(once(events(&got)), written);
    let logged = logged();
    assert!(logged.contains(&format!("record 1 on {DENIED} is not sent: the broker refuses it")), "{logged}");
    running.stop();
    // The same after a restart: nothing is stuck.
    let running = Running::with(mqtt_config(broker.port()), &log, &sources, Hasty::shared());
    let more = append(&mut log, "cam");
    subscriber.wait("another event", |m| events(m).iter().any(|r| r.id == more.id));
    running.stop();
}

#[test]
fn a_refusal_is_one_line_at_the_level_that_is_shown() {
    let files = tempfile::tempdir().expect("tempdir");
    let acl = files.path().join("acl");
    std::fs::write(&acl, "topic read spotd/#\n").expect("written");
    let settings = format!("allow_anonymous true\nmax_queued_messages 1000\nacl_file {}\n", acl.display());
    let broker = Broker::with_files(files, &settings);
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(&dir.path().join("flags"));
    for _ in 0..3 {
        append(&mut log, "cam");
    }
    drop(log);
    let model = crate::model::write_brightness(dir.path());
    let config = dir.path().join("spotd.toml");
    let text = format!(
        "[model]\npath = {model:?}\n[log]\ndir = \"flags\"\n[[source]]\nid = \"cam\"\nuri = \"demo://1\"\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n",
        broker.port()
    );
    std::fs::write(&config, text).expect("written");
    let mut daemon = crate::daemon::Daemon::start(&config, dir.path());
    until("a record to be given up", || daemon.log().contains("is not sent: the broker refuses it"));
    daemon.terminate();
    let said = daemon.log();
    let lines = |text: &str| said.lines().filter(|l| l.contains(text)).count();
    assert_eq!(lines("the broker refuses record"), 1, "{said}");
    assert_eq!(lines("is not sent: the broker refuses it"), 1, "{said}");
    assert_eq!(lines("/status: the broker refuses it"), 1, "{said}");
    assert!(!said.to_lowercase().contains("pkid"), "the library's words are not shown: {said}");
}

/// Writes short records with one long one in the middle; returns the short ones.
fn with_a_long_one(log: &mut spotd::flaglog::FlagLog) -> Vec<Record> {
    let mut short: Vec<_> = (0..3).map(|_| append(log, "cam")).collect();
    append_with(log, "cam", 200, None);
    short.extend((0..3).map(|_| append(log, "cam")));
    short
}

#[test]
fn a_record_that_is_too_long_for_the_broker_is_left_out() {
    // MQTT 5 says how long a packet may be; with 3.1.1 the broker closes the connection, again and
    // again, until the record is known for it.
    for (version, why) in
        [(MqttVersion::V5, "are more than the broker takes"), (MqttVersion::V3, "connections in a row broke")]
    {
        collect_log();
        let broker = Broker::run("allow_anonymous true\nmax_packet_size 4000\n");
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = open(dir.path());
        let short = with_a_long_one(&mut log);
        let subscriber = Subscriber::start(broker.port(), "spotd/#");
        let config = MqttConfig { version, ..mqtt_config(broker.port()) };
        let running = Running::with(config, &log, &["cam"], Hasty::shared());
        let last = short.last().expect("some").id;
        let got = subscriber.wait("the last event", |m| events(m).iter().any(|r| r.id == last));
        assert_eq!(once(events(&got)), short);
        until("the count", || running.status().refused == 1);
        assert!(logged().contains(why));
        running.stop();
    }
}
