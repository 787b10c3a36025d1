//! Cameras under `/dev/video*`, straight from the kernel.
//!
//! Two kinds of devices are opened through GStreamer's `v4l2src` instead: those that deliver planes
//! in separate buffers, and HDMI receivers, whose format follows the signal (`relay.rs`).

mod answer;
mod device;
mod layout;
mod list;
mod relay;
mod sys;

use std::io;
use std::path::Path;
use std::time::Duration;

use self::answer::PixFormat;
use self::device::{Device, Flags, Fraction, Size, rate};
pub use self::list::{Camera, CameraFormat, CameraSize, list};
pub use self::sys::have_v4l2src_drain;

use self::layout::{KNOWN, Layout, Offer, choose, layout};
use self::sys::{Filled, Stream};
use super::silence::Silence;
use super::stamp::Stamper;
use super::{Ended, FrameSink, Patience, Source, SourceError};
use crate::clock::{SharedClock, Stop};
use crate::frame::{Captured, PixelFormat, jpeg};
use crate::shown::Shown as _;
use crate::source::V4lUri;

/// How often the stop signal is checked while the camera delivers nothing.
const GLANCE: Duration = Duration::from_millis(200);
/// Buffers requested from the driver: one being filled, one filled, two in reserve.
const BUFFERS: u32 = 4;
/// Why a device is opened through GStreamer.
const FOLLOWS_SIGNAL: &str = "it is a receiver that follows its signal";
const SEPARATE_PLANES: &str = "it delivers planes in separate buffers";
/// Most dropped frames that a single gap in the driver's count may stand for.
const MOST_DROPPED: u32 = 1000;

/// A camera.
pub struct V4lSource {
    uri: V4lUri,
    patience: Patience,
    clock: SharedClock,
}

impl V4lSource {
    /// The camera that `uri` names. Nothing is opened yet.
    pub fn new(uri: V4lUri, patience: Patience, clock: SharedClock) -> Self {
        Self { uri, patience, clock }
    }

    fn open(&self) -> Result<Opened, SourceError> {
        let shown = self.uri.device.shown();
        let device = Device::open(&self.uri.device).map_err(|e| self.failed("cannot be opened", &e))?;
        let identity = device.identity().map_err(|e| self.failed("does not say what it is", &e))?;
        if identity.can(Flags::VIDEO_CAPTURE) {
            if device.follows_signal() {
                return Ok(Opened::Relay(identity.card, FOLLOWS_SIGNAL));
            }
            if !identity.can(Flags::STREAMING) {
                let text = format!("{shown} ({}) cannot stream", identity.card);
                return Err(SourceError::Configuration(text));
            }
            return Ok(Opened::Camera(device));
        }
        if identity.can(Flags::VIDEO_CAPTURE_MPLANE) {
            return Ok(Opened::Relay(identity.card, SEPARATE_PLANES));
        }
        Err(SourceError::Configuration(format!(
            "{shown} ({}) does not capture video; cameras often have a second node that does (`spotd sources` lists them)",
            identity.card
        )))
    }

    /// Sets format, size and rate, as requested or the best available.
    fn set_up(&self, device: &Device) -> Result<(PixFormat, Layout, Option<f64>), SourceError> {
        let shown = self.uri.device.shown();
        let offers = offers(device).map_err(|e| self.failed("does not list its formats", &e))?;
        let choice = choose(&offers, self.uri.format, self.uri.size);
        // A driver that lists nothing suitable may still accept the request.
        let (fourcc, (width, height)) = match (choice, self.uri.format, self.uri.size) {
            (Some(offer), ..) => (offer.fourcc, (offer.width, offer.height)),
            (None, format, size) => {
                let now = device.format().map_err(|e| self.failed("does not tell its format", &e))?;
                (format.unwrap_or(now.fourcc), size.unwrap_or((now.width, now.height)))
            }
        };
        let pix = device
            .set_format(fourcc, width, height)
            .map_err(|e| self.failed("does not take a format", &e))?;
        let Some(layout) = layout(&pix) else {
            let listed: Vec<_> = offers.iter().map(|o| name(o.fourcc)).collect();
            return Err(SourceError::Configuration(format!(
                "{shown} delivers {}, which cannot be read; it offers {}, and one of {} is needed",
                name(pix.fourcc),
                if listed.is_empty() { "nothing else".into() } else { listed.join(", ") },
                KNOWN.map(name).join(", "),
            )));
        };
        if (pix.fourcc, pix.width, pix.height) != (fourcc, width, height) {
            log::warn!(
                "{shown} was asked for {} {width}x{height} and delivers {} {}x{}",
                name(fourcc),
                name(pix.fourcc),
                pix.width,
                pix.height
            );
        }
        // Some drivers start at a few frames a second unless told otherwise.
        let interval = match self.uri.fps {
            Some(fps) => Some(Fraction { numerator: 1, denominator: fps }),
            None => device.shortest_interval(pix.fourcc, pix.width, pix.height),
        };
        let set = interval.and_then(|interval| {
            device.set_interval(interval).inspect_err(|e| log::debug!("{shown} keeps its rate: {e}")).ok()
        });
        let rate = set.filter(|i| i.numerator > 0).map(rate);
        log::info!(
            "{shown}: {} {}x{}, {} frames/s",
            name(pix.fourcc),
            pix.width,
            pix.height,
            rate.map_or_else(|| "unknown".to_owned(), |r| format!("{r:.3}"))
        );
        Ok((pix, layout, rate))
    }

