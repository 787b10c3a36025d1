//! Streams, video files and pipeline texts, read through GStreamer.
//!
//! Decoders are chosen by rank, so hardware ones win where they exist. Frames arrive in the
//! decoder's own format, mapped and not copied, and one that is not wanted is dropped before it is
//! even mapped; where key frames are enough, the others are dropped before
//! they are decoded. Every run builds a new pipeline and takes it down completely: one that failed
//! cannot be set to PLAYING again.

mod backlog;
mod build;
pub mod content;
mod contribution;
mod disposable;
mod element;
mod fault;
mod frames;
mod hardware;
mod http;
mod keyframes;
mod link;
mod prolong;
mod recode;
mod running;
mod video;
mod witness;

use std::sync::Once;
use std::time::Duration;

use ::gstreamer as gst;
use crossbeam_channel::select;

pub(super) use prolong::prolong;
pub(super) use recode::recode;
pub(super) use video::read_at;
pub use video::{VideoSummary, read_video};

use self::build::{Delivery, build};
use self::fault::{Circumstances, Missing, Report, classify};
use self::frames::{Fault, FrameMaker};
use self::hardware::Hardware;
use self::keyframes::Thinning;
use self::running::{Event, Running, Start};
use super::files::Show;
use super::silence::Silence;
use super::stamp::Stamper;
use super::{Decode, Ended, FrameSink, Patience, Source, SourceError, cut};
use crate::clock::{SharedClock, Stop};
use crate::source::SourceUri;

/// An element that refuses to start posts its reason within this time or not at all.
const REASON: Duration = Duration::from_secs(2);

/// A stream, a video file or a user's pipeline.
pub struct GstSource {
    uri: SourceUri,
    wanted: Option<(f64, Decode)>,
    patience: Patience,
    clock: SharedClock,
    hardware: Hardware,
}

impl GstSource {
    /// A source for `uri`, which is a stream, a file or a pipeline text, of which at most so many frames a second are
    /// `wanted`, decoded so (`None`: as many as it has, all decoded). Nothing is opened yet.
    ///
    /// # Errors
    /// [`SourceError::Configuration`] when GStreamer itself does not start.
    pub fn new(
        uri: &SourceUri,
        wanted: Option<(f64, Decode)>,
        patience: Patience,
        clock: SharedClock,
    ) -> Result<Self, SourceError> {
        init()?;
        Ok(Self { uri: uri.clone(), wanted, patience, clock, hardware: Hardware::default() })
    }

    /// How long a still picture is shown.
    fn period(&self) -> Duration {
        let period = self.wanted.and_then(|(fps, _)| Duration::try_from_secs_f64(1.0 / fps).ok());
        period.unwrap_or(Duration::ZERO)
    }

    fn thinning(&self, sink: &dyn FrameSink) -> Option<Thinning> {
        let (fps, decode) = self.wanted?;
        let thinning = thinning(fps, decode, self.patience, &self.describe())?;
        Some(thinning.unless(sink.closer_look()).sparing(self.period()).keeping_up())
    }
}

/// Key frames that come at least this often are enough for [`Decode::Auto`].
const ENOUGH: Duration = Duration::from_millis(2500);

/// Key frames have to come as often as frames are wanted, or often enough, and often enough not to look like a
/// stall.
fn thinning(fps: f64, decode: Decode, patience: Patience, what: &str) -> Option<Thinning> {
    let wanted = Duration::try_from_secs_f64(1.0 / fps).ok()?;
    let enough = match decode {
        Decode::Auto => wanted.max(ENOUGH),
        Decode::All => wanted,
    };
    Some(Thinning::new(enough.min(patience.between(None) / 4), what))
}

/// Initialises GStreamer; further calls do nothing.
fn init() -> Result<(), SourceError> {
    gst::init().map_err(|e| {
        SourceError::Configuration(format!(
            "GStreamer does not start: {e}; install gstreamer1.0-plugins-base"
        ))
    })?;
    static PREFERRED: Once = Once::new();
    PREFERRED.call_once(hardware::prefer);
    Ok(())
}

