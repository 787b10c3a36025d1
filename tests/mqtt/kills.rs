//! A subscriber that counts: whatever happens to connections and broker, nothing is missing, the
//! order is kept, and duplicates can be recognised by their id.
//!
//! `SPOTD_SOAK=long` kills the broker 200 times instead of 100.

use std::collections::HashMap;
use std::time::Duration;

use spotd::flaglog::Record;

use crate::mosquitto::{Broker, Subscriber};
use crate::proxy::Proxy;
use crate::setup::*;

/// Connections that are cut.
const CUTS: u64 = 100;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn across_a_hundred_cut_connections_nothing_is_missing() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.port());
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "spotd/+/source/+/event");
    let running = Running::with(mqtt_config(proxy.port()), &log, &["cam"], Hasty::shared());
    let mut dice = Dice(0x5eed);
    let mut written = Vec::new();
    for kill in 1..=CUTS {
        // Now and then everything is sent before the next one, otherwise the backlog of the kills
        // would only grow.
        let settle = kill % 3 == 0;
        until("a connection to cut", || {
            let publisher = running.status();
            publisher.connected && (!settle || publisher.behind == 0)
        });
        let before = proxy.cuts();
        if dice.throw(2) == 0 {
            // At any byte from now on: in live state, a topic, a record.
            proxy.cut_after(1 + usize::try_from(dice.throw(3000)).expect("small"));
        }
        for _ in 0..=dice.throw(3) {
            written.push(append(&mut log, "cam"));
        }
        // At any moment, unless bytes are counted. A moment without a connection is no kill.
        std::thread::sleep(Duration::from_millis(dice.throw(10)));
        until("a kill", || {
            if proxy.cuts() == before && !proxy.is_armed() {
                proxy.cut();
            } else if running.status().behind == 0 {
                written.push(append(&mut log, "cam"));
            }
            proxy.cuts() > before
        });
    }
    assert!(proxy.cuts() as u64 >= CUTS);
    let last = append(&mut log, "cam");
    written.push(last.clone());
    let got = events(&subscriber.wait("the last event", |m| events(m).iter().any(|r| r.id == last.id)));
    running.stop();
    complete(&got, &written);
}

/// Checks that everything is there, in order, and that duplicates are equal; returns how many there
/// were.
fn complete(got: &[Record], written: &[Record]) -> usize {
    let first = once(got.to_vec());
    let missing: Vec<_> = written.iter().filter(|r| !first.contains(r)).map(|r| r.seq).collect();
    assert!(missing.is_empty(), "missing: {missing:?} of {}", written.len());
    assert!(first == written, "in order: {:?}", first.iter().map(|r| r.seq).collect::<Vec<_>>());
    let by_id: HashMap<_, _> = written.iter().map(|r| (r.id, r)).collect();
    assert!(got.iter().all(|r| by_id.get(&r.id) == Some(&r)), "a duplicate is the same record");
    assert!(got.len() > written.len(), "the kills met messages that were on their way");
    got.len() - written.len()
}

/// The broker dies by SIGKILL, with everything that it holds: only what it had acknowledged counts
/// as sent, and it acknowledges after it has forwarded the message.
#[test]
fn across_random_kills_of_the_broker_nothing_is_missing() {
    let long = std::env::var_os("SPOTD_SOAK").is_some_and(|v| v == "long");
    let kills = if long { 200 } else { 100 };
    // Without a bound on what a subscriber has not acknowledged, the broker passes on at once.
    let mut broker = Broker::run("allow_anonymous true\nmax_inflight_messages 0\n");
    let proxy = Proxy::start(broker.port());
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::reading(broker.port(), "spotd/+/source/+/event");
    let running = Running::with(mqtt_config(proxy.port()), &log, &["cam"], Hasty::shared());
    let (mut dice, mut written, mut open_at_kill, mut seen) = (Dice(0xb0b), Vec::new(), 0, 0);
    for kill in 0..kills {
        let settle = kill % 3 == 0;
        until("a connection", || {
            let publisher = running.status();
            publisher.connections > seen && publisher.connected && (!settle || publisher.behind == 0)
        });
        seen = running.status().connections;
        // Every other time the broker's answers stay away after some bytes: what it has taken is
        // sent again then.
        if dice.throw(2) == 0 {
            proxy.freeze_after(usize::try_from(dice.throw(40)).expect("small"));
        }
        for _ in 0..=dice.throw(12) {
            written.push(append(&mut log, "cam"));
        }
        std::thread::sleep(Duration::from_micros(dice.throw(8000)));
        broker.stop();
        proxy.thaw();
        open_at_kill += usize::from(running.status().behind > 0);
        for _ in 0..dice.throw(3) {
            written.push(append(&mut log, "cam"));
        }
        // The way opens once the subscriber is back: what a broker takes that has no subscriber is
        // not ours.
        proxy.refuse(true);
        let confirmed = subscriber.confirmed();
        broker.restart();
        until("the subscriber to be back", || subscriber.confirmed() > confirmed);
        proxy.refuse(false);
    }
    let last = append(&mut log, "cam");
    written.push(last.clone());
    let got = events(&subscriber.wait("the last event", |m| events(m).iter().any(|r| r.id == last.id)));
    let connections = running.status().connections;
    running.stop();
    let twice = complete(&got, &written);
    assert!(connections > kills, "{connections} connections: each kill cost one");
    println!(
        "{kills} kills of the broker, {open_at_kill} of them with records that it had not acknowledged; {} records \
         written, 0 missing, {twice} came twice, each with the same id",
        written.len()
    );
}
