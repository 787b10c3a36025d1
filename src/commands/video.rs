//! Videos, addresses and pipeline texts, frame by frame.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::input::Input;
use crate::frame::Frame;

/// Hands over the frames of a video file, an address (for `live` at most) or a pipeline text, at most `fps`
/// for each of its seconds; `arrived` is the position.
///
/// # Errors
/// What is wrong, in a sentence.
#[cfg(feature = "gstreamer")]
pub(super) fn read_video(
    input: &Input,
    fps: f64,
    live: Duration,
    mut each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<(), String> {
    let endless = !matches!(input.uri, crate::config::SourceUri::File(_));
    let limit = endless.then_some(live);
    let clock = crate::clock::SystemClock::shared();
    let summary = crate::source::gstreamer::read_video(&input.uri, fps, &clock, |frame| {
        if limit.is_some_and(|limit| frame.arrived > limit) {
            return ControlFlow::Break(());
        }
        each(frame)
    })
    .map_err(|e| e.to_string())?;
    if summary.lost > 0 {
        log::warn!("{}: {} damaged frames were passed over", input.shown, summary.lost);
    }
    Ok(())
}

/// Hands over the frames of a video file that `run` would judge at `fps` frames a second; `arrived` is the position.
/// Gives how many of them were damaged and left out.
///
/// # Errors
/// What is wrong, in a sentence.
#[cfg(feature = "gstreamer")]
pub(super) fn watch_file(
    path: &Path,
    fps: f64,
    each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<u64, String> {
    let uri = crate::config::SourceUri::File(path.to_path_buf());
    let clock = crate::clock::SystemClock::shared();
    crate::source::gstreamer::watch_video(&uri, fps, &clock, each)
        .map(|summary| summary.lost)
        .map_err(|e| e.to_string())
}

#[cfg(not(feature = "gstreamer"))]
pub(super) fn watch_file(_: &Path, _: f64, _: impl FnMut(Frame) -> ControlFlow<()>) -> Result<u64, String> {
    Err("this spotd was built without GStreamer, which reads videos".into())
}

#[cfg(not(feature = "gstreamer"))]
pub(super) fn read_video(
    _: &Input,
    _: f64,
    _: Duration,
    _: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<(), String> {
    Err("it is no image, and this spotd was built without GStreamer, which reads videos".into())
}
