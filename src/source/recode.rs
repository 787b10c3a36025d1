//! A picture there and back through a video codec: what `eval` perturbs with and the trainer augments with.

use image::RgbImage;

pub use super::codec::VideoCodec;

impl VideoCodec {
    /// `picture` as a key frame of constant rate factor `crf` (0..=51, more is coarser; x264's own choice is 23,
    /// x265's is 28), decoded again as the daemon decodes a camera's frames. The same picture always gives the
    /// same. An odd last column or row is cut off: 4:2:0 has none.
    ///
    /// # Errors
    /// A reason with the way out: the build lacks GStreamer, an element is missing, or the picture has less than
    /// 16 pixels on a side.
    #[cfg(feature = "gstreamer")]
    pub fn recode(self, picture: &RgbImage, crf: u8) -> Result<RgbImage, String> {
        super::gstreamer::recode(picture, self, crf).map_err(|error| error.to_string())
    }

    /// As with GStreamer, which this build was made without: always an error.
    #[cfg(not(feature = "gstreamer"))]
    pub fn recode(self, _: &RgbImage, _: u8) -> Result<RgbImage, String> {
        Err(format!("{self} needs the feature `gstreamer`, which this build was made without"))
    }

    /// Whether this build and this machine can do it at all, found out by doing it.
    ///
    /// # Errors
    /// A reason with the way out.
    pub fn available(self) -> Result<(), String> {
        self.recode(&RgbImage::new(32, 32), 30).map(|_| ())
    }
}
