//! Hundreds of failed connects and of reconnects, and sixteen streams at once: memory, threads and
//! open files of the process stay where they were.
//!
//! `cargo test` runs a short version; `make soak` the long one (2,000 failed connects, 500
//! reconnects). The sender is a separate process, so that its memory is not counted.

#[path = "common/proxy.rs"]
mod proxy;
mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use proxy::Proxy;
use spotd::clock::{SharedClock, StopHandle, SystemClock, stop_signal};
use spotd::health::{Board, SourceState};
use spotd::source::latest::LatestSink;
use spotd::source::supervise::{Policy, spawn};
use support::rtsp::RtspServer;
use support::{config, free_port, h264, wait_for};

/// How much the process may grow at most, after a warm-up in which allocators and GStreamer's
/// caches fill: 500 reconnects that each lost 64 KiB, less than one small frame and its pipeline,
/// would be as much.
const GROWTH: u64 = 32 << 20;
/// Threads and files that may be left over: pools of GLib that keep a few for later.
const LEFT_OVER: u64 = 16;

/// The amount of work.
struct Size {
    failures: u64,
    reconnects: u64,
    /// Frames that each of sixteen sources is watched for, and how long at least.
    frames: u64,
    time: Duration,
}

impl Size {
    fn wanted() -> Self {
        if std::env::var_os("SPOTD_SOAK").is_some_and(|v| v == "long") {
            Self { failures: 2000, reconnects: 500, frames: 1800, time: Duration::from_secs(180) }
        } else {
            Self { failures: 160, reconnects: 48, frames: 60, time: Duration::ZERO }
        }
    }
}

/// The process's resources.
#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u64,
    threads: u64,
    files: u64,
}

impl Held {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let number = |key: &str| {
            let line = status.lines().find(|l| l.starts_with(key)).expect("a line of it");
            line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number")
        };
        let files = std::fs::read_dir("/proc/self/fd").expect("Linux").count() as u64;
        Self { bytes: number("VmRSS:") << 10, threads: number("Threads:"), files }
    }

    fn assert_kept_since(self, before: Self, what: &str) {
        let grown = self.bytes.saturating_sub(before.bytes);
        eprintln!("soak: {what}: {} KiB more; {before:?} -> {self:?}", grown >> 10);
        assert!(grown <= GROWTH, "{what}: {} KiB more", grown >> 10);
        assert!(self.threads <= before.threads + LEFT_OVER, "{what}: {before:?} -> {self:?}");
        assert!(self.files <= before.files + LEFT_OVER, "{what}: {before:?} -> {self:?}");
    }
}

/// The sender, in a separate process.
struct SenderProcess {
    child: Child,
    port: u16,
    /// Closing it tells the sender to end.
    _stdin: ChildStdin,
}

impl SenderProcess {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "the_sender", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let port = lines.find_map(|l| l.split_once("PORT=").and_then(|(_, port)| port.trim().parse().ok()));
        // It would end if nobody listened when it says that it takes long.
        std::thread::spawn(move || lines.for_each(drop));
        let stdin = child.stdin.take().expect("piped");
        Self { child, port: port.expect("the sender's port"), _stdin: stdin }
    }
}

impl Drop for SenderProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the sender of the other test, which starts it"]
fn the_sender() {
    let server = RtspServer::new(&h264(64, 48, 10).replace("key-int-max=10", "key-int-max=2"), "rtph264pay");
    println!("PORT={}", server.port());
    let _ = std::io::stdin().read(&mut [0]);
}

/// Sources under their supervisors, which hardly pause between tries.
struct Watched {
    board: Board,
    stop: StopHandle,
    threads: Vec<JoinHandle<()>>,
}

impl Watched {
    fn new(count: usize, url: &str) -> Self {
        let clock: SharedClock = SystemClock::shared();
        let board = Board::default();
        let (stop, signal) = stop_signal();
        let pause = Duration::from_millis(5);
        let threads = (0..count).map(|n| {
            let mut config = config(url, 20.0);
            config.id = format!("cam{n:02}").into();
            let (sink, _) = LatestSink::new(config.id.clone(), 20.0, board.clone(), clock.clone(), || {});
            let policy = Policy { first: pause, cap: pause, configuration: pause, ..Policy::of(&config) };
            let source = spotd::source::open(&config, &clock).expect("a source");
            spawn(source, Arc::new(sink), board.clone(), clock.clone(), signal.clone(), policy)
                .expect("a thread")
        });
        let threads = threads.collect();
        Self { board, stop, threads }
    }

    fn frames(&self) -> Vec<u64> {
        self.board.snapshot().iter().map(|(_, s)| s.frames).collect()
    }

    fn reconnects(&self) -> u64 {
        self.board.snapshot().iter().map(|(_, s)| s.reconnects).sum()
    }

    /// Waits until each source has `more` frames than now.
    fn wait_for_frames(&self, more: u64) {
        let begun = std::time::Instant::now();
        let before = self.frames();
        while !self.frames().iter().zip(&before).all(|(now, before)| *now >= before + more) {
            assert!(
                begun.elapsed() < Duration::from_secs(60 + more),
                "{:?} after {before:?}: {:?}",
                self.frames(),
                self.board.snapshot()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_reconnects(&self, more: u64) {
        let mut last = self.reconnects();
        let all = last + more;
        while last < all {
            // All that counts is that it goes on.
            last = wait_for("another try", || Some(self.reconnects()).filter(|now| *now > last));
        }
    }

    fn end(self) {
        self.stop.stop();
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        assert!(self.board.snapshot().iter().all(|(_, s)| s.state == SourceState::Ended));
    }
}

fn fail_to_connect(times: u64) {
    let watched = Watched::new(4, &format!("rtsp://127.0.0.1:{}/live", free_port()));
    watched.wait_for_reconnects(times);
    watched.end();
}

fn reconnect(port: u16, times: u64) {
    let proxy = Proxy::start(port);
    let watched = Watched::new(4, &format!("rtsp://127.0.0.1:{}/live", proxy.port()));
    let begun = watched.reconnects();
    while watched.reconnects() < begun + times {
        watched.wait_for_frames(1);
        proxy.cut();
    }
    watched.wait_for_frames(1);
    watched.end();
}

#[test]
fn memory_threads_and_files_stay_where_they_were() {
    // By default glibc gives each thread a heap of its own, and how many it makes depends on how
    // busy the machine is. In a process with few heaps, growth is ours.
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let name = "memory_threads_and_files_stay_where_they_were";
        let status = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name, "--nocapture"])
            .env("MALLOC_ARENA_MAX", "2")
            .status();
        assert!(status.expect("runs").success());
        return;
    }
    let size = Size::wanted();
    let sender = SenderProcess::start();
    fail_to_connect(size.failures / 4);
    reconnect(sender.port, size.reconnects / 4);

    let warm = Held::now();
    fail_to_connect(size.failures);
    Held::now().assert_kept_since(warm, &format!("{} failed connects", size.failures));

    let warm = Held::now();
    reconnect(sender.port, size.reconnects);
    Held::now().assert_kept_since(warm, &format!("{} reconnects", size.reconnects));

    let watched = Watched::new(16, &format!("rtsp://127.0.0.1:{}/live", sender.port));
    watched.wait_for_frames(size.frames / 4);
    let (warm, begun) = (Held::now(), std::time::Instant::now());
    let mut frames = 0;
    while frames == 0 || begun.elapsed() < size.time {
        watched.wait_for_frames(size.frames);
        frames += size.frames;
    }
    Held::now().assert_kept_since(warm, &format!("{frames} frames of 16 streams at once"));
    watched.end();
}
