//! Opens a source, takes one frame and closes it again, for `spotd check`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::{Ended, FrameSink, SourceError, open};
use crate::clock::{SharedClock, stop_signal};
use crate::frame::{Captured, Frame, FrameError, PixelFormat};
use crate::source::SourceConfig;

/// What one frame reveals about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What was opened, without credentials.
    pub what: String,
    /// Layout of the pixels as they come.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Opens a source, waits up to `timeout` for a frame that can be decoded, and closes it.
///
/// # Errors
/// The source's own error; [`SourceError::Retry`] when nothing came in time.
pub fn probe(config: &SourceConfig, timeout: Duration, clock: &SharedClock) -> Result<Probe, SourceError> {
    let mut source = open(config, clock)?;
    let what = source.describe();
    let (tx, frames) = bounded(1);
    let sink = First { id: config.id.clone(), tx };
    let (handle, stop) = stop_signal();
    let (done_tx, done) = bounded(1);
    let runner = thread::Builder::new()
        .name(format!("probe {}", config.id))
        .spawn(move || {
            let _ = done_tx.send(source.run_once(&sink, &stop));
        })
        .map_err(|e| SourceError::Retry(format!("cannot start a thread: {e}")))?;

    let timer = clock.after(timeout);
    let result = loop {
        select! {
            recv(frames) -> frame => match frame.map(|frame| examine(&what, frame)) {
                // A camera's first picture is often truncated: the next one counts.
                Ok(Err(_)) => {}
                Ok(Ok(probe)) => break Ok(probe),
                // The run is over, and `done` says how.
                Err(_) => break ended(&what, &done),
            },
            recv(timer) -> _ => break Err(SourceError::Retry(format!(
                "{what} is open but gave no frame that can be read within {} s", timeout.as_secs_f64()
            ))),
        }
    };
    handle.stop();
    // A source answers to the stop signal within a bounded time, whatever its camera does.
    let _ = runner.join();
    result
}

fn ended(what: &str, done: &Receiver<Result<Ended, SourceError>>) -> Result<Probe, SourceError> {
    match done.recv() {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) => Err(SourceError::Retry(format!("{what} ended without a frame that can be read"))),
        Err(_) => Err(SourceError::Retry(format!("{what}: internal error, see the log"))),
    }
}

fn examine(what: &str, frame: Frame) -> Result<Probe, FrameError> {
    let format = frame.format;
    let frame = frame.decoded()?;
    frame.to_rgb()?;
    Ok(Probe { what: what.to_owned(), format, width: frame.width, height: frame.height })
}

/// Accepts frames while there is room.
struct First {
    id: Arc<str>,
    tx: Sender<Frame>,
}

impl FrameSink for First {
    fn source(&self) -> Arc<str> {
        self.id.clone()
    }

    fn wants_frame(&self) -> bool {
        !self.tx.is_full()
    }

    fn offer(&self, captured: Captured) {
        let _ = self.tx.try_send(captured.into_frame(self.id.clone(), 0, Duration::ZERO));
    }

    fn lost(&self, _: &'static str) {}
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::clock::SystemClock;
    use crate::source::SourceUri;

    fn config(path: std::path::PathBuf) -> SourceConfig {
        SourceConfig {
            id: "x".into(),
            uri: SourceUri::File(path),
            fps: 100.0,
            decode: crate::source::Decode::default(),
            stall_timeout: None,
            repeat: false,
        }
    }

    #[test]
    fn an_image_is_found_and_a_missing_one_named() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("a.png");
        RgbImage::new(7, 5).save(&path).expect("saved");
        let clock = SystemClock::shared();
        let found = probe(&config(path), Duration::from_secs(60), &clock).expect("found");
        assert_eq!((found.format, found.width, found.height), (PixelFormat::Rgb24, 7, 5));

        let error =
            probe(&config(dir.path().join("b.png")), Duration::from_secs(60), &clock).expect_err("missing");
        assert!(matches!(error, SourceError::Configuration(ref why) if why.contains("b.png")), "{error}");
    }
}
