//! Reads the commands' inputs frame by frame, and logs what is lost or missing.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::input::Input;
use spotd::clock::SystemClock;
use spotd::frame::Frame;
use spotd::shown::Shown as _;
use spotd::source::read::{Summary, frames, read};
use spotd::source::{Pace, SourceError, SourceUri};

/// Hands over the frames of a video, address, pipeline text or camera; nothing for a picture, see
/// [`spotd::source::read::Content`].
///
/// # Errors
/// As for [`read`].
pub(super) fn read_video(
    input: &Input,
    pace: Pace,
    each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<Summary, SourceError> {
    let summary = read(&input.uri, pace, &SystemClock::shared(), each)?;
    tell_lost(input, &summary);
    Ok(summary)
}

/// As [`read_video`], but pictures are handed over too.
///
/// # Errors
/// As for [`read_video`]; also for a picture that is truncated or damaged.
pub(super) fn read_frames(
    input: &Input,
    pace: Pace,
    each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<(), SourceError> {
    let summary = frames(&input.uri, pace, &SystemClock::shared(), each)?;
    tell_lost(input, &summary);
    if let Some(truncated) = summary.truncated {
        log::warn!("{}: {truncated}", input.shown);
    }
    Ok(())
}

/// Hands over the frames of a video file that `run` would judge at `fps` frames a second; `arrived`
/// is the position. Returns how many of them were damaged and left out.
///
/// # Errors
/// As for [`read`].
pub(super) fn watch_file(
    path: &Path,
    fps: f64,
    each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<u64, SourceError> {
    let pace = Pace { fps, live: Duration::MAX, as_run: true };
    let summary = read(&SourceUri::File(path.to_path_buf()), pace, &SystemClock::shared(), each)?;
    if let Some(truncated) = summary.truncated {
        log::warn!("{}: {truncated}", path.shown());
    }
    Ok(summary.lost)
}

fn tell_lost(input: &Input, summary: &Summary) {
    if summary.lost > 0 {
        log::warn!("{}: {} damaged frames were skipped", input.shown, summary.lost);
    }
}