    fn failed(&self, what: &str, error: &io::Error) -> SourceError {
        let (lasting, text) = trouble(&self.uri.device, what, error);
        if lasting { SourceError::Configuration(text) } else { SourceError::Retry(text) }
    }
}

/// What is wrong with a device, with the way out, and whether only somebody can fix it.
fn trouble(device: &Path, what: &str, error: &io::Error) -> (bool, String) {
    let (lasting, way_out) = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => (false, "; is the camera plugged in?"),
        Some(libc::EBUSY) => (false, "; another program uses it"),
        Some(libc::EACCES | libc::EPERM) => (true, "; add the user to the group `video`"),
        Some(libc::ENOTTY) => (true, "; it is not a camera"),
        _ => (false, ""),
    };
    (lasting, format!("{} {what}: {error}{way_out}", device.shown()))
}

/// What a node turned out to be.
enum Opened {
    /// A camera to capture from directly.
    Camera(Device),
    /// A device to open through GStreamer: its name, and why.
    Relay(String, &'static str),
}

fn name(fourcc: [u8; 4]) -> String {
    String::from_utf8_lossy(&fourcc).trim_end().to_owned()
}

/// Everything that the camera offers in formats that a frame can hold.
fn offers(device: &Device) -> io::Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for (fourcc, _) in device.formats()? {
        if !KNOWN.contains(&fourcc) {
            continue;
        }
        for size in device.sizes(fourcc)? {
            let (width, height) = match size {
                Size::Discrete(width, height) => (width, height),
                Size::Stepwise(width, height) => (largest(width, 1920), largest(height, 1080)),
            };
            let interval = device.shortest_interval(fourcc, width, height);
            let rate = interval.map(rate);
            offers.push(Offer { fourcc, width, height, rate });
        }
    }
    Ok(offers)
}

/// The greatest value of a stepped range (least, greatest, step) up to `most`.
fn largest([least, greatest, step]: [u32; 3], most: u32) -> u32 {
    let most = most.clamp(least, greatest.max(least));
    most - (most - least) % step.max(1)
}

impl Source for V4lSource {
    fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError> {
        let device = match self.open()? {
            Opened::Camera(device) => device,
            Opened::Relay(name, why) => {
                let why = format!("{name}: {why}");
                return relay::run_once(&self.uri, &why, self.patience, &self.clock, sink, stop);
            }
        };
        let (pix, layout, rate) = self.set_up(&device)?;
        let stream = device.start(BUFFERS).map_err(|e| self.failed("does not start", &e))?;
        let mut framer =
            Framer { pix, layout, sink, clock: &self.clock, stamper: Stamper::default(), sequence: None };

        let shown = self.uri.device.shown();
        let mut silence = Silence::new(self.patience, self.clock.now());
        while !stop.is_set() {
            let Some(filled) = stream.dequeue(GLANCE).map_err(|e| self.failed("stopped delivering", &e))?
            else {
                silence.check(&shown, sink, self.clock.now())?;
                continue;
            };
            silence.broken(rate, self.clock.now());
            framer.take(&stream, &filled);
            stream.queue(filled.index).map_err(|e| self.failed("does not take its buffer back", &e))?;
        }
        Ok(Ended::Stopped)
    }

    fn describe(&self) -> String {
        format!("V4L2 {}", self.uri.device.shown())
    }
}

/// Turns the buffers of one run into frames.
struct Framer<'a> {
    pix: PixFormat,
    layout: Layout,
    sink: &'a dyn FrameSink,
    clock: &'a SharedClock,
    stamper: Stamper,
    /// The driver's sequence number of the last buffer.
    sequence: Option<u32>,
}

impl Framer<'_> {
    fn take(&mut self, stream: &Stream, filled: &Filled) {
        for _ in 0..dropped(self.sequence.replace(filled.sequence), filled.sequence) {
            self.sink.lost("driver");
        }
        let stamp = (!filled.timestamp.is_zero()).then_some(filled.timestamp);
        let captured = self.stamper.stamp(stamp, &**self.clock);
        if filled.damaged {
            self.sink.lost("corrupt");
            return;
        }
        if !self.sink.wants_frame() {
            return;
        }
        let picture = match picture(&self.layout, (self.pix.width, self.layout.lines), stream.bytes(filled)) {
            Ok(picture) => picture,
            Err(reason) => return self.sink.lost(reason),
        };
        let BufferContents { size: (width, height), bytes } = picture;
        self.sink.offer(Captured {
            at: captured,
            format: self.layout.format,
            width,
            height,
            planes: self.layout.planes,
            colour: self.layout.colour,
            interlacing: self.layout.interlacing,
            // The driver wants its buffer back; only wanted frames are copied.
            data: Box::new(bytes.to_vec()),
        });
    }
}

