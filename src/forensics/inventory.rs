//! What a set's files look like from outside: format, size, JPEG quality. Where these differ
//! between real and generated pictures, a detector can succeed without a single trace, and in
//! training it would learn just that.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::dataset::Skipped;
use super::metrics::Ranking;
use crate::frame::jpeg;

/// One file, by its headers only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    /// `jpeg`, `png`, ..., by content and not by name.
    pub format: String,
    /// Width in pixels, as stored.
    pub width: u32,
    /// Height in pixels, as stored.
    pub height: u32,
    /// Estimated quality of a JPEG, 1..=100.
    pub quality: Option<u8>,
}

/// Reads a file's headers.
///
/// # Errors
/// [`Skipped`] when it cannot be read or is not a picture.
pub fn header(path: &Path) -> Result<Header, Skipped> {
    let skipped = |reason: String| Skipped { path: path.to_path_buf(), reason };
    let reader = image::ImageReader::open(path)
        .and_then(image::ImageReader::with_guessed_format)
        .map_err(|error| skipped(error.to_string()))?;
    let format = reader.format().ok_or_else(|| skipped("its content is not a picture".into()))?;
    if format == image::ImageFormat::Jpeg {
        let bytes = std::fs::read(path).map_err(|error| skipped(error.to_string()))?;
        let (width, height) = jpeg::size(&bytes).map_err(|error| skipped(error.to_string()))?;
        let table = jpeg::luma_table(&bytes).map_err(|error| skipped(error.to_string()))?;
        return Ok(Header { format: "jpeg".into(), width, height, quality: table.map(|t| jpeg_quality(&t)) });
    }
    let (width, height) = reader.into_dimensions().map_err(|error| skipped(error.to_string()))?;
    Ok(Header { format: format!("{format:?}").to_ascii_lowercase(), width, height, quality: None })
}

/// Luma's table of ITU-T T.81, annex K.1, in zigzag order: what quality 50 means to the IJG's
/// encoder and to nearly all others.
#[rustfmt::skip]
const LUMA: [u16; 64] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40,
    26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51,
    56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87,
    95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
];

/// The quality 1..=100 on the scale of the IJG's encoder whose luma table lies nearest to `table`
/// (zigzag order): exact for encoders that use that scale, an estimate for cameras with their own
/// tables.
pub fn jpeg_quality(table: &[u16; 64]) -> u8 {
    let distance = |quality: u8| -> u32 {
        let scale =
            u32::from(if quality < 50 { 5000 / u16::from(quality) } else { 200 - 2 * u16::from(quality) });
        LUMA.iter()
            .zip(table)
            .map(|(&base, &have)| {
                ((u32::from(base) * scale + 50) / 100).clamp(1, 255).abs_diff(u32::from(have))
            })
            .sum()
    };
    // Of equally close ones the higher.
    (1..=100).rev().min_by_key(|&quality| distance(quality)).expect("a hundred of them")
}

/// What one side of a set looks like.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// Files whose headers could be read.
    pub files: usize,
    /// Files of each format.
    pub formats: BTreeMap<String, usize>,
    /// Median of width and of height in pixels.
    pub size: Option<(u32, u32)>,
    /// Median of the estimated JPEG quality.
    pub quality: Option<u8>,
}

/// Summarises one side.
pub fn side(headers: &[Header]) -> Side {
    let mut formats = BTreeMap::new();
    for header in headers {
        *formats.entry(header.format.clone()).or_default() += 1;
    }
    let size = middle(headers.iter().map(|h| h.width)).zip(middle(headers.iter().map(|h| h.height)));
    Side { files: headers.len(), formats, size, quality: middle(headers.iter().filter_map(|h| h.quality)) }
}

/// The lower median, which is a value that occurs.
fn middle<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let formats: Vec<String> = self.formats.iter().map(|(name, n)| format!("{n} {name}")).collect();
        f.write_str(&formats.join(", "))?;
        if let Some(quality) = self.quality {
            write!(f, " of quality {quality}")?;
        }
        if let Some((width, height)) = self.size {
            write!(f, ", {width}x{height}")?;
        }
        Ok(())
    }
}

/// Something other than the picture itself that separates real from generated ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Giveaway {
    /// `format`, `JPEG quality` or `size`; for clips also `length`.
    pub what: &'static str,
    /// How well it alone separates them, 0.5 (not at all) to 1 (always): for the format the best
    /// balanced accuracy, for the others the area under the ROC curve.
    pub separates: f64,
}

