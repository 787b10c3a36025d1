//! Latency from a frame to subscribers: the real pipeline on a picture that is untouched and
//! resynthesised in turn, so that each frame changes the verdict; the flag log with fsync; a real
//! mosquitto with a subscriber. Then how fast the backlog of an outage is sent, and how fast a
//! reader finds its place again.
//!
//! `SPOTD_BENCH_DIR` names a folder on the disk to measure, `SPOTD_BENCH_EVENTS` how many events
//! (300).

#[path = "../tests/common/mosquitto.rs"]
#[allow(dead_code)]
mod mosquitto;
#[path = "../tests/common/records.rs"]
mod records;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use mosquitto::{Broker, Subscriber};
use spotd::clock::{SystemClock, stop_signal};
use spotd::config::{Config, parse};
use spotd::control::Controls;
use spotd::detector::Model;
use spotd::flaglog::OsFs;
use spotd::flaglog::cursor::Mark;
use spotd::flaglog::fs::Fs;
use spotd::flaglog::{Entry, FlagLog, Reader};
use spotd::forensics::scenes::SceneRenderer;
use spotd::health::Board;
use spotd::identity::Wanted;
use spotd::pipeline::Daemon;
use spotd::publish::mqtt;
use spotd::source::demo::{HEIGHT, Resynthesis, WIDTH};
use spotd::verdict::EventKind;

/// Frames per second, the default: few enough that none waits for another, so that one frame's
/// latency is measured.
const FPS: f64 = 2.0;
/// Pairs of pictures that are shown repeatedly.
const PAIRS: u64 = 12;
/// Records of the outage.
const MISSED: usize = 5000;

fn main() {
    let base = std::env::var_os("SPOTD_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let events = std::env::var("SPOTD_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    one_way(&base, events);
    catch_up(&base);
}

/// When the daemon said that an event is recorded, which it does as soon as the append has
/// returned; and how long the frame had been on its way when it was judged.
struct Recorded {
    at: Mutex<HashMap<(String, String), SystemTime>>,
    judged: Mutex<Vec<Duration>>,
    board: Mutex<Option<Board>>,
}

static RECORDED: std::sync::LazyLock<Recorded> = std::sync::LazyLock::new(|| Recorded {
    at: Mutex::default(),
    judged: Mutex::default(),
    board: Mutex::default(),
});

impl log::Log for Recorded {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("spotd")
    }

    fn log(&self, record: &log::Record<'_>) {
        let now = SystemTime::now();
        if record.level() <= log::Level::Warn {
            eprintln!("{}: {}", record.level(), record.args());
        }
        let text = record.args().to_string();
        let mut words = text.rsplit(' ');
        if let (Some(kind), Some(event), Some("event")) = (words.next(), words.next(), words.next()) {
            self.at.lock().expect("lock").insert((event.to_owned(), kind.to_owned()), now);
            let board = self.board.lock().expect("lock");
            let latency = board.as_ref().and_then(|b| b.snapshot().first().and_then(|(_, s)| s.latency));
            self.judged.lock().expect("lock").extend(latency);
        }
    }

    fn flush(&self) {}
}

fn pictures(dir: &Path) {
    let network = Resynthesis::new().expect("the demonstration's network");
    for n in 0..PAIRS {
        let scene = SceneRenderer::new(n, WIDTH, HEIGHT).frame(n);
        let name = |turn: u64| dir.join(format!("{:03}.png", 2 * n + turn));
        network.apply(&scene).expect("applied").save(name(0)).expect("saved");
        scene.save(name(1)).expect("saved");
    }
}

fn config(dir: &Path, base: &Path, port: u16) -> Config {
    let text = format!(
        "[node]\nname = \"bench\"\n\
         [[source]]\nid = \"cam\"\nuri = {pictures:?}\nfps = {FPS:?}\nrepeat = true\n\
         [verdict]\nwindow = 1\nmin_frames = 1\nthreshold = 0.5\nunsure_from = 0.5\nhysteresis = 0.0\n\
         [log]\ndir = {log:?}\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n",
        pictures = dir.join("pictures"),
        log = base.join("flags"),
    );
    parse(&text, Path::new("bench.toml"), std::iter::empty()).expect("valid")
}

