//! A frame as the camera or decoder gave it, and how a piece of it becomes RGB.
//!
//! Pixels stay in their native format until a tile is cut; only the cut pixels are converted. A resize
//! would destroy the traces that the detector looks for, so there is none.
//!
//! ```
//! use spotd_frame::{Frame, Rect};
//!
//! let frame = Frame::still("gate".into(), image::RgbImage::from_pixel(640, 360, image::Rgb([40, 80, 120])));
//! let tile = frame.crop(Rect { x: 16, y: 32, width: 224, height: 224 })?;
//! assert_eq!(tile.get_pixel(0, 0).0, [40, 80, 120]);
//! # Ok::<(), spotd_frame::FrameError>(())
//! ```
//!
//! [`picture`] decodes files of still pictures, and [`jpeg`] what cameras put into their buffers; both bound what they allocate.

mod convert;
pub mod interlace;
pub mod jpeg;
mod luma;
pub mod picture;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::SystemTime;

use image::RgbImage;
use thiserror::Error;

use spotd_core::clock::Moment;
pub use spotd_core::raster::{FieldOrder, Rect};

pub use self::interlace::{Deinterlacer, Interlacing, one_field};
pub use self::luma::luma_of_rgb;

/// Layout of the pixels in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// 4:2:2 packed, bytes Y0 U Y1 V (V4L2 `YUYV`, GStreamer `YUY2`).
    Yuyv,
    /// 4:2:2 packed, bytes U Y0 V Y1.
    Uyvy,
    /// 4:2:0, a luma plane and one of interleaved U V.
    Nv12,
    /// 4:2:0, three planes Y, U, V.
    I420,
    /// 8-bit luma alone; full range where a camera delivers it, see [`Colour::full_range`].
    Grey,
    /// Packed bytes R G B.
    Rgb24,
    /// Packed bytes B G R.
    Bgr24,
    /// One JPEG image a frame.
    Mjpg,
}

/// Which weights turn Y'CbCr into R'G'B'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Matrix {
    /// ITU-R BT.601: standard definition, and JPEG.
    #[default]
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
}

/// How luma and chroma numbers are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Colour {
    /// Y'CbCr to R'G'B' weights.
    pub matrix: Matrix,
    /// Luma 0..255 instead of 16..235 (and chroma alike).
    pub full_range: bool,
}

/// Where a plane lies in a frame's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plane {
    /// Offset of the first byte.
    pub offset: usize,
    /// Bytes from one row to the next; may exceed the row's own bytes.
    pub stride: usize,
}

/// Bytes of a frame: owned, or a mapped buffer of the library that made them.
pub type FrameData = Box<dyn AsRef<[u8]> + Send + Sync>;

/// What a source knows of one picture. Whoever takes it adds the source's id, the frame's number and when it arrived.
pub struct Captured {
    /// When it was captured, by the wall clock.
    pub at: SystemTime,
    /// Pixel layout.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Planes; formats with fewer than three leave the rest at zero.
    pub planes: [Plane; 3],
    /// How the numbers are to be read; without meaning for RGB and MJPG.
    pub colour: Colour,
    /// What is known of its lines.
    pub interlacing: Interlacing,
    /// The bytes.
    pub data: FrameData,
}

impl Captured {
    /// Tightly packed RGB pixels.
    pub fn rgb(at: SystemTime, image: RgbImage) -> Self {
        let (width, height) = image.dimensions();
        Self {
            at,
            format: PixelFormat::Rgb24,
            width,
            height,
            planes: [Plane { offset: 0, stride: width as usize * 3 }, Plane::default(), Plane::default()],
            colour: Colour { full_range: true, ..Colour::default() },
            interlacing: Interlacing::Unsaid,
            data: Box::new(image.into_raw()),
        }
    }

    /// The frame, as the source's `seq`th from 0.
    pub fn into_frame(self, source: Arc<str>, seq: u64, arrived: Moment) -> Frame {
        Frame { source, seq, arrived, picture: self }
    }
}

/// One picture from a source.
pub struct Frame {
    /// The configured id of its source.
    pub source: Arc<str>,
    /// Counts the frames that the source has offered, from 0, across reconnects.
    pub seq: u64,
    /// When it arrived here, by the monotonic clock.
    pub arrived: Moment,
    /// The picture, whose members are read through the frame: `frame.width`.
    pub picture: Captured,
}

impl Deref for Frame {
    type Target = Captured;

    fn deref(&self) -> &Captured {
        &self.picture
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut Captured {
        &mut self.picture
    }
}

impl Frame {
    /// The same frame with bytes of its own: whoever keeps one for long must not keep a buffer that its source may need.
    #[must_use]
    pub fn owned(&self) -> Self {
        let Captured { at, format, width, height, planes, colour, interlacing, .. } = self.picture;
        let data = Box::new(self.bytes().to_vec());
        let picture = Captured { at, format, width, height, planes, colour, interlacing, data };
        Self { source: self.source.clone(), seq: self.seq, arrived: self.arrived, picture }
    }
}

/// Why a frame's pixels could not be had.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The buffer is shorter than its size and strides say.
    #[error("{format:?} frame of {width}x{height} needs {needed} bytes and has {have}")]
    Short {
        /// Pixel layout.
        format: PixelFormat,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes that size and strides ask for.
        needed: usize,
        /// Bytes that there are.
        have: usize,
    },
    /// The JPEG image in the frame is cut or damaged.
    #[error("JPEG frame cannot be decoded: {0}")]
    Jpeg(String),
    /// A rectangle outside of the frame was asked for.
    #[error("{rect:?} is not inside a frame of {width}x{height}")]
    Outside {
        /// What was asked for.
        rect: Rect,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("source", &self.source)
            .field("seq", &self.seq)
            .field("format", &self.format)
            .field("size", &(self.width, self.height))
            .field("bytes", &(*self.data).as_ref().len())
            .finish_non_exhaustive()
    }
}