impl Giveaway {
    /// A giveaway, if `what` separates well enough to be reported.
    pub fn worth_telling(what: &'static str, separates: f64) -> Option<Self> {
        (separates >= WORTH_TELLING).then_some(Self { what, separates })
    }

    /// A warning about the pictures called `name`.
    pub fn warning(&self, name: &str, real: &Side, fake: &Side) -> String {
        format!(
            "{name}: {} alone tells real from generated ({:.2}, where 0.5 is chance and 1 always): real {real}; \
             generated {fake}. A detector may win by it here, and would learn it in training",
            self.what, self.separates
        )
    }
}

/// From here on a difference is worth a warning.
const WORTH_TELLING: f64 = 0.65;

/// What separates a set's real from its generated pictures without looking at them.
pub fn giveaways(real: &[Header], fake: &[Header]) -> Vec<Giveaway> {
    if real.is_empty() || fake.is_empty() {
        return vec![];
    }
    let formats = |headers: &[Header], name: &str| {
        headers.iter().filter(|h| h.format == name).count() as f64 / headers.len() as f64
    };
    let names: std::collections::BTreeSet<&str> =
        real.iter().chain(fake).map(|h| h.format.as_str()).collect();
    let format = names.iter().map(|name| formats(real, name).max(formats(fake, name))).sum::<f64>() / 2.0;
    let separates = |value: &dyn Fn(&Header) -> Option<f32>| {
        let list = |headers: &[Header]| headers.iter().filter_map(value).collect::<Vec<f32>>();
        separates(&list(real), &list(fake))
    };
    [
        ("format", Some(format)),
        ("JPEG quality", separates(&|h| h.quality.map(f32::from))),
        ("size", separates(&|h| Some(h.width as f32 * h.height as f32))),
    ]
    .into_iter()
    .filter_map(|(what, separates)| Giveaway::worth_telling(what, separates?))
    .collect()
}

/// How well one number separates real from generated, whichever of them is larger: 0.5..=1, the
/// area under the ROC curve. `None` without both.
pub fn separates(real: &[f32], fake: &[f32]) -> Option<f64> {
    let labels: Vec<bool> = (0..real.len() + fake.len()).map(|at| at >= real.len()).collect();
    let curve = Ranking::new(&[real, fake].concat(), &labels)?.curve(None);
    curve.has_both().then(|| curve.auc().max(1.0 - curve.auc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forensics::augment::{JpegCodec, jpeg_bytes};
    use image::{Rgb, RgbImage};

    #[test]
    fn the_quality_is_the_one_that_the_encoder_was_asked_for() {
        let picture = RgbImage::from_fn(40, 24, |x, y| Rgb([(x * 5) as u8, (y * 9) as u8, 7]));
        let dir = tempfile::tempdir().expect("a folder");
        for codec in JpegCodec::ALL {
            for quality in [5, 30, 49, 50, 65, 75, 90, 95, 99] {
                let path = dir.path().join("x.png");
                std::fs::write(&path, jpeg_bytes(&picture, codec, quality)).expect("written");
                let header = header(&path).expect("a picture");
                assert_eq!(header.quality, Some(quality), "{codec:?}");
                assert_eq!((header.format.as_str(), header.width, header.height), ("jpeg", 40, 24));
            }
        }
    }

    fn headers(n: usize, format: &str, side: u32, quality: Option<u8>) -> Vec<Header> {
        (0..n).map(|_| Header { format: format.into(), width: side, height: side, quality }).collect()
    }

    #[test]
    fn what_differs_is_told_and_what_does_not_is_not() {
        let real = headers(10, "jpeg", 500, Some(90));
        assert_eq!(giveaways(&real, &headers(7, "jpeg", 500, Some(90))), []);
        let all = giveaways(&real, &headers(7, "png", 256, None));
        let names: Vec<_> = all.iter().map(|g| (g.what, g.separates)).collect();
        assert_eq!(names, [("format", 1.0), ("size", 1.0)]);
        let mut mixed = headers(5, "jpeg", 500, Some(90));
        mixed.extend(headers(5, "jpeg", 500, Some(75)));
        let some = giveaways(&real, &mixed);
        assert_eq!((some.len(), some[0].what, some[0].separates), (1, "JPEG quality", 0.75));
        assert_eq!(giveaways(&real, &[]), []);
        assert_eq!(side(&mixed).to_string(), "10 jpeg of quality 75, 500x500");
    }
}
