//! Commands and pictures.

use std::process::{Child, Command, Stdio};

use image::RgbImage;
use serde_json::{Value, json};
use spotd::publish::mqtt::MqttConfig;

use crate::model;
use crate::mosquitto::{Broker, Message, Subscriber};
use crate::setup::*;

fn state(messages: &[Message]) -> Value {
    let last = messages.iter().rfind(|m| m.topic.ends_with("/source/cam/state"));
    last.and_then(|m| serde_json::from_str(&m.payload).ok()).unwrap_or_default()
}

#[test]
fn without_being_told_to_the_daemon_neither_obeys_nor_shows_pictures() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let running = Running::start(mqtt_config(broker.port()), &log);
    subscriber.wait("the state", |m| state(m)["paused"] == false);
    subscriber.publish("spotd/box%2F1/source/cam/command", false, b"pause");
    append_with(&mut log, "cam", 1, Some(&RgbImage::new(64, 64)));
    subscriber.wait("the event", |m| !events(m).is_empty());
    running.controls.source("cam").expect("there").give_snapshot(Some(b"a picture".to_vec()));
    let last = append(&mut log, "cam");
    let got = subscriber.wait("another event", |m| events(m).iter().any(|r| r.id == last.id));
    assert!(!running.board.is_paused("cam"));
    running.stop();
    assert!(!got.iter().any(|m| m.topic.ends_with("/snapshot")));
}

#[test]
fn the_picture_of_an_event_is_the_evidence_byte_for_byte() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    // After an outage, only the newest picture is sent.
    append_with(&mut log, "cam", 0, Some(&RgbImage::from_pixel(64, 64, [200, 0, 0].into())));
    let record = append_with(&mut log, "cam", 0, Some(&RgbImage::from_pixel(64, 64, [0, 200, 0].into())));
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let config = MqttConfig { snapshots: true, ..mqtt_config(broker.port()) };
    let running = Running::start(config, &log);
    let got = subscriber.wait("the picture", |m| m.iter().any(|m| m.topic.ends_with("/snapshot")));
    running.stop();
    let pictures: Vec<_> = got.iter().filter(|m| m.topic == "spotd/box%2F1/source/cam/snapshot").collect();
    let file = record.evidence.expect("evidence").frame.file;
    let evidence = std::fs::read(dir.path().join(file)).expect("read");
    assert_eq!(pictures.iter().map(|m| &m.bytes).collect::<Vec<_>>(), [&evidence]);
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_source_is_paused_photographed_and_resumed() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("tempdir");
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).expect("created");
    // Dark and not flat: never flagged.
    let picture = RgbImage::from_fn(160, 120, |x, y| [((x * 7 + y * 13) % 60) as u8; 3].into());
    picture.save(pictures.join("a.png")).expect("saved");
    let config = dir.path().join("spotd.toml");
    let text = format!(
        "[node]\nname = \"box\"\n[model]\npath = {:?}\nworkers = 1\n\
         [[source]]\nid = \"cam\"\nuri = {pictures:?}\nfps = 10\nrepeat = true\n\
         [log]\ndir = \"flags\"\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\ncommands = true\nsnapshots = true\n",
        model::write_brightness(dir.path()),
        broker.port()
    );
    std::fs::write(&config, &text).expect("written");
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let daemon = Command::new(env!("CARGO_BIN_EXE_spotd"))
        .args(["run", "--config"])
        .arg(&config)
        .envs(crate::daemon::left_open(&text))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.path().join("log")).expect("a log"))
        .spawn()
        .expect("spotd starts");
    let _daemon = Daemon(daemon);
    let judged = |m: &[Message]| state(m)["judged"].as_u64().unwrap_or(0);
    subscriber.wait("frames to be judged", |m| judged(m) > 0);

    let command = "spotd/box/source/cam/command";
    subscriber.publish(command, false, b"map");
    let got = subscriber.wait("a map", |m| m.iter().any(|m| m.topic == "spotd/box/source/cam/map"));
    let map = &got.iter().find(|m| m.topic == "spotd/box/source/cam/map").expect("there").payload;
    let map: Value = serde_json::from_str(map).expect("JSON");
    assert_eq!((&map["columns"], &map["rows"], &map["side"]), (&json!(5), &json!(4), &json!(32)));
    let values = map["values"].as_array().expect("values");
    assert!(values.len() == 20 && values.iter().all(|v| v.as_f64().is_some_and(|v| v < 0.5)), "{map}");
    assert!(map["judged"].as_array().is_some_and(|all| all.len() == 20) && map["since"].is_string(), "{map}");
    subscriber.publish(command, false, b"pause");
    subscriber.wait("the pause", |m| {
        state(m)["paused"] == true && state(m)["dropped"]["paused"].as_u64() > Some(5)
    });
    // The map is an answer, which the broker does not keep, and comes once for each question.
    let late = Subscriber::start(broker.port(), "spotd/#");
    late.wait("a retained state", |m| state(m)["paused"].is_boolean());
    assert!(!late.messages().iter().any(|m| m.topic.ends_with("/map")));
    assert_eq!(subscriber.messages().iter().filter(|m| m.topic.ends_with("/map")).count(), 1);
    // A frame that was being judged when the command came may still have been counted.
    let then = judged(&subscriber.messages());
    subscriber.publish(command, false, b"snapshot");
    let got = subscriber.wait("a picture", |m| m.iter().any(|m| m.topic.ends_with("/snapshot")));
    let jpeg = &got.iter().find(|m| m.topic.ends_with("/snapshot")).expect("there").bytes;
    let shown = image::load_from_memory(jpeg).expect("a JPEG");
    assert_eq!((shown.width(), shown.height()), (160, 120));
    subscriber.wait("later states", |m| state(m)["dropped"]["paused"].as_u64() > Some(20));
    assert_eq!(judged(&subscriber.messages()), then, "nothing is judged meanwhile");

    subscriber.publish(command, false, b"resume");
    subscriber.wait("frames to be judged again", |m| state(m)["paused"] == false && judged(m) > then);
}
