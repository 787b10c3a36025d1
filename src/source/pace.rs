//! How fast, and how much of a source, tools read.

use std::time::Duration;

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Frames taken per second of the source at most; greater than 0.
    pub fps: f64,
    /// How long a source without an end is read.
    pub live: Duration,
    /// Whether only those frames of a video are read that `run` would decode with `decode = "all"`: where key frames
    /// come as often as frames are due, the others are left out.
    pub as_run: bool,
}
