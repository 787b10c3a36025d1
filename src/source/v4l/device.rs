//! A camera's node: what it is, what it offers, and how it is set.

use std::io;
use std::path::Path;

use ::v4l::format::FourCC;
use ::v4l::frameinterval::FrameIntervalEnum;
use ::v4l::framesize::FrameSizeEnum;
use ::v4l::video::Capture;
use ::v4l::video::capture::Parameters;

use super::answer::{Identity, PixFormat};
use super::sys::{self, Stream};

pub(super) use ::v4l::capability::Flags;
pub(super) use ::v4l::fraction::Fraction;

/// Sizes that a format comes in, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// Width and height.
    Discrete(u32, u32),
    /// Least, greatest and step of the width, then of the height.
    Stepwise([u32; 3], [u32; 3]),
}

/// An open node. A stream of it keeps it open.
pub(super) struct Device(::v4l::Device);

impl Device {
    /// Opens a node in non-blocking mode.
    ///
    /// # Errors
    /// As for open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        // The crate panics on a zero byte.
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has a zero byte"));
        }
        let device = ::v4l::Device::with_path(path)?;
        sys::close_on_exec(&device.handle())?;
        Ok(Self(device))
    }

    /// What it is and what it can do.
    ///
    /// # Errors
    /// `ENOTTY` when it is not a video device, otherwise the driver's error.
    pub fn identity(&self) -> io::Result<Identity> {
        sys::identity(&self.0.handle())
    }

    /// Whether it follows a signal's timings, as an HDMI receiver does.
    pub(crate) fn follows_signal(&self) -> bool {
        sys::follows_signal(&self.0.handle())
    }

    /// The formats it offers, each with a description. Empty where the driver does not list them.
    ///
    /// # Errors
    /// The driver's error.
    pub fn formats(&self) -> io::Result<Vec<([u8; 4], String)>> {
        Ok(self.0.enum_formats()?.into_iter().map(|f| (f.fourcc.repr, f.description)).collect())
    }

    /// The same for formats with planes in separate buffers.
    pub(crate) fn formats_in_planes(&self) -> Vec<([u8; 4], String)> {
        sys::formats_in_planes(&self.0.handle())
    }

    /// Sizes of a format. Empty where the driver does not list them.
    ///
    /// # Errors
    /// The driver's error.
    pub fn sizes(&self, fourcc: [u8; 4]) -> io::Result<Vec<Size>> {
        let sizes = or_none(self.0.enum_framesizes(FourCC { repr: fourcc }))?;
        Ok(sizes
            .into_iter()
            .map(|s| match s.size {
                FrameSizeEnum::Discrete(d) => Size::Discrete(d.width, d.height),
                FrameSizeEnum::Stepwise(s) => Size::Stepwise(
                    [s.min_width, s.max_width, s.step_width],
                    [s.min_height, s.max_height, s.step_height],
                ),
            })
            .collect())
    }

    /// Frame intervals of a format and size, in seconds; of a range, the shortest and the longest.
    /// Empty where the driver does not list them.
    pub fn intervals(&self, fourcc: [u8; 4], width: u32, height: u32) -> Vec<Fraction> {
        let listed = or_none(self.0.enum_frameintervals(FourCC { repr: fourcc }, width, height));
        let listed = listed.unwrap_or_default().into_iter().flat_map(|i| match i.interval {
            FrameIntervalEnum::Discrete(f) => vec![f],
            FrameIntervalEnum::Stepwise(s) => vec![s.min, s.max],
        });
        listed.filter(|i| i.numerator > 0 && i.denominator > 0).collect()
    }

    /// The shortest of [`Device::intervals`].
    pub(crate) fn shortest_interval(&self, fourcc: [u8; 4], width: u32, height: u32) -> Option<Fraction> {
        self.intervals(fourcc, width, height).into_iter().min_by(|a, b| {
            let cross = |x: &Fraction, y: &Fraction| u64::from(x.numerator) * u64::from(y.denominator);
            cross(a, b).cmp(&cross(b, a))
        })
    }

    /// The current format.
    ///
    /// # Errors
    /// The driver's error.
    pub fn format(&self) -> io::Result<PixFormat> {
        sys::format(&self.0.handle())
    }

    /// Requests a format and a size; returns what the driver chose, which may differ.
    ///
    /// # Errors
    /// The driver's error; `EBUSY` while another program captures.
    pub fn set_format(&self, fourcc: [u8; 4], width: u32, height: u32) -> io::Result<PixFormat> {
        sys::set_format(&self.0.handle(), fourcc, width, height)
    }

    /// Requests a frame interval; returns what the driver chose.
    ///
    /// # Errors
    /// The driver's error; many drivers do not let it be set.
    pub(crate) fn set_interval(&self, interval: Fraction) -> io::Result<Fraction> {
        Ok(self.0.set_params(&Parameters::new(interval))?.interval)
    }

    /// Starts capturing into `count` buffers.
    ///
    /// # Errors
    /// The driver's error; `EBUSY` while another program captures.
    pub fn start(&self, count: u32) -> io::Result<Stream> {
        Stream::start(self.0.handle(), count)
    }
}

/// An empty list where the driver says that it has none.
fn or_none<T>(listed: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match listed {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => Ok(Vec::new()),
        other => other,
    }
}

/// Frames a second of an interval.
pub(super) fn rate(interval: Fraction) -> f64 {
    f64::from(interval.denominator) / f64::from(interval.numerator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_camera_says_so() {
        let device = Device::open(Path::new("/dev/null")).expect("opens");
        let error = device.identity().expect_err("no camera");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(device.formats().expect("an empty list"), []);
        assert_eq!(device.sizes(*b"YUYV").expect("an empty list"), []);
        assert!(device.intervals(*b"YUYV", 640, 480).is_empty() && !device.follows_signal());
    }

    #[test]
    fn a_path_that_cannot_be_is_an_error() {
        let error = Device::open(Path::new("/dev/video\0")).err().expect("no such path");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
