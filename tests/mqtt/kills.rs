//! A subscriber that counts: whatever happens to connections and broker, nothing is missing, the order
//! stays, and what comes twice can be told by its id.

use std::collections::HashMap;
use std::time::Duration;

use crate::mosquitto::{Broker, Subscriber};
use crate::proxy::Proxy;
use crate::setup::*;

const KILLS: u64 = 200;
/// Every so many kills it is the broker itself that goes.
const RESTART_EVERY: u64 = 20;

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
fn across_two_hundred_random_kills_nothing_is_missing() {
    // A broker that keeps its word over a restart, as the subscriber's session does.
    let mut broker = Broker::run("allow_anonymous true\npersistence true\n");
    let proxy = Proxy::start(broker.port());
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::durable(broker.port(), "spotd/+/source/+/event");
    let running = Running::with(mqtt_config(proxy.port()), &log, &["cam"], Hasty::shared());
    let mut dice = Dice(0x5eed);
    let mut written = Vec::new();
    for kill in 1..=KILLS {
        if kill % RESTART_EVERY == 0 {
            broker.terminate();
            written.push(append(&mut log, "cam"));
            broker.restart();
        }
        // Now and then all is sent before the next one, else the backlog of the kills alone would grow.
        let settle = kill % 3 == 0;
        until("a connection to cut", || {
            let publisher = running.board.publisher();
            publisher.connected && (!settle || publisher.behind == 0)
        });
        let before = proxy.cuts();
        if dice.throw(2) == 0 {
            // At any byte of what is sent from now on: in live state, a topic, a record.
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
            } else if running.board.publisher().behind == 0 {
                written.push(append(&mut log, "cam"));
            }
            proxy.cuts() > before
        });
    }
    assert!(proxy.cuts() as u64 >= KILLS);
    let last = append(&mut log, "cam");
    written.push(last.clone());
    let got = events(&subscriber.wait("the last event", |m| events(m).iter().any(|r| r.id == last.id)));
    running.stop();

    assert_eq!(once(got.clone()), written, "all of them, in order");
    let by_id: HashMap<_, _> = written.iter().map(|r| (r.id, r)).collect();
    assert!(got.iter().all(|r| by_id.get(&r.id) == Some(&r)), "a duplicate is the same record");
    assert!(got.len() > written.len(), "the kills met messages that were on their way");
}