impl Source for GstSource {
    fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError> {
        let (running, over) = loop {
            let thinning = self.thinning(sink);
            let running = Running::start(
                build(&self.uri, Delivery::Latest, thinning.as_ref(), &self.hardware)?,
                Delivery::Latest,
                self.describe(),
                self.clock.clone(),
            )?;
            let over = Run {
                uri: &self.uri,
                clock: &self.clock,
                sink,
                running: &running,
                hardware: &self.hardware,
                thinning,
                frames: FrameMaker::default(),
                seen: 0,
                last: None,
                stamper: Stamper::default(),
                missing: Vec::new(),
                live: false,
                silence: Silence::new(self.patience, self.clock.now()),
            }
            .until_over(stop)?;
            // At most once, since the hardware stays barred.
            if !matches!(over, Over::Unfit) {
                break (running, over);
            }
        };
        let mut show = Show::new(sink, stop, &self.clock, self.period());
        match over {
            Over::Ended(ended) => Ok(ended),
            Over::Unfit => unreachable!("tried again above"),
            // It is shown for a full period, so that one that is requested repeatedly keeps its
            // rate.
            Over::Shown => Ok(if show.pause() { Ended::Picture } else { Ended::Stopped }),
            Over::Picture(bytes) => {
                // Another request would get another picture.
                drop(running);
                match show.all(&bytes) {
                    Ok(true) => Ok(if show.rest() { Ended::Picture } else { Ended::Stopped }),
                    Ok(false) => Ok(Ended::Stopped),
                    Err(why) => Err(SourceError::Retry(format!("{}: {why}", self.uri))),
                }
            }
        }
    }

    fn describe(&self) -> String {
        match &self.uri {
            SourceUri::Stream(url) => format!("{} {}", url.scheme().to_ascii_uppercase(), self.uri),
            SourceUri::Contribution(feed) => format!("{} {}", feed.scheme().to_ascii_uppercase(), self.uri),
            SourceUri::File(_) => format!("video {}", self.uri),
            _ => format!("pipeline {}", self.uri),
        }
    }
}

/// How a run ended.
enum Over {
    Ended(Ended),
    /// The stream was a single picture, which was handed over.
    Shown,
    /// The stream was the picture in these bytes, which was not handed over.
    Picture(Vec<u8>),
    /// The hardware does not decode it; software is to be tried.
    Unfit,
}

/// One run, from start to end.
struct Run<'a> {
    uri: &'a SourceUri,
    clock: &'a SharedClock,
    sink: &'a dyn FrameSink,
    running: &'a Running,
    hardware: &'a Hardware,
    thinning: Option<Thinning>,
    frames: FrameMaker,
    /// Frames received, and the last one's position in the stream.
    seen: u64,
    last: Option<Duration>,
    stamper: Stamper,
    missing: Vec<Missing>,
    live: bool,
    silence: Silence,
}

