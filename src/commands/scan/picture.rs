//! What a report shows of an input beside its row: a small picture, and a video's curve.

use image::RgbImage;

/// Width and height of a thumbnail at most.
const THUMBNAIL: (u32, u32) = (240, 160);
/// Points of a video's curve at most; when there are more, neighbours are put together.
const POINTS: usize = 1200;

/// What the report shows of an input and the table does not.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    /// A small JPEG: of a video, of the frame with the highest score.
    pub thumbnail: Option<Vec<u8>>,
    /// A video's scores over time.
    pub curve: Curve,
    best: Option<f64>,
}

impl Picture {
    /// Itself, if a report is wanted and so a frame was taken.
    pub fn shown(self) -> Option<Box<Self>> {
        self.thumbnail.is_some().then(|| Box::new(self))
    }

    /// Takes a frame's score, and the frame, if it has the highest one so far.
    pub fn take(&mut self, score: f64, frame: &RgbImage) {
        if self.best.is_none_or(|best| score > best) {
            self.best = Some(score);
            let (width, height) = frame.dimensions();
            let scale =
                (f64::from(THUMBNAIL.0) / f64::from(width)).min(f64::from(THUMBNAIL.1) / f64::from(height));
            let side = |n: u32| ((f64::from(n) * scale.min(1.0)).round() as u32).max(1);
            let small = image::imageops::thumbnail(frame, side(width), side(height));
            let mut jpeg = Vec::new();
            let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 75);
            self.thumbnail = small.write_with_encoder(encoder).is_ok().then_some(jpeg);
        }
    }
}

/// Scores over time at constant memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Curve {
    /// Seconds and score; of frames put together the highest one.
    pub points: Vec<(f64, f64)>,
    /// Frames in each point.
    each: usize,
    pending: usize,
}

impl Curve {
    /// Takes the next frame.
    pub fn push(&mut self, at: f64, score: f64) {
        self.each = self.each.max(1);
        match self.points.last_mut() {
            Some(last) if self.pending > 0 && self.pending < self.each => last.1 = last.1.max(score),
            _ => {
                if self.points.len() == POINTS {
                    self.points = self
                        .points
                        .chunks(2)
                        .map(|pair| (pair[0].0, pair.iter().map(|p| p.1).fold(0.0, f64::max)))
                        .collect();
                    self.each *= 2;
                }
                self.points.push((at, score));
                self.pending = 0;
            }
        }
        self.pending += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_of_any_length_keeps_its_peaks_in_constant_memory() {
        let mut curve = Curve::default();
        for n in 0..100_000u32 {
            curve.push(f64::from(n), if n == 77_777 { 1.0 } else { 0.25 });
        }
        assert!(curve.points.len() <= POINTS, "{}", curve.points.len());
        assert!(curve.points.is_sorted_by(|a, b| a.0 < b.0));
        let peak = curve.points.iter().find(|p| p.1 == 1.0).expect("the peak is kept");
        assert!((peak.0 - 77_777.0).abs() < 200.0, "{peak:?}");
        assert!(curve.points.last().is_some_and(|p| p.0 > 99_000.0));
    }
}
