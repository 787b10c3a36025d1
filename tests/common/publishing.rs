//! What tests of publishers need: a log with records, a fast clock, and captured log messages.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;
use image::RgbImage;
use spotd::clock::{Clock, Moment, SharedClock, Stop, StopHandle, SystemClock, stop_signal};
use spotd::flaglog::{Finding, FlagLog, NewRecord, NewReview, Record, Review};
use spotd::frame::Rect;
use spotd::judgement::ScoredTile;
use spotd::verdict::EventKind;

use crate::records::{self, new_record};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A name that topics have to escape.
pub const NODE: &str = "box/1";

pub fn open(dir: &Path) -> FlagLog {
    FlagLog::open(&records::config(dir), NODE, SystemClock::shared()).expect("open")
}

pub fn append(log: &mut FlagLog, source: &str) -> Record {
    append_with(log, source, 0, None)
}

/// With this many tiles, which make it longer, and perhaps a picture.
pub fn append_with(log: &mut FlagLog, source: &str, tiles: u32, picture: Option<&RgbImage>) -> Record {
    let tile = |i| ScoredTile { rect: Rect { x: i, y: i, width: 64, height: 64 }, score: 0.987_654_321 };
    let record = NewRecord {
        tiles: (0..tiles).map(tile).collect(),
        captured: SystemTime::now(),
        ..new_record(source, EventKind::Start)
    };
    let evidence = picture.map(|frame| records::evidence(frame, &[]));
    log.append(record, evidence.as_ref()).expect("append")
}

/// Somebody has looked at it.
pub fn review(log: &mut FlagLog, of: &Record) -> Review {
    let new = NewReview {
        event: of.event,
        source: of.source.clone(),
        finding: Finding::FalseAlarm,
        by: "Jo".into(),
        comment: Some("a poster".into()),
        replaces: None,
    };
    let tail = log.tail();
    log.review(new, &tail).expect("kept")
}

/// A publisher's thread, which is stopped and joined when dropped.
pub struct Thread {
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts it, with the signal that will stop it.
    pub fn start<E: std::fmt::Debug>(spawn: impl FnOnce(Stop) -> Result<JoinHandle<()>, E>) -> Self {
        let (stop, signal) = stop_signal();
        Self { stop, thread: Some(spawn(signal).expect("spawn")) }
    }

    /// Stops it and waits for its end.
    pub fn end(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the publisher does not panic");
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.end();
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

/// Everything that is logged in this process, from trace up.
pub fn logged() -> String {
    collector().0.lock().expect("lock").clone()
}

/// Starts collecting what is logged.
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

/// Waits until a condition holds.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{what}: it never was; {}", logged());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Without duplicates.
pub fn once(mut records: Vec<Record>) -> Vec<Record> {
    let mut seen = std::collections::HashSet::new();
    records.retain(|r| seen.insert(r.id));
    records
}