#[derive(Debug, PartialEq, Eq)]
struct BufferContents<'a> {
    size: (u32, u32),
    bytes: &'a [u8],
}

/// The picture in a buffer, or why there is none.
fn picture<'a>(
    layout: &Layout,
    size: (u32, u32),
    bytes: &'a [u8],
) -> Result<BufferContents<'a>, &'static str> {
    if layout.format == PixelFormat::Mjpg {
        // Drivers may hand over the whole buffer; the picture ends at its own marker.
        let bytes = jpeg::extract(bytes).map_err(|_| "corrupt-jpeg")?;
        let size = jpeg::size(bytes).map_err(|_| "corrupt-jpeg")?;
        return Ok(BufferContents { size, bytes });
    }
    match bytes.get(..layout.bytes) {
        Some(bytes) => Ok(BufferContents { size, bytes }),
        None => Err("short"),
    }
}

/// Frames that the driver dropped between two sequence numbers.
fn dropped(last: Option<u32>, now: u32) -> u32 {
    let gap = last.map_or(0, |last| now.wrapping_sub(last).saturating_sub(1));
    // A counter that restarts is not a gap.
    if gap > MOST_DROPPED { 0 } else { gap }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;

    fn source(device: &str) -> V4lSource {
        let uri = V4lUri { device: device.into(), format: None, size: None, fps: None };
        V4lSource::new(uri, Patience::new(None), SystemClock::shared())
    }

    struct Nowhere;

    impl FrameSink for Nowhere {
        fn source(&self) -> Arc<str> {
            "cam".into()
        }
        fn wants_frame(&self) -> bool {
            true
        }
        fn offer(&self, _: Captured) {}
        fn lost(&self, _: &'static str) {}
    }

    #[test]
    fn a_camera_that_is_away_is_waited_for_and_what_is_none_is_told() {
        match source("/dev/video-none").run_once(&Nowhere, &Stop::never()) {
            Err(SourceError::Retry(why)) => {
                assert!(why.contains("/dev/video-none") && why.contains("plugged"), "{why}")
            }
            other => panic!("{other:?}"),
        }
        match source("/dev/null").run_once(&Nowhere, &Stop::never()) {
            Err(SourceError::Configuration(why)) => assert!(why.contains("not a camera"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_buffer_gives_its_picture_or_the_reason() {
        let pix = PixFormat { width: 4, height: 2, fourcc: *b"YUYV", ..PixFormat::default() };
        let yuyv = layout(&pix).expect("known");
        let buffer = [1u8; 40];
        assert_eq!(picture(&yuyv, (4, 2), &buffer).expect("whole").bytes.len(), 16);
        assert_eq!(picture(&yuyv, (4, 2), &buffer[..15]), Err("short"));

        let mjpg = layout(&PixFormat { fourcc: *b"MJPG", ..pix }).expect("known");
        let mut file = Vec::new();
        let pixels = image::RgbImage::from_fn(16, 8, |x, y| image::Rgb([x as u8 * 9, y as u8 * 30, 90]));
        pixels.write_with_encoder(image::codecs::jpeg::JpegEncoder::new(&mut file)).expect("encodes");
        let mut padded = file.clone();
        padded.resize(file.len() + 1000, 0);
        let found = picture(&mjpg, (4, 2), &padded).expect("whole");
        assert_eq!((found.size, found.bytes), ((16, 8), &file[..]));
        assert_eq!(picture(&mjpg, (4, 2), &file[..file.len() - 2]), Err("corrupt-jpeg"));
    }

    #[test]
    fn gaps_in_the_drivers_count_are_counted() {
        assert_eq!(dropped(None, 7), 0);
        assert_eq!(dropped(Some(7), 8), 0);
        assert_eq!(dropped(Some(7), 11), 3);
        assert_eq!(dropped(Some(u32::MAX), 1), 1);
        assert_eq!(dropped(Some(7), 7), 0);
        assert_eq!(dropped(Some(9), 0), 0);
    }

    #[test]
    fn stepped_ranges_end_within_what_is_wanted() {
        assert_eq!(largest([2, 8192, 2], 1920), 1920);
        assert_eq!(largest([16, 1000, 16], 1920), 1000 - (1000 - 16) % 16);
        assert_eq!(largest([2000, 4000, 0], 1920), 2000);
    }
}
