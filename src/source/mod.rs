//! Where frames come from. A source only knows how to run once; [`supervise`] owns every retry.

pub mod latest;

use std::sync::Arc;

use thiserror::Error;

use crate::clock::Stop;
use crate::frame::Frame;

/// How a source's run came to its end without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The stop signal was given.
    Stopped,
    /// The stream is over, as a file is at its end.
    EndOfStream,
}

/// Why a source's run failed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// May go away by itself: unplugged, refused, timed out, stalled. It is tried again.
    #[error("{0}")]
    Retry(String),
    /// Will not go away until somebody changes something: no such element, an unusable pipeline text.
    /// It is tried again too, but slowly.
    #[error("{0}")]
    Configuration(String),
}

/// Something that delivers frames.
pub trait Source: Send {
    /// Opens, delivers frames into `sink` until the stream ends, fails or `stop` is given, and closes
    /// everything again, so that the next call starts from nothing.
    ///
    /// # Errors
    /// [`SourceError`] says whether trying again can help; its text names what failed and the way out,
    /// and never holds a password.
    fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError>;

    /// What is opened, for people, without credentials: `RTSP rtsp://cam.lan/stream`, `V4L2 /dev/video0`.
    fn describe(&self) -> String;
}

/// Where a source puts its frames.
pub trait FrameSink: Send + Sync {
    /// The source's configured id, for [`Frame::source`].
    fn source(&self) -> Arc<str>;

    /// Whether a frame is due now by the configured rate. A source asks before it converts or copies
    /// anything; one that is not wanted is dropped and counted here.
    fn wants_frame(&self) -> bool;

    /// Hands over a frame without ever waiting; `seq` and `arrived` are filled in here. An older frame
    /// that nobody has taken yet is overwritten and counted.
    fn offer(&self, frame: Frame);

    /// Counts a frame that came damaged or not at all, by a short reason such as `corrupt-jpeg`.
    fn lost(&self, reason: &'static str);
}
