//! Videos, addresses and pipeline texts, frame by frame; still pictures too, since nobody knows before what an
//! address or a pipe gives.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::input::Input;
use crate::frame::{Frame, picture};
#[cfg(feature = "gstreamer")]
use crate::shown::Shown as _;
use crate::source::Truncated;

/// What an input was.
#[cfg_attr(not(feature = "gstreamer"), allow(dead_code, reason = "only GStreamer reads videos"))]
pub(super) enum Content {
    /// A video, all of whose frames were handed over, or as many as were wanted.
    Video(Option<Truncated>),
    /// A still picture, of which the one frame was handed over.
    Still,
    /// A picture, or several in one file, of which nothing was handed over.
    Picture(Vec<u8>),
}

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
) -> Result<Content, String> {
    let endless = !matches!(input.uri, crate::source::SourceUri::File(_));
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
    Ok(match summary.picture {
        Some(bytes) => Content::Picture(bytes),
        None if summary.still => Content::Still,
        None => Content::Video(summary.truncated),
    })
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
    let uri = crate::source::SourceUri::File(path.to_path_buf());
    let clock = crate::clock::SystemClock::shared();
    crate::source::gstreamer::watch_video(&uri, fps, &clock, each)
        .map(|summary| {
            if let Some(truncated) = summary.truncated {
                log::warn!("{}: {truncated}", path.shown());
            }
            summary.lost
        })
        .map_err(|e| e.to_string())
}

#[cfg(not(feature = "gstreamer"))]
pub(super) fn watch_file(_: &Path, _: f64, _: impl FnMut(Frame) -> ControlFlow<()>) -> Result<u64, String> {
    Err("this spotd was built without GStreamer, which reads videos".into())
}

#[cfg(not(feature = "gstreamer"))]
pub(super) fn read_video(
    input: &Input,
    _: f64,
    _: Duration,
    _: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<Content, String> {
    // A pipe can be read only once, so that nobody has looked yet.
    if let crate::source::SourceUri::File(path) = &input.uri {
        let bytes = picture::read(path).map_err(|e| e.to_string())?;
        if picture::is_picture(&bytes) {
            return Ok(Content::Picture(bytes));
        }
    }
    Err("it is no image, and this spotd was built without GStreamer, which reads videos".into())
}

/// As [`read_video`], of pictures too, every one of which is handed over.
///
/// # Errors
/// As of [`read_video`], and for a picture that is cut or damaged.
pub(super) fn read_frames(
    input: &Input,
    fps: f64,
    live: Duration,
    mut each: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<(), String> {
    match read_video(input, fps, live, &mut each)? {
        Content::Video(None) | Content::Still => {}
        Content::Video(Some(truncated)) => log::warn!("{}: {truncated}", input.shown),
        Content::Picture(bytes) => {
            for (shot, number) in picture::shots(&bytes).map_err(|e| e.to_string())?.zip(0..) {
                let shot = shot.map_err(|e| e.to_string())?;
                let captured = SystemTime::UNIX_EPOCH + shot.at;
                if each(Frame::from_rgb("picture".into(), number, captured, shot.at, shot.image)).is_break() {
                    break;
                }
            }
        }
    }
    Ok(())
}
