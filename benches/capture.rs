//! The cost of capture alone: CPU time and memory for 1080p30 H.264 streams, with every frame
//! decoded and with only key frames decoded.
//!
//! The streams run as fast as they can, so that the share of a core does not depend on other load:
//! it is the CPU time per second of video.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;
use spotd::clock::{Clock, SystemClock, stop_signal};
use spotd::frame::Captured;
use spotd::source::SourceUri;
use spotd::source::gstreamer::GstSource;
use spotd::source::{Decode, FrameSink, Patience, Source};

const SECONDS: u32 = 10;

/// Takes two frames per second of the video, the daemon's default.
struct Sink {
    number: AtomicU64,
    every: u64,
    frames: AtomicU64,
    undecoded: AtomicU64,
}

impl FrameSink for Sink {
    fn source(&self) -> Arc<str> {
        "bench".into()
    }
    fn wants_frame(&self) -> bool {
        self.number.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.every)
    }
    fn offer(&self, captured: Captured) {
        assert_eq!((captured.width, captured.height), (1920, 1080));
        self.frames.fetch_add(1, Ordering::Relaxed);
    }
    fn lost(&self, reason: &'static str) {
        self.undecoded.fetch_add(u64::from(reason == "undecoded"), Ordering::Relaxed);
    }
}

fn main() {
    gst::init().expect("GStreamer");
    let dir = tempfile::tempdir().expect("a folder");
    let clip = dir.path().join("clip.mkv");
    encode(&clip);
    println!("streams  key frames   CPU share of one core   memory     frames taken, not decoded");
    for streams in [1, 8] {
        // One key frame a second: if two frames a second are wanted, all are decoded; if one, only
        // key frames.
        for (fps, what) in [(2.0, "and others"), (1.0, "alone")] {
            run(&clip, streams, fps, what);
        }
    }
}

fn encode(clip: &Path) {
    let text = format!(
        "videotestsrc num-buffers={} pattern=zone-plate kx2=20 ky2=20 kt=1 ! video/x-raw,format=I420,width=1920,height=1080,framerate=30/1 \
         ! x264enc speed-preset=superfast bitrate=6000 key-int-max=30 \
         ! h264parse ! matroskamux ! filesink location=\"{}\"",
        SECONDS * 30,
        clip.display()
    );
    let pipeline = gst::parse::launch(&text).expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("plays");
    let bus = pipeline.bus().expect("a bus");
    let end =
        bus.timed_pop_filtered(None, &[gst::MessageType::Eos, gst::MessageType::Error]).expect("an end");
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    pipeline.set_state(gst::State::Null).expect("ends");
}

fn run(clip: &Path, streams: usize, fps: f64, what: &str) {
    let text = format!("filesrc location=\"{}\" ! decodebin ! appsink sync=false", clip.display());
    let uri = SourceUri::parse(&text).expect("an address");
    let (clock, before) = (SystemClock::shared(), cpu_seconds());
    let sinks: Vec<_> = (0..streams)
        .map(|_| Sink {
            number: AtomicU64::new(0),
            every: if fps > 1.0 { 15 } else { 1 },
            frames: AtomicU64::new(0),
            undecoded: AtomicU64::new(0),
        })
        .collect();
    let (_handle, stop) = stop_signal();
    let mut memory = 0;
    std::thread::scope(|scope| {
        let runs: Vec<_> = sinks
            .iter()
            .map(|sink| {
                let (uri, clock, stop) = (uri.clone(), clock.clone(), stop.clone());
                scope.spawn(move || {
                    let mut source =
                        GstSource::new(&uri, Some((fps, Decode::All)), Patience::new(None), clock)
                            .expect("a source");
                    source.run_once(sink, &stop).expect("plays to its end");
                })
            })
            .collect();
        while runs.iter().any(|run| !run.is_finished()) {
            memory = memory.max(resident());
            stop.wait(&SystemClock::new() as &dyn Clock, std::time::Duration::from_millis(50));
        }
    });
    let sum = |of: fn(&Sink) -> &AtomicU64| sinks.iter().map(|s| of(s).load(Ordering::Relaxed)).sum::<u64>();
    println!(
        "{streams:7}  {what:10}   {:20.1} %   {:4} MiB   {}, {}",
        (cpu_seconds() - before) / f64::from(SECONDS) * 100.0,
        memory >> 20,
        sum(|s| &s.frames),
        sum(|s| &s.undecoded)
    );
}

/// CPU time of this process, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|&n| fields[n].parse::<u64>().expect("ticks")).sum();
    // Linux counts 100 ticks a second on every platform that we build for.
    ticks as f64 / 100.0
}

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).expect("pages") * 4096
}
