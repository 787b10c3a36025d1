//! Every frame of a video in order and as fast as they are taken, for tools.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{never, select};

use super::super::{Patience, SourceError};
use super::build::{Pace, build};
use super::fault::classify;
use super::frames::{Fault, FrameMaker};
use super::init;
use super::keyframes::Thinning;
use super::running::{Event, Running, Start};
use crate::clock::SharedClock;
use crate::config::SourceUri;
use crate::frame::Frame;

/// A video that gives nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was read of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VideoSummary {
    /// Frames decoded.
    pub decoded: u64,
    /// Frames handed over.
    pub taken: u64,
    /// Frames that were due, but damaged.
    pub lost: u64,
}

/// Hands the frames of a video file, stream or pipeline to `each`, in order and without dropping any that
/// is due: at most `per_second` for each second of the video. Ends with the video, or when `each` breaks.
///
/// Of these frames, `seq` counts from 0, `arrived` is the position in the video, and `captured` is that
/// position after the Unix epoch.
///
/// # Errors
/// As of [`super::GstSource`]; also when nothing comes for a minute.
pub fn read_video(
    uri: &SourceUri,
    per_second: f64,
    clock: &SharedClock,
    each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<VideoSummary, SourceError> {
    read(uri, per_second, None, clock, each)
}

/// As [`read_video`], but of the frames that a [`super::GstSource`] would look at: where key frames come as often
/// as frames are due, the others are not decoded.
///
/// # Errors
/// As [`read_video`].
pub fn watch_video(
    uri: &SourceUri,
    per_second: f64,
    clock: &SharedClock,
    each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<VideoSummary, SourceError> {
    let thinning = super::thinning(per_second, Patience::new(None), &uri.to_string());
    read(uri, per_second, thinning.as_ref(), clock, each)
}

fn read(
    uri: &SourceUri,
    per_second: f64,
    thinning: Option<&Thinning>,
    clock: &SharedClock,
    mut each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<VideoSummary, SourceError> {
    init()?;
    let running = Running::start(
        build(uri, Pace::Everything, thinning)?,
        Pace::Everything,
        uri.to_string(),
        clock.clone(),
    )?;
    let id: Arc<str> = uri.to_string().into();
    let mut reader = Reader {
        frames: FrameMaker::default(),
        period: 1.0 / per_second,
        due: 0,
        summary: VideoSummary::default(),
    };
    let mut starting = Some(running.started().clone());
    let mut missing = None;
    let mut refused = None;
    loop {
        let unready = never();
        let timer = clock.after(PATIENCE);
        select! {
            recv(running.samples()) -> sample => if let Ok(sample) = sample
                && let Some(frame) = reader.read(&sample, &id).map_err(|why| SourceError::Configuration(format!("{uri}: {why}")))?
                && each(frame).is_break() {
                    return Ok(reader.summary);
            },
            recv(running.events()) -> event => match event {
                Ok(Event::Missing(what)) => missing = Some(what),
                Ok(Event::Failed(report)) => return Err(classify(uri, &report, missing.as_deref())),
                Ok(Event::Ended) => {
                    // The sink says so when its last sample was handed on, which may still wait for us.
                    while let Ok(sample) = running.samples().try_recv() {
                        let frame = reader.read(&sample, &id).map_err(|why| SourceError::Configuration(format!("{uri}: {why}")))?;
                        if frame.is_some_and(|frame| each(frame).is_break()) {
                            break;
                        }
                    }
                    return Ok(reader.summary);
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

struct Reader {
    frames: FrameMaker,
    /// Seconds between two frames that are due.
    period: f64,
    /// Number of the next one on the grid of periods.
    due: u64,
    summary: VideoSummary,
}

impl Reader {
    /// The frame, if one is due at its position.
    fn read(&mut self, sample: &::gstreamer::Sample, id: &Arc<str>) -> Result<Option<Frame>, String> {
        let number = self.summary.decoded;
        self.summary.decoded += 1;
        let position = Running::stream_time(sample).unwrap_or_else(|| {
            let rate = self.frames.rate(sample).unwrap_or(25.0);
            Duration::from_secs_f64(number as f64 / rate)
        });
        // A microsecond of grace: positions are rounded.
        let seconds = position.as_secs_f64() + 1e-6;
        if seconds < self.due as f64 * self.period {
            return Ok(None);
        }
        self.due = (seconds / self.period) as u64 + 1;
        let captured = SystemTime::UNIX_EPOCH + position;
        match self.frames.frame(sample, id.clone(), captured, position) {
            Ok(mut frame) => {
                frame.seq = self.summary.taken;
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
