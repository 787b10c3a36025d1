//! Perturbations of a picture before it is judged: `--perturb jpeg=90,70`.

use std::fmt;

use image::RgbImage;
use image::imageops::FilterType;

use spotd::forensics::augment::{JpegCodec, gaussian_blur, jpeg, resize};
use spotd::source::SourceError;
use spotd::source::recode::VideoCodec;

/// One condition of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Perturbation {
    /// Nothing.
    AsStored,
    /// JPEG of this quality 1..=100, chroma halved both ways as nearly all cameras do.
    Jpeg(u8),
    /// Gaussian blur with this sigma in pixels, as in the paper.
    Blur(f32),
    /// Scaled by this factor (above 0, at most 4), bilinear and antialiased.
    Resize(f32),
    /// A key frame of this video codec at this constant quality 0..=51.
    Video(VideoCodec, u8),
}

impl Perturbation {
    /// Its name for `--perturb`.
    pub fn kind(self) -> &'static str {
        match self {
            Perturbation::AsStored => "as stored",
            Perturbation::Jpeg(_) => "jpeg",
            Perturbation::Blur(_) => "blur",
            Perturbation::Resize(_) => "resize",
            Perturbation::Video(VideoCodec::H264, _) => "h264",
            Perturbation::Video(VideoCodec::H265, _) => "h265",
        }
    }

    /// Its strength, and what that number means.
    pub fn strength(self) -> (f64, &'static str) {
        match self {
            Perturbation::AsStored => (0.0, ""),
            Perturbation::Jpeg(quality) => (f64::from(quality), "JPEG quality"),
            Perturbation::Blur(sigma) => (f64::from(sigma), "blur sigma, pixels"),
            Perturbation::Resize(factor) => (f64::from(factor), "size, times the stored one"),
            Perturbation::Video(VideoCodec::H264, crf) => (f64::from(crf), "H.264 CRF"),
            Perturbation::Video(VideoCodec::H265, crf) => (f64::from(crf), "H.265 CRF"),
        }
    }

    /// The strength that changes nothing, so that a curve can begin with the picture as stored;
    /// `None` if there is none.
    pub fn harmless(self) -> Option<f64> {
        match self {
            Perturbation::Blur(_) => Some(0.0),
            Perturbation::Resize(_) => Some(1.0),
            _ => None,
        }
    }

    /// # Errors
    /// [`SourceError::Configuration`] when the codec is missing or refuses the picture.
    pub fn apply(self, picture: &RgbImage) -> Result<RgbImage, SourceError> {
        Ok(match self {
            Perturbation::AsStored => picture.clone(),
            Perturbation::Jpeg(quality) => jpeg(picture, JpegCodec::Quartered, quality),
            Perturbation::Blur(sigma) => gaussian_blur(picture, sigma),
            Perturbation::Resize(factor) => resize(picture, factor, FilterType::Triangle),
            Perturbation::Video(codec, crf) => return codec.recode(picture, crf),
        })
    }

    /// Whether this build and this machine can do it at all.
    ///
    /// # Errors
    /// As for [`VideoCodec::recode`].
    pub fn available(self) -> Result<(), SourceError> {
        match self {
            Perturbation::Video(codec, _) => codec.available(),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Perturbation::AsStored => f.write_str("as stored"),
            other => write!(f, "{} {}", other.kind(), shown(other.strength().0)),
        }
    }
}

/// As typed: `0.3f32` is 0.30000001192... as a double.
fn shown(strength: f64) -> f32 {
    strength as f32
}

/// One `--perturb`: a kind and its strengths.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Perturbations(pub Vec<Perturbation>);

impl std::str::FromStr for Perturbations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, values) =
            text.split_once('=').ok_or("write a kind and its strengths: jpeg=90,70 or blur=1,2,3")?;
        let whole = |value: &str, low: u8, high: u8| {
            value
                .parse::<u8>()
                .ok()
                .filter(|v| (low..=high).contains(v))
                .ok_or_else(|| format!("{kind}={value}: must be a whole number from {low} to {high}"))
        };
        let real = |value: &str, high: f32| {
            value
                .parse::<f32>()
                .ok()
                .filter(|v| *v > 0.0 && *v <= high)
                .ok_or_else(|| format!("{kind}={value}: must be a number above 0 and at most {high}"))
        };
        let crf = |value: &str, codec| {
            whole(value, 0, VideoCodec::COARSEST).map(|crf| Perturbation::Video(codec, crf))
        };
        values
            .split(',')
            .map(|value| match kind {
                "jpeg" => whole(value, 1, 100).map(Perturbation::Jpeg),
                "h264" => crf(value, VideoCodec::H264),
                "h265" => crf(value, VideoCodec::H265),
                "blur" => real(value, 20.0).map(Perturbation::Blur),
                "resize" => real(value, 4.0).map(Perturbation::Resize),
                _ => Err(format!("`{kind}` is none of jpeg, blur, resize, h264, h265")),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Perturbations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_what_is_done_and_named() {
        let parse = |text: &str| text.parse::<Perturbations>();
        let names = |text: &str| {
            parse(text).expect("valid").0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(names("jpeg=90,70"), "jpeg 90; jpeg 70");
        assert_eq!(names("blur=0.3,1"), "blur 0.3; blur 1");
        assert_eq!(names("h264=0,51"), "h264 0; h264 51");
        assert_eq!(names("h265=28"), "h265 28");
        for (text, word) in [
            ("jpeg", "jpeg=90,70"),
            ("jpeg=", "from 1 to 100"),
            ("jpeg=0", "from 1 to 100"),
            ("jpeg=90,101", "jpeg=101"),
            ("h264=52", "from 0 to 51"),
            ("h265=-1", "from 0 to 51"),
            ("blur=0", "above 0"),
            ("blur=nan", "above 0"),
            ("resize=5", "at most 4"),
            ("rotate=90", "none of jpeg"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(word), "{error}");
        }
        let picture = RgbImage::from_fn(20, 10, |x, y| image::Rgb([(x * 12) as u8, (y * 25) as u8, 9]));
        assert_eq!(Perturbation::Resize(0.5).apply(&picture).expect("done").dimensions(), (10, 5));
        assert_eq!(Perturbation::AsStored.apply(&picture).expect("done"), picture);
        assert_ne!(Perturbation::Jpeg(30).apply(&picture).expect("done"), picture);
    }
}
