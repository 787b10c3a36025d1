//! A clip made as long as it is to be played, for measurements that take longer than the clip.

use std::path::Path;
use std::time::Duration;

use super::SourceError;
use crate::clock::SharedClock;

/// What is in a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// `H.264`, `H.265`, ...
    pub codec: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a second, in the mean.
    pub fps: f64,
    /// How long what was taken of it lasts.
    pub lasts: Duration,
    /// From one key frame to the next, in the mean.
    pub key_frames_every: Duration,
    /// Bits a second, in the mean.
    pub bit_rate: f64,
}

/// Writes the video of the file `clip` to `to` (Matroska), as it is encoded, again and again until it lasts for `lasts`
/// or longer. Of a longer clip only the beginning is taken; of everything, at most 256 MiB are written.
///
/// # Errors
/// [`SourceError`] names the file and what is wrong with it: it is not there, no video, a single picture, in a format
/// other than H.264, H.265, VP8, VP9, AV1 or Motion JPEG, or without times; or the copy cannot be written.
#[cfg(feature = "gstreamer")]
pub fn prolong(clip: &Path, to: &Path, lasts: Duration, clock: &SharedClock) -> Result<Clip, SourceError> {
    super::gstreamer::prolong(clip, to, lasts, clock)
}

/// Always an error, because this build was made without GStreamer.
#[cfg(not(feature = "gstreamer"))]
pub fn prolong(_: &Path, _: &Path, _: Duration, _: &SharedClock) -> Result<Clip, SourceError> {
    Err(SourceError::Configuration(
        "clips are read through GStreamer, which this build was made without; build with --features gstreamer".into(),
    ))
}
