//! Where frames come from. A source only knows how to run once; [`supervise`] owns every retry.

pub mod clip;
mod codec;
#[cfg(feature = "gstreamer")]
mod cut;
pub mod demo;
pub mod files;
#[cfg(feature = "gstreamer")]
pub mod gstreamer;
pub mod latest;
mod pace;
pub mod probe;
pub mod read;
pub mod recode;
mod settings;
#[cfg(any(feature = "gstreamer", feature = "v4l"))]
mod silence;
pub mod stamp;
pub mod supervise;
pub mod timeline;
#[cfg(feature = "v4l")]
pub mod v4l;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use pace::Pace;
pub(crate) use settings::RawSource;
pub use settings::{Decode, SourceConfig};
pub use spotd_address::{Contribution, SourceUri, StreamUrl, V4lUri};

use crate::clock::{SharedClock, Stop};
use crate::control::CloserLook;
use crate::frame::Captured;

/// How a source's run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The stop signal was given.
    Stopped,
    /// The stream is over, as at the end of a file.
    EndOfStream,
    /// It was a still picture, which has been shown.
    Picture,
}

/// A video that ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Truncated {
    /// Seconds that there are.
    pub seconds: f64,
    /// Seconds that there should be, where its header states them.
    pub of: Option<f64>,
}

impl std::fmt::Display for Truncated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.seconds;
        match self.of {
            Some(of) => write!(f, "truncated: {seconds:.1} s of {of:.1} s"),
            None => write!(f, "truncated after {seconds:.1} s"),
        }
    }
}

/// Why a source's run failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// May go away by itself: unplugged, refused, timed out, stalled. It is retried.
    #[error("{0}")]
    Retry(String),
    /// Will not go away until somebody changes something: no such element, an unusable pipeline
    /// text. It is retried too, but slowly.
    #[error("{0}")]
    Configuration(String),
}

/// Something that delivers frames.
pub trait Source: Send {
    /// Opens, delivers frames into `sink` until the stream ends, fails or `stop` is given, and
    /// closes everything again, so that the next call starts from scratch.
    ///
    /// # Errors
    /// [`SourceError`] says whether a retry can help; its text names what failed and the way out,
    /// and never contains a password.
    fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError>;

    /// What it opens, for people, without credentials: `RTSP rtsp://cam.lan/stream`,
    /// `V4L2 /dev/video0`.
    fn describe(&self) -> String;
}

/// Where a source puts its frames.
pub trait FrameSink: Send + Sync {
    /// The source's configured id, for messages.
    fn source(&self) -> Arc<str>;

    /// Whether a frame is due now at the configured rate. A source asks before it converts or
    /// copies anything; a frame that is not wanted is dropped and counted here.
    fn wants_frame(&self) -> bool;

    /// Hands over what was captured without ever blocking; id, number and time of arrival are added
    /// here. An older frame that nobody has taken yet is overwritten and counted.
    fn offer(&self, captured: Captured);

    /// Counts a frame that arrived damaged or not at all, by a short reason such as `corrupt-jpeg`.
    fn lost(&self, reason: &'static str);

    /// Whether frames between key frames are wanted for a while, although key frames alone would do: shared, so that it
    /// can be asked where the stream's frames pass. `None` where nobody ever wants that.
    fn closer_look(&self) -> Option<Arc<CloserLook>> {
        None
    }

    /// Reports that no frame has come for longer than the source's rate allows, although it is
    /// open.
    fn stalled(&self) {}
}

/// How long a source may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From opening to the first frame.
    pub first: Duration,
    /// From one frame to the next, when the configuration says so; otherwise from the source's
    /// rate.
    pub next: Option<Duration>,
}

impl Patience {
    /// Connecting, and waiting for a first key frame, takes longer than one frame takes.
    const FIRST: Duration = Duration::from_secs(20);
    /// Least and greatest patience derived from a rate.
    const FROM_RATE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(120));

    /// As configured; `None` derives it from the source's rate.
    pub fn new(configured: Option<Duration>) -> Self {
        Self { first: configured.map_or(Self::FIRST, |c| c.max(Self::FIRST)), next: configured }
    }

    /// Longest silence between two frames of a source that delivers `rate` frames a second (`None`:
    /// not known): 20 frames, but at least 10 s and at most 120 s.
    pub fn between(&self, rate: Option<f64>) -> Duration {
        let (least, most) = Self::FROM_RATE;
        self.next.unwrap_or_else(|| match rate {
            Some(rate) if rate > 0.0 => {
                Duration::from_secs_f64((20.0 / rate).clamp(least.as_secs_f64(), most.as_secs_f64()))
            }
            _ => least,
        })
    }
}

/// The source that a configuration describes, not opened yet.
///
/// # Errors
/// [`SourceError::Configuration`] for a kind of source that this build does not support.
pub fn open(config: &SourceConfig, clock: &SharedClock) -> Result<Box<dyn Source>, SourceError> {
    match &config.uri {
        SourceUri::Demo { seed } => Ok(Box::new(demo::DemoSource::new(*seed, clock.clone()))),
        SourceUri::V4l(uri) => open_v4l(uri, config, clock),
        SourceUri::File(path) if files::shows(path) => {
            Ok(Box::new(files::FilesSource::new(path.clone(), config.fps, clock.clone())))
        }
        SourceUri::File(_) | SourceUri::Stream(_) | SourceUri::Contribution(_) | SourceUri::Pipeline(_) => {
            open_gstreamer(config, clock)
        }
    }
}

#[cfg(feature = "v4l")]
fn open_v4l(
    uri: &crate::source::V4lUri,
    config: &SourceConfig,
    clock: &SharedClock,
) -> Result<Box<dyn Source>, SourceError> {
    Ok(Box::new(v4l::V4lSource::new(uri.clone(), Patience::new(config.stall_timeout), clock.clone())))
}

#[cfg(not(feature = "v4l"))]
fn open_v4l(
    _: &crate::source::V4lUri,
    config: &SourceConfig,
    _: &SharedClock,
) -> Result<Box<dyn Source>, SourceError> {
    Err(missing(&config.uri, "v4l"))
}

#[cfg(feature = "gstreamer")]
fn open_gstreamer(config: &SourceConfig, clock: &SharedClock) -> Result<Box<dyn Source>, SourceError> {
    let patience = Patience::new(config.stall_timeout);
    let wanted = Some((config.fps, config.decode));
    Ok(Box::new(gstreamer::GstSource::new(&config.uri, wanted, patience, clock.clone())?))
}

#[cfg(not(feature = "gstreamer"))]
fn open_gstreamer(config: &SourceConfig, _: &SharedClock) -> Result<Box<dyn Source>, SourceError> {
    Err(missing(&config.uri, "gstreamer"))
}

#[cfg(not(all(feature = "gstreamer", feature = "v4l")))]
fn missing(uri: &SourceUri, feature: &str) -> SourceError {
    SourceError::Configuration(format!(
        "{uri} needs the feature `{feature}`, which this build was made without; build with --features {feature}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_rate_within_bounds() {
        let own = Patience::new(None);
        assert_eq!(own.between(None), Duration::from_secs(10));
        assert_eq!(own.between(Some(30.0)), Duration::from_secs(10));
        assert_eq!(own.between(Some(1.0)), Duration::from_secs(20));
        assert_eq!(own.between(Some(0.001)), Duration::from_secs(120));
        let told = Patience::new(Some(Duration::from_secs(3)));
        assert_eq!((told.first, told.between(Some(0.1))), (Duration::from_secs(20), Duration::from_secs(3)));
    }
}
