//! A fleet: the publishers of many boxes, each with a flag log of its own, on one real mosquitto that dies in between.
//!
//! 100 boxes; `SPOTD_FLEET` names another number, and `make test-fleet` takes 1,000. All of them are in this process, two
//! threads each, as the daemon runs them: what is left out is what comes before the log.
#![cfg(feature = "mqtt")]

#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/publishing.rs"]
#[allow(dead_code)]
mod publishing;
#[path = "common/records.rs"]
mod records;
#[path = "mqtt/setup.rs"]
#[allow(dead_code)]
mod setup;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spotd::clock::SystemClock;
use spotd::flaglog::FlagLog;
use spotd::health::SourceState;
use spotd::publish::mqtt::MqttConfig;
use ulid::Ulid;

use mosquitto::{Broker, Message, Subscriber};
use setup::{Running, mqtt_config};

/// How long the whole fleet may take for one step.
const PATIENCE: Duration = Duration::from_secs(300);
/// Files that a box has open in this process are 7.
const FILES_A_BOX: usize = 10;

const EVENTS: &str = "spotd/+/source/+/event";
const STATES: &str = "spotd/+/source/+/state";
const STATUSES: &str = "spotd/+/status";

struct Member {
    node: String,
    log: FlagLog,
    running: Option<Running>,
    /// Ids of its records in the order in which they were written.
    written: Vec<Ulid>,
}

impl Member {
    fn new(dir: &Path, number: usize, broker: u16) -> Self {
        let node = format!("box-{number:04}");
        let log = FlagLog::open(&records::config(&dir.join(&node)), &node, SystemClock::shared());
        let mut member = Self { node, log: log.expect("a log"), running: None, written: Vec::new() };
        member.start(broker, number as u64);
        member
    }

    fn start(&mut self, broker: u16, frames: u64) {
        let config = MqttConfig { catch_up_rate: 50.0, ..mqtt_config(broker) };
        let running = Running::named(&self.node, config, &self.log, &["cam"], SystemClock::shared());
        self.running = Some(running);
        self.show(frames);
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    /// The source has delivered so many frames.
    fn show(&self, frames: u64) {
        self.running().board.update("cam", |s| (s.state, s.frames) = (SourceState::Live, frames));
    }

    fn append(&mut self) {
        self.written.push(publishing::append(&mut self.log, "cam").id);
    }
}

/// Records that arrived, by box, in the order in which they came, repeated ones too.
#[derive(Clone, Default)]
struct Archive(Arc<Mutex<BTreeMap<String, Vec<Ulid>>>>);

impl Archive {
    fn take(&self, message: &Message) {
        let record: serde_json::Value = serde_json::from_str(&message.payload).expect("a record");
        let id = record["id"].as_str().expect("an id").parse().expect("an id");
        self.0.lock().expect("lock").entry(node_of(message)).or_default().push(id);
    }

    /// What came from a box, without repetitions.
    fn of(&self, node: &str) -> Vec<Ulid> {
        let mut seen = HashSet::new();
        let all = self.0.lock().expect("lock").get(node).cloned().unwrap_or_default();
        all.into_iter().filter(|id| seen.insert(*id)).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().expect("lock").values().map(Vec::len).sum()
    }

