//! Encodes a picture with a video codec and decodes it again: a perturbation of `eval` and an
//! augmentation of the trainer.

use image::RgbImage;

use super::SourceError;
pub use super::codec::VideoCodec;

impl VideoCodec {
    /// `picture` as a key frame of constant rate factor `crf` (0..=51, more is coarser; x264's own
    /// choice is 23, x265's is 28), decoded again as the daemon decodes a camera's frames. The
    /// result is deterministic. An odd last column or row is cut off, as 4:2:0 requires.
    ///
    /// # Errors
    /// [`SourceError::Configuration`] with the way out: the build lacks GStreamer, an element is
    /// missing, or the picture has less than 16 pixels on a side.
    #[cfg(feature = "gstreamer")]
    pub fn recode(self, picture: &RgbImage, crf: u8) -> Result<RgbImage, SourceError> {
        super::gstreamer::recode(picture, self, crf)
    }

    /// Always an error, because this build was made without GStreamer.
    #[cfg(not(feature = "gstreamer"))]
    pub fn recode(self, _: &RgbImage, _: u8) -> Result<RgbImage, SourceError> {
        let why = format!("{self} needs the feature `gstreamer`, which this build was made without");
        Err(SourceError::Configuration(why))
    }

    /// Whether this build and this machine can do it at all, found out by trying.
    ///
    /// # Errors
    /// As for [`VideoCodec::recode`].
    pub fn available(self) -> Result<(), SourceError> {
        self.recode(&RgbImage::new(32, 32), 30).map(|_| ())
    }
}