impl Frame {
    /// A frame that owns tightly packed RGB pixels.
    pub fn from_rgb(
        source: Arc<str>,
        seq: u64,
        captured: SystemTime,
        arrived: Moment,
        image: RgbImage,
    ) -> Self {
        Captured::rgb(captured, image).into_frame(source, seq, arrived)
    }

    /// A picture that came at no time: of a file, or made here.
    pub fn still(source: Arc<str>, image: RgbImage) -> Self {
        Self::from_rgb(source, 0, SystemTime::UNIX_EPOCH, Moment::ZERO, image)
    }

    /// Tightly packed NV12 that came at no time, `width * height * 3 / 2` bytes of even sides.
    pub fn nv12(source: Arc<str>, width: u32, height: u32, bytes: Vec<u8>) -> Self {
        let stride = width as usize;
        let captured = Captured {
            at: SystemTime::UNIX_EPOCH,
            format: PixelFormat::Nv12,
            width,
            height,
            planes: [
                Plane { offset: 0, stride },
                Plane { offset: stride * height as usize, stride },
                Plane::default(),
            ],
            colour: Colour::default(),
            interlacing: Interlacing::Unsaid,
            data: Box::new(bytes),
        };
        captured.into_frame(source, 0, Moment::ZERO)
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.data).as_ref()
    }

    /// A compressed frame decoded once, so that many tiles can be cut from it; others pass unchanged.
    ///
    /// # Errors
    /// [`FrameError::Jpeg`] when the image is cut or damaged.
    pub fn decoded(self) -> Result<Self, FrameError> {
        if self.format != PixelFormat::Mjpg {
            return Ok(self);
        }
        let image = jpeg::decode(self.bytes())?;
        let picture = Captured { interlacing: self.interlacing, ..Captured::rgb(self.at, image) };
        Ok(Self { picture, ..self })
    }

    /// The whole frame's area.
    pub fn area(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// Cuts a rectangle at native resolution and converts it alone to RGB.
    ///
    /// # Errors
    /// [`FrameError::Outside`] for a rectangle that is empty or not inside the frame,
    /// [`FrameError::Short`] and [`FrameError::Jpeg`] for damaged data.
    pub fn crop(&self, rect: Rect) -> Result<RgbImage, FrameError> {
        self.inside(rect)?;
        let mut image = RgbImage::new(rect.width, rect.height);
        convert::crop_into(self, rect, &mut image)?;
        Ok(image)
    }

    /// As [`Frame::crop`], into `out`: three bytes a pixel, row by row.
    ///
    /// # Errors
    /// As [`Frame::crop`].
    ///
    /// # Panics
    /// `out` is not `3 * rect.width * rect.height` bytes long.
    pub fn crop_into(&self, rect: Rect, out: &mut [u8]) -> Result<(), FrameError> {
        self.inside(rect)?;
        assert_eq!(out.len(), rect.width as usize * rect.height as usize * 3, "three bytes a pixel");
        convert::crop_into(self, rect, out)
    }

    fn inside(&self, rect: Rect) -> Result<(), FrameError> {
        let fits =
            |start: u32, len: u32, limit: u32| len > 0 && start.checked_add(len).is_some_and(|e| e <= limit);
        if fits(rect.x, rect.width, self.width) && fits(rect.y, rect.height, self.height) {
            return Ok(());
        }
        Err(FrameError::Outside { rect, width: self.width, height: self.height })
    }

    /// Luma of a rectangle in levels of 0..255, row by row, as ITU-R BT.601 weighs R, G and B; from the frame's own
    /// luma where it has one (then by the frame's matrix, and not clipped to what RGB can hold).
    ///
    /// # Errors
    /// As [`Frame::crop`].
    pub fn luma(&self, rect: Rect) -> Result<Vec<f32>, FrameError> {
        self.inside(rect)?;
        luma::levels(self, rect)
    }

    /// Standard deviation of luma in a rectangle, in levels of 0..255, from every third pixel of every third row; from the
    /// frame's own luma where it has one, without a look at its chroma.
    ///
    /// # Errors
    /// As [`Frame::crop`].
    pub fn luma_deviation(&self, rect: Rect) -> Result<f64, FrameError> {
        self.inside(rect)?;
        luma::deviation(self, rect)
    }

    /// The whole frame in RGB.
    ///
    /// # Errors
    /// As [`Frame::crop`].
    pub fn to_rgb(&self) -> Result<RgbImage, FrameError> {
        self.crop(self.area())
    }
}
