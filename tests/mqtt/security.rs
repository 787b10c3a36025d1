//! What must not be shown, and names with a meaning in MQTT.

use spotd::clock::SystemClock;
use spotd::publish::mqtt::{self, topics};
use spotd::publish::mqtt::{MqttConfig, MqttVersion};
use spotd::shown::Secret;

use crate::mosquitto::{Broker, PATIENCE, Subscriber};
use crate::setup::*;

const PASSWORD: &str = "open-sesame-4711";

#[test]
fn a_password_is_in_no_log_line_down_to_trace() {
    collect_log();
    let broker = Broker::with_password("spotd", PASSWORD);
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let login = Some(("spotd", PASSWORD));
    let subscriber = Subscriber::with_login(broker.port(), "spotd/#", login);
    for version in [MqttVersion::V5, MqttVersion::V3] {
        let config = MqttConfig {
            version,
            user: Some("spotd".into()),
            password: Some(Secret::new(PASSWORD.into())),
            ..mqtt_config(broker.port())
        };
        assert!(!format!("{config:?}").contains(PASSWORD));
        let running = Running::start(config.clone(), &log);
        let record = append(&mut log, "cam");
        subscriber.wait("the event", |m| events(m).iter().any(|r| r.id == record.id));
        running.stop();
        // One that is refused, whose error could carry it.
        let wrong = MqttConfig { user: Some("nobody".into()), ..config };
        let error = mqtt::probe(&wrong, NODE, PATIENCE).expect_err("refused");
        assert!(!format!("{error} {error:?}").contains(PASSWORD));
    }
    let logged = logged();
    assert!(logged.contains("TRACE") || logged.contains("DEBUG"), "the log was collected: {logged}");
    assert!(logged.contains("the password is sent in plain text"), "{logged}");
    let shown = logged.lines().find(|l| l.contains(PASSWORD));
    assert_eq!(shown, None);
}

#[test]
fn names_with_a_meaning_stay_within_their_level() {
    let broker = Broker::start();
    for node in ["a/b", "a+b", "+", "#", "$SYS", "50%", "Außenstelle 北", "tab\there"] {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = open(dir.path());
        let subscriber = Subscriber::start(broker.port(), "spotd/+/source/+/event");
        let source = "eins/#+ä";
        let config = mqtt_config(broker.port());
        let running = Running::named(node, config, &log, &[source], SystemClock::shared());
        let record = append(&mut log, source);
        let got = subscriber.wait("the event", |m| !m.is_empty());
        assert_eq!(events(&got), [record]);
        let expected = format!("spotd/{}/source/{}/event", topics::level(node), topics::level(source));
        assert_eq!(got[0].topic, expected);
        running.stop();
    }
}
