//! Reads whatever an address names, frame by frame and in order, for tools. What has no end of its
//! own is read for a limited time.

use std::ops::ControlFlow;
use std::time::SystemTime;

use crossbeam_channel::{bounded, select};

use super::latest::LatestSink;
use super::{Decode, Pace, SourceConfig, SourceError, SourceUri, Truncated, open};
use crate::clock::{SharedClock, stop_signal};
use crate::frame::{Frame, picture};
use crate::health::Board;

/// What a source turned out to be; what a pipe or an address delivers is not known beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A video or a camera; its frames were handed over, or as many as were wanted.
    Video,
    /// A still picture, handed over as one frame.
    Still,
    /// The bytes of one or several pictures in a file, of which nothing was handed over:
    /// [`picture::shots`] decodes them.
    Picture(Vec<u8>),
}

/// What was read of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// What it was.
    pub content: Content,
    /// Frames that were due, but damaged.
    pub lost: u64,
    /// What is missing at its end.
    pub truncated: Option<Truncated>,
}

/// Hands over the frames of a video, stream, pipeline, camera or demonstration, until it ends or
/// `each` breaks. `seq` counts them from 0, `arrived` is the position in the video, or the time
/// since the first frame, and `captured` is the same after the Unix epoch.
///
/// # Errors
/// As for [`super::Source::run_once`]; also when nothing comes for a minute.
pub fn read(
    uri: &SourceUri,
    pace: Pace,
    clock: &SharedClock,
    mut each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<Summary, SourceError> {
    match uri {
        SourceUri::V4l(_) | SourceUri::Demo { .. } => capture(uri, pace, clock, &mut each),
        _ => video(uri, pace, clock, each),
    }
}

/// As [`read`], but pictures are decoded and handed over too.
///
/// # Errors
/// As for [`read`]; also for a picture that is truncated or damaged.
pub fn frames(
    uri: &SourceUri,
    pace: Pace,
    clock: &SharedClock,
    mut each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<Summary, SourceError> {
    let summary = read(uri, pace, clock, &mut each)?;
    if let Content::Picture(bytes) = &summary.content {
        let damaged = |e: picture::PictureError| SourceError::Configuration(e.to_string());
        for (shot, number) in picture::shots(bytes).map_err(damaged)?.zip(0..) {
            let shot = shot.map_err(damaged)?;
            let captured = SystemTime::UNIX_EPOCH + shot.at;
            if each(Frame::from_rgb("picture".into(), number, captured, shot.at, shot.image)).is_break() {
                break;
            }
        }
    }
    Ok(summary)
}

#[cfg(feature = "gstreamer")]
fn video(
    uri: &SourceUri,
    pace: Pace,
    clock: &SharedClock,
    each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<Summary, SourceError> {
    let found = super::gstreamer::read_at(uri, pace, clock, each)?;
    let content = match found.picture {
        Some(bytes) => Content::Picture(bytes),
        None if found.still => Content::Still,
        None => Content::Video,
    };
    Ok(Summary { content, lost: found.lost, truncated: found.truncated })
}

#[cfg(not(feature = "gstreamer"))]
fn video(
    uri: &SourceUri,
    _: Pace,
    _: &SharedClock,
    _: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<Summary, SourceError> {
    // A pipe can be read only once, so nobody has looked at it yet.
    if let SourceUri::File(path) = uri {
        let bytes = picture::read(path).map_err(|e| SourceError::Configuration(e.to_string()))?;
        if picture::is_picture(&bytes) {
            return Ok(Summary { content: Content::Picture(bytes), lost: 0, truncated: None });
        }
    }
    let why = "it is not an image, and this spotd was built without GStreamer, which reads videos";
    Err(SourceError::Configuration(why.into()))
}

/// Reads a camera or the demonstration as the daemon does, for as long as frames are wanted: the
/// newest frame whenever one is due.
fn capture(
    uri: &SourceUri,
    pace: Pace,
    clock: &SharedClock,
    each: &mut dyn FnMut(Frame) -> ControlFlow<()>,
) -> Result<Summary, SourceError> {
    let config = SourceConfig {
        id: "camera".into(),
        uri: uri.clone(),
        fps: pace.fps,
        decode: Decode::All,
        stall_timeout: None,
        repeat: false,
    };
    let mut source = open(&config, clock)?;
    let board = Board::new([config.id.clone()]);
    let (sink, frames) = LatestSink::new(config.id, pace.fps, board.clone(), clock.clone(), || {});
    let (handle, stop) = stop_signal();
    let (done_tx, done) = bounded(1);
    let run = std::thread::Builder::new()
        .name("camera".into())
        .spawn(move || {
            let _ = done_tx.send(source.run_once(&sink, &stop));
        })
        .map_err(|e| SourceError::Retry(format!("cannot start a thread: {e}")))?;
    let timer = clock.after(pace.live);
    let (mut first, mut seq) = (None, 0);
    let mut give = |mut frame: Frame| {
        let arrived = frame.arrived.saturating_sub(*first.get_or_insert(frame.arrived));
        frame.at = SystemTime::UNIX_EPOCH + arrived;
        let frame = Frame { seq, arrived, ..frame };
        seq += 1;
        each(frame)
    };
    let ended = loop {
        select! {
            recv(frames) -> frame => match frame {
                Ok(frame) => if give(frame).is_break() {
                    break Ok(());
                },
                // The run is over, and says how.
                Err(_) => break done.recv().unwrap_or(Ok(super::Ended::Stopped)).map(drop),
            },
            recv(timer) -> _ => break Ok(()),
        }
    };
    handle.stop();
    // A source answers to the stop signal within a bounded time.
    let _ = run.join();
    let damaged = |reason: &str| reason.starts_with("corrupt") || reason == "short";
    let status = board.snapshot().pop();
    let lost =
        status.iter().flat_map(|(_, s)| &s.dropped).filter(|(why, _)| damaged(why)).map(|(_, n)| n).sum();
    ended.map(|()| Summary { content: Content::Video, lost, truncated: None })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn what_has_no_end_is_read_for_as_long_as_was_said_and_counted_from_its_first_frame() {
        let pace = Pace { fps: 100.0, live: Duration::from_secs(3600), as_run: false };
        let uri = SourceUri::Demo { seed: 1 };
        let mut seen = Vec::new();
        let summary = read(&uri, pace, &SystemClock::shared(), |frame| {
            seen.push((frame.seq, frame.arrived));
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("read");
        assert_eq!(summary, Summary { content: Content::Video, lost: 0, truncated: None });
        assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(seen[0].1.is_zero() && seen[1].1 < seen[2].1, "{seen:?}");

        let short = Pace { live: Duration::from_millis(1), ..pace };
        read(&uri, short, &SystemClock::shared(), |_| ControlFlow::Continue(())).expect("ends by itself");
    }
}
