//! The log's folder is taken away while there is a broker to publish to.

use spotd::flaglog::Record;

use crate::mosquitto::{Broker, Subscriber};
use crate::records::verified;
use crate::setup::*;

fn ids(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| r.id.to_string()).collect()
}

/// Writes into two logs, one after the other in the same place, while the broker is away; returns
/// what it then receives.
fn told_after(taken_away: impl FnOnce(&std::path::Path)) -> (Vec<Record>, Vec<Record>, Vec<Record>) {
    let mut broker = Broker::prepare("allow_anonymous true\n");
    let dir = tempfile::tempdir().expect("tempdir");
    let flags = dir.path().join("flags");
    let mut log = open(&flags);
    let running = Running::with(mqtt_config(broker.port()), &log, &["cam"], Hasty::shared());
    let before: Vec<Record> = (0..3).map(|_| append(&mut log, "cam")).collect();
    taken_away(dir.path());
    let after: Vec<Record> = (0..2).map(|_| append(&mut log, "door")).collect();
    broker.restart();
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let last = after[1].id;
    let got = subscriber.wait("the last event", |m| events(m).iter().any(|r| r.id == last));
    until("everything to be told", || running.status().behind == 0);
    running.stop();
    let told = once(events(&got));

    // The new log has its own cursor: the next run sends nothing again.
    assert!(flags.join("cursor-mqtt.json").exists() && flags.join("mqtt-retained.json").exists());
    assert!(verified(&flags, None).holds);
    drop(log);
    let mut log = open(&flags);
    let subscriber = Subscriber::start(broker.port(), "spotd/+/source/+/event");
    let running = Running::start(mqtt_config(broker.port()), &log);
    let next = append(&mut log, "cam");
    let got = subscriber.wait("the next event", |m| events(m).iter().any(|r| r.id == next.id));
    assert_eq!(ids(&events(&got)), ids(&[next]));
    running.stop();
    (before, after, told)
}

#[test]
fn a_renamed_log_is_told_to_its_end_and_then_the_one_that_took_its_place() {
    let (before, after, told) = told_after(|dir| {
        std::fs::rename(dir.join("flags"), dir.join("old")).expect("renamed");
    });
    assert_eq!(ids(&told[..3]), ids(&before));
    // The three that were open go on in the new log.
    let carried: Vec<_> = told[3..6].iter().map(|r| (r.event, r.reason.is_some())).collect();
    assert_eq!(carried, before.iter().map(|r| (r.event, true)).collect::<Vec<_>>());
    assert_eq!(ids(&told[6..]), ids(&after));
}

#[test]
fn nothing_is_told_of_a_record_that_is_gone() {
    let (before, after, told) = told_after(|dir| {
        std::fs::remove_dir_all(dir.join("flags")).expect("removed");
    });
    assert!(!told.iter().any(|r| before.iter().any(|b| b.id == r.id)), "{told:?}");
    assert_eq!(ids(&told[3..]), ids(&after));
    assert_eq!(
        told[..3].iter().map(|r| r.event).collect::<Vec<_>>(),
        [before[0].event, before[1].event, before[2].event]
    );
}
