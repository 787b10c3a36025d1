//! What all of these tests need: a log with records, a publisher, and their configuration.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;
use image::RgbImage;
use spotd::clock::{Clock, Moment, SharedClock, StopHandle, SystemClock, stop_signal};
use spotd::control::Controls;
use spotd::flaglog::{Entry, Evidence, FlagLog, NewRecord, Record};
use spotd::frame::Rect;
use spotd::health::Board;
use spotd::judgement::ScoredTile;
use spotd::publish::mqtt;
use spotd::publish::mqtt::{MqttConfig, MqttVersion};
use spotd::verdict::EventKind;

use crate::mosquitto::{Message, PATIENCE};
use crate::records::{self, new_record};

/// A name that topics have to escape.
pub const NODE: &str = "box/1";

pub fn open(dir: &Path) -> FlagLog {
    FlagLog::open(&records::config(dir), NODE, SystemClock::shared()).expect("open")
}

pub fn mqtt_config(port: u16) -> MqttConfig {
    MqttConfig {
        host: "127.0.0.1".into(),
        port,
        tls: false,
        ca_file: None,
        user: None,
        password: None,
        client_cert: None,
        version: MqttVersion::V5,
        prefix: "spotd".into(),
        catch_up_rate: 100_000.0,
        discovery: None,
        snapshots: false,
        commands: false,
    }
}

pub fn append(log: &mut FlagLog, source: &str) -> Record {
    append_with(log, source, 0, None)
}

/// With so many tiles, which make it longer, and perhaps a picture.
pub fn append_with(log: &mut FlagLog, source: &str, tiles: u32, picture: Option<&RgbImage>) -> Record {
    let tile = |i| ScoredTile { rect: Rect { x: i, y: i, width: 64, height: 64 }, score: 0.987_654_321 };
    let record = NewRecord {
        tiles: (0..tiles).map(tile).collect(),
        captured: SystemTime::now(),
        ..new_record(source, EventKind::Start)
    };
    let evidence = picture.map(|frame| Evidence { frame, tiles: &[] });
    log.append(record, evidence.as_ref()).expect("append")
}

/// A publisher that is stopped when this is dropped.
pub struct Running {
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
    pub board: Board,
    pub controls: Controls,
}

impl Running {
    /// One with the source `cam`.
    pub fn start(config: MqttConfig, log: &FlagLog) -> Self {
        Self::with(config, log, &["cam"], SystemClock::shared())
    }

    pub fn with(config: MqttConfig, log: &FlagLog, sources: &[&str], clock: SharedClock) -> Self {
        Self::named(NODE, config, log, sources, clock)
    }

    pub fn named(
        node: &str,
        config: MqttConfig,
        log: &FlagLog,
        sources: &[&str],
        clock: SharedClock,
    ) -> Self {
        let (stop, signal) = stop_signal();
        let ids = || sources.iter().map(|s| Arc::from(*s));
        let (board, controls) = (Board::new(ids()), Controls::new(ids()));
        let thread = mqtt::spawn(config, node, &log.tail(), board.clone(), controls.clone(), clock, signal);
        Self { stop, thread: Some(thread.expect("spawn")), board, controls }
    }

    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the publisher does not panic");
        }
    }
}

/// A clock that runs [`Hasty::TIMES`] times as fast, so that backoff and patience pass quickly.
pub struct Hasty(SystemClock);

impl Hasty {
    const TIMES: u32 = 20;

    pub fn shared() -> SharedClock {
        Arc::new(Self(SystemClock::new()))
    }
}

impl Clock for Hasty {
    fn now(&self) -> Moment {
        self.0.now() * Self::TIMES
    }

    fn wall(&self) -> SystemTime {
        self.0.wall()
    }

    fn after(&self, delay: Duration) -> Receiver<Instant> {
        self.0.after(delay / Self::TIMES)
    }
}

/// Everything that anybody in this process logs, from trace up.
pub fn logged() -> String {
    collector().0.lock().expect("lock").clone()
}

/// Begins to collect what is logged.
pub fn collect_log() {
    // Fails when another test was faster, with the same result.
    let _ = log::set_logger(collector());
    log::set_max_level(log::LevelFilter::Trace);
}

struct Collector(Mutex<String>);

fn collector() -> &'static Collector {
    static COLLECTOR: Collector = Collector(Mutex::new(String::new()));
    &COLLECTOR
}

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}\n", record.level(), record.target(), record.args());
        self.0.lock().expect("lock").push_str(&line);
    }

    fn flush(&self) {}
}

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{what}: it never was; {}", logged());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn events(messages: &[Message]) -> Vec<Record> {
    let event = |m: &Message| match serde_json::from_str(&m.payload).expect("an entry") {
        Entry::Event(record) => *record,
        Entry::Note(_) => panic!("a note was published"),
    };
    messages.iter().filter(|m| m.topic.ends_with("/event")).map(event).collect()
}

/// Without what was sent again.
pub fn once(mut records: Vec<Record>) -> Vec<Record> {
    let mut seen = std::collections::HashSet::new();
    records.retain(|r| seen.insert(r.id));
    records
}