    fn has_all(&self, fleet: &[Member]) -> bool {
        fleet.iter().all(|m| self.of(&m.node).len() == m.written.len())
    }
}

fn node_of(message: &Message) -> String {
    message.topic.split('/').nth(1).expect("a node").to_owned()
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{what}: it never was");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the broker has this of all boxes, and holds what somebody who subscribes then is told at once.
fn told(broker: &Broker, filter: &str, fleet: &[Member], is: impl Fn(usize, &str) -> bool) {
    let told = |subscriber: &Subscriber, retained: bool| {
        let messages = subscriber.messages().into_iter().filter(|m| m.retain || !retained);
        let newest: BTreeMap<_, _> = messages.map(|m| (node_of(&m), m.payload)).collect();
        newest.len() == fleet.len()
            && fleet.iter().enumerate().all(|(n, m)| newest.get(&m.node).is_some_and(|p| is(n, p)))
    };
    let subscriber = Subscriber::start(broker.port(), filter);
    until(&format!("{filter} of all boxes"), || told(&subscriber, false));
    let late = Subscriber::start(broker.port(), filter);
    until(&format!("{filter} of all boxes, retained"), || told(&late, true));
}

fn frames(payload: &str) -> u64 {
    let state: serde_json::Value = serde_json::from_str(payload).expect("a state");
    state["frames"].as_u64().expect("frames")
}

/// Lets this process, and the broker that it starts, have as many files open as the system allows.
fn raise_limit(needed: usize) {
    let pid = std::process::id().to_string();
    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits.lines().find(|l| l.starts_with("Max open files")).expect("a limit");
    let hard = line.split_whitespace().nth(4).expect("a hard limit");
    let enough = hard.parse().map_or(true, |hard: usize| hard >= needed);
    assert!(
        enough,
        "this many boxes need {needed} open files, the hard limit is {hard}: raise it, or set SPOTD_FLEET"
    );
    let raised = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={hard}:{hard}")]).status();
    assert!(raised.expect("prlimit, of util-linux").success());
}

/// A figure of a process in /proc, in MiB.
fn mebibytes(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

#[test]
fn a_fleet_outlives_its_broker_and_no_record_is_missing() {
    let boxes = std::env::var("SPOTD_FLEET").map_or(100, |n| n.parse().expect("SPOTD_FLEET is a number"));
    raise_limit(boxes * FILES_A_BOX + 200);
    // The archive's session outlasts the broker, and what is for it is kept while it is away. QoS 0: see
    // `Subscriber::reading`.
    let mut broker = Broker::run(
        "allow_anonymous true\npersistence true\nautosave_interval 0\nmax_inflight_messages 0\n\
         queue_qos0_messages true\n",
    );
    let archive = Archive::default();
    let keep = archive.clone();
    let archivist = Subscriber::lasting(broker.port(), EVENTS, "archive", move |m| keep.take(m));

    let dir = records::folder();
    let begun = Instant::now();
    let mut fleet: Vec<_> = (0..boxes).map(|n| Member::new(dir.path(), n, broker.port())).collect();
    told(&broker, STATUSES, &fleet, |_, status| status == "online");
    told(&broker, STATES, &fleet, |n, state| frames(state) == n as u64);
    let all_here = begun.elapsed();
    fleet.iter_mut().for_each(Member::append);
    until("the first record of each box", || archive.has_all(&fleet));
    broker.save();

    // The broker is killed while half of the boxes have written their second record.
    let mut open = 0;
    for n in 0..boxes {
        fleet[n].append();
        if n == boxes / 2 {
            broker.stop();
            open = fleet.iter().filter(|m| m.running().status().behind > 0).count();
        }
    }
    for (n, member) in fleet.iter_mut().enumerate() {
        // Every tenth box is started anew meanwhile.
        if n % 10 == 0 {
            member.running.take().expect("it runs").stop();
            member.start(broker.port(), 0);
        }
        member.append();
        member.show(1000 + n as u64);
    }
    let again = Instant::now();
    let confirmed = archivist.confirmed();
    broker.restart();
    fleet.iter_mut().for_each(Member::append);
    until("every record of every box", || archive.has_all(&fleet));
    let all_again = again.elapsed();
    assert!(archivist.confirmed() > confirmed, "the archive was away as well");
    for member in &fleet {
        assert!(archive.of(&member.node) == member.written, "{}: in order", member.node);
    }
    until("every box to know that", || fleet.iter().all(|m| m.running().status().behind == 0));
    told(&broker, STATUSES, &fleet, |_, status| status == "online");
    told(&broker, STATES, &fleet, |n, state| frames(state) == 1000 + n as u64);

    let written: usize = fleet.iter().map(|m| m.written.len()).sum();
    println!(
        "{boxes} boxes: all online after {:.1} s; broker killed while {open} boxes had records that it had not acknowledged; \
         all {written} records there {:.1} s after its start, {} of them twice; this process {} MiB, the broker {} MiB",
        all_here.as_secs_f64(),
        all_again.as_secs_f64(),
        archive.count() - written,
        mebibytes(std::process::id(), "VmRSS:"),
        mebibytes(broker.id().expect("it runs"), "VmRSS:"),
    );
    // Whoever leaves says so.
    for member in &mut fleet {
        member.running.take().expect("it runs").stop();
    }
    told(&broker, STATUSES, &fleet, |_, status| status == "offline");
}

/// Two consumers of one group share what the fleet sends: each record goes to one of them.
#[test]
fn consumers_that_share_a_subscription_get_each_record_once() {
    let broker = Broker::start();
    let dir = records::folder();
    let mut fleet: Vec<_> = (0..5).map(|n| Member::new(dir.path(), n, broker.port())).collect();
    let shared = format!("$share/archive/{EVENTS}");
    let consumers = [Subscriber::start(broker.port(), &shared), Subscriber::start(broker.port(), &shared)];
    for _ in 0..10 {
        fleet.iter_mut().for_each(Member::append);
    }
    let written: HashSet<_> = fleet.iter().flat_map(|m| m.written.iter().copied()).collect();
    let got = || -> Vec<Vec<Ulid>> {
        let id = |m: &Message| {
            let record: serde_json::Value = serde_json::from_str(&m.payload).expect("a record");
            record["id"].as_str().expect("an id").parse().expect("an id")
        };
        consumers.iter().map(|c| c.messages().iter().map(id).collect()).collect()
    };
    until("all records", || got().iter().map(Vec::len).sum::<usize>() >= written.len());
    let got = got();
    assert!(got.iter().all(|ids| !ids.is_empty()), "both have work");
    assert_eq!(got.iter().map(Vec::len).sum::<usize>(), written.len(), "none to both");
    assert_eq!(got.concat().into_iter().collect::<HashSet<_>>(), written);
}

/// A site's broker hands everything on to the centre, also what came while that was away.
#[test]
fn a_bridge_brings_a_site_to_the_centre() {
    let mut centre = Broker::run("allow_anonymous true\npersistence true\nqueue_qos0_messages true\n");
    let site = Broker::run(&format!(
        "allow_anonymous true\npersistence true\nconnection centre\naddress 127.0.0.1:{}\ncleansession false\n\
         restart_timeout 1\ntopic spotd/# out 1\n",
        centre.port()
    ));
    let archive = Archive::default();
    let keep = archive.clone();
    let _archivist = Subscriber::lasting(centre.port(), EVENTS, "archive", move |m| keep.take(m));
    let dir = records::folder();
    let mut fleet: Vec<_> = (0..3).map(|n| Member::new(dir.path(), n, site.port())).collect();
    fleet.iter_mut().for_each(Member::append);
    until("the first records at the centre", || archive.has_all(&fleet));
    told(&centre, STATES, &fleet, |n, state| frames(state) == n as u64);
    centre.terminate();
    fleet.iter_mut().for_each(Member::append);
    until("the site's broker to have them", || fleet.iter().all(|m| m.running().status().behind == 0));
    centre.restart();
    fleet.iter_mut().for_each(Member::append);
    until("all records at the centre", || archive.has_all(&fleet));
}
