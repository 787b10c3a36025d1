//! Every frame of a video, in order and as fast as frames are taken, for tools.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{never, select};

use super::super::{Decode, Patience, SourceError, Truncated, cut};
use super::build::{self, build};
use super::fault::{Circumstances, classify};
use super::frames::{Fault, FrameMaker};
use super::hardware::Hardware;
use super::init;
use super::running::{Event, Running, Start};
use super::witness::Witness;
use crate::clock::{Moment, SharedClock};
use crate::frame::{Frame, jpeg};
use crate::source::Pace;
use crate::source::SourceUri;

/// A video that delivers nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was read of a video.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VideoSummary {
    /// Frames decoded.
    pub decoded: u64,
    /// Frames handed over.
    pub taken: u64,
    /// Frames that were due, but damaged.
    pub lost: u64,
    /// The bytes, if it was a still picture and not a video: nothing was handed over, and
    /// [`crate::frame::picture`] decodes it.
    pub picture: Option<Vec<u8>>,
    /// It was a single frame, of something that is a still picture by its content.
    pub still: bool,
    /// What is missing at its end.
    pub truncated: Option<Truncated>,
}

/// Hands the frames of a video file, stream or pipeline to `each`, in order and without dropping
/// any that is due: at most `per_second` for each second of the video. Ends with the video, or when
/// `each` breaks.
///
/// Of these frames, `seq` counts from 0, `arrived` is the position in the video, or since the first
/// frame of what comes over a network, and `captured` is that position after the Unix epoch. Where
/// the video carries no times, the position is the time since its first frame arrived if it comes
/// over a network, and follows from the stated rate, or 25 frames a second, if not. Of a still
/// picture nothing is handed over, see [`VideoSummary::picture`].
///
/// # Errors
/// As of [`super::GstSource`]; also when nothing comes for a minute.
pub fn read_video(
    uri: &SourceUri,
    per_second: f64,
    clock: &SharedClock,
    each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<VideoSummary, SourceError> {
    read_at(uri, Pace { fps: per_second, live: Duration::MAX, as_run: false }, clock, each)
}

/// As [`read_video`], at this pace. What comes over a network may be a clip, which is read to its
/// end.
///
/// # Errors
/// As [`read_video`].
pub(in crate::source) fn read_at(
    uri: &SourceUri,
    pace: Pace,
    clock: &SharedClock,
    mut each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<VideoSummary, SourceError> {
    init()?;
    let thinning = super::thinning(pace.fps, Decode::All, Patience::new(None), &uri.to_string());
    let thinning = thinning.filter(|_| pace.as_run);
    let thinning = thinning.as_ref();
    let running = Running::start(
        // What tools say does not depend on what decodes in a machine's hardware.
        build(uri, build::Delivery::Everything, thinning, &Hardware::barred())?,
        build::Delivery::Everything,
        uri.to_string(),
        clock.clone(),
    )?;
    let id: Arc<str> = uri.to_string().into();
    let mut reader = Reader {
        frames: FrameMaker::default(),
        arrivals: running.is_network().then(|| Arrivals { clock: clock.clone(), first: None }),
        begin: (!running.is_network()).then_some(Duration::ZERO),
        period: 1.0 / pace.fps,
        due: 0,
        held: Held::Nothing,
        last: None,
        summary: VideoSummary::default(),
    };
    let unusable = |why: String| SourceError::Configuration(format!("{uri}: {why}"));
    let mut starting = Some(running.started().clone());
    let mut known = Circumstances::default();
    let mut refused = None;
    let mut endless = uri.is_live().then_some(true);
    let mut give = |frame: Frame| {
        let beyond = frame.arrived > pace.live
            && *endless.get_or_insert_with(|| !matches!(uri, SourceUri::File(_)) && !running.has_end());
        if beyond { ControlFlow::Break(()) } else { each(frame) }
    };
    loop {
        let unready = never();
        let timer = clock.after(PATIENCE);
        select! {
            recv(running.samples()) -> sample => if let Ok(sample) = sample {
                for sample in reader.hold(sample, running.witness()) {
                    if let Some(frame) = reader.read(&sample, &id).map_err(unusable)? && give(frame).is_break() {
                        return Ok(reader.summary);
                    }
                }
            },
            recv(running.events()) -> event => match event {
                Ok(Event::Missing(what)) => known.missing.push(what),
                Ok(Event::Failed(report)) => {
                    known.content = running.content_type();
                    return Err(classify(uri, &report, &known));
                }
                Ok(Event::Ended) => {
                    // The sink reports its end once it has handed on its last sample, which may
                    // still be waiting.
                    while let Ok(sample) = running.samples().try_recv() {
                        for sample in reader.hold(sample, running.witness()) {
                            let frame = reader.read(&sample, &id).map_err(unusable)?;
                            if frame.is_some_and(|frame| give(frame).is_break()) {
                                return Ok(reader.summary);
                            }
                        }
                    }
                    return Ok(reader.end(uri, running.witness()));
                }
                Err(_) => {}
            },
            recv(starting.as_ref().unwrap_or(&unready)) -> start => {
                starting = None;
                if !matches!(start, Ok(Start::Live | Start::Paced)) {
                    refused = Some(clock.after(super::REASON));
                }
            },
            recv(refused.as_ref().unwrap_or(&never())) -> _ => {
                return Err(SourceError::Retry(format!("{uri}: the pipeline does not start")));
            },
            recv(timer) -> _ => {
                return Err(SourceError::Retry(format!("{uri}: no frame for {} s", PATIENCE.as_secs())));
            },
        }
    }
}

/// When frames came, for streams that carry no times, as Motion JPEG over HTTP does.
struct Arrivals {
    clock: SharedClock,
    first: Option<Moment>,
}

impl Arrivals {
    /// Time since the first frame.
    fn next(&mut self) -> Duration {
        let now = self.clock.now();
        now.saturating_sub(*self.first.get_or_insert(now))
    }
}

struct Reader {
    frames: FrameMaker,
    /// Of what comes over a network.
    arrivals: Option<Arrivals>,
    /// Where the first frame stood in its stream. A stream from a network may have been running for
    /// hours: for us it begins here.
    begin: Option<Duration>,
    /// Seconds between two frames that are due.
    period: f64,
    /// Number of the next one on the grid of periods.
    due: u64,
    held: Held,
    /// The last frame's position.
    last: Option<Duration>,
    summary: VideoSummary,
}

/// The first JPEG image of a stream that begins with one, until it is known what follows.
enum Held {
    Nothing,
    First(::gstreamer::Sample),
    /// It was handed on: the stream is a video.
    Video,
}

impl Reader {
    /// The samples to read, now that this one has come.
    fn hold(&mut self, sample: ::gstreamer::Sample, witness: &Witness) -> Vec<::gstreamer::Sample> {
        let jpeg = || sample.caps().and_then(|c| Some(c.structure(0)?.name() == "image/jpeg")) == Some(true);
        match std::mem::replace(&mut self.held, Held::Video) {
            Held::Nothing if witness.begins_as_picture() && jpeg() => {
                self.held = Held::First(sample);
                Vec::new()
            }
            Held::First(first) if bytes(&first).is_some_and(|b| jpeg::has_more(&b)) => {
                self.held = Held::First(first);
                Vec::new()
            }
            Held::First(first) => vec![first, sample],
            Held::Nothing | Held::Video => vec![sample],
        }
    }

    /// What it turned out to be, once it has ended.
    fn end(self, uri: &SourceUri, witness: &Witness) -> VideoSummary {
        let picture = match &self.held {
            Held::First(first) => bytes(first),
            _ => witness.picture(),
        };
        if picture.is_some() {
            return VideoSummary { picture, ..self.summary };
        }
        let still = self.summary.decoded == 1 && witness.begins_as_picture();
        let truncated = witness.truncated().or_else(|| cut::truncated(uri, self.last));
        VideoSummary { still, truncated, ..self.summary }
    }

    /// The frame, if one is due at its position.
    fn read(&mut self, sample: &::gstreamer::Sample, id: &Arc<str>) -> Result<Option<Frame>, String> {
        let number = self.summary.decoded;
        self.summary.decoded += 1;
        let arrived = self.arrivals.as_mut().map(Arrivals::next);
        let position = Running::stream_time(sample).or(arrived).unwrap_or_else(|| {
            let rate = self.frames.rate(sample).unwrap_or(25.0);
            Duration::from_secs_f64(number as f64 / rate)
        });
        self.last = Some(position);
        let position = position.saturating_sub(*self.begin.get_or_insert(position));
        // A microsecond of tolerance: positions are rounded.
        let seconds = position.as_secs_f64() + 1e-6;
        if seconds < self.due as f64 * self.period {
            return Ok(None);
        }
        self.due = (seconds / self.period) as u64 + 1;
        let captured = SystemTime::UNIX_EPOCH + position;
        match self.frames.frame(sample, captured) {
            Ok(captured) => {
                let frame = captured.into_frame(id.clone(), self.summary.taken, position);
                self.summary.taken += 1;
                Ok(Some(frame))
            }
            Err(Fault::Lost(_)) => {
                self.summary.lost += 1;
                Ok(None)
            }
            Err(Fault::Unusable(why)) => Err(why),
        }
    }
}

fn bytes(sample: &::gstreamer::Sample) -> Option<Vec<u8>> {
    Some(sample.buffer()?.map_readable().ok()?.to_vec())
}