fn one_way(base: &Path, wanted: usize) {
    let (dir, disk) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir_in(base).expect("a folder"));
    std::fs::create_dir(dir.path().join("pictures")).expect("made");
    pictures(&dir.path().join("pictures"));
    log::set_logger(&*RECORDED).expect("the only logger");
    log::set_max_level(log::LevelFilter::Info);
    let broker = Broker::start();
    let arrived: Arc<Mutex<Vec<(SystemTime, String)>>> = Arc::default();
    let subscriber = Subscriber::telling(broker.port(), "spotd/+/source/+/event", {
        let arrived = arrived.clone();
        move |m| arrived.lock().expect("lock").push((SystemTime::now(), m.payload.clone()))
    });
    let model = Model::open(None, Wanted::Auto).expect("the built-in model");
    let daemon = Daemon::start(config(dir.path(), disk.path(), broker.port()), model, SystemClock::shared());
    let daemon = daemon.expect("started");
    *RECORDED.board.lock().expect("lock") = Some(daemon.board.clone());
    let begun = Instant::now();
    while arrived.lock().expect("lock").len() < wanted {
        std::thread::sleep(Duration::from_millis(100));
        assert!(
            begun.elapsed() < Duration::from_secs(1800),
            "too few events: does the detector tell the pictures apart?"
        );
    }
    assert!(daemon.stop(), "no thread panicked");
    drop(subscriber);

    let recorded = RECORDED.at.lock().expect("lock");
    let mut durable: BTreeMap<EventKindName, Vec<f64>> = BTreeMap::new();
    let mut told: BTreeMap<EventKindName, Vec<f64>> = BTreeMap::new();
    for (at, payload) in arrived.lock().expect("lock").iter() {
        let Ok(Entry::Event(record)) = serde_json::from_str(payload) else { continue };
        let captured = SystemTime::from(record.captured);
        let since = |t: SystemTime| t.duration_since(captured).map_or(0.0, |d| d.as_secs_f64() * 1e3);
        let key = (record.event.to_string(), record.kind.as_str().to_owned());
        // The last one comes when the daemon ends, without a frame.
        let Some(&done) = recorded.get(&key).filter(|_| record.frame.is_some()) else { continue };
        durable.entry(record.kind.as_str()).or_default().push(since(done));
        told.entry(record.kind.as_str()).or_default().push(since(*at));
    }
    println!(
        "one frame's way, {WIDTH}x{HEIGHT}, one worker a core, {FPS} frames a second; captured is exact to 1 ms"
    );
    let judged = RECORDED.judged.lock().expect("lock").iter().map(|d| d.as_secs_f64() * 1e3).collect();
    row("frame arrives -> verdict", judged);
    for (kind, what) in [("start", "with pictures"), ("end", "without")] {
        let take = |all: &mut BTreeMap<_, Vec<f64>>| all.remove(kind).unwrap_or_default();
        row(&format!("frame arrives -> durable record, {what}"), take(&mut durable));
        row(&format!("frame arrives -> message at a subscriber, {what}"), take(&mut told));
    }
}

type EventKindName = &'static str;

/// Percentiles by nearest rank, in milliseconds.
fn row(what: &str, mut ms: Vec<f64>) {
    ms.sort_by(f64::total_cmp);
    let rank = |p: f64| {
        ms.get(((ms.len() as f64 * p).ceil() as usize).saturating_sub(1)).copied().unwrap_or(f64::NAN)
    };
    let (p50, p99, max) = (rank(0.5), rank(0.99), rank(1.0));
    println!("  {what:62} n {:4}  p50 {p50:7.1} ms  p99 {p99:7.1} ms  max {max:7.1} ms", ms.len());
}

fn catch_up(base: &Path) {
    let disk = tempfile::tempdir_in(base).expect("a folder");
    let mut log =
        FlagLog::open(&records::config(disk.path()), "bench", SystemClock::shared()).expect("opened");
    let begun = Instant::now();
    for _ in 0..MISSED {
        log.append(records::new_record("cam", EventKind::Start), None).expect("appended");
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{MISSED} records without pictures: {:.0} a second made durable, one after the other",
        MISSED as f64 / took
    );

    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let mut reader = Reader::from_start(fs.clone(), disk.path());
    let mut last = None;
    let begun = Instant::now();
    while let Some(item) = reader.next().expect("sound") {
        last = Some(item.mark());
    }
    println!("reading them from the start: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let mark = last.expect("records");
    for (what, mark) in [("by its place", mark), ("by search in its segment", Mark::new(mark.seq, mark.hash))]
    {
        let begun = Instant::now();
        Reader::after(fs.clone(), disk.path(), mark).expect("found");
        println!("finding the last one again {what}: {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    }

    let broker = Broker::start();
    let subscriber = Subscriber::start(broker.port(), "spotd/+/source/+/event");
    let text = format!(
        "[[source]]\nid = \"cam\"\nuri = \"demo://1\"\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\ncatch_up_rate = 100000\n",
        broker.port()
    );
    let config = parse(&text, Path::new("bench.toml"), std::iter::empty()).expect("valid");
    let (stop, signal) = stop_signal();
    let ids = || [Arc::from("cam")];
    let (board, controls) = (Board::new(ids()), Controls::new(ids()));
    let begun = Instant::now();
    let thread = mqtt::spawn(
        config.mqtt.expect("a broker"),
        "bench",
        &log.tail(),
        board,
        controls,
        SystemClock::shared(),
        signal,
    )
    .expect("spawned");
    while subscriber.count() < MISSED {
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = begun.elapsed().as_secs_f64();
    println!("catching up with them over MQTT, catch_up_rate = 100000: {:.0} a second", MISSED as f64 / took);
    stop.stop();
    thread.join().expect("no panic");
}