impl Run<'_> {
    fn until_over(mut self, stop: &Stop) -> Result<Over, SourceError> {
        let mut starting = Some(self.running.started().clone());
        loop {
            let never = crossbeam_channel::never();
            let timer = self.clock.after(self.silence.left(self.clock.now()));
            select! {
                recv(stop.channel()) -> _ => return Ok(Over::Ended(Ended::Stopped)),
                recv(self.running.samples()) -> sample => if let Ok(sample) = sample {
                    self.take(&sample)?;
                },
                recv(self.running.events()) -> event => if let Ok(event) = event
                    && let Some(end) = self.hear(event)? {
                        return Ok(end);
                },
                recv(starting.as_ref().unwrap_or(&never)) -> start => {
                    starting = None;
                    match start {
                        Ok(Start::Live) => self.live = true,
                        Ok(Start::Paced) => {}
                        Ok(Start::Refused) | Err(_) => return self.reason(),
                    }
                },
                recv(timer) -> _ => if let Err(error) = self.silence.check(self.uri, self.sink, self.clock.now()) {
                    return if self.hardware.is_silent(self.uri, self.seen) { Ok(Over::Unfit) } else { Err(error) };
                },
            }
        }
    }

    /// Hands a frame over, if it is wanted.
    fn take(&mut self, sample: &gst::Sample) -> Result<(), SourceError> {
        self.silence.broken(self.frames.rate(sample), self.clock.now());
        // Newer ones arrived before they were read.
        let unread = self.running.overwritten();
        if self.seen == 0 {
            self.hardware.first_frame(self.uri);
        }
        self.seen += 1 + unread;
        self.last = Running::stream_time(sample).or(self.last);
        for _ in 0..unread {
            self.sink.lost("unread");
        }
        for _ in 0..self.thinning.as_ref().map_or(0, Thinning::skipped) {
            self.sink.lost("undecoded");
        }
        for _ in 0..self.thinning.as_ref().map_or(0, Thinning::behind) {
            self.sink.lost("behind");
        }
        // Every frame's time is fed in: the more it sees, the better it knows the stream's clock.
        let captured = self.stamper.stamp(Running::running_time(sample), &**self.clock);
        if !self.sink.wants_frame() {
            return Ok(());
        }
        match self.frames.frame(sample, captured) {
            Ok(captured) => self.sink.offer(captured),
            Err(Fault::Lost(reason)) => self.sink.lost(reason),
            Err(Fault::Unusable(why)) => {
                return Err(SourceError::Configuration(format!("{}: {why}", self.uri)));
            }
        }
        Ok(())
    }

    fn hear(&mut self, event: Event) -> Result<Option<Over>, SourceError> {
        match event {
            Event::Missing(what) => {
                self.missing.push(what);
                Ok(None)
            }
            Event::Failed(report) => self.failed(&report).map(Some),
            Event::Ended => {
                // The last frame may still be in transit.
                if let Ok(sample) = self.running.samples().try_recv() {
                    self.take(&sample)?;
                }
                if self.live {
                    return Err(SourceError::Retry(format!(
                        "{}: the stream was ended by its sender",
                        self.uri
                    )));
                }
                Ok(Some(self.over()))
            }
        }
    }

    /// What the stream turned out to be, once it has ended.
    fn over(&self) -> Over {
        let witness = self.running.witness();
        if let Some(bytes) = witness.picture() {
            return Over::Picture(bytes);
        }
        if self.seen == 1 && witness.begins_as_picture() {
            return Over::Shown;
        }
        if let Some(truncated) = witness.truncated().or_else(|| cut::truncated(self.uri, self.last)) {
            log::warn!("{}: {truncated}", self.uri);
            self.sink.lost("truncated");
        }
        Over::Ended(Ended::EndOfStream)
    }

    /// What follows from a failure.
    fn failed(&mut self, report: &Report) -> Result<Over, SourceError> {
        if self.hardware.is_to_blame(self.uri, report, self.seen) {
            return Ok(Over::Unfit);
        }
        Err(self.classify(report))
    }

    /// Why the pipeline did not start.
    fn reason(&mut self) -> Result<Over, SourceError> {
        let timer = self.clock.after(REASON);
        loop {
            select! {
                recv(self.running.events()) -> event => match event {
                    Ok(Event::Missing(what)) => self.missing.push(what),
                    Ok(Event::Failed(report)) => return self.failed(&report),
                    Ok(Event::Ended) => {}
                    Err(_) => break,
                },
                recv(timer) -> _ => break,
            }
        }
        let error = gst::glib::Error::new(gst::CoreError::StateChange, "the pipeline does not start");
        Err(self.classify(&Report { error, debug: None, from: None }))
    }

    fn classify(&mut self, report: &Report) -> SourceError {
        // A missing element may be reported after the failure that it causes.
        for event in self.running.events().try_iter() {
            if let Event::Missing(what) = event {
                self.missing.push(what);
            }
        }
        let known = Circumstances { missing: self.missing.clone(), content: self.running.content_type() };
        classify(self.uri, report, &known)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::SystemTime;

    use super::*;
    use crate::clock::{Clock, ManualClock, stop_signal};
    use crate::frame::Captured;

    #[derive(Default)]
    struct Heard {
        stalled: AtomicU32,
        frames: AtomicU32,
    }

    impl FrameSink for Heard {
        fn source(&self) -> Arc<str> {
            "cam".into()
        }
        fn wants_frame(&self) -> bool {
            true
        }
        fn offer(&self, _: Captured) {
            self.frames.fetch_add(1, Ordering::Relaxed);
        }
        fn lost(&self, _: &'static str) {}
        fn stalled(&self) {
            self.stalled.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_pipeline_that_gives_nothing_is_called_stalled_and_then_taken_down() {
        // An appsrc that nobody feeds stands for a connection that is up but silent.
        let text = "appsrc is-live=true ! video/x-raw,format=RGB,width=16,height=16,framerate=5/1 ! appsink";
        let uri = SourceUri::parse(text).expect("parses");
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let patience = Patience::new(Some(Duration::from_secs(3)));
        let mut source = GstSource::new(&uri, None, patience, Arc::new(clock.clone())).expect("GStreamer");
        let heard = Heard::default();
        let error = std::thread::scope(|scope| {
            let run = scope.spawn(|| source.run_once(&heard, &Stop::never()));
            while clock.now() < patience.first {
                if clock.waiting() > 0 {
                    clock.advance(Duration::from_secs(1));
                }
                assert!(!run.is_finished() || clock.now() >= patience.first, "too early");
                std::thread::yield_now();
            }
            // It is given ten seconds of real time to be taken down; what then still hangs is left behind.
            let patient = crate::clock::SystemClock::new();
            while !run.is_finished() {
                if clock.waiting() > 0 {
                    clock.advance(Duration::from_millis(10));
                }
                let _ = patient.after(Duration::from_millis(10)).recv();
            }
            run.join().expect("no panic").expect_err("a stall")
        });
        assert!(matches!(&error, SourceError::Retry(why) if why.contains("no frame for 20.0 s")), "{error}");
        assert_eq!((heard.stalled.into_inner(), heard.frames.into_inner()), (1, 0));
    }

    #[test]
    fn a_pipeline_plays_to_its_end_again_and_again() {
        let uri = SourceUri::parse("videotestsrc num-buffers=3 ! appsink sync=false").expect("parses");
        let clock = crate::clock::SystemClock::shared();
        let mut source = GstSource::new(&uri, None, Patience::new(None), clock).expect("GStreamer");
        for _ in 0..3 {
            let heard = Heard::default();
            assert_eq!(source.run_once(&heard, &Stop::never()), Ok(Ended::EndOfStream));
            assert!(heard.frames.into_inner() >= 1);
        }
    }

    #[test]
    fn an_element_that_hangs_is_left_behind_in_time() {
        // It sleeps for an hour while it holds the first frame, and cannot be woken.
        let text = "videotestsrc ! identity sleep-time=3600000000 ! appsink";
        let uri = SourceUri::parse(text).expect("parses");
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let patience = Patience::new(None);
        let mut source = GstSource::new(&uri, None, patience, Arc::new(clock.clone())).expect("GStreamer");
        let (handle, stop) = stop_signal();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| source.run_once(&Heard::default(), &stop));
            // Its two timers are the wait for a frame and then the wait for the end.
            while clock.waiting() == 0 {
                std::thread::yield_now();
            }
            handle.stop();
            while !run.is_finished() {
                clock.advance(Duration::from_millis(100));
                std::thread::yield_now();
            }
            assert_eq!(run.join().expect("no panic"), Ok(Ended::Stopped));
        });
    }

    #[test]
    fn what_is_opened_is_described_without_credentials() {
        let describe = |text: &str| {
            let uri = SourceUri::parse(text).expect("parses");
            let clock = crate::clock::SystemClock::shared();
            GstSource::new(&uri, None, Patience::new(None), clock).expect("GStreamer").describe()
        };
        assert_eq!(describe("rtsp://user:secret@cam.lan/1"), "RTSP rtsp://***@cam.lan/1");
        assert_eq!(describe("/media/clip.mp4"), "video /media/clip.mp4");
    }
}
