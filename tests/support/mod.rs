//! What integration tests share: senders of streams in the test's own process, a supervised source
//! with access to its frames, and waiting with a generous limit.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod http;
pub mod rtsp;

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use gstreamer as gst;
use gstreamer::prelude::*;
use image::RgbImage;
use spotd::clock::{SharedClock, StopHandle, SystemClock, stop_signal};
use spotd::frame::Frame;
use spotd::health::{Board, SourceState, SourceStatus};
use spotd::source::latest::LatestSink;
use spotd::source::supervise::{Policy, spawn};
use spotd::source::{Decode, SourceConfig, SourceUri};

/// Longest wait for anything, enough for a loaded machine with two cores.
pub const LONG: Duration = Duration::from_secs(60);

/// Waits until `ready` returns something; panics with `what` after [`LONG`].
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(begun.elapsed() < LONG, "waited {LONG:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port of 127.0.0.1 that nobody uses, neither over TCP nor over UDP.
pub fn free_port() -> u16 {
    wait_for("a free port", || {
        let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
        let port = tcp.local_addr().ok()?.port();
        UdpSocket::bind(("127.0.0.1", port)).ok().map(|_| port)
    })
}

/// The configuration of a source named `cam`.
pub fn config(uri: &str, fps: f64) -> SourceConfig {
    let uri = SourceUri::parse(uri).expect("an address");
    // All frames, so that a test need not wait for key frames.
    let decode = Decode::All;
    SourceConfig { id: "cam".into(), uri, fps, decode, stall_timeout: None, repeat: false }
}

/// A source under its supervisor.
pub struct Rig {
    pub board: Board,
    pub clock: SharedClock,
    frames: Receiver<Frame>,
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    /// Starts watching, with short pauses between tries.
    pub fn new(config: &SourceConfig) -> Self {
        let policy = Policy {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(1),
            configuration: Duration::from_secs(1),
            ..Policy::of(config)
        };
        let clock = SystemClock::shared();
        let board = Board::new([config.id.clone()]);
        let (sink, frames) =
            LatestSink::new(config.id.clone(), config.fps, board.clone(), clock.clone(), || {});
        let (handle, stop) = stop_signal();
        let source = spotd::source::open(config, &clock).expect("a source");
        let thread =
            spawn(source, Arc::new(sink), board.clone(), clock.clone(), stop, policy).expect("a thread");
        Self { board, clock, frames, stop: handle, thread: Some(thread) }
    }

    /// The next frame.
    pub fn frame(&self) -> Frame {
        self.frames
            .recv_timeout(LONG)
            .unwrap_or_else(|_| panic!("no frame within {LONG:?}: {:?}", self.status()))
    }

    /// A frame, if there is one now.
    pub fn try_frame(&self) -> Option<Frame> {
        self.frames.try_recv().ok()
    }

    /// Its status on the board.
    pub fn status(&self) -> SourceStatus {
        self.board.snapshot().remove(0).1
    }

    /// Waits for a state.
    pub fn wait_for_state(&self, what: &str, is: impl Fn(&SourceState) -> bool) -> SourceState {
        wait_for(what, || Some(self.status().state).filter(&is))
    }

    /// Waits until it is being retried, and returns why.
    pub fn failure(&self) -> SourceState {
        self.wait_for_state("a failure", |s| {
            matches!(s, SourceState::Retrying { .. } | SourceState::Failed { .. })
        })
    }

    /// Gives the stop signal and waits for the thread.
    pub fn end(mut self) {
        self.stop.stop();
        self.thread.take().expect("once").join().expect("no panic");
        assert_eq!(self.status().state, SourceState::Ended);
    }
}

/// Runs a pipeline to its end, as to write a file.
pub fn play(text: &str) {
    let pipeline = Sender::new(text);
    let bus = pipeline.0.bus().expect("a bus");
    let wait = gst::ClockTime::from_seconds(LONG.as_secs());
    let message = bus.timed_pop_filtered(wait, &[gst::MessageType::Eos, gst::MessageType::Error]);
    match message.expect("an end").view() {
        gst::MessageView::Eos(_) => {}
        other => panic!("{text}: {other:?}"),
    }
}

/// A running pipeline that sends; dropping it ends it.
pub struct Sender(gst::Pipeline);

impl Sender {
    /// Starts a pipeline.
    pub fn new(text: &str) -> Self {
        gst::init().expect("GStreamer");
        let pipeline = gst::parse::launch(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
        pipeline.set_state(gst::State::Playing).unwrap_or_else(|e| panic!("{text}: {e}"));
        Self(pipeline)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// A live test picture of colour bars as H.264.
pub fn h264(width: u32, height: u32, rate: u32) -> String {
    format!(
        "videotestsrc is-live=true pattern=smpte75 \
         ! video/x-raw,format=I420,width={width},height={height},framerate={rate}/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max={rate}"
    )
}

/// Checks that the picture is the colour bars of `videotestsrc pattern=smpte75`, as far as a codec
/// leaves them.
pub fn assert_bars(image: &RgbImage) {
    let (width, y) = (image.width(), image.height() / 4);
    let levels = [[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1]];
    for (n, want) in levels.into_iter().enumerate() {
        let want = want.map(|on: u8| i32::from(on) * 191);
        let got = image.get_pixel(width * (2 * n as u32 + 1) / 14, y).0.map(i32::from);
        let near = got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 20);
        assert!(near, "bar {n} is {got:?}, not {want:?}");
    }
}
